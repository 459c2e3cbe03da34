"""From a recipe to live objects: networks with their weights, the distiller, the optimizer, the step."""

from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from famkd import distributed
from famkd.config.load import load_recipe
from famkd.config.recipe import Net, Recipe
from famkd.config.sections import data_options, method_arguments
from famkd.data import build_data
from famkd.distill.distiller import Distiller
from famkd.distill.types import Dataset, StoredTeacher
from famkd.errors import UserError
from famkd.features.answer import Wanted, find_answer
from famkd.features.run_once import initialize_lazy
from famkd.methods import METHODS
from famkd.models import build_model, load_weights
from famkd.models.fold import fold_batch_norms, round_weights
from famkd.run.directory import Run
from famkd.store.data import TaughtData, taught
from famkd.store.shards import Store
from famkd.tasks import TASKS
from famkd.training.average import Averaged
from famkd.training.optimizer import build_optimizer, can_be_captured
from famkd.training.step import Step, choose_engine
from famkd.training.stored import must_be_same_weights


def build_fabric(recipe: Recipe, devices: int = 1, nodes: int = 1) -> Fabric:
    """The devices and the precision of a recipe. Single-precision matrix products on a GPU may use TF32."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    fabric = _fabric(recipe.accelerator, None, devices, nodes)
    device = fabric.device.type
    supported = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if recipe.precision == "bf16-mixed" or (recipe.precision == "auto" and supported):
        return _fabric(recipe.accelerator, Autocast(device), devices, nodes)
    return fabric


class Autocast(Precision):
    """Matrix products in bfloat16 and nothing else.

    Fabric's own plug-in also casts the inputs of a step, such as the boxes of detection, and hooks the losses, which
    splits a compiled step.
    """

    precision = "bf16-mixed"

    def __init__(self, device: str):
        self.device = device

    def forward_context(self) -> torch.autocast:
        return torch.autocast(self.device, torch.bfloat16)


def one_device(accelerator: str) -> Fabric:
    """Fabric on one device; UserError for an accelerator that is unknown or absent."""
    return _fabric(accelerator, None, 1, 1)


def _fabric(accelerator: str, precision: Precision | None, devices: int, nodes: int) -> Fabric:
    # Each process keeps its own buffers: broadcasting them before every step would send CRD's memory of the whole
    # training set. Methods gather what must agree, and running statistics are averaged after each epoch.
    known = signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"gradient_as_bucket_view": True, buffers: False}
    several = devices * nodes > 1
    strategy = DDPStrategy(**options) if several else "auto"
    try:
        return Fabric(
            accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, plugins=precision
        )  # fmt: skip
    except Exception as error:  # Lightning raises exceptions of its own
        if several:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"Cannot use {devices} devices of accelerator {accelerator!r}: {reason}") from error
        raise UserError(f"There is no accelerator {accelerator!r} here: pass auto, cpu, cuda or mps.") from error


def build_recipe_data(recipe: Recipe, device: torch.device | str = "cpu") -> Dataset:
    """The data set of a recipe, on a device."""
    data = recipe.data
    options = {name: getattr(data, name) for name in data_options(data.name)}
    return build_data(
        data.name, data.root, data.batch_size, device=device, seed=recipe.seed, augment=data.augment, val=data.val,
        val_seed=data.val_seed, views=data.views, views_seed=data.views_seed, **options,
    )  # fmt: skip


def build_training_data(recipe: Recipe, device: torch.device | str = "cpu", runs: str | Path = "runs") -> Dataset:
    """The data set of a training: with `teacher.store`, its batches hold the teacher's outputs."""
    data = build_recipe_data(recipe, device)
    if not (recipe.teacher.store and recipe.method_names):
        return data
    store = Store(recipe.teacher.store)
    must_be_same_weights(store, recipe.teacher, teacher_file(recipe.teacher, runs))
    methods = {name: METHODS[name] for name in recipe.method_names}
    return taught(data, store, {name: method.teacher_wants or method.wants for name, method in methods.items()})


def teacher_file(net: Net, runs: str | Path = "runs") -> Path | None:
    """The file of a teacher's weights; None where a library brings them."""
    return None if net.weights.partition(":")[0] == "pretrained" else weights_file(net, runs)


