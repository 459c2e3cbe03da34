"""What is sent elsewhere can be read back there; what is not installed is told in a sentence."""

import json
import sys
from types import SimpleNamespace

import pytest

from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.training.loggers import open_loggers
from famkd.training.loop import train

ROWS = [{"epoch": 1, "task.ce": 2.5, "top1": 10.0, "peak_mib": None}, {"epoch": 2, "task.ce": 1.25, "top1": 30.0}]


def test_tensorboard_files_hold_every_figure_of_a_real_run(small):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = train(small("--log", "tensorboard"), out="run")
    events = accumulator.EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert set(tags) == {"task/ce", "top1", "top5", "lr", "seconds", "images_per_s"}
    for tag in ("task/ce", "top1", "lr"):
        sent = [(event.step, event.value) for event in events.Scalars(tag)]
        kept = [(row["epoch"], pytest.approx(row[tag.replace("/", ".")])) for row in run.metrics()]
        assert sent == kept


@pytest.mark.parametrize("package", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_package_is_told(small, monkeypatch, package):
    missing = {"tensorboard": "torch.utils.tensorboard"}.get(package, package)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=f"--log {package} needs the package: pip install {package}") as told:
        train(small("--log", package), out="run")
    assert "\n" not in str(told.value)
    assert train(small("--epochs", "1"), out="run").finished  # nobody has to clear the directory first


def test_no_logger_is_no_work(small, tmp_path):
    with open_loggers(small(), tmp_path / "run") as log:
        log(ROWS[0])
    assert not (tmp_path / "run").exists()


def test_wandb_is_given_names_figures_and_an_end(small, monkeypatch, tmp_path):
    calls = []
    session = SimpleNamespace(
        id="a1", log=lambda figures, step: calls.append((step, figures)), finish=lambda: calls.append("end")
    )
    stand_in = SimpleNamespace(init=lambda **options: calls.append(options) or session)
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    recipe = small("--log", "wandb")
    with open_loggers(recipe, tmp_path / "none-seed0") as log:
        for row in ROWS:
            log(row)
    assert calls[0]["name"] == "small-none-seed0"
    assert calls[0]["config"]["student"]["model"] == "resnet8x0.5"
    assert calls[1:] == [(1, {"task.ce": 2.5, "top1": 10.0}), (2, {"task.ce": 1.25, "top1": 30.0}), "end"]


def test_mlflow_is_given_figures_by_step(small, monkeypatch, tmp_path):
    calls = []

    class Session:
        def __enter__(self):
            calls.append("start")
            return SimpleNamespace(info=SimpleNamespace(run_id="a1"))

        def __exit__(self, *error):
            calls.append("end")

    stand_in = SimpleNamespace(
        MlflowException=ValueError,
        start_run=lambda run_name: Session(),
        log_dict=lambda tree, name: calls.append((name, tree["seed"])),
        log_metrics=lambda figures, step: calls.append((step, figures["top1"])),
    )
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    with open_loggers(small("--log", "mlflow", "--seed", "3"), tmp_path) as log:
        for row in ROWS:
            log(row)
    assert calls == ["start", ("recipe.yaml", 3), (1, 10.0), (2, 30.0), "end"]


def resumed_after_an_epoch(small, logger: str, *callbacks) -> Run:
    """A training of one epoch, and its continuation to three."""
    flags = ("--log", logger, "--optim.steps", "1")
    train(small(*flags, "--epochs", "1"), out="run", callbacks=callbacks)
    return train(small(*flags, "--epochs", "3"), out="run", resume=True, callbacks=callbacks)


@pytest.mark.parametrize("project", ["", "digits"])
def test_wandb_itself_goes_on_in_the_same_run_and_heeds_its_project(small, monkeypatch, project):
    wandb = pytest.importorskip("wandb")
    seen = []

    def on_train_begin(now):
        seen.append((wandb.run.id, wandb.run.project))

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    if project:
        monkeypatch.setenv("WANDB_PROJECT", project)
    run = resumed_after_an_epoch(small, "wandb", on_train_begin)
    kept = json.loads((run.path / "loggers.json").read_text())["wandb"]
    assert kept["project"] == (project or "famkd")
    assert seen == [(kept["id"], kept["project"])] * 2
    folders = sorted((run.path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2  # wandb joins parts of one id when it sends them
    assert {folder.name.rpartition("-")[2] for folder in folders} == {kept["id"]}


def test_mlflow_itself_goes_on_in_the_same_run(small, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    for name, value in (("TRACKING_URI", (tmp_path / "mlruns").as_uri()), ("ALLOW_FILE_STORE", "true")):
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    run = resumed_after_an_epoch(small, "mlflow")
    client = mlflow.MlflowClient()
    (experiment,) = [each for each in client.search_experiments() if each.name == "digits"]
    (found,) = client.search_runs([experiment.experiment_id])
    sent = [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, "top1")]
    assert sent == [(row["epoch"], pytest.approx(row["top1"])) for row in run.metrics()]
    (run.path / "loggers.json").write_text(json.dumps({"mlflow": {"id": "0" * 32}}))
    recipe = small("--log", "mlflow", "--optim.steps", "1", "--epochs", "4")
    with pytest.raises(UserError, match=r"MLflow does not know the run 0{32}"):
        train(recipe, out="run", resume=True)


def test_the_run_directory_is_complete_whatever_is_logged(small):
    plain, logged = (train(small(*flags), out=out) for out, flags in (("a", ()), ("b", ("--log", "tensorboard"))))
    assert plain.metrics() == logged.metrics() == Run("b").metrics()
