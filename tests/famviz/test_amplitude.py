"""Frequency amplitude differences: against numpy, against bands taken out on purpose, and on trained runs."""

import shutil

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

matplotlib.use("Agg")
from famkd.data.bands import bands, bands_truth
from famkd.distill.types import Probe, View
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.tasks import Classification
from famviz.analysis.amplitude import bootstrap_band, compare_stage, image_spectra
from famviz.figures.amplitude import amplitude_difference, differences_figure, differences_table, network_spectra
from famviz.networks import networks, networks_of_runs, run_images, student_alone, trained_distiller
from famviz.networks.runs import students_of_runs

pytest_plugins = ("helpers.famviz_trained",)


class Through(nn.Module):
    """A network whose one stage is `body`."""

    taps = {"stages": ("body",)}

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x).mean((2, 3))


class Without(nn.Module):
    """Takes one wave, and its mirror image, out of every map."""

    def __init__(self, ky: int, kx: int):
        super().__init__()
        self.at = ky, kx

    def forward(self, x):
        spectrum = torch.fft.fft2(x)
        for sign in (1, -1):
            spectrum[..., (sign * self.at[0]) % x.shape[-2], (sign * self.at[1]) % x.shape[-1]] *= 0.1
        return torch.fft.ifft2(spectrum).real


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(bands().x_test[:60]).permute(0, 3, 1, 2).float() / 255


def naive_level(decibels, relative):
    """What is taken out of each image's spectrum (N, H, W) with DC first."""
    above = decibels.reshape(len(decibels), -1)[:, 1:]
    return {"mean": above.mean(1), "dc": decibels[:, 0, 0], "none": np.zeros(len(decibels))}[relative][:, None, None]


