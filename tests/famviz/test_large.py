"""Levels that are too large for memory: read in parts, with the figures of a level that is read at once."""

import json

import numpy as np
import pytest
from helpers.famviz_runs import make_large_run, make_run

import famviz
from famkd.errors import UserError
from famkd.files import read_tensors
from famviz import load, spectra, survey
from famviz.analysis.filter_search import search
from famviz.analysis.filters import energy_blocks, filter_figures, strongest, strongest_of
from famviz.explorer import encode
from famviz.stored import StoredResponse, TensorFile

CHANNELS = 256


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A run with a filter of 256 x 256 x 7 x 4, which is 15 MB."""
    return make_large_run(tmp_path_factory.mktemp("wide") / "run", CHANNELS)


@pytest.fixture
def in_parts(monkeypatch):
    """Levels of any size stay in their files, are read in small blocks, and never whole."""
    monkeypatch.setattr(load, "LARGE", 0)
    monkeypatch.setattr(survey, "BLOCK", 1 << 18)

    def whole(self):
        raise AssertionError("all of a level was read at once")

    monkeypatch.setattr(StoredResponse, "whole", whole)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A function that opens a run twice: in memory and in parts."""

    def opened(monkeypatch, **options):
        path = make_run(tmp_path_factory.mktemp("both") / "run", **options).path
        with_all = famviz.open(path)
        monkeypatch.setattr(load, "LARGE", 0)
        monkeypatch.setattr(survey, "BLOCK", 1)  # one input channel at a time
        return with_all, famviz.open(path)

    return opened


