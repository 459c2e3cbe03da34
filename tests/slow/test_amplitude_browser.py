"""The amplitude explorer in headless Chromium, on a saved page: its pixels against numpy, its keys and bands."""

import re

import numpy as np
import pytest
import torch
from helpers.browser import exports, pixels, put, settled, trait
from helpers.cam_networks import COUNT, LONG, comparison

import famviz
from famkd.models import build_model
from famviz import spectra
from famviz.analysis.amplitude import bootstrap_band, without_dc
from famviz.analysis.amplitude_store import Look
from famviz.analysis.bands import (
    Band,
    angular_profile,
    band_mask,
    band_share,
    direction_numbers,
    rebuilt,
    ring_numbers,
)

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow
CIVIDIS, SIGNED = (np.rint(spectra.colour_table(name) * 255) for name in ("cividis", "RdBu_r"))
TEACHER, STUDENT = ".fv-column >> nth=0 >> .fv-plane", ".fv-column >> nth=1 >> .fv-plane"
GAP = ".fv-column >> nth=1 >> .fv-gap"
RADIAL, ANGULAR = ".fv-diagram >> nth=0", ".fv-diagram >> nth=1"


@pytest.fixture(scope="module")
def shown():
    return comparison()


@pytest.fixture(scope="module")
def older():
    torch.manual_seed(9)
    return build_model("resnet8x0.5", 8)


@pytest.fixture
def opened(page, shown, tmp_path):
    """A function that opens an amplitude explorer's page; returns the explorer in Python."""

    def show(source=None, checkpoints=None, **traits):
        explorer = famviz.AmplitudeExplorer(shown if source is None else source, checkpoints=checkpoints, **traits)
        explorer.to_html(tmp_path / "page.html")
        page.goto(f"file://{tmp_path / 'page.html'}")
        page.wait_for_selector(".famviz[data-rebuilt]")
        settled(page)
        return explorer

    return show


def canvas(page, where):
    return pixels(page, f"{where} >> .fv-stack canvas")


def ends(page, where):
    """Numbers under a colour scale."""
    texts = page.locator(f"{where} >> .fv-scale span").all_inner_texts()
    return [float(text.replace("−", "-")) for text in (texts[0], texts[-1])]


def place(page, where, i, j, size):
    """The middle of a pixel of a canvas, in pixels of the page."""
    box = page.locator(f"{where} >> .fv-stack canvas").bounding_box()
    return box["x"] + box["width"] * (j + 0.5) / size, box["y"] + box["height"] * (i + 0.5) / size


def check_planes(page, stage):
    """Pixels of both spectra and of the difference against a stage of Python."""
    planes = {name: stage.planes[name] for name in ("teacher", "student")}
    off_dc = np.concatenate([without_dc(plane).ravel() for plane in planes.values()])
    low, high = np.quantile(off_dc, 0.01), off_dc.max()
    for where, name in ((TEACHER, "teacher"), (STUDENT, "student")):
        at = np.rint(np.clip((planes[name] - low) / (high - low), 0, 1) * 255).astype(int)
        assert (
            np.abs(canvas(page, where)[..., :3] - CIVIDIS[at]).max() <= 6
        )  # a hundredth of a dB may round to a neighbour
        assert ends(page, where) == pytest.approx([low, high], abs=0.06)
    other = "student" if stage.reference == "teacher" else "teacher"
    where = GAP if other == "student" else ".fv-column >> nth=0 >> .fv-gap"
    gap = stage.difference(other)
    top = max(np.quantile(np.abs(without_dc(gap)), 0.995), 0.1)
    at = np.rint(np.clip(gap / top + 1, 0, 2) / 2 * 255).astype(int)
    assert np.abs(canvas(page, where)[..., :3] - SIGNED[at]).max() <= 10
    assert ends(page, where) == pytest.approx([-top, top], abs=0.06)


@pytest.mark.parametrize("stage", ["layer1", "layer3"])
@pytest.mark.parametrize("relative", ["mean", "dc", "none"])
def test_pixels_are_the_decibels_of_numpy(opened, page, stage, relative):
    explorer = opened(stage=stage, relative=relative)
    check_planes(page, explorer.spectra())


def test_one_image_the_window_and_another_reference(opened, page):
    explorer = opened(image=3, window=True, reference="student")
    check_planes(page, explorer.spectra())
    put(page, window=False, image=-1)
    explorer.window, explorer.image = False, -1
    check_planes(page, explorer.spectra())
    note = page.locator(".fv-column >> nth=0 >> .fv-note").inner_text().replace("−", "-")
    stage = explorer.spectra()
    level, dc = stage.offsets("teacher")
    assert note == (f"RMS curve {stage.rms_db('teacher'):.1f}, plane {stage.plane_rms_db('teacher'):.1f} dB\n"
                    f"level {level:+.1f}, DC {dc:+.1f} dB")  # fmt: skip


