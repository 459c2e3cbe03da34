"""Half spectra of real maps: products at every frequency, transforms as matrices, and the frequencies of two sizes."""

import torch
from torch import Tensor

Size = tuple[int, int]  # height and width
Modes = tuple[int, int, int]  # rows from frequency 0 up, rows below 0, and columns of a half spectrum


def complex_product(spectrum: Tensor, weight: Tensor) -> Tensor:
    """Complex product of a spectrum (F, 2, B, C) and a weight at every frequency, in real pairs: (B, C_out, F, 2).

    A dense weight (F, C_in, 2, C_out) mixes channels in one batched real matmul. A depthwise one (F, 2, C) scales them.
    """
    f, _, b, c = spectrum.shape
    if weight.ndim == 4:
        mixed = torch.bmm(spectrum.reshape(f, 2 * b, c), weight.flatten(2)).view(f, 2, b, 2, -1)
    else:
        mixed = spectrum[:, :, :, None] * weight[:, None, None]
    from_re, from_im = mixed.unbind(1)
    re = from_re[:, :, 0] - from_im[:, :, 1]
    im = from_re[:, :, 1] + from_im[:, :, 0]
    return torch.stack((re, im), -1).permute(1, 2, 0, 3)


def dft_matrices(h: int, w: int) -> tuple[Tensor, Tensor]:
    """The orthonormal real DFT and its inverse as matrices: (h w, 2 F) and (2 F, h w) with F = h (w // 2 + 1)."""
    pixels = torch.eye(h * w, dtype=torch.float64).view(-1, h, w)
    forward = torch.view_as_real(torch.fft.rfft2(pixels, norm="ortho")).reshape(h * w, -1)
    bins = torch.eye(forward.shape[1], dtype=torch.float64).view(-1, h, w // 2 + 1, 2)
    inverse = torch.fft.irfft2(torch.view_as_complex(bins), s=(h, w), norm="ortho").reshape(-1, h * w)
    return forward.float(), inverse.float()


def shared_modes(map_size: Size, filter_size: Size) -> Modes:
    """How many frequencies two half spectra share: rows from frequency 0 up, rows below 0, and columns."""
    rows = min(map_size[0], filter_size[0])
    cols = min(map_size[1], filter_size[1]) // 2 + 1
    return (rows + 1) // 2, rows // 2, cols


def lowest(half: Tensor, modes: Modes, dim: int) -> Tensor:
    """The lowest frequencies of a half spectrum with rows along `dim`: the first and last rows, the first columns."""
    low, high, cols = modes
    half = half.narrow(dim + 1, 0, cols)
    return torch.cat((half.narrow(dim, 0, low), half.narrow(dim, half.shape[dim] - high, high)), dim)
