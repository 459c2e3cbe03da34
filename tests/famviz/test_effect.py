"""What frequency attention does to real features: against numpy, on tensors that hooks of the test's own caught."""

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
import famviz
from famkd.distill.types import Batch, View
from famkd.errors import UserError
from famkd.layers.fourier import FAM, FourierFilter
from famkd.training.loop import train
from famviz.analysis.effect import gain_of
from famviz.figures import effect
from famviz.networks import run_images, student_alone, trained_distiller

pytest_plugins = ("helpers.famviz_trained",)
COUNT = 30


def caught(run, images, labels):
    """Level by level, shallow to deep: FAM, batch norm, and what entered FAM, left the level and the teacher showed."""
    distiller = trained_distiller(run)
    (method,) = distiller.methods.values()
    levels = [m for m in method.modules() if isinstance(m, torch.nn.Sequential) and isinstance(m[0], FAM)]
    seen = {}
    for at, level in enumerate(levels):
        level[0].register_forward_hook(lambda _, args, out, at=at: seen.__setitem__((at, "in"), args[0]))
        level.register_forward_hook(lambda _, args, out, at=at: seen.__setitem__((at, "out"), out))
    views = [View(logits, feats) for logits, feats in (distiller.student(images), distiller.teacher(images))]
    method(*views, Batch(images, labels, torch.arange(len(images))))
    theirs = views[1].feats
    return [(level[0], level[1], *(seen[at, key].detach() for key in ("in", "out")), theirs[at])
            for at, level in enumerate(levels) if level[0].filter is not None]  # fmt: skip


def power(maps):
    """Mean over images and channels of |F|^2, DC in the middle."""
    h, w = maps.shape[-2:]
    return np.fft.fftshift(np.square(np.abs(np.fft.fft2(maps.numpy().astype(float)))).mean((0, 1))) / (h * w)


