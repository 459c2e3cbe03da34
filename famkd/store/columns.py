"""Between a teacher's outputs and what is stored of them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from famkd.errors import UserError

LOGITS = "logits"  # (N, classes)
TOP, TOP_CLASSES, REST = "logits.top", "logits.classes", "logits.rest"  # (N, k), (N, k), (N, 1)


def feature_column(tap: str) -> str:
    """The column of the features at a tap."""
    return f"features/{tap}"


def logits_columns(topk: int) -> list[str]:
    """The columns that logits are stored in."""
    return [TOP, TOP_CLASSES, REST] if topk else [LOGITS]


def encode(
    logits: Tensor, features: Mapping[str, Tensor], *, topk: int = 0, dtype: torch.dtype = torch.float16
) -> dict[str, Tensor]:
    """The columns of a batch, on the CPU.

    Args:
        features: by tap.
        topk: keep the largest k logits of each image, and one number for all others: with it they have the probability
            that they had together, in equal parts (Shen and Xing, "A Fast Knowledge Distillation Framework for Visual
            Recognition", ECCV 2022).

    Errors: UserError where a value does not fit the type.
    """
    if topk:
        top, classes = logits.float().topk(topk, 1)
        others = logits.float().scatter(1, classes, -torch.inf)
        mean = others.logsumexp(1, keepdim=True) - torch.tensor(float(logits.shape[1] - topk)).log()
        values = {TOP: top, REST: mean}
        exact = {TOP_CLASSES: classes.to(torch.int32).cpu()}
    else:
        values, exact = {LOGITS: logits}, {}
    values |= {feature_column(tap): feature for tap, feature in features.items()}
    return exact | {name: _rounded(name, value, dtype) for name, value in values.items()}


def _rounded(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = value.detach().to(dtype)
    if not rounded.isfinite().all():
        raise UserError(
            f"{name} of the teacher holds values that are not finite in {str(dtype).removeprefix('torch.')}: pass "
            "--dtype float32, or check the teacher's weights."
        )
    return rounded.cpu().contiguous()


def decode_logits(columns: Sequence[Tensor], classes: int) -> Tensor:
    """(B, classes) logits in float32, from the columns of `logits_columns` in their order."""
    if len(columns) == 1:
        return columns[0].float()
    top, chosen, rest = columns
    return rest.float().expand(-1, classes).scatter(1, chosen.long(), top.float())


def decode_features(column: Tensor) -> Tensor:
    """Features in float32, in the memory layout that networks use here."""
    if column.dim() == 4:
        return column.to(dtype=torch.float32, memory_format=torch.channels_last)
    return column.float()