@pytest.mark.parametrize("options", [
    {}, {"highpass": "official", "init": "official"}, {"filter": "separable"}, {"filter": "lowrank", "rank": 2},
], ids=["dense", "official", "separable", "lowrank"])  # fmt: skip
def test_a_level_in_parts_has_the_figures_of_one_in_memory(both, monkeypatch, options):
    with_all, in_parts = both(monkeypatch, **options)
    for whole, each in zip(with_all.filters, in_parts.filters, strict=True):
        assert each.survey
        assert each.channels == whole.channels
        np.testing.assert_allclose(each.response, whole.response, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(each.half((1, 2)), whole.half((1, 2)), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(each.amplitude(), whole.amplitude(), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(each.mean(), whole.mean(), rtol=1e-5, atol=1e-7)
        assert each.largest() == pytest.approx(whole.largest(), rel=1e-6)
        np.testing.assert_allclose(each.share(), whole.share(), rtol=1e-5, atol=1e-7)
        assert each.total_share() == pytest.approx(whole.total_share(), rel=1e-5)
        wanted = filter_figures(whole)
        for name, got in filter_figures(each).items():
            difference = np.abs(got - wanted[name])
            difference = np.minimum(difference, 180 - difference) if name == "angle" else difference
            assert difference.max() < 1e-3, name


def test_opening_reads_a_small_part_of_the_file(wide, in_parts):
    explorer = famviz.FilterExplorer(wide.path)
    file, size = explorer.filter.survey.stored.file, (wide.path / "method.safetensors").stat().st_size
    assert file.bytes_read < 0.1 * size
    before = file.bytes_read
    explorer.c_in = (explorer.c_in + 1) % CHANNELS
    assert file.bytes_read - before == 8 * 28 * CHANNELS  # the filters of that input channel
    before = file.bytes_read
    explorer.c_out = (explorer.c_out + 1) % CHANNELS
    explorer.to_numpy()
    assert file.bytes_read - before <= 2 * 8 * 28 * CHANNELS
    sent = sum(map(len, (*explorer._whole.values(), *explorer._rows.values(), *explorer._large.values())))
    assert sent < 1 << 20


def test_the_first_choice_is_the_strongest_filter_that_the_training_knew(wide, in_parts):
    explorer = famviz.FilterExplorer(wide.path)
    chosen, read = (explorer.c_out, explorer.c_in), explorer.filter.survey.share
    assert read < 0.1
    energy = explorer.filter.energy()
    assert energy[chosen] > 0.99 * energy.max()  # the training keeps energies to 0.4 %
    for path in (wide.path / "filters").iterdir():
        path.rename(path.with_suffix(".gone"))
    try:
        explorer = famviz.FilterExplorer(wide.path)
        known = explorer.filter.survey
        assert not known.known.all()
        assert known.read[explorer.c_in]
        unknown = energy_blocks(known.energy, known.known)[1] < 0
        assert unknown.any()
    finally:
        for path in (wide.path / "filters").iterdir():
            path.rename(path.with_suffix(".safetensors"))


def test_the_page_asks_until_everything_is_read(wide, in_parts):
    explorer = famviz.FilterExplorer(wide.path)
    sent = []
    explorer.send = lambda content, buffers=None: sent.append(content)
    steps = 0
    while not explorer._figures["0.0"]["large"]["complete"]:
        explorer._answer(None, {"ask": "survey", "key": "0.0"}, [])
        steps += 1
        assert steps < 1000
    assert sent[-1] == {"kind": "survey", "key": "0.0"}
    reference = explorer._figures["0.0"]["reference"]
    assert explorer.filter.largest() <= reference < 1.01 * explorer.filter.largest()  # epochs are kept rounded
    codes = np.frombuffer(explorer._rows[f"0.0.in{explorer.c_in}"], np.uint8)[4 * CHANNELS :][: 28 * CHANNELS]
    filters = explorer.filter.survey.of_input(explorer.c_in)
    np.testing.assert_array_equal(codes, encode.amplitude_codes(np.abs(filters), reference).ravel())


def test_the_wall_of_an_output_has_its_strongest_filters(wide, in_parts):
    explorer = famviz.FilterExplorer(wide.path, c_out=7, wall="output")
    data = explorer._rows["0.0.out7"]
    count = len(data) // (4 + 2 * 28 + 12)
    pairs = np.frombuffer(data[: 4 * count], "<u4")
    assert set(pairs // CHANNELS) == {7}
    energy = explorer.filter.energy()[7]
    wanted = np.sort(energy)[::-1][:count]
    np.testing.assert_allclose(energy[pairs % CHANNELS], wanted, rtol=0.01)


@pytest.mark.parametrize(("text", "meets"), [
    ("", lambda f: np.ones_like(f["centroid"], bool)),
    ("out = 3, centroid > 0.5", lambda f: (np.arange(CHANNELS)[:, None] == 3) & (f["centroid"] > 0.5)),
    ("angle 30..60, energy >= -10", lambda f: (f["angle"] >= 30) & (f["angle"] <= 60) & (f["energy dB"] >= -10)),
    ("in = 5, coh < 0.1", lambda f: (np.arange(CHANNELS)[None] == 5) & (f["coherence"] < 0.1)),
])  # fmt: skip
def test_a_search_finds_what_the_conditions_say(wide, in_parts, text, meets):
    each = famviz.open(wide.path).filters[0]
    figures = filter_figures(each)
    found = meets(figures)
    pairs, count = search(each.survey, text, most=100)
    assert count == found.sum()
    assert len(pairs) == min(100, count)
    assert all(found[out, inn] for out, inn in pairs)
    energies = figures["energy dB"][tuple(pairs.T)]
    np.testing.assert_allclose(energies, np.sort(figures["energy dB"][found])[::-1][:100], atol=1e-4)
    ascending, _ = search(each.survey, text, by=3, descending=False, most=10)
    np.testing.assert_allclose(figures["centroid"][tuple(ascending.T)], np.sort(figures["centroid"][found])[:10])


def test_a_search_that_is_not_understood_is_refused(wide, in_parts):
    each = famviz.open(wide.path).filters[0]
    with pytest.raises(UserError, match='"colour > 3" is not understood'):
        search(each.survey, "out = 3, colour > 3")


def test_an_overview_has_the_strongest_filter_of_each_block(monkeypatch):
    monkeypatch.setattr("famviz.analysis.filters.OVERVIEW", 4)
    energy = np.random.default_rng(0).random((10, 7))  # blocks of 3 x 3, the last ones smaller
    known = np.array([1, 1, 1, 0, 0, 0, 1], bool)
    blocks, best = energy_blocks(energy, known)
    assert blocks.shape == (4, 3)
    for row in range(4):
        for column in range(3):
            part = np.where(known, energy, -1)[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert blocks[row, column] == max(part.max(), 0)
            out, inn = divmod(int(best[row, column]), 3)
            assert best[row, column] == -1 if part.max() < 0 else part[out, inn] == part.max()
    assert strongest_of(energy, 5) == [tuple(map(int, np.unravel_index(n, energy.shape)))
                                       for n in np.argsort(-energy, axis=None)[:5]]  # fmt: skip


def test_exports_of_a_large_level(wide, in_parts, tmp_path, monkeypatch):
    monkeypatch.setattr("famviz.explorer.filter_exports.ROWS", 50)
    explorer = famviz.FilterExplorer(wide.path, c_out=3, c_in=4)
    half = explorer.filter.half((3, 4))
    np.testing.assert_array_equal(explorer.to_arrays()["plane"], spectra.full_plane(half, 7))
    assert explorer.to_png().startswith(b"\x89PNG")
    assert explorer.filter.survey.share < 1  # none of these needs all filters
    rows = explorer.table().rows
    assert len(rows) == 50
    assert [(row["out"], row["in"]) for row in rows[:5]] == strongest(explorer.filter, 5)
    assert len(explorer.table(most=7)) == 7
    explorer.mean = True
    np.testing.assert_allclose(explorer.to_numpy(), spectra.full_plane(explorer.filter.mean(), 7))
    explorer.mean, explorer.epoch = False, 1
    assert explorer.to_numpy().shape == (7, 7)


def test_a_saved_page_of_a_large_level_holds_what_fits(wide, in_parts):
    explorer = famviz.FilterExplorer(wide.path, c_out=0, c_in=0)  # the weakest input channel
    text = explorer.to_fragment(budget=1 << 20)
    held = json.loads(text.split('type="application/json">')[1].split("</script>")[0].replace("\\u003c", "<"))
    assert held["traits"]["_figures"]["0.0"]["large"]["complete"]
    columns = [name for name in held["buffers"]["_rows"] if ".in" in name]
    assert 5 < len(columns) < CHANNELS
    assert "0.0.in0" in columns
    ((content, _),) = held["messages"]
    assert content["shown"] == 20000
    assert content["count"] == content["of"] == CHANNELS**2
    assert len(text) < 3 << 20


def test_damage_is_told_when_the_file_is_read_to_its_end(tmp_path, in_parts):
    path = make_run(tmp_path / "run").path / "method.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    explorer = famviz.FilterExplorer(path.parent)
    sent = []
    explorer.send = lambda content, buffers=None: sent.append(content)
    for _ in range(100):
        explorer._answer(None, {"ask": "survey", "key": "0.0"}, [])
        if "failed" in sent[-1]:
            break
    assert "checksum does not match" in sent[-1]["failed"]
    with pytest.raises(UserError, match="is damaged"):
        explorer.filter.energy()


def test_an_interrupted_reading_goes_on(wide, in_parts, monkeypatch):
    each = famviz.open(wide.path).filters[0]
    inputs = StoredResponse.inputs

    def interrupted(self, start, stop):
        if each.survey.share > 0.5:
            raise KeyboardInterrupt
        return inputs(self, start, stop)

    monkeypatch.setattr(StoredResponse, "inputs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        each.energy()
    monkeypatch.setattr(StoredResponse, "inputs", inputs)
    wanted = famviz.open(wide.path).filters[0]
    np.testing.assert_array_equal(each.energy(), wanted.energy())
    np.testing.assert_allclose(each.amplitude(), wanted.amplitude(), rtol=1e-12)


def test_a_file_is_read_as_safetensors_reads_it(tmp_path):
    path = make_run(tmp_path / "run").path / "method.safetensors"
    file = TensorFile(path)
    state, _ = read_tensors(path)
    assert set(file) == set(state)
    for key, tensor in state.items():
        np.testing.assert_array_equal(file[key].numpy(), tensor.numpy())
    assert not file.checked
    for _ in file.check():
        pass
    assert file.checked


def test_a_file_that_is_replaced_stays_as_it_was_opened(tmp_path, in_parts):
    run = make_run(tmp_path / "run")
    opened = famviz.open(run.path)
    before = opened.filters[0].half((1, 1))
    make_run(tmp_path / "other", seed=1)
    (tmp_path / "other/method.safetensors").replace(run.path / "method.safetensors")
    np.testing.assert_array_equal(opened.filters[0].half((1, 1)), before)
    assert not np.array_equal(famviz.open(run.path).filters[0].half((1, 1)), before)
