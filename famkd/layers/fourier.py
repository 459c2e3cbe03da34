"""Frequency attention: a learned filter over the spectrum of a feature map, beside a 1x1 convolution.

The input is real and only the real part of the output is kept, so the Hermitian half of a filter is all that
acts. That half is stored as real pairs: half the memory of the full plane, and no complex parameter for DDP,
autocast or safetensors to stumble over.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn

from famkd.layers.highpass import HighPass, highpass_gain, self_conjugate_columns
from famkd.layers.released import official_draw, official_slope

FilterKind = Literal["dense", "separable", "lowrank"]
Branch = Literal["both", "global", "local"]
Init = Literal["balanced", "zero", "official"]

# Up to this many pixels the DFT as one matrix product beats an FFT library (benchmarks/spectral.py prints it). A rule
# fixed per device, not a stopwatch at start-up: a run and its resumption must take the same path to the last bit.
MATRIX_PIXELS_CPU, MATRIX_PIXELS_CUDA = 64, 1024


@dataclass(frozen=True)
class FilterOptions:
    """Options of a frequency attention module, and of the methods that are built from such modules.

    Args:
        branch: what FAM adds up: the global filter, the local 1x1 convolution, or both.
        highpass: which low frequencies the global filter drops: ideal, butterworth or gaussian (centred, at least the
            mean), none, or official (the released code's window, empty below 20 px).
        cutoff: radius of the high-pass as a fraction of the Nyquist frequency.
        order: steepness of the butterworth high-pass.
        init: how the global filter starts: zero (all that is seen later was learned), balanced (noise as strong as the
            local branch) or official (the released code's draw); with branch global, zero means balanced.
        filter: dense (every channel pair, every frequency), separable, or lowrank.
        rank: channels inside a lowrank filter.
        grid: largest side of a filter; a larger map is filtered in its lowest grid x grid frequencies. 0: no limit.
    """

    branch: Branch = "both"
    highpass: HighPass = "ideal"
    cutoff: Annotated[float, Ge(0)] = 0.1
    order: Annotated[int, Ge(1)] = 2
    init: Init = "zero"
    filter: FilterKind = "dense"
    rank: Annotated[int, Ge(1)] = 16
    grid: Annotated[int, Ge(0)] = 0


class FourierFilter(nn.Module):
    """A learned filter K over the spectrum of (B, C_in, H, W) maps: Re F^-1(highpass * K F(x)), (B, C_out, H, W).

    Every frequency sees every pixel, so each output pixel attends to the whole map.

    Args:
        c_in, c_out: channels before and after.
        size: (h, w) of the filter. On a larger map only its lowest h x w frequencies are kept; on a smaller one
            the filter's highest frequencies are idle.
        filter: `dense` mixes channels at every frequency, C_in C_out h w real numbers; `separable` filters each
            channel, then mixes; `lowrank` mixes down to `rank` channels, filters them, mixes up.
        init: `zero` starts from no filter at all, so that whatever is seen later was learned; `balanced` gives it the
            variance of a default 1x1 convolution on white input; `official` is the released code's all-positive draw,
            and its gradient scale, so that SGD follows the same trajectory.

    Shapes: dense `weight` (h, w // 2 + 1, C_in, 2, C_out), the 2 being (re, im), ready for one real batched product;
    otherwise `weight` (h, w // 2 + 1, 2, R), `up` (C_out, R) and, low-rank only, `down` (R, C_in).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: tuple[int, int],
        *,
        filter: FilterKind = "dense",
        rank: int = 16,
        init: Init = "balanced",
        highpass: HighPass = "ideal",
        cutoff: float = 0.1,
        order: int = 2,
    ):
        super().__init__()
        self.c_in, self.c_out, self.size, self.kind = c_in, c_out, tuple(size), filter
        self.register_buffer("gain", highpass_gain(highpass, size, cutoff, order))
        self.register_buffer("slope", None, persistent=False)
        self.options = {"init": init, "highpass": highpass, "cutoff": cutoff, "order": order}
        self.up = self.down = None
        if init == "official" and filter != "dense":
            raise ValueError(f"init official is defined for the dense filter only, not for {filter}")
        if filter == "dense":
            k = official_draw(c_in, c_out, size, highpass, cutoff) if init == "official" else _white(c_out, c_in, size)
            self.weight = nn.Parameter(torch.view_as_real(k).permute(2, 3, 1, 4, 0).contiguous())
        elif filter in ("separable", "lowrank"):
            rank = c_in if filter == "separable" else min(rank, c_in, c_out)
            unit = torch.fft.rfft2(torch.randn(rank, *size), norm="ortho")
            self.weight = nn.Parameter(torch.view_as_real(unit).permute(1, 2, 3, 0).contiguous())
            self.up = nn.Parameter(torch.randn(c_out, rank) / (3 * rank) ** 0.5)
            if filter == "lowrank":
                self.down = nn.Parameter(torch.randn(rank, c_in) / c_in**0.5)
        else:
            raise ValueError(f"unknown filter {filter!r}: dense, separable or lowrank")
        if init == "zero":
            nn.init.zeros_(self.weight)
        elif init == "official":
            self.slope = official_slope(size, highpass, cutoff)
        h, w = self.size
        if h * w <= (MATRIX_PIXELS_CUDA if torch.cuda.is_available() else MATRIX_PIXELS_CPU):
            forward, inverse = dft_matrices(h, w)
            self.register_buffer("dft", forward, persistent=False)
            self.register_buffer("idft", inverse, persistent=False)
        else:
            self.dft = self.idft = None

    def forward(self, x: Tensor) -> Tensor:
        kept, size = x.dtype, tuple(x.shape[-2:])
        with torch.autocast(x.device.type, enabled=False):  # FFTs know no half precision beyond powers of two
            x = x.float() if self.down is None else torch.einsum("bchw,rc->brhw", x.float(), self.down)
            weight, gain, shared = self._sloped(self.weight), self.gain, None
            if size != self.size:
                shared = shared_modes(size, self.size)
                weight, gain = (_lowest(each, *shared, 0) for each in (weight, gain))
            spectrum = self._analyse(x, shared) * gain.reshape(-1, 1, 1, 1)
            y = self._synthesise(_product(spectrum, weight.flatten(0, 1)), size, shared)
            if self.up is not None:
                y = torch.einsum("brhw,or->bohw", y, self.up)
        return y.to(kept)

    def _by_matrix(self, x: Tensor, shared: tuple[int, int, int] | None) -> bool:
        return shared is None and self.dft is not None and (x.is_cuda or len(self.dft) <= MATRIX_PIXELS_CPU)

    def _analyse(self, x: Tensor, shared: tuple[int, int, int] | None) -> Tensor:
        """Map (B, C, H, W) to the modes that the filter holds, frequency first: (F, 2, B, C)."""
        b, c = x.shape[:2]
        if self._by_matrix(x, shared):
            return (x.reshape(b * c, -1) @ self.dft).view(b, c, -1, 2).permute(2, 3, 0, 1)
        spectrum = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))
        if shared:
            spectrum = _lowest(spectrum, *shared, 2)
        return spectrum.flatten(2, 3).permute(2, 3, 0, 1)

    def _synthesise(self, pairs: Tensor, size: tuple[int, int], shared: tuple[int, int, int] | None) -> Tensor:
        """Modes (B, C, F, 2) back to a map (B, C, H, W); frequencies that the filter does not hold are zero."""
        (b, c), (h, w) = pairs.shape[:2], size
        if self._by_matrix(pairs, shared):
            return (pairs.reshape(b * c, -1) @ self.idft).view(b, c, h, w)
        if shared:
            low, high, cols = shared
            held, pairs = pairs.reshape(b, c, low + high, cols, 2), pairs.new_zeros(b, c, h, w // 2 + 1, 2)
            pairs[:, :, :low, :cols], pairs[:, :, h - high :, :cols] = held[:, :, :low], held[:, :, low:]
        else:
            pairs = pairs.reshape(b, c, h, w // 2 + 1, 2)
        return torch.fft.irfft2(torch.view_as_complex(pairs.contiguous()), s=size, norm="ortho")

    def _sloped(self, weight: Tensor) -> Tensor:
        """The weight, its gradient scaled as the released full-plane storage scales it (`init: official` only)."""
        if self.slope is None:
            return weight
        slope = self.slope.view(*self.slope.shape, 1, 1, 1)
        return weight * slope + (weight * (1 - slope)).detach()

    @torch.no_grad()
    def response(self) -> Tensor:
        """What the filter does to each frequency, high-pass included: complex (C_out, C_in, h, w // 2 + 1).

        The columns that hold both signs of a frequency are projected on their Hermitian part, which is all that acts.
        """
        weight = self.weight.float()
        if self.kind == "dense":
            k = torch.complex(weight[..., 0, :], weight[..., 1, :]).permute(3, 2, 0, 1)
        else:
            parts = torch.complex(weight[..., 0, :], weight[..., 1, :])
            down = torch.eye(self.c_in, device=parts.device) if self.down is None else self.down.float()
            k = torch.einsum("or,hwr,rc->ochw", self.up.to(parts), parts, down.to(parts))
        k = k * self.gain
        for column in self_conjugate_columns(self.size[1]):
            mirror = k[..., column].flip(-1).roll(1, -1).conj()
            k[..., column] = (k[..., column] + mirror) / 2
        return k

    def describe(self) -> dict[str, object]:
        return {"filter": self.kind, "size": list(self.size), "channels": [self.c_in, self.c_out], **self.options}

    @torch.no_grad()
    def summary(self) -> dict[str, Tensor]:
        """A small picture of the filter for one epoch: RMS amplitude per frequency and energy per channel pair."""
        power = self.response().abs().square()
        twice = torch.full_like(self.gain, 2.0)  # an interior column stands for both signs of its frequency
        twice[:, self_conjugate_columns(self.size[1])] = 1
        return {"amplitude": power.mean((0, 1)).sqrt(), "energy": (power * twice).sum((2, 3)) / twice.sum()}


def _product(spectrum: Tensor, weight: Tensor) -> Tensor:
    """Complex product in real pairs at every frequency: (F, 2, B, C) with a weight to (B, C_out, F, 2).

    A dense weight (F, C_in, 2, C_out) mixes channels in one batched real matmul, a depthwise one (F, 2, C) scales them.
    """
    f, _, b, c = spectrum.shape
    if weight.ndim == 4:
        mixed = torch.bmm(spectrum.reshape(f, 2 * b, c), weight.flatten(2)).view(f, 2, b, 2, -1)
    else:
        mixed = spectrum[:, :, :, None] * weight[:, None, None]
    from_re, from_im = mixed.unbind(1)
    pairs = torch.stack((from_re[:, :, 0] - from_im[:, :, 1], from_re[:, :, 1] + from_im[:, :, 0]), -1)
    return pairs.permute(1, 2, 0, 3)


def dft_matrices(h: int, w: int) -> tuple[Tensor, Tensor]:
    """The orthonormal real DFT and its inverse as matrices: (h w, 2 F) and (2 F, h w) with F = h (w // 2 + 1)."""
    pixels = torch.eye(h * w, dtype=torch.float64).view(-1, h, w)
    forward = torch.view_as_real(torch.fft.rfft2(pixels, norm="ortho")).reshape(h * w, -1)
    bins = torch.eye(forward.shape[1], dtype=torch.float64).view(-1, h, w // 2 + 1, 2)
    inverse = torch.fft.irfft2(torch.view_as_complex(bins), s=(h, w), norm="ortho").reshape(-1, h * w)
    return forward.float(), inverse.float()


def shared_modes(map_size: tuple[int, int], filter_size: tuple[int, int]) -> tuple[int, int, int]:
    """Of the frequencies in both half spectra: rows of those from 0 up, rows of those below 0, and columns."""
    (h, w), (fh, fw) = map_size, filter_size
    n = min(h, fh)
    return (n + 1) // 2, n // 2, min(w, fw) // 2 + 1


def _lowest(half: Tensor, low: int, high: int, cols: int, dim: int) -> Tensor:
    """The lowest frequencies of a half spectrum whose rows are `dim`: first and last rows, first columns."""
    half = half.narrow(dim + 1, 0, cols)
    return torch.cat((half.narrow(dim, 0, low), half.narrow(dim, half.shape[dim] - high, high)), dim)


def _white(c_out: int, c_in: int, size: tuple[int, int]) -> Tensor:
    """Zero-mean Hermitian noise with E|K|^2 = 1 / (3 C_in), the variance of a default 1x1 convolution's weights."""
    return torch.fft.rfft2(torch.randn(c_out, c_in, *size), norm="ortho") / (3 * c_in) ** 0.5


class FAM(nn.Module):
    """Frequency attention module: gamma_1 F_global + gamma_2 F_local, (B, C_in, H, W) to (B, C_out, H, W).

    F_global is a `FourierFilter`, F_local a 1x1 convolution. A 1x1 map has a mean and no frequency: only the local
    branch runs there, unless `highpass` is official. Source: Pham et al., WACV 2024.
    """

    def __init__(
        self, c_in: int, c_out: int, size: tuple[int, int], *, branch: Branch = "both", grid: int = 0, **options
    ):
        super().__init__()
        if branch not in ("both", "global", "local"):
            raise ValueError(f"unknown branch {branch!r}: both, global or local")
        point = tuple(size) == (1, 1) and options.get("highpass") != "official"
        use_global, use_local = branch != "local" and not point, branch != "global" or point
        size = tuple(min(n, grid) if grid else n for n in size)
        if not use_local and options.get("init") == "zero":
            options["init"] = "balanced"  # nothing at all would be left to normalise
        self.filter = FourierFilter(c_in, c_out, size, **options) if use_global else None
        self.local = nn.Conv2d(c_in, c_out, 1) if use_local else None
        self.gamma = nn.Parameter(torch.full((2 if use_global and use_local else 1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        branches = [branch(x) for branch in (self.filter, self.local) if branch is not None]
        return sum(g * y for g, y in zip(self.gamma, branches, strict=True))
