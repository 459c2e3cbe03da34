"""Attention rollout: which patches of the image the class token of a vision transformer attends to."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from famkd.errors import UserError
from famkd.features.layout import layout_of, says_prefix
from famkd.features.prepare import network_size
from famviz.networks import logits_of

SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
REMEDY = "Choose GradCAM or another method."


@torch.no_grad()
def rollout(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, int]:
    """Attention rollout (B, h, w), the logits, and the number of attention layers.

    A layer passes on half of each token itself and half of what its heads attend to on average. The product over all
    layers says which part of each token of the image has reached the token that the classifier reads, or the mean of
    all tokens if it averages them. It does not depend on a class. Source: Abnar and Zuidema, Quantifying Attention
    Flow in Transformers, ACL 2020.

    Errors: UserError for a network without attention between all tokens, such as a ConvNet or a Swin transformer.
    """
    with _Attention() as watch:
        logits = logits_of(model(images))
    name = type(model).__name__
    if not watch.seen:
        raise UserError(f"AttentionRollout needs a vision transformer, and {name} has no attention. {REMEDY}")
    tokens = {weights.shape for weights in watch.seen}
    count = watch.seen[0].shape[-1]
    layout = layout_of((len(images), count, 1), network_size(model, images), says_prefix(model))
    if len(tokens) > 1 or len(watch.seen[0]) != len(images) or layout.kind != "tokens":
        raise UserError(f"AttentionRollout needs attention between all tokens, which {name} does not have. {REMEDY}")
    joint = torch.eye(count, device=images.device).expand(len(images), -1, -1)
    for weights in watch.seen:
        joint = (weights + torch.eye(count, device=images.device)) / 2 @ joint
    rows = joint[:, :1] if layout.prefix and _reads_class_token(model) else joint[:, layout.prefix :]
    maps = rows.mean(1)[:, layout.prefix :].unflatten(1, layout.grid)
    return maps, logits, len(watch.seen)


def _reads_class_token(model: nn.Module) -> bool:
    """Whether the classifier of a network with a class token reads it; a model of timm may average the others."""
    return str(getattr(model, "global_pool", "token")) in ("token", "")


class _Attention(TorchFunctionMode):
    """Keeps the attention weights (B, N, N) of every layer, mean over heads, while a network runs.

    They are read where every implementation computes them: in torch's functions for attention, or in the softmax of
    scores (B, heads, N, N).
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            out, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": True})
            self._keep(weights[:, None])
            return out, weights
        if func is F.scaled_dot_product_attention:
            self._keep(_weights(*args, **kwargs))
        out = func(*args, **kwargs)
        if func in SOFTMAX and out.ndim == 4:
            self._keep(out)
        return out

    def _keep(self, weights: Tensor) -> None:
        if weights.ndim == 4 and weights.shape[-1] == weights.shape[-2] > 1:
            self.seen.append(weights.float().mean(1))


def _weights(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """The weights that `scaled_dot_product_attention` computes from these arguments and does not return."""
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    if is_causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1)
