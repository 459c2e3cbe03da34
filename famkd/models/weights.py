"""Load weights into a model: from files of this package, of other programs and of older code; no code in them runs."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from famkd.errors import UserError
from famkd.models.matching import Misfit, find_weights, misfit, parts_of
from famkd.models.weight_files import hub_config, is_plain, read_weights

Notes = dict[str, str | int | float]


class Loaded(NamedTuple):
    """What a checkpoint gave to a model."""

    notes: Notes  # texts and numbers beside the weights, such as the epoch
    new_head: str = ""  # why the classifier keeps the weights that were drawn for it; "" if it was loaded
    remarks: tuple[str, ...] = ()  # what a reader of the training's output should know


def load_weights(model: nn.Module, path: str | Path, part: str = "") -> Notes:
    """Load all weights of `model` from a file or a folder of the Hugging Face hub; returns notes beside the weights.

    Args:
        part: which of several copies of the network to take, by a word of its prefix: ema, student, teacher, ...

    Errors: UserError for a file that cannot be read or does not fit. The model then stays as it was.
    """
    return load_checkpoint(model, path, part).notes


def load_checkpoint(
    model: nn.Module, path: str | Path, part: str = "", *, any_classes: bool = False, called: str = "the model"
) -> Loaded:
    """`load_weights`, which also says what was left out.

    Weights are found under any prefix and in any table of the file. Other modules beside the model's, and what tools
    add to every module, are left out.

    Args:
        any_classes: whether the classifier may stay as it was drawn, where the checkpoint has none or one for another
            number of classes.
        called: the model in an error, such as "the teacher resnet56".
    """
    path = Path(path)
    content, own = read_weights(path), model.state_dict()
    found = find_weights(content, own, part)
    if found is None:
        others = ", ".join(parts_of(content, own)) or "no prefix"
        raise UserError(f"{path} holds no weights under {part!r}, but under {others}.")
    state = found.state
    if _does_not_fit(misfit(state, own)):
        state = _converted_by_timm(state, model)
    state, remarks = _with_renamed_head(state, own)
    wrong = misfit(state, own)
    new_head = _only_the_head(wrong, state, own)
    if new_head and not any_classes:
        raise UserError(f"{path} does not fit {called}: {new_head}: {_cure(wrong, state)}.")
    if channels := _channels(wrong, state, own):
        raise UserError(f"{path} does not fit {called}: {channels}.")
    if _does_not_fit(wrong) and not new_head:
        raise UserError(f"{path} does not fit {called}: {_complaint(wrong)}. {_other_architecture(path)}")
    taken = {name: value for name, value in state.items() if name in own and name not in wrong.misshapen}
    model.load_state_dict(taken, strict=False)
    if wrong.ignored:
        remarks.append(f"left out: {_listed(wrong.ignored, 'tensors that the model does not have')}")
    return Loaded(_notes(content), new_head, tuple(remarks))


def _notes(content: Mapping) -> Notes:
    """The entries of a checkpoint that are a text or a single number."""
    notes: Notes = {}
    for key, value in content.items():
        if isinstance(value, np.generic) or (is_plain(value) and value.numel() == 1):
            value = value.item()
        if isinstance(key, str) and isinstance(value, str | int | float):
            notes[key] = value
    return notes


def _converted_by_timm(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights after timm's own conversion from the names and sizes of an architecture's first authors."""
    module = sys.modules.get(type(model).__module__)
    convert: Callable[..., Any] | None = getattr(module, "checkpoint_filter_fn", None)
    if convert is None or not type(model).__module__.startswith("timm."):
        return state
    try:
        converted = convert(dict(state), model)
    except Exception:  # it expects weights of this architecture
        return state
    fits = sum(name in converted for name in model.state_dict()) >= sum(name in state for name in model.state_dict())
    return converted if fits else state


