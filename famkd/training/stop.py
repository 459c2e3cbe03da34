"""Stopping a training on a signal: SIGTERM, or SIGUSR1, which SLURM can send some time before its deadline."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from famkd import distributed
from famkd.errors import started_by_famkd

FOLLOW_PARENT = "FAMKD_FOLLOW_PARENT"  # environment variable: stop when the process that started this one has ended
AGREE_EVERY = 20  # steps between two exchanges in which several processes agree to stop

T = TypeVar("T")


class EpochInterrupted(Exception):
    """An epoch that was left between two steps; its text is the name of the signal."""


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], str]]:
    """Inside this block SIGTERM and SIGUSR1 only set a flag. Call what it yields for the signal's name, or "".

    A second signal ends the process as usual, except under torchrun's agent, which passes on a signal that the process
    may have received itself. In a thread other than the main one no signal is caught.
    """
    received: list[str] = []
    before = {}
    launcher = os.getppid()
    follows = started_by_famkd() or FOLLOW_PARENT in os.environ

    def note(number: int, frame) -> None:
        received.append(signal.Signals(number).name)
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            _restore(before)

    def requested() -> str:
        if follows and os.getppid() != launcher:
            return "the loss of the process that started it"
        return received[0] if received else ""

    try:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGUSR1"):
                if hasattr(signal, name):  # Windows has no SIGUSR1
                    number = getattr(signal, name)
                    before[number] = signal.signal(number, note)
        yield requested
    finally:
        _restore(before)


def until_requested(pieces: Iterable[T], requested: Callable[[], str], done: int = 0) -> Iterator[T]:
    """The pieces of an epoch after its first `done` steps; EpochInterrupted before the next one once a stop is asked.

    Several processes must stop at the same step, so they agree on it every `AGREE_EVERY` steps.
    """
    for step, piece in enumerate(pieces, done + 1):
        reason = ""
        if distributed.world() == 1:
            reason = requested()
        elif step % AGREE_EVERY == 1:
            reason = distributed.first_nonempty(requested())
        if reason:
            raise EpochInterrupted(reason)
        yield piece


def _restore(handlers: dict) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
