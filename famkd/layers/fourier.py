"""Frequency attention: a learned filter over the spectrum of a feature map, and a 1x1 convolution next to it.

The input is real and only the real part of the output is kept, so only the Hermitian half of a filter acts. That half
is stored as real pairs. It needs half the memory of the full plane, and DDP, autocast and safetensors, which handle
complex parameters badly, see only real ones.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, Literal, get_args

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from famkd.errors import either
from famkd.layers import native
from famkd.layers.filter_summary import summarised
from famkd.layers.half_spectrum import Modes, Size, complex_product, dft_matrices, lowest, shared_modes
from famkd.layers.highpass import HighPass, highpass_gain, self_conjugate_columns
from famkd.layers.released import official_draw, official_slope

FilterKind = Literal["dense", "separable", "lowrank"]
Branch = Literal["both", "global", "local"]
Init = Literal["balanced", "zero", "official"]

# Up to this many pixels the DFT as one matrix product is faster than an FFT library (benchmarks/spectral.py measures
# it). The limit is fixed per device and not timed at start-up: a resumed run must compute the same to the last bit.
MATRIX_PIXELS_CPU, MATRIX_PIXELS_CUDA = 64, 1024


@dataclass(frozen=True)
class FilterOptions:
    """Options of a frequency attention module, and of the methods that are built from such modules.

    Args:
        branch: branches of FAM: the global filter, the local 1x1 convolution, or the sum of both.
        highpass: which low frequencies the global filter removes: ideal, butterworth or gaussian (centred, they remove
            at least the mean), none, or official (the window of the released code, empty below 20 px).
        cutoff: radius of the high-pass as a fraction of the Nyquist frequency.
        order: steepness of the butterworth high-pass.
        init: initial global filter: zero (a later filter shows only what was learned), balanced (noise with the
            variance of the local branch) or official (as the released code draws it). With branch global, zero means
            balanced.
        filter: dense (one weight per channel pair and frequency), separable or lowrank.
        rank: number of channels inside a lowrank filter.
        grid: largest side of a filter. Of a larger map the lowest grid x grid frequencies are filtered. 0: no limit.
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
    """A learned filter K over the spectrum of maps: Re F^-1(highpass * K F(x)), (B, C_in, H, W) to (B, C_out, H, W).

    Every frequency depends on every pixel, so each output pixel attends to the whole map.

    Args:
        c_in, c_out: channels of the input and of the output.
        size: (h, w) of the filter. Of a larger map only the lowest h x w frequencies are kept. On a smaller map the
            filter's highest frequencies are not used.
        filter: `dense` mixes channels at every frequency, with C_in C_out h w real numbers; `separable` filters each
            channel, then mixes; `lowrank` mixes down to `rank` channels, filters them, then mixes up.
        init: `zero` starts with a filter of zeros, so that a later filter shows only what was learned. `balanced` has
            the variance of a default 1x1 convolution on white input. `official` draws as the released code does, all
            positive, and scales gradients as its full-plane storage does, so that SGD follows the same trajectory.

    Shapes: dense `weight` (h, w // 2 + 1, C_in, 2, C_out), the 2 being (re, im), ready for one real batched product;
    otherwise `weight` (h, w // 2 + 1, 2, R), `up` (C_out, R) and, low-rank only, `down` (R, C_in).
    """

    gain: Tensor
    slope: Tensor | None
    dft: Tensor | None
    idft: Tensor | None

    def __init__(
        self,
        c_in: int,
        c_out: int,
        size: Size,
        *,
        filter: FilterKind = "dense",
        rank: int = 16,
        init: Init = "balanced",
        highpass: HighPass = "ideal",
        cutoff: float = 0.1,
        order: int = 2,
    ):
        super().__init__()
        self.c_in, self.c_out, self.kind = c_in, c_out, filter
        self.size: Size = (size[0], size[1])
        self.register_buffer("gain", highpass_gain(highpass, size, cutoff, order))
        self.register_buffer("slope", None, persistent=False)
        self.options = {"init": init, "highpass": highpass, "cutoff": cutoff, "order": order}
        self.up: nn.Parameter | None = None
        self.down: nn.Parameter | None = None
        if init not in get_args(Init):
            raise ValueError(f"unknown init {init!r}: {either(get_args(Init))}")
        if init == "official" and filter != "dense":
            raise ValueError(f"init official is defined for the dense filter only, not for {filter}")
        if filter == "dense":
            is_official = init == "official"
            k = official_draw(c_in, c_out, size, highpass, cutoff) if is_official else _white(c_out, c_in, size)
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
        self._keep_dft_matrices()

    def _keep_dft_matrices(self) -> None:
        h, w = self.size
        most = MATRIX_PIXELS_CUDA if torch.cuda.is_available() else MATRIX_PIXELS_CPU
        forward, inverse = dft_matrices(h, w) if h * w <= most else (None, None)
        self.register_buffer("dft", forward, persistent=False)
        self.register_buffer("idft", inverse, persistent=False)

    def forward(self, x: Tensor, factor: Tensor | None = None) -> Tensor:
        """The filtered maps, times a factor if there is one."""
        dtype = x.dtype
        size = (x.shape[2], x.shape[3])
        # FFTs have no half precision except for powers of two
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if self.down is not None:
                x = torch.einsum("bchw,rc->brhw", x, self.down)
            weight, gain, shared = self._sloped(self.weight), self.gain, None
            if factor is not None:
                weight = factor * weight
            if size != self.size:
                shared = shared_modes(size, self.size)
                weight, gain = lowest(weight, shared, 0), lowest(gain, shared, 0)
            if shared is None and native.takes(x) and max(size) <= native.LONGEST_SIDE:
                y = native.waves(native.complex_product(native.spectrum(x, gain), weight.flatten(0, 1)), size)
            else:
                spectrum = self._analyse(x, shared) * gain.reshape(-1, 1, 1, 1)
                y = self._synthesise(complex_product(spectrum, weight.flatten(0, 1)), size, shared)
            if self.up is not None:
                y = torch.einsum("brhw,or->bohw", y, self.up)
        return y.to(dtype)

    def _matrices(self, x: Tensor, shared: Modes | None) -> tuple[Tensor, Tensor] | None:
        """The DFT and its inverse as matrices, or None if an FFT is to be used for `x`."""
        if shared is not None or self.dft is None or self.idft is None:
            return None
        return (self.dft, self.idft) if x.is_cuda or len(self.dft) <= MATRIX_PIXELS_CPU else None

    def _analyse(self, x: Tensor, shared: Modes | None) -> Tensor:
        """Map (B, C, H, W) to the frequencies of the filter, which come first: (F, 2, B, C)."""
        b, c = x.shape[:2]
        matrices = self._matrices(x, shared)
        if matrices is not None:
            return (x.reshape(b * c, -1) @ matrices[0]).view(b, c, -1, 2).permute(2, 3, 0, 1)
        spectrum = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))
        if shared is not None:
            spectrum = lowest(spectrum, shared, 2)
        return spectrum.flatten(2, 3).permute(2, 3, 0, 1)

    def _synthesise(self, pairs: Tensor, size: Size, shared: Modes | None) -> Tensor:
        """Frequencies (B, C, F, 2) back to a map (B, C, H, W). Those that the filter does not have are zero."""
        b, c = pairs.shape[:2]
        h, w = size
        matrices = self._matrices(pairs, shared)
        if matrices is not None:
            return (pairs.reshape(b * c, -1) @ matrices[1]).view(b, c, h, w)
        if shared is None:
            half = pairs.reshape(b, c, h, w // 2 + 1, 2)
        else:
            low, high, cols = shared
            held = pairs.reshape(b, c, low + high, cols, 2)
            half = pairs.new_zeros(b, c, h, w // 2 + 1, 2)
            half[:, :, :low, :cols] = held[:, :, :low]
            half[:, :, h - high :, :cols] = held[:, :, low:]
        return torch.fft.irfft2(torch.view_as_complex(half.contiguous()), s=size, norm="ortho")

    def _sloped(self, weight: Tensor) -> Tensor:
        """The weight with its gradient scaled as in the released full-plane storage (`init: official` only)."""
        if self.slope is None:
            return weight
        slope = self.slope.view(*self.slope.shape, 1, 1, 1)
        return weight * slope + (weight * (1 - slope)).detach()

    @torch.no_grad()
    def response(self) -> Tensor:
        """The frequency response, with the high-pass: complex (C_out, C_in, h, w // 2 + 1).

        Columns that hold both signs of a frequency are projected on their Hermitian part, because only that part acts.
        """
        weight = self.weight.float()
        parts = torch.complex(weight[..., 0, :], weight[..., 1, :])
        if self.up is None:
            k = parts.permute(3, 2, 0, 1)
        else:
            down = torch.eye(self.c_in, device=parts.device) if self.down is None else self.down.float()
            k = torch.einsum("or,hwr,rc->ochw", self.up.to(parts), parts, down.to(parts))
        k = k * self.gain
        for column in self_conjugate_columns(self.size[1]):
            mirror = k[..., column].flip(-1).roll(1, -1).conj()
            k[..., column] = (k[..., column] + mirror) / 2
        return k

    def describe(self) -> dict[str, object]:
        """Notes that are saved with the weights, so that the filter can be built again."""
        return {"filter": self.kind, "size": list(self.size), "channels": [self.c_in, self.c_out], **self.options}

    @torch.no_grad()
    def summary(self, room: int = 0) -> dict[str, Tensor]:
        """What a run keeps of the filter for one epoch, with `room` bytes for single pairs of channels."""
        return summarised(self.response(), self.size[1], room)


def _white(c_out: int, c_in: int, size: Size) -> Tensor:
    """Zero-mean Hermitian noise with E|K|^2 = 1 / (3 C_in), the variance of a default 1x1 convolution's weights."""
    return torch.fft.rfft2(torch.randn(c_out, c_in, *size), norm="ortho") / (3 * c_in) ** 0.5


class FAM(nn.Module):
    """Frequency attention module: gamma_1 F_global + gamma_2 F_local, (B, C_in, H, W) to (B, C_out, H, W).

    F_global is a `FourierFilter`, F_local a 1x1 convolution. A 1x1 map has a mean and no other frequency, so only the
    local branch is used there, unless `highpass` is official. Source: Pham et al., WACV 2024.

    Args:
        size: (h, w) of the maps.
        branch, grid: as in `FilterOptions`.
        options: the other arguments of `FourierFilter`.
    """

    def __init__(self, c_in: int, c_out: int, size: Size, *, branch: Branch = "both", grid: int = 0, **options: Any):
        super().__init__()
        if branch not in ("both", "global", "local"):
            raise ValueError(f"unknown branch {branch!r}: both, global or local")
        one_pixel = tuple(size) == (1, 1) and options.get("highpass") != "official"
        use_global = branch != "local" and not one_pixel
        use_local = branch != "global" or one_pixel
        if grid:
            size = (min(size[0], grid), min(size[1], grid))
        if not use_local and options.get("init") == "zero":
            options["init"] = "balanced"  # an output of zeros could not be normalised
        self.filter = FourierFilter(c_in, c_out, size, **options) if use_global else None
        self.local = nn.Conv2d(c_in, c_out, 1) if use_local else None
        self.gamma = nn.Parameter(torch.full((2 if use_global and use_local else 1,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        if native.takes(x):
            return self._forward_with_scaled_weights(x)
        outputs = [branch(x) for branch in (self.filter, self.local) if branch is not None]
        scaled = [gamma * output for gamma, output in zip(self.gamma, outputs, strict=True)]
        return reduce(torch.add, scaled)

    def _forward_with_scaled_weights(self, x: Tensor) -> Tensor:
        """The same function. Weights are smaller than maps, so multiplying them by gamma costs less."""
        outputs = []
        gammas = iter(self.gamma)
        if self.filter is not None:
            outputs.append(self.filter(x, next(gammas)))
        if self.local is not None:
            gamma, bias = next(gammas), self.local.bias
            outputs.append(F.conv2d(x, gamma * self.local.weight, None if bias is None else gamma * bias))
        return reduce(torch.add, outputs)
