"""One training step, and how it runs: eagerly, compiled, or captured once as a CUDA graph.

On a GPU the whole step is compiled. On a CPU the attention modules and most 3x3 convolutions use kernels in C++ and
nothing else is compiled, which was measured to be faster.
"""

import contextlib
import os
import shutil
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from famkd import distributed
from famkd.config.recipe import Recipe
from famkd.console import console
from famkd.distill.distiller import total_loss
from famkd.distill.types import Batch, Dataset, Engine
from famkd.errors import UserError, one_line
from famkd.layers.compiler import find_compiler
from famkd.layers.convolution import fast_convolutions
from famkd.layers.fusion import use_kernels
from famkd.training.average import Averaged
from famkd.training.cuda_graph import CannotCapture, Graph, warm_up
from famkd.training.monitor import NEVER, Monitor
from famkd.training.optimizer import set_learning_rate, state_tensors

# Steps. Where Inductor has to make the kernels of a pair, that takes up to a minute, once on a machine. The number
# comes from a CPU; it was not measured on a GPU
COMPILE_PAYS = 500
RECOMPILE_LIMIT = 64  # a step has one shape per stage of the networks
NEXT_ENGINE: dict[Engine, Engine] = {"graph": "compile", "compile": "eager"}  # where networks cannot run on one


class Step:
    """Takes a piece of data and updates the weights. Nothing in it waits for the device.

    Args:
        distiller: the distiller, set up by `fabric`.
        optimizer: its optimizer, set up by `fabric`.
        data: makes a batch of each piece, inside the step, so that a CUDA graph includes the augmentation.
        engine: what `choose_engine` returned.
        averaged: a moving average of the student's weights, which follows every step.
    """

    def __init__(
        self,
        distiller: nn.Module,
        optimizer: torch.optim.Optimizer,
        data: Dataset,
        fabric: Fabric,
        recipe: Recipe,
        engine: Engine,
        averaged: Averaged | None = None,
    ):
        self.distiller, self.optimizer, self.data, self.fabric = distiller, optimizer, data, fabric
        self.engine, self.accumulate, self.clip_grad = engine, recipe.optim.accumulate, recipe.optim.clip_grad
        self.averaged = averaged
        self.scaler: torch.amp.GradScaler | None = getattr(fabric.strategy.precision, "scaler", None)  # of float16
        self.groups = ["task", *recipe.method_names]  # of losses, in the order of `weights`
        self.weights = torch.zeros(len(self.groups), device=data.device)
        self.monitor = Monitor(data.device)
        self.lr: float | None = None
        self.count = 0  # steps since `set_epoch`
        self.started = time.perf_counter()
        self.title = recipe.title
        self.may_choose = recipe.engine == "auto" and data.device.type == "cuda"
        self._forward_or_compiled = self._compiled(data.device)
        self._graph: Graph | None = None
        self._prepared = False

    def _compiled(self, device: torch.device) -> Any:
        """The forward pass as the engine runs it."""
        torch.backends.cudnn.benchmark = self.engine != "eager" and device.type == "cuda"  # steps have one shape
        kernels_only = self.engine == "compile" and device.type == "cpu"
        use_kernels(compiled=kernels_only)
        if self.engine != "eager":
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
        if kernels_only:
            return self._forward_on_cpu
        if self.engine == "eager":
            return self._forward
        return torch.compile(self._forward, dynamic=False)

    def set_epoch(self, lr: float, weights: dict[str, float]) -> None:
        """Set the learning rate and the loss weights, in place where a CUDA graph reads them, and reset the means."""
        self.weights.copy_(torch.tensor([weights[name] for name in self.groups]))
        self.set_lr(lr)
        self.count = 0
        self.started = time.perf_counter()
        self.monitor.reset()

    def set_lr(self, lr: float) -> None:
        if lr != self.lr:  # on a GPU it costs a kernel
            set_learning_rate(self.optimizer, lr)
            self.lr = lr

    def __call__(self, piece: Any) -> None:
        if not self._prepared:
            self._prepare(piece)
        self.count += 1
        if self._graph is not None:
            self._graph(piece)
        else:
            self.run(piece)
        if self.averaged is not None:
            self.averaged.update()

    def _prepare(self, piece: Any) -> None:
        """Capture the step if the engine is graph. Networks that cannot run on the engine of auto get the next one."""
        self._prepared = True
        while self.engine == "graph" or (self.may_choose and self.engine == "compile"):
            why = self._hindrance(piece)
            if not why:
                return
            self.engine = NEXT_ENGINE[self.engine]
            self._forward_or_compiled = self._compiled(self.data.device)
            console.print(f"{self.title}  engine {self.engine}, because {why}")

    def _hindrance(self, piece: Any) -> str:
        """Try the engine on a piece. With engine auto, returns why the networks cannot run on it, or ""."""
        try:
            if self.engine == "graph":
                self._graph = Graph(self, piece)
            else:
                warm_up(self, piece, 1)
        except CannotCapture as error:
            if not self.may_choose:
                raise UserError(f"--engine graph: {error}: pass --engine compile or eager.") from error
            return str(error)
        except UserError:
            raise
        except Exception as error:  # compilers raise exceptions of their own
            if not self.may_choose:
                raise
            return f"{self.engine} failed: {one_line(error)}"
        return ""

    def run(self, piece: Any) -> None:
        """One optimizer step on a piece, in `accumulate` parts whose gradients are averaged."""
        self.optimizer.zero_grad(set_to_none=True)
        self.monitor.step += 1
        parts = split(piece, self.accumulate)
        for number, part in enumerate(parts, 1):
            with self._gradient_sync(last=number == len(parts)):
                with _explaining_batch_norm(len(part[0])):
                    total, losses, outputs = self._forward_or_compiled(self.data.take(part))
                self.fabric.backward(total / len(parts))
            self.monitor.note(losses, outputs, len(parts))
        if self.clip_grad:
            if self.scaler is not None:
                self.fabric.strategy.precision.unscale_gradients(getattr(self.optimizer, "optimizer", self.optimizer))
            clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], self.clip_grad)
        self.optimizer.step()

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The total that is minimised, and what the monitor notes."""
        losses, outputs = self.distiller(batch)
        weights = {name: self.weights[place] for place, name in enumerate(self.groups)}
        return total_loss(losses, weights), *self.monitor.pack(losses, outputs)

    def _forward_on_cpu(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        with fast_convolutions():
            return self._forward(batch)

    def _gradient_sync(self, last: bool) -> contextlib.AbstractContextManager:
        """Processes exchange gradients in the last part of a step only."""
        if last or distributed.world() == 1:
            return contextlib.nullcontext()
        return self.fabric.no_backward_sync(self.distiller)  # pyright: ignore[reportArgumentType]  (Fabric wrapped it)

    def tensors(self) -> list[Tensor]:
        """Every tensor that a step writes in place."""
        moments = state_tensors(self.optimizer)
        return [*self.distiller.parameters(), *self.distiller.buffers(), *moments, *self.monitor.tensors()]

    def state(self) -> dict[str, Any]:
        """The state of an epoch that was interrupted between two steps, of all processes."""
        draws = {name: generator.get_state() for name, generator in _generators(self.data.device).items()}
        each = distributed.all_gather_objects((*self.monitor.state(), draws))
        return {"count": self.count, "each": each, "seconds": time.perf_counter() - self.started}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned, after `set_epoch`.

        On another number of processes, the sums of all processes are averaged.
        """
        self.count, each = state["count"], state["each"]
        self.started = time.perf_counter() - state["seconds"]
        if len(each) == distributed.world():
            loss_sums, first_bad, draws = each[distributed.rank()]
        else:
            loss_sums = torch.stack([sums for sums, _, _ in each]).sum(0) / len(each)
            first_bad, draws = each[0][1], {}
        first_bad = torch.where(first_bad == 0, NEVER, first_bad)  # version 0.1.0 wrote 0 for never
        self.monitor.set_state(self.count, loss_sums, first_bad)
        generators = _generators(self.data.device)
        if draws.keys() == generators.keys():
            for name, generator in generators.items():
                generator.set_state(draws[name])


