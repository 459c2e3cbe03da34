"""Make a network that no longer trains cheaper: fold batch norms into convolutions, and round weights once."""

from collections import Counter
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from famkd.features.taps import find_module


@torch.no_grad()
def fold_batch_norms(model: nn.Module, images: Tensor, keep: Collection[str] = ()) -> list[str]:
    """Fold each batch norm that directly follows a convolution into it, in place. Returns the paths of those folded.

    One forward pass in eval mode finds them: the tensor that the convolution returned enters the batch norm and no
    other module. Code outside of modules may read that tensor too. The output then changes by more than rounding, and
    all foldings are undone.

    Args:
        images: a batch of the size that the model will see.
        keep: taps, as `Tapped` takes them, whose inputs and outputs must not change.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 changes an output as much as a wrong fold
        return _fold(model.eval(), images, keep)


def round_weights(model: nn.Module, keep: Collection[nn.Module] = ()) -> None:
    """Store the weights of convolutions and linear layers in bfloat16, except those of the modules in `keep`.

    Autocast rounds these weights in every step anyway, so that under autocast the outputs stay equal to the last bit.
    Without autocast the model no longer runs.
    """
    for module in model.modules():
        if type(module) in (nn.Conv2d, nn.Linear) and module not in keep:
            module.to(torch.bfloat16)


def _fold(model: nn.Module, images: Tensor, keep: Collection[str]) -> list[str]:
    before = model(images)
    originals: dict[str, nn.Module] = {}
    folded = []
    for conv_path, bn_path in _foldable(model, images, keep).items():
        conv, bn = model.get_submodule(conv_path), model.get_submodule(bn_path)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(bn, nn.BatchNorm2d)
        originals |= {conv_path: conv, bn_path: bn}
        folded.append(bn_path)
        _replace(model, conv_path, _folded(conv, bn))
        _replace(model, bn_path, nn.Identity())
    if _is_close(model(images), before):
        return folded
    for path, module in originals.items():
        _replace(model, path, module)
    return []


def _is_close(after: object, before: object) -> bool:
    """Whether two outputs differ by rounding only. Outputs that are no single tensor are not compared."""
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    largest = before.abs().max().clamp_min(1)
    return bool((after - before).abs().max() <= 1e-3 * largest)


def _foldable(model: nn.Module, images: Tensor, keep: Collection[str]) -> dict[str, str]:
    """Path of each convolution that can absorb a batch norm, and the path of that batch norm."""
    calls, readers = _trace(model, images)
    kept = {find_module(model, tap.removesuffix(":in")) for tap in keep}
    pairs = {}
    for conv, paths in readers.items():
        bn = model.get_submodule(paths[0])
        if len(paths) > 1 or not isinstance(bn, nn.BatchNorm2d) or bn.running_mean is None:
            continue
        called_once = calls[conv] == calls[paths[0]] == 1
        if called_once and kept.isdisjoint((model.get_submodule(conv), bn)):
            pairs[conv] = paths[0]
    return pairs


def _trace(model: nn.Module, images: Tensor) -> tuple[Counter[str], dict[str, list[str]]]:
    """Run one forward pass and record which modules read the output of each convolution.

    Returns the number of calls of each module, and for each convolution the paths of its readers. Modules with children
    are left out: they only pass a tensor on.
    """
    calls: Counter[str] = Counter()
    readers: dict[str, list[str]] = {}
    made_by: dict[int, str] = {}  # the convolution that returned a tensor, by the tensor's id
    held = []  # those tensors, because the id of a freed one may be used again

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple, out: object) -> None:
            calls[path] += 1
            maker = made_by.get(id(args[0])) if args else None
            if maker is not None and not list(module.children()):
                readers.setdefault(maker, []).append(path)
            if isinstance(module, nn.Conv2d):
                made_by[id(out)] = path
                held.append(out)

        return hook

    handles = [module.register_forward_hook(note(path)) for path, module in model.named_modules()]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return calls, readers


def _folded(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    """A frozen convolution that computes what the pair computes in eval mode.

    It is a new module rather than the copy that torch's `fuse_conv_bn_eval` makes: a new module draws initial weights,
    and without these draws the methods, which are built next, would start from other weights for the same seed.
    """
    assert bn.running_mean is not None
    assert bn.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # pyright: ignore[reportArgumentType]  (a tuple of two)
        conv.stride,  # pyright: ignore[reportArgumentType]
        conv.padding,  # pyright: ignore[reportArgumentType]
        conv.dilation,  # pyright: ignore[reportArgumentType]
        conv.groups,
        bias=True,
        padding_mode=conv.padding_mode,  # pyright: ignore[reportArgumentType]
    )
    folded.weight = nn.Parameter(weight, requires_grad=False)
    folded.bias = nn.Parameter(bias, requires_grad=False)
    return folded.train(conv.training)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
