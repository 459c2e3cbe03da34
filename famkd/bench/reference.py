"""A literal implementation of frequency attention, which `famkd bench --against naive` is compared with.

It uses a full complex FFT, a complex filter of the full plane in an einsum, cross attention over unfolded copies, and
images that are decoded and augmented one by one. It is written from the formulas of the paper and computes the same
functions as the fast modules, without their optimizations.
"""

import io
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from famkd.data.small import Images
from famkd.distill.types import Batch
from famkd.layers.fourier import FAM, FourierFilter
from famkd.layers.fusion import CrossAttention, resize


class ReferenceFilter(nn.Module):
    """Re F^-1(mask * K F(x)) with a complex filter K of the full plane, (C_out, C_in, H, W)."""

    mask: Tensor  # (H, W), frequency 0 in the middle

    def __init__(self, c_in: int, c_out: int, size: tuple[int, int], mask: Tensor):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(c_out, c_in, *size, dtype=torch.cfloat) / (c_in * c_out))
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(x, norm="ortho")
        mixed = torch.einsum("bchw,ochw->bohw", spectrum, self.weight)
        shifted = torch.fft.fftshift(mixed, dim=(-2, -1)) * self.mask
        return torch.fft.ifft2(torch.fft.ifftshift(shifted, dim=(-2, -1)), norm="ortho").real


class ReferenceCrossAttention(CrossAttention):
    """Cross attention over nine copies of keys and values in memory."""

    def forward(self, stage: Tensor, deeper: Tensor) -> Tensor:
        b, c, h, w = stage.shape
        q, k, v = self.query(resize(deeper, (h, w))), self.key(stage), self.value(stage)
        rows, cols = torch.arange(9) // 3, torch.arange(9) % 3
        term = torch.cat((self.row_term[rows], self.column_term[cols]), 1).t()
        keys = F.unfold(k, 3, padding=1).view(b, c, 9, h, w) + term[None, :, :, None, None]
        values = F.unfold(v, 3, padding=1).view(b, c, 9, h, w)
        weights = (q[:, :, None] * keys).softmax(2)
        return (weights * values).sum(2)


def use_reference(module: nn.Module) -> nn.Module:
    """Replace every dense filter and cross attention inside a module by its reference implementation, in place.

    Filters get new random weights; cross attention keeps its own.
    """
    for child in list(module.modules()):
        if isinstance(child, FAM) and isinstance(child.filter, FourierFilter) and child.filter.kind == "dense":
            child.add_module("filter", _reference_filter(child.filter))
        for name, grandchild in list(child.named_children()):
            if type(grandchild) is CrossAttention:
                child.add_module(name, _reference_attention(grandchild))
    return module


def _reference_filter(fast: FourierFilter) -> ReferenceFilter:
    """A filter of the same high-pass, whose gain is extended from the half spectrum to the full plane."""
    h, w = fast.size
    half = fast.get_buffer("gain")
    columns = half.shape[1]
    mirrored = half[:, 1 : w - columns + 1].flip(1)
    full = torch.cat((half, mirrored), 1).cpu()
    return ReferenceFilter(fast.c_in, fast.c_out, (h, w), torch.fft.fftshift(full)).to(fast.weight.device)


def _reference_attention(fast: CrossAttention) -> ReferenceCrossAttention:
    reference = ReferenceCrossAttention(fast.query.in_channels).to(fast.row_term.device)
    reference.load_state_dict(fast.state_dict())
    return reference


class ReferenceLoader:
    """Images kept as encoded files, decoded with PIL and augmented one by one, as usual loaders do."""

    def __init__(self, images: Images, batch_size: int, device: torch.device):
        from PIL import Image
        from torchvision.transforms import v2

        self.batch_size, self.device, self.labels = batch_size, device, images.y_train
        self.files: list[bytes] = []
        for pixels in images.x_train:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "png", compress_level=1)
            self.files.append(file.getvalue())
        height, width = images.x_train.shape[1:3]
        steps: list[nn.Module] = [v2.RandomCrop((height, width), padding=images.pad)]
        if images.flip:
            steps.append(v2.RandomHorizontalFlip())
        steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(images.mean, images.std)]
        self.transform = v2.Compose(steps)

    def __iter__(self) -> Iterator[Batch]:
        order = np.random.permutation(len(self.files))
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            index = order[start : start + self.batch_size]
            images = torch.stack([self._image(place) for place in index])
            labels, places = torch.from_numpy(self.labels[index]), torch.from_numpy(index)
            yield Batch(images.to(self.device), labels.to(self.device), places.to(self.device))

    def _image(self, place: int) -> Tensor:
        from PIL import Image

        return self.transform(Image.open(io.BytesIO(self.files[place])).convert("RGB"))
