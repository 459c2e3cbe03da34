"""The CAM explorer in headless Chromium, on a saved page: its pixels against numpy, its keys, filters and figures."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.browser import exports, pixels, put, settled, trait
from helpers.cam_networks import COUNT, LONG, comparison
from helpers.cam_pages import ACROSS, DOWN, PICTURE, STUDENT, TEACHER, drawn, listed

import famviz
from famviz import spectra
from famviz.analysis import cam_scores
from famviz.analysis.cam_store import Choice

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow
TABLE = np.rint(spectra.colour_table("inferno") * 255)

# Tables that are wider than their place, also with long names of classes.
CUT = """() => { for (const cell of document.querySelectorAll(".fv-list .fv-scroll td:nth-child(n + 3)"))
      cell.textContent = "great white shark, white shark, man-eater";
    return [...document.querySelectorAll(".fv-list, .fv-list .fv-scroll")]
      .filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.className); }"""


@pytest.fixture(scope="module")
def shown():
    return comparison()


@pytest.fixture
def opened(page, shown, tmp_path):
    """A function that opens a CAM explorer's page; returns the explorer in Python."""

    def show(source=None, choices=(), **traits):
        explorer = famviz.CamExplorer(shown if source is None else source, **traits)
        explorer.to_html(tmp_path / "page.html", choices=choices)
        page.goto(f"file://{tmp_path / 'page.html'}")
        drawn(page, explorer.image)
        return explorer

    return show


def canvas(page, where):
    return pixels(page, f"{where} >> .fv-stack canvas")


def test_pixels_are_the_colours_of_the_map_laid_over_the_picture(opened, page, shown):
    explorer = opened(image=4, blend=1.0, scale="own")
    maps = explorer.maps()
    for where, name in ((TEACHER, "teacher"), (STUDENT, "student")):
        at = np.rint(maps[name] / maps[name].max() * 255).astype(int)
        assert np.abs(canvas(page, where)[..., :3] - TABLE[at]).max() <= 6  # a rounding of one entry
    np.testing.assert_array_equal(canvas(page, PICTURE)[..., :3], shown.pixels([4])[0])
    put(page, scale="shared")
    most = max(values.max() for values in maps.values())
    at = np.rint(maps["student"] / most * 255).astype(int)
    assert np.abs(canvas(page, STUDENT)[..., :3] - TABLE[at]).max() <= 6
    ends = page.locator(f"{STUDENT} >> .fv-scale span").all_inner_texts()
    assert float(ends[1]) == pytest.approx(most, rel=0.01)
    put(page, blend=0.25)
    mixed = shown.pixels([4])[0] * 0.75 + TABLE[at] * 0.25
    assert np.abs(canvas(page, STUDENT)[..., :3] - mixed).max() <= 3
    page.focus(".fv-wall")
    page.keyboard.press("o")
    settled(page)
    np.testing.assert_array_equal(canvas(page, STUDENT)[..., :3], shown.pixels([4])[0])


def test_the_enlargement_is_that_of_torch(opened, page):
    opened()
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    wanted = F.interpolate(torch.from_numpy(values).relu()[None, None], (33, 20), mode="bilinear")[0, 0].numpy()
    code = f"([v]) => {{ {exports('shared/resample.js')} return [...enlarge(v, 5, 7, 33, 20)]; }}"
    found = page.evaluate(code, [values.ravel().tolist()])
    np.testing.assert_allclose(np.reshape(found, (33, 20)), wanted, atol=1e-6)


def test_figures_are_those_of_python_and_follow_the_outline(opened, page, shown):
    explorer = opened(image=6, areas=True)
    maps, figures = explorer.maps(), {row["network"]: row for row in explorer.figures().rows}
    cells = page.locator(".fv-figures tbody tr >> nth=1 >> td").all_inner_texts()
    known = [each["student"].figures for each in explorer.store.maps(range(COUNT), explorer.choice)]
    mean = cam_scores.mean(np.array([each["rank correlation"] for each in known]))
    assert cells[1].replace("−", "-") == f"{figures['student']['rank correlation']:.2f} ({mean:.2f})"
    mean = cam_scores.mean(np.array([each["IoU"] for each in known]))
    assert cells[2] == f"{figures['student']['IoU']:.2f} ({mean:.2f})"
    assert float(cells[3].split()[0]) == pytest.approx(figures["student"]["energy inside"], abs=0.006)
    assert float(cells[5]) == pytest.approx(figures["student"]["insertion"], abs=0.006)
    put(page, top=0.4)
    wanted = cam_scores.top_iou(maps["student"][None], maps["teacher"][None], 0.4)[0]
    assert page.locator(".fv-figures tbody tr >> nth=1 >> td").nth(2).inner_text() == f"{wanted:.2f}"
    assert "top 40 %" in page.locator(".fv-figures th").nth(2).inner_text()
    mask = cam_scores.top_pixels(maps["student"][None], 0.4)[0]
    padded = np.pad(mask, 1)
    edges = np.abs(np.diff(padded.astype(int), axis=0)).sum() + np.abs(np.diff(padded.astype(int), axis=1)).sum()
    path = page.locator(f"{STUDENT} >> .fv-stack path").first.get_attribute("d")
    assert len(re.findall("M", path)) == edges


