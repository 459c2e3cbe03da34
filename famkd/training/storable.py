"""The teacher as a store keeps it: its network, what is kept of its outputs, and what tells it from another."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from famkd.config.recipe import Recipe
from famkd.config.sections import data_options
from famkd.console import console
from famkd.distill.distiller import freeze
from famkd.distill.types import Batch, Dataset, View
from famkd.errors import UserError
from famkd.features.taps import Tapped, default_head, default_taps
from famkd.models.fold import fold_batch_norms
from famkd.run.directory import Run
from famkd.run.environment import environment_info
from famkd.store.columns import encode
from famkd.store.data import labels_digest
from famkd.store.header import FORMAT, Column, Header
from famkd.tasks import TASKS
from famkd.training.build import round_teacher
from famkd.training.head import with_trained_head
from famkd.training.networks import load_network
from famkd.training.places import weights_digest

SHARD_BYTES = 64 << 20  # of a shard at most, and of memory that is held while one is written
SHARD_ROWS = 4096  # images in a shard at most: what a stopped command has to compute again


class StoreOptions(NamedTuple):
    """What to keep of each image."""

    features: Sequence[str] = ()
    topk: int = 0
    dtype: str = "float16"


LOGITS_ONLY = StoreOptions()


class StorableTeacher(NamedTuple):
    """A network that is ready to teach, and what its outputs are stored as."""

    network: Tapped
    kinds: dict[str, list[str]]
    outputs: Callable[[Batch], dict[str, Tensor]]  # the columns of a batch
    figures: dict[str, float]  # on the test set


def storable_teacher(
    recipe: Recipe, data: Dataset, fabric: Fabric, options: StoreOptions, folder: Path, runs: str | Path
) -> StorableTeacher:
    """The teacher as training would run it, measured on the test set."""
    task = TASKS[recipe.task]
    model = freeze(_network(recipe, data, folder, runs))
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
    round_teacher(network, fabric)

    @torch.no_grad()
    def outputs(batch: Batch) -> dict[str, Tensor]:
        with fabric.autocast():
            view: View = task.teach(network, batch)
        assert view.logits is not None
        features = dict(zip(taps, view.feats))
        return encode(view.logits, features, topk=options.topk, dtype=getattr(torch, options.dtype))

    return StorableTeacher(network, kinds, outputs, figures)


def _network(recipe: Recipe, data: Dataset, folder: Path, runs: str | Path) -> nn.Module:
    """The teacher with its weights; a classifier that is trained for it is kept in the folder."""
    kept = Run(folder)
    built = load_network(recipe.teacher, data, recipe.task, runs, who="teacher")
    if built.new_head and not recipe.teacher.finetune_head:
        raise UserError(
            f"The classifier of {recipe.teacher.model} has random weights, because {built.new_head}: pass "
            "--teacher.finetune_head 5 to train it first, or weights for these classes."
        )
    built = with_trained_head(built, recipe, data, kept)
    if built.head:
        kept.write_teacher_head(built.head)
    for remark in built.remarks:
        console.print(f"teacher: {remark}")
    return built.model


def teacher_settings(recipe: Recipe) -> dict[str, Any]:
    """The teacher's settings beside its model, its weights and its store."""
    return {name: value for name, value in vars(recipe.teacher).items() if name not in ("model", "weights", "store")}


def _listed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def header_of(
    recipe: Recipe,
    data: Dataset,
    teacher: StorableTeacher,
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
    settings |= {f"augment.{name}": value for name, value in vars(recipe.augment).items()}
    settings |= {name: getattr(recipe.data, name) for name in data_options(recipe.data.name)}
    assert data.labels is not None
    return Header(
        format=FORMAT,
        model=recipe.teacher.model,
        weights=recipe.teacher.weights,
        weights_sha256=weights_digest(recipe.teacher, runs),
        figures=teacher.figures,
        images=len(data.labels),
        classes=list(data.classes),
        labels_sha256=labels_digest(data.labels),
        data=_listed(settings),
        views=recipe.data.views,
        views_seed=recipe.data.views_seed,
        precision=fabric.strategy.precision.precision,
        topk=options.topk,
        settings=_listed(teacher_settings(recipe)),
        kinds=teacher.kinds,
        columns=columns,
        rows=max(1, min(SHARD_ROWS, SHARD_BYTES // row)),
        made=environment_info(str(fabric.device)),
    )
