"""Rows of figures that the notebooks show: filters against noise, before and after distillation, maps by layer."""

import matplotlib
import numpy as np
import pytest
import torch
from helpers.cam_networks import comparison
from helpers.famviz_runs import make_run

matplotlib.use("Agg")
import famviz
from famkd.distill.types import Batch
from famviz.analysis import before_after, cam_scores, cam_tables, filter_tables
from famviz.analysis.differences import amplitude_difference
from famviz.figures.cam import layers_figure
from famviz.networks import run_images, trained_distiller

pytest_plugins = ("helpers.famviz_trained",)
SMALL = {"shapes": ((3, 9), (4, 8))}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return famviz.open(make_run(tmp_path_factory.mktemp("tables") / "run", **SMALL))


@pytest.fixture(scope="module")
def shown():
    return comparison()


def test_noise_has_the_size_and_the_high_pass_of_its_level_and_leaves_the_generator_alone(opened):
    state = torch.random.get_rng_state()
    for each in opened.filters:
        noise = filter_tables.noise_like(each)
        assert noise.shape == each.response.shape
        np.testing.assert_array_equal(np.abs(noise).max((0, 1)) > 1e-6, np.abs(each.response).max((0, 1)) > 1e-6)
    assert torch.equal(state, torch.random.get_rng_state())
    rows = filter_tables.against_noise(opened.filters)
    assert [row["filters"] for row in rows] == ["trained", "noise"] * 2
    for trained, noise in zip(rows[::2], rows[1::2]):  # these filters are noise themselves
        assert trained["centroid, mean"] == pytest.approx(noise["centroid, mean"], abs=0.1)


def test_filters_that_only_grow_are_alike_from_the_first_epoch(opened):
    rows = filter_tables.formation(opened)
    assert [(row["level"], row["epoch"]) for row in rows] == [
        (each.title, epoch) for each in opened.filters for epoch in (1, 2, 3)
    ]
    assert [row["likeness"] for row in rows] == pytest.approx([1] * 6, abs=1e-3)
    growth = [1.5 ** (2 * (row["epoch"] - 3)) for row in rows]  # every filter grows by 1.5 in each epoch
    assert [row["energy"] for row in rows] == pytest.approx(growth, rel=0.01)
    assert len(filter_tables.formation(opened, most=2)) == 4


def test_the_strongest_come_first(opened):
    rows = filter_tables.strongest_rows(opened.filters[0], 3)
    energy = opened.filters[0].energy()
    found = [energy[row["out"], row["in"]] for row in rows]
    assert found == sorted(energy.ravel(), reverse=True)[:3]


def test_before_and_after_are_the_distances_of_the_stages(trained_runs):
    rows = before_after.before_after(trained_runs["fam"], count=20)
    stages = amplitude_difference(trained_runs["fam"], count=20)
    assert {row["relative to"] for row in rows} == {"mean", "dc", "none"}
    for row, stage in zip(rows, stages):  # relative to the mean come first
        assert row["before, dB"] == pytest.approx(stage.rms_db("student alone"))
        assert row["ratio"] == pytest.approx(stage.rms_db("student") / stage.rms_db("student alone"))
    assert before_after.before_after(trained_runs["fam"].path.parent / "none-seed0", count=2) == []
    listed = before_after.distances(stages)
    assert len(listed) == sum(len(stage.others) for stage in stages)
    assert listed[0]["curve, dB"] == stages[0].rms_db(stages[0].others[0])


def test_outputs_correlate_as_hooks_see_them(trained_runs):
    run = trained_runs["fam"]
    rows = before_after.output_correlations(run, count=20)
    shots = run_images(run, 20)
    distiller = trained_distiller(run)
    seen = []
    for module in distiller.methods["fam"].compared():
        module.register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    distiller(Batch(shots.images, shots.labels, torch.arange(20)))
    theirs = dict(zip(distiller.teacher.taps, distiller.teacher(shots.images)[1]))
    assert len(rows) == len(seen)
    for row, output in zip(rows, seen):
        r = np.corrcoef(output.flatten(), theirs[row["stage"]].detach().flatten())[0, 1]
        assert row["correlation of its output with the teacher's maps"] == pytest.approx(r, abs=1e-4)
    assert before_after.output_correlations(run.path.parent / "none-seed0", count=2) == []


def test_gaps_at_rings(trained_runs):
    (stage, *_) = amplitude_difference(trained_runs["fam"], count=20)
    rows = before_after.ring_gaps(stage, {"slow": (1,), "fast": (2, 3)})
    for row in rows:
        gap = np.abs(stage.difference_curve(row["network"]))
        assert (row["slow, dB"], row["fast, dB"]) == pytest.approx((gap[1], (gap[2] + gap[3]) / 2))


def test_errors_of_means_over_images(shown):
    maps = shown.cams(8)
    for row in cam_tables.with_errors(maps, ("IoU", "nonsense")):
        values = maps.figures[row["network"]]["IoU"]
        assert row["IoU"] == pytest.approx(np.nanmean(values))
        known = values[~np.isnan(values)]
        assert row["IoU ±"] == pytest.approx(known.std(ddof=1) / len(known) ** 0.5)
        assert "nonsense" not in row
    name = shown.others[0]
    rows = cam_tables.by_answer(maps, name, "IoU")
    right = maps.results[name].predicted == maps.labels
    assert [row["images"] for row in rows] == [right.sum(), (~right).sum()]
    assert cam_tables.by_answer(maps, name, "energy outside") == []


def test_methods_and_layers(shown):
    rows = cam_tables.by_method(shown, 4, ("GradCAM", "EigenCAM"))
    assert [(row["method"], row["network"]) for row in rows] == [
        (method, name) for method in ("GradCAM", "EigenCAM") for name in shown.names
    ]
    found = cam_tables.by_layer(shown, images=4)
    masks = np.zeros((8, *next(iter(found.values())).maps.shape[1:]), bool)
    masks[:, ::2] = True
    for row, (layer, result) in zip(cam_tables.layer_rows(found, masks), found.items()):
        assert row["layer"] == layer
        assert row["pixels with evidence, %"] == pytest.approx(100 * (result.maps > 0).mean())
        assert row["energy inside"] == pytest.approx(cam_scores.mean(cam_scores.energy_inside(result.maps, masks[:4])))
    figure = layers_figure(found, shown.pixels([0])[0], masks[0])
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles[0] == "input"
    assert [title.split(",")[0] for title in titles[1:]] == list(found)
