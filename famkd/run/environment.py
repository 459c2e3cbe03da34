"""The machine, the software and the command of a run, for its machine.json."""

import contextlib
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from famkd import distributed


def environment_info(device: str) -> dict[str, Any]:
    """The command, the device, the versions and the git commit that a run is made with."""
    import torchvision

    if device.startswith("cuda"):
        name = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        name = f"{platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}"
    return {
        "command": _command(),
        "device": name,
        "processes": distributed.world(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
        "commit": _commit(),
    }


def _command() -> str:
    """The command line; `famkd ...` for the command line of this package, whatever its path."""
    if Path(sys.argv[0]).stem in ("famkd", "__main__"):
        return shlex.join(["famkd", *sys.argv[1:]])
    return shlex.join(sys.argv)  # of a notebook, its kernel's


def _commit() -> str | None:
    """The git commit of this package; None where it is not in a repository."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return None