def _generators(device: torch.device) -> dict[str, torch.Generator]:
    """The random number generators that a step on a device may use."""
    generators = {"cpu": torch.default_generator}
    if device.type == "cuda":
        generators["cuda"] = torch.cuda.default_generators[device.index or 0]
    return generators


@contextlib.contextmanager
def _explaining_batch_norm(images: int) -> Iterator[None]:
    """Say what to do where batch norm has a single value per channel to average."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"Batch norm cannot average over a single pixel of {images} image: pass a larger --data.batch_size, or "
            "fewer parts as --optim.accumulate."
        ) from error


def split(piece: Any, parts: int) -> list[Any]:
    """Cut a piece of a data set, a named tuple, into consecutive parts of equal length."""
    length = len(piece[0]) // parts
    starts = range(0, parts * length, length)
    return [type(piece)(*(column[start : start + length] for column in piece)) for start in starts]


def choose_engine(engine: Engine, device: torch.device, steps: int, captured: bool = True) -> Engine:
    """Resolve `auto`: graph on a CUDA device and compile on a CPU, where the run is long enough to pay for it.

    Otherwise, on other devices and with several processes it is eager. Where a CUDA graph cannot capture the optimizer,
    it is compile instead of graph.

    Args:
        captured: whether a CUDA graph can capture the optimizer.

    Errors: UserError for graph without CUDA, with several processes or with an optimizer that cannot be captured, and
    for compile or graph without a compiler.
    """
    if distributed.world() > 1 and engine in ("auto", "graph"):
        if engine == "graph":
            raise UserError("engine graph is for one device: use --engine eager or compile on several.")
        return "eager"
    compiler = _has_compiler(device)
    if engine == "auto":
        if not compiler or steps < COMPILE_PAYS or device.type not in ("cpu", "cuda"):
            return "eager"
        return "graph" if device.type == "cuda" and captured else "compile"
    if engine == "graph" and device.type != "cuda":
        raise UserError("engine graph needs a CUDA device: use --engine compile or eager here.")
    if engine == "graph" and not captured:
        raise UserError("A CUDA graph cannot capture this --optim.name: use --engine compile or eager.")
    if engine in ("compile", "graph") and not compiler:
        needed = "gcc and Python's headers (python3-dev)" if device.type == "cuda" else "g++ or clang"
        raise UserError(f"engine {engine} needs a compiler: install {needed}, or use --engine eager.")
    return engine


def _has_compiler(device: torch.device) -> bool:
    """Whether the compiler that is needed is installed: on a CPU one of C++, on a GPU the C compiler of Triton."""
    if device.type != "cuda":
        return find_compiler() is not None
    found = "CC" in os.environ or any(map(shutil.which, ("gcc", "clang")))
    return found and Path(sysconfig.get_paths()["include"], "Python.h").is_file()  # Triton includes it
