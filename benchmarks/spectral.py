"""The DFT as one matrix product against an FFT library, inside a dense filter: what fourier.MATRIX_PIXELS_* go by.

python benchmarks/spectral.py [--steps 9]
"""

import argparse

import torch

from famkd.bench.modules import SIZES
from famkd.bench.timer import Timer
from famkd.layers.fourier import FourierFilter, dft_matrices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=9)
    steps = parser.parse_args().steps
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    timer = Timer(device)
    print(f"torch {torch.__version__}, {device}, forward and backward at batch 64, median of {steps}")
    for channels, side in SIZES:
        library, matrix = (FourierFilter(channels, channels, (side, side)).to(device) for _ in range(2))
        library.dft = library.idft = None
        matrix.dft, matrix.idft = (m.to(device) for m in dft_matrices(side, side))
        x = torch.randn(64, channels, side, side, device=device, requires_grad=True)
        calls = [lambda f=f, x=x: f(x).sum().backward() for f in (library, matrix)]
        timer.medians(calls, 2)
        fft, product = timer.medians(calls, steps)
        print(f"{channels:4} channels {side:3} px   FFT {fft:7.1f} ms   matrix {product:7.1f} ms")


if __name__ == "__main__":
    main()
