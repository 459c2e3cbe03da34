"""The amplitude explorer by its traits and messages, in the kernel, without a front end."""

import io
import json
import re

import matplotlib
import numpy as np
import pytest
import torch
import traitlets
from helpers.cam_networks import COUNT, comparison, networks
from helpers.explorers import ask, noting
from PIL import Image

matplotlib.use("Agg")
import famviz
from famkd.errors import UserError
from famkd.models import build_model
from famviz.analysis.amplitude import bootstrap_band, image_spectra
from famviz.analysis.amplitude_sources import compared
from famviz.analysis.amplitude_store import AmplitudeStore, Look
from famviz.analysis.bands import Band, angular_profile, band_share, cell_shares, rebuilt
from famviz.analysis.stage_spectra import network_spectra
from famviz.networks.checkpoints import best_checkpoint

pytest_plugins = ("helpers.famviz_trained",)
STAGES = ["layer1", "layer2", "layer3"]


@pytest.fixture(scope="module")
def shown():
    return comparison()


@pytest.fixture(scope="module")
def older():
    torch.manual_seed(9)
    return build_model("resnet8x0.5", 8)


@pytest.fixture(scope="module")
def store(shown, older):
    return AmplitudeStore(compared(shown, {"student": {3: older.state_dict()}}))


@pytest.fixture
def explorer(shown):
    made = noting(famviz.AmplitudeExplorer(shown))
    yield made
    made.close()


def oracle(shown, name, positions, window=False):
    """Spectra of the stages of a network by the function that the figures use."""
    return [planes for _, planes in network_spectra(shown.models[name], shown.inputs(positions)[name], window=window)]


@pytest.mark.parametrize("window", [False, True])
def test_spectra_are_those_of_the_figures(store, shown, window):
    for stage in range(3):
        found = store.spectra(Look(window), stage, [2, 7])
        for name in shown.names:
            np.testing.assert_allclose(found[name], oracle(shown, name, [2, 7], window)[stage], atol=1e-4)


def test_a_stage_is_what_amplitude_difference_returns(store, shown):
    store.advance(Look(), 1e9)
    own = store.stage(Look(), 1, "teacher", "mean")
    wanted = shown.spectra(COUNT)[1]
    for name in shown.names:
        np.testing.assert_allclose(own.planes[name], wanted.planes[name], atol=1e-4)
        np.testing.assert_allclose(own.bands[name], wanted.bands[name], atol=1e-4)
    np.testing.assert_allclose(own.difference_bands["student"], wanted.difference_bands["student"], atol=1e-4)
    turned = store.stage(Look(), 1, "student", "none")
    np.testing.assert_allclose(turned.difference_curve("teacher")[3],
                               (wanted.curves["teacher"] + wanted.loudness["teacher"])[3]
                               - (wanted.curves["student"] + wanted.loudness["student"])[3], atol=1e-3)  # fmt: skip


def test_directions_have_the_bands_of_a_bootstrap_over_images(store, shown):
    found = store.directions(Look(), 1, "teacher")
    profiles = {name: angular_profile(oracle(shown, name, range(COUNT))[1])[1] for name in shown.names}
    for name, own in profiles.items():
        np.testing.assert_allclose(found.curves[name], own.mean(0), atol=1e-4)
        np.testing.assert_allclose(found.bands[name], bootstrap_band(own), atol=1e-4)
    gap = bootstrap_band(profiles["student"] - profiles["teacher"])
    np.testing.assert_allclose(found.difference_bands["student"], gap, atol=1e-4)


def test_nothing_is_computed_twice_and_an_epoch_only_for_its_networks(shown, older):
    fresh = AmplitudeStore(compared(shown, {"student": {3: older.state_dict()}}))
    calls = []
    for name, make in list(fresh.makers.items()):
        fresh.makers[name] = lambda inputs, name=name, make=make: calls.append(name) or make(inputs)
    fresh.learn(Look(), [1, 2])
    fresh.learn(Look(), [2, 1])
    assert calls == ["teacher", "student"]
    fresh.learn(Look(epoch=3), [1, 2])
    assert calls == ["teacher", "student"]
    assert fresh.known(Look(epoch=3)) == [1, 2]


