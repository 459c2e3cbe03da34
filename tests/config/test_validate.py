"""What is told before anything is built or trained: numbers, names, options, the teacher that is meant."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from famkd.bench.step import bench
from famkd.cli.eval import eval_command
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.errors import UserError
from famkd.evaluate import closing_table, evaluate_checkpoint, evaluate_run
from famkd.export import export
from famkd.files import write_tensors
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.sweep.grid import plan, teacher_jobs
from famkd.sweep.seeds import train_seeds
from famkd.training.loop import train

FAM = ("--method", "fam_review", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt")


@pytest.mark.parametrize(
    "flag",
    ["optim.lr inf", "optim.lr nan", "optim.gamma -1", "optim.lr_warmup -2", "optim.steps 5 -4", "optim.steps 0",
     "fam_review.weight -1", "fam_review.weight inf", "fam_review.task_weight -1", "fam_review.warmup -1", "seed -1",
     "seed 4294967296"],
)  # fmt: skip
def test_numbers_that_cannot_be_meant(flag):
    name, *values = flag.split()
    with pytest.raises(UserError, match=rf"--{name} is .*{values[-1]}"):
        validated(load_recipe("quickstart", f"--{name}", *values))


def test_an_option_means_something_or_is_refused():
    for option in ("size 64", "workers 7", "longest 9", "sides 8 9", "gpu_decode", "splits a b"):
        name, *values = option.split()
        with pytest.raises(UserError, match=rf"--data.{name} is an option of .*(imagenet|coco), not of digits"):
            validated(load_recipe("quickstart", f"--data.{name}", *values))
    assert validated(load_recipe("imagenet/resnet34-resnet18", "--data.size", "64", "--data.workers", "7"))


def test_a_misspelt_name_is_no_other_run(small):
    train(small("--epochs", "1"))
    for flags, why in ((("--student.model", "resnet21"), "no model 'resnet21'"), (("--data", "digit"), "no data set")):
        with pytest.raises(UserError, match=why):
            train(small("--epochs", "1", *flags))


def test_a_folder_of_other_things_takes_no_run(small):
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").touch()
    with pytest.raises(UserError, match=r"thesis is not a run but holds chapter\.tex"):
        train(small("--epochs", "1"), out="thesis")
    assert [path.name for path in Path("thesis").glob("[!.]*")] == ["chapter.tex"]


# teachers ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def school(small):
    """A student's recipe whose teacher is `recipe:big.yaml`."""
    Path("big.yaml").write_text(Path("small.yaml").read_text().replace("resnet8x0.5", "resnet8"))
    taught = ("--teacher.model", "resnet8", "--teacher.weights", "recipe:big.yaml", "--epochs", "1")
    return lambda *flags: small(*(flags or ("--method", "kd")), *taught)


def test_another_run_in_the_teachers_place_is_not_taken(school, small):
    train(load_recipe("big.yaml", "--epochs", "1"))
    recipe = school()
    assert load_recipe("big.yaml").optim.epochs > 1
    with pytest.raises(UserError, match=r"big/none-seed0 is not a run of the recipe big.yaml \(optim.epochs differ"):
        train(recipe)
    with pytest.raises(UserError, match=r"optim.epochs differ"):
        teacher_jobs(plan([{"recipe": "small.yaml", "method": "kd", "teacher.model": "resnet8",
                            "teacher.weights": "recipe:big.yaml"}], Path("runs"), "grid"), Path("runs"))  # fmt: skip
    own = replace(recipe, teacher=replace(recipe.teacher, weights="runs/big/none-seed0"))
    assert train(own).finished


