"""What a feature is, told from its shape: a map, a map with its channels last, or tokens that fold into a map."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

MOST_PREFIX = 5  # tokens before those of the image: one for the class and four registers


class Layout(NamedTuple):
    """How to read a feature, and the height and width of the map in it (0, 0 where there is none)."""

    kind: Literal["map", "nhwc", "either", "tokens", "other"]
    grid: tuple[int, int]
    prefix: int = 0  # tokens in front of the map's


def layout_of(shape: Sequence[int], image: tuple[int, int] | None, prefix: int | None = None) -> Layout:
    """Layout of a feature of a network that was shown images of a height and width.

    A map keeps the shape of the image up to rounding, so (B, C, H, W) and (B, H, W, C) are told apart by which of
    their sides do; where both do (as many channels as pixels a side) the answer is "either".

    Args:
        image: None where images differ in size: four dimensions are then (B, C, H, W).
        prefix: tokens in front of the image's, where the model tells.
    """
    if image is None or len(shape) not in (3, 4):
        return Layout("map", tuple(shape[2:])) if len(shape) == 4 else Layout("other", (0, 0))
    if len(shape) == 3:
        return _token_layout(shape[1], image, prefix)
    first, last = _fits(*shape[2:], image), _fits(*shape[1:3], image)
    if first:
        return Layout("either" if last else "map", tuple(shape[2:]))
    return Layout("nhwc", tuple(shape[1:3])) if last else Layout("other", (0, 0))


def as_maps(
    feats: Sequence[Tensor], image: tuple[int, int] | None, prefix: int | None = None, channels_last: bool = False
) -> list[Tensor]:
    """Tokens and channels-last maps as maps (B, C, h, w); anything else as it is.

    A feature that reads either way follows the others, or `channels_last`, what the model says of itself.
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
    told = () if prefix is None else (prefix,)
    for skipped in (*told, *range(MOST_PREFIX + 1)):
        n = count - skipped
        height = max(round((max(n, 0) * image[0] / image[1]) ** 0.5), 1)
        if n > 0 and n % height == 0 and _fits(height, n // height, image):
            return Layout("tokens", (height, n // height), skipped)
    return Layout("other", (0, 0))


def _fits(height: int, width: int, image: tuple[int, int]) -> bool:
    """Whether a map of that size has the image's shape, either side rounded by less than a pixel."""
    inside = 0 < height <= image[0] and 0 < width <= image[1]
    return inside and abs(height * image[1] - width * image[0]) < max(image)


def image_size(images) -> tuple[int, int] | None:
    """Height and width of a batch of images, where they share one."""
    return tuple(images.shape[-2:]) if isinstance(images, Tensor) and images.ndim == 4 else None


def says_prefix(model: nn.Module) -> int | None:
    """Tokens that a model of timm puts before those of the image."""
    return getattr(model, "num_prefix_tokens", None)


def says_channels_last(model: nn.Module) -> bool:
    """Whether a model of timm says that its features are (B, H, W, C)."""
    return str(getattr(model, "output_fmt", "")) == "NHWC"


def first_tensor(out) -> Tensor:
    """What a module put out, or the first of several things."""
    return out[0] if isinstance(out, tuple | list) and out else out
