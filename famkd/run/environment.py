"""The machine that a run is made on, as its machine.json tells it."""

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
    """Where and with what a run was made."""
    import torchvision

    own = Path(sys.argv[0]).stem in ("famkd", "__main__")  # of a notebook, its kernel's
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "command": shlex.join(["famkd", *sys.argv[1:]] if own else sys.argv),
        "device": gpu or f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "processes": distributed.world(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(here), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return None
