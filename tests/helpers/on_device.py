"""What a CUDA graph cannot hold, found on fake tensors, so that no GPU is needed."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class DeviceOnly(TorchDispatchMode):
    """Fails on an operation that reads a tensor of the CPU, or brings a value to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        assert all(tensor.device.type == "cuda" for tensor in tensors), func
        assert func is not torch.ops.aten._local_scalar_dense.default
        return out
