"""Epochs of a training in the filter explorer in headless Chromium: filter, wall and table as they were."""

import re

import numpy as np
import pytest
from helpers.browser import pixels, settled, trait
from helpers.famviz_runs import make_run
from helpers.filter_pages import STEP, close

import famviz
from famkd.files import read_tensors, write_tensors
from famviz import spectra

pytest_plugins = ("helpers.browser", "helpers.filter_pages")
pytestmark = pytest.mark.slow


def test_the_slider_replays_the_life_of_a_level(shown, page, runs):
    shown(level=1, mean=True)
    each, (epochs, life) = runs[0].filters[1], runs[0].history(runs[0].filters[1])
    page.locator(".fv-epoch input").fill("0")
    settled(page)
    assert trait(page, "epoch") == epochs[0] == 1
    decibels = spectra.decibel(spectra.full_plane(life[0]["amplitude"], 8), np.abs(each.response).max(), -60)
    table = spectra.colour_table("cividis")
    wanted = table[np.rint((1 + decibels / 60) * 255).astype(int)]
    assert close(pixels(page, ".fv-main .fv-stack canvas"), wanted, STEP + 1, table)
    assert page.locator(".fv-read").inner_text().startswith("Epoch 1")
    assert page.locator(".fv-main figcaption").inner_text() == "epoch 1: RMS of all filters, amplitude |H|, dB"


@pytest.mark.parametrize("view", ["amplitude", "phase", "kernel"])
def test_an_epoch_shows_the_chosen_filter_as_it_was(shown, page, runs, view):
    shown(level=1, view=view, c_out=1, c_in=4)
    each = runs[0].filters[1]
    page.locator(".fv-epoch input").fill("0")
    settled(page)
    then = each.response[1, 4] / 1.5**2  # make_run multiplies all filters by 1.5 between its three epochs
    got = pixels(page, ".fv-main .fv-stack canvas")
    table = spectra.colour_table({"amplitude": "cividis", "phase": "twilight", "kernel": "RdBu_r"}[view])
    plane = spectra.full_plane(then, 8)
    if view == "amplitude":
        decibels = spectra.decibel(plane, np.abs(each.response).max(), -60)
        assert close(got, table[np.rint((1 + decibels / 60) * 255).astype(int)], STEP + 1, table)
    if view == "kernel":
        kernel = spectra.spatial_kernel(then, each.size)
        assert close(got, table[np.rint((kernel / np.abs(kernel).max() + 1) / 2 * 255).astype(int)], 6, table)
    if view == "phase":
        kept = (got[..., 3] == 255) & ~np.isclose(plane.imag, 0, atol=1e-6)
        assert kept.sum() >= 40
        wanted = table[np.rint((np.angle(plane) + np.pi) / (2 * np.pi) * 256).astype(int) % 256]
        assert close(got[kept], wanted[kept], 2, table)
    assert page.locator(".fv-main figcaption").inner_text().startswith("epoch 1: ")
    assert page.locator(".fv-read").inner_text().startswith("Epoch 1: output 1, input 4: energy ")
    assert page.locator(".fv-view select").is_enabled()
    page.check(".fv-mean input")
    settled(page)
    assert page.locator(".fv-read").inner_text() == (
        f"Epoch 1: root mean square over all {each.response[..., 0, 0].size} filters, without phases."
    )


