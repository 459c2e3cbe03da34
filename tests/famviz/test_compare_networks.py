"""Any networks on the same images: predictions, agreement, calibration, confusion, CKA, maps and spectra."""

import importlib.util
from dataclasses import dataclass

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix
from torch import nn

matplotlib.use("Agg")
import famviz
from famkd.errors import UserError
from famkd.models import build_model
from famviz.analysis import predictions
from famviz.analysis.cam import cam, enlarged
from famviz.analysis.similarity import cka, plane, turned_to
from famviz.figures.agreement import calibration_figure, cka_figure, confusion_figure, embedding_figure
from famviz.figures.amplitude import amplitude_difference, differences_figure
from famviz.figures.cam import grid_figure

pytest_plugins = ("helpers.famviz_trained",)
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 40, 48, 3), np.uint8)
LABELS = np.arange(12) % 5
NAMES = ["ant", "bee", "cat", "dog", "elk"]


@dataclass
class Wants:
    """As timm says it: sides, mean and standard deviation."""

    side: int
    mean: float
    std: float

    def config(self):
        size = (3, self.side, self.side)
        return {"input_size": size, "mean": (self.mean,) * 3, "std": (self.std,) * 3, "interpolation": "bilinear"}


def networks():
    """Two networks of unlike size, with images of unlike size and normalisation."""
    torch.manual_seed(0)
    found = {"teacher": build_model("resnet14x0.5", 5), "student": build_model("resnet8x0.5", 5)}
    for model, wants in zip(found.values(), (Wants(32, 0.5, 0.25), Wants(16, 0.0, 1.0))):
        model.pretrained_cfg = wants.config()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
    return found


@pytest.fixture(scope="module")
def shown():
    return famviz.compare_networks(networks(), PIXELS, LABELS, NAMES)


def expected_inputs(side, mean, std):
    """The centre of the pictures, cropped by the share that leaves 7/8 of the shorter side, in numpy and PIL."""
    parts = [Image.fromarray(each).crop((6, 2, 41, 37)).resize((side, side), 2) for each in PIXELS]
    return (np.stack([np.asarray(each) for each in parts]).transpose(0, 3, 1, 2) / 255 - mean) / std


def test_each_network_gets_the_same_picture_in_its_own_way(shown):
    inputs = shown.inputs(range(12))
    for name, wants in (("teacher", (32, 0.5, 0.25)), ("student", (16, 0.0, 1.0))):
        np.testing.assert_allclose(inputs[name].numpy(), expected_inputs(*wants), atol=1e-5)
    assert shown.pixels([3]).shape == (1, 32, 32, 3)  # of the largest network
    assert (shown.reference, shown.others) == ("teacher", ["student"])


def logits_of(shown, name):
    with torch.no_grad():
        return shown.models[name].eval()(shown.inputs(range(12))[name]).numpy()


def test_predictions_are_those_of_the_networks_in_eval_mode(shown):
    shown.models["teacher"].train()
    fresh = famviz.compare_networks(shown.models, PIXELS, LABELS, NAMES)
    rows = fresh.rows()
    assert fresh.models["teacher"].training
    assert not any(module._forward_hooks for model in fresh.models.values() for module in model.modules())
    for name in fresh.names:
        wanted = logits_of(fresh, name)
        np.testing.assert_allclose(fresh.logits[name], wanted, atol=1e-5)
        chances = np.exp(wanted) / np.exp(wanted).sum(1, keepdims=True)
        assert [row[name] for row in rows] == [NAMES[each] for each in wanted.argmax(1)]
        assert [row[f"{name} p"] for row in rows] == pytest.approx(chances.max(1).tolist(), rel=1e-4)
        assert [row[f"{name} right"] for row in rows] == (wanted.argmax(1) == LABELS).tolist()
    assert [row["true class"] for row in rows] == [NAMES[each] for each in LABELS]


def test_only_what_is_asked_for_is_computed():
    fresh = famviz.compare_networks(networks(), PIXELS, LABELS, NAMES)
    assert not fresh.answers["teacher"].known.any()
    fresh.predict([4, 7])
    assert np.flatnonzero(fresh.answers["student"].known).tolist() == [4, 7]
    np.testing.assert_allclose(fresh.answers["student"].logits[7], logits_of(fresh, "student")[7], atol=1e-5)
    before = fresh.answers["student"].logits.copy()
    fresh.models["student"].forward = None  # so that a second look would fail
    fresh.predict([4, 7])
    np.testing.assert_array_equal(fresh.answers["student"].logits, before)


