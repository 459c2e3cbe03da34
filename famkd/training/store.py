"""Write a store: run the teacher once over the training images under each augmentation."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from famkd.config.recipe import Recipe
from famkd.config.sections import data_options
from famkd.config.validate import validated
from famkd.console import console
from famkd.distill.distiller import freeze
from famkd.distill.types import Batch, Dataset, View
from famkd.errors import UserError
from famkd.features.taps import Tapped, default_head, default_taps
from famkd.files import must_be_writable, write_tensors
from famkd.methods import METHODS
from famkd.models.fold import fold_batch_norms, round_weights
from famkd.run.environment import environment_info
from famkd.store.columns import encode
from famkd.store.data import labels_digest, reference_images
from famkd.store.header import (
    FORMAT,
    Column,
    Header,
    differing,
    missing_shards,
    read_header,
    shard_path,
    write_header,
)
from famkd.tasks import TASKS
from famkd.training.build import Autocast, build_fabric, build_network, build_recipe_data, teacher_file
from famkd.training.loop import train_teacher
from famkd.training.stored import files_digest

SHARD_BYTES = 64 << 20  # of a shard at most, and of memory that is held while one is written
SHARD_ROWS = 4096  # images in a shard at most: what a stopped command has to compute again


class StoreOptions(NamedTuple):
    """What to keep of each image."""

    features: Sequence[str] = ()
    topk: int = 0
    dtype: str = "float16"


LOGITS_ONLY = StoreOptions()


class Teacher(NamedTuple):
    """A network that is ready to teach, and what its outputs are stored as."""

    network: Tapped
    kinds: dict[str, list[str]]
    outputs: Callable[[Batch], dict[str, Tensor]]  # the columns of a batch
    figures: dict[str, float]  # on the test set


def store_teacher(
    recipe: Recipe, out: str | Path = "", options: StoreOptions = LOGITS_ONLY, runs: str | Path = "runs"
) -> Path:
    """Store the outputs of a recipe's teacher under `data.views` augmentations of each training image.

    A store that is unfinished is continued. Returns its folder.

    Args:
        out: the folder; by default stores/<teacher>-<data set>-<views>.

    Errors: UserError for anything the user can fix, such as a folder that holds another store.
    """
    recipe = _checked(recipe, options)
    model, data_name, views = recipe.teacher.model, recipe.data.name, recipe.data.views
    folder = Path(out) if out else Path("stores") / f"{model.replace(':', '-').replace('/', '-')}-{data_name}-{views}"
    must_be_writable(folder)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"Another process is writing {folder}: wait for it, or pass another --out.") from None
    with lock:
        train_teacher(recipe, runs)
        _write(recipe, folder, options, runs)
    return folder


def _checked(recipe: Recipe, options: StoreOptions) -> Recipe:
    if not recipe.method_names:
        raise UserError("A store needs a teacher: name a recipe with a method, or pass --method kd and the teacher.")
    if not recipe.data.views:
        raise UserError("Say how many augmentations of each image to store, as in --views 4.")
    if recipe.teacher.store:
        raise UserError("--teacher.store is for training: leave it out, and name the teacher by --teacher.weights.")
    recipe = validated(recipe)
    if not TASKS[recipe.task].returns_logits:
        raise UserError(f"A teacher of {recipe.task} cannot be stored, as its maps differ in size from image to image.")
    if options.topk < 0:
        raise UserError(f"--topk is {options.topk}: pass 1 or more, or 0 for all logits.")
    return recipe


def _write(recipe: Recipe, folder: Path, options: StoreOptions, runs: str | Path) -> None:
    fabric = build_fabric(recipe)
    torch.manual_seed(recipe.seed)
    data = build_recipe_data(recipe, fabric.device)
    if options.topk >= len(data.classes):
        raise UserError(f"--topk {options.topk} keeps all logits of {len(data.classes)} classes: leave it out.")
    teacher = _teacher(recipe, data, fabric, options, runs)
    probe = teacher.outputs(data.probe())
    header = _header(recipe, data, teacher, probe, options, runs, fabric)
    _must_agree(folder, header)
    missing = list(missing_shards(folder, header))
    _print_size(folder, header, recipe, len(missing))
    if missing:
        write_tensors(folder / "reference.safetensors", _reference(data, teacher, probe))
        write_header(folder, header)
        _write_shards(folder, header, data, teacher, missing)
    console.print(f"{folder}: train with --teacher.store {folder}")


def _teacher(recipe: Recipe, data: Dataset, fabric: Fabric, options: StoreOptions, runs: str | Path) -> Teacher:
    """The teacher as training would run it, measured on the test set."""
    task = TASKS[recipe.task]
    model = freeze(build_network(recipe.teacher, data, recipe.task, runs, who="teacher"))
    figures = task.evaluate(model, data.test()).figures
    shown = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
    console.print(f"teacher {recipe.teacher.model}  {shown}  ({recipe.teacher.weights})")
    images = data.probe().images
    if task.folds_teacher:
        fold_batch_norms(model, images, keep=recipe.teacher.taps)
    named = list(recipe.teacher.taps)
    kinds = {
        kind: named if named and kind != "embed" else default_taps(model, kind, images) for kind in options.features
    }
    taps = list(dict.fromkeys(tap for taps in kinds.values() for tap in taps))
    network = freeze(Tapped(model, taps, default_head(model, images)))
    if isinstance(fabric.strategy.precision, Autocast):
        round_weights(network, {network.head} if network.head is not None else set())

    @torch.no_grad()
    def outputs(batch: Batch) -> dict[str, Tensor]:
        with fabric.autocast():
            view: View = task.teach(network, batch)
        assert view.logits is not None
        features = dict(zip(taps, view.feats))
        return encode(view.logits, features, topk=options.topk, dtype=getattr(torch, options.dtype))

    return Teacher(network, kinds, outputs, figures)


def _header(
    recipe: Recipe,
    data: Dataset,
    teacher: Teacher,
    probe: dict[str, Tensor],
    options: StoreOptions,
    runs: str | Path,
    fabric: Fabric,
) -> Header:
    columns = {
        name: Column(list(value.shape[1:]), str(value.dtype).removeprefix("torch.")) for name, value in probe.items()
    }
    row = sum(column.bytes for column in columns.values())
    settings = {name: getattr(recipe.data, name) for name in ("name", "augment", "val", "val_seed")}
    settings |= {name: getattr(recipe.data, name) for name in data_options(recipe.data.name)}
    file = teacher_file(recipe.teacher, runs)
    assert data.labels is not None
    return Header(
        format=FORMAT,
        model=recipe.teacher.model,
        weights=recipe.teacher.weights,
        weights_sha256=files_digest(file) if file else "",
        figures=teacher.figures,
        images=len(data.labels),
        classes=list(data.classes),
        labels_sha256=labels_digest(data.labels),
        data={name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        views=recipe.data.views,
        views_seed=recipe.data.views_seed,
        precision="bf16-mixed" if isinstance(fabric.strategy.precision, Autocast) else "32-true",
        topk=options.topk,
        named_taps=list(recipe.teacher.taps),
        kinds=teacher.kinds,
        columns=columns,
        rows=max(1, min(SHARD_ROWS, SHARD_BYTES // row)),
        made=environment_info(str(fabric.device)),
    )


def _must_agree(folder: Path, header: Header) -> None:
    """UserError where the folder holds a store of something else."""
    if not (folder / "store.json").is_file():
        return
    changed = differing(read_header(folder), header)
    if changed:
        raise UserError(
            f"{folder} holds another store ({', '.join(changed[:3])} differ): pass another --out, or delete it."
        )


def _print_size(folder: Path, header: Header, recipe: Recipe, missing: int) -> None:
    """Say what the store will take before anything is written; UserError where it does not fit."""
    shards = header.views * header.shards
    need, free = header.bytes * missing // shards, shutil.disk_usage(folder).free
    done = f", {shards - missing} of {shards} shards are there" if missing < shards else ""
    kept = ", ".join([f"{header.topk or len(header.classes)} logits", *header.kinds])
    console.print(
        f"{folder}: {header.images:,} images, {header.views} views, {kept}: {header.bytes_per_image:,} bytes an image, "
        f"{_size(header.bytes)} in all{done}; {_size(free)} are free"
    )
    lacking = _lacking(header, recipe)
    for name, kinds in lacking.items():
        console.print(f"note: {name} of this recipe also needs --features {' '.join([*header.kinds, *kinds])}")
    if need > free:
        raise UserError(f"{folder} has room for {_size(free)}, the store needs {_size(need)}: pass fewer --views.")


def _lacking(header: Header, recipe: Recipe) -> dict[str, list[str]]:
    """Kinds of features that the recipe's own methods need and the store will not have."""
    lacking = {}
    for name in recipe.method_names:
        wants = METHODS[name].teacher_wants or METHODS[name].wants
        kinds = [kind for kind in wants.split("+") if kind != "logits" and kind not in header.kinds]
        if kinds:
            lacking[name] = kinds
    return lacking