def test_keys_choose_images_on_the_wall(opened, page):
    opened()
    page.focus(".fv-wall")
    page.keyboard.press("ArrowRight")
    drawn(page, 1)
    columns = round(page.locator(".fv-wall").bounding_box()["width"] / 68)
    page.keyboard.press("ArrowDown")
    drawn(page, 1 + columns)
    page.keyboard.press("End")
    drawn(page, COUNT - 1)
    page.keyboard.press("ArrowRight")  # at the edge already
    settled(page)
    assert trait(page, "image") == COUNT - 1
    page.keyboard.press("Home")
    drawn(page, 0)
    page.keyboard.press("s")
    settled(page)
    assert trait(page, "scale") == "own"
    assert page.locator(".fv-keys").is_hidden()
    page.keyboard.press("?")
    assert page.locator(".fv-keys").is_visible()


def test_a_click_on_a_thumbnail_and_on_a_point_chooses(opened, page):
    opened()
    box = page.locator(".fv-wall").bounding_box()
    page.mouse.move(box["x"] + 2.5 * 68, box["y"] + 30)
    assert page.locator(".fv-read").inner_text().startswith("image 2 is kind")
    page.mouse.click(box["x"] + 2.5 * 68, box["y"] + 30)
    drawn(page, 2)
    across = page.locator(".fv-scatter .fv-dot").evaluate_all(ACROSS)
    assert len(across) > 10
    dot = page.locator(".fv-scatter .fv-dot").nth(int(np.argmin(across))).bounding_box()
    page.mouse.move(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    said = int(re.match(r"image (\d+)", page.locator(".fv-read").inner_text())[1])
    page.mouse.click(dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2)
    drawn(page, said)
    page.focus(".fv-scatter")
    page.keyboard.press("ArrowRight")
    settled(page)
    assert trait(page, "image") != said


def test_points_stand_at_confidence_and_agreement(opened, page, shown):
    explorer = opened()
    found = explorer.store.maps(range(COUNT), explorer.choice)
    agree = np.array([each["student"].figures["rank correlation"] for each in found])
    sure = shown.answers["student"].probabilities.max(1)
    kept = ~np.isnan(agree)
    dots = page.locator(".fv-scatter .fv-dot")
    x, y = (np.array(dots.evaluate_all(script)) for script in (ACROSS, DOWN))
    low = min(0, np.round(agree[kept], 4).min())
    np.testing.assert_allclose(x, 44 + sure[kept] * (340 - 54), atol=0.2)
    np.testing.assert_allclose(y, 216 - (agree[kept] - low) / (1 - low) * 208, atol=0.2)
    bad = page.locator(".fv-scatter .fv-dot.fv-bad").count()
    assert bad == (shown.logits["student"].argmax(1) != shown.labels)[kept].sum()
    put(page, plot="embedding", of="teacher")
    assert page.locator(".fv-scatter .fv-dot").count() == COUNT


def test_filters_leave_the_images_that_they_name(opened, page, shown):
    explorer = opened()
    right = {name: shown.logits[name].argmax(1) == shown.labels for name in shown.names}
    page.select_option(".fv-only select", "both wrong")
    settled(page)
    assert listed(page) == (~right["teacher"] & ~right["student"]).sum()
    page.select_option(".fv-only select", "only the reference right")
    settled(page)
    assert listed(page) == (right["teacher"] & ~right["student"]).sum()
    page.select_option(".fv-only select", "all")
    page.fill(".fv-left .fv-class input", "kind 3")
    page.keyboard.press("Tab")
    settled(page)
    assert trait(page, "only_class") == 3
    assert listed(page) == (shown.labels == 3).sum()
    page.fill(".fv-left .fv-class input", "")
    page.keyboard.press("Tab")
    page.select_option(".fv-agreement select", "low")
    settled(page)
    found = explorer.store.maps(range(COUNT), explorer.choice)
    agree = np.array([each["student"].figures["rank correlation"] for each in found])
    known = (~np.isnan(agree)).sum()
    assert listed(page) == np.ceil(known / 4)
    page.select_option(".fv-order select", "agreement")
    page.focus(".fv-wall")
    page.keyboard.press("Home")
    settled(page)
    assert trait(page, "image") == int(np.nanargmin(agree))


def test_the_list_begins_with_the_least_agreement(opened, page):
    explorer = opened()
    rows = page.locator(".fv-list tbody >> nth=1 >> tr")
    images = [int(text) for text in page.locator(".fv-list .fv-scroll tbody td:first-child").all_inner_texts()]
    wanted = [row["image"] for row in explorer.disagreement().rows if not np.isnan(row["rank correlation"])]
    assert images == wanted
    rows.nth(3).click()
    drawn(page, images[3])
    page.focus(".fv-list .fv-scroll tbody")
    page.keyboard.press("ArrowDown")
    drawn(page, images[4])


def test_values_are_read_by_pointer_and_by_keys_in_all_networks(opened, page):
    explorer = opened(image=4)
    maps = explorer.maps()
    box = page.locator(f"{STUDENT} >> .fv-stack canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 20.5 / 32, box["y"] + box["height"] * 9.5 / 32)
    said = page.locator(".fv-read").inner_text()
    assert said.startswith("x 20, y 9: teacher ")
    for name, values in maps.items():
        value, share = re.search(rf"{name} (\S+) \((\d+) % of its largest", said).groups()
        assert float(value) == pytest.approx(values[9, 20], rel=0.01, abs=1e-6)
        assert float(share) == pytest.approx(100 * values[9, 20] / values.max(), abs=0.51)
    assert page.locator(".fv-map svg rect").count() == 2  # marked in every map
    page.mouse.move(0, 0)
    page.focus(f"{TEACHER} >> .fv-stack canvas")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator(".fv-read").inner_text().startswith("x 24, y 16: ")
    assert trait(page, "image") == 4


def test_the_page_offers_what_it_holds_and_changes_the_maps(opened, page, shown):
    choices = [Choice("LayerCAM", "", "true"), Choice("GradCAM", "", "5")]
    explorer = opened(image=3, blend=1.0, scale="own", choices=choices)
    assert page.locator(".fv-method option:enabled").all_inner_texts() == ["GradCAM", "LayerCAM"]
    before = canvas(page, STUDENT)
    page.select_option(".fv-method select", "LayerCAM")
    settled(page)
    explorer.method = "LayerCAM"
    values = explorer.maps()["student"]
    at = np.rint(values / values.max() * 255).astype(int)
    assert np.abs(canvas(page, STUDENT)[..., :3] - TABLE[at]).max() <= 6
    assert not np.array_equal(before, canvas(page, STUDENT))
    put(page, method="GradCAM", target="5")
    assert "map of kind 5" in page.locator(STUDENT).inner_text() or shown.logits["student"][3].argmax() == 5
    assert page.locator(".fv-search input").input_value() == "kind 5"


def test_a_network_without_a_map_says_why(opened, page):
    opened(method="AttentionRollout")
    assert "has no attention" in page.locator(STUDENT).inner_text()
    assert page.locator(".fv-figures td").nth(1).inner_text() == "–"


def test_a_picture_is_saved_as_shown(opened, page, tmp_path):
    from PIL import Image

    opened(image=2, blend=1.0)
    with page.expect_download() as loaded:
        page.click("text=save picture")
    assert loaded.value.suggested_filename == "cams-image-2-GradCAM.png"
    loaded.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB"))
    for where in (PICTURE, TEACHER, STUDENT):
        colours = canvas(page, where)
        assert (saved == colours[16, 16, :3]).all(-1).sum() > 50


def test_a_single_network_is_not_compared_with_itself(opened, page, shown):
    opened(shown.only(("teacher",)))
    assert page.locator(".fv-figures th").all_inner_texts() == ["network", "inside", "pointing"]
    assert not page.get_by_text("Where they disagree most").is_visible()
    assert not page.locator(".fv-diagram").is_visible()
    assert "rank correlation" not in page.locator(".fv-read").inner_text()
    assert page.locator(".fv-heat").first.is_visible()


def test_long_names_fit_a_narrow_page(opened, page):
    page.set_viewport_size({"width": 390, "height": 900})
    opened(comparison(names=LONG))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [390, 700, 900, 1440])
def test_nothing_is_wider_than_the_page(opened, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    opened()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate(CUT) == []
    beside = page.locator(".fv-wide").count() == 1
    assert beside == (width >= 900)


def test_every_key_press_is_painted_before_the_page_is_idle(opened, page):
    opened()
    page.focus(".fv-wall")
    for image in range(1, 10):
        page.keyboard.press("ArrowRight")
        settled(page)
        assert trait(page, "image") == image
    drawn(page, 9)
