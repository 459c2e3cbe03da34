"""From a recipe to live objects: networks with their weights, the distiller, the optimizer, the step."""

import warnings
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from famkd import distributed
from famkd.config.recipe import Net, Recipe
from famkd.config.sections import data_options, method_arguments
from famkd.data import build_data
from famkd.data.augment import NOTHING
from famkd.data.augmented import augmented
from famkd.data.views import Views
from famkd.distill.distiller import Distiller
from famkd.distill.types import Dataset
from famkd.errors import UserError, one_line
from famkd.features.taps import Tapped
from famkd.methods import METHODS
from famkd.models.fold import fold_batch_norms, round_weights
from famkd.models.freeze import freeze_parts
from famkd.run.directory import Run
from famkd.store.data import TaughtData, taught
from famkd.store.shards import Store
from famkd.tasks import TASKS
from famkd.training.average import Averaged
from famkd.training.facts import facts_of
from famkd.training.head import with_trained_head
from famkd.training.judged import judged
from famkd.training.networks import Built, load_network, student_of
from famkd.training.optimizer import build_optimizer, can_be_captured
from famkd.training.places import weights_digest
from famkd.training.precision import Autocast, ScaledAutocast
from famkd.training.step import Step, choose_engine


def build_fabric(recipe: Recipe, devices: int = 1, nodes: int = 1) -> Fabric:
    """The devices and the precision of a recipe. Single-precision matrix products on a GPU may use TF32."""
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")
    fabric = _fabric(recipe.accelerator, None, devices, nodes)
    device = fabric.device.type
    supported = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if recipe.precision == "16-mixed":
        return _fabric(recipe.accelerator, ScaledAutocast(device), devices, nodes)
    if recipe.precision == "bf16-mixed" or (recipe.precision == "auto" and supported):
        return _fabric(recipe.accelerator, Autocast(device), devices, nodes)
    return fabric


def one_device(accelerator: str) -> Fabric:
    """Fabric on one device; UserError for an accelerator that is unknown or absent."""
    return _fabric(accelerator, None, 1, 1)


def devices_of(recipe: Recipe) -> torch.device:
    """The device of a recipe's first process; UserError where its devices are not here."""
    return _fabric(recipe.accelerator, None, recipe.devices, recipe.nodes).device


def _fabric(accelerator: str, precision: Precision | None, devices: int, nodes: int) -> Fabric:
    # Each process keeps its own buffers: broadcasting them before every step would send CRD's memory of the whole
    # training set. Methods gather what must agree, and running statistics are averaged after each epoch.
    known = signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {"gradient_as_bucket_view": True, buffers: False}
    several = devices * nodes > 1
    strategy = DDPStrategy(**options) if several else "auto"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `srun` command")  # a machine of a cluster also trains by itself
            return Fabric(
                accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy, plugins=precision
            )
    except Exception as error:  # Lightning raises exceptions of its own
        if several:
            reason = one_line(error)
            raise UserError(f"Cannot use {devices} devices of accelerator {accelerator!r}: {reason}") from error
        raise UserError(f"There is no accelerator {accelerator!r} here: pass auto, cpu, cuda or mps.") from error


def build_recipe_data(recipe: Recipe, device: torch.device | str = "cpu") -> Dataset:
    """The data set of a recipe, on a device."""
    data = recipe.data
    options = {name: getattr(data, name) for name in data_options(data.name)}
    built = build_data(
        data.name, data.root, data.batch_size, device=device, seed=recipe.seed, augment=data.augment, val=data.val,
        val_seed=data.val_seed, balance=data.balance, views=data.views, views_seed=data.views_seed, task=recipe.task,
        classes=data.classes, **options,
    )  # fmt: skip
    if recipe.augment == NOTHING:
        return built
    views = Views(data.views, data.views_seed) if data.views else None
    return augmented(built, recipe.augment, recipe.seed, views)


class Networks(NamedTuple):
    """Student and teacher with their weights; no teacher without a method, and where it is stored."""

    student: Built
    teacher: Built | None


def build_networks(
    recipe: Recipe,
    data: Dataset,
    runs: str | Path = "runs",
    *,
    weights: bool = True,
    run: Run | None = None,
    rehearsal: bool = False,
) -> Networks:
    """The networks of a recipe on the data's device.

    Args:
        weights: False leaves them with random weights.
        run: a run of the recipe that may hold the classifier which was trained for its teacher.
        rehearsal: whether nothing is to be trained.
    """
    student = load_network(recipe.student, data, recipe.task, runs, weights=weights, who="student")
    if recipe.student.freeze:
        freeze_parts(student.model, recipe.student.freeze)
    if recipe.sync_bn:
        student = student._replace(model=distributed.to_sync_batchnorm(student.model, data.device))
    if not recipe.method_names or isinstance(data, TaughtData):
        return Networks(student, None)
    teacher = load_network(recipe.teacher, data, recipe.task, runs, weights=weights, who="teacher")
    if weights and recipe.teacher.weights:
        teacher = with_trained_head(teacher, recipe, data, run, rehearsal)
    return Networks(student, teacher)


def build_training_data(recipe: Recipe, device: torch.device | str = "cpu", runs: str | Path = "runs") -> Dataset:
    """The data set of a training: with `teacher.store`, its batches hold the teacher's outputs."""
    return with_stored_teacher(recipe, build_recipe_data(recipe, device), runs)


def with_stored_teacher(recipe: Recipe, data: Dataset, runs: str | Path = "runs") -> Dataset:
    """The data set with the outputs of the recipe's stored teacher in its batches, if it has one."""
    if not (recipe.teacher.store and recipe.method_names):
        return data
    store = Store(recipe.teacher.store)
    _must_be_same_weights(store, recipe.teacher, runs)
    methods = {name: METHODS[name] for name in recipe.method_names}
    return taught(data, store, {name: method.teacher_wants or method.wants for name, method in methods.items()})


