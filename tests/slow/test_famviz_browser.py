"""The explorer in headless Chromium, on a saved page: its pixels against numpy, its keys, its links."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from helpers.browser import exports, pixels, settled, trait
from helpers.famviz_runs import make_run, released_state
from helpers.filter_pages import STEP, close
from PIL import Image

import famviz
from famviz import spectra
from famviz.analysis.filters import automatic_floor
from famviz.explorer.encode import wall_pairs

pytest_plugins = ("helpers.browser", "helpers.filter_pages")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("level", [0, 1])  # 9 px and 8 px
def test_amplitude_pixels_are_the_decibels_of_numpy(shown, page, runs, level):
    shown(level=level, c_out=2, c_in=3)
    each, table = runs[0].filters[level], spectra.colour_table("cividis")
    decibels = spectra.decibel(each.plane()[2, 3], np.abs(each.response).max(), -60)
    got = pixels(page, ".fv-main .fv-stack canvas")
    assert got.shape == (*each.size, 4)
    assert close(got, table[np.rint((1 + decibels / 60) * 255).astype(int)], STEP, table)


def test_phase_pixels_are_cyclic_and_blank_where_weak(shown, page, runs):
    shown(level=1, c_out=1, c_in=4, view="phase")
    plane, table = runs[0].filters[1].plane()[1, 4], spectra.colour_table("twilight")
    got = pixels(page, ".fv-main .fv-stack canvas")
    assert got[4, 4, 3] == 0  # DC, cut by the high-pass
    kept = got[..., 3] == 255
    assert kept.sum() >= 60
    real = np.isclose(plane.imag, 0, atol=1e-6)  # self-conjugate bins at pi may fall to either end: the same colour
    wanted = table[np.rint((np.angle(plane) + np.pi) / (2 * np.pi) * 256).astype(int) % 256]
    assert close(got[kept & ~real], wanted[kept & ~real], 1, table)
    assert close(got[kept & real], wanted[kept & real], 2, table)


def test_complex_pixels_are_the_domain_colours_of_numpy(shown, page, runs):
    shown(level=1, c_out=0, c_in=1, view="complex")
    each = runs[0].filters[1]
    wanted = spectra.domain_colour(each.plane()[0, 1], np.abs(each.response).max(), -60)
    got = pixels(page, ".fv-main .fv-stack canvas")[..., :3] / 255
    assert np.abs(got - wanted).max() < 0.04


@pytest.mark.parametrize("level", [0, 1])
def test_kernel_pixels_are_the_inverse_transform_of_numpy(shown, page, runs, level):
    shown(level=level, c_out=3, c_in=0, view="kernel")
    each, table = runs[0].filters[level], spectra.colour_table("RdBu_r")
    kernel = spectra.spatial_kernel(each.response[3, 0], each.size)
    at = np.rint((kernel / np.abs(kernel).max() + 1) / 2 * 255).astype(int)
    assert close(pixels(page, ".fv-main .fv-stack canvas"), table[at], 5, table)


def test_the_navigator_shows_the_energy_of_each_pair(shown, page, runs):
    shown()
    each, table = runs[0].filters[0], spectra.colour_table("viridis")
    kept = runs[0].summary(each, 1)["energy"]
    for energy, epoch in ((each.energy(), 0), (kept, 1)):  # each from its own strongest to its own weakest
        page.evaluate("(epoch) => window.famviz[0].set('epoch', epoch)", epoch)
        settled(page)
        decibels = 10 * np.log10(energy / energy.max())
        low = float(page.locator(".fv-nav .fv-scale span").first.inner_text().removesuffix(" dB").replace("−", "-"))
        assert low == max(-40, min(-5, 5 * np.floor(decibels.min() / 5)))
        wanted = table[np.rint(np.clip(1 - decibels / low, 0, 1) * 255).astype(int)]
        assert close(pixels(page, ".fv-nav .fv-stack canvas"), wanted, 80 / 254 / -low * 255 + 1, table)
    assert energy.max() < 0.5 * each.energy().max()  # so a scale over the whole life would be dark


def test_an_explorer_starts_at_the_strongest_filter(shown, page, runs):
    explorer = shown(level=1)
    energy = runs[0].filters[1].energy()
    wanted = tuple(map(int, np.unravel_index(energy.argmax(), energy.shape)))
    assert (explorer.c_out, explorer.c_in) == (trait(page, "c_out"), trait(page, "c_in")) == wanted != (0, 0)


def test_arrow_keys_choose_and_redraw(shown, page, runs):
    shown(c_out=0, c_in=0)
    before, seq = pixels(page, ".fv-main .fv-stack canvas"), settled(page)
    page.focus(".fv-nav .fv-stack canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert settled(page) > seq
    assert (trait(page, "c_out"), trait(page, "c_in")) == (1, 1)
    assert not np.array_equal(before, pixels(page, ".fv-main .fv-stack canvas"))
    assert page.locator(".fv-read").inner_text().startswith("Output 1, input 1: energy")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")  # at the edge already
    settled(page)
    assert trait(page, "c_out") == 0


def test_a_click_on_the_navigator_chooses(shown, page):
    shown()
    box = page.locator(".fv-nav .fv-stack canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.6)
    settled(page)
    assert (trait(page, "c_out"), trait(page, "c_in")) == (2, 3)


def test_menus_drive_the_view_and_the_level(shown, page):
    shown()
    page.select_option(".fv-level select", "1")
    page.select_option(".fv-view select", "kernel")
    settled(page)
    assert (trait(page, "level"), trait(page, "view")) == (1, "kernel")
    assert page.locator(".fv-main figcaption").inner_text() == "spatial kernel"
    page.click(".fv-thumb >> text=phase")
    settled(page)
    assert trait(page, "view") == "phase"


def test_comparing_shares_the_range_and_signs_the_difference(shown, page, runs):
    shown(level=1, c_out=2, c_in=2)
    page.select_option(".fv-other select", runs[1].name)
    settled(page)
    one, two = (run.filters[1] for run in runs)
    reference = max(np.abs(each.response).max() for each in (one, two))
    levels = [20 * np.log10(np.abs(each.plane()[2, 2]) / reference + 1e-9) for each in (one, two)]
    cividis, signed = spectra.colour_table("cividis"), spectra.colour_table("RdBu_r")
    for where, decibels in zip(("main", "b"), levels, strict=True):
        at = np.rint(np.maximum(1 + decibels / 60, 0) * 255).astype(int)
        assert close(pixels(page, f".fv-{where} .fv-stack canvas"), cividis[at], STEP, cividis)
    names = [page.locator(f".fv-names .fv-name{i}").inner_text() for i in (0, 1)]
    assert names == [run.name for run in runs]
    check_difference(page, levels, -60, signed)
    page.fill(".fv-floor input", "-16")
    page.keyboard.press("Tab")
    settled(page)
    assert check_difference(page, levels, -16, signed) > 15


def check_difference(page, levels: list[np.ndarray], floor: float, table: np.ndarray) -> int:
    """Compare the difference's pixels with numpy's; how many of them are hatched because one of two is too weak."""
    got, weak = pixels(page, ".fv-diff .fv-stack canvas"), np.minimum(*levels) < floor
    edge = np.abs(np.minimum(*levels) - floor) < 0.4  # where a byte may fall on either side
    np.testing.assert_array_equal((got[..., 3] == 0)[~edge], weak[~edge])
    difference, drawn = levels[0] - levels[1], got[..., 3] > 0
    at = np.rint(np.clip(difference / np.abs(difference[drawn]).max() + 1, 0, 2) / 2 * 255).astype(int)
    assert close(got[drawn], table[at][drawn], 8, table)
    return int(weak.sum())


@pytest.mark.parametrize("width", [820, 1000, 1205, 1900])
def test_a_comparison_stays_in_one_row(shown, page, runs, width):
    page.set_viewport_size({"width": width, "height": 800})
    shown(other=runs[1].name)
    boxes = [page.locator(f".fv-{where} .fv-stack canvas").bounding_box() for where in ("nav", "main", "b", "diff")]
    assert len({box["y"] for box in boxes}) == 1
    side = page.locator(".fv-curve").bounding_box()
    assert (side["y"] < boxes[0]["y"] + boxes[0]["height"]) == (width > 1080)  # the curve is next to them if it fits
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_pictures_next_to_each_other_start_at_one_height(shown, page, tmp_path):
    pair = [make_run(tmp_path / name / "run", seed=n).path for n, name in enumerate(("a", "a_name_that_fills_a_line"))]
    shown(pair, other="a_name_that_fills_a_line/run")
    tops = [page.locator(f".fv-{where} .fv-stack canvas").bounding_box()["y"] for where in ("nav", "main", "b", "diff")]
    assert len(set(tops)) == 1
    assert page.locator(".fv-b figcaption").bounding_box()["height"] > 30  # two lines of text


def test_the_table_sorts_and_chooses(shown, page, runs):
    shown()
    first = "tbody tr:first-child td"
    assert page.locator(first).nth(2).inner_text() == "0.0"
    page.click("thead >> text=centroid")
    settled(page)
    column = [float(text) for text in page.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert column == sorted(column, reverse=True)
    page.focus("tbody")
    page.locator(first).first.click()
    settled(page)
    assert [trait(page, "c_out"), trait(page, "c_in")] == [int(page.locator(first).nth(i).inner_text()) for i in (0, 1)]
    page.keyboard.press("ArrowDown")
    settled(page)
    assert "fv-on" in page.locator("tbody tr").nth(1).get_attribute("class")


def test_raw_planes_are_drawn_whole(shown, page, tmp_path):
    torch.save(released_state((8,)), tmp_path / "a.pth")
    explorer = shown(tmp_path / "a.pth", raw=True, c_out=0, c_in=0)
    raw, table = explorer.filter.raw, spectra.colour_table("cividis")
    decibels = spectra.decibel(raw[0, 0], np.abs(raw).max(), -60)
    got = pixels(page, ".fv-main .fv-stack canvas")
    assert close(got, table[np.rint((1 + decibels / 60) * 255).astype(int)], STEP, table)
    assert "never acts" in page.locator(".fv-read").inner_text()


def test_a_page_says_which_rows_it_does_not_hold(shown, page, runs):
    strongest = int(runs[0].filters[1].energy().sum(1).argmax())
    size = 2 * runs[0].filters[1].response[0].size
    bases = sum(len(v) for k, v in famviz.FilterExplorer(runs, budget=0)._whole.items())
    shown(level=1, c_out=strongest, budget=bases + size * 20)  # room for a part of all rows
    held = page.evaluate("() => Object.keys(window.famviz[0].get('_rows')).length + "
                         "Object.keys(window.famviz[0].get('_whole')).length")  # fmt: skip
    assert held > 4
    page.evaluate("() => { const m = window.famviz[0]; for (const k of ['_rows', '_whole']) { const v = m.get(k);"
                  " for (const key in v) if (!/base|table/.test(key)) delete v[key]; }"
                  " m.set('c_in', 1); }")  # fmt: skip
    settled(page)
    assert "does not hold this row" in page.locator(".fv-read").inner_text()
    assert not pixels(page, ".fv-main .fv-stack canvas")[..., 3].any()  # nor what was there before


def test_small_numbers_keep_their_digits(shown, page, tmp_path):
    run = famviz.open(make_run(tmp_path / "weak", epochs=1))
    weak = dataclasses.replace(run.filters[0], held=run.filters[0].response * 1e-5)
    explorer = shown(dataclasses.replace(run, run=None, filters=[weak]), view="kernel")
    kernel = spectra.spatial_kernel(weak.response[explorer.c_out, explorer.c_in], weak.size)
    ends = page.locator(".fv-main .fv-scale span").all_inner_texts()
    assert [float(text.replace("−", "-")) for text in ends] == pytest.approx(
        [-np.abs(kernel).max(), np.abs(kernel).max()], rel=0.03
    )
    box = page.locator(".fv-main .fv-stack canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    value = float(page.locator(".fv-read").inner_text().rpartition(": ")[2].replace("−", "-"))
    assert value == pytest.approx(kernel[4, 4], rel=0.05, abs=0.03 * float(np.abs(kernel).max()))
    shares = "[0, 3e-6, 0.00046, 0.27, 0.99954, 1].map(percent).concat([0, 1, 128, 255].map(part))"
    words = page.evaluate(
        f"() => {{ {exports('shared/numbers.js')}; {exports('filters/spectrum.js')}; return {shares}; }}"
    )
    assert words == ["0 %", "< 0.001 %", "0.046 %", "27 %", "99.954 %", "100 %",
                     "under 0.2 %", "0.4 %", "50 %", "over 99.8 %"]  # fmt: skip


def test_a_line_has_the_options_of_the_level_and_of_both_if_they_differ(shown, page, runs, tmp_path):
    explorer = shown(other=runs[1].name)
    line = page.locator(".fv-options")
    assert line.inner_text() == explorer.filter.caption
    assert explorer.filter.caption.startswith("ideal high-pass, cutoff 0.1 (removes 1 of 81 frequencies)")
    plain = famviz.open(make_run(tmp_path / "plain", epochs=1, highpass="none"))
    shown([runs[0], plain], other=plain.name)
    captions = [each.filters[0].caption for each in (runs[0], plain)]
    assert line.inner_text() == f"{runs[0].name}: {captions[0]}. {plain.name}: {captions[1]}"
    shown(dataclasses.replace(plain, run=None, filters=[dataclasses.replace(plain.filters[0], options={})]))
    assert line.is_hidden()


def test_rings_that_hold_nothing_have_no_line(shown, page, tmp_path):
    each = famviz.open(make_run(tmp_path / "run", highpass="ideal", cutoff=0.5))
    shown(each)
    rings, mean = spectra.radial_profile(np.abs(each.filters[0].plane()[trait(page, "c_out"), trait(page, "c_in")]))
    path = page.locator(".fv-line0").get_attribute("d")
    starts = [float(part.split()[0].lstrip("ML")) for part in re.findall(r"[ML][^ML]+", path)]
    np.testing.assert_allclose(starts, 34 + rings[mean > 0] / rings[-1] * 256, atol=0.01)
    assert 0 < len(starts) < len(rings)
    box = page.locator(".fv-curve").bounding_box()
    page.mouse.move(box["x"] + 36, box["y"] + 40)
    assert page.locator(".fv-read").inner_text().startswith("ring 0 of 4: below −60 dB")


def test_the_complex_view_has_a_key_of_two_directions(shown, page):
    shown(view="complex")
    key = pixels(page, ".fv-main .fv-scale canvas")[..., :3] / 255
    assert np.abs(key[0] - spectra.hues()).max() < 0.01
    assert key[-1].max() == 0
    assert page.locator(".fv-main .fv-sides span").all_inner_texts() == ["0 dB", "−60"]


def test_a_picture_is_saved_as_shown(shown, page, runs, tmp_path):
    shown(other=runs[1].name)
    with page.expect_download() as loaded:
        page.click("text=save picture")
    assert loaded.value.suggested_filename.endswith("-amplitude.png")
    loaded.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB"))
    for where in ("main", "b", "diff"):
        colours = pixels(page, f".fv-{where} .fv-stack canvas")
        one = colours[0, 0, :3] if colours[0, 0, 3] else [0xBB] * 3
        assert (saved == one).all(-1).sum() > 200  # the corner's frequency, enlarged


def test_automatic_colours_range_over_what_is_shown(shown, page, runs):
    shown(c_out=2, c_in=3, floor=0, colormap="magma")
    plane = np.abs(runs[0].filters[0].plane()[2, 3])
    floor, table = automatic_floor([plane], plane.max()), spectra.colour_table("magma")
    said = page.locator(".fv-main .fv-scale span").all_inner_texts()
    assert said[0] == f"−{-floor:.0f} dB"
    assert float(said[1].removeprefix("0 dB is ")) == pytest.approx(plane.max(), rel=0.02)
    wanted = table[np.rint((1 - spectra.decibel(plane, plane.max(), floor) / floor) * 255).astype(int)]
    assert close(pixels(page, ".fv-main .fv-stack canvas"), wanted, 80 / 254 / -floor * 255 + 2, table)
    page.select_option(".fv-colormap select", "gray")
    settled(page)
    got = pixels(page, ".fv-main .fv-stack canvas")
    assert (got[..., 0] == got[..., 1]).all()
    assert page.locator(".fv-floor input").input_value() == ""


@pytest.mark.parametrize(("wall", "view"), [("strongest", "amplitude"), ("output", "phase"), ("input", "kernel")])
def test_the_wall_shows_filters_on_one_scale(shown, page, runs, wall, view):
    explorer = shown(level=1, wall=wall, view=view, c_out=1, c_in=2)
    each = runs[0].filters[1]
    o, c = each.channels
    pairs = {
        "strongest": wall_pairs(each, explorer._whole["0.1.table"]),
        "output": [(1, n) for n in range(c)],
        "input": [(n, 2) for n in range(o)],
    }
    shown_pairs = pairs[wall]
    words = page.locator(".fv-wall-cell figcaption").all_inner_texts()
    assert words == [f"{inn} → {out}" for out, inn in shown_pairs]
    planes = [each.plane()[pair] for pair in shown_pairs]
    kernels = [spectra.spatial_kernel(each.response[pair], each.size) for pair in shown_pairs]
    top = max(np.abs(kernel).max() for kernel in kernels)
    for at, (plane, kernel) in enumerate(zip(planes, kernels)):
        got = pixels(page, f".fv-wall-cell canvas >> nth={at}")
        if view == "amplitude":
            table, codes = (
                spectra.colour_table("cividis"),
                spectra.decibel(plane, np.abs(each.response).max(), -60) / 60,
            )
            assert close(got, table[np.rint((1 + codes) * 255).astype(int)], STEP, table)
        if view == "kernel":
            table = spectra.colour_table("RdBu_r")
            assert close(got, table[np.rint((kernel / top + 1) / 2 * 255).astype(int)], 5, table)
        if view == "phase":
            assert (got[..., 3] > 0).sum() >= 60
    page.locator(".fv-wall-cell canvas").nth(3).click()
    settled(page)
    assert (trait(page, "c_out"), trait(page, "c_in")) == shown_pairs[3]
    assert "fv-on" in page.locator(".fv-wall-cell").nth(3).get_attribute("class")
    page.focus(".fv-wall-grid")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert (trait(page, "c_out"), trait(page, "c_in")) == shown_pairs[4]
    page.locator(".fv-wall-cell canvas").nth(0).hover()
    assert (
        page.locator(".fv-read").inner_text().startswith(f"Output {shown_pairs[0][0]}, input {shown_pairs[0][1]} at ")
    )
    assert explorer.wall == wall


def test_the_table_is_searched_and_saved_whole(shown, page, runs, tmp_path):
    explorer = shown(level=1)
    rows = explorer.table().rows
    assert page.locator(".fv-scroll tbody tr").count() == len(rows) == 36
    middle = sorted(row["centroid"] for row in rows)[30]
    wanted = [row for row in rows if row["centroid"] > middle and row["out"] <= 3]
    page.fill("input[type=search]", f"cent > {middle:.6f}, out <= 3")
    settled(page)
    assert page.locator(".fv-scroll tbody tr").count() == pytest.approx(len(wanted), abs=1)
    with page.expect_download() as loaded:
        page.click("text=save table")
    loaded.value.save_as(tmp_path / "table.csv")
    head, *lines = (tmp_path / "table.csv").read_text().splitlines()
    assert head == "out,in,energy dB,centroid,bandwidth,angle °,coherence"
    assert abs(len(lines) - len(wanted)) <= 1
    first = list(map(float, lines[0].split(",")))
    assert first[:2] == [wanted[0]["out"], wanted[0]["in"]]
    assert first[3] == pytest.approx(wanted[0]["centroid"], abs=1e-4)
    page.fill("input[type=search]", "sound > 3")
    settled(page)
    assert '"sound > 3" is not understood' in page.locator("details .fv-bar").inner_text()
    page.fill("input[type=search]", "angle 30 .. 60")
    settled(page)
    assert page.locator(".fv-scroll tbody tr").count() == sum(30 <= row["angle"] <= 60 for row in rows)


def test_values_are_read_with_frequency_decibels_and_phase_and_saved(shown, page, runs, tmp_path):
    shown(level=1, c_out=2, c_in=2)
    plane = runs[0].filters[1].plane()[2, 2]
    box = page.locator(".fv-main .fv-stack canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 6.5 / 8, box["y"] + box["height"] * 1.5 / 8)
    said = re.search(
        r"at kx 2, ky −3: \|H\| ([\d.e−]+), (−?[\d.]+) dB, phase (−?[\d.]+) rad", page.locator(".fv-read").inner_text()
    )
    amplitude, decibels, phase = (float(part.replace("−", "-")) for part in said.groups())
    assert amplitude == pytest.approx(abs(plane[1, 6]), rel=0.02)
    assert decibels == pytest.approx(
        20 * np.log10(abs(plane[1, 6]) / np.abs(runs[0].filters[1].response).max()), abs=0.25
    )
    assert phase == pytest.approx(np.angle(plane[1, 6]), abs=0.03)
    with page.expect_download() as loaded:
        page.click("text=save values")
    loaded.value.save_as(tmp_path / "values.csv")
    rows = np.loadtxt(tmp_path / "values.csv", delimiter=",", skiprows=1)
    strong = np.abs(plane).ravel() > 0.01 * np.abs(plane).max()
    np.testing.assert_allclose(rows[strong, 2], np.abs(plane).ravel()[strong], rtol=0.03)
    assert rows[0, :2].tolist() == [-4, -4]


def test_keys_choose_view_wall_and_mean(shown, page):
    shown()
    page.focus(".fv-nav .fv-stack canvas")
    for key, name, wanted in (
        ("v", "view", "phase"),
        ("w", "wall", "strongest"),
        ("m", "mean", True),
        ("m", "mean", False),
    ):
        page.keyboard.press(key)
        settled(page)
        assert trait(page, name) == wanted
    page.keyboard.press("?")
    assert page.locator(".fv-keys").is_visible()
    page.focus("input[type=search]")
    page.keyboard.type("v")
    assert trait(page, "view") == "phase"


@pytest.mark.parametrize("width", [900, 1440])
def test_the_plane_fills_the_width_and_has_ticks(shown, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    shown(level=1)
    assert page.locator(".fv-main .fv-stack canvas").bounding_box()["width"] >= 400
    assert page.locator(".fv-main .fv-x .fv-tick").all_inner_texts() == ["−4", "−2", "0", "2"]
    assert page.locator(".fv-main .fv-y .fv-axis-name").inner_text() == "ky"
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_terms_are_explained_where_they_stand(shown, page):
    shown()
    tips = page.locator("thead th").evaluate_all("(heads) => heads.map((head) => head.title)")
    assert len(tips) == 7
    assert all(tips)
    assert "Nyquist" in tips[3]
    assert "hatched" in page.locator(".fv-floor").get_attribute("title")


def test_pictures_have_names_and_the_readout_speaks(shown, page):
    shown(c_out=0, c_in=0)
    assert page.locator(".fv-nav .fv-stack canvas").get_attribute("aria-label")
    assert page.locator("output").get_attribute("aria-live") == "polite"
    chosen = page.locator(".fv-read").inner_text()
    box = page.locator(".fv-main .fv-stack canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "at kx 0, ky 0: below −60 dB" in page.locator(".fv-read").inner_text()
    box = page.locator(".fv-curve").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    assert page.locator(".fv-read").inner_text().startswith("ring 2 of 4: ")
    page.focus(".fv-curve")
    page.keyboard.press("ArrowRight")
    assert page.locator(".fv-read").inner_text().startswith("ring 3 of 4: ")
    page.locator(".fv-thumb canvas").nth(1).hover()
    assert re.match("phase, rad at kx 0, ky 0: ", page.locator(".fv-read").inner_text())
    page.mouse.move(0, 0)
    settled(page)
    assert page.locator(".fv-read").inner_text() == chosen
    box = page.locator(".fv-nav .fv-stack canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.6)
    assert re.fullmatch(r"filter energy, dB at output 2, input 3: −?\d+\.\d dB of the strongest",
                        page.locator(".fv-read").inner_text())  # fmt: skip


def test_every_key_press_is_painted_at_full_size(shown, page, tmp_path):
    """A filter of (64, 64, 32, 17): each key draws the large picture again before the page is idle."""
    shown(make_run(tmp_path / "big", epochs=1, shapes=((64, 32),)), budget=16 << 20, c_out=0, c_in=0)
    main = page.locator(".fv-main .fv-stack canvas")
    page.focus(".fv-nav .fv-stack canvas")
    for at in range(14):
        before = main.get_attribute("data-seq")
        page.keyboard.press(("ArrowRight", "ArrowDown")[at % 2])
        settled(page)
        assert main.get_attribute("data-seq") != before
    assert (trait(page, "c_out"), trait(page, "c_in")) == (7, 7)
