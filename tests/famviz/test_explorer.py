"""The filter explorer by its traits, in the kernel, without a front end."""

import numpy as np
import pytest
import torch
import traitlets
from helpers.famviz_runs import make_run, released_state

import famviz
from famkd.errors import UserError
from famviz import spectra
from famviz.analysis.filters import automatic_floor, filter_figures
from famviz.explorer import encode
from famviz.load import LoadedRun


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("widgets")
    return famviz.open([make_run(folder / "a").path, make_run(folder / "b", seed=1).path])


@pytest.fixture
def explorer(runs):
    made = famviz.FilterExplorer(runs)
    yield made
    made.close()


def decoded(data: bytes, shape: tuple[int, ...], reference: float) -> np.ndarray:
    """What the browser makes of a level's bytes."""
    amplitude, phase = np.frombuffer(data, np.uint8).reshape(2, *shape).astype(float)
    decibels = np.where(amplitude > 0, (amplitude - 1) / 254 * 80 - 80, -np.inf)
    return reference * 10 ** (decibels / 20) * np.exp(2j * np.pi * (phase / 256 - 0.5))


def test_bytes_keep_a_filter_to_two_percent(explorer, runs):
    each, reference = runs[0].filters[0], explorer._meta["levels"][0][0]["reference"]
    got = decoded(explorer._whole["0.0"], each.response.shape, reference)
    assert np.abs(got - each.response).max() < 0.032 * reference
    strong = np.abs(each.response) > 0.01 * reference
    np.testing.assert_allclose(np.abs(got)[strong], np.abs(each.response)[strong], rtol=0.019)


