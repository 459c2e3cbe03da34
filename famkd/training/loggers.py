"""Loggers that receive the metrics of each epoch: TensorBoard, Weights & Biases and MLflow."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from famkd.config.recipe import Recipe
from famkd.errors import UserError


@contextlib.contextmanager
def open_loggers(recipe: Recipe, path: Path) -> Iterator[Callable[[dict], None]]:
    """A function that sends one row to each logger of the recipe; UserError where its package is not installed."""
    with contextlib.ExitStack() as stack:
        sinks = [OPENERS[name](recipe, path, stack) for name in recipe.log]

        def send(row: dict) -> None:
            figures = {key: value for key, value in row.items() if isinstance(value, float)}
            for sink in sinks:
                sink(figures, row["epoch"])

        yield send


def _tensorboard(recipe: Recipe, path: Path, stack: contextlib.ExitStack):
    with _needed("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    writer = stack.enter_context(SummaryWriter(str(path / "tensorboard")))

    def write(figures: dict[str, float], epoch: int) -> None:
        for key, value in figures.items():
            writer.add_scalar(key.replace(".", "/"), value, epoch)
        writer.flush()

    return write


def _wandb(recipe: Recipe, path: Path, stack: contextlib.ExitStack):
    with _needed("wandb"):
        import wandb
    run = wandb.init(project="famkd", name=f"{recipe.name}-{path.name}", dir=str(path), config=recipe.to_dict())
    stack.callback(run.finish)
    return lambda figures, epoch: run.log(figures, step=epoch)


def _mlflow(recipe: Recipe, path: Path, stack: contextlib.ExitStack):
    with _needed("mlflow"):
        import mlflow
    stack.enter_context(mlflow.start_run(run_name=f"{recipe.name}-{path.name}"))
    mlflow.log_dict(recipe.to_dict(), "recipe.yaml")
    return lambda figures, epoch: mlflow.log_metrics(figures, step=epoch)


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
