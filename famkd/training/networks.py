"""Student and teacher from a recipe: their weights, their classes, and the images that each wants."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from famkd.config.recipe import Net
from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.features.answer import Wanted, find_answer
from famkd.features.prepare import Pixels, Prepare
from famkd.features.run_once import initialize_lazy
from famkd.models import build_model
from famkd.models.heads import select_classes
from famkd.models.options import BuildOptions
from famkd.models.origin import UNKNOWN, Origin, file_origin, library_origin
from famkd.models.strided import skip_pixels_first
from famkd.models.weights import Loaded, load_checkpoint
from famkd.run.directory import Run
from famkd.tasks import TASKS
from famkd.training.places import run_of, weights_file


class Built(NamedTuple):
    """A network with its weights, and what is to be known of it."""

    model: nn.Module
    pixels: Pixels | None  # how it wants its images; None where images differ in size
    new_head: str = ""  # why its classifier has random weights; "" where it has trained ones
    remarks: tuple[str, ...] = ()
    head: dict[str, Tensor] | None = None  # state dict of a classifier that was trained for this run
    parameters: int = 0  # before batch norms are merged into convolutions


def load_network(
    net: Net, data: Dataset, task: str, runs: str | Path = "runs", *, weights: bool = True, who: str = "model"
) -> Built:
    """A network for a data set, on its device and channels last, with the weights that `net` names.

    Called with images of the data set, it first gives them the size and the normalisation that it wants.

    Args:
        weights: False leaves it with random weights.
        who: student, teacher, or model for one that is only measured.

    Errors: UserError for weights that do not fit; for a measured model also where they have other classes.
    """
    source, _, which = net.weights.partition(":")
    pretrained: bool | str = source == "pretrained" and (which or True)
    file, part = (None, "") if pretrained or not (weights and net.weights) else weights_file(net, runs)
    origin = library_origin(net.model, pretrained) if pretrained else origin_of(file)
    pixels = _wanted_pixels(net, origin, data, who)
    rows = _rows(origin.names, data.classes)
    classes = len(origin.names or ()) if rows else len(data.classes)
    hook = Prepare(pixels_of(data), pixels, data.device) if pixels else None
    model = _built(net, data, task, classes, weights and pretrained, hook)
    loaded = Loaded({})
    if file is not None:
        loaded = _loaded(model, net, file, part, who)
    elif weights and origin.classes not in (None, len(data.classes)):
        reason = f"its pretrained weights are for {origin.classes} classes, the data has {len(data.classes)}"
        loaded = Loaded({}, new_head=reason)
    if loaded.new_head and who == "model":
        raise UserError(f"The classifier of {net.model} would have random weights, because {loaded.new_head}.")
    model = model.to(memory_format=torch.channels_last).to(data.device)
    if data.device.type == "cpu":
        skip_pixels_first(model)
    remarks = [*loaded.remarks]
    if hook and hook.needed:
        model.register_forward_pre_hook(hook)
        remarks.append(str(hook))
    if TASKS[task].returns_logits:
        wanted = Wanted(classes, net.output, who, "--output" if who == "model" else f"--{who}.output")
        find_answer(model, data.probe().images[:2], wanted, trains=who == "student").attach(model)
    remarks += _fit_classes(model, rows, origin, data, loaded.new_head)
    parameters = sum(each.numel() for each in model.parameters())
    return Built(model, pixels, loaded.new_head, tuple(remarks), parameters=parameters)


def _built(net: Net, data: Dataset, task: str, classes: int, pretrained: bool | str, hook: Prepare | None) -> nn.Module:
    """The network of a recipe before its weights are loaded; lazy layers have their shapes."""
    models, size = TASKS[task].models, hook.want.size if hook else None
    options = BuildOptions(net.drop, net.drop_path, net.patch)
    if not TASKS[task].returns_logits:
        return build_model(net.model, classes, pretrained, size, models, options=options)
    images = data.probe().images[:2]
    model = build_model(net.model, classes, pretrained, size, models, images.shape[1], options)
    initialize_lazy(model, (hook.images(images) if hook else images).cpu())
    return model


def _loaded(model: nn.Module, net: Net, file: Path, part: str, who: str) -> Loaded:
    """Load the weights of a file; where they do not fit and are of a run, the error names the network of the run."""
    try:
        called = f"the {who} {net.model}"
        return load_checkpoint(model, file, part, any_classes=who != "model", called=called)
    except UserError as error:
        run = run_of(file)
        theirs = run.recipe.student.model if run else net.model
        if run is None or theirs == net.model:
            raise
        flag = "--model" if who == "model" else f"--{who}.model"
        raise UserError(f"{run.path} has weights of {theirs}, not of {net.model}: pass {flag} {theirs}.") from error


def _fit_classes(model: nn.Module, rows: list[int], origin: Origin, data: Dataset, new_head: str) -> list[str]:
    """Put a network's classes into the data's order, where both are known by name; returns what to say about it."""
    theirs, ours = origin.names or (), data.classes
    if rows:
        select_classes(model, rows, data.probe().images)
        if len(theirs) == len(ours):
            return ["its classes are in another order than the data's: its classifier is reordered by name"]
        return [f"the data has {len(ours)} of its {len(theirs)} classes: its classifier is reduced to these by name"]
    if not theirs or new_head or list(theirs) == ours:
        return []
    return [
        f"its classes are called {', '.join(theirs[:3])}, …, those of the data {', '.join(ours[:3])}, …: they are "
        "taken to be in the same order"
    ]


def pixels_of(data: Dataset) -> Pixels:
    """How a data set normalises its images, and how large they are."""
    return Pixels(tuple(data.mean), tuple(data.std), data.size)


def student_of(run: Run) -> Net:
    """The student of a run, without its initial weights, which takes images as it was trained on them."""
    net = replace(run.recipe.student, weights="")
    facts = run.facts.get("student")
    if not facts:
        return net
    size = tuple(facts["size"] or ())
    return replace(
        net, mean=tuple(facts["mean"]), std=tuple(facts["std"]), size=size, interpolation=facts["interpolation"]
    )


def origin_of(file: Path | None) -> Origin:
    """What is known of the weights in a file: from the run that it is in, or from the file itself."""
    if file is None:
        return UNKNOWN
    run = run_of(file)
    if run is None:
        return file_origin(file)
    facts = run.facts
    if not facts.get("student"):
        return UNKNOWN
    known = student_of(run)
    size = (known.size[0], known.size[1]) if known.size else None
    names = tuple(facts["classes"])
    return Origin(Pixels(known.mean, known.std, size, known.interpolation), len(names), names)


def _wanted_pixels(net: Net, origin: Origin, data: Dataset, who: str) -> Pixels | None:
    """How a network wants its images: as the recipe says, else as its weights were trained, else as the data has them.

    A student is trained on images of the data's size, whatever size its first weights were trained on.
    """
    options = {"mean": net.mean, "std": net.std, "size": net.size, "interpolation": net.interpolation}
    if data.size is None:
        given = [name for name, value in options.items() if value]
        if given:
            raise UserError(
                f"Images of several sizes cannot be converted for one network: leave --{who}.{given[0]} out."
            )
        return None
    if len(net.size) > 2:
        raise UserError(f"--{who}.size has {len(net.size)} numbers: pass height and width, or one for both.")
    known = origin.pixels or pixels_of(data)
    channels = len(data.mean)
    for name in ("mean", "std"):
        if options[name] and len(options[name]) != channels:
            raise UserError(f"--{who}.{name} has {len(options[name])} values, the images have {channels} channels.")
    size = data.size if who == "student" or known.size is None else known.size
    if net.size:
        size = (net.size[0], net.size[-1])
    return Pixels(
        net.mean or _for_channels(known.mean, channels),
        net.std or _for_channels(known.std, channels),
        size,
        net.interpolation or known.interpolation,
    )


def _for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Values of each channel, or their mean for each channel if they are for another number."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels


def _rows(theirs: Sequence[str] | None, ours: Sequence[str]) -> list[int]:
    """Where the data's classes are among a network's; [] if they are in the same places or are not all there.

    Numbers in place of names say nothing where there are more of one than of the other.
    """
    if not theirs or list(theirs) == list(ours) or len(set(theirs)) < len(theirs) or not set(ours) <= set(theirs):
        return []
    if len(theirs) != len(ours) and all(name.isdecimal() for name in ours):
        return []
    return [list(theirs).index(name) for name in ours]
