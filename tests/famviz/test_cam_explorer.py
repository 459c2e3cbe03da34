"""The CAM explorer by its traits and messages, in the kernel, without a front end."""

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
from torch import nn

matplotlib.use("Agg")
import famviz
from famkd.errors import UserError
from famviz.analysis import cam_scores
from famviz.analysis.cam import cam
from famviz.analysis.cam_store import CamStore, Choice

pytest_plugins = ("helpers.famviz_trained",)


@pytest.fixture(scope="module")
def shown():
    return comparison()


@pytest.fixture
def explorer(shown):
    made = noting(famviz.CamExplorer(shown))
    yield made
    made.close()


def alone(shown, name, images, target):
    return cam(shown.models[name], shown.inputs(images)[name], target)


def test_maps_come_as_evidence_with_their_figures(explorer, shown):
    images = [3, 11]
    content, buffers = ask(explorer, ask="maps", positions=images, method="GradCAM", layer="", target="true")
    labels = torch.from_numpy(shown.labels[images])
    first = alone(shown, "teacher", images, labels)
    for name, data in zip(shown.names, buffers):
        own, sent = alone(shown, name, images, labels), content["networks"][name]
        evidence = np.frombuffer(data, np.float32).reshape(2, *sent["grid"])
        np.testing.assert_allclose(evidence, own.evidence, atol=1e-6)
        assert sent["labels"] == labels.tolist()
        assert sent["p"] == pytest.approx(own.confidence.tolist(), abs=1e-4)
        wanted = cam_scores.rank_correlation(own.maps, first.maps)
        np.testing.assert_allclose(np.array(sent["figures"]["rank correlation"], float), wanted, atol=1e-3)
        wanted = cam_scores.energy_inside(own.maps, shown.masks[images])
        np.testing.assert_allclose(np.array(sent["figures"]["energy inside"], float), wanted, atol=1e-3)
    assert content["key"] == "GradCAM||true"


@pytest.mark.parametrize(("target", "name"), [("reference", "teacher"), ("each", "student"), ("5", "")])
def test_the_class_of_the_maps_is_chosen(explorer, shown, target, name):
    content, _ = ask(explorer, ask="maps", positions=[0, 1], method="GradCAM", layer="", target=target)
    shown.predict([0, 1])
    wanted = shown.answers[name].logits[:2].argmax(1).tolist() if name else [5, 5]
    assert content["networks"]["student"]["labels"] == wanted


def test_facts_are_what_the_networks_predict_and_a_picture(explorer, shown):
    content, buffers = ask(explorer, ask="facts", positions=[2, 5])
    assert content["labels"] == shown.labels[[2, 5]].tolist()
    for name in shown.names:
        logits = shown.logits[name][[2, 5]]
        assert content["predicted"][name] == logits.argmax(1).tolist()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(buffers[1]))), shown.pixels([5])[0])
    _, (picture,) = ask(explorer, ask="pictures", positions=[7])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), shown.pixels([7])[0])


def test_nothing_is_computed_twice(shown):
    store = CamStore(shown)
    first = store.maps([1, 2], Choice())
    store._compute = None  # would fail
    again = store.maps([2, 1], Choice())
    assert again[0] is first[1]
    store.areas(1, "student", Choice(), 4)
    store._faithful = None
    assert all(0 <= area <= 1 for area in store.areas(1, "student", Choice(), 4))


def test_insertion_and_deletion_of_the_chosen_image(explorer, shown):
    question = {"method": "LayerCAM", "layer": "-2", "target": "true"}
    content, _ = ask(explorer, ask="areas", position=4, network="student", **question)
    images, labels = shown.inputs([4])["student"], torch.from_numpy(shown.labels[[4]])
    own = cam(shown.models["student"], images, labels, "LayerCAM", "layer2")
    wanted = cam_scores.insertion_deletion(shown.models["student"], images, own.maps, labels, steps=8)
    assert (content["insertion"], content["deletion"]) == pytest.approx([float(a[0]) for a in wanted], abs=1e-3)


def test_the_embedding_has_points_for_what_is_known(shown):
    fresh = famviz.CamExplorer(comparison())
    fresh.sent = []
    fresh.send = lambda content, buffers=None: fresh.sent.append((content, buffers))
    ask(fresh, ask="facts", positions=[0, 1, 2, 9])
    content, buffers = ask(fresh, ask="embedding")
    points = np.frombuffer(buffers[0], np.float32).reshape(COUNT, 2)
    assert np.flatnonzero(~np.isnan(points[:, 0])).tolist() == [0, 1, 2, 9]
    assert content["count"] == 4


def test_similarity_of_stages_is_sent_when_asked_for(explorer, shown):
    content, buffers = ask(explorer, ask="cka", other="student")
    wanted = shown.cka("teacher", "student", COUNT)
    np.testing.assert_allclose(content["values"], wanted.values, atol=1e-4)
    assert (content["other"], content["stages"], content["count"], buffers) == (
        "student", list(wanted.stages), COUNT, [],
    )  # fmt: skip
    content, _ = ask(explorer, ask="cka", other="pupil")
    assert (content["kind"], content["question"]["other"]) == ("failed", "pupil")


def test_a_network_without_such_a_map_says_so_and_the_others_have_theirs(explorer):
    content, buffers = ask(explorer, ask="maps", positions=[0], method="AttentionRollout", layer="", target="true")
    assert "has no attention" in content["networks"]["student"]["refused"]
    assert buffers == [b"", b""]