def _reference(data: Dataset, teacher: Teacher, probe: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a training needs beside the views: the probe's outputs, the classifier, and images to know these by."""
    tensors = {f"probe/{name}": value for name, value in probe.items()} | reference_images(data)
    head = teacher.network.head
    if isinstance(head, nn.Linear) or (isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1):
        tensors["head.weight"] = head.weight.detach().float().flatten(1).cpu()
        if head.bias is not None:
            tensors["head.bias"] = head.bias.detach().float().cpu()
    return tensors


def _write_shards(
    folder: Path, header: Header, data: Dataset, teacher: Teacher, missing: Sequence[tuple[int, int]]
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        line = bar.add_task(f"{header.views} views", total=header.views * header.shards)
        bar.update(line, completed=header.views * header.shards - len(missing))
        for view, shard in missing:
            rows = range(shard * header.rows, min(header.images, (shard + 1) * header.rows))
            write_tensors(shard_path(folder, view, shard), _shard(header, data, teacher, view, rows))
            bar.advance(line)
            if shard == header.shards - 1:
                console.print(f"{folder}: view {view} of {header.views} is stored")


def _shard(header: Header, data: Dataset, teacher: Teacher, view: int, rows: range) -> dict[str, Tensor]:
    """The columns of some images. An image that cannot be read keeps zeros: training shows the next one instead."""
    shard = {
        name: torch.zeros(len(rows), *column.shape, dtype=getattr(torch, column.dtype))
        for name, column in header.columns.items()
    }
    for batch in data.view(view, rows):
        index = batch.index.cpu()
        own = (index >= rows.start) & (index < rows.stop)
        for name, values in teacher.outputs(batch).items():
            shard[name][index[own] - rows.start] = values[own]
    return shard


def _size(count: int) -> str:
    """Bytes in units that people read."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
