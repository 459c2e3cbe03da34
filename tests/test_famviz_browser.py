"""The explorer in headless Chromium, on a saved page: its pixels against numpy, its keys, its links, its speed."""

import statistics

import numpy as np
import pytest
import torch
from browser import pixels, settled
from famviz_runs import make_run, released_state

import famviz
from famviz import spectra

pytest_plugins = ("browser",)
STEP = 80 / 254 / 60 * 255  # one amplitude code, in entries of the colour table


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    return famviz.open([make_run(folder / "a").path, make_run(folder / "b", seed=1).path])


@pytest.fixture
def shown(page, runs, tmp_path):
    """A function that opens an explorer's page; the page itself, and the traits as the page holds them."""

    def show(source=None, budget=4 << 20, **traits):
        explorer = famviz.FilterExplorer(runs if source is None else source, **traits)
        explorer.to_html(tmp_path / "page.html", budget=budget)
        page.goto(f"file://{tmp_path / 'page.html'}")
        page.wait_for_selector(".famviz[data-seq]")
        return explorer

    return show


def trait(page, name):
    return page.evaluate("(name) => window.famviz[0].get(name)", name)


def close(got: np.ndarray, wanted: np.ndarray, entries: float, table: np.ndarray) -> bool:
    """Whether colours differ by no more than a table changes over some entries."""
    slope = np.abs(np.diff(table, axis=0)).max() * 255
    return np.abs(got[..., :3].astype(float) - 255 * wanted).max() <= entries * slope + 1


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
    each, got = runs[0].filters[0], pixels(page, ".fv-nav .fv-stack canvas").astype(int)
    assert got.shape[:2] == each.channels
    order = np.argsort(each.energy(), axis=None)
    brightness = got[..., :3].sum(-1).ravel()[order]
    assert brightness[-1] == brightness.max()
    assert np.all(np.diff(brightness) >= -12)  # brighter with more energy, but for rounding in the table


def test_arrow_keys_choose_and_redraw(shown, page, runs):
    shown()
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
    levels = [spectra.decibel(each.plane()[2, 2], reference, -60) for each in (one, two)]
    cividis, signed = spectra.colour_table("cividis"), spectra.colour_table("RdBu_r")
    for where, decibels in zip(("main", "b"), levels, strict=True):
        at = np.rint((1 + decibels / 60) * 255).astype(int)
        assert close(pixels(page, f".fv-{where} .fv-stack canvas"), cividis[at], STEP, cividis)
    difference = levels[0] - levels[1]
    at = np.rint((difference / np.abs(difference).max() + 1) / 2 * 255).astype(int)
    assert close(pixels(page, ".fv-diff .fv-stack canvas"), signed[at], 6, signed)


def test_pictures_beside_one_another_start_at_one_height(shown, page, tmp_path):
    pair = [make_run(tmp_path / name / "run", seed=n).path for n, name in enumerate(("a", "a_name_that_fills_a_line"))]
    shown(pair, other="a_name_that_fills_a_line/run")
    tops = [page.locator(f".fv-{where} .fv-stack canvas").bounding_box()["y"] for where in ("nav", "main", "b", "diff")]
    assert len(set(tops)) == 1
    assert page.locator(".fv-b figcaption").bounding_box()["height"] > 30  # two lines of text


def test_the_slider_replays_the_life_of_a_level(shown, page, runs):
    shown(level=1)
    each, (epochs, life) = runs[0].filters[1], runs[0].history(runs[0].filters[1])
    page.locator(".fv-epoch input").fill("0")
    settled(page)
    assert trait(page, "epoch") == epochs[0] == 1
    decibels = spectra.decibel(spectra.full_plane(life[0]["amplitude"], 8), np.abs(each.response).max(), -60)
    table = spectra.colour_table("cividis")
    wanted = table[np.rint((1 + decibels / 60) * 255).astype(int)]
    assert close(pixels(page, ".fv-main .fv-stack canvas"), wanted, STEP + 1, table)
    assert page.locator(".fv-read").inner_text().startswith("Epoch 1")


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
    explorer = shown(tmp_path / "a.pth", raw=True)
    raw, table = explorer.filter.raw, spectra.colour_table("cividis")
    decibels = spectra.decibel(raw[0, 0], np.abs(raw).max(), -60)
    got = pixels(page, ".fv-main .fv-stack canvas")
    assert close(got, table[np.rint((1 + decibels / 60) * 255).astype(int)], STEP, table)
    assert "never acts" in page.locator(".fv-read").inner_text()


def test_a_page_says_which_rows_it_does_not_hold(shown, page, runs):
    strongest = int(runs[0].filters[1].energy().sum(1).argmax())
    size = 2 * runs[0].filters[1].response[0].size
    bases = sum(len(v) for k, v in famviz.FilterExplorer(runs)._whole.items() if k.endswith("base"))
    shown(level=1, c_out=strongest, budget=bases + size * 20)  # room for a part of all rows
    held = page.evaluate("() => Object.keys(window.famviz[0].get('_rows')).length + "
                         "Object.keys(window.famviz[0].get('_whole')).length")  # fmt: skip
    assert held > 4
    page.evaluate("() => { const m = window.famviz[0]; for (const k of ['_rows', '_whole']) { const v = m.get(k);"
                  " for (const key in v) if (!key.endsWith('base')) delete v[key]; } m.set('c_in', 1); }")  # fmt: skip
    settled(page)
    assert "does not hold this row" in page.locator(".fv-read").inner_text()


def test_pictures_have_names_and_the_readout_speaks(shown, page):
    shown()
    assert page.locator(".fv-nav .fv-stack canvas").get_attribute("aria-label")
    assert page.locator("output").get_attribute("aria-live") == "polite"
    box = page.locator(".fv-main .fv-stack canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert "at x 0, y 0: −60" in page.locator(".fv-read").inner_text()
    box = page.locator(".fv-curve").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    assert page.locator(".fv-read").inner_text().startswith("ring 2 of 4: ")


def test_a_key_press_is_painted_at_once_at_full_size(shown, page, tmp_path):
    """The whole way of (64, 64, 32, 17) from key to picture: about 50 ms on two busy cores, a budget for slow CI."""
    shown(make_run(tmp_path / "big", epochs=1, shapes=((64, 32),)), budget=16 << 20)
    canvas = ".fv-nav .fv-stack canvas"
    page.focus(canvas)
    page.evaluate("""() => { window.took = []; const main = document.querySelector(".fv-main .fv-stack canvas");
        document.addEventListener("keydown", () => { const start = performance.now(), seq = main.dataset.seq;
            const look = () => requestAnimationFrame(() => main.dataset.seq === seq ? look()
                : setTimeout(() => window.took.push(performance.now() - start))); look(); }, true); }""")
    for at in range(15):
        page.keyboard.press(("ArrowRight", "ArrowDown")[at % 2])
        settled(page)
    took = page.evaluate("window.took")
    print(f"key to paint: median {statistics.median(took):.0f} ms, longest {max(took):.0f} ms")
    assert statistics.median(took) < 300
