"""Loggers that receive the metrics of each epoch: TensorBoard, Weights & Biases and MLflow."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from famkd.config.recipe import Recipe
from famkd.errors import UserError
from famkd.files import read_json, write_atomically

Sink = Callable[[dict[str, float], int], None]  # figures by name, and the epoch

IDS = "loggers.json"  # in the run directory: what a resumed training needs to go on in the same place, by logger


@contextlib.contextmanager
def open_loggers(recipe: Recipe, path: Path, resumed: bool = False) -> Iterator[Callable[[dict], None]]:
    """A function that sends one row to each logger of the recipe.

    Args:
        path: the run directory; it keeps the ids of the loggers' own runs.
        resumed: go on in the runs of Weights & Biases and MLflow that an earlier part of this training wrote to.

    Errors: UserError if a package is not installed.
    """
    known = read_json(path / IDS) if resumed and (path / IDS).is_file() else {}
    with contextlib.ExitStack() as stack:
        sinks: list[Sink] = []
        for name in recipe.log:
            sink, known[name] = OPENERS[name](recipe, path, stack, known.get(name, {}))
            sinks.append(sink)
        if any(known.values()):
            write_atomically(path / IDS, json.dumps(known, indent=1).encode())

        def send(row: dict) -> None:
            figures = {key: value for key, value in row.items() if isinstance(value, float)}
            for sink in sinks:
                sink(figures, row["epoch"])

        yield send


def _tensorboard(recipe: Recipe, path: Path, stack: contextlib.ExitStack, known: dict[str, str]):
    with _needed("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    writer = stack.enter_context(SummaryWriter(str(path / "tensorboard")))

    def write(figures: dict[str, float], epoch: int) -> None:
        for key, value in figures.items():
            writer.add_scalar(key.replace(".", "/"), value, epoch)
        writer.flush()

    return write, {}


def _wandb(recipe: Recipe, path: Path, stack: contextlib.ExitStack, known: dict[str, str]):
    """The project is that of WANDB_PROJECT, else that of the run that is resumed, else famkd."""
    with _needed("wandb"):
        import wandb
    project = os.environ.get("WANDB_PROJECT") or known.get("project") or "famkd"
    resumed = {"id": known["id"], "resume": "allow"} if known else {}
    run = wandb.init(
        project=project, name=f"{recipe.name}-{path.name}", dir=str(path), config=recipe.to_dict(), **resumed
    )
    stack.callback(run.finish)
    return lambda figures, epoch: run.log(figures, step=epoch), {"id": run.id, "project": project}


def _mlflow(recipe: Recipe, path: Path, stack: contextlib.ExitStack, known: dict[str, str]):
    """The experiment and the server are those of MLFLOW_EXPERIMENT_NAME and MLFLOW_TRACKING_URI."""
    with _needed("mlflow"):
        import mlflow
    options = {"run_id": known["id"]} if known else {"run_name": f"{recipe.name}-{path.name}"}
    try:
        run = stack.enter_context(mlflow.start_run(**options))
    except mlflow.MlflowException as error:
        if not known:
            raise
        raise UserError(
            f"MLflow does not know the run {known['id']} that this training wrote to: set MLFLOW_TRACKING_URI as it "
            f"was then, or remove {path / IDS} to begin another one."
        ) from error
    mlflow.log_dict(recipe.to_dict(), "recipe.yaml")
    return lambda figures, epoch: mlflow.log_metrics(figures, step=epoch), {"id": run.info.run_id}


def must_be_installed(names: Iterable[str]) -> None:
    """UserError for the first logger of a recipe whose package is not installed."""
    for name in names:
        with _needed(name):
            if find_spec(name) is None:
                raise ImportError


@contextlib.contextmanager
def _needed(package: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UserError(f"--log {package} needs the package: pip install {package}.") from error


OPENERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