def test_a_checkpoint_changes_its_network_only(opened, page, older):
    explorer = opened(checkpoints={"student": {3: older.state_dict()}}, stage="layer2")
    before = canvas(page, STUDENT)
    page.locator(".fv-epoch input").fill("0")
    settled(page)
    assert trait(page, "epoch") == 3
    assert not np.array_equal(before, canvas(page, STUDENT))
    explorer.epoch = 3
    check_planes(page, explorer.spectra())
    assert page.locator(f"{STUDENT} >> figcaption").inner_text() == "student, epoch 3"
    assert page.locator(f"{TEACHER} >> figcaption").inner_text() == "teacher, at the end"
    put(page, image=3)
    explorer.image = 3
    check_planes(page, explorer.spectra())


def test_the_transform_and_the_band_are_those_of_numpy(opened, page):
    opened()
    values = np.random.default_rng(0).normal(size=(15, 14))
    script = f"""([values, size, band]) => {{ {exports("amplitude/fourier.js")}
        const finish = (steps) => {{ for (let step; ;) if ((step = steps.next()).done) return step.value; }};
        const found = finish(spectrumOf(values, size));
        return [[...found.re], [...found.im], [...finish(rebuilt(found, band))]]; }}"""
    for rings, angles in (([], []), ([2, 4], []), ([], [165, 30]), ([1, 5], [60, 90])):
        given = [values.ravel().tolist(), [15, 14], {"rings": rings, "angles": angles}]
        re_, im, again = (np.reshape(part, (15, 14)) for part in page.evaluate(script, given))
        np.testing.assert_allclose(re_ + 1j * im, np.fft.fft2(values), atol=1e-9)
        band = Band(tuple(rings) or None, tuple(angles) or None)
        np.testing.assert_allclose(again, rebuilt(values, band), atol=1e-9)


def test_long_work_leaves_time_for_keys_and_can_be_cancelled(page):
    script = f"""async () => {{ {exports("shared/widget.js")}
        const pause = (ms) => new Promise((go) => setTimeout(go, ms));
        let steps = 0, between = 0, more = 0;
        function* long() {{ for (; steps < 100; steps++) {{
          for (const until = performance.now() + 1; performance.now() < until;);
          yield; }} }}
        function* endless() {{ for (;;) {{ more++; yield; }} }}
        whenIdle(long());
        for (; steps < 100; between++) await pause(0);
        const job = whenIdle(endless());
        while (!more) await pause(0);
        job.cancel();
        const then = more;
        await pause(50);
        return [between, more === then]; }}"""
    between, stopped = page.evaluate(script)
    assert between >= 5  # other tasks had their turn during 100 ms of work
    assert stopped


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (17, 34), (16, 32), (28, 28)])
def test_rings_and_directions_are_those_of_python(opened, page, size):
    opened()
    script = f"""(size) => {{ {exports("amplitude/grid.js")}
        const {{ ring, direction }} = gridOf(size); return [[...ring], [...direction]]; }}"""
    ring, direction = page.evaluate(script, list(size))
    np.testing.assert_array_equal(np.reshape(ring, size), ring_numbers(size))
    np.testing.assert_array_equal(np.reshape(direction, size), direction_numbers(size))