def ring_of(size):
    """Ring of each frequency of a centred plane, cycles per map along the shorter side."""
    ky, kx = ((np.arange(n) - n // 2) / n for n in size)
    return np.rint(np.hypot(ky[:, None], kx[None]) * min(size))


def moving(maps):
    """Energy of an image's maps about each map's mean."""
    return float(np.square(maps.numpy() - maps.numpy().mean((2, 3), keepdims=True)).sum() / len(maps))


@pytest.mark.sample(1)
@pytest.mark.parametrize("size", [(8, 8), (8, 13)])  # as in training, and not square, beyond the filter's frequencies
@pytest.mark.parametrize("method", ["fam", "fam_review"])
def test_every_part_equals_numpy_on_what_hooks_caught(trained_runs, method, size):
    run, (images, labels, *_) = trained_runs[method], run_images(trained_runs[method], COUNT)
    images = torch.nn.functional.interpolate(images, size, mode="bilinear")
    found, wanted = effect.effects(run, images, labels), caught(run, images, labels)
    assert [each.name for each in found] == ["layer1", "layer2", "layer3"]
    for each, (fam, norm, entering, out, target) in zip(found, wanted, strict=True):
        far, near = (g.detach() * y.detach() for g, y in zip(fam.gamma, (fam.filter(entering), fam.local(entering))))
        scale = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()[:, None, None]
        parts = {"enters": entering, "global": scale * far, "local": scale * near, "output": out, "teacher": target}
        for name, maps in (parts | {"residual": out - target}).items():
            np.testing.assert_allclose(each.power[name], power(maps), rtol=1e-3, atol=1e-6 * power(maps).max())
        assert each.gain.shape == tuple(target.shape[-2:])
        far, near, both = moving(far), moving(near), moving(far + near)
        assert each.share == pytest.approx(far / (far + near), rel=1e-4)
        assert each.agreement == pytest.approx((both - far - near) / (2 * np.sqrt(far * near)), abs=1e-3)
        assert each.left == pytest.approx(moving(out - target) / moving(target), rel=1e-4)
        root = np.sqrt(moving(target) / target[0].numel() * target[0, 0].numel() / (target[0, 0].numel() - 1))
        assert each.reference == pytest.approx(root, rel=1e-4)
        dc = 10 * np.log10(power(target)[tuple(n // 2 for n in target.shape[-2:])]) - 20 * np.log10(root)
        assert each.plane("teacher")[tuple(n // 2 for n in target.shape[-2:])] == pytest.approx(dc, abs=1e-3)
        rings = [power(out)[ring_of(target.shape[-2:]) == n].mean() for n in range(min(target.shape[-2:]) // 2 + 1)]
        np.testing.assert_allclose(each.curve("output"), 10 * np.log10(rings) - 20 * np.log10(root), atol=1e-3)


@pytest.mark.parametrize("size", [(8, 8), (6, 9)])
def test_the_gain_is_the_response_and_what_noise_gains(size):
    torch.manual_seed(0)
    module = FourierFilter(3, 5, size, highpass="none").requires_grad_(False)
    weight = torch.rand(5, 1, 1) + 0.5
    gain = gain_of(module, weight, size)
    response = famviz.spectra.full_plane(module.response().numpy(), size[1]) * weight.numpy()[:, None]
    np.testing.assert_allclose(gain, np.sqrt(np.square(np.abs(response)).mean(0).sum(0)), rtol=1e-4)
    noise = torch.randn(2000, 3, *size)
    measured = power(weight * module(noise)) / power(noise)
    np.testing.assert_allclose(measured, np.square(gain), rtol=0.2)


def test_a_filter_that_passes_one_wave_is_seen_to_do_so():
    module = FourierFilter(1, 1, (8, 8), highpass="none").requires_grad_(False)
    module.weight.zero_()
    module.weight[2, 3, 0, 0, 0] = 0.5  # and, the map being real, its mirror image
    gain = gain_of(module, torch.full((1, 1, 1), 2.0), (8, 8))
    assert sorted(map(tuple, np.argwhere(gain > 1e-6) - 4)) == [(-2, -3), (2, 3)]
    assert gain.max() == pytest.approx(1)


def test_table_and_figure_say_what_was_measured(trained_runs):
    found = effect.effects(trained_runs["fam"], count=COUNT)
    rows = effect.effect_table(found)
    assert [row["global on these features"] for row in rows] == [each.share for each in found]
    shares = [each.total_share() for each in famviz.open(trained_runs["fam"]).filters]
    assert [row["global on white input"] for row in rows] == pytest.approx(shares)
    figure = effect.effect_figure(found)
    texts = {text.get_text() for text in figure.findobj(matplotlib.text.Text)}
    assert {"global branch", "left to the teacher", "|H|, dB of gain"} <= texts
    assert f"these features: {100 * found[0].share:.2g} %" in texts
    drawn = [i for ax in figure.axes for i in ax.images if i.cmap.name == "cividis"]
    assert len(drawn) == 3 * 6
    assert len({image.get_clim() for image in drawn}) == 3  # one scale a level


def test_a_level_of_one_branch_has_no_share(trained_runs):
    recipe = trained_runs["fam"].recipe
    recipe = replace(recipe, name="one-branch", baseline=False, fam=replace(recipe.fam, branch="global"))
    run = train(recipe, runs=trained_runs["fam"].path.parents[1])
    found = effect.effects(run, count=COUNT)
    assert [row["global on these features"] for row in effect.effect_table(found)] == [None] * 3
    assert all("local" not in each.power and each.left > 0 for each in found)
    figure = effect.effect_figure(found)
    assert sum(text.get_text() == "there is none" for text in figure.findobj(matplotlib.text.Text)) == 3


def test_a_run_without_filters_has_nothing_to_show(trained_runs):
    alone = student_alone(trained_runs["fam"])
    assert effect.effects(alone) == effect.effect_table(alone) == []
    with pytest.raises(UserError, match="no frequency filters"):
        effect.effect_figure(alone)


@pytest.mark.slow
def test_several_runs_are_named_in_table_and_figure(trained_runs):
    rows = effect.effect_table(list(trained_runs.values()), count=4)
    names = [run.path.name for run in trained_runs.values()]
    assert [row["level"] for row in rows] == [f"{name}, layer{n}" for name in names for n in (1, 2, 3)]
    assert [row["level"] for row in effect.effect_table([trained_runs["fam"]], count=4)] == [
        "layer1",
        "layer2",
        "layer3",
    ]
