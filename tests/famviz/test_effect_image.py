"""What one filter does to one image: maps against the network's own, and the messages of the explorer."""

import json

import numpy as np
import pytest
import torch
from helpers.famviz_runs import make_run, released_state

import famviz
from famkd.errors import UserError
from famviz.analysis.effect import effects
from famviz.analysis.effect_image import ImageEffects
from famviz.networks import run_images

pytest_plugins = ("helpers.famviz_trained",)


@pytest.mark.parametrize("method", ["fam", "fam_review"])
def test_all_filters_of_an_output_make_the_global_branch(trained_runs, method):
    run = trained_runs[method]
    each = famviz.open(run).filters[0]
    shown = ImageEffects(run)
    found = [shown.of(each.path, 3, (1, c_in)) for c_in in range(each.channels[1])]
    steps = [{step.name: step.map for step in one.steps} for one in found]
    alone = np.sum([one["this filter"] for one in steps], 0)
    np.testing.assert_allclose(alone, steps[0]["global branch"], atol=1e-5 * np.abs(alone).max() + 1e-7)
    for c_in, one in enumerate(steps):
        np.testing.assert_allclose(
            one["high-passed"],
            np.fft.irfft2(np.fft.rfft2(one["input feature"]) * each.gain, s=each.size),
            atol=1e-5,
        )
        half = np.fft.rfft2(one["input feature"]) * each.response[1, c_in]
        ratio = one["this filter"].ravel() @ np.fft.irfft2(half, s=each.size).ravel()
        assert ratio == pytest.approx(
            np.linalg.norm(one["this filter"]) * np.linalg.norm(np.fft.irfft2(half, s=each.size)), rel=1e-3
        )  # the same up to gamma and the scale of the batch norm
    assert list(steps[0])[-2:] == ["leaves the level", "teacher"]
    pixels = run_images(run, [3]).pixels[0]
    np.testing.assert_array_equal(found[0].pixels, pixels)


def test_steps_have_the_power_that_the_effects_have(trained_runs):
    run = trained_runs["fam"]
    images, labels, *_ = run_images(run, [5])
    (first, *_) = effects(run, images, labels)
    each = famviz.open(run).filters[0]
    shown = ImageEffects(run)
    power = [np.square(shown.of(each.path, 5, (c, 0)).steps[-1].spectrum) for c in range(each.channels[0])]
    np.testing.assert_allclose(np.mean(power, 0), first.power["teacher"], rtol=1e-3)
    step = shown.of(each.path, 5, (0, 0)).steps[0]
    wanted = np.abs(np.fft.fftshift(np.fft.fft2(step.map))) / np.sqrt(step.map.size)
    np.testing.assert_allclose(step.spectrum, wanted, rtol=1e-4, atol=1e-6)


def test_the_explorer_answers_with_pictures_and_a_page_holds_them(trained_runs):
    explorer = famviz.FilterExplorer(trained_runs["fam"], image=2)
    sent = []
    explorer.send = lambda content, buffers=None: sent.append((content, buffers))
    question = {"ask": "effect", "level": 0, "image": 2, "c_out": explorer.c_out, "c_in": explorer.c_in}
    explorer._handle_custom_msg(question, [])
    ((content, buffers),) = sent
    json.dumps(content)
    names = [step["name"] for step in content["steps"]]
    assert names == [
        "input feature", "high-passed", "this filter", "global branch", "local branch", "leaves the level", "teacher"
    ]  # fmt: skip
    assert len(buffers) == 1 + 2 * len(names)
    for n, step in enumerate(explorer.effect().steps):
        np.testing.assert_array_equal(np.frombuffer(buffers[1 + 2 * n], np.float32), step.map.ravel())
    assert '"kind": "effect"' in explorer.to_fragment()
    explorer.image = -1
    assert '"kind": "effect"' not in explorer.to_fragment()


def test_why_there_is_none_is_said_in_words(tmp_path):
    explorer = famviz.FilterExplorer(make_run(tmp_path / "run", "--data.root", "nowhere", epochs=1))
    content, buffers = explorer.messages.answer({"ask": "effect", "level": 0, "image": 0, "c_out": 0, "c_in": 0})
    assert content["failed"]
    assert buffers == []
    torch.save(released_state((8,)), tmp_path / "a.pth")
    with pytest.raises(UserError, match="a is a bare checkpoint"):
        famviz.FilterExplorer(tmp_path / "a.pth").effect()