def test_what_fails_is_answered_in_a_sentence(explorer):
    content, _ = ask(explorer, ask="maps", positions=[99], method="GradCAM", layer="", target="each")
    assert content["kind"] == "failed"
    assert content["question"]["positions"] == [99]
    content, _ = ask(explorer, ask="maps", positions=[0], method="GradCAM", layer="layr3", target="each")
    assert content["networks"]["student"]["refused"].startswith("CIFARResNet has no module 'layr3'") or (
        "no module 'layr3'" in content["networks"]["student"]["refused"]
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("image", 20, "0 .. 19"), ("method", "gradcam", "Did you mean GradCAM"), ("layer", "-9", "has 3 stages"),
     ("target", "sky", "no target"), ("other", "a", "teacher, student"), ("scale", "all", "scale"),
     ("blend", 2, "1.0")],
)  # fmt: skip
def test_what_is_not_there_is_refused(explorer, name, value, words):
    with pytest.raises(traitlets.TraitError, match=words):
        setattr(explorer, name, value)


def test_unknown_arguments_and_missing_labels_are_refused(shown):
    with pytest.raises(UserError, match=r"CamExplorer has no argument 'colormap'.*It takes image, method"):
        famviz.CamExplorer(shown, colormap="magma")
    with pytest.raises(traitlets.TraitError, match="true class needs labels"):
        famviz.CamExplorer(comparison(labelled=False), target="true")


def test_traits_answer_in_python(explorer, shown):
    explorer.image, explorer.target = 6, "kind 3"
    assert explorer.target == "3"
    wanted = alone(shown, "student", [6], torch.tensor([3]))
    np.testing.assert_allclose(explorer.maps()["student"], wanted.maps[0], atol=1e-6)
    explorer.areas = True
    rows = {row["network"]: row for row in explorer.figures().rows}
    assert rows["teacher"]["rank correlation"] == pytest.approx(1)
    assert 0 <= rows["student"]["insertion"] <= 1
    listed = explorer.disagreement(8).rows
    agreement = [row["rank correlation"] for row in listed]
    assert agreement == sorted(agreement)
    assert {row["image"] for row in listed} == set(range(8))


def test_explorers_move_together_until_parted(shown):
    one, two = famviz.CamExplorer(shown), famviz.CamExplorer(shown)
    links = one.link(two)
    one.image = 5
    two.method = "LayerCAM"
    assert (two.image, one.method) == (5, "LayerCAM")
    for link in links:
        link.unlink()
    one.image = 1
    assert two.image == 5


def test_every_output_carries_a_picture_of_the_choice(explorer, tmp_path):
    explorer.image, explorer.scale = 4, "own"
    data, _ = explorer._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "image/png"} <= data.keys()
    assert explorer.to_png(tmp_path / "still.png").startswith(b"\x89PNG") == (tmp_path / "still.png").exists()
    drawn = [
        i for ax in explorer.to_figure().axes for i in ax.images if i.cmap.name == "inferno" and i.get_array().ndim == 2
    ]
    for image, values in zip(drawn, explorer.maps().values()):
        np.testing.assert_allclose(image.get_array(), values, atol=1e-6)
        assert image.get_clim()[1] == pytest.approx(values.max())
    explorer.method = "AttentionRollout"
    with pytest.raises(UserError, match="has no attention"):
        explorer.to_figure()


def test_a_page_holds_as_many_images_as_fit_and_the_chosen_one_always(explorer):
    explorer.image = 7
    text = explorer.to_fragment([1, 2, 3])
    meta = json.loads(re.search(r"json\">(.*?)</script>", text)[1])["traits"]["_meta"]
    assert meta["images"] == [1, 2, 3, 7]
    assert meta["held"] == ["GradCAM||true", "GradCAM||reference", "GradCAM||each"]
    small = json.loads(re.search(r"json\">(.*?)</script>", explorer.to_fragment(budget=0))[1])["traits"]["_meta"]
    assert small["images"] == [7]
    one = explorer.to_fragment(2, [Choice("LayerCAM", "", "each")])
    assert '"held": ["GradCAM||true", "LayerCAM||each"]' in one


@pytest.mark.slow
def test_runs_are_taken_as_networks_are(trained_runs):
    explorer = famviz.CamExplorer(list(trained_runs.values()), 5, other="student by fam")
    assert explorer.comparison.names == ["teacher", "student alone", "student by fam", "student by fam_review"]
    assert set(explorer.maps()) == set(explorer.comparison.names)
    direct = famviz.CamExplorer(networks(), torch.randn(3, 3, 32, 32))
    assert direct.target == "reference"
    assert isinstance(direct.comparison.models["student"], nn.Module)


def test_agreement_comes_as_a_frame(explorer, shown):
    frame = explorer.frame()
    wanted = explorer.disagreement()
    assert frame["image"].tolist() == [row["image"] for row in wanted]
    np.testing.assert_array_equal(frame["rank correlation"], [row["rank correlation"] for row in wanted])


def test_colab_is_asked_to_show_widgets(monkeypatch, shown):
    import sys
    from types import SimpleNamespace

    called = []
    output = SimpleNamespace(enable_custom_widget_manager=lambda: called.append(1))
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    famviz.CamExplorer(shown)  # anywidget does it
    assert called
