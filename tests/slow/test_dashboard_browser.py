"""The dashboard in headless Chromium: its curves and pixels against numpy, its keys, and what it draws again."""

import re

import numpy as np
import pytest
from helpers.browser import pixels, settled, trait
from helpers.dashboard_pages import OVERLAPS, legend
from helpers.famviz_runs import make_run

import famviz
from famviz import spectra

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow
TABLE = np.rint(spectra.colour_table("cividis") * 255)
SMALL = {"shapes": ((2, 9), (2, 4))}
SEQ = "(selector) => [...document.querySelectorAll(selector)].map((node) => node.dataset.seq)"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dashboard")
    return famviz.open([make_run(folder / "a", epochs=6, **SMALL).path, make_run(folder / "b", seed=1, **SMALL).path])


@pytest.fixture
def shown(page, runs, tmp_path):
    """A function that opens a dashboard's page."""

    def show(source=None, **traits):
        dashboard = famviz.Dashboard(runs if source is None else source, **traits)
        dashboard.to_html(tmp_path / "page.html")
        page.goto(f"file://{tmp_path / 'page.html'}")
        page.wait_for_selector(".famviz[data-seq]")
        settled(page)
        return dashboard

    return show


def curve(page, chart: str, at: int) -> np.ndarray:
    """Points of a line in pixels of its diagram, (N, 2)."""
    path = page.locator(f".fv-chart-{chart} .fv-lines .fv-curve-line").nth(at).get_attribute("d")
    return np.array([list(map(float, point.split())) for point in re.findall(r"[\d.]+ [\d.]+", path)])


def test_curves_lie_where_the_log_says(shown, page, runs):
    shown()
    for at, run in enumerate(runs):
        rows = run.metrics()
        points = curve(page, "scores", at)
        top1 = np.array([row["top1"] for row in rows])
        slope = np.diff(points[:, 1]) / np.diff(top1)
        np.testing.assert_allclose(slope, slope[0], atol=0.2)
        assert (slope < 0).all()  # a larger value is higher
        np.testing.assert_allclose(np.diff(points[:, 0]), np.diff(points[:, 0])[0], atol=0.11)
    review = curve(page, "losses", 1)
    logs = np.log([row["fam_review.review"] for row in runs[0].metrics()])
    np.testing.assert_allclose(
        np.diff(review[:, 1]) / np.diff(logs), np.diff(review[:, 1])[0] / np.diff(logs)[0], rtol=0.02
    )
    page.click(".fv-log input")
    settled(page)
    review = curve(page, "losses", 1)
    losses = np.exp(logs)
    np.testing.assert_allclose(
        np.diff(review[:, 1]) / np.diff(losses), np.diff(review[:, 1])[0] / np.diff(losses)[0], rtol=0.02
    )


def test_filter_pixels_are_the_decibels_of_numpy(shown, page, runs):
    shown()
    for row, (run, level) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
        epochs, kept = runs[run].history(runs[run].filters[level])
        histories = [each for one in runs for each in one.history(one.filters[level])[1]]
        top = max(summary["amplitude"].max() for summary in histories)
        scale = page.locator(".fv-now .fv-scale span").nth(2 * row).inner_text()
        floor = float(scale.removesuffix(" dB").replace("−", "-"))
        assert -60 <= floor <= -5
        cells = page.locator(".fv-level-row").nth(row).locator(".fv-cell")
        assert cells.locator("figcaption").all_inner_texts() == list(map(str, epochs))
        for at, summary in enumerate(kept):
            plane = spectra.full_plane(summary["amplitude"], runs[run].filters[level].size[1])
            got = pixels(page, f".fv-level-row >> nth={row} >> .fv-cell canvas >> nth={at}")
            np.testing.assert_array_equal(got[..., 3] > 0, plane > 0)
            wanted = TABLE[np.rint(np.clip(1 - spectra.decibel(plane, top, -200) / floor, 0, 1) * 255).astype(int)]
            assert np.abs(got[..., :3] - wanted)[plane > 0].max() <= 4  # a rounding of one entry
        large = pixels(page, f".fv-now >> nth={row} >> .fv-stack canvas")
        np.testing.assert_array_equal(large, got)  # the newest


def test_pointing_at_a_diagram_says_all_values_of_that_epoch(shown, page, runs):
    shown()
    newest = legend(page, "scores")
    assert newest == [(runs[0].name, "56"), (runs[1].name, "–")]
    box = page.locator(".fv-chart-lr .fv-lines").bounding_box()
    page.mouse.move(box["x"] + 46 + (box["width"] - 58) * 1 / 5, box["y"] + 60)
    settled(page)
    assert legend(page, "scores") == [(runs[0].name, "52"), (runs[1].name, "52")]
    assert legend(page, "losses")[1] == (f"{runs[0].name}: fam_review.review", "1.5")
    assert page.locator(".fv-now figcaption").all_inner_texts() == ["epoch 2"] * 4
    assert page.locator(".fv-read").inner_text() == "Values after epoch 2 of 6."
    page.mouse.move(0, 0)
    settled(page)
    assert legend(page, "scores") == newest
    assert trait(page, "epoch") == 0


