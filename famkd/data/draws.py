"""What is drawn for the augmentation of an epoch, for all images at once, from the seed and the epoch alone."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from famkd.data.augment import RATIO, SCALE, USUAL, Augment
from famkd.data.seeded import seed_of
from famkd.data.transforms import Size

ERASED, ERASED_RATIO = (0.02, 1 / 3), (0.3, 1 / 0.3)  # area and aspect of an erased rectangle, as in timm
TRIES = 10  # rectangles that are drawn until one fits into the image
BINS = {"randaugment": 31, "trivialaugment": 31, "augmix": 10}
OPS = 2  # operations that RandAugment applies in turn
OPERATIONS = (
    "Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
    "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize",
)  # fmt: skip
CHAINS, DEPTH = 3, 3  # chains of AugMix, and operations in the longest

Columns = dict[str, Tensor]  # one row for each image of the epoch, in its order


def crops(augment: Augment, size: Size, images: int, *seed: int) -> Columns:
    """`box` (N, 4): top, left, height and width of a random resized crop."""
    draw = _generator(*seed, 1)
    height, width = size
    low, high = augment.crop_ratio or RATIO
    ratio = (low * width / height, high * width / height)
    tall, wide = _sides(draw, images, size, augment.crop_scale or SCALE, ratio, most=1)
    top = np.floor(draw.random_sample(images) * (height - tall + 1))
    left = np.floor(draw.random_sample(images) * (width - wide + 1))
    return {"box": _floats(np.stack([top, left, tall, wide], 1))}


def colours(augment: Augment, size: Size, images: int, *seed: int) -> Columns:
    """`factor` (N, 3) of brightness, contrast and saturation; and the draws of the policy.

    Of a policy: `op` (numbers in `OPERATIONS`) and `amount` (N, operations); for AugMix also `weight` (N, 1 + CHAINS)
    of the image and of each chain.
    """
    draw = _generator(*seed, 2)
    columns: Columns = {}
    if augment.jitter:
        factors = draw.uniform(1 - augment.jitter, 1 + augment.jitter, (images, 3))
        columns["factor"] = _floats(factors)
    if augment.policy == "none":
        return columns
    table = operations(augment.policy, size)
    shape = (images, {"randaugment": OPS, "trivialaugment": 1, "augmix": CHAINS * DEPTH}[augment.policy])
    row = draw.randint(0, len(table.op), shape)
    strength = np.full(shape, augment.strength or USUAL.get(augment.policy, 0))
    if augment.policy == "trivialaugment":
        strength = draw.randint(0, table.amount.shape[1], shape)
    elif augment.policy == "augmix":
        strength = draw.randint(0, strength)
    negative = table.signed[row] & (draw.random_sample(shape) < 0.5)
    amount = table.amount[row, strength] * np.where(negative, -1.0, 1.0)
    columns |= {"op": torch.from_numpy(table.op[row]), "amount": _floats(amount)}
    if augment.policy == "augmix":
        columns |= _chains(draw, columns["op"], images)
    return columns


def _chains(draw: np.random.RandomState, op: Tensor, images: int) -> Columns:
    """The weights of AugMix's chains, and the operations without those after the end of a chain."""
    length = torch.from_numpy(draw.randint(1, DEPTH + 1, (images, CHAINS, 1)))
    ended = torch.arange(DEPTH) >= length
    op = op.view(images, CHAINS, DEPTH).masked_fill(ended, OPERATIONS.index("Identity")).flatten(1)
    kept = draw.beta(1.0, 1.0, (images, 1))
    weight = np.concatenate([kept, draw.dirichlet([1.0] * CHAINS, images) * (1 - kept)], 1)
    return {"op": op, "weight": _floats(weight)}


class Operations(NamedTuple):
    """The operations of a policy, one a row."""

    op: np.ndarray  # (rows,) numbers in `OPERATIONS`
    amount: np.ndarray  # (rows, strengths)
    signed: np.ndarray  # (rows,) whether the amount is negative half of the time


