"""Crops, colours and random policies for a whole batch at once, each image with its own draws.

Torchvision's transforms take one image, or one draw for a whole batch. These run on the device inside a training step,
so they read no values back and index with tensors only. Pixels are floats of whole numbers from 0 to 255, and are cut
to whole numbers after each operation, as torchvision does with bytes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from famkd.data.draws import CHAINS, DEPTH, OPERATIONS

WHITE = 255.0


def resized_crop(pixels: Tensor, box: Tensor) -> Tensor:
    """Cut a box out of each image and scale it to the size of the image, bilinearly.

    Args:
        pixels: (B, C, H, W).
        box: (B, 4), top, left, height and width.
    """
    height, width = pixels.shape[2:]
    top, left, tall, wide = box[:, :, None].unbind(1)
    rows = _places(height, tall, top, pixels)
    columns = _places(width, wide, left, pixels)
    grid = torch.stack(torch.broadcast_tensors(columns[:, None, :], rows[:, :, None]), -1)
    return F.grid_sample(pixels, grid, align_corners=False).round_()


def _places(side: int, length: Tensor, start: Tensor, pixels: Tensor) -> Tensor:
    """(B, side) positions along one side that a crop is read from, for `grid_sample`: from -1 to 1."""
    centres = torch.arange(side, device=pixels.device) + 0.5
    places = start + (centres * length / side - 0.5).clamp(min=0).minimum(length - 1)
    return (2 * places + 1) / side - 1


def jittered(pixels: Tensor, factor: Tensor) -> Tensor:
    """Multiply brightness, contrast and saturation, in this order, by the factors (B, 3) of each image."""
    brightness, contrast, saturation = factor[:, :, None, None, None].unbind(1)
    pixels = _blend(pixels, torch.zeros_like(pixels), brightness)
    pixels = _blend(pixels, _grey(pixels).mean((1, 2, 3), keepdim=True), contrast)
    return _blend(pixels, _grey(pixels), saturation)


def in_turn(pixels: Tensor, op: Tensor, amount: Tensor) -> Tensor:
    """Apply the operations (B, n) of each image, one after the other."""
    for number in range(op.shape[1]):
        pixels = operate(pixels, op[:, number], amount[:, number])
    return pixels


def augmix(pixels: Tensor, op: Tensor, amount: Tensor, weight: Tensor) -> Tensor:
    """AugMix: the weighted sum of each image and of some chains of operations on it.

    Args:
        op, amount: (B, CHAINS * DEPTH); weight: (B, 1 + CHAINS).
    """
    shares = weight[:, :, None, None, None]
    mixed = pixels * shares[:, 0]
    for chain in range(CHAINS):
        part = slice(chain * DEPTH, (chain + 1) * DEPTH)
        mixed = mixed + in_turn(pixels, op[:, part], amount[:, part]) * shares[:, chain + 1]
    return mixed.floor()


def operate(pixels: Tensor, op: Tensor, amount: Tensor) -> Tensor:
    """Apply to each image (B, 3, H, W) the operation with its number in `OPERATIONS`, by an amount (B,)."""
    from torchvision.transforms.v2 import functional

    kind, by = op[:, None, None, None], amount[:, None, None, None]
    whole = pixels.to(torch.uint8)
    out = _moved(pixels, kind, by)
    out = torch.where(_is(kind, "Brightness", "Color", "Contrast", "Sharpness"), _recoloured(pixels, kind, by), out)
    step = torch.exp2(8 - by)
    out = torch.where(_is(kind, "Posterize"), torch.div(pixels, step, rounding_mode="floor") * step, out)
    out = torch.where(_is(kind, "Solarize") & (pixels >= WHITE * by), WHITE - pixels, out)
    out = torch.where(_is(kind, "AutoContrast"), functional.autocontrast_image(whole).float(), out)
    return torch.where(_is(kind, "Equalize"), functional.equalize_image(whole).float(), out)


def _is(kind: Tensor, *names: str) -> Tensor:
    """Whether an image's operation is one of some that are next to each other in `OPERATIONS`."""
    first = OPERATIONS.index(names[0])
    return (kind >= first) & (kind < first + len(names))


def _moved(pixels: Tensor, kind: Tensor, by: Tensor) -> Tensor:
    """Shear, shift and rotate, with black where nothing was; other images stay."""
    height, width = pixels.shape[2:]
    kind, by = kind[:, :, :, 0], by[:, :, :, 0]  # (B, 1, 1)
    shear_x, shear_y, shift_x, shift_y, turn = (
        torch.where(_is(kind, name), by, 0) for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
    )
    x = torch.arange(width, device=pixels.device) + 0.5 - width / 2
    y = (torch.arange(height, device=pixels.device) + 0.5 - height / 2)[:, None]
    cos, sin = turn.deg2rad().cos(), turn.deg2rad().sin()
    columns = cos * x - sin * y + shear_x * (y + height / 2) - shift_x.trunc()
    rows = sin * x + cos * y + shear_y * (x + width / 2) - shift_y.trunc()
    grid = torch.stack((columns * 2 / width, rows * 2 / height), -1)
    return F.grid_sample(pixels, grid, mode="nearest", align_corners=False)


def _recoloured(pixels: Tensor, kind: Tensor, by: Tensor) -> Tensor:
    """Blend each image with black, with its grey form, with its mean grey, or with its blurred form."""
    grey = _grey(pixels)
    other = torch.where(_is(kind, "Color"), grey, torch.zeros_like(pixels))
    other = torch.where(_is(kind, "Contrast"), grey.mean((1, 2, 3), keepdim=True), other)
    other = torch.where(_is(kind, "Sharpness"), _blurred(pixels), other)
    return _blend(pixels, other, 1 + by)


def _blend(pixels: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return (pixels * share + other * (1 - share)).clamp(0, WHITE).floor()


def _grey(pixels: Tensor) -> Tensor:
    """(B, 1, H, W) brightness as the eye sees it."""
    red, green, blue = pixels.unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).floor()[:, None]


def _blurred(pixels: Tensor) -> Tensor:
    """The mean of nine pixels in which the middle one counts five times; pixels at the edge stay."""
    if min(pixels.shape[2:]) <= 2:
        return pixels
    sums = F.avg_pool2d(pixels, 3, 1, divisor_override=1) + 4 * pixels[:, :, 1:-1, 1:-1]
    inner = F.pad((sums / 13).round(), (1, 1, 1, 1))
    edge = F.pad(torch.zeros_like(sums), (1, 1, 1, 1), value=1.0)
    return torch.where(edge > 0, pixels, inner)