def test_a_summary_against_numpy(shown):
    teacher, student = shown.summary().rows
    a, b = (logits_of(shown, name) for name in shown.names)
    right = a.argmax(1) == LABELS, b.argmax(1) == LABELS
    assert teacher["top-1 %"] == pytest.approx(100 * right[0].mean())
    assert student["same class"] == pytest.approx(np.mean(a.argmax(1) == b.argmax(1)))
    assert student["only the reference right"] == pytest.approx(np.mean(right[0] & ~right[1]))
    shares = [student[key] for key in ("both right", "only the reference right", "only this one right", "both wrong")]
    assert sum(shares) == pytest.approx(1)
    chances = [np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in (a, b)]
    assert student["distance"] == pytest.approx(0.5 * np.abs(chances[0] - chances[1]).sum(1).mean(), rel=1e-4)


def test_calibration_counts_each_image_in_its_bin():
    rng = np.random.default_rng(0)
    chances = predictions.softmax(3 * rng.normal(size=(200, 4)))
    labels = rng.integers(0, 4, 200)
    found = predictions.calibration("net", chances, labels, 5)
    error = 0.0
    for k in range(5):
        inside = (chances.max(1) >= k / 5) & (chances.max(1) < (k + 1) / 5)
        assert found.counts[k] == inside.sum()
        if inside.any():
            accuracy, sure = (chances.argmax(1) == labels)[inside].mean(), chances.max(1)[inside].mean()
            assert (found.accuracy[k], found.confidence[k]) == pytest.approx((accuracy, sure))
            error += inside.mean() * abs(accuracy - sure)
    assert found.error == pytest.approx(error)
    assert predictions.calibration("net", np.eye(3), np.arange(3)).error == 0
    assert [row["images"] for row in found.rows()] == found.counts.tolist()


def test_confusion_against_sklearn(shown):
    found = shown.confusion("student")
    wanted = confusion_matrix(LABELS, logits_of(shown, "student").argmax(1), labels=range(5))
    np.testing.assert_array_equal(found.counts, wanted)
    rows = found.rows()
    unlike = wanted - np.diag(wanted.diagonal())
    assert sum(row["images"] for row in rows) == unlike.sum()
    assert rows[0]["images"] == unlike.max()
    assert unlike[NAMES.index(rows[0]["true class"]), NAMES.index(rows[0]["student"])] == unlike.max()
    both = shown.confusion("teacher", "student").counts
    assert both.trace() == (logits_of(shown, "teacher").argmax(1) == logits_of(shown, "student").argmax(1)).sum()


def hsic(a, b):
    """The unbiased estimate by its definition: means over unequal images."""
    n = len(a)
    pairs = [(i, j, q, r) for i in range(n) for j in range(n) for q in range(n) for r in range(n)
             if len({i, j, q, r}) == 4]  # fmt: skip
    return np.mean([a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]) for i, j, q, r in pairs])


def test_cka_is_the_unbiased_one():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(6, 3))
    other = one @ rng.normal(size=(3, 4)) + 0.5 * rng.normal(size=(6, 4))
    a, b = one @ one.T, other @ other.T
    wanted = hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))
    assert cka(torch.from_numpy(one), torch.from_numpy(other)) == pytest.approx(wanted)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    assert cka(torch.from_numpy(one), torch.from_numpy(7 * one @ turn + 3)) == pytest.approx(1)
    far = [torch.from_numpy(rng.normal(size=(60, 500))) for _ in range(2)]
    assert abs(cka(*far)) < 0.1  # more dimensions than images, where the plain estimate is near 1
    with pytest.raises(UserError, match="at least 4 images"):
        cka(torch.zeros(3, 2), torch.zeros(3, 2))


def test_cka_between_the_stages_of_two_networks(shown):
    found = shown.cka()
    assert found.values.shape == (3, 3)
    assert found.stages == (["layer1", "layer2", "layer3"],) * 2
    np.testing.assert_allclose(shown.cka("student", "student").values.diagonal(), 1)
    seen = []
    handle = shown.models["teacher"].layer2.register_forward_hook(lambda m, a, out: seen.append(out))
    logits_of(shown, "teacher")
    handle.remove()
    theirs = shown.cka("teacher", "teacher").values[1, 1]
    pooled = nn.functional.adaptive_avg_pool2d(seen[0], 7).flatten(1)
    assert cka(pooled, pooled) == pytest.approx(theirs)
    assert len(found.rows()) == 9


def test_embeddings_are_principal_components_turned_towards_the_reference(shown):
    found = shown.embedding()
    seen = []
    handle = shown.models["teacher"].avgpool.register_forward_hook(lambda m, a, out: seen.append(out.flatten(1)))
    logits_of(shown, "teacher")
    handle.remove()
    wanted = PCA(2).fit_transform(seen[0].detach().numpy())
    wanted /= np.sqrt(np.square(wanted).sum(1).mean())
    np.testing.assert_allclose(np.abs(found["teacher"]), np.abs(wanted), atol=1e-3)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 2))
    angle = np.array([[0.6, 0.8], [0.8, -0.6]])  # turned and mirrored
    np.testing.assert_allclose(turned_to(points @ angle, points), points)
    assert np.square(plane(rng.normal(size=(9, 5)))).sum(1).mean() == pytest.approx(1)