def _must_be_same_weights(store: Store, teacher: Net, runs: str | Path) -> None:
    """UserError where a store is of other weights than the recipe's. Without a file, the names are compared."""
    header, digest = store.header, weights_digest(teacher, runs)
    same = digest == header.weights_sha256 if digest else teacher.weights == header.weights
    if not same:
        raise UserError(
            f"{store.folder} is of other weights of {header.model} ({header.weights}) than {teacher.weights}: store "
            "these, or leave --teacher.weights out."
        )


def build_distiller(
    recipe: Recipe,
    data: Dataset,
    runs: str | Path = "runs",
    *,
    weights: bool = True,
    fold: bool = False,
    networks: Networks | None = None,
) -> Distiller:
    """Student, teacher and methods on the data's device, the methods shaped by one real batch.

    Args:
        weights: False leaves the networks with random weights, for a run whose own states are loaded next.
        fold: merge the teacher's batch norms into its convolutions, which gives the same function at less cost.
        networks: what `build_networks` returned, if it was called before.
    """
    task: Any = TASKS[recipe.task]
    if recipe.label_smoothing:
        task = task.smoothed(recipe.label_smoothing)
    if hasattr(task, "with_loss"):
        task = task.with_loss(recipe.regression_loss)
    methods = {name: METHODS[name] for name in recipe.method_names}
    networks = networks or build_networks(recipe, data, runs, weights=weights)
    student, teacher = networks.student.model, networks.teacher.model if networks.teacher else None
    task.prepare(student, teacher)
    if teacher is not None and fold and task.folds_teacher:
        fold_batch_norms(teacher, data.probe().images, keep=recipe.teacher.taps)
    stored = data.teacher if isinstance(data, TaughtData) else None
    options = {name: method_arguments(method, vars(recipe.section(name))) for name, method in methods.items()}
    try:
        distiller = Distiller(
            task, student, stored or teacher, methods, options=options, probe=data.probe(), labels=data.labels,
            student_taps=recipe.student.taps, teacher_taps=recipe.teacher.taps,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{recipe.method} cannot teach this pair: {error}.") from error
    if recipe.sync_bn:
        distributed.to_sync_batchnorm(distiller.methods, data.device)
    return distiller.to(data.device)  # methods are built on the CPU, so that a seed draws the same on every device


class Training(NamedTuple):
    """Everything that a training starts from."""

    data: Dataset
    distiller: Distiller
    optimizer: torch.optim.Optimizer
    networks: Networks
    facts: dict[str, Any]


def build_training(recipe: Recipe, device: torch.device, runs: str | Path, run: Run | None = None) -> Training:
    """The data, the distiller and the optimizer of a training.

    Args:
        run: the run that this training continues.
    """
    data = build_training_data(recipe, device, runs)
    check_batch_size(recipe, data.batch_size)
    networks = build_networks(recipe, data, runs, run=run)
    facts = facts_of(data, networks.student, networks.teacher)  # the teacher's weights change next
    if isinstance(data, TaughtData):
        facts["teacher"] = {"weights": data.store.header.identity}
    distiller = build_distiller(recipe, data, runs, fold=True, networks=networks)
    data = judged(distiller.task, data, networks.teacher.model if networks.teacher else None)
    return Training(data, distiller, build_optimizer(distiller, recipe.optim), networks, facts)


def build_step(
    recipe: Recipe, data: Dataset, distiller: Distiller, optimizer: torch.optim.Optimizer, fabric: Fabric
) -> Step:
    """The training step, with distiller and optimizer set up by Fabric."""
    steps = data.steps * recipe.optim.epochs
    captured = can_be_captured(recipe.optim.name) and recipe.precision != "16-mixed"  # a scaler waits for the device
    engine = choose_engine(recipe.engine, fabric.device, steps, captured)
    averaged = Averaged(distiller.deployed, recipe.ema) if recipe.ema else None
    wrapped, wrapped_optimizer = fabric.setup(distiller, optimizer)
    return Step(wrapped, wrapped_optimizer, data, fabric, recipe, engine, averaged)


def check_batch_size(recipe: Recipe, batch_size: int, processes: int = 1) -> None:
    """UserError for a batch that cannot be divided among processes and gradient accumulation steps."""
    processes = max(processes, distributed.world())
    shares = processes * recipe.optim.accumulate
    if batch_size % shares:
        raise UserError(
            f"A step of {batch_size} images cannot be cut into {shares} equal parts ({processes} processes, "
            f"--optim.accumulate {recipe.optim.accumulate}): pass a multiple of {shares} as --data.batch_size."
        )


def round_teacher(teacher: Tapped | None, fabric: Fabric) -> None:
    """Round the teacher's weights once, where autocast would round them in every step.

    Its classifier stays in full precision, because some methods read its weights.
    """
    if teacher is not None and isinstance(fabric.strategy.precision, Autocast):
        round_weights(teacher, {teacher.head} if teacher.head is not None else set())


def load_trained(
    run: Run, device: torch.device | str = "cpu", runs: str | Path = "runs", recipe: Recipe | None = None
) -> tuple[Distiller, Dataset]:
    """The distiller of a run after its last epoch, in eval mode, and its data.

    `recipe` replaces the run's own, where paths have changed.
    """
    recipe = recipe or run.recipe
    recipe = replace(recipe, student=student_of(run))
    data = build_recipe_data(recipe, device)
    distiller = build_distiller(recipe, data, runs, networks=build_networks(recipe, data, runs, run=run))
    distiller.student.model.load_state_dict(run.student_state())
    distiller.methods.load_state_dict(run.method_state()[0])
    return distiller.eval(), data
