"""Read the layout of a feature from its shape: a map, a map with channels last, or tokens that fold into a map."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

MOST_PREFIX = 5  # tokens in front of those of the image: one for the class and four registers


class Layout(NamedTuple):
    """How to read a feature, and the height and width of the map in it; (0, 0) if there is none."""

    kind: Literal["map", "nhwc", "either", "tokens", "other"]
    grid: tuple[int, int]
    prefix: int = 0  # tokens in front of those of the map


NO_MAP = Layout("other", (0, 0))


def layout_of(shape: Sequence[int], image: tuple[int, int] | None, prefix: int | None = None) -> Layout:
    """Layout of a feature with a shape, in a network that was given images of a height and width.

    A map has the aspect ratio of the image up to rounding, so (B, C, H, W) and (B, H, W, C) are distinguished by the
    sides that have it. If both do (as many channels as pixels per side), the kind is "either".

    Args:
        image: None if images differ in size. Four dimensions are then (B, C, H, W).
        prefix: number of tokens in front of those of the image, if the model names it.
    """
    if image is None:
        return Layout("map", (shape[2], shape[3])) if len(shape) == 4 else NO_MAP
    if len(shape) == 3:
        return _token_layout(shape[1], image, prefix)
    if len(shape) != 4:
        return NO_MAP
    channels_first, channels_last = (shape[2], shape[3]), (shape[1], shape[2])
    if _fits(channels_first, image):
        kind = "either" if _fits(channels_last, image) else "map"
        return Layout(kind, channels_first)
    return Layout("nhwc", channels_last) if _fits(channels_last, image) else NO_MAP


def as_maps(
    feats: Sequence[Tensor], image: tuple[int, int] | None, prefix: int | None = None, channels_last: bool = False
) -> list[Tensor]:
    """Convert tokens and channels-last maps to maps (B, C, h, w). Other features are returned unchanged.

    A feature that can be read either way is read as the others are. If none decides, `channels_last` does.
    """
    layouts = [layout_of(feat.shape, image, prefix) for feat in feats]
    channels_last = channels_last or any(layout.kind == "nhwc" for layout in layouts)
    return [_as_map(feat, layout, channels_last) for feat, layout in zip(feats, layouts)]


def _as_map(feat: Tensor, layout: Layout, channels_last: bool) -> Tensor:
    if layout.kind == "tokens":
        return feat[:, layout.prefix :].transpose(1, 2).unflatten(2, layout.grid)
    if layout.kind == "nhwc" or (layout.kind == "either" and channels_last):
        return feat.permute(0, 3, 1, 2)
    return feat


def _token_layout(count: int, image: tuple[int, int], prefix: int | None) -> Layout:
    """Layout of `count` tokens: the first number of prefix tokens that leaves a map with the image's aspect ratio."""
    candidates = list(range(MOST_PREFIX + 1))
    if prefix is not None:
        candidates.insert(0, prefix)
    for skipped in candidates:
        left = count - skipped
        if left <= 0:
            continue
        height = max(round((left * image[0] / image[1]) ** 0.5), 1)
        grid = (height, left // height)
        if left % height == 0 and _fits(grid, image):
            return Layout("tokens", grid, skipped)
    return NO_MAP


def _fits(grid: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether a map of that height and width has the image's aspect ratio, with each side rounded by under a pixel."""
    height, width = grid
    inside = 0 < height <= image[0] and 0 < width <= image[1]
    return inside and abs(height * image[1] - width * image[0]) < max(image)


def image_size(images: object) -> tuple[int, int] | None:
    """Height and width of a batch of images (B, C, H, W); None for images of several sizes."""
    if isinstance(images, Tensor) and images.ndim == 4:
        return images.shape[2], images.shape[3]
    return None


def says_prefix(model: nn.Module) -> int | None:
    """The number of tokens that a model of timm puts in front of those of the image."""
    prefix: Any = getattr(model, "num_prefix_tokens", None)
    return prefix


def says_channels_last(model: nn.Module) -> bool:
    """Whether a model of timm declares that its features are (B, H, W, C)."""
    return str(getattr(model, "output_fmt", "")) == "NHWC"


def first_tensor(out: Any, batch: int | None = None) -> Any:
    """The output of a module; of several, the first tensor with a row for each image, or else the first item."""
    several = list(out.values()) if isinstance(out, Mapping) else out
    if not isinstance(several, tuple | list) or not several:
        return out
    rows = [each for each in several if isinstance(each, Tensor) and each.ndim and each.shape[0] == batch]
    return (rows or several)[0]


def in_image_order(model: nn.Module, tap: str, feat: Tensor) -> Tensor:
    """Tokens of a block of timm's Hiera as a map (B, H, W, C). Hiera keeps them in the order of its mask units."""
    block = re.fullmatch(r"blocks\.(\d+)", tap)
    reroll: Any = getattr(model, "reroll", None)
    return reroll(feat, int(block[1])) if block and reroll is not None and feat.ndim == 3 else feat