def _with_renamed_head(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Give a classifier that the checkpoint has under another name, such as fc.1, the model's own name."""
    missing = misfit(state, own).missing
    head = _layer_of(missing)
    others = {name.rpartition(".")[0] for name in state if name not in own}
    fitting = [
        other
        for other in others
        if all(
            f"{other}.{_leaf(name)}" in state and state[f"{other}.{_leaf(name)}"].shape == own[name].shape
            for name in missing
        )
    ]
    if not head or len(fitting) != 1 or f"{head}.weight" not in own:
        return state, []
    (other,) = fitting
    renamed = {f"{other}.{_leaf(name)}": name for name in missing}
    return {renamed.get(name, name): value for name, value in state.items()}, [f"{other} is taken for {head}"]


def _only_the_head(wrong: Misfit, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Why nothing but the classifier does not fit, or ""."""
    if wrong.misshapen and not wrong.missing and not wrong.unexpected:
        pairs = {(tuple(state[name].shape), tuple(own[name].shape)) for name in wrong.misshapen}
        counts = {(theirs[0], ours[0]) for theirs, ours in pairs if theirs and ours and theirs[1:] == ours[1:]}
        if len(counts) == 1 and all(theirs and ours and theirs[1:] == ours[1:] for theirs, ours in pairs):
            ((theirs, ours),) = counts
            return f"the checkpoint has {theirs} classes, the model {ours}"
    head = _layer_of(wrong.missing)
    last = [name.rpartition(".")[0] for name in own if name.endswith(".weight")][-1:]
    whole = {name for name in own if name.startswith(f"{head}.")} <= {*wrong.missing}
    beside = all(name.startswith(f"{head}.") for name in wrong.unexpected)
    if head and [head] == last and whole and beside and not wrong.misshapen:
        return f"the checkpoint has no classifier {head}"
    return ""


def _channels(wrong: Misfit, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What to say where the first convolution is for images of another number of channels, or ""."""
    first = next((name for name, value in own.items() if value.ndim == 4), "")
    if first not in wrong.misshapen or wrong.missing or wrong.unexpected:
        return ""
    theirs, ours = state[first].shape, own[first].shape
    if theirs[1:2] == ours[1:2] or theirs[:1] + theirs[2:] != ours[:1] + ours[2:]:
        return ""
    return (
        f"it is for images of {theirs[1]} channels, and these have {ours[1]}: pass --data.channels {theirs[1]}, or "
        f"weights for images of {ours[1]}"
    )


def _cure(wrong: Misfit, state: Mapping[str, Tensor]) -> str:
    if not wrong.misshapen:
        return "pass weights of the whole network"
    theirs = len(state[wrong.misshapen[0]])
    return f"pass --data with {theirs} classes, or weights of a network for these classes"


def _does_not_fit(wrong: Misfit) -> bool:
    return bool(wrong.missing or wrong.unexpected or wrong.misshapen)


def _complaint(wrong: Misfit) -> str:
    groups = {"missing": wrong.missing, "unexpected": wrong.unexpected, "of another shape": wrong.misshapen}
    found = [_listed(names, what) for what, names in groups.items() if names]
    return f"it is of another architecture, with keys {', '.join(found)}"


def _other_architecture(path: Path) -> str:
    """What to do: what the config.json beside the weights says they are of, if there is one."""
    config = hub_config(path)
    if isinstance(config.get("architecture"), str):
        return f"Its config.json names timm:{config['architecture']}."
    kinds = config.get("architectures")
    if isinstance(kinds, list) and kinds:
        return f"Its config.json names {kinds[0]}, a network of the package transformers, whose names differ."
    return "Name the model that these weights are of, or other weights."


def _layer_of(names: list[str]) -> str:
    """The module that all names are in, if it is one."""
    layers = {name.rpartition(".")[0] for name in names}
    return layers.pop() if len(layers) == 1 else ""


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _listed(names: list[str], what: str) -> str:
    """The number of names, and the first three of them."""
    more = ", …" if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"
