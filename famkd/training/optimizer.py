"""The optimizer of a training: PyTorch's SGD or one of timm's, its parameter groups, and its state."""

from collections.abc import Iterable, Iterator
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from famkd.config.optimizers import optimizer_info
from famkd.config.recipe import Optim
from famkd.distill.distiller import Distiller
from famkd.errors import UserError, one_line

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
PLACEMENT = ("lr", "fused", "foreach", "capturable")  # of a parameter group: how a device runs it
# State that does not start from 0.
STARTS = {"mu_product": 1.0}


def build_optimizer(distiller: Distiller, optim: Optim) -> torch.optim.Optimizer:
    """The optimizer of the student and the methods.

    On a GPU the learning rate of one that a CUDA graph can capture is a tensor, so that a captured step reads new
    values.
    """
    groups = parameter_groups(distiller, optim)
    device = groups[0]["params"][0].device
    if device.type == "cuda" and can_be_captured(optim.name):
        for group in groups:  # a tensor of its own for each, since each has its own scale
            group["lr"] = torch.tensor(optim.lr, device=device)
    options = _options(optim, device)
    try:
        if optim.name == "sgd":
            return torch.optim.SGD(groups, lr=optim.lr, nesterov=optim.nesterov, **options)
        from timm import optim as timm_optim

        library: Any = timm_optim  # it has no `__all__`
        return library.create_optimizer_v2(groups, opt=optim.name, lr=optim.lr, **options)
    except ValueError as error:
        raise UserError(f"{optim.name} cannot run with these options: {error}. Change --optim.") from error
    except (ImportError, AssertionError) as error:  # of apex and bitsandbytes
        raise UserError(f"{optim.name} cannot run here: {one_line(error)}.") from error


def _options(optim: Optim, device: torch.device) -> dict[str, Any]:
    """Keyword arguments of an optimizer, those that it takes."""
    info = optimizer_info(optim.name)
    options: dict[str, Any] = {"weight_decay": optim.weight_decay}
    if info.momentum:
        options["momentum"] = optim.momentum
    if optim.betas:
        options["betas"] = optim.betas
    if optim.eps:
        options["eps"] = optim.eps
    if info.kind in FUSED:
        options["fused"] = True if device.type in ("cuda", "cpu") else None
    if device.type == "cuda" and _takes(info.kind, "capturable"):
        options["capturable"] = True
        if info.kind not in FUSED and _takes(info.kind, "foreach"):
            options["foreach"] = True  # the other form reads a tensor's learning rate back
    if _takes(info.kind, "deterministic"):
        options["deterministic"] = True  # kron: the same draws in every process
    return options


def can_be_captured(name: str) -> bool:
    """Whether a CUDA graph can capture a step of an optimizer: it reads its learning rate and step from the device.

    Adopt is left out, because its first step differs from the others.
    """
    kind = optimizer_info(name).kind
    return kind is torch.optim.SGD or (_takes(kind, "capturable") and kind.__name__ != "Adopt")


def _takes(kind: Any, option: str) -> bool:
    return not isinstance(kind, str) and option in signature(kind).parameters


