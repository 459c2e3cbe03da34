"""The literal formulation of frequency attention: what `famkd bench --against naive` measures against.

A full complex FFT, a full-plane complex filter in an einsum, cross attention over unfolded copies, images decoded and
augmented one by one. Written from the paper's formulas; the same function as the fast modules, none of their tricks.
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
from famkd.layers.fusion import CrossAttention


class NaiveFilter(nn.Module):
    """Re F^-1(mask * K F(x)) with a full-plane complex filter (C_out, C_in, H, W)."""

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
    """Cross attention over nine materialised copies of keys and values."""

    def forward(self, stage: Tensor, deeper: Tensor) -> Tensor:
        b, c, h, w = stage.shape
        q, k, v = self.query(deeper), self.key(stage), self.value(stage)
        rows, cols = torch.arange(9) // 3, torch.arange(9) % 3
        term = torch.cat((self.row_term[rows], self.column_term[cols]), 1).t()
        keys = F.unfold(k, 3, padding=1).view(b, c, 9, h, w) + term[None, :, :, None, None]
        values = F.unfold(v, 3, padding=1).view(b, c, 9, h, w)
        return ((q[:, :, None] * keys).softmax(2) * values).sum(2)


def reference_modules(module: nn.Module) -> nn.Module:
    """Replace every dense filter and cross attention inside a module by its literal form, in place."""
    for child in list(module.modules()):
        if isinstance(child, FAM) and isinstance(child.filter, FourierFilter) and child.filter.kind == "dense":
            f = child.filter
            full = torch.zeros(f.size)
            half = f.gain
            full[:, : half.shape[1]] = half
            full[:, half.shape[1] :] = half[:, 1 : f.size[1] - half.shape[1] + 1].flip(1)
            child.filter = NaiveFilter(f.c_in, f.c_out, f.size, torch.fft.fftshift(full)).to(f.weight.device)
        for name, grandchild in list(child.named_children()):
            if type(grandchild) is CrossAttention:
                naive = ReferenceCrossAttention(grandchild.query.in_channels).to(grandchild.row_term.device)
                naive.load_state_dict(grandchild.state_dict())
                setattr(child, name, naive)
    return module


class ReferenceLoader:
    """Images kept as encoded files, decoded with PIL and augmented one by one, as the field's loaders do."""

    def __init__(self, images: Images, batch_size: int, device: torch.device):
        from PIL import Image
        from torchvision.transforms import v2

        self.batch_size, self.device, self.labels = batch_size, device, images.y_train
        self.files = []
        for pixels in images.x_train:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "png", compress_level=1)
            self.files.append(file.getvalue())
        flip = [v2.RandomHorizontalFlip()] if images.flip else []
        size = images.x_train.shape[1:3]
        self.transform = v2.Compose([
            v2.RandomCrop(size, padding=images.pad), *flip, v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(images.mean, images.std),
        ])  # fmt: skip

    def __iter__(self) -> Iterator[Batch]:
        from PIL import Image

        order = np.random.permutation(len(self.files))
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            index = order[start : start + self.batch_size]
            x = torch.stack([self.transform(Image.open(io.BytesIO(self.files[i])).convert("RGB")) for i in index])
            y, index = torch.from_numpy(self.labels[index]), torch.from_numpy(index)
            yield Batch(x.to(self.device), y.to(self.device), index.to(self.device))
