"""The classifier of any network: find it, and give it other classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.features.taps import find_module, own_head

Layer = nn.Linear | nn.Conv2d


def classifiers(model: nn.Module, classes: int) -> dict[str, Layer]:
    """The layers of a network that put out a number for each class, by module path; {} if none is found.

    They are those that the network names, or else the last layer with so many outputs. Distilled vision transformers
    have two.
    """
    named = own_head(model)
    config = getattr(model, "pretrained_cfg", None) or {}  # of timm
    declared = [named] if named else config.get("classifier") or ()
    paths = [declared] if isinstance(declared, str) else [*declared]
    layers = {path: module for path, module in model.named_modules() if _outputs(module) == classes}
    found = {path: layers[path] for path in paths if path in layers}
    if found or not layers:
        return found  # pyright: ignore[reportReturnType]  (only layers have outputs)
    last = [*layers][-1]
    return {last: layers[last]}  # pyright: ignore[reportReturnType]


@torch.no_grad()
def select_classes(model: nn.Module, rows: Sequence[int], images: Tensor) -> None:
    """Keep some of a network's classes, in a given order: output i becomes what was output rows[i].

    Args:
        images: a batch on which the result is checked.

    Errors: UserError if the logits do not come from a layer whose outputs can be reordered.
    """
    training = model.training
    before = model.eval()(images)
    heads = classifiers(model, before.shape[1]) if isinstance(before, Tensor) and before.ndim == 2 else {}
    for path, layer in heads.items():
        order = torch.tensor([*rows], device=layer.weight.device)
        layer.weight = nn.Parameter(layer.weight[order])
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias[order])
        _set_outputs(find_module(model, path), len(rows))
    after = model(images) if heads else None
    model.train(training)
    if after is None or not torch.allclose(after, before[:, [*rows]], rtol=1e-3, atol=1e-3):
        raise UserError(
            f"The classes of {type(model).__name__} are in another order than the data's, and its classifier cannot be "
            "reordered: train the student on data whose classes are named and sorted as the teacher's."
        )


def _outputs(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) and module.groups == 1 else -1


def _set_outputs(layer: nn.Module, classes: int) -> None:
    if isinstance(layer, nn.Linear):
        layer.out_features = classes
    elif isinstance(layer, nn.Conv2d):
        layer.out_channels = classes
