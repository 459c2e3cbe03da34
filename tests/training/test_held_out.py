"""Training with held-out images: the best epoch is chosen on them, and the test set is measured once, at the end."""

import json
from pathlib import Path

import pytest
from helpers.run_files import Killed, files, kill_at_write
from helpers.runs import FAM

from famkd.cli import main
from famkd.compare import compare
from famkd.distill.types import Scores
from famkd.errors import UserError
from famkd.evaluate import closing_table, evaluate_run
from famkd.run.directory import Run
from famkd.tasks import Classification
from famkd.training.loop import train

VAL = ("--data.val", "0.25", "--epochs", "4")


@pytest.fixture
def scored(monkeypatch):
    """Give evaluations the scores of a list, by turns; returns how many images each of them saw."""
    seen: list[int] = []

    def use(*scores: float) -> list[int]:
        def evaluate(self, model, batches) -> Scores:
            seen.append(sum(len(batch.index) for batch in batches))
            return Scores({"top1": float(scores[len(seen) - 1]), "top5": 99.0})

        monkeypatch.setattr(Classification, "evaluate", evaluate)
        monkeypatch.setattr("famkd.training.loop.rehearse_evaluation", lambda *a, **options: None)
        return seen

    return use


@pytest.mark.slow
def test_each_epoch_is_measured_on_held_out_images_and_the_end_on_the_test_set(pair, capsys):
    run = train(pair(*VAL), out="run")
    rows = run.metrics()
    assert [list(row) for row in rows] == [["epoch", "task.ce", "val_top1", "val_top5", "lr"]] * 4
    best = max(range(4), key=lambda n: (rows[n]["val_top1"], -n))
    assert set(run.test) == {"last", "best"}
    for which, epoch in (("last", 4), ("best", best + 1)):
        figures = evaluate_run("run", best=which == "best")[0]
        assert run.test[which] == {"epoch": epoch, **figures}
        held_out = evaluate_run("run", best=which == "best", split="val")[0]
        assert held_out == {"top1": rows[epoch - 1]["val_top1"], "top5": rows[epoch - 1]["val_top5"]}
    assert "12 held-out images choose the best epoch; the test set is for the end" in capsys.readouterr().err


def test_the_test_set_is_not_looked_at_before_the_end(pair, scored):
    seen = scored(10, 30, 20, 15, 1, 2)
    run = train(pair(*VAL), out="run")
    assert seen == [12, 12, 12, 12, 32, 32]
    assert run.test == {
        "last": {"epoch": 4, "top1": 1.0, "top5": 99.0},
        "best": {"epoch": 2, "top1": 2.0, "top5": 99.0},
    }


def test_a_last_epoch_that_is_best_is_measured_once(pair, scored):
    seen = scored(10, 20, 30, 40, 1)
    run = train(pair(*VAL), out="run")
    assert seen == [12, 12, 12, 12, 32]
    assert run.test["best"] == run.test["last"] == {"epoch": 4, "top1": 1.0, "top5": 99.0}


def test_patience_stops_early_and_resuming_leaves_it_so(pair, scored, capsys):
    seen = scored(10, 30, 20, 30, 7, 8)
    recipe = pair(*VAL, "--epochs", "9", "--patience", "2")
    run = train(recipe, out="run")
    assert len(run.metrics()) == 4
    assert run.finished
    assert run.test["best"] == {"epoch": 2, "top1": 8.0, "top5": 99.0}
    assert "stopped after epoch 4: 2 epochs without a better figure" in capsys.readouterr().err
    assert len(train(recipe, out="run", resume=True).metrics()) == 4
    assert len(seen) == 6


@pytest.mark.slow
def test_a_run_with_held_out_images_killed_at_any_write_goes_on_as_if_undisturbed(pair, monkeypatch):
    recipe = pair(*FAM, *VAL, "--epochs", "2", "--patience", "1")
    whole = train(recipe, out="whole")
    names: list[str] = []
    for fatal in (10, *range(16, 30)):
        with monkeypatch.context() as patched:
            writes = kill_at_write(patched, fatal)
            try:
                train(recipe, out=f"cut-{fatal}")
                break
            except Killed:
                names.append(writes[-1])
        run = Run(f"cut-{fatal}")
        assert not run.finished
        resumed = train(recipe, out=run.path, resume=True)
        assert files(resumed) == files(whole)
        assert resumed.test == whole.test
    assert names[-1] == "test.json"  # the last file to be written
    assert "metrics.jsonl" in names


