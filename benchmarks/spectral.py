"""Time a dense filter with the DFT as one matrix product, and with an FFT library.

The limits MATRIX_PIXELS_CPU and MATRIX_PIXELS_CUDA in famkd/layers/fourier.py come from these figures.

python benchmarks/spectral.py [--steps 9]
"""

import torch
from torch import Tensor

from famkd.bench.modules import SIZES
from famkd.bench.timer import Call, Timer
from famkd.command_line.main import run_script
from famkd.layers.fourier import FourierFilter, dft_matrices


def forward_and_backward(module: FourierFilter, x: Tensor) -> Call:
    return lambda: module(x).sum().backward()


def spectral(steps: int = 9) -> None:
    """Time both forms in turn at several sizes.

    Args:
        steps: timed steps; the median is printed.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    timer = Timer(device)
    print(f"torch {torch.__version__}, {device}, forward and backward at batch 64, median of {steps}")
    for channels, side in SIZES:
        by_library = FourierFilter(channels, channels, (side, side)).to(device)
        by_library.dft = by_library.idft = None
        by_matrix = FourierFilter(channels, channels, (side, side)).to(device)
        by_matrix.dft, by_matrix.idft = (matrix.to(device) for matrix in dft_matrices(side, side))
        x = torch.randn(64, channels, side, side, device=device, requires_grad=True)
        calls = [forward_and_backward(module, x) for module in (by_library, by_matrix)]
        timer.medians(calls, 2)  # warm-up
        fft, product = timer.medians(calls, steps)
        print(f"{channels:4} channels {side:3} px   FFT {fft:7.1f} ms   matrix {product:7.1f} ms")


if __name__ == "__main__":
    run_script(spectral)
