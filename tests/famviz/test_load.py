"""famviz.open: run directories at any time of their life, and released checkpoints."""

import dataclasses
import pickle
import shutil

import numpy as np
import pytest
import torch
from helpers.famviz_runs import make_run, released_state

import famviz
from famkd.errors import UserError
from famkd.layers.fourier import FourierFilter
from famviz import spectra


@pytest.mark.parametrize("kind", ["dense", "separable", "lowrank"])
def test_filters_act_as_the_trained_module(tmp_path, kind):
    run = make_run(tmp_path / "run", filter=kind, rank=3, highpass="butterworth", cutoff=0.3)
    opened = famviz.open(run.path)
    assert [(each.size, each.channels) for each in opened.filters] == [((9, 9), (4, 4)), ((8, 8), (6, 6))]
    state, _ = run.method_state()
    for each in opened.filters:
        options = {"filter": kind, "rank": 3, "highpass": "butterworth", "cutoff": 0.3}
        module = FourierFilter(*reversed(each.channels), each.size, **options)
        module.load_state_dict({k.removeprefix(f"{each.path}."): v for k, v in state.items() if each.path in k})
        x = torch.randn(1, each.channels[1], *each.size)
        got = np.einsum("ochw,chw->ohw", each.response, np.fft.rfft2(x[0].numpy()))
        np.testing.assert_allclose(np.fft.irfft2(got, s=each.size), module(x)[0].detach().numpy(), atol=1e-4)
        np.testing.assert_allclose(each.gain, module.gain.numpy())


def test_filters_have_their_taps_and_the_local_branch(tmp_path):
    run = make_run(tmp_path / "run")
    first = famviz.open(run).filters[0]
    state, _ = run.method_state()
    assert (first.student, first.teacher, first.title) == ("layer1", "layer1", "level 0 (layer1)")
    assert first.gamma == (0.5, 0.5)
    np.testing.assert_array_equal(first.local, state["fam_review.levels.0.leave.0.local.weight"][:, :, 0, 0])
    assert 0 < first.total_share() < 1
    assert first.share().shape == first.channels
    assert first.ineffective_share is None


def test_a_single_branch_has_no_share(tmp_path):
    only = famviz.open(make_run(tmp_path / "run", branch="global")).filters[0]
    assert (only.share(), only.total_share(), len(only.gamma)) == (None, None, 1)
    assert famviz.open(make_run(tmp_path / "local", branch="local")).filters == []


def caption(folder, shape=(6, 8), **options) -> str:
    """The caption of a filter of (channels, pixels)."""
    return famviz.open(make_run(folder, epochs=1, shapes=(shape,), **options)).filters[0].caption


def test_a_caption_says_what_the_filter_was_built_with(tmp_path):
    gone = 0
    for ky in range(-4, 4):
        for kx in range(-4, 4):
            gone += np.hypot(ky, kx) / 4 <= 0.3
    said = caption(tmp_path / "ideal", highpass="ideal", cutoff=0.3, init="zero")
    assert said == f"ideal high-pass, cutoff 0.3 (removes {gone} of 64 frequencies); started from zero"
    assert gone == 5
    said = caption(tmp_path / "none", (4, 9), highpass="none")
    assert said == "no high-pass; started from random noise"
    said = caption(tmp_path / "rank", filter="lowrank", rank=2, highpass="ideal", cutoff=0.0, init="zero")
    assert said == "lowrank filter; ideal high-pass, cutoff 0 (removes 1 of 64 frequencies); started from zero"


@pytest.mark.parametrize("kind", ["gaussian", "butterworth"])
def test_a_caption_counts_what_a_smooth_high_pass_weakens(tmp_path, kind):
    ky, kx = np.meshgrid(np.arange(-4, 4) / 4, np.arange(-4, 4) / 4)
    radius = np.hypot(ky, kx)
    with np.errstate(divide="ignore"):
        gain = {"gaussian": 1 - np.exp(-(radius**2) / 0.18), "butterworth": 1 / (1 + (0.3 / radius) ** 6)}[kind]
    halved = int(((gain <= 0.5) & (radius > 0)).sum())
    assert halved > 0
    order = ", order 3" if kind == "butterworth" else ""
    said = caption(tmp_path / "run", highpass=kind, cutoff=0.3, order=3)
    counts = f"(removes 1 of 64 frequencies and at least halves {halved} more)"
    assert said == f"{kind} high-pass, cutoff 0.3{order} {counts}; started from random noise"


def test_a_caption_of_the_released_window_counts_what_acts(tmp_path):
    """Of 32 x 32 it removes 2 x 2 off-centre: DC, and one sign of three other frequencies, which are halved."""
    said = caption(tmp_path / "run", (2, 32), highpass="official", cutoff=0.1, init="official")
    assert said == (
        "official high-pass, cutoff 0.1 (removes 1 of 1024 frequencies and at least halves 6 more); "
        "started from the draw of the released code"
    )
    said = caption(tmp_path / "small", highpass="official", init="official").partition(";")[0]
    assert said == "official high-pass, cutoff 0.1 (removes none of 64 frequencies)"