def test_the_split_is_part_of_what_a_run_is(pair):
    train(pair(*VAL, "--epochs", "1"), out="run")
    for other in (("--data.val", "0.5"), ("--data.val", "0.25", "--data.val_seed", "1"), ()):
        with pytest.raises(UserError, match=r"another recipe \(data\.val(_seed)? differ\)"):
            train(pair("--epochs", "1", *other), out="run", resume=True)


def test_a_method_whose_best_network_is_not_kept_has_no_best_figure(pair, scored):
    scored(10, 30, 20, 15, 1, 2)
    run = train(pair(*FAM[:1], "simkd", *FAM[2:], *VAL), out="run")
    assert list(run.test) == ["last"]
    assert "–" in compare(["run"]) or "best" not in compare(["run"]).split("\n")[0]


@pytest.mark.slow
def test_every_table_says_what_the_best_epoch_was_chosen_on(pair, scored, capsys):
    seen = scored(40, 30, 20, 15, 10, 30, 20, 15, 1, 2)
    plain = train(pair("--epochs", "4"), out="runs/small/none-seed0")
    held_out = train(pair(*VAL), out="runs/small/val")
    assert len(seen) == 10
    capsys.readouterr()
    closing_table(plain)
    closing_table(held_out)
    said = capsys.readouterr().out
    assert "the best epoch is chosen on the test set\n" in said
    assert "the best epoch is chosen on held-out images\n" in said
    assert "the best epoch is chosen on the test set." in compare([plain.path])
    assert "the best epoch is chosen on held-out images." in compare([held_out.path])
    both = compare(["runs"])
    assert "chosen on the test set for none data.val=" in both
    assert "and on held-out images for none data.val=0.25" in both
    table = compare([held_out.path], format="csv").splitlines()
    row = dict(zip(table[0].split(","), table[1].split(",")))
    assert (row["last_mean"], row["best_mean"], row["best_chosen_on"]) == ("1", "2", "held-out images")


def test_eval_measures_the_split_that_is_asked_for(pair, capsys):
    run = train(pair(*VAL), out="run")
    plain = train(pair("--epochs", "1"), out="plain")
    capsys.readouterr()
    main(["eval", "run", "--split", "val"])
    assert capsys.readouterr().out.startswith(f"top1 {run.metrics()[-1]['val_top1']:.2f} ")
    main(["eval", "run", "--best"])
    out, err = capsys.readouterr()
    assert out.startswith(f"top1 {run.test['best']['top1']:.2f} ")
    assert err == f"run: epoch {run.test['best']['epoch']} is the best on held-out images\n"
    with pytest.raises(UserError, match="plain was trained without held-out images: leave --split out"):
        evaluate_run(plain.path, split="val")
    with pytest.raises(UserError, match="run held images of npz out: leave --data out, or --split"):
        evaluate_run("run", "digits", split="val")


def test_figures_of_the_end_reach_the_loggers(pair, monkeypatch):
    sent: list[dict] = []
    monkeypatch.setitem(
        __import__("famkd.training.loggers", fromlist=["OPENERS"]).OPENERS, "tensorboard",
        lambda recipe, path, stack, known: (lambda figures, epoch: sent.append(figures | {"epoch": epoch}), {}),
    )  # fmt: skip
    run = train(pair(*VAL, "--log", "tensorboard"), out="run")
    assert [row["epoch"] for row in sent] == [1, 2, 3, 4, 4]
    assert sent[-1]["test_last_top1"] == run.test["last"]["top1"]
    assert sent[-1]["test_best_top1"] == run.test["best"]["top1"]


@pytest.mark.slow
def test_two_processes_hold_the_same_images_out(pair, python):
    flags = ("--data.val", "0.25", "--epochs", "2", "--optim.steps")
    code, _, err = python("-m", "famkd", "train", "small.yaml", "--out", "two", *flags, "--devices", "2")
    assert code == 0, err
    two = Run("two")
    assert two.finished
    assert json.loads(Path("two/test.json").read_text())["last"]["epoch"] == 2
    for which in ("last", "best"):
        figures = evaluate_run("two", best=which == "best")[0]
        assert two.test[which] == {"epoch": two.test[which]["epoch"], **figures}
    held_out = evaluate_run("two", split="val")[0]
    assert held_out["top1"] == two.metrics()[-1]["val_top1"]
