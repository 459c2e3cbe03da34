"""Read the logits (B, classes) in whatever a classifier returns: a tensor, a tuple, a dictionary, an object, maps.

The way to the logits is chosen once, from one run on a few images in each mode, and then held: reading costs nothing
in a training step, and a compiled step stays one graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from famkd.errors import UserError
from famkd.features.parts import Part, Step, described, take, tensors, way_to
from famkd.features.run_once import initialize_lazy, run_in_eval_mode, run_in_training_mode

IMAGES = 2  # that a network is looked at with
Shape = Literal["vector", "flat", "map"]  # (B, n); (B, n) with sides of 1; (B, n, h, w)


class Wanted(NamedTuple):
    """What a network shall return, and how to call it in sentences."""

    classes: int | None = None  # number of logits; None for any
    output: str = ""  # path of the logits in what the network returns: keys, attributes and indices joined by dots
    who: str = "network"
    flag: str = ""  # that names the output on a command line; by default the name of an argument in Python
    for_losses: bool = True  # whether probabilities will not do
    can_be_named: bool = True  # whether there is such an option or argument

    @property
    def option(self) -> str:
        if self.flag:
            return self.flag
        return "output=" if self.who == "network" else f"{self.who}_output="

    def naming(self, name: str) -> str:
        """What a user does to name a part."""
        if not self.can_be_named:
            return "wrap the network in a module that returns its logits only"
        example = f"{self.option}{name!r}" if self.option.endswith("=") else f"{self.option} {name}"
        return f"name the right one, as in {example}"


class Reading(NamedTuple):
    """The way to the logits in what a network returns."""

    steps: tuple[Step, ...]
    shape: Shape
    lift: bool  # whether they are converted to float32

    def __call__(self, out: Any) -> Tensor:
        logits: Tensor = take(out, self.steps)
        if self.shape == "flat":
            logits = logits.flatten(1)
        elif self.shape == "map":
            logits = logits.flatten(2).mean(2)
        return logits.float() if self.lift else logits


@dataclass(frozen=True)
class Answer:
    """How to read the logits (B, classes) of one network, in training and in eval mode."""

    training: Reading
    evaluating: Reading
    classes: int  # number of logits

    @property
    def plain(self) -> bool:
        """Whether the network returns the logits themselves."""
        return all(reading == Reading((), "vector", False) for reading in (self.training, self.evaluating))

    def read(self, out: Any, training: bool) -> Tensor:
        return self.training(out) if training else self.evaluating(out)

    def hook(self, module: nn.Module, args: tuple, out: Any) -> Tensor:
        return self.read(out, module.training)

    def attach(self, model: nn.Module) -> RemovableHandle | None:
        """From now on, calling the network returns its logits. None if it does so by itself."""
        return None if self.plain else model.register_forward_hook(self.hook)


class Answering(nn.Module):
    """A network whose forward returns its logits (B, classes)."""

    def __init__(self, model: nn.Module, answer: Answer):
        super().__init__()
        self.model, self.answer = model, answer

    def forward(self, images: Tensor) -> Tensor:
        return self.answer.read(self.model(images), self.model.training)


ANY = Wanted()


def find_answer(model: nn.Module, images: Tensor, wanted: Wanted = ANY, trains: bool = False) -> Answer:
    """Find the logits in what a network returns for a few images. The network is left as it was.

    Without `wanted.output` they are, in this order: the part called `logits`; the only tensor of the right shape, not
    counting parts called aux. Maps (B, classes, h, w) are averaged over their positions.

    Args:
        images: (B, C, H, W), of which two are used.
        trains: whether the network will be run in training mode too. Where it returns more in that mode (auxiliary
            heads), its logits are those that have the values of eval mode.

    Errors: UserError, one sentence with what the network returns, if nothing or more than one part can be the logits,
    if their number is not that of the classes, if they are no logits (integers, probabilities), or if the network
    trains and they carry no gradient.
    """
    few = images[:IMAGES] if len(images) > 1 else images.repeat(IMAGES, 1, 1, 1)
    initialize_lazy(model, few)
    returned = [run_in_eval_mode(model, few, wanted.who)]
    evaluating = training = _choose(returned[0], len(few), wanted)
    logits = evaluating(returned[0])
    if trains:
        returned.append(run_in_training_mode(model, few, wanted.who))
        if _looks(returned[1]) != _looks(returned[0]):
            training = _choose(returned[1], len(few), wanted, logits)
        _must_carry_gradient(training(returned[1]), wanted)
    if wanted.for_losses:
        _must_be_logits(logits, wanted)
    if wanted.output and all(isinstance(out, Tensor) for out in returned):
        raise UserError(f"The {wanted.who} returns one tensor, so {wanted.option} has no effect: leave it out.")
    return Answer(training, evaluating, logits.shape[1])


def logits_in(out: Any, wanted: Wanted = ANY) -> Tensor:
    """The logits (B, classes) in what a network returned once. Errors as for `find_answer`."""
    batch = next((len(part.value) for part in tensors(out) if part.value.ndim), 0)
    return _choose(out, batch, wanted)(out)


def _looks(out: Any) -> list[tuple[str, torch.Size]]:
    return [(part.name, part.value.shape) for part in tensors(out)]


def _choose(out: Any, batch: int, wanted: Wanted, values: Tensor | None = None) -> Reading:
    """The way to the logits in an output. Of several parts that fit, the one that has the `values` counts."""
    parts = _candidates(out, batch, wanted)
    fitting = _fitting(parts, batch, wanted.classes)
    if len(fitting) > 1:
        fitting = [found for found in fitting if not _is_auxiliary(found)] or fitting
    if len(fitting) > 1 and values is not None:
        equal = [found for found in fitting if _close(found, values)]
        fitting = equal if len(equal) == 1 else fitting
    if not fitting:
        raise UserError(_nothing_fits(out, parts, batch, wanted))
    if len({id(found.part.value) for found in fitting}) > 1:
        raise UserError(_several_fit(out, fitting, batch, wanted))
    part, shape = fitting[0]
    return Reading(part.steps, shape, part.value.dtype != torch.float32)


class _Found(NamedTuple):
    part: Part
    shape: Shape


def _candidates(out: Any, batch: int, wanted: Wanted) -> list[Part]:
    """The tensors that a user named, or those called `logits`, or else all."""
    parts = list(tensors(out))
    if wanted.output and not isinstance(out, Tensor):
        steps = way_to(out, wanted.output)
        if steps is None:
            returned = described(out, batch)
            raise UserError(f"The {wanted.who} returns {returned}, without a part {wanted.output!r} ({wanted.option}).")
        parts = [part for part in parts if part.steps[: len(steps)] == steps]
    named = [part for part in parts if part.name.rpartition(".")[2].lower() == "logits"]
    return named or parts


def _fitting(parts: Sequence[Part], batch: int, classes: int | None) -> list[_Found]:
    """The parts that may be logits: vectors where there are any, else what can be flattened, else maps."""
    for shape in ("vector", "flat", "map"):
        widths = [(part, _width(part.value, shape, batch)) for part in parts if part.value.is_floating_point()]
        fitting = [_Found(part, shape) for part, width in widths if width and classes in (None, width)]
        if fitting:
            return fitting
    return []


def _width(value: Tensor, shape: Shape, batch: int) -> int:
    """How many logits a tensor holds for each image if it is read in one of the ways; 0 if it cannot be read so."""
    if value.ndim < 2 or value.shape[0] != batch:
        return 0
    sizes = value.shape[1:]
    if shape == "vector":
        return sizes[0] if len(sizes) == 1 else 0
    if shape == "flat":
        largest = max(sizes)
        return largest if len(sizes) > 1 and sizes.numel() == largest else 0
    return sizes[0] if len(sizes) == 3 else 0


def _is_auxiliary(found: _Found) -> bool:
    return any(word.lower().startswith("aux") for word in found.part.name.split("."))


def _close(found: _Found, values: Tensor) -> bool:
    logits = Reading((), found.shape, True)(found.part.value.detach())
    return torch.allclose(logits, values.float(), rtol=1e-3, atol=1e-4)


def _nothing_fits(out: Any, parts: Sequence[Part], batch: int, wanted: Wanted) -> str:
    """Why no part of an output can be the logits."""
    classes, returned = wanted.classes, described(out, batch)
    others = [found for found in _fitting(parts, batch, None) if found.shape != "map"]
    if classes is not None and len(others) == 1:
        number = _width(others[0].part.value, others[0].shape, batch)
        where = "" if isinstance(out, Tensor) else f" ({returned})"
        return (
            f"The {wanted.who} returns {number} logits for each image{where}, but the data set has {classes} classes: "
            f"build it for {classes} classes, or choose other data."
        )
    shape = "(batch, classes)" if classes is None else f"(batch, {classes})"
    cure = f"return them, or name their place by {wanted.option}"
    if not wanted.can_be_named or not any(tensors(out)):
        cure = "return them from its forward"
    return f"The {wanted.who} returns {returned}, in which no part is logits of shape {shape}: {cure}."


def _several_fit(out: Any, fitting: Sequence[_Found], batch: int, wanted: Wanted) -> str:
    names = [found.part.name for found in fitting]
    return (
        f"The {wanted.who} returns {described(out, batch)}, in which {' and '.join(names)} may be the logits: "
        f"{wanted.naming(names[0])}."
    )


def _must_be_logits(logits: Tensor, wanted: Wanted) -> None:
    if logits.is_inference():
        raise UserError(
            f"The forward of the {wanted.who} uses torch.inference_mode, whose outputs cannot be used in a loss: use "
            "torch.no_grad in it."
        )
    sums = logits.float().sum(1)
    if logits.shape[1] > 1 and bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise UserError(
            f"The {wanted.who} returns probabilities (not negative, with sum 1), but losses take logits: leave its "
            "softmax out."
        )


def _must_carry_gradient(logits: Tensor, wanted: Wanted) -> None:
    if not logits.requires_grad:
        raise UserError(
            f"The logits of the {wanted.who} carry no gradient: its forward detaches them, or all of its weights are "
            "frozen."
        )