def test_wall_and_table_follow_the_epoch(shown, page, tmp_path):
    run = famviz.open(make_run(tmp_path / "run"))
    each = run.filters[1]
    keep_only(run, epoch=1, count=5)
    explorer = shown(run, level=1, wall="strongest", epoch=1)
    kept = run.summary(each, 1)["pairs"].tolist()
    assert len(kept) == 5
    words = page.locator(".fv-wall-cell figcaption").all_inner_texts()
    assert words == [f"{inn} → {out}" for out, inn in kept]
    assert "31 were not kept after epoch 1." in page.locator(".fv-filters-wall .fv-hint").inner_text()
    assert page.locator("summary").inner_text() == "Filters of the level, epoch 1; – where the run kept no filter"
    rows = explorer.table().rows
    cells = "(rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent))"
    lines = page.locator(".fv-scroll tbody tr").evaluate_all(cells)
    assert len(lines) == len(rows) == each.response[..., 0, 0].size
    dashes = [line[3:] == ["–"] * 4 for line in lines]
    assert dashes.count(False) == 5
    by_pair = {(row["out"], row["in"]): row for row in rows}
    for line in lines:
        row = by_pair[int(line[0]), int(line[1])]
        assert float(line[2].replace("−", "-")) == pytest.approx(row["energy dB"], abs=0.37)
        assert (line[3] == "–") == bool(np.isnan(row["centroid"]))
        if line[3] != "–":
            assert float(line[3]) == pytest.approx(row["centroid"], abs=6e-4)
    page.fill("input[type=search]", "centroid <= 1")
    settled(page)
    assert page.locator(".fv-scroll tbody tr").count() == 5


def keep_only(run, epoch: int, count: int) -> None:
    """Leave so many single filters of an epoch in a run; 0 as older versions wrote it."""
    path = run.run.path / "filters" / f"{epoch:04d}.safetensors"
    found = read_tensors(path)[0]
    alone = {name for name in found if name.endswith(("/pairs", "/strongest"))}
    kept = {name: value[:count].contiguous() if name in alone else value for name, value in found.items()}
    write_tensors(path, {name: value for name, value in kept.items() if count or name not in alone})


def test_an_older_run_says_that_it_kept_no_single_filter(shown, page, tmp_path):
    run = famviz.open(make_run(tmp_path / "run"))
    each = run.filters[1]
    for epoch in (1, 2, 3):
        keep_only(run, epoch, 0)
    shown(run, level=1, view="phase", c_out=0, c_in=0)
    page.locator(".fv-epoch input").fill("0")
    settled(page)
    assert page.locator(".fv-view select").is_disabled()
    assert page.locator(".fv-mean input").is_disabled()
    for at, drawn in enumerate((True, False, False, False)):  # no phase is kept, so only the amplitude is there
        assert page.locator(".fv-thumb").nth(at).is_disabled()
        assert pixels(page, f".fv-thumb:nth-child({at + 1}) canvas")[..., 3].any() == drawn
    box = page.locator(".fv-nav .fv-stack canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.6)
    settled(page)
    assert [trait(page, name) for name in ("epoch", "view", "c_out")] == [1, "phase", 3]
    page.mouse.move(0, 0)
    settled(page)
    energy = run.summary(each, 1)["energy"]
    said = re.search(
        r"^Epoch 1: the run did not keep output 3, input 5 \(energy (.*) dB of the strongest then\)",
        page.locator(".fv-read").inner_text(),
    )
    wanted = 10 * np.log10(energy[3, 5] / energy.max())
    assert float(said[1].replace("−", "-")) == pytest.approx(wanted, abs=0.37)  # two roundings to bytes and one to text
    page.locator(".fv-epoch input").fill("3")  # and back
    settled(page)
    assert page.locator(".fv-main figcaption").inner_text() == "phase, rad"
    assert page.locator(".fv-view select").is_enabled()


def test_a_run_without_that_epoch_says_so(shown, page, runs, tmp_path):
    short = famviz.open(make_run(tmp_path / "short", seed=1, epochs=1))
    shown([runs[0], short], other=short.name, epoch=2)
    assert page.locator(".fv-b figcaption").inner_text() == f"{short.name}: no epoch 2 kept"
    for where in ("b", "diff"):
        assert not pixels(page, f".fv-{where} .fv-stack canvas")[..., 3].any()
    assert f"{short.name} kept no epoch 2: it has 1." in page.locator(".fv-read").inner_text()
    page.evaluate("() => window.famviz[0].set('epoch', 1)")
    settled(page)
    assert pixels(page, ".fv-b .fv-stack canvas")[..., 3].all()
    assert page.locator(".fv-b figcaption").inner_text() == f"{short.name}: epoch 1: amplitude |H|, dB"
