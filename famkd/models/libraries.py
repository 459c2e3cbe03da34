"""Networks of timm and torchvision, with errors that say what to do."""

import contextlib
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import nn

from famkd.errors import UserError, nearest, one_line
from famkd.features.run_once import undisturbed
from famkd.models.hub import PREFIX, hub_settings, without_waiting
from famkd.models.options import DEFAULTS, REFUSED, BuildOptions, build_with

Size = tuple[int, int]  # height and width of images


def build_timm(
    name: str,
    num_classes: int,
    pretrained: bool,
    size: Size | None = None,
    channels: int = 3,
    own: BuildOptions = DEFAULTS,
) -> nn.Module:
    """Build timm's network `name`, which may end in `.tag` to choose between its weights, or be `hf-hub:OWNER/NAME`.

    Args:
        size: height and width of the images, for a network that is built for one size.
        channels: of the images.
        own: options of the network.
    """
    label, config = (name, hub_settings(name)) if name.startswith(PREFIX) else _settings(name, pretrained)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": channels}
    made_for = None if config is None else (config.input_size[1], config.input_size[2])
    if size and config is not None and config.fixed_input_size:
        options["img_size"] = size

    def build(**named: Any) -> nn.Module:
        return _create_timm(label, pretrained, size, made_for, options | named)

    model = build_with(build, label, own)
    if size:
        _must_run(model, label, size, channels, made_for)
    return model


def _settings(name: str, pretrained: bool) -> tuple[str, Any]:
    """The full name of a network of timm, and timm's settings of its weights; UserError if timm does not have it."""
    import timm

    names = [*timm.list_models(), *timm.list_pretrained()]
    if name not in names:
        raise UserError(f"timm has no model {name!r}.{nearest(name, names)}")
    if pretrained and not timm.is_model_pretrained(name):
        raise UserError(f"timm has no weights for {name!r}.{nearest(name, timm.list_pretrained())}")
    return f"timm:{name}", timm.get_pretrained_cfg(name)


def _create_timm(
    label: str, pretrained: bool, size: Size | None, made_for: Size | None, options: dict[str, Any]
) -> nn.Module:
    import timm

    name = label.removeprefix("timm:")
    try:
        with without_waiting() if pretrained or name.startswith(PREFIX) else contextlib.nullcontext():
            return timm.create_model(name, pretrained=pretrained, **options)
    except (RuntimeError, AssertionError, ArithmeticError, TypeError, IndexError) as error:
        if REFUSED.search(str(error)):
            raise
        raise _unfit(label, size, error, made_for) from error
    except Exception as error:  # the hub's client raises exceptions of its own when the network is down
        if not pretrained:
            raise _unfit(label, size, error, made_for) from error
        raise _not_downloaded(label, error) from error


def _must_run(model: nn.Module, name: str, size: Size, channels: int = 3, made_for: Size | None = None) -> None:
    """UserError where a network cannot run on images of a size."""
    images = torch.zeros(2, channels, *size)
    try:
        with undisturbed(model), torch.no_grad():
            model.eval()(images)
    except Exception as error:  # whatever a network raises on a map that became too small
        raise _unfit(name, size, error, made_for) from error


def build_torchvision(
    name: str, num_classes: int, pretrained: bool | str, size: Size | None = None, own: BuildOptions = DEFAULTS
) -> nn.Module:
    """Build torchvision's network `name`.

    Args:
        pretrained: True for its best weights, or the name of some. The classifier is replaced where they are for
            another number of classes.
        size: height and width of the images, which vision transformers are built for.
        own: options of the network.
    """
    from torchvision import models

    if name not in models.list_models():
        raise UserError(f"torchvision has no model {name!r}.{nearest(name, models.list_models())}")
    if not pretrained:
        return _random_torchvision(name, num_classes, size, own)
    weights = _weights(name, "DEFAULT" if pretrained is True else pretrained)
    classes = len(weights.meta["categories"])
    if classes != num_classes and name not in models.list_models(module=models):
        raise UserError(f"torchvision's weights for {name} are for {classes} classes, not {num_classes}.")
    try:
        model = build_with(partial(models.get_model, name, weights=weights), f"torchvision:{name}", own)
    except OSError as error:
        raise _not_downloaded(f"torchvision:{name}", error) from error
    if classes != num_classes:
        _replace_classifier(model, name, num_classes)
    if size:
        _must_run(model, f"torchvision:{name}", size, made_for=_made_for(name))
    return model


def _made_for(name: str) -> Size:
    """Height and width of the images that the best weights of a classifier of torchvision were trained for."""
    crop = _weights(name, "DEFAULT").transforms().crop_size
    return crop[0], crop[-1]


def _random_torchvision(name: str, num_classes: int, size: Size | None, own: BuildOptions) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {}
    if "weights_backbone" in signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None  # else a detector downloads weights for its backbone by default
    if size and name.startswith("vit_"):
        options["image_size"] = size[0]
    if size and name.startswith("maxvit_"):
        options["input_size"] = size
    made_for = _made_for(name) if name in models.list_models(module=models) else None  # of a classifier
    try:
        build = partial(models.get_model, name, num_classes=num_classes, **options)
        model = build_with(build, f"torchvision:{name}", own)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _unfit(f"torchvision:{name}", size, error, made_for) from error
    if size and made_for:
        _must_run(model, f"torchvision:{name}", size, made_for=made_for)
    return model


def _weights(name: str, wanted: str) -> Any:
    from torchvision.models import get_model_weights

    known = get_model_weights(name).__members__  # includes DEFAULT, an alias of the best
    if wanted not in known:
        raise UserError(f"torchvision has no weights {wanted!r} of {name}: there are {', '.join(known)}.")
    return known[wanted]


def _replace_classifier(model: nn.Module, name: str, num_classes: int) -> None:
    leaves = [(path, module) for path, module in model.named_modules() if not list(module.children())]
    path, last = leaves[-1]
    if not isinstance(last, nn.Linear):
        raise UserError(f"{name} does not end in a linear classifier, so its weights fit their own classes only.")
    parent, _, attribute = path.rpartition(".")
    setattr(model.get_submodule(parent), attribute, nn.Linear(last.in_features, num_classes))


def _not_downloaded(name: str, error: Exception) -> UserError:
    reason = one_line(error)
    return UserError(
        f"The weights of {name} could not be downloaded: check the network, put them into the library's cache, or "
        f"name a checkpoint file ({reason})."
    )


def _unfit(name: str, size: Size | None, error: Exception, made_for: Size | None = None) -> UserError:
    reason = one_line(error)
    images = f"images of {size[0]} x {size[1]} pixels" if size else "these classes"
    cure = "use larger images or another model"
    if size and made_for:
        height, width = made_for
        wanted = f"{height}" if height == width else f"{height}x{width}"
        cure = (
            f"it is made for {height} x {width}, so choose images of that size (of a folder by --data.root "
            f"PATH@{wanted}) or another model"
        )
    return UserError(f"{name} cannot be built for {images} ({reason}): {cure}.")