def test_maps_of_unlike_sizes_compare_at_the_size_of_the_pixels(shown):
    found = shown.cams(6, steps=4)
    inputs = shown.inputs(range(6))
    own = {name: cam(model, inputs[name], torch.from_numpy(LABELS[:6])) for name, model in shown.models.items()}
    maps = {name: enlarged(each.evidence, (32, 32)) for name, each in own.items()}
    for name, result in found.results.items():
        assert result.maps.shape == (6, 32, 32)
        np.testing.assert_allclose(result.maps, maps[name], atol=1e-6)
    pairs = [(a.ravel(), b.ravel()) for a, b in zip(maps["student"], maps["teacher"]) if np.ptp(a) * np.ptp(b) > 0]
    wanted = [spearmanr(*pair)[0] for pair in pairs]
    correlation = found.figures["student"]["rank correlation"]
    np.testing.assert_allclose(correlation[~np.isnan(correlation)], wanted, atol=1e-6)
    assert found.figures["student"]["insertion"].shape == (6,)
    np.testing.assert_array_equal(found.pixels, shown.pixels(range(6)))
    assert len(grid_figure(shown, 2).axes) == 7
    assert repr(found) == "Comparison(GradCAM of teacher, student on 6 images)"
    mixed = shown.cams([1], method={"teacher": "HiResCAM"})
    assert [each.method for each in mixed.results.values()] == ["HiResCAM", "GradCAM"]


def test_a_class_beside_an_image_is_its_own_or_said_to_be_that_of_the_maps(shown):
    unlabelled = famviz.compare_networks(shown.models, PIXELS, names=NAMES)
    said = NAMES[logits_of(shown, "teacher")[0].argmax()]
    assert grid_figure(shown, 1).axes[0].get_ylabel() == "ant"
    assert grid_figure(unlabelled, 1).axes[0].get_ylabel() == f"evidence for\n{said}"


def test_spectra_are_those_of_each_networks_own_images(shown):
    stages = shown.spectra(5, draws=10)
    inputs = shown.inputs(range(5))
    alone = amplitude_difference({"student": shown.models["student"]}, inputs["student"], draws=10)
    np.testing.assert_allclose(stages[-1].planes["student"], alone[-1].planes["student"])
    assert [stage.name for stage in stages] == ["layer1", "layer2", "layer3"]
    assert stages[0].planes["teacher"].shape == (16, 16)  # the lowest frequencies that both have
    rows = stages.rows()
    assert {row["network"] for row in rows} == {"teacher", "student"}
    curve = [row["dB"] for row in rows if (row["stage"], row["network"]) == ("layer2", "student")]
    np.testing.assert_allclose(curve, stages[1].curves["student"])
    assert len(differences_figure(shown, count=5).axes) > 6
    assert repr(stages[2]) == "Stage(layer3, 4 x 4: teacher, student)"


def test_floats_reach_every_network_as_they_are_and_transforms_replace_the_usual_way():
    floats = torch.randn(4, 3, 16, 16)
    plain = famviz.compare_networks(networks(), floats)
    assert all(torch.equal(each, floats[1:3]) for each in plain.inputs([1, 2]).values())
    assert plain.labels is None
    with pytest.raises(UserError, match="needs the true classes"):
        plain.calibration("student")
    half = famviz.compare_networks(networks(), floats, transforms={"student": lambda x: x[:, ::2, ::2]})
    assert half.inputs([0])["student"].shape == (1, 3, 8, 8)
    assert torch.equal(half.inputs([0])["teacher"][0], floats[0])
    with pytest.raises(UserError, match=r"'studnt', which is no network here. Did you mean student"):
        famviz.compare_networks(networks(), floats, transforms={"studnt": abs})
    wrong = famviz.compare_networks(networks(), PIXELS, transforms=lambda picture: picture)
    with pytest.raises(UserError, match="must return floats"):
        wrong.inputs([0])


