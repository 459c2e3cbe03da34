"""Cross attention and Fourier transforms in C++, for float32 on a CPU (the folder cpp).

The source is compiled once on a machine, by the compiler that `torch.compile` needs as well. Where that fails, the
layers use torch only.
"""

import ctypes
import hashlib
import math
import os
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from famkd.layers.compiler import find_compiler
from famkd.layers.highpass import self_conjugate_columns

SOURCES = sorted(Path(__file__).parent.glob("cpp/*"))
FLAGS = ("-O3", "-std=gnu++17", "-fPIC", "-shared", "-fopenmp", "-Wno-psabi")
ARCHITECTURES = {"AVX512": ("-march=x86-64-v4",), "AVX2": ("-march=x86-64-v3",)}  # by what torch itself uses
LONGEST_SIDE = 64  # of a map whose transform is a product for each axis: its cost grows with the side
COMPILE_SECONDS = 300

_in_use: ctypes.CDLL | None = None


def use(wanted: bool) -> None:
    """Choose for this process whether layers use these kernels, where they can be compiled."""
    global _in_use
    _in_use = library() if wanted else None


def in_use() -> bool:
    return _in_use is not None


def takes(*maps: Tensor) -> bool:
    """Whether the kernels are in use and take these maps: real tensors on a CPU, in at most single precision.

    They are no part of a graph that `torch.compile` makes.
    """
    singles = (torch.float32, torch.bfloat16, torch.float16)
    return (
        in_use()
        and not torch.compiler.is_compiling()
        and all(type(x) in (Tensor, torch.nn.Parameter) and x.device.type == "cpu" and x.dtype in singles for x in maps)
    )


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None with a warning where they cannot be compiled or loaded."""
    compiler = find_compiler()
    if compiler is None:
        return _without_kernels("install a C++ compiler such as g++, or name one in the environment variable CXX")
    capability = torch.backends.cpu.get_cpu_capability()
    command = compile_command(compiler, ARCHITECTURES.get(capability, ()))
    key = hashlib.sha256(b"".join(each.read_bytes() for each in SOURCES) + " ".join(command).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "famkd"
    built = folder / f"kernels-{key}.so"
    try:
        if not built.is_file():
            _compile(command, built)
        return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError) as error:
        return _without_kernels(getattr(error, "stderr", None) or error)


def _without_kernels(reason: object) -> None:
    warnings.warn(f"the C++ kernels cannot be used, so that a step takes longer: {reason}", stacklevel=3)


def compile_command(compiler: list[str], architecture: tuple[str, ...]) -> list[str]:
    sources = [str(each) for each in SOURCES if each.suffix == ".cpp"]
    return [*compiler, *FLAGS, *architecture, *sources]


def _compile(command: list[str], built: Path) -> None:
    """Compile beside the final place and move the result there, as another process may do the same."""
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        fresh = Path(folder, built.name)
        subprocess.run(
            [*command, "-o", str(fresh)], check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS
        )
        fresh.replace(built)


def call(name: str, tensors: tuple[Tensor, ...], numbers: tuple[int, ...]) -> None:
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in tensors]
    getattr(library(), name)(*pointers, *numbers, torch.get_num_threads())


def _laid_out(x: Tensor) -> Tensor:
    """A map (B, C, H, W) in float32 with channels last in memory."""
    return x.float().contiguous(memory_format=torch.channels_last)


def _like(x: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    shape = (x.shape[0], channels, *size)
    return torch.empty(shape, dtype=torch.float32, memory_format=torch.channels_last)


class _Attend(torch.autograd.Function):
    """Nothing but the inputs is kept for the backward pass, which computes the weights again."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, pairs: Tensor, term: Tensor) -> Tensor:
        q, kv, r = _laid_out(query), _laid_out(pairs), term.float().contiguous()
        b, c, h, w = (*q.shape[:2], *kv.shape[2:])
        ctx.numbers = (b, h, w, c, h // q.shape[2], w // q.shape[3])
        ctx.save_for_backward(q, kv, r)
        out = _like(kv, c, (h, w))
        call("attend", (q, kv, r, out), ctx.numbers)
        return out.to(query.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        q, kv, r = ctx.saved_tensors
        d_q, d_kv = torch.empty_like(q), torch.empty_like(kv)
        d_term = torch.empty(len(q), *r.shape)
        call("attend_backward", (_laid_out(grad), q, kv, r, d_q, d_kv, d_term), ctx.numbers)
        return d_q.to(grad.dtype), d_kv.to(grad.dtype), d_term.sum(0)


def attend(query: Tensor, pairs: Tensor, term: Tensor) -> Tensor:
    """`fusion.attend` for a query (B, C, h, w) whose pixels are repeated to the size of the map, (B, C, H, W).

    pairs are keys and values side by side, (B, 2 C, H, W); the term is (9, C). h divides H, and w divides W.
    """
    return _Attend.apply(query, pairs, term)


class _Spectrum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor) -> Tensor:
        b, c, h, w = x.shape
        ctx.numbers, ctx.scale = (b, h, w, c, 0), scale
        out = torch.empty(scale.numel(), b, 2, c)
        call("spectrum", (_laid_out(x), scale, _tables(h, w), out), ctx.numbers)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        b, h, w, c, _ = ctx.numbers
        out = torch.empty(b, c, h, w, memory_format=torch.channels_last)
        call("waves", (grad.contiguous(), ctx.scale, _tables(h, w), out), ctx.numbers)
        return out, None


class _Waves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, products: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
        _, b, *_, c = products.shape
        ctx.numbers, ctx.scale = (b, *size, c, products.ndim - 4), scale
        out = torch.empty(b, c, *size, memory_format=torch.channels_last)
        call("waves", (products.contiguous(), scale, _tables(*size), out), ctx.numbers)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        b, h, w, c, products = ctx.numbers
        out = torch.empty(ctx.scale.numel(), b, 2, *(2,) * products, c)
        call("spectrum", (_laid_out(grad), ctx.scale, _tables(h, w), out), ctx.numbers)
        return out, None, None


def spectrum(x: Tensor, gain: Tensor) -> Tensor:
    """The orthonormal half spectrum of maps (B, C, H, W), times a gain (H, W // 2 + 1): (F, B, 2, C), re and im."""
    return _Spectrum.apply(x, gain.flatten() / math.sqrt(x.shape[2] * x.shape[3]))


def complex_product(spectrum: Tensor, weight: Tensor) -> Tensor:
    """The product of a spectrum (F, B, 2, C) and a complex weight at every frequency, for `waves`.

    A dense weight (F, C_in, 2, C_out) mixes channels in one batched real matmul, a depthwise one (F, 2, C) scales them.
    """
    f, b, _, c = spectrum.shape
    if weight.ndim == 3:
        return spectrum[:, :, :, None] * weight[:, None, None]
    if b <= c:
        return torch.bmm(spectrum.view(f, 2 * b, c), weight.flatten(2)).view(f, b, 2, 2, -1)
    # The weight of few channels is smaller than the four real products
    re, im = weight.unbind(2)
    block = torch.cat((weight.flatten(2), torch.cat((-im, re), 2)), 1)
    return torch.bmm(spectrum.view(f, b, 2 * c), block).view(f, b, 2, -1)


def waves(products: Tensor, size: tuple[int, int]) -> Tensor:
    """The maps (B, C, H, W) of a half spectrum (F, B, 2, C), re and im.

    It may also be given as the four real products of complex numbers, (F, B, 2, 2, C), whose third axis is the part of
    the first factor, and the fourth that of the second.
    """
    return _Waves.apply(products, _both_signs(*size), size)


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, target: Tensor) -> Tensor:
        gap = _laid_out(own) - _laid_out(target)
        ctx.save_for_backward(gap)
        ctx.dtype = own.dtype
        flat = gap.permute(0, 2, 3, 1).flatten()
        return flat.dot(flat) / gap.numel()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (gap,) = ctx.saved_tensors
        return (gap * (2 / gap.numel() * grad)).to(ctx.dtype), None


def squared_error(own: Tensor, target: Tensor) -> Tensor:
    """`mse_loss` of maps (B, C, H, W) to constant targets. The gradient has channels last, as the maps have.

    That of `mse_loss` has channels first, and every operation before it then reads two orders.
    """
    return _SquaredError.apply(own, target)


@cache
def _both_signs(h: int, w: int) -> Tensor:
    """2 where a frequency of a half spectrum stands for two, over the norm of the transform, (F)."""
    count = torch.full((h, w // 2 + 1), 2.0)
    count[:, self_conjugate_columns(w)] = 1
    return count.flatten() / math.sqrt(h * w)


@cache
def _tables(h: int, w: int) -> Tensor:
    """Cosines and sines of both axes, as cpp/transforms.cpp reads them."""
    return torch.cat([table for n in (h, w) for table in _waves_of(n)]).float()


def _waves_of(n: int) -> tuple[Tensor, Tensor]:
    index = torch.arange(n // 2 + 1, dtype=torch.float64)
    angle = 2 * math.pi * (torch.outer(index, index) % n) / n
    return angle.cos().flatten(), angle.sin().flatten()
