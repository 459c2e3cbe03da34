"""Write a store: run the teacher once over the training images under each augmentation."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import filelock
import torch
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.console import console, output
from famkd.distill.types import Dataset
from famkd.errors import UserError
from famkd.files import must_be_writable, write_tensors
from famkd.methods import METHODS
from famkd.store.data import reference_images
from famkd.store.header import Header, differing, missing_shards, read_header, shard_path, write_header
from famkd.tasks import TASKS
from famkd.training.build import build_fabric, build_recipe_data
from famkd.training.loop import train_teacher
from famkd.training.storable import LOGITS_ONLY, StorableTeacher, StoreOptions, header_of, storable_teacher


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
    if data.labels is None or data.size is None:
        raise UserError(
            f"A teacher of {recipe.data.name} cannot be stored: its images have no class or no common size."
        )
    if options.topk >= len(data.classes):
        raise UserError(f"--topk {options.topk} keeps all logits of {len(data.classes)} classes: leave it out.")
    teacher = storable_teacher(recipe, data, fabric, options, folder, runs)
    probe = teacher.outputs(data.probe())
    header = header_of(recipe, data, teacher, probe, options, runs, fabric)
    _must_agree(folder, header)
    missing = list(missing_shards(folder, header))
    _print_size(folder, header, recipe, len(missing))
    if missing:
        write_tensors(folder / "reference.safetensors", _reference(data, teacher, probe))
        write_header(folder, header)
        _write_shards(folder, header, data, teacher, missing)
    output.print(f"{folder}: train with --teacher.store {folder}")


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
        f"{decimal(header.bytes)} in all{done}; {decimal(free)} are free"
    )
    lacking = _lacking(header, recipe)
    for name, kinds in lacking.items():
        console.print(f"note: {name} of this recipe also needs --features {' '.join([*header.kinds, *kinds])}")
    if need > free:
        raise UserError(f"{folder} has room for {decimal(free)}, the store needs {decimal(need)}: pass fewer --views.")


def _lacking(header: Header, recipe: Recipe) -> dict[str, list[str]]:
    """Kinds of features that the recipe's own methods need and the store will not have."""
    lacking = {}
    for name in recipe.method_names:
        wants = METHODS[name].teacher_wants or METHODS[name].wants
        kinds = [kind for kind in wants.split("+") if kind != "logits" and kind not in header.kinds]
        if kinds:
            lacking[name] = kinds
    return lacking


def _reference(data: Dataset, teacher: StorableTeacher, probe: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a training needs beside the views: the probe's outputs, the classifier, and images to know these by."""
    tensors = {f"probe/{name}": value for name, value in probe.items()} | reference_images(data)
    head = teacher.network.head
    if isinstance(head, nn.Linear) or (isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1):
        tensors["head.weight"] = head.weight.detach().float().flatten(1).cpu()
        if head.bias is not None:
            tensors["head.bias"] = head.bias.detach().float().cpu()
    return tensors


def _write_shards(
    folder: Path, header: Header, data: Dataset, teacher: StorableTeacher, missing: Sequence[tuple[int, int]]
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


def _shard(header: Header, data: Dataset, teacher: StorableTeacher, view: int, rows: range) -> dict[str, Tensor]:
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