def test_families_compare_with_one_another():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    built = {
        "conv": timm.create_model("convnext_atto", num_classes=5),
        "vit": timm.models.VisionTransformer(32, 8, num_classes=5, embed_dim=24, depth=2, num_heads=2),
        "swin": timm.models.SwinTransformer(32, 2, num_classes=5, window_size=4, embed_dim=12, depths=(1, 1),
                                            num_heads=(2, 2)),
        "mixer": timm.models.MlpMixer(5, 32, patch_size=8, num_blocks=2, embed_dim=16),
    }  # fmt: skip
    built["conv"].pretrained_cfg = Wants(64, 0.4, 0.3).config()
    found = famviz.compare_networks(built, PIXELS[:5], LABELS[:5])
    assert found.reference == "conv"
    assert {name: images.shape[-1] for name, images in found.inputs([0]).items()} == {
        "conv": 64, "vit": 32, "swin": 32, "mixer": 32
    }  # fmt: skip
    assert len(found.summary().rows) == 4
    assert len(found.spectra(4, draws=5)) > 1
    assert found.cka("vit", "mixer").values.shape == (2, 2)
    maps = found.cams(2, method={"vit": "AttentionRollout"})
    assert {each.maps.shape for each in maps.results.values()} == {(2, 64, 64)}


def test_frames_hold_the_rows_with_pandas_and_without(shown, monkeypatch):
    pandas = pytest.importorskip("pandas")
    frame = shown.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["student p"].tolist() == [row["student p"] for row in shown.rows()]
    table = shown.summary()
    pandas.testing.assert_frame_equal(pandas.DataFrame(table), table.frame())
    for thing in (
        shown.cka(),
        shown.calibration("teacher"),
        shown.confusion("student"),
        shown.cams(2),
        shown.spectra(4),
    ):
        assert len(thing.frame()) == len(thing.rows())
    real = importlib.util.find_spec
    monkeypatch.setattr("famviz.tables.find_spec", lambda name: None if name == "pandas" else real(name))
    assert shown.frame() == shown.rows()
    assert table.frame() == table.rows


def test_a_comparison_is_short_as_the_last_line_of_a_cell(shown):
    assert repr(shown) == "NetworkComparison(teacher (CIFARResNet), student (CIFARResNet); 12 images)" or len(
        repr(shown)
    ) < 120  # fmt: skip
    fresh = famviz.compare_networks(shown.models, PIXELS)
    assert "parameters" in fresh._repr_html_()
    assert not fresh.answers["teacher"].known.any()
    shown.predict()
    assert "top-1 %" in shown._repr_html_()


@pytest.mark.parametrize("wrong", [{}, {"a": 3}, {"a": nn.Linear}])
def test_only_networks_by_name_are_taken(wrong):
    with pytest.raises(UserError, match="Pass networks by name"):
        famviz.compare_networks(wrong, PIXELS)


def test_other_numbers_of_classes_and_names_are_refused_in_a_sentence(shown):
    unlike = famviz.compare_networks({**shown.models, "other": build_model("resnet8x0.5", 7)}, PIXELS[:4])
    with pytest.raises(UserError, match=r"different numbers of classes \(teacher 5, student 5, other 7"):
        unlike.summary()
    with pytest.raises(UserError, match=r"no network 'studnt'.*student"):
        shown.confusion("studnt")
    with pytest.raises(UserError, match="There is no image 12"):
        shown.cams([12])


def test_figures_draw_what_was_measured(shown):
    curve = calibration_figure(shown).axes[0]
    found = shown.calibration("student")
    np.testing.assert_allclose(curve.lines[2].get_ydata(), found.accuracy[found.counts > 0])
    image = confusion_figure(shown.confusion("student")).axes[0].images[0]
    assert image.get_array().sum() == 12
    np.testing.assert_allclose(cka_figure(shown.cka()).axes[0].images[0].get_array(), shown.cka().values)
    points = embedding_figure(shown).axes[1].collections
    drawn = np.concatenate([each.get_offsets() for each in points])
    wanted = shown.embedding()["student"]
    np.testing.assert_allclose(np.sort(np.asarray(drawn), 0), np.sort(wanted, 0), atol=1e-6)
    many = predictions.confusion("true class", np.arange(60), "net", (np.arange(60) + 1) % 60, 60)
    assert len(confusion_figure(many).axes[0].patches) == 15  # bars


@pytest.mark.slow
def test_runs_compare_as_networks_do(trained_runs):
    run = trained_runs["fam"]
    shown = famviz.compare_networks(run, 6)
    assert shown.names == ["teacher", "student alone", "student by fam"]
    assert len(shown) == 6
    assert shown.classes == [str(digit) for digit in range(10)]
    assert len(shown.summary().rows) == 3
    both = famviz.compare_networks([famviz.open(each) for each in trained_runs.values()], [3, 1])
    assert both.names == ["teacher", "student alone", "student by fam", "student by fam_review"]
    assert famviz.compare_networks(both) is both
    np.testing.assert_array_equal(both.pixels([0]), famviz.compare_networks(run, 4).pixels([3]))
    stages = amplitude_difference(list(trained_runs.values()), count=4, draws=5)
    assert {"teacher", "student by fam", "student by fam_review", "fam output", "fam_review output"} <= set(
        stages[-1].planes
    )
    assert len(differences_figure(list(trained_runs.values()), count=4).axes) > 6