def parameter_groups(distiller: Distiller, optim: Optim) -> list[dict[str, Any]]:
    """All trained parameters, grouped by weight decay, by the scale of their learning rate, and, for muon, by kind.

    Methods have the student's decay rules and the full learning rate.
    """
    if optim.decay == "all" and optim.layer_decay == 1 and not _is_hybrid(optim.name):
        return [{"params": [p for p in distiller.parameters() if p.requires_grad]}]
    scales = learning_rate_scales(distiller.student.model, optim.layer_decay)
    exempt = set(map(id, _without_decay(distiller))) if optim.decay == "weights" else set()
    matrices = set(map(id, _matrices(distiller)))
    groups: dict[tuple, dict[str, Any]] = {}
    for parameter in distiller.parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if id(parameter) in exempt else optim.weight_decay
        scale = scales.get(parameter, 1.0)
        settings: dict[str, Any] = {"weight_decay": decay, "lr_scale": scale}
        if _is_hybrid(optim.name):
            settings["use_fallback"] = id(parameter) not in matrices
        key = tuple(settings.values())
        groups.setdefault(key, {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def _is_hybrid(name: str) -> bool:
    """Whether an optimizer is for the weights of layers only and leaves other parameters to a second one (muon)."""
    return getattr(optimizer_info(name).kind, "__name__", "") == "Muon"


def _without_decay(network: nn.Module) -> Iterator[Tensor]:
    """Biases, norms, and what a module names in `no_weight_decay()`, such as position embeddings, as timm's do."""
    for name, parameter in network.named_parameters():
        if parameter.ndim <= 1 or name.endswith(".bias"):
            yield parameter
    modules: Iterator[Any] = network.modules()
    for module in modules:
        if callable(getattr(module, "no_weight_decay", None)):
            own = dict(module.named_parameters())
            yield from (own[name] for name in module.no_weight_decay() if name in own)


def _matrices(network: nn.Module) -> Iterator[Tensor]:
    """The weights of linear layers and convolutions: not norms, embeddings and filters in the frequency domain."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            yield module.weight


def learning_rate_scales(network: nn.Module, decay: float) -> dict[Tensor, float]:
    """The scale of each parameter's learning rate: `decay` for each layer that lies between it and the output.

    The layers are those that a network of timm names itself. Of other networks they are the children of the network; a
    sequence, or a child that holds more than half of the weights, is taken apart.
    """
    if decay == 1:
        return {}
    layers = _layers_of_timm(network) if hasattr(network, "group_matcher") else _layers(network)
    return {parameter: decay ** (len(layers) - place) for place, layer in enumerate(layers, 1) for parameter in layer}


def _layers_of_timm(network: Any) -> list[list[Tensor]]:
    from timm.models import group_parameters

    parameters = dict(network.named_parameters())
    layers = group_parameters(network, network.group_matcher(coarse=False))
    return [[parameters[name] for name in names] for _, names in sorted(layers.items())]


def _layers(network: nn.Module) -> list[list[Tensor]]:
    """Parameters of each layer, from input to output."""
    half = _numbers(network.parameters()) / 2
    direct: list[Tensor] = list(network.parameters(recurse=False))
    layers = [direct] if direct else []
    for child in network.children():
        weights: list[Tensor] = list(child.parameters())
        if isinstance(child, nn.Sequential | nn.ModuleList) or (_numbers(weights) > half and list(child.children())):
            layers += _layers(child)
        elif weights:
            layers.append(weights)
    return layers


def _numbers(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, in place where it is a tensor, which a CUDA graph reads."""
    for group in optimizer.param_groups:
        own = lr * group.get("lr_scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of an optimizer, also one that ran on another kind of device."""
    own = [{key: group[key] for key in PLACEMENT if key in group} for group in optimizer.param_groups]
    saved = [group | kept for group, kept in zip(state["param_groups"], own)]
    optimizer.load_state_dict({**state, "param_groups": saved})
    for group, kept in zip(optimizer.param_groups, own):
        group["lr"] = kept["lr"]  # the tensor that a captured step reads; each epoch sets its value


def state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Every tensor of an optimizer's state."""
    return [tensor for tensor, _ in _named_state(optimizer)]


def start_over(optimizer: torch.optim.Optimizer, kept: Iterable[Tensor] = ()) -> None:
    """Give the tensors of an optimizer's state, except those in `kept`, the values from before the first step."""
    known = set(map(id, kept))
    for tensor, name in _named_state(optimizer):
        if id(tensor) not in known:
            tensor.fill_(STARTS.get(name, 0.0))


def _named_state(optimizer: torch.optim.Optimizer) -> Iterator[tuple[Tensor, str]]:
    for state in optimizer.state.values():
        yield from ((value, name) for name, value in state.items() if isinstance(value, Tensor))
