"""The dashboard by its traits and messages, in the kernel, without a front end."""

import asyncio

import numpy as np
import pytest
import torch
import traitlets
from helpers.explorers import ask, noting
from helpers.famviz_runs import add_epoch, make_run, released_state
from helpers.processes import HANG
from torch import nn

import famviz
from famkd.distill.types import Probe, View
from famkd.errors import UserError
from famkd.files import write_rows
from famkd.methods.review import FAMReview
from famviz.analysis.training import columns_of, seconds_left

SMALL = {"shapes": ((2, 5), (2, 4))}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard")
    return famviz.open([make_run(folder / "a", **SMALL).path, make_run(folder / "b", seed=1, epochs=2, **SMALL).path])


@pytest.fixture
def unfinished(tmp_path):
    """A run of 3 epochs of which one is done, and a function that does the next."""
    make_run(tmp_path / "run", epochs=1, shapes=((2, 4),))
    run = make_run(tmp_path / "run", "--epochs", "3", epochs=0, shapes=((2, 4),))
    feats = [torch.rand(2, 2, 4, 4), torch.rand(2, 2)]
    methods = nn.ModuleDict({"fam_review": FAMReview(Probe(View(None, feats), View(None, feats), None))})
    return run, lambda: add_epoch(run, methods, nn.Linear(2, 2))


def test_a_dashboard_follows_a_run_to_its_end(unfinished):
    run, train = unfinished

    async def follow():
        dashboard = famviz.Dashboard(run, every=0.02)
        assert dashboard.following
        first = dict(dashboard._runs[0])
        train()
        train()
        await asyncio.wait_for(dashboard._task, HANG)
        return first, dashboard

    first, dashboard = asyncio.run(follow())
    last = dashboard._runs[0]
    assert (first["epoch"], first["epochs"], first["finished"]) == (1, 3, False)
    assert (last["epoch"], last["finished"], last["left"], last["took"]) == (3, True, 0, 3.0)
    assert dashboard.finished
    assert not dashboard.following


def test_a_closed_dashboard_stops(unfinished):
    async def close():
        dashboard = famviz.Dashboard(unfinished[0], every=0.02)
        task = dashboard._task
        dashboard.close()
        await asyncio.sleep(0.1)
        return dashboard.following, task.cancelled()

    assert asyncio.run(close()) == (False, True)


def test_without_a_loop_a_dashboard_looks_when_asked(unfinished):
    run, train = unfinished
    dashboard = famviz.Dashboard(run)
    assert not dashboard.following
    assert dashboard.refresh() is False
    train()
    assert dashboard.refresh() is True
    assert dashboard._runs[0]["columns"]["epoch"] == [1, 2]
    assert dashboard._runs[0]["saved"] == [1, 2]


def test_a_look_at_an_unchanged_directory_reads_and_sends_nothing(unfinished, monkeypatch):
    run, train = unfinished
    dashboard = famviz.Dashboard(run)
    sent = []
    dashboard.observe(sent.append, "_runs")
    monkeypatch.setattr(type(run), "metrics", lambda self: pytest.fail("the log was read again"))
    assert dashboard.refresh() is False
    monkeypatch.undo()
    (run.path / "metrics.jsonl").touch()  # read again, and still the same
    assert dashboard.refresh() is False
    assert not sent
    train()
    assert dashboard.refresh() is True
    assert len(sent) == 1


def test_a_file_that_is_being_written_is_read_by_the_next_look(unfinished):
    run, train = unfinished
    dashboard = famviz.Dashboard(run)
    good = (run.path / "metrics.jsonl").read_text()
    (run.path / "metrics.jsonl").write_text('{"epoch": 1, "to')
    assert dashboard.refresh() is False
    assert dashboard._runs[0]["epoch"] == 1
    (run.path / "metrics.jsonl").write_text(good)
    train()
    assert dashboard.refresh() is True


def test_a_run_that_began_without_filters_gets_them_with_its_first_epoch(tmp_path):
    run = make_run(tmp_path / "run", "--epochs", "2", epochs=0, shapes=((2, 4),))
    dashboard = famviz.Dashboard(run)
    assert (dashboard._runs[0]["levels"], dashboard._runs[0]["left"]) == ([], None)
    make_run(tmp_path / "run", epochs=1, shapes=((2, 4),))
    assert dashboard.refresh() is True
    assert [each["size"] for each in dashboard._runs[0]["levels"]] == [[4, 4]]


def test_several_runs_are_followed_at_once(runs):
    dashboard = famviz.Dashboard(runs)
    assert dashboard._meta["runs"] == [run.name for run in runs]
    assert [facts["epoch"] for facts in dashboard._runs] == [3, 2]
    assert [facts["columns"]["task.ce"] for facts in dashboard._runs] == [[2, 1, 0.666667], [2, 1]]
    assert dashboard._runs[0]["columns"]["images_per_s"] == [10.0] * 3
    assert (dashboard._runs[0]["scores"], dashboard._runs[0]["losses"]) == (
        ["top1", "top5"],
        ["task.ce", "fam_review.review"],
    )
    twice = famviz.Dashboard([runs[0], runs[0].run.path])
    assert twice._meta["runs"] == [runs[0].name, f"{runs[0].name} (2)"]


