"""The processes that train one student together: rank, number, and collective operations.

A single process is rank 0 of 1. Each function then returns its input at no cost.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable would import the compiler here, one second

from famkd.errors import UserError, started_by_famkd

_alone = False  # inside `alone`


def rank() -> int:
    """Number of this process. Only rank 0 writes and prints."""
    return dist.get_rank() if _initialized() else 0


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if _initialized() else 1


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside this block the process acts as if there were no others: nothing is exchanged with them."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def shard(start: int, stop: int) -> slice:
    """This process's share of a range: consecutive, and every position is in exactly one share."""
    n, me, all_of_us = stop - start, rank(), world()
    return slice(start + n * me // all_of_us, start + n * (me + 1) // all_of_us)


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over processes."""
    return _sum(x) if world() > 1 else x


def all_reduce_mean(x: Tensor) -> Tensor:
    """Mean over processes."""
    return all_reduce_sum(x) / world() if world() > 1 else x


def all_gather(x: Tensor) -> Tensor:
    """Concatenate the tensors (N, ...) of all processes to (world N, ...) in order of rank, without gradient.

    N must be the same in all processes.
    """
    return _gather(x) if world() > 1 else x


def gather(x: Tensor) -> Tensor:
    """`all_gather` with a gradient: for losses that relate the images of a step to one another.

    All processes must compute the same loss of the result. Its gradient reaches the tensors of this process alone,
    times the number of processes, since the gradients of all processes are averaged.
    """
    return _gather_with_gradient(x) if world() > 1 else x


def on_rank_zero(call: Callable[[], Any]) -> Any:
    """Run `call` on rank 0 and broadcast its result, which must be picklable. A UserError ends every process."""
    if world() == 1:
        return call()
    box: list[Any] = [None, None]
    if rank() == 0:
        try:
            box[0] = call()
        except UserError as error:
            box[1] = error
    dist.broadcast_object_list(box)
    _agree([box[1]])
    return box[0]


def on_every_rank(call: Callable[[], Any]) -> Any:
    """Run `call` on every process. A UserError in any of them ends all, and is printed once."""
    if world() == 1:
        return call()
    answer, error = None, None
    try:
        answer = call()
    except UserError as problem:
        error = problem
    _agree(all_gather_objects(error))
    return answer


def first_nonempty(word: str) -> str:
    """The first non-empty text of any process, or ""."""
    return next(filter(None, all_gather_objects(word)), "")


def all_gather_objects(x: Any) -> list[Any]:
    """The objects of all processes, in order of rank. They must be picklable."""
    if world() == 1:
        return [x]
    every: list[Any] = [None] * world()
    dist.all_gather_object(every, x)
    return every


def barrier() -> None:
    """Wait until all processes have reached this point."""
    if world() > 1:
        dist.barrier()


def to_sync_batchnorm(module: torch.nn.Module, device: torch.device) -> torch.nn.Module:
    """The module with batch norms that compute statistics over the images of all processes; UserError on a CPU."""
    if world() == 1:
        return module
    must_synchronise(device)
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)


def must_synchronise(device: torch.device) -> None:
    """UserError for a device without synchronised batch norm."""
    if device.type == "cpu":
        raise UserError("--sync_bn needs GPUs: PyTorch has no synchronised batch norm for the CPU. Leave it out.")


def average_batchnorm(module: torch.nn.Module) -> None:
    """Average the running statistics of batch norms over all processes, because each used its own images."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    kept = [t for m in norms for t in (m.running_mean, m.running_var) if t is not None]
    if world() > 1 and kept:
        mean = all_reduce_mean(torch.cat([t.detach() for t in kept]))
        for tensor, value in zip(kept, mean.split([len(t) for t in kept])):
            tensor.copy_(value)


def _agree(errors: list[UserError | None]) -> None:
    """Rank 0 raises the first of the errors; the others exit silently.

    Processes that famkd started all raise it: whichever of them ends first, its launcher reads the error and prints it.
    """
    first = next((error for error in errors if error), None)
    if first and (rank() == 0 or started_by_famkd()):
        raise first
    if first:
        raise SystemExit(2)


@_disable_dynamo
def _sum(x: Tensor) -> Tensor:
    x = x.clone()
    dist.all_reduce(x)
    return x


@_disable_dynamo
def _gather(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _gather(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        own = len(gradients[0]) // world()
        return gradients[0][rank() * own : (rank() + 1) * own] * world()


@_disable_dynamo
def _gather_with_gradient(x: Tensor) -> Tensor:
    return _Gather.apply(x)  # pyright: ignore[reportReturnType]


def _initialized() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()