@pytest.mark.parametrize("relative", ["mean", "dc", "none"])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6)])  # odd and even: DC and Nyquist lie differently
def test_spectra_and_curves_equal_a_naive_numpy(size, relative):
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 4, 3, *size)) + 1
    spectra = {n: image_spectra(torch.from_numpy(m)) for n, m in zip("ab", maps)}
    stage = compare_stage("s", "a", spectra, relative=relative)
    for name, batch in zip("ab", maps):
        amplitude = np.sqrt(np.square(np.abs(np.fft.fft2(batch, norm="ortho"))).mean(1))
        decibels = 20 * np.log10(amplitude)
        plane = np.fft.fftshift(decibels - naive_level(decibels, relative), axes=(1, 2)).mean(0)
        np.testing.assert_allclose(stage.planes[name], plane, atol=1e-6)
        assert stage.dc[name] == pytest.approx(decibels[:, 0, 0].mean())
        assert stage.loudness[name] == pytest.approx(naive_level(decibels, "mean").mean())
        ky, kx = (np.arange(n) - n // 2 for n in size)
        short = min(size) / 2
        radius = np.hypot(ky[:, None] / (size[0] / 2), kx[None] / (size[1] / 2)) * short
        curve = [plane[np.rint(radius) == ring].mean() for ring in range(min(size) // 2 + 1)]
        np.testing.assert_allclose(stage.curves[name], curve, atol=1e-6)
    gap, wide = stage.curves["b"] - stage.curves["a"], (stage.planes["b"] - stage.planes["a"]) ** 2
    assert stage.rms_db("b") == pytest.approx(np.sqrt((gap[1:] ** 2).mean()))
    above = wide.sum() - wide[size[0] // 2, size[1] // 2]
    assert stage.plane_rms_db("b") == pytest.approx(np.sqrt(above / (wide.size - 1)))


def test_a_louder_mean_alone_is_no_difference_of_shape(images):
    """DC five times as large and every other frequency as it was: relative to DC all of them would seem to lack."""
    maps = images - images.mean((2, 3), keepdim=True) + 0.1
    spectra = {"teacher": image_spectra(maps), "student": image_spectra(maps + 0.4)}
    by = {name: compare_stage("s", "teacher", spectra, relative=name) for name in ("mean", "dc", "none")}
    found = {name: stage.rms_db("student") for name, stage in by.items()}
    assert found == pytest.approx({"mean": 0, "none": 0, "dc": 20 * np.log10(5)}, abs=1e-3)
    assert by["mean"].offsets("student") == pytest.approx((0, 20 * np.log10(5)), abs=1e-3)
    with pytest.raises(UserError, match="mean, dc or none"):
        compare_stage("s", "teacher", spectra, relative="loudness")


def test_a_window_takes_away_the_cross_of_a_jump_at_the_edges_and_keeps_levels():
    ramp = np.add.outer(np.arange(32.0), np.arange(32.0))[None, None]  # ends high where it begins low
    noise = np.random.default_rng(0).normal(size=(200, 1, 32, 32))
    plain, faded = (image_spectra(torch.from_numpy(ramp + 0 * noise[:1]), window)[0] for window in (False, True))
    assert plain[16, 20:].min() > plain.min() + 60  # all along the axis
    assert faded[16, 20:].max() < plain[16, 20:].max() - 20
    assert faded[16, 16] == pytest.approx(plain[16, 16])
    levels = [image_spectra(torch.from_numpy(noise), window)[:, 1:8, 1:8].mean() for window in (False, True)]
    assert levels[0] == pytest.approx(levels[1], abs=0.2)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(32) / 32)
    by_hand = np.abs(np.fft.fft2((noise - noise.mean((2, 3), keepdims=True)) * np.outer(hann, hann), norm="ortho"))
    wanted = 20 * np.log10(by_hand[:, 0, 3, 5] * 8 / 3)
    np.testing.assert_allclose(image_spectra(torch.from_numpy(noise), True)[:, 19, 21], wanted, atol=1e-6)


@pytest.mark.parametrize("label", [0, 2, 4])
def test_a_missing_band_is_found_where_it_was_taken_out(images, label):
    ky, kx = bands_truth().wave_vectors()[label].round().astype(int)
    student = Through(Without(ky, kx))
    (stage,) = amplitude_difference({"teacher": Through(nn.Identity()), "student": student}, images)
    gap = stage.difference("student")
    lowest = np.argwhere(gap < -10) - 16
    assert sorted(map(tuple, lowest.tolist())) == sorted([(ky, kx), (-ky, -kx)])
    assert gap.min() == pytest.approx(-20 + 2 * 20 / 1023, abs=1e-3)  # two of 1023 sink, so their mean does
    worst = np.abs(stage.difference_curve("student")).argmax()
    assert stage.frequency[worst] == round(np.hypot(ky, kx))
    assert stage.difference_bands["student"][1, worst] < 0


def test_same_networks_do_not_differ_and_gain_is_no_difference(images):
    louder = nn.Conv2d(3, 3, 1, bias=False)
    nn.init.dirac_(louder.weight)
    louder.weight.data *= 10
    models = {"teacher": Through(nn.Identity()), "same": Through(nn.Identity()), "louder": Through(louder)}
    (stage,) = amplitude_difference(models, images)
    assert stage.rms_db("same") == 0
    assert stage.rms_db("louder") == pytest.approx(0, abs=1e-4)
    assert stage.dc["louder"] - stage.dc["teacher"] == pytest.approx(20, abs=1e-3)


def test_unequal_sizes_meet_at_the_frequencies_that_both_have(images):
    models = {"teacher": Through(nn.Identity()), "student": Through(nn.AvgPool2d(2))}
    (stage,) = amplitude_difference(models, images)
    assert stage.planes["teacher"].shape == stage.planes["student"].shape == (16, 16)
    assert stage.offsets("student")[1] == pytest.approx(20 * np.log10(0.5), abs=1e-3)  # a quarter of the pixels
    assert stage.difference_curve("student")[-1] < 0 < stage.difference_curve("student")[1]  # averaging is a low-pass


def test_the_bootstrap_band_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = []
    for seed in range(150):
        low, high = bootstrap_band(rng.normal(3.0, 2.0, (60, 4)), seed=seed)
        covered.append((low <= 3) & (high >= 3))
    assert 0.90 <= np.mean(covered) <= 0.985
    curves = rng.normal(size=(20, 3))
    assert np.array_equal(bootstrap_band(curves, seed=5), bootstrap_band(curves, seed=5))
    assert not np.array_equal(bootstrap_band(curves, seed=5), bootstrap_band(curves, seed=6))


def test_a_network_is_left_as_it_was(images):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).train()  # fmt: skip
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert network_spectra(model, images)
    assert [m.training for m in model] == [True, False, True, True, True, True]
    assert model[2].inplace
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.fixture(scope="module")
def runs(trained_runs):
    return trained_runs


@pytest.mark.slow
def test_networks_of_a_run_are_those_that_training_left(runs):
    found = networks(runs["fam"])
    assert list(found) == ["teacher", "student alone", "student"]
    shown = run_images(runs["fam"], 10_000)
    logits = found["student"](shown.images)
    accuracy = 100 * (logits.argmax(1) == shown.labels).double().mean().item()
    assert accuracy == pytest.approx(runs["fam"].metrics()[-1]["top1"])
    assert all(not p.requires_grad for net in found.values() for p in net.parameters())
    assert not any(m.training or m._forward_hooks for net in found.values() for m in net.modules())


@pytest.mark.slow
def test_a_student_without_a_teacher_is_listed_once(runs):
    everyone = ["teacher", "student alone", "student by fam", "student by fam_review"]
    alone = student_alone(runs["fam"])
    assert list(networks_of_runs(list(runs.values()))) == everyone
    assert list(networks_of_runs([*runs.values(), alone])) == everyone
    assert sorted(networks_of_runs([alone, runs["fam"]])) == everyone[1:3] + everyone[:1]
    assert list(networks_of_runs(alone)) == ["student alone"]


def test_runs_of_one_method_are_called_by_their_folders(trained_runs, tmp_path):
    folders = ["fam-seed0", "fam-grid=4-seed0", "mine"]
    runs = [shutil.copytree(trained_runs["fam"].path, tmp_path / folder) for folder in folders]
    assert list(students_of_runs(runs)) == ["student by fam", "student by fam-grid=4-seed0", "student by fam, mine"]


@pytest.mark.slow
def test_the_output_of_a_method_is_what_training_compares(runs):
    """Rebuilt filters on the student's stages, done by hand, have the spectrum that is shown."""
    shown = run_images(runs["fam"], 40)
    distiller = trained_distiller(runs["fam"])
    saved = runs["fam"].method_state()[0]
    assert all(torch.equal(value, saved[key]) for key, value in distiller.methods.state_dict().items())
    _, feats = distiller.student(shown.images)
    view: View = Classification().teach(distiller.teacher, shown)
    stages = amplitude_difference(runs["fam"], count=40)
    assert [stage.name for stage in stages] == ["layer1", "layer2", "layer3"]
    for stage, own, module, target in zip(stages, feats, distiller.methods["fam"].compared(), view.feats):
        by_hand = image_spectra(module(own)).mean(0)
        np.testing.assert_allclose(stage.planes["fam output"] + stage.loudness["fam output"], by_hand, atol=1e-4)
        np.testing.assert_allclose(
            stage.planes["teacher"] + stage.loudness["teacher"], image_spectra(target).mean(0), atol=1e-4
        )


@pytest.mark.parametrize("name", ["figkd", "freekd", "kd"])
def test_a_method_that_makes_no_maps_has_none_to_show(name):
    view = View(torch.rand(2, 3), [torch.rand(2, 4, 8, 8)])  # figkd and freekd have levels: scales, not modules
    assert METHODS[name](Probe(view, view, None)).compared() == []


@pytest.mark.slow
def test_a_review_shows_every_level_that_has_frequencies(runs):
    stages = amplitude_difference(runs["fam_review"], count=30)
    assert [s.name for s in stages] == ["layer1", "layer2", "layer3"]  # and not the embedding
    assert [s.planes["teacher"].shape for s in stages] == [(8, 8), (4, 4), (2, 2)]
    assert all(set(s.planes) == {"teacher", "student alone", "student", "fam_review output"} for s in stages)


@pytest.mark.slow
def test_the_table_has_a_row_for_each_run_stage_and_network(runs):
    rows = differences_table(runs.values(), count=30)
    assert len(rows) == 2 * 3 * 3
    assert {row["method"] for row in rows} == {"fam", "fam_review"}
    alone = {m: [r["rms_db"] for r in rows if r["of"] == "student alone" and r["method"] == m] for m in runs}
    assert alone["fam"] == pytest.approx(alone["fam_review"])  # the same network next to the same teacher
    assert all(row["rms_db"] > 0 and row["plane_rms_db"] > 0 for row in rows)
    (stage, *_), row = amplitude_difference(runs["fam"], count=30), rows[0]
    assert (row["level_db"], row["dc_db"]) == pytest.approx(stage.offsets(row["of"]))
    without, own = (run.metrics()[-1]["top1"] for run in (student_alone(runs["fam"]), runs["fam"]))
    assert {row["top1"] for row in rows if row["of"] == "student alone"} == {without}
    assert {row["top1"] for row in rows if row["of"] != "student alone" and row["method"] == "fam"} == {own}
    assert differences_table([student_alone(runs["fam"])], count=30) == []


def test_a_moved_run_still_finds_its_teacher_and_leaves_the_generator_alone(runs, tmp_path, monkeypatch):
    moved = tmp_path / "elsewhere"
    shutil.copytree(runs["fam"].path.parents[1], moved / "runs")
    path = moved / "runs" / runs["fam"].path.relative_to(runs["fam"].path.parents[1])
    recipe = (path / "recipe.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    (path / "recipe.yaml").write_text(recipe.replace(str(runs["fam"].path.parents[1]), "runs"))
    state = torch.get_rng_state()
    assert list(networks(path)) == ["teacher", "student alone", "student"]
    assert torch.equal(state, torch.get_rng_state())


def test_the_figure_shows_differences_symmetric_about_zero_and_pyplot_does_not_keep_it(runs):
    import matplotlib.pyplot as plt

    stages = amplitude_difference(runs["fam"], count=20)
    figure = differences_figure(stages)
    signed = [each for each in figure.findobj(matplotlib.image.AxesImage) if each.cmap.name == "RdBu_r"]
    assert len(signed) >= 9
    assert all(low == -high for low, high in (image.get_clim() for image in signed))
    texts = [text.get_text() for text in figure.findobj(matplotlib.text.Text)]
    assert "student alone" in texts
    for stage in stages:
        dc = 20 * np.log10(10 ** (stage.dc["student"] / 20) / 10 ** (stage.dc["teacher"] / 20))
        assert any(f"DC {dc:+.1f} dB".replace("-", "\u2212") in text for text in texts)
    assert len(figure.findobj(matplotlib.legend.Legend)) == 1
    curves = [line for ax in figure.axes for line in ax.lines if line.get_label() == "teacher"]
    assert all(line.get_xdata()[0] == 1 for line in curves)  # at DC a spike would press the rest flat
    assert plt.get_fignums() == []


def test_networks_without_images_are_refused_in_words():
    with pytest.raises(UserError, match="need images"):
        amplitude_difference({"teacher": Through(nn.Identity())})
