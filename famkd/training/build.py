"""From a recipe to live objects: networks with their weights, the distiller, the optimiser."""

from dataclasses import replace
from inspect import signature
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import Precision
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from famkd import distributed
from famkd.config.load import Net, Optim, Recipe, load_recipe, method_options
from famkd.data import build_data
from famkd.data.in_memory import InMemory
from famkd.distill.distiller import Distiller
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import build_model, load_weights
from famkd.models.fold import fold_batch_norms, round_weights
from famkd.run.directory import Run
from famkd.tasks import TASKS


def build_fabric(recipe: Recipe, devices: int = 1, nodes: int = 1) -> Fabric:
    """The devices and the arithmetic of a recipe; single-precision products on a GPU may use TF32."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    fabric = _fabric(recipe.accelerator, None, devices, nodes)
    device = fabric.device.type
    native = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    half = recipe.precision == "bf16-mixed" or (recipe.precision == "auto" and native)
    return _fabric(recipe.accelerator, Autocast(device), devices, nodes) if half else fabric


class Autocast(Precision):
    """Products in bfloat16 and nothing else.

    Fabric's own also rounds what goes in, boxes of detection among it, and hooks losses, which splits a compiled step.
    """

    precision = "bf16-mixed"

    def __init__(self, device: str):
        self.device = device

    def forward_context(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16)


def one_device(accelerator: str) -> Fabric:
    """Fabric on one device; UserError for an accelerator that is unknown or not there."""
    return _fabric(accelerator, None, 1, 1)


def _fabric(accelerator: str, precision: Precision | None, devices: int, nodes: int) -> Fabric:
    # Buffers stay each process's own: a broadcast before every step would send CRD's memory of the whole training set.
    # What they must agree on they gather themselves; running statistics are averaged after each epoch.
    known = signature(DistributedDataParallel).parameters
    own_buffers = {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}
    ddp = DDPStrategy(gradient_as_bucket_view=True, **own_buffers)
    strategy = ddp if devices * nodes > 1 else "auto"
    try:
        return Fabric(
            accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, plugins=precision
        )  # fmt: skip
    except Exception as error:  # one of Lightning's own among them
        if devices * nodes > 1:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{devices} devices of accelerator {accelerator!r} are not to be had: {reason}") from error
        raise UserError(f"There is no accelerator {accelerator!r} here: pass auto, cpu, cuda or mps.") from error


def build_recipe_data(recipe: Recipe, device: torch.device | str = "cpu") -> InMemory:
    data = recipe.data
    return build_data(
        data.name, data.root, data.batch_size, device=device, seed=recipe.seed, augment=data.augment,
        splits=data.splits, boxes={"sides": data.sides, "longest": data.longest},
        size=data.size, workers=data.workers, gpu_decode=data.gpu_decode,
    )  # fmt: skip


def build_distiller(
    recipe: Recipe, data: InMemory, runs: str | Path = "runs", *, weights: bool = True, fold: bool = False
) -> Distiller:
    """Student, teacher and methods on the data's device, the methods shaped by one real batch.

    Args:
        weights: False leaves networks as they are born, for a run whose own states are loaded next.
        fold: merge the teacher's batch norms into its convolutions; the same function, and less of it.
    """
    classes, methods = len(data.classes), {name: METHODS[name] for name in recipe.method_names}
    student = build_network(recipe.student, classes, runs, weights=weights, size=data.size).to(data.device)
    if recipe.sync_bn:
        student = distributed.to_sync_batchnorm(student, data.device)
    teacher = None
    if methods:
        teacher = build_network(recipe.teacher, classes, runs, weights=weights, size=data.size).to(data.device)
    if teacher and recipe.task == "detection":
        teacher.transform = student.transform  # the very same pixels
    elif teacher and fold:
        fold_batch_norms(teacher, data.probe().images, keep=recipe.teacher.taps)
    options = {
        name: {key: getattr(recipe.section(name), key) for key in method_options(method)}
        for name, method in methods.items()
    }
    try:
        distiller = Distiller(
            TASKS[recipe.task](), student, teacher, methods, options=options, probe=data.probe(), labels=data.labels,
            student_taps=recipe.student.taps, teacher_taps=recipe.teacher.taps,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{recipe.method} cannot teach this pair: {error}.") from error
    if recipe.sync_bn:
        distributed.to_sync_batchnorm(distiller.methods, data.device)
    return distiller.to(data.device)  # methods are born on the CPU, so that a seed draws the same everywhere


def round_teacher(distiller: Distiller, fabric: Fabric) -> None:
    """Round a teacher's weights once where every step would, all but its head's, which some methods read precisely."""
    if distiller.teacher and isinstance(fabric.strategy.precision, Autocast):
        round_weights(distiller.teacher, {distiller.teacher.head})


def build_network(
    net: Net, classes: int, runs: str | Path = "runs", *, weights: bool = True, size: tuple[int, int] | None = None
) -> nn.Module:
    """A model, channels last, with its weights: from a file, a run, a trained recipe, or its own pretrained ones."""
    source, _, which = net.weights.partition(":")
    pretrained = weights and source == "pretrained" and (which or True)
    model = build_model(net.model, classes, pretrained=pretrained, size=size)
    if weights and net.weights and not pretrained:
        load_weights(model, weights_file(net, runs))
    return model.to(memory_format=torch.channels_last)


def weights_file(net: Net, runs: str | Path = "runs") -> Path:
    """The file that a network's `weights` mean."""
    name = net.weights.removeprefix("recipe:")
    path = recipe_run(name, runs).path if name != net.weights else Path(net.weights)
    return path / "student.safetensors" if path.is_dir() else path


def recipe_run(name: str, runs: str | Path = "runs") -> Run:
    """Where a recipe, shipped or a file, leaves its run when nothing else is asked for."""
    return default_run(load_recipe(name), runs)


def default_run(recipe: Recipe, runs: str | Path = "runs") -> Run:
    return Run(Path(runs) / recipe.name / f"{recipe.method}-seed{recipe.seed}")


def build_optimizer(distiller: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """SGD; on a GPU its learning rate is a tensor, so that a captured step can read a new one."""
    parameters = [p for p in distiller.parameters() if p.requires_grad]
    on_gpu, fused = parameters[0].is_cuda, parameters[0].device.type in ("cuda", "cpu")
    lr = torch.tensor(optim.lr, device=parameters[0].device) if on_gpu else optim.lr
    try:
        return torch.optim.SGD(
            parameters, lr=lr, momentum=optim.momentum, nesterov=optim.nesterov, weight_decay=optim.weight_decay,
            fused=fused or None,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"SGD cannot run so: {error}. Mend --optim.") from error


def open_distiller(
    run: Run, device: torch.device | str = "cpu", runs: str | Path = "runs", recipe: Recipe | None = None
) -> tuple[Distiller, InMemory]:
    """A run as training left it, in eval mode, with its data; `recipe` in place of its own where paths have moved."""
    recipe = recipe or run.recipe
    recipe = replace(recipe, student=replace(recipe.student, weights=""))  # those that it started from
    data = build_recipe_data(recipe, device)
    distiller = build_distiller(recipe, data, runs)
    distiller.student.model.load_state_dict(run.student_state())
    distiller.methods.load_state_dict(run.method_state()[0])
    return distiller.eval(), data
