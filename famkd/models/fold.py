"""A network that no longer trains, made cheaper: batch norms folded into convolutions, weights rounded once."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from famkd.features.taps import find_module


@torch.no_grad()
def fold_batch_norms(model: nn.Module, images: Tensor, keep: Collection[str] = ()) -> list[str]:
    """Fold each batch norm that directly follows a convolution, in place; answers the paths of those folded.

    One forward in eval mode finds them: the very tensor that a convolution puts out enters the batch norm and no other
    module. If the output then moves by more than rounding (something outside of modules read that tensor too), all is
    put back and nothing folded.

    Args:
        images: a batch of the size that the model will see.
        keep: taps, as `Tapped` takes them; what goes in or out there must stay what it is.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # TF32 moves an output as far as a wrong fold
        return _fold(model.eval(), images, keep)


def round_weights(model: nn.Module, keep: Collection[nn.Module] = ()) -> None:
    """Keep in bfloat16 what autocast would round to it anyway in every step: weights of convolutions and linear maps.

    The same function under autocast, to the last bit; without it, no function any more. Modules in `keep` stay.
    """
    for module in model.modules():
        if type(module) in (nn.Conv2d, nn.Linear) and module not in keep:
            module.to(torch.bfloat16)


def _fold(model: nn.Module, images: Tensor, keep: Collection[str]) -> list[str]:
    before = model(images)
    watched = {find_module(model, tap.removesuffix(":in")) for tap in keep}
    pairs = {
        conv: bn
        for conv, bn in _follow(model, images).items()
        if watched.isdisjoint((model.get_submodule(conv), model.get_submodule(bn)))
    }
    originals = {path: model.get_submodule(path) for pair in pairs.items() for path in pair}
    for conv, bn in pairs.items():
        _replace(model, conv, _folded(originals[conv], originals[bn]))
        _replace(model, bn, nn.Identity())
    after = model(images)
    if not isinstance(before, Tensor) or (after - before).abs().max() > 1e-3 * before.abs().max().clamp_min(1):
        for path, module in originals.items():
            _replace(model, path, module)
        return []
    return list(pairs.values())


def _follow(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Paths of convolutions, each called once, to that of the batch norm which alone takes their output."""
    made: dict[int, str] = {}
    takers: dict[str, list[str]] = {}
    held, calls = [], []

    def note(path: str):
        def hook(module, args, out):
            first = args[0] if args else None
            if id(first) in made and not list(module.children()):
                takers.setdefault(made[id(first)], []).append(path)
            if isinstance(module, nn.Conv2d):
                calls.append(path)
                made[id(out)] = path
                held.append(out)  # else a freed tensor's id could come again
            if isinstance(module, nn.BatchNorm2d):
                calls.append(path)

        return hook

    handles = [module.register_forward_hook(note(path)) for path, module in model.named_modules()]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {
        conv: paths[0]
        for conv, paths in takers.items()
        if len(paths) == 1
        and isinstance(model.get_submodule(paths[0]), nn.BatchNorm2d)
        and calls.count(conv) == calls.count(paths[0]) == 1
        and model.get_submodule(paths[0]).running_mean is not None
    }


def _folded(conv: nn.Conv2d, bn: nn.BatchNorm2d) -> nn.Conv2d:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    options = (conv.stride, conv.padding, conv.dilation, conv.groups)
    new = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, *options, True, conv.padding_mode)
    new.weight, new.bias = nn.Parameter(weight, False), nn.Parameter(bias, False)
    return new.train(conv.training)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