def test_a_released_file_does_not_say_how_it_started(tmp_path):
    torch.save(released_state((8,)), tmp_path / "a.pth")
    each = famviz.open(tmp_path / "a.pth").filters[0]
    assert each.caption == "official high-pass, cutoff 0.1 (removes none of 64 frequencies)"
    assert each.options == {"filter": "dense", "highpass": "official", "cutoff": 0.1}


def test_a_filter_without_options_has_no_caption(tmp_path):
    each = famviz.open(make_run(tmp_path / "run", epochs=1)).filters[0]
    assert each.options == {"filter": "dense", "init": "balanced", "highpass": "ideal", "cutoff": 0.1, "order": 2}
    assert dataclasses.replace(each, options={}).caption == ""


def test_opening_draws_no_random_number(tmp_path):
    run = make_run(tmp_path / "run")
    before = torch.get_rng_state()
    famviz.open(run)
    assert torch.equal(before, torch.get_rng_state())


def test_runs_open_side_by_side_and_by_tap(tmp_path):
    pair = famviz.open([make_run(tmp_path / "a").path, str(make_run(tmp_path / "b", seed=1).path)])
    assert [run.name.split("/")[1] for run in pair] == ["a", "b"]
    assert pair[0].filter("layer2") is pair[0].filters[1] is pair[0].filter(1)
    with pytest.raises(UserError, match=r"has no filter 'layer9'. Its filters: 0 \(layer1\), 1 \(layer2\)"):
        pair[0].filter("layer9")


def test_a_run_before_its_first_epoch_is_empty(tmp_path):
    run = make_run(tmp_path / "run")
    (run.path / "method.safetensors").unlink()
    shutil.rmtree(run.path / "filters")
    assert famviz.open(run).filters == []


def test_the_life_of_a_filter(tmp_path):
    opened = famviz.open(make_run(tmp_path / "run", epochs=7))
    epochs, life = opened.history(opened.filters[0])
    assert epochs == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(life[-1]["amplitude"], opened.filters[0].amplitude(), rtol=0.02)
    assert life[1]["amplitude"].sum() == pytest.approx(1.5 * life[0]["amplitude"].sum(), rel=0.02)
    assert opened.history(opened.filters[0], 3)[0] == [1, 4, 7]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_released_checkpoints_act_as_the_released_code(tmp_path, prefix):
    state = released_state(prefix=prefix)
    torch.save(state, tmp_path / "student_best.pth")
    opened = famviz.open(tmp_path / "student_best.pth")
    assert [(each.index, each.size) for each in opened.filters] == [(0, (32, 32)), (1, (8, 8))]  # no 1x1
    assert opened.run is None
    for each, n in zip(opened.filters, (2, 1), strict=True):
        raw = state[f"{prefix}atfs.{n}.conv2.0.weights1"]
        x = torch.randn(1, 3, *each.size)
        shifted = torch.fft.fftshift(torch.einsum("bixy,ioxy->boxy", torch.fft.fft2(x), raw), dim=(-2, -1))
        centre, radius = each.size[0] // 2, int(0.1 * (each.size[0] // 2))
        shifted[:, :, centre - radius : centre + radius, centre - radius : centre + radius] = 0
        wanted = torch.fft.ifft2(torch.fft.ifftshift(shifted, dim=(-2, -1))).real[0]
        got = np.fft.irfft2(np.einsum("ochw,chw->ohw", each.response, np.fft.rfft2(x[0].numpy())), s=each.size)
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)
        assert each.gamma == (0.25, 0.75)
        assert each.local.shape == (5, 3)
        assert each.raw.shape == (5, 3, *each.size)
        assert 0.4 < each.ineffective_share < 0.6  # all-positive draws: the mean of the imaginary parts is lost


def test_raw_planes_without_a_cut_have_the_response_as_effective_part(tmp_path):
    torch.save({"model": released_state((8,))}, tmp_path / "a.pth")
    each = famviz.open(tmp_path / "a.pth").filters[0]
    np.testing.assert_allclose(spectra.effective(each.raw), each.plane(), atol=1e-7)


def test_no_stored_code_is_run(tmp_path):
    path = tmp_path / "bad.pth"
    path.write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung")), protocol=2))
    with pytest.raises(UserError, match="is damaged or no checkpoint, or reading it would run code"):
        famviz.open(path)
    assert not (tmp_path / "sprung").exists()


def test_anything_else_is_refused_in_a_sentence(tmp_path):
    torch.save({"conv.weight": torch.rand(1)}, tmp_path / "plain.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for path, words in [("plain.pth", "holds no frequency attention"), ("list.pth", "holds no state dict"),
                        ("nowhere", "There is nothing at"), (".", "is no run directory")]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            famviz.open(tmp_path / path)


class Trap:
    """A pickle that would make a directory when loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_a_run_and_its_filters_are_shown_in_a_line(tmp_path):
    opened = famviz.open(make_run(tmp_path / "a<b>", epochs=1).path)
    assert repr(opened) == f"LoadedRun({opened.name!r}, 2 filters)"
    assert repr(opened.filters[0]) == "Filter('level 0 (layer1)', 4 to 4 channels, 9 x 9)"
    page = opened._repr_html_()
    assert "a&lt;b&gt;" in page
    assert "<b>level 1 (layer2)</b>: 6 to 6 channels, 8 x 8; ideal high-pass, cutoff 0.1" in page
    assert len(page) < 1000
