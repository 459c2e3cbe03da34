"""What is known of weights besides themselves: the images and the classes that they were trained with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors

from famkd.features.prepare import INTERPOLATIONS, Pixels
from famkd.models.file_kinds import is_safetensors
from famkd.models.hub import PREFIX, hub_settings
from famkd.models.weight_files import hub_config

CLOSEST = {"lanczos": "bicubic", "hamming": "bilinear", "box": "area", "random": "bilinear"}  # filters of Pillow


class Origin(NamedTuple):
    """What weights were trained with, as far as it is known."""

    pixels: Pixels | None = None
    classes: int | None = None  # number of outputs of the classifier; 0 if there is none
    names: tuple[str, ...] | None = None  # of the classes, in the order of the outputs


UNKNOWN = Origin()


def library_origin(name: str, pretrained: bool | str) -> Origin:
    """What the weights of a library's model were trained with, by `timm:NAME`, `torchvision:NAME` or `hf-hub:...`."""
    if name.startswith(PREFIX):
        settings = hub_settings(name)
        names = settings.label_names
        return Origin(_pixels(settings.to_dict()), settings.num_classes, tuple(names) if names else None)
    library, _, rest = name.partition(":")
    if library == "timm":
        return _timm_origin(rest)
    if library == "torchvision":
        return _torchvision_origin(rest, "DEFAULT" if pretrained is True else str(pretrained))
    return UNKNOWN


def file_origin(path: Path) -> Origin:
    """What a checkpoint says of itself: by the config.json of its folder, or by the header of an exported file."""
    config = hub_config(path)
    cfg = config.get("pretrained_cfg", config)
    if isinstance(cfg, Mapping) and {"mean", "std"} <= cfg.keys():
        names = cfg.get("label_names") or config.get("label_names")
        classes = config.get("num_classes", cfg.get("num_classes"))
        return Origin(_pixels(cfg), classes, tuple(map(str, names)) if isinstance(names, list) else None)
    return _exported_origin(path) if path.is_file() and is_safetensors(path) else UNKNOWN


def _timm_origin(name: str) -> Origin:
    from timm.models import get_pretrained_cfg

    cfg: Any = get_pretrained_cfg(name)
    if cfg is None:
        return UNKNOWN
    return Origin(_pixels(cfg.to_dict()), cfg.num_classes)


def _torchvision_origin(name: str, weights: str) -> Origin:
    from torchvision.models import get_model_weights

    chosen: Any = get_model_weights(name).__members__.get(weights)
    if chosen is None:
        return UNKNOWN
    classes = len(chosen.meta["categories"])
    view = chosen.transforms()
    if not hasattr(view, "crop_size"):  # of a detector or of a network for video
        return Origin(None, classes)
    side = view.crop_size[0]
    pixels = Pixels(tuple(view.mean), tuple(view.std), (side, side), _interpolation(view.interpolation.value))
    return Origin(pixels, classes)


def _exported_origin(path: Path) -> Origin:
    """What famkd export wrote into the header of a file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            notes: dict[str, str] = file.metadata() or {}
        mean, std, names, size = (json.loads(notes[key]) for key in ("mean", "std", "classes", "size"))
        return Origin(Pixels(tuple(mean), tuple(std), tuple(size)), len(names), tuple(names))
    except Exception:  # a file of another program; one that cannot be read is reported when its weights are
        return UNKNOWN


def _pixels(cfg: Mapping[str, Any]) -> Pixels:
    size = cfg.get("input_size")
    side = (int(size[1]), int(size[2])) if size else None
    return Pixels(tuple(cfg["mean"]), tuple(cfg["std"]), side, _interpolation(str(cfg.get("interpolation", ""))))


def _interpolation(name: str) -> str:
    name = CLOSEST.get(name, name)
    return name if name in INTERPOLATIONS else "bilinear"