def test_base_bytes_are_laid_out_as_the_page_reads_them(explorer, runs):
    each, figures, base = runs[0].filters[1], explorer._meta["levels"][0][1], explorer._whole["0.1.base"]
    (o, c), (h, w), half = each.channels, each.size, each.size[0] * (each.size[1] // 2 + 1)
    assert len(base) == 2 * o * c + h * w + 3 * half + len(figures["epochs"]) * (half + o * c)
    energy = np.frombuffer(base[: o * c], np.uint8).reshape(o, c)
    assert energy.argmax() == each.energy().argmax()
    gain = np.frombuffer(base[2 * o * c : 2 * o * c + h * w], np.uint8).reshape(h, w)
    np.testing.assert_allclose(gain / 255, spectra.full_plane(each.gain, w), atol=0.002)


def test_traits_choose_and_answer(explorer, runs):
    explorer.level, explorer.c_out, explorer.c_in = 1, 5, 3
    np.testing.assert_array_equal(explorer.to_numpy(), runs[0].filters[1].plane()[5, 3])
    explorer.mean = True
    np.testing.assert_allclose(explorer.to_numpy(), runs[0].filters[1].plane().mean((0, 1)), atol=1e-7)


def test_a_level_with_fewer_channels_takes_the_nearest(explorer):
    explorer.level, explorer.c_out, explorer.c_in = 1, 5, 0
    explorer.level = 0
    assert (explorer.c_out, explorer.c_in) == (3, 0)


@pytest.mark.parametrize(
    ("name", "value"), [("level", 2), ("level", -1), ("c_out", 6), ("view", "sound"), ("other", "c")]
)
def test_what_is_not_there_is_refused(explorer, name, value):
    with pytest.raises(traitlets.TraitError):
        setattr(explorer, name, value)


def test_beyond_the_budget_rows_come_one_at_a_time(runs):
    explorer = famviz.FilterExplorer(runs, budget=0, c_out=2)
    each, reference = runs[0].filters[0], explorer._meta["levels"][0][0]["reference"]
    assert set(explorer._whole) == {
        f"{r}.{n}.{part}" for r in (0, 1) for n in (0, 1) for part in ("base", "table", "kept", "wall")
    }
    got = decoded(explorer._rows["0.0.2"], each.response[2:3].shape, reference)
    assert np.abs(got[0] - each.response[2]).max() < 0.032 * reference
    explorer.c_out = 3
    assert set(explorer._rows) == {"0.0.3"}
    explorer.other = runs[1].name
    assert set(explorer._rows) == {"0.0.3", "1.0.3"}
    explorer.mean = True
    assert explorer._rows == {}


def test_raw_planes_come_when_asked_for(tmp_path):
    torch.save(released_state((8,)), tmp_path / "a.pth")
    explorer = famviz.FilterExplorer(tmp_path / "a.pth", c_out=0, c_in=0)
    figures = explorer._meta["levels"][0][0]
    assert explorer._rows == {}
    assert figures["ineffective"] == pytest.approx(0.5, abs=0.1)
    explorer.raw = True
    got = decoded(explorer._rows["0.0.0.raw"], (1, 3, 8, 8), figures["reference"])
    np.testing.assert_allclose(got[0], explorer.filter.raw[0], atol=0.032 * figures["reference"])
    np.testing.assert_array_equal(explorer.to_numpy(), explorer.filter.raw[0, 0])


def test_the_table_has_every_filter_the_strongest_first(explorer, runs):
    each = runs[0].filters[0]
    rows, energy = explorer.table().rows, each.energy()
    assert (rows[0]["out"], rows[0]["in"]) == np.unravel_index(energy.argmax(), energy.shape)
    assert [row["energy dB"] for row in rows] == sorted((row["energy dB"] for row in rows), reverse=True)
    assert {(row["out"], row["in"]) for row in rows} == set(np.ndindex(each.channels))
    for row in rows:
        response = each.response[row["out"], row["in"]]
        assert row["centroid"] == pytest.approx(spectra.centroid_frequency(response, 9))
        assert row["coherence"] == pytest.approx(spectra.orientation(response, 9)[1])
        assert row["energy dB"] == pytest.approx(10 * np.log10(spectra.energy(response, 9) / energy.max()), abs=1e-4)
    assert len(explorer.frame()) == len(rows)


def test_bytes_of_the_table_keep_its_digits(explorer, runs):
    sent = np.frombuffer(explorer._whole["0.1.table"], "<u2").reshape(5, *runs[0].filters[1].channels)
    columns = filter_figures(runs[0].filters[1])
    for codes, (name, scale), digits in zip(sent, encode.TABLE.items(), (0.05, 5e-4, 5e-4, 0.5, 5e-3)):
        np.testing.assert_allclose(codes / scale, columns[name], atol=digits / 5)


def test_the_strongest_filters_are_there_whatever_the_budget(runs):
    explorer = famviz.FilterExplorer(runs, budget=0)
    each, reference = runs[0].filters[0], explorer._meta["levels"][0][0]["reference"]
    pairs = encode.wall_pairs(each, explorer._whole["0.0.table"])
    energies = [each.energy()[pair] for pair in pairs]
    np.testing.assert_allclose(energies, sorted(energies, reverse=True), rtol=1e-3)  # codes are exact to 0.0025 dB
    got = decoded(explorer._whole["0.0.wall"], (len(pairs), *each.response.shape[2:]), reference)
    for filter, pair in zip(got, pairs):
        assert np.abs(filter - each.response[pair]).max() < 0.032 * reference


def test_levels_have_names(runs):
    explorer = famviz.FilterExplorer(runs, c_out=5, level="layer2")
    assert (explorer.level, explorer.c_out) == (1, 5)
    explorer.level = "layer1"
    assert (explorer.level, explorer.c_out) == (0, 3)
    explorer.level = runs[0].filters[1].path
    assert explorer.level == 1


@pytest.mark.parametrize(("traits", "error", "words"), [
    ({"level": "layer9"}, UserError, "has no filter 'layer9'. Its filters: 0 (layer1), 1 (layer2)."),
    ({"level": "layer1", "c_out": 4}, traitlets.TraitError, "c_out must be 0 .. 3 in level 0 (layer1), not 4"),
    ({"colourmap": "magma"}, UserError, "FilterExplorer has no argument 'colourmap'. Did you mean colormap?"),
    ({"colormap": "jet"}, traitlets.TraitError, "colormap"),
    ({"floor": 3}, traitlets.TraitError, "floor"),
    ({"epoch": 9}, UserError, "kept no filters of epoch 9: it kept those of epochs 1 to 3."),
])  # fmt: skip
def test_wrong_arguments_are_refused_in_words(runs, traits, error, words):
    with pytest.raises(error) as refused:
        famviz.FilterExplorer(runs, **traits)
    assert words in str(refused.value)


def test_the_choice_is_exported_as_arrays(explorer, runs, tmp_path):
    explorer.level, explorer.c_out, explorer.c_in = 1, 5, 3
    each = runs[0].filters[1]
    found = explorer.to_arrays(tmp_path / "choice.npz")
    with np.load(tmp_path / "choice.npz") as saved:
        assert all(np.array_equal(saved[name], found[name]) for name in saved)
    np.testing.assert_array_equal(found["plane"], each.plane()[5, 3])
    np.testing.assert_allclose(found["kernel"], spectra.spatial_kernel(each.response[5, 3], each.size), atol=1e-6)
    at = np.argwhere((found["ky"][:, None] == 2) & (found["kx"] == -1))[0]
    assert found["amplitude"][tuple(at)] == pytest.approx(abs(np.conj(each.response[5, 3, -2, 1])))
    assert tuple(found["channels"]) == (5, 3)


def test_the_range_of_colours_follows_what_is_shown():
    amplitudes = np.concatenate([np.full(10, 1e-3), np.full(89, 0.05), [0.5], np.zeros(20)])
    assert automatic_floor([amplitudes], 0.5) == -55  # 20 log10(0.001 / 0.5) is -53.98
    assert automatic_floor([np.zeros(4)], 1.0) == -60
    assert automatic_floor([np.ones(4)], 1.0) == -5


def test_the_still_picture_has_the_range_and_the_colours_of_the_page(explorer, runs):
    explorer.c_out, explorer.c_in, explorer.colormap = 2, 1, "magma"
    amplitude = np.abs(runs[0].filters[0].plane()[2, 1])
    image = explorer.to_figure().axes[1].images[0]
    floor = automatic_floor([amplitude], amplitude.max())
    assert (image.get_clim(), image.cmap.name) == ((floor, 0), "magma")
    np.testing.assert_allclose(image.get_array(), spectra.decibel(amplitude, amplitude.max(), floor))


def test_explorers_move_together_until_parted(runs):
    one, two = famviz.FilterExplorer(runs[0]), famviz.FilterExplorer(runs[1])
    links = one.link(two)
    one.c_in = 2
    two.view = "phase"
    assert (two.c_in, one.view) == (2, "phase")
    for link in links:
        link.unlink()
    one.c_in = 1
    assert two.c_in == 2


def test_every_output_carries_a_picture(explorer, tmp_path):
    data, _ = explorer._repr_mimebundle_()
    assert {"application/vnd.jupyter.widget-view+json", "image/png"} <= data.keys()
    assert explorer.to_png(tmp_path / "still.png").startswith(b"\x89PNG") == (tmp_path / "still.png").exists()


def test_the_still_picture_shows_what_is_chosen(explorer, runs):
    explorer.c_out, explorer.c_in = 2, 1
    each = runs[0].filters[0]
    _, mean = spectra.radial_profile(np.abs(each.plane()[2, 1]))
    drawn = explorer.to_figure().axes[5].lines[0].get_ydata()
    np.testing.assert_allclose(np.nan_to_num(drawn, nan=-60), spectra.decibel(mean, mean.max()))
    explorer.other, explorer.view = runs[1].name, "kernel"
    kernels = [spectra.spatial_kernel(run.filters[0].response[2, 1], each.size) for run in runs]
    shown = [ax.images[0].get_array() for ax in explorer.to_figure().axes[:3]]
    for got, wanted in zip(shown, (*kernels, kernels[0] - kernels[1])):
        np.testing.assert_allclose(got, wanted, atol=1e-7)


def test_the_still_picture_shows_the_chosen_epoch(explorer, runs):
    explorer.epoch, explorer.floor, explorer.mean = 1, -60, True
    amplitude, kept = explorer.to_figure().axes[1], runs[0].summary(runs[0].filters[0], 1)
    plane = spectra.full_plane(kept["amplitude"], 9)
    np.testing.assert_allclose(amplitude.images[0].get_array(), spectra.decibel(plane, plane.max()))
    explorer.other = runs[1].name
    figure = explorer.to_figure()
    assert "epoch 1: root mean square" in figure.get_suptitle()
    ratio = plane / (spectra.full_plane(runs[1].summary(runs[1].filters[0], 1)["amplitude"], 9) + 1e-30)
    shown = figure.axes[2].images[0].get_array()
    np.testing.assert_allclose(shown.compressed(), 20 * np.log10(ratio[~shown.mask]), atol=1e-4)


def test_an_epoch_has_the_chosen_filter_as_it_was(explorer, runs):
    explorer.epoch, explorer.c_out, explorer.c_in = 1, 2, 3
    each = runs[0].filters[0]
    plane = each.plane()[2, 3] / 1.5**2  # make_run multiplies all filters by 1.5 between its three epochs
    np.testing.assert_allclose(explorer.to_numpy(), plane, rtol=0.01, atol=1e-6)
    np.testing.assert_allclose(explorer.to_arrays()["plane"], plane, rtol=0.01, atol=1e-6)
    figure = explorer.to_figure()
    assert "epoch 1: output 2, input 3" in figure.get_suptitle()
    kernel = spectra.spatial_kernel(each.response[2, 3] / 1.5**2, each.size)
    np.testing.assert_allclose(figure.axes[4].images[0].get_array(), kernel, atol=0.01 * np.abs(kernel).max())
    explorer.other, explorer.view = runs[1].name, "kernel"
    kernels = [spectra.spatial_kernel(run.filters[0].response[2, 3] / 1.5**2, each.size) for run in runs]
    for ax, wanted in zip(explorer.to_figure().axes, kernels):
        np.testing.assert_allclose(ax.images[0].get_array(), wanted, atol=0.01 * np.abs(wanted).max())
    explorer.mean = True
    assert np.abs(explorer.to_numpy()).max() == runs[0].summary(each, 1)["amplitude"].max()


def test_an_epoch_that_kept_only_some_filters_says_so(explorer, runs, monkeypatch):
    each = runs[0].filters[0]
    whole = runs[0].summary(each, 2)
    some = {**whole, **{name: whole[name][:3] for name in ("pairs", "strongest")}}
    monkeypatch.setattr(LoadedRun, "summary", lambda self, each, epoch: some)
    explorer.epoch = 2
    rows = explorer.table().rows
    assert [row["energy dB"] for row in rows] == sorted((row["energy dB"] for row in rows), reverse=True)
    known = [(row["out"], row["in"]) for row in rows if not np.isnan(row["centroid"])]
    assert known == [tuple(pair) for pair in some["pairs"].tolist()]
    centroid = filter_figures(each)["centroid"]  # which does not change as a filter grows
    for row in rows[:3]:
        assert row["centroid"] == pytest.approx(centroid[row["out"], row["in"]], rel=0.01)
    last = rows[-1]
    explorer.c_out, explorer.c_in = last["out"], last["in"]
    np.testing.assert_array_equal(explorer.to_numpy(), spectra.full_plane(some["amplitude"], 9))
    assert "epoch 2: root mean square over all filters" in explorer.to_figure().get_suptitle()


@pytest.mark.parametrize("most", [0, 2, 1000])
def test_a_page_holds_the_filters_of_an_epoch_that_fit(runs, most):
    each = runs[0].filters[0]
    _, history = runs[0].history(each)
    half = each.response[0, 0].size
    counts, data = encode.kept_filters(each, history, 1.0, 3 * most * (2 * half + 12))
    count = min(most, each.response[..., 0, 0].size)
    assert counts == [count] * 3
    pairs = np.frombuffer(data[: 12 * count], "<u4").reshape(3, count)
    energy = each.energy().ravel()
    assert sorted(energy[pairs[1]]) == sorted(np.sort(energy)[::-1][:count])
    assert len(data) == 3 * count * (4 + 2 * half + 8)


def test_runs_with_the_same_name_get_different_names(runs):
    explorer = famviz.FilterExplorer([runs[0], runs[0]])
    explorer.other = f"{runs[0].name} (2)"
    assert explorer._meta["runs"] == [runs[0].name, f"{runs[0].name} (2)"]


def test_a_run_without_filters_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no frequency filter"):
        famviz.FilterExplorer(make_run(tmp_path / "run", branch="local"))
