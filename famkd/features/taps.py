"""Features of any model by module path: `layer3`, `layer3.-1.relu2`, or `layer3.-1.relu2:in` for a module's input."""

import re
from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from famkd.errors import UserError, nearest
from famkd.features.answer import Answer, Answering
from famkd.features.find import discover, find_classifier
from famkd.features.layout import as_maps, first_tensor, in_image_order, says_channels_last, says_prefix
from famkd.features.prepare import network_size


class Tapped(nn.Module):
    """A model whose forward returns its output and the features at its taps, in the order given.

    Tokens (B, N, C) and maps with channels last (B, H, W, C) are returned as maps (B, C, H, W).

    Args:
        model: any module. Its state dict keeps its keys, under `.model`.
        taps: module paths. Integers may count from the end of a sequence, `:in` takes a module's input.
        head: path of the classifier, for methods that read its weights.
        answer: how to read the logits in what the model returns; None to return it as it is.

    Errors: UserError with the nearest names if a path does not exist.
    """

    def __init__(self, model: nn.Module, taps: Iterable[str] = (), head: str = "", answer: Answer | None = None):
        super().__init__()
        self.model, self.taps = model, list(taps)
        self.answer = None if answer is None or answer.plain else answer
        self.head_path = head or own_head(model)
        self._seen: dict[str, Tensor] | None = None  # None outside of this object's forward: others may call the model
        self._batch = 0  # number of images in that forward
        self._handles = [self._hook(tap) for tap in self.taps]
        if self.taps and not hasattr(model, "taps"):
            _leave_inputs_alone(model)

    def _hook(self, tap: str) -> RemovableHandle:
        module = find_module(self.model, tap.removesuffix(":in"))
        if tap.endswith(":in"):
            return module.register_forward_pre_hook(partial(self._keep, tap))
        return module.register_forward_hook(partial(self._keep, tap))

    def _keep(self, tap: str, module: nn.Module, args: tuple, *out: Any) -> None:
        """The hook. It is a method, so that a deep copy, which exporters make, keeps its features to itself."""
        if self._seen is not None:
            self._seen[tap] = first_tensor(*out or (args,), batch=self._batch)

    @property
    def head(self) -> nn.Module | None:
        """The classifier, or None if no path is known."""
        return find_module(self.model, self.head_path) if self.head_path else None

    def forward(self, *args: Any) -> tuple[Any, list[Tensor]]:
        out, feats = self.through(self.model, *args)
        return (self.answer.read(out, self.model.training) if self.answer else out), feats

    def through(self, part: nn.Module, *args: Any) -> tuple[Any, list[Tensor]]:
        """`forward` through a part of the model only, such as a detector's backbone."""
        self._seen, self._batch = {}, _length(args[0])
        out = part(*args)
        seen, self._seen = self._seen, None
        missing = [tap for tap in self.taps if tap not in seen]
        if missing:
            raise UserError(f"The forward pass never reached the tap {missing[0]!r}: name a module that it calls.")
        feats = [in_image_order(self.model, tap, seen[tap]) for tap in self.taps]
        return out, as_maps(feats, network_size(part, args[0]), says_prefix(self.model), says_channels_last(self.model))

    def returning_logits(self) -> nn.Module:
        """The model, inside a module that returns its logits alone where the model returns something else."""
        return Answering(self.model, self.answer) if self.answer else self.model

    def remove(self) -> nn.Module:
        """Remove the hooks and return the plain model."""
        for handle in self._handles:
            handle.remove()
        return self.model


def _length(images: Any) -> int:
    """Number of images in a batch. An exporter traces the shape of a tensor as a variable, and `len` as a constant."""
    return images.shape[0] if isinstance(images, Tensor) else len(images)


def _leave_inputs_alone(model: nn.Module) -> None:
    """Turn in-place activations off: they would overwrite a feature that was kept before them."""
    for module in model.modules():
        activation: Any = module
        if getattr(activation, "inplace", False):
            activation.inplace = False


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path, in which integers may be negative."""
    module = model
    for part in path.split(".") if path else []:
        children = dict(module.named_children())
        if part not in children and _is_index(part, len(children)):
            part = list(children)[int(part)]
        if part not in children:
            names = [name for name, _ in model.named_modules() if name]
            raise UserError(f"{type(model).__name__} has no module {path!r}.{nearest(path, names)}")
        module = children[part]
    return module


def _is_index(text: str, length: int) -> bool:
    """Whether a text is an integer that indexes a list of some length."""
    return re.fullmatch(r"-?[0-9]+", text) is not None and -length <= int(text) < length


def default_taps(model: nn.Module, wants: str, images: Tensor, answer: Answer | None = None) -> list[str]:
    """The taps for what a method wants: the model's own `taps`, or those found in a probe forward pass.

    `wants` is `logits` (no taps), or several of the following joined by `+`: `stages`, `preact` (stages before their
    activation), `embed` (the input of the classifier), `last` (the map that enters the global pooling) and `maps` (the
    last map of each size, after a norm or convolution that belongs to no stage). A model without a classifier that is
    one layer gives its last stage for `embed` alone.
    """
    if wants == "logits":
        return []
    own = getattr(model, "taps", None)
    if wants == "embed" and not own:
        head = find_classifier(model, images, answer)
        return [f"{head}:in"] if head else default_taps(model, "stages", images, answer)[-1:]
    places = dict(own or discover(model, images, answer)[0])
    pools = [f"{name}:in" for name, _ in model.named_children() if name in ("avgpool", "global_pool")]
    places["last"] = (pools[0],) if pools else (places["stages"][-1],)
    taps: list[str] = []
    for kind in wants.split("+"):
        taps.extend(places.get(kind, places["stages"]))
    return taps


def default_head(model: nn.Module, images: Tensor, answer: Answer | None = None) -> str:
    """Path of the classifier: the model's own `head`, or the layer that returns the logits in a probe forward pass."""
    return own_head(model) or find_classifier(model, images, answer)


def own_head(model: nn.Module) -> str:
    """The path in `head` of a network of this package. In other networks `head` may be the classifier or any word."""
    head = getattr(model, "head", None)
    if not isinstance(head, str):
        return ""
    return head if hasattr(model, "taps") or head in dict(model.named_modules()) else ""