def test_a_teacher_of_other_data_is_not_trained(school):
    recipe = school()
    with pytest.raises(
        UserError,
        match=r"The teacher big.yaml is trained on .*, its student on bands: .*`famkd train big.yaml",
    ):
        train(replace(recipe, data=replace(recipe.data, name="bands", root="data")))
    assert not Path("runs").exists() or not list(Path("runs").rglob("metrics.jsonl"))


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("--method", "kd", "--engine", "graph"), "engine graph"),
        (("--method", "kd", "--optim.momentum", "-1"), "momentum"),
        (("--method", "kd", "--optim.accumulate", "5"), "5 equal parts"),
        (("--method", "kd", "--student.taps", "nowhere"), "nowhere"),
        (("--method", "fam_review", "--fam_review.cutoff", "-1"), "cutoff is -1"),
        (("--method", "kd", "--log", "mlflow"), "pip install mlflow"),
    ],
)
def test_what_would_end_the_student_is_told_before_its_teacher_is_trained(school, monkeypatch, flags, why):
    monkeypatch.setattr("famkd.training.loggers.find_spec", lambda name: None)
    if "taps" in flags[2]:
        flags = ("--method", "fam", *flags[2:])
    with pytest.raises(UserError, match=why):
        train(school(*flags))
    with pytest.raises(UserError, match=why):
        train_seeds("small.yaml", [*flags, "--teacher.model", "resnet8", "--teacher.weights", "recipe:big.yaml"], [0])
    assert not list(Path("runs").rglob("metrics.jsonl"))


def test_a_teacher_from_a_file_is_measured_and_shown(small, capsys):
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    run = train(small(*FAM, "--epochs", "1"))
    figures = evaluate_checkpoint("resnet8", "teacher.pt", run.recipe.data.name, run.recipe.data.root)[0]
    assert run.teacher == pytest.approx(figures)
    closing_table(run)
    out, err = capsys.readouterr()
    assert f"teacher top1 {figures['top1']:.2f}  top5 {figures['top5']:.2f}" in err
    assert "teacher resnet8: teacher.pt" in out
    Run(run.path / "teacher.json").path.write_text("{")
    with pytest.raises(UserError, match=r"teacher.json is damaged"):
        _ = run.teacher


def test_a_run_in_the_working_directory_is_nobodys_teacher(small, capsys):
    run = train(small("--epochs", "1"))
    Path("metrics.jsonl").write_bytes((run.path / "metrics.jsonl").read_bytes())
    closing_table(run)
    assert "teacher" not in capsys.readouterr().out


# other commands ------------------------------------------------------------------------------------------------------


def test_eval_bench_and_export_tell_what_they_cannot_do(small):
    run = train(small("--epochs", "1"))
    with pytest.raises(UserError, match="Name either a run directory, or --model"):
        eval_command([str(run.path), "--weights", "x.pth"])
    with pytest.raises(UserError, match="--batch_size is -1"):
        eval_command([str(run.path), "--batch_size", "-1"])
    with pytest.raises(UserError, match="--steps 1 or more"):
        bench(load_recipe("quickstart"), steps=0, noise=True)
    with pytest.raises(UserError, match="Cannot write into /proc"):
        export(run.path, "safetensors", out="/proc/x.safetensors")


def test_a_bare_checkpoint_may_be_a_run(small):
    run = train(small("--epochs", "1"))
    data = run.recipe.data
    by_run = evaluate_run(run.path)[0]
    assert by_run == evaluate_checkpoint("resnet8x0.5", str(run.path), data.name, data.root)[0]


@pytest.mark.slow
def test_an_unfinished_run_is_called_so_and_its_best_epoch_can_be_exported(small, capsys):
    run = train(small("--epochs", "2"))
    (run.path / "recipe.yaml").write_text((run.path / "recipe.yaml").read_text().replace("epochs: 2", "epochs: 9"))
    evaluate_run(run.path)
    assert "has finished 2 of 9 epochs" in capsys.readouterr().err
    other = {key: value + 1 for key, value in run.student_state().items()}
    write_tensors(run.path / "best.safetensors", other)
    for best, wanted in ((False, run.student_state()), (True, other)):
        kept = load_file(export(run.path, "safetensors", best=best, out="kept.st").path)
        assert all(torch.equal(kept[key], value) for key, value in wanted.items())