def test_a_click_keeps_an_epoch_and_keys_move_it(shown, page):
    shown()
    box = page.locator(".fv-chart-losses .fv-lines").bounding_box()
    page.mouse.click(box["x"] + 46, box["y"] + 60)
    settled(page)
    assert trait(page, "epoch") == 1
    page.mouse.move(0, 0)
    page.focus(".fv-chart-scores .fv-lines")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert trait(page, "epoch") == 3
    assert "fv-on" in page.locator(".fv-level-row").first.locator(".fv-cell").nth(2).get_attribute("class")
    page.locator(".fv-strip").first.focus()
    page.keyboard.press("ArrowLeft")
    settled(page)
    assert trait(page, "epoch") == 2
    page.keyboard.press("n")
    settled(page)
    assert trait(page, "epoch") == 0
    page.locator(".fv-cell canvas").nth(4).click()
    settled(page)
    assert trait(page, "epoch") == 5
    page.click("text=newest epoch")
    settled(page)
    assert trait(page, "epoch") == 0


def test_values_of_filters_are_read_by_mouse_and_keys(shown, page, runs):
    shown(runs[0])
    each = runs[0].filters[0]
    plane = spectra.full_plane(runs[0].summary(each, 2)["amplitude"], 9)
    box = page.locator(".fv-cell canvas").nth(1).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 6.5 / 9, box["y"] + box["height"] * 2.5 / 9)
    said = page.locator(".fv-read").inner_text()
    assert said.startswith(f"{each.title}, epoch 2, kx 2, ky −2: |H| {plane[2, 6]:.3g}")
    page.focus(".fv-now .fv-stack canvas")
    page.keyboard.press("ArrowRight")
    assert re.search(r"epoch 6, kx 0, ky 0: ", page.locator(".fv-read").inner_text())


def test_menus_choose_figure_and_part(shown, page):
    shown(loss="task.ce")
    assert len(legend(page, "losses")) == 2
    page.select_option(".fv-figure select", "top5")
    page.select_option(".fv-loss select", "")
    settled(page)
    assert (trait(page, "figure"), trait(page, "loss")) == ("top5", "")
    assert legend(page, "scores")[0][1] == "90"
    assert len(legend(page, "losses")) == 4
    assert page.locator(".fv-progress th").nth(3).inner_text() == "last top5"


def test_only_what_changed_is_drawn_again(shown, page):
    shown()
    watched = (".fv-lines", ".fv-cell canvas", ".fv-now .fv-stack canvas")
    before = [page.evaluate(SEQ, each) for each in watched]
    box = page.locator(".fv-chart-scores .fv-lines").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    seq = settled(page)
    page.mouse.move(0, 0)
    assert settled(page) > seq
    lines, cells, large = (page.evaluate(SEQ, each) for each in watched)
    assert (lines, cells) == (before[0], before[1])  # the marks moved, nothing else
    page.evaluate("""() => { const model = window.famviz[0], runs = structuredClone(model.get("_runs"));
        const { columns } = runs[1]; columns.epoch.push(4);
        for (const name in columns) if (name !== "epoch") columns[name].push(columns[name].at(-1));
        columns.images_per_s[3] = null; model.set("_runs", runs); }""")
    settled(page)
    now = [page.evaluate(SEQ, each) for each in watched]
    assert now[0] != lines
    assert (now[1], now[2]) == (cells, large)
    changed = [chart for chart, a, b in zip(("scores", "losses", "lr", "speed"), lines, now[0]) if a != b]
    assert changed == ["scores", "losses", "lr", "speed"]
    page.select_option(".fv-figure select", "top5")
    settled(page)
    changed = [a != b for a, b in zip(now[0], page.evaluate(SEQ, watched[0]))]
    assert changed == [True, False, False, False]


@pytest.mark.parametrize("width", [390, 900, 1440])
def test_no_text_lies_over_another(shown, page, runs, width):
    page.set_viewport_size({"width": width, "height": 900})
    shown(epoch=2)
    assert page.evaluate(OVERLAPS) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_run_without_an_epoch_waits(shown, page, tmp_path):
    shown(make_run(tmp_path / "run", epochs=0, **SMALL))
    assert page.locator(".fv-read").inner_text() == "No epoch is done yet."
    assert page.locator(".fv-progress td").last.inner_text() == "waiting for the first epoch"