def test_a_checkpoint_is_shown_beside_networks_that_have_none(store, shown, older):
    found = store.spectra(Look(epoch=3), 2, [4])
    wanted = network_spectra(older, shown.inputs([4])["student"])[2][1]
    np.testing.assert_allclose(found["student"], wanted, atol=1e-4)
    np.testing.assert_allclose(found["teacher"], oracle(shown, "teacher", [4])[2], atol=1e-4)
    at_end = network_spectra(shown.models["student"], shown.inputs([4])["student"])[2][1]
    assert np.abs(at_end - wanted).max() > 1  # the network itself was left alone


def test_means_come_as_hundredths_of_a_decibel(explorer, shown):
    content, buffers = ask(explorer, ask="spectra", window=False, epoch=0)
    while content["count"] < COUNT:
        content, buffers = ask(explorer, ask="spectra", window=False, epoch=0)
    at = 0
    for stage in range(3):
        for name, levels in content["stages"][stage].items():
            planes = oracle(shown, name, range(COUNT))[stage]
            sent = np.frombuffer(buffers[at], np.int16).reshape(planes.shape[1:]) / 100
            np.testing.assert_allclose(sent, planes.mean(0), atol=0.006)
            middle = planes.shape[1] // 2
            assert levels["dc"] == pytest.approx(planes[:, middle, middle].mean(), abs=1e-3)
            at += 1


def test_bands_come_in_the_order_of_their_names(explorer):
    ask(explorer, ask="spectra", window=False, epoch=0)
    explorer.store.advance(Look(), 1e9)
    content, buffers = ask(explorer, ask="bands", window=False, epoch=0, reference="student", relative="dc")
    first = content["stages"][0]
    assert (first["names"], first["others"], content["count"]) == (["teacher", "student"], ["teacher"], COUNT)
    values = np.frombuffer(buffers[0], np.float32)
    stage = explorer.store.stage(Look(), 0, "student", "dc")
    wide = stage.bands["teacher"].size
    np.testing.assert_allclose(values[:wide], stage.bands["teacher"].ravel(), atol=1e-4)
    np.testing.assert_allclose(values[2 * wide : 3 * wide], stage.difference_bands["teacher"].ravel(), atol=1e-4)
    angular = explorer.store.directions(Look(), 0, "student")
    np.testing.assert_allclose(values[-24:], angular.difference_bands["teacher"].ravel(), atol=1e-4)
    assert len(values) == 3 * wide + 3 * 24


def test_cells_and_planes_of_single_images(explorer, shown):
    explorer.store.learn(Look(), [3, 5])
    content, buffers = ask(explorer, ask="cells", window=False, epoch=0)
    assert content["images"] == [3, 5]
    planes = oracle(shown, "student", [3, 5])[1]
    codes = np.frombuffer(buffers[3], np.uint16)
    np.testing.assert_allclose((codes / 65535) ** 2, cell_shares(planes).ravel(), atol=1e-4)
    content, buffers = ask(explorer, ask="planes", position=5, window=False, epoch=0)
    np.testing.assert_allclose(np.frombuffer(buffers[3], np.int16).reshape(16, 16) / 100, planes[1], atol=0.006)


def test_maps_are_the_loudest_channels(explorer, shown):
    content, buffers = ask(explorer, ask="maps", position=6, epoch=0)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(buffers[0]))), shown.pixels([6])[0])
    maps = explorer.store.maps_of_stage(6, 1)["student"]
    facts = content["stages"][1]["student"]
    loudest = np.sort(np.argsort(-maps.var((1, 2)))[:8])
    assert (facts["channels"], facts["of"], facts["size"]) == (loudest.tolist(), len(maps), [16, 16])
    sent = np.frombuffer(buffers[1 + 3], np.int16).reshape(8, 16, 16) / 32767 * facts["top"]
    np.testing.assert_allclose(sent, maps[loudest], atol=facts["top"] / 32767)


def test_what_fails_is_answered_in_a_sentence(explorer):
    content, _ = ask(explorer, ask="planes", position=99, window=False, epoch=0)
    assert content["kind"] == "failed"
    assert content["question"]["position"] == 99
    content, _ = ask(explorer, ask="spectra", window=False, epoch=4)
    assert content["words"] == "No network has a checkpoint of epoch 4. Epochs: none."


