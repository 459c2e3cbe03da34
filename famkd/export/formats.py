"""Write a network in each format, and read it back as a program would that uses the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from famkd.export.hub_folder import write_hub
from famkd.export.onnx_files import example, write_onnx
from famkd.export.options import Options
from famkd.export.pixels import HalfPrecision

Network = Callable[[Tensor], Tensor]  # images to logits, both on the CPU


def write_safetensors(
    network: nn.Module, pixels: Tensor, path: Path, header: dict[str, str], options: Options
) -> Network:
    """Write the state dict, in float16 if the network computes so."""
    inner: Any = network.network if isinstance(network, HalfPrecision) else network
    state = {key: value.contiguous() for key, value in inner.state_dict().items()}
    safetensors.torch.save_file(state, path, header)
    inner.load_state_dict(safetensors.torch.load(path.read_bytes()))
    return torch.no_grad()(network)


def write_pt2(network: nn.Module, pixels: Tensor, path: Path, header: dict[str, str], options: Options) -> Network:
    """Write a program of torch.export."""
    images, shapes = example(pixels, options)
    program = torch.export.export(network, (images,), dynamic_shapes=shapes)
    torch.export.save(program, path, extra_files=dict(header))
    return torch.no_grad()(torch.export.load(path).module())


# Each takes the network, images in the form that the file takes, the file, its header and the options, and returns the
# network that the file holds.
WRITERS: dict[str, Callable[..., Network]] = {
    "onnx": write_onnx,
    "pt2": write_pt2,
    "safetensors": write_safetensors,
    "hub": write_hub,
}