def operations(policy: str, size: Size) -> Operations:
    """The operations of a policy for images of a size, from torchvision's own table."""
    from torchvision.transforms import v2

    kinds = {"randaugment": v2.RandAugment, "trivialaugment": v2.TrivialAugmentWide, "augmix": v2.AugMix}
    space: dict[str, Any] = kinds[policy]._AUGMENTATION_SPACE
    amount = np.zeros((len(space), BINS[policy]))
    for row, (amounts_of, _) in enumerate(space.values()):
        amounts = amounts_of(BINS[policy], *size)
        if amounts is not None:
            amount[row] = np.asarray(amounts)
    numbers = np.asarray([OPERATIONS.index(name) for name in space])
    return Operations(numbers, amount, np.asarray([signed for _, signed in space.values()]))


def erasures(augment: Augment, size: Size, images: int, *seed: int) -> Columns:
    """`erased` (N, 4): top, left, bottom and right of an erased rectangle, empty where nothing is erased."""
    draw = _generator(*seed, 3)
    height, width = size
    tall, wide = _sides(draw, images, size, ERASED, ERASED_RATIO, most=0)
    top = np.floor(draw.random_sample(images) * (height - tall + 1))
    left = np.floor(draw.random_sample(images) * (width - wide + 1))
    happens = draw.random_sample(images) < augment.erase
    bottom = np.where(happens, top + tall, top)
    return {"erased": _integers(np.stack([top, left, bottom, left + wide], 1))}


def mixtures(augment: Augment, size: Size, steps: int, batch: int, *seed: int) -> Columns:
    """For each step, repeated for its images: `share` of the first image in a mixed one; `blend` of their pixels; and
    `pasted` (N, 4), the rectangle of the second image.

    The share of cutmix is corrected where its rectangle is cut off by the edge of the image, as in timm.
    """
    draw = _generator(*seed, 4)
    cuts = draw.random_sample(steps) < (0.5 if augment.mixup and augment.cutmix else float(augment.cutmix > 0))
    share = np.where(
        cuts,
        draw.beta(augment.cutmix or 1, augment.cutmix or 1, steps),
        draw.beta(augment.mixup or 1, augment.mixup or 1, steps),
    )
    share = np.where(draw.random_sample(steps) < augment.mix_prob, share, 1.0)
    height, width = size
    half_tall, half_wide = (np.floor(side * np.sqrt(1 - share) * cuts) for side in size)
    middle = np.floor(draw.random_sample(steps) * height), np.floor(draw.random_sample(steps) * width)
    top, bottom = _span(middle[0], half_tall, height)
    left, right = _span(middle[1], half_wide, width)
    area = (bottom - top) * (right - left) / (height * width)
    blend = np.where(cuts, 1.0, share)
    columns = {
        "share": _floats(np.where(cuts, 1 - area, share)),
        "blend": _floats(blend),
        "pasted": _integers(np.stack([top, left, bottom, right], 1)),
    }
    return {name: column.repeat_interleave(batch, 0) for name, column in columns.items()}


def _span(middle: np.ndarray, length: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """First position, and the one after the last, of a span around a middle, cut off at the edges."""
    first = np.clip(middle - length // 2, 0, side)
    return first, np.clip(middle + (length + 1) // 2, 0, side)


def _sides(
    draw: np.random.RandomState,
    images: int,
    size: Size,
    scale: tuple[float, ...],
    ratio: tuple[float, ...],
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Height and width of one rectangle in each image: the first of some draws that fits into it.

    Args:
        most: 1 where a side may be as long as the image's, else 0. Where nothing fits, the whole image, or nothing.
    """
    height, width = size
    area = height * width * draw.uniform(scale[0], scale[1], (images, TRIES))
    aspect = np.exp(draw.uniform(np.log(ratio[0]), np.log(ratio[1]), (images, TRIES)))
    tall, wide = np.round(np.sqrt(area / aspect)), np.round(np.sqrt(area * aspect))
    fits = (tall > 0) & (wide > 0) & (tall < height + most) & (wide < width + most)
    first = np.arange(images), fits.argmax(1)
    found = fits[first]
    return np.where(found, tall[first], most * height), np.where(found, wide[first], most * width)


def _generator(*numbers: int) -> np.random.RandomState:
    """A generator whose stream is promised never to change, different for every other tuple of numbers."""
    return np.random.RandomState(seed_of(*numbers) % 2**32)


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float()


def _integers(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).long()
