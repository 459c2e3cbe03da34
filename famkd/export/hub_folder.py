"""A folder as the Hugging Face hub holds a network: config.json and model.safetensors."""

import json
import sys
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from famkd.errors import UserError, one_line
from famkd.export.options import Options
from famkd.export.pixels import HalfPrecision
from famkd.models import build_model

LIBRARIES = ("timm:", "hf-hub:")  # students that timm builds


def write_hub(network: nn.Module, pixels: Tensor, folder: Path, header: dict[str, str], options: Options) -> Any:
    """Write the folder and return the network as it is read from it: by timm, where timm knows the architecture.

    Errors: UserError for a network that a method made of the student, which no library can build.
    """
    inner: Any = network.network if isinstance(network, HalfPrecision) else network
    folder.mkdir()
    config = _config(header)
    if header["model"].startswith(LIBRARIES) and hasattr(inner, "pretrained_cfg"):
        return _by_timm(inner, folder, config)
    safetensors.torch.save_file(inner.state_dict(), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return _by_famkd(inner, folder, header)


def _config(header: dict[str, str]) -> dict[str, Any]:
    """config.json, in the words of timm."""
    classes, size = json.loads(header["classes"]), json.loads(header["size"])
    mean, std = json.loads(header["mean"]), json.loads(header["std"])
    pixels = {"mean": mean, "std": std, "input_size": [len(mean), *size], "crop_pct": 1.0, "num_classes": len(classes)}
    pixels["interpolation"] = header["interpolation"]
    architecture = header["model"].replace(":", "/") if ":" in header["model"] else f"famkd/{header['model']}"
    return {
        "architecture": architecture,
        "num_classes": len(classes),
        "label_names": classes,
        "pretrained_cfg": pixels,
    }


def _by_timm(network: Any, folder: Path, config: dict[str, Any]) -> Any:
    import timm
    from timm.models import save_for_hf

    config.pop("architecture")
    arguments: dict[str, Any] = {}
    channels, *size = config["pretrained_cfg"]["input_size"]
    if channels != 3:
        arguments["in_chans"] = channels
    if network.pretrained_cfg.get("fixed_input_size"):
        arguments["img_size"] = size
    save_for_hf(network, str(folder), model_config=config, model_args=arguments, safe_serialization=True)
    try:
        reread = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # timm raises whatever its networks raise on arguments and weights
        reason = one_line(error)
        raise UserError(
            f"timm cannot load what it saved ({reason}): choose another --to. Nothing was written."
        ) from error
    return torch.no_grad()(reread.eval())


def _by_famkd(network: nn.Module, folder: Path, header: dict[str, str]) -> Any:
    """Load the weights into the network that famkd builds by the student's name, and say how it is done."""
    state = safetensors.torch.load((folder / "model.safetensors").read_bytes())
    name, classes = header["model"], len(json.loads(header["classes"]))
    height, width = json.loads(header["size"])
    built = build_model(name, classes, size=(height, width), channels=len(json.loads(header["mean"])))
    try:
        built.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(
            f"The network of this run is more than {name}, so no library can build it from a folder: choose --to onnx "
            "or pt2. Nothing was written."
        ) from error
    print(
        f"timm does not know {name}: build it by famkd.build_model({name!r}, {classes}) and load model.safetensors, or "
        "name the folder as --student.weights, --teacher.weights or famkd eval --weights.",
        file=sys.stderr,
    )
    network.load_state_dict(state)
    return torch.no_grad()(network)
