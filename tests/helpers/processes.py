"""Start real Python processes in tests, and wait for events instead of seconds."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HANG = 300  # seconds; only a process that hangs takes this long, also on a busy machine
POLL = 0.02  # seconds between two looks


def environment() -> dict[str, str]:
    """Environment of a subprocess: this checkout's code, one thread, lines of 120 columns."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


def _default_sigint() -> None:
    """Let SIGINT interrupt the process even where the shell that runs the tests ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(
    *arguments: str, new_session: bool = False, within: tuple[str, ...] = (), **variables: str
) -> subprocess.Popen[str]:
    """Start `python ARGUMENTS` with captured output, within another command and with environment variables if given."""
    return subprocess.Popen(
        [*within, sys.executable, *arguments],
        env={**environment(), **variables},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_default_sigint,
        start_new_session=new_session,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process to end by itself; returns its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=HANG)
    return process.returncode, out, err


def spoken(err: str) -> str:
    """What famkd itself says on stderr, without the progress of a training."""
    return "".join(line for line in err.splitlines(keepends=True) if line.startswith("famkd: "))


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for an event; fails if `process` ends first, or after HANG seconds."""
    deadline = time.monotonic() + HANG
    while not happened():
        if process is not None and process.poll() is not None:
            said = process.stderr.read() if process.stderr else ""
            pytest.fail(f"the process ended first, with exit code {process.returncode}: {said}")
        if time.monotonic() > deadline:
            pytest.fail(f"nothing happened within {HANG} s")
        time.sleep(POLL)


def wait_for_epochs(run: str | Path, count: int, process: subprocess.Popen[str] | None = None) -> None:
    """Wait until a run directory holds at least `count` epochs; fails if `process`, which writes it, ends first."""
    metrics = Path(run) / "metrics.jsonl"

    def written() -> bool:
        return metrics.is_file() and len(metrics.read_text().splitlines()) >= count

    wait_until(written, process)


def free_port() -> int:
    """A port of this machine that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
