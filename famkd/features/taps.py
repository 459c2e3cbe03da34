"""Features of any model by module path: `layer3`, `layer3.-1.relu2`, `layer3.-1.relu2:in` for what enters a module."""

import re
from collections.abc import Iterable
from functools import partial

from torch import Tensor, nn

from famkd.errors import UserError, nearest
from famkd.features.find import discover
from famkd.features.layout import as_maps, first_tensor, image_size, says_channels_last, says_prefix


class Tapped(nn.Module):
    """A model whose forward answers its output and the features at its taps, in the order given.

    Tokens (B, N, C) and maps with channels last (B, H, W, C) are answered as maps (B, C, H, W).

    Args:
        model: any module; its state dict stays its own under `.model`.
        taps: module paths; integers may count from the end of a sequence, `:in` takes a module's input.
        head: path of the classifier, for methods that read its weights.

    Errors: UserError with the nearest names where a path leads nowhere.
    """

    def __init__(self, model: nn.Module, taps: Iterable[str] = (), head: str = ""):
        super().__init__()
        self.model, self.taps = model, list(taps)
        self.head_path = head or own_head(model)
        self._seen: dict[str, Tensor] | None = None  # only in a forward of its own: others may call the model too
        self._handles = [self._hook(tap) for tap in self.taps]
        if self.taps and not hasattr(model, "taps"):  # a later in-place activation would overwrite what a tap kept
            for module in model.modules():
                if getattr(module, "inplace", False):
                    module.inplace = False

    def _hook(self, tap: str):
        path, entering = tap.removesuffix(":in"), tap.endswith(":in")
        module = find_module(self.model, path)
        if entering:
            return module.register_forward_pre_hook(partial(self._keep, tap))
        return module.register_forward_hook(partial(self._keep, tap))

    def _keep(self, tap: str, module: nn.Module, args: tuple, *out) -> None:
        """The hook itself; a method, so that a deep copy, as exporters make, keeps what it sees to itself."""
        if self._seen is not None:
            self._seen[tap] = first_tensor(*out or (args,))

    @property
    def head(self) -> nn.Module | None:
        return find_module(self.model, self.head_path) if self.head_path else None

    def forward(self, *args):
        return self.through(self.model, *args)

    def through(self, part: nn.Module, *args):
        """`forward` by a part of the model alone, a detector's backbone for instance."""
        self._seen = {}
        out = part(*args)
        seen, self._seen = self._seen, None
        missing = [tap for tap in self.taps if tap not in seen]
        if missing:
            raise UserError(f"The forward pass never reached the tap {missing[0]!r}: name a module that it calls.")
        feats = [seen[tap] for tap in self.taps]
        return out, as_maps(feats, image_size(args[0]), says_prefix(self.model), says_channels_last(self.model))

    def remove(self) -> nn.Module:
        """Take the hooks off again and return the plain model."""
        for handle in self._handles:
            handle.remove()
        return self.model


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The submodule at a dotted path, in which integers may be negative."""
    module = model
    for part in path.split(".") if path else []:
        children = dict(module.named_children())
        if part not in children and re.fullmatch(r"-?[0-9]+", part) and -len(children) <= int(part) < len(children):
            part = list(children)[int(part)]
        if part not in children:
            names = [name for name, _ in model.named_modules() if name]
            raise UserError(f"{type(model).__name__} has no module {path!r}.{nearest(path, names)}")
        module = children[part]
    return module


def default_taps(model: nn.Module, wants: str, images: Tensor) -> list[str]:
    """Where to look at a model, for what a method wants: the model's own `taps`, or those a probe forward finds.

    `wants` is `logits` (nothing), or several joined by `+` of `stages`, `preact` (stages before their activation),
    `embed` (the vector that enters the classifier) and `last` (the map that enters the global pooling).
    """
    if wants == "logits":
        return []
    places = dict(getattr(model, "taps", None) or discover(model, images)[0])
    pool = next((f"{name}:in" for name, _ in model.named_children() if name in ("avgpool", "global_pool")), None)
    places["last"] = (pool or places["stages"][-1],)
    return [tap for kind in wants.split("+") for tap in places.get(kind, places["stages"])]


def default_head(model: nn.Module, images: Tensor) -> str:
    """Path of the classifier: the model's own `head`, or the last linear layer that a probe forward calls."""
    return own_head(model) or discover(model, images)[1]


def own_head(model: nn.Module) -> str:
    """The path that a network of this package keeps in `head`; elsewhere that name may be the classifier itself."""
    return model.head if isinstance(getattr(model, "head", None), str) else ""