def build_distiller(
    recipe: Recipe, data: Dataset, runs: str | Path = "runs", *, weights: bool = True, fold: bool = False
) -> Distiller:
    """Student, teacher and methods on the data's device, the methods shaped by one real batch.

    Args:
        weights: False leaves the networks with random weights, for a run whose own states are loaded next.
        fold: merge the teacher's batch norms into its convolutions, which gives the same function at less cost.
    """
    task = TASKS[recipe.task]
    methods = {name: METHODS[name] for name in recipe.method_names}
    student = build_network(recipe.student, data, recipe.task, runs, weights=weights, who="student")
    if recipe.sync_bn:
        student = distributed.to_sync_batchnorm(student, data.device)
    teacher = _teacher(recipe, data, runs, weights) if methods else None
    task.prepare(student, teacher if isinstance(teacher, nn.Module) else None)
    if isinstance(teacher, nn.Module) and fold and task.folds_teacher:
        fold_batch_norms(teacher, data.probe().images, keep=recipe.teacher.taps)
    options = {name: method_arguments(method, vars(recipe.section(name))) for name, method in methods.items()}
    try:
        distiller = Distiller(
            task, student, teacher, methods, options=options, probe=data.probe(), labels=data.labels,
            student_taps=recipe.student.taps, teacher_taps=recipe.teacher.taps,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{recipe.method} cannot teach this pair: {error}.") from error
    if recipe.sync_bn:
        distributed.to_sync_batchnorm(distiller.methods, data.device)
    return distiller.to(data.device)  # methods are built on the CPU, so that a seed draws the same on every device


def _teacher(recipe: Recipe, data: Dataset, runs: str | Path, weights: bool) -> nn.Module | StoredTeacher:
    """The teacher's network, or the stored one whose outputs the data's batches hold."""
    if isinstance(data, TaughtData):
        return data.teacher
    return build_network(recipe.teacher, data, recipe.task, runs, weights=weights, who="teacher")


def build_network(
    net: Net, data: Dataset, task: str, runs: str | Path = "runs", *, weights: bool = True, who: str = "model"
) -> nn.Module:
    """A network for a data set, on its device and channels last, with the weights that `net` names.

    A network for classification returns logits (B, classes), whatever it was written to return.

    Args:
        who: student, teacher or model, for error messages. The student's answer in training mode is looked at too.
    """
    source, _, which = net.weights.partition(":")
    pretrained = weights and source == "pretrained" and (which or True)
    models, classes = TASKS[task].models, len(data.classes)
    if not TASKS[task].returns_logits:
        model = build_model(net.model, classes, pretrained=pretrained, size=data.size, models=models)
        _load(model, net, runs, weights and not pretrained)
        return model.to(memory_format=torch.channels_last).to(data.device)
    images = data.probe().images[:2]
    channels = images.shape[1]
    model = build_model(net.model, classes, pretrained, size=data.size, models=models, channels=channels)
    initialize_lazy(model, images.cpu())
    _load(model, net, runs, weights and not pretrained)
    model = model.to(memory_format=torch.channels_last).to(data.device)
    wanted = Wanted(classes, net.output, who, "--output" if who == "model" else f"--{who}.output")
    find_answer(model, images, wanted, trains=who == "student").attach(model)
    return model


def _load(model: nn.Module, net: Net, runs: str | Path, wanted: bool) -> None:
    if wanted and net.weights:
        load_weights(model, weights_file(net, runs))


def build_training(
    recipe: Recipe, device: torch.device, runs: str | Path
) -> tuple[Dataset, Distiller, torch.optim.Optimizer]:
    """The data, the distiller and the optimizer of a training."""
    data = build_training_data(recipe, device, runs)
    check_batch_size(recipe, data.batch_size)
    distiller = build_distiller(recipe, data, runs, fold=True)
    return data, distiller, build_optimizer(distiller, recipe.optim)


def build_step(
    recipe: Recipe, data: Dataset, distiller: Distiller, optimizer: torch.optim.Optimizer, fabric: Fabric
) -> Step:
    """The training step, with distiller and optimizer set up by Fabric."""
    steps = data.steps * recipe.optim.epochs
    engine = choose_engine(recipe.engine, fabric.device, steps, can_be_captured(recipe.optim.name))
    averaged = Averaged(distiller.deployed, recipe.ema) if recipe.ema else None
    wrapped, wrapped_optimizer = fabric.setup(distiller, optimizer)
    return Step(wrapped, wrapped_optimizer, data, fabric, recipe, engine, averaged)


def check_batch_size(recipe: Recipe, batch_size: int) -> None:
    """UserError for a batch that cannot be divided among processes and gradient accumulation steps."""
    shares = distributed.world() * recipe.optim.accumulate
    if batch_size % shares:
        raise UserError(
            f"A step of {batch_size} images cannot be cut into {shares} equal parts ({distributed.world()} processes, "
            f"--optim.accumulate {recipe.optim.accumulate}): pass a multiple of {shares} as --data.batch_size."
        )


def round_teacher(distiller: Distiller, fabric: Fabric) -> None:
    """Round the teacher's weights once, where autocast would round them in every step.

    Its classifier stays in full precision, because some methods read its weights.
    """
    teacher = distiller.teacher
    if teacher is not None and isinstance(fabric.strategy.precision, Autocast):
        round_weights(teacher, {teacher.head} if teacher.head is not None else set())


def weights_file(net: Net, runs: str | Path = "runs") -> Path:
    """The file that the weights of a network name."""
    name = net.weights.removeprefix("recipe:")
    path = recipe_run(name, runs).path if name != net.weights else Path(net.weights)
    return path / "student.safetensors" if path.is_dir() else path


def recipe_run(name: str, runs: str | Path = "runs") -> Run:
    """The run that a recipe, built-in or a file, leaves by default."""
    return default_run(load_recipe(name), runs)


def default_run(recipe: Recipe, runs: str | Path = "runs") -> Run:
    return Run(Path(runs) / recipe.name / f"{recipe.method}-seed{recipe.seed}")


def load_trained(
    run: Run, device: torch.device | str = "cpu", runs: str | Path = "runs", recipe: Recipe | None = None
) -> tuple[Distiller, Dataset]:
    """The distiller of a run after its last epoch, in eval mode, and its data.

    `recipe` replaces the run's own, where paths have changed.
    """
    recipe = recipe or run.recipe
    recipe = replace(recipe, student=replace(recipe.student, weights=""))  # its initial weights are not needed
    data = build_recipe_data(recipe, device)
    distiller = build_distiller(recipe, data, runs)
    distiller.student.model.load_state_dict(run.student_state())
    distiller.methods.load_state_dict(run.method_state()[0])
    return distiller.eval(), data