def test_the_kernel_answers_what_the_page_shows(explorer, shown):
    explorer.stage, explorer.rings, explorer.angles = "layer2", [2, 4], [165, 30]
    band = Band((2, 4), (165, 30))
    assert explorer.band == band
    rows = {row["network"]: row for row in explorer.shares().rows}
    for name in shown.names:
        share = 100 * band_share(oracle(shown, name, range(COUNT))[1], band)
        assert rows[name]["share %"] == pytest.approx(share.mean(), abs=1e-3)
        ends = bootstrap_band(share[:, None]).ravel()
        assert [rows[name]["low"], rows[name]["high"]] == pytest.approx(ends, abs=1e-3)
    share = band_share(oracle(shown, "student", range(COUNT))[1], band)
    assert [row["image"] for row in explorer.most(5).rows] == np.argsort(-share)[:5].tolist()
    again = explorer.rebuilt()
    best = int(share.argmax())
    pixels = shown.pixels([best])[0].astype(float)
    np.testing.assert_allclose(again["image"][..., 1], rebuilt(pixels[..., 1], band), atol=1e-9)
    maps = explorer.store.maps_of_stage(best, 1)["teacher"]
    np.testing.assert_allclose(again["teacher"], rebuilt(maps, band), atol=1e-9)
    explorer.image = 3
    one = {row["network"]: row for row in explorer.shares().rows}
    assert one["student"] == {"network": "student", "share %": pytest.approx(100 * share[3], abs=1e-3)}
    stage = explorer.spectra()
    wanted = oracle(shown, "student", [3])[1][0]
    np.testing.assert_allclose(stage.planes["student"] + stage.loudness["student"], wanted, atol=1e-4)
    explorer.rings = explorer.angles = []
    assert [row["image"] for row in explorer.most(5).rows] == [0, 1, 2, 3, 4]  # every share is 1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("stage", "layr2", "Did you mean layer2"), ("stage", 3, "layer1, layer2, layer3"), ("network", "a", "teacher"),
     ("reference", "a", "student"), ("image", 20, "0 .. 19, or -1"), ("relative", "level", "relative"),
     ("epoch", 2, "checkpoint of epoch 2"), ("rings", [0, 3], "from 1 on"), ("angles", [10, 20], "multiples of 15"),
     ("brush", "box", "ring")],
)  # fmt: skip
def test_what_is_not_there_is_refused(explorer, name, value, words):
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(explorer, name, value)


def test_unknown_arguments_and_checkpoints_of_nobody_are_refused(shown, older):
    with pytest.raises(UserError, match=r"AmplitudeExplorer has no argument 'colormap'.*It takes stage, network"):
        famviz.AmplitudeExplorer(shown, colormap="magma")
    with pytest.raises(UserError, match="Did you mean student"):
        famviz.AmplitudeExplorer(shown, checkpoints={"studnt": {1: older.state_dict()}})
    wrong = famviz.AmplitudeExplorer(shown, checkpoints={"teacher": {1: older.state_dict()}})
    with pytest.raises(UserError, match="does not fit the network"):
        wrong.store.learn(Look(epoch=1), [0])


def test_a_stage_is_named_or_counted(shown):
    explorer = famviz.AmplitudeExplorer(shown, stage=-1)
    assert explorer.stage == "layer3"
    explorer.stage = 0
    assert explorer.stage == "layer1"
    assert famviz.AmplitudeExplorer(shown).stage == "layer2"  # the deepest with 16 frequencies on a side


def test_checkpoints_come_from_files_too(shown, older, tmp_path):
    torch.save({"state_dict": older.state_dict(), "epoch": 7}, tmp_path / "seven.pth")
    explorer = famviz.AmplitudeExplorer(shown, checkpoints={"student": {7: tmp_path / "seven.pth"}}, epoch=7, image=4)
    wanted = network_spectra(older, shown.inputs([4])["student"])[1][1]
    np.testing.assert_allclose(explorer.store.spectra(Look(epoch=7), 1, [4])["student"], wanted, atol=1e-4)


def test_explorers_move_together_until_parted(shown):
    one, two = famviz.AmplitudeExplorer(shown), famviz.AmplitudeExplorer(shown)
    links = one.link(two)
    one.rings, two.stage = [2, 3], "layer3"
    assert (two.rings, one.stage) == ([2, 3], "layer3")
    for link in links:
        link.unlink()
    one.image = 1
    assert two.image == -1