def test_figures_of_all_runs_come_as_a_frame(runs):
    dashboard = famviz.Dashboard(runs)
    frame = dashboard.frame()
    rows = [row for run in runs for row in run.metrics()]
    assert frame["top1"].tolist() == [row["top1"] for row in rows]
    assert sorted(set(frame["run"])) == sorted(dashboard._meta["runs"])
    dashboard.close()


def test_filters_come_as_they_were_saved(runs):
    content, buffers = ask(noting(famviz.Dashboard(runs)), ask="filters", run=1, epochs=[2, 7, 1])
    assert (content["epochs"], content["missing"]) == ([2, 1], [7])
    wanted = [runs[1].summary(each, epoch)["amplitude"] for epoch in (2, 1) for each in runs[1].filters]
    for data, amplitude in zip(buffers, wanted, strict=True):
        np.testing.assert_array_equal(np.frombuffer(data, np.float32).reshape(amplitude.shape), amplitude)


def test_a_saved_page_holds_as_many_epochs_as_fit(tmp_path):
    dashboard = famviz.Dashboard(make_run(tmp_path / "run", epochs=9, shapes=((2, 4),)))
    followed = dashboard.followed[0]
    size = 4 * 4 * 3
    assert followed.fitting(size * 9) == list(range(1, 10))
    assert followed.fitting(size * 3) == [1, 5, 9]
    assert followed.fitting(0) == [1, 9]


@pytest.mark.parametrize(("traits", "error", "words"), [
    ({"figures": "top1"}, UserError, "Dashboard has no argument 'figures'. Did you mean figure?"),
    ({"figure": "top9"}, traitlets.TraitError, "figure must be one of top1, top5, not 'top9'"),
    ({"loss": "ce"}, traitlets.TraitError, "loss must be one of fam_review.review, task.ce"),
])  # fmt: skip
def test_wrong_arguments_are_refused(runs, traits, error, words):
    with pytest.raises(error) as refused:
        famviz.Dashboard(runs, **traits)
    assert words in str(refused.value)


def test_what_cannot_be_followed_is_refused_in_a_sentence(tmp_path):
    torch.save(released_state((8,)), tmp_path / "a.pth")
    with pytest.raises(UserError, match="a is a bare checkpoint: a dashboard follows a run directory"):
        famviz.Dashboard(tmp_path / "a.pth")
    with pytest.raises(UserError, match="the list is empty"):
        famviz.Dashboard([])


@pytest.mark.slow
def test_every_output_carries_a_picture_whose_labels_do_not_overlap(runs):
    dashboard = famviz.Dashboard(runs)
    data, _ = dashboard._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "image/png"} <= data.keys()
    from famviz.figures.progress import progress_figure

    figure = progress_figure(dashboard.runs)
    figure.draw_without_rendering()
    boxes = [ax.yaxis.label.get_window_extent() for ax in figure.axes if ax.yaxis.label.get_text()]
    boxes += [ax.title.get_window_extent() for ax in figure.axes if ax.title.get_text()]
    assert len(boxes) == 2 + 4 * 4 + 2 + 4 * 2  # labels of curves, planes, lives and two bars each; titles
    for at, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[at + 1 :])


@pytest.mark.parametrize(("timing", "epochs", "wanted"), [
    ([], 5, None),
    ([10.0], 3, 20.0),
    ([100.0, *[1.0] * 5], 16, 10.0),  # the last five only: the first epoch compiles
    ([1.0] * 4, 3, 0.0),
])  # fmt: skip
def test_the_time_left_follows_the_last_epochs(timing, epochs, wanted):
    assert seconds_left([{"seconds": each} for each in timing], epochs) == wanted


def test_columns_are_json_of_a_bounded_length():
    rows = [{"epoch": n, "loss": np.nan if n == 1 else n / 3, **({"late": 1.0} if n > 1 else {})} for n in range(4)]
    assert columns_of(rows) == {
        "epoch": [0, 1, 2, 3], "loss": [0, None, 0.666667, 1.0], "late": [None, None, 1.0, 1.0]
    }  # fmt: skip
    thinned = columns_of([{"epoch": n} for n in range(5000)], 600)["epoch"]
    assert (len(thinned), thinned[0], thinned[-1]) == (600, 0, 4999)


def test_a_diverged_run_is_followed_too(unfinished):
    run, _ = unfinished
    write_rows(run.path / "metrics.jsonl", [{**run.metrics()[0], "task.ce": float("nan")}])
    dashboard = famviz.Dashboard(run)
    assert dashboard._runs[0]["columns"]["task.ce"] == [None]
    assert dashboard.to_png().startswith(b"\x89PNG")
