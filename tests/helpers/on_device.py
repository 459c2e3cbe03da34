"""What a CUDA graph cannot hold, found on fake tensors, so that no GPU is needed."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# In torch 2.11 `x[mask] = 0.0` passes 0.0 as a tensor of the CPU, whose value then fills x: nothing is copied.
TAKE_SCALARS = (torch.ops.aten.lift_fresh.default, torch.ops.aten.index_put_.default)


class DeviceOnly(TorchDispatchMode):
    """Fails on an operation that reads a tensor of the CPU, or brings a value to it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        if func in TAKE_SCALARS:
            tensors = [tensor for tensor in tensors if tensor.dim()]
        assert all(tensor.device.type == "cuda" for tensor in tensors), func
        assert func is not torch.ops.aten._local_scalar_dense.default
        return out