def points(page, diagram, at):
    """Places of a curve, in units of the SVG."""
    text = page.locator(f"{diagram} >> path.fv-curve >> nth={at}").get_attribute("d")
    return np.array([[float(x), float(y)] for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", text)])


def test_curves_and_their_bands_are_those_of_python(opened, page):
    explorer = opened(stage="layer1")
    stage = explorer.spectra()
    angular = explorer.store.directions(Look(), 0, "teacher")
    for diagram, curves, bands in ((RADIAL, stage.curves, stage.bands), (ANGULAR, angular.curves, angular.bands)):
        first = int(diagram == RADIAL)
        values = np.concatenate(
            [np.concatenate([curves[name][None], bands[name]])[:, first:].ravel() for name in curves]
        )
        values = values[~np.isnan(values)]
        room = 0.06 * np.ptp(values)
        low, high = values.min() - room, values.max() + room
        for at, name in enumerate(curves):
            wanted = 158 - (curves[name][first:] - low) / (high - low) * 138
            np.testing.assert_allclose(points(page, diagram, at)[:, 1], wanted, atol=0.3)
        path = page.locator(f"{diagram} >> path.fv-band >> nth=1").get_attribute("d")
        corner = float(re.match(r"M[\d.]+ ([\d.]+)", path)[1])
        assert corner == pytest.approx(158 - (bands["student"][0, first] - low) / (high - low) * 138, abs=0.3)


def test_curves_minus_the_reference(opened, page):
    explorer = opened(stage="layer1")
    page.focus(RADIAL)
    page.keyboard.press("d")
    settled(page)
    assert page.locator(f"{RADIAL} >> path.fv-curve").count() == 1
    gap = explorer.spectra().difference_curve("student")
    box = page.locator(RADIAL).bounding_box()
    page.mouse.move(box["x"] + points(page, RADIAL, 0)[4, 0] * box["width"] / 340, box["y"] + 60)
    said = page.locator(".fv-read").inner_text().replace("−", "-")
    value, low, high = map(
        float, re.search(r"ring 5, 31 % of Nyquist, dB: student (\S+) \[(\S+), (\S+)\]", said).groups()
    )
    ends = explorer.spectra().difference_bands["student"][:, 5]
    assert (value, low, high) == pytest.approx((gap[5], *ends), abs=0.011)


def test_values_are_read_by_pointer_and_by_keys_in_all_networks(opened, page):
    explorer = opened(stage="layer2")
    planes = explorer.spectra().planes
    page.mouse.move(*place(page, STUDENT, 5, 11, 16))
    said = page.locator(".fv-read").inner_text().replace("−", "-")
    teacher, student = planes["teacher"][5, 11], planes["student"][5, 11]
    found = re.match(r"kx 3, ky -3 \(ring 4, 135°\), dB: teacher (\S+); student (\S+) \((\S+)\)$", said)
    assert [float(text) for text in found.groups()] == pytest.approx([teacher, student, student - teacher], abs=0.061)
    assert page.locator(".fv-columns .fv-stack svg rect").count() == 3  # marked in both spectra and the difference
    page.mouse.move(0, 0)
    page.focus(f"{TEACHER} >> .fv-stack canvas")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator(".fv-read").inner_text().startswith("kx 7, ky 0 (ring 7, 0°)")
    page.keyboard.press("Enter")
    settled(page)
    assert trait(page, "rings") == [7, 7]


def test_a_drag_on_a_spectrum_chooses_rings_or_a_wedge(opened, page):
    opened(stage="layer1", brush="ring")
    page.mouse.move(*place(page, STUDENT, 16, 19, 32))
    page.mouse.down()
    page.mouse.move(*place(page, STUDENT, 16, 22, 32), steps=3)
    page.mouse.up()
    page.mouse.move(0, 0)
    settled(page)
    assert trait(page, "rings") == [3, 6]
    edges = page.locator(f"{STUDENT} >> .fv-stack svg path").first.get_attribute("d")
    mask = np.pad(band_mask((32, 32), Band((3, 6))), 1).astype(int)
    assert len(re.findall("M", edges)) == sum(np.abs(np.diff(mask, axis=axis)).sum() for axis in (0, 1))
    page.select_option(".fv-brush select", "wedge")
    page.mouse.move(*place(page, GAP, 13, 20, 32))  # up is negative: about -37 degrees
    page.mouse.down()
    page.mouse.move(*place(page, GAP, 18, 24, 32), steps=3)
    page.mouse.up()
    settled(page)
    assert trait(page, "angles") == [150, 15]  # the short way, across 0
    page.focus(f"{GAP} >> .fv-stack canvas")
    page.keyboard.press("Escape")
    settled(page)
    assert (trait(page, "rings"), trait(page, "angles")) == ([], [])


def test_a_drag_and_keys_on_a_profile_choose(opened, page):
    opened(stage="layer1")
    box = page.locator(RADIAL).bounding_box()
    x = [box["x"] + points(page, RADIAL, 0)[ring - 1, 0] * box["width"] / 340 for ring in (4, 9)]
    page.mouse.move(x[1], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(x[0], box["y"] + 90, steps=4)
    page.mouse.up()
    settled(page)
    assert trait(page, "rings") == [4, 9]
    page.focus(RADIAL)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    settled(page)
    assert trait(page, "rings") == [5, 11]
    page.focus(ANGULAR)
    for key in ("ArrowRight", "ArrowLeft", "Shift+ArrowRight"):
        page.keyboard.press(key)
    settled(page)
    assert trait(page, "angles") == [165, 0]
    assert page.locator(f"{ANGULAR} >> .fv-range").count() == 2  # on both sides of 0
    page.fill(".fv-first input", "2")
    page.keyboard.press("Tab")
    page.select_option(".fv-to select", "45")
    settled(page)
    assert (trait(page, "rings"), trait(page, "angles")) == ([2, 11], [165, 45])


def test_shares_and_the_images_with_most_are_those_of_python(opened, page, shown):
    explorer = opened(stage="layer2", rings=[3, 5], angles=[0, 60])
    rows = page.locator(".fv-shares tbody tr")
    for at, row in enumerate(explorer.shares().rows):
        name, _, share, ends, ratio = (text.strip() for text in rows.nth(at).locator("td").all_inner_texts())
        assert name == row["network"]
        assert float(share.removesuffix(" %")) == pytest.approx(row["share %"], abs=0.011)
        found = [float(text) for text in ends.strip("[]").split(", ")]
        assert found == pytest.approx([row["low"], row["high"]], abs=0.35)  # two generators of random numbers
        assert bool(ratio) == (name == "student")
    images = page.locator(".fv-most button").evaluate_all(
        "(nodes) => nodes.map((n) => +n.title.match(/image (\\d+)/)[1])"
    )
    assert images == [row["image"] for row in explorer.most().rows]
    page.locator(".fv-most button").nth(2).click()
    settled(page)
    assert trait(page, "image") == images[2]
    own = {row["network"]: row["share %"] for row in famviz.AmplitudeExplorer(
        shown, stage="layer2", rings=[3, 5], angles=[0, 60], image=images[2]).shares().rows}  # fmt: skip
    texts = rows.nth(1).locator("td").all_inner_texts()
    assert float(texts[2].removesuffix(" %")) == pytest.approx(own["student"], abs=0.011)
    page.keyboard.press("ArrowRight")
    settled(page)
    assert trait(page, "image") == images[3]
    page.keyboard.press("m")
    settled(page)
    assert trait(page, "image") == -1


def rebuilt_of(page, subject):
    """Wait until the pictures of an image were rebuilt."""
    page.wait_for_function(
        "(at) => JSON.parse(document.querySelector('.famviz').dataset.rebuilt)[1] === at", arg=subject
    )
    page.wait_for_function("() => document.querySelectorAll('.fv-picture .fv-stack canvas')[1].dataset.seq")


def test_the_image_and_the_maps_are_rebuilt_from_the_band(opened, page, shown):
    explorer = opened(stage="layer2", rings=[2, 4], angles=[0, 60], image=6)
    rebuilt_of(page, 6)
    wanted = explorer.rebuilt()
    np.testing.assert_array_equal(canvas(page, ".fv-picture >> nth=0")[..., :3], shown.pixels([6])[0])
    contrast = min(127 / np.abs(wanted["image"]).max(), 99)
    again = np.clip(128 + contrast * wanted["image"], 0, 255)
    assert np.abs(canvas(page, ".fv-picture >> nth=1")[..., :3] - again).max() <= 0.51
    maps = explorer.store.maps_of_stage(6, 1)
    for name, plain, band in (("teacher", 0, 1), ("student", 2, 3)):
        loudest = np.sort(np.argsort(-maps[name].var((1, 2)))[:8])
        own, part = maps[name][loudest], wanted[name][loudest]
        top, largest = np.abs(own).max(), np.abs(part).max()
        drawn = canvas(page, f".fv-maps >> nth={band}")
        tiles = [drawn[17 * (at // 4) :, 17 * (at % 4) :][:16, :16, :3] for at in range(8)]
        at = np.clip(part / largest + 1, 0, 2) / 2 * 255
        slack = np.ceil(2 * top / 127 / largest * 128) + 1  # a page keeps maps in bytes
        lowest, highest = (SIGNED[np.clip(np.rint(at + off), 0, 255).astype(int)] for off in (-slack, slack))
        inside = (np.stack(tiles) >= np.minimum(lowest, highest) - 25) & (
            np.stack(tiles) <= np.maximum(lowest, highest) + 25
        )
        assert inside.mean() > 0.98
        assert ends(page, f".fv-maps >> nth={plain}")[1] == pytest.approx(own.max(), rel=0.02)
        assert ends(page, f".fv-maps >> nth={band}")[1] == pytest.approx(largest, rel=0.1)
    put(page, rings=[], angles=[])
    assert page.locator(".fv-picture >> nth=1 >> figcaption").inner_text().startswith(
        "without its mean"
    ) or page.wait_for_function(
        "() => document.querySelectorAll('.fv-picture figcaption')[1].textContent.startsWith('without its mean')"
    )


def test_keys_and_menus_drive_the_choice(opened, page):
    opened(stage="layer2")
    page.focus(RADIAL)
    page.keyboard.press(".")
    settled(page)
    assert trait(page, "stage") == "layer3"
    page.keyboard.press(",")
    page.keyboard.press(",")
    page.keyboard.press("w")
    settled(page)
    assert (trait(page, "stage"), trait(page, "window")) == ("layer1", True)
    page.select_option(".fv-relative select", "dc")
    page.select_option(".fv-reference select", "student")
    page.click(".fv-legend >> text=teacher")
    page.select_option(".fv-images select", "one")
    page.fill(".fv-image input", "9")
    page.keyboard.press("Tab")
    settled(page)
    names = ("relative", "reference", "network", "image")
    assert [trait(page, name) for name in names] == ["dc", "student", "teacher", 9]
    assert page.locator(".fv-keys").is_hidden()
    page.focus(RADIAL)
    page.keyboard.press("?")
    assert page.locator(".fv-keys").is_visible()


def test_everything_that_takes_keys_keeps_them_from_the_notebook(opened, page):
    opened()
    script = """() => [...document.querySelectorAll("canvas, input, select, button, [tabindex]")]
        .filter((node) => node.dataset.lmSuppressShortcuts !== "true").map((node) => node.outerHTML)"""
    assert page.evaluate(script) == []


def test_a_picture_is_saved_as_shown(opened, page, tmp_path):
    from PIL import Image

    opened(stage="layer2")
    with page.expect_download() as loaded:
        page.click("text=save picture")
    assert loaded.value.suggested_filename == "amplitude-layer2-mean.png"
    loaded.value.save_as(tmp_path / "saved.png")
    saved = np.asarray(Image.open(tmp_path / "saved.png").convert("RGB"))
    for where in (TEACHER, STUDENT, GAP):
        assert (saved == canvas(page, where)[2, 3, :3]).all(-1).sum() > 50


def test_long_names_fit_a_narrow_page(opened, page):
    page.set_viewport_size({"width": 390, "height": 900})
    opened(comparison(names=LONG))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("width", [390, 700, 900, 1440])
def test_nothing_is_wider_than_the_page(opened, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    opened(rings=[2, 4])
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert (page.locator(".fv-wide").count() == 1) == (width >= 1100)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(opened, page, theme):
    page.emulate_media(color_scheme=theme)
    opened(rings=[2, 4])
    script = """() => { const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const light = (colour) => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => (v / 255) ** 2.2);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const own = getComputedStyle(document.querySelector(".famviz"));
        const lines = [...document.querySelectorAll(".fv-curve")].map((node) => getComputedStyle(node).stroke);
        return [own.backgroundColor, own.color, ...lines].map(light); }"""
    paper, ink, *lines = page.evaluate(script)
    contrast = [(max(paper, each) + 0.05) / (min(paper, each) + 0.05) for each in (ink, *lines)]
    assert contrast[0] > 7
    assert min(contrast) > 3


def test_every_key_press_is_painted_before_the_page_is_idle(opened, page):
    opened(stage="layer1", rings=[1, 1])
    page.focus(RADIAL)
    for ring in range(2, 10):
        before = page.get_attribute(".famviz", "data-seq")
        page.keyboard.press("ArrowRight")
        settled(page)
        assert page.get_attribute(".famviz", "data-seq") != before
        assert trait(page, "rings") == [ring, ring]


def test_without_a_band_there_are_images_in_order_and_no_shares(opened, page):
    opened(stage="layer2")
    assert page.locator(".fv-shares tbody tr").count() == 0
    assert page.locator(".fv-shares b").inner_text().startswith("Drag over a spectrum or a curve")
    images = page.locator(".fv-most button").evaluate_all("(nodes) => nodes.map((n) => n.innerText.trim())")
    assert images == [str(position) for position in range(len(images))] != []


def test_the_oracles_of_this_file_agree_with_one_another(shown):
    explorer = famviz.AmplitudeExplorer(shown, rings=[3, 5])
    planes = explorer.store.spectra(Look(), 1, range(COUNT))["student"]
    share = band_share(planes, Band((3, 5)))
    row = explorer.shares().rows[1]
    assert row["share %"] == pytest.approx(100 * share.mean())
    assert [row["low"], row["high"]] == pytest.approx(100 * bootstrap_band(share[:, None]).ravel())
    assert angular_profile(planes)[1].shape == (COUNT, 12)