def test_every_output_carries_a_picture_and_few_words(explorer, tmp_path):
    assert repr(explorer) == "AmplitudeExplorer(teacher, student; 20 images)"
    data, _ = explorer._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "image/png"} <= data.keys()
    assert len(data["text/plain"]) < 100
    explorer.image, explorer.reference = 4, "student"
    assert explorer.to_png(tmp_path / "still.png").startswith(b"\x89PNG") == (tmp_path / "still.png").exists()
    texts = [text.get_text() for text in explorer.to_figure().findobj(matplotlib.text.Text)]
    assert any(text.startswith("minus student") for text in texts)


def data_of(text):
    return json.loads(re.search(r"json\">(.*?)</script>", text)[1])


def test_a_page_holds_every_choice_and_as_many_images_as_fit(explorer):
    explorer.image = 7
    held = data_of(explorer.to_fragment([1, 2, 3]))
    assert held["traits"]["_meta"]["images"] == [1, 2, 3, 7]
    kinds = [content["kind"] for content, _ in held["messages"]]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "spectra": 2, "bands": 12, "thumbs": 4, "maps": 4, "planes": 8, "cells": 2
    }  # fmt: skip
    assert data_of(explorer.to_fragment(budget=0))["traits"]["_meta"]["images"] == [7]


def test_a_page_holds_of_an_epoch_what_differs_from_the_end(shown, older):
    explorer = famviz.AmplitudeExplorer(shown, checkpoints={"student": {3: older.state_dict()}})
    for content, _ in data_of(explorer.to_fragment(1))["messages"]:
        if content["kind"] in ("maps", "planes"):
            names = ["student"] if content["epoch"] else ["teacher", "student"]
            assert [list(stage) for stage in content["stages"]] == [names] * 3


def test_spectra_come_as_a_frame(explorer):
    frame = explorer.frame()
    assert frame["dB"].tolist() == [row["dB"] for row in explorer.spectra().rows()]
    assert set(frame["network"]) == set(explorer.store.names)


@pytest.mark.slow
def test_runs_come_with_the_outputs_of_their_methods(trained_runs):
    explorer = famviz.AmplitudeExplorer(list(trained_runs.values()), 5, stage="layer1", rings=[1, 2])
    assert explorer.store.names == ["teacher", "student alone", "student by fam", "student by fam_review",
                                    "fam output", "fam_review output"]  # fmt: skip
    from famviz.analysis.differences import amplitude_difference

    wanted = amplitude_difference(trained_runs["fam"], count=5)[0]
    found = explorer.spectra()
    for own, theirs in {"teacher": "teacher", "student by fam": "student", "fam output": "fam output"}.items():
        np.testing.assert_allclose(found.planes[own], wanted.planes[theirs], atol=1e-3)
    assert {row["network"] for row in explorer.shares().rows} == set(explorer.store.names)


def test_a_run_offers_its_best_epoch_if_it_is_not_the_last(trained_runs, monkeypatch):
    run = trained_runs["fam"]
    assert best_checkpoint(run) == {}
    rows = run.metrics()
    worse = [rows[0], {**rows[0], "epoch": 2, "top1": 0.0}]
    monkeypatch.setattr(type(run), "metrics", lambda self: worse)
    (epoch, state), *more = best_checkpoint(run).items()
    assert (epoch, more) == (1, [])
    assert state.keys() == run.student_state().keys()


def test_networks_of_other_sizes_meet_at_the_frequencies_that_both_have():
    nets = networks()
    small = torch.nn.Sequential(torch.nn.AvgPool2d(2), nets["student"])
    torch.manual_seed(0)
    explorer = famviz.AmplitudeExplorer({"teacher": nets["teacher"], "student": small}, torch.randn(3, 3, 32, 32))
    assert [tuple(size) for size in explorer.store.sizes] == [(16, 16), (8, 8), (4, 4)]
    maps = explorer.store.maps_of_stage(1, 0)
    assert (maps["teacher"].shape[1:], maps["student"].shape[1:]) == ((32, 32), (16, 16))
    whole = image_spectra(torch.from_numpy(maps["teacher"])[None])[0]
    np.testing.assert_allclose(explorer.store.spectra(Look(), 0, [1])["teacher"][0], whole[8:24, 8:24], atol=1e-4)
