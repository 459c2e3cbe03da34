"""The averaged student: its formula, and how it is measured, saved, loaded, exported and named in tables."""

import copy

import pytest
import torch
from torch import nn

from famkd.compare import compare
from famkd.errors import UserError
from famkd.evaluate import closing_table, evaluate_run, load_deployed
from famkd.export import export
from famkd.models import build_model
from famkd.training.average import Averaged
from famkd.training.loop import train

SHORT = ("--epochs", "2", "--ema", "0.9", "--optim.steps")


def test_the_average_is_a_running_mean_with_a_rising_decay():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged = Averaged(network, 0.75)
    wanted = copy.deepcopy(network.state_dict())
    for step in range(1, 12):
        network(torch.randn(4, 2))  # running statistics change
        with torch.no_grad():
            network[0].weight += torch.randn(2, 2)
        averaged.update()
        decay = 0.0 if step == 1 else min(0.75, 1 - step ** (-2 / 3))
        for key, value in network.state_dict().items():
            wanted[key] = decay * wanted[key] + (1 - decay) * value if value.is_floating_point() else value.clone()
    for key, value in wanted.items():
        torch.testing.assert_close(averaged.network.state_dict()[key], value)
    assert decay == 0.75
    assert not torch.equal(averaged.network[0].weight, network[0].weight)
    assert not averaged.network.training
    assert not any(parameter.requires_grad for parameter in averaged.network.parameters())


def test_it_is_measured_saved_and_loaded_beside_the_student(small):
    run = train(small(*SHORT), out="run")
    row = run.metrics()[-1]
    assert list(row) == ["epoch", "task.ce", "top1", "top5", "ema_top1", "ema_top5", "lr"]
    assert evaluate_run("run", ema=True)[0] == {"top1": row["ema_top1"], "top5": row["ema_top5"]}
    assert evaluate_run("run")[0]["top1"] == row["top1"]
    raw, average = run.student_state(), run.ema_state()
    assert raw.keys() == average.keys() == build_model("resnet8x0.5", 3).state_dict().keys()
    assert not torch.equal(raw["fc.weight"], average["fc.weight"])
    assert export("run", "safetensors", ema=True).path.name == "ema_exported.safetensors"


def test_training_itself_does_not_change(small):
    averaged, plain = train(small(*SHORT), out="run"), train(small("--epochs", "2", "--optim.steps"), out="plain")
    for key, value in plain.student_state().items():
        assert torch.equal(averaged.student_state()[key], value)


def test_simkd_averages_the_whole_network(small):
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    taught = ("--method", "simkd", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt")
    run = train(small(*SHORT, *taught), out="run")
    assert {key.split(".")[0] for key in run.ema_state()} == {"student", "projector", "head"}
    network, _ = load_deployed(run, ema=True)
    state = run.ema_state()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert evaluate_run("run", ema=True)[0]["top1"] == run.metrics()[-1]["ema_top1"]


@pytest.mark.slow
def test_tables_name_it(small, capsys):
    runs = [train(small(*SHORT, "--seed", seed)) for seed in "01"]
    assert "EMA top-1 %" in compare(["runs"])
    assert "EMA: the averaged weights of the last epoch." in compare(["runs"])
    mean = sum(run.metrics()[-1]["ema_top1"] for run in runs) / 2
    header, row = (line.split(",") for line in compare(["runs"], format="csv").splitlines())
    assert float(dict(zip(header, row))["ema_mean"]) == pytest.approx(mean, rel=1e-5)
    capsys.readouterr()
    closing_table(runs[0])
    assert f"resnet8x0.5, EMA 0.9 │ {runs[0].metrics()[-1]['ema_top1']:12.2f}" in capsys.readouterr().out


def test_held_out_images_and_the_test_set_are_measured_with_it(small):
    run = train(small(*SHORT, "--data.val", "0.25"), out="run")
    assert {"val_top1", "val_ema_top1"} <= run.metrics()[-1].keys()
    assert run.test["last"]["ema_top1"] == evaluate_run("run", ema=True)[0]["top1"]


def test_what_a_run_does_not_have_is_refused(small):
    train(small("--epochs", "1"), out="plain")
    for call in (lambda: evaluate_run("plain", ema=True), lambda: export("plain", "safetensors", ema=True)):
        with pytest.raises(UserError, match="trained without an average of the weights: leave --ema out"):
            call()
    train(small(*SHORT), out="run")
    with pytest.raises(UserError, match="The average is kept of the last epoch only: leave --best out, or --ema"):
        evaluate_run("run", best=True, ema=True)


@pytest.mark.slow
def test_a_student_learns_from_an_averaged_teacher(small):
    teacher = train(small(*SHORT), out="teacher")
    weights = ("--method", "kd", "--teacher.model", "resnet8x0.5", "--teacher.weights", "teacher/ema.safetensors")
    assert train(small("--epochs", "1", *weights), out="taught").finished
    assert teacher.intact
    (teacher.path / "ema.safetensors").write_bytes(b"damaged")
    assert not teacher.intact
