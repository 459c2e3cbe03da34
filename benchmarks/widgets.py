"""Time what a reader of the widgets waits for: a drawing after a key press, and the class activation map of an image.

python benchmarks/widgets.py [--presses 60] [--images 20] [--threads 2]

Keys are pressed in headless Chromium on saved pages, which needs Chromium and playwright: of the filter explorer with
64 x 64 filters of 32 x 32 pixels, and of the CAM and the amplitude explorer with two ResNets on images of 224 x 224. A
time runs from the event of the key to the first task after the frame in which the drawing was painted. In the amplitude
explorer keys move the band, also before the maps of the last one were rebuilt. The maps are those that the kernel
computes for an image that it has not seen: reading, the forward passes, Grad-CAM, and the figures. Weights and images
are random, which changes no time. Prints median, quartiles, range and n.
"""

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torchvision.models import resnet18, resnet34

import famviz
from famkd.command_line.main import run_script
from famviz.analysis.cam_store import CamStore, Choice

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.browser import fresh_page, launched, settled
from helpers.famviz_runs import make_run

HELD = 12  # images in the pages of the CAM and the amplitude explorer
RINGS = 20  # of the stage of 56 x 56 px that a band goes through
TIMER = """([selector, name]) => { window.times = [];
    const shown = () => document.querySelector(selector).dataset[name];
    addEventListener("keydown", (event) => {
      const before = shown();
      const look = () => {
        if (shown() === before) return requestAnimationFrame(look);
        const after = new MessageChannel();
        after.port1.onmessage = () => window.times.push(performance.now() - event.timeStamp);
        after.port2.postMessage(0);
      };
      requestAnimationFrame(() => { // after those of this frame, the widget's among them
        const drawn = new MessageChannel();
        drawn.port1.onmessage = look;
        drawn.port2.postMessage(0);
      });
    }, true); }"""


def summary(times: Sequence[float], unit: str) -> str:
    low, median, high = statistics.quantiles(times, n=4)
    digits = 0 if unit == "ms" else 2
    return (
        f"median {median:.{digits}f} {unit} (quartiles {low:.{digits}f} and {high:.{digits}f}, "
        f"range {min(times):.{digits}f} to {max(times):.{digits}f}, n {len(times)})"
    )


def key_times(page, file: Path, focus: str, drawn: tuple[str, str], keys: Sequence[str], presses: int) -> list[float]:
    """Milliseconds from each key press to its drawing; `drawn` is an element and the datum that a drawing changes."""
    page.goto(f"file://{file}")
    page.wait_for_selector(".famviz[data-seq]")
    settled(page)
    page.focus(focus)
    page.evaluate(TIMER, list(drawn))
    for at in range(presses):
        page.keyboard.press(keys[at % len(keys)])
        page.wait_for_function("(count) => window.times.length === count", arg=at + 1)
    return page.evaluate("() => window.times")


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), np.uint8)


def compared(names: Sequence[str], count: int) -> famviz.NetworkComparison:
    """ResNets with random weights on random images (count, 224, 224, 3)."""
    torch.manual_seed(0)
    kinds = {"resnet34": resnet34, "resnet18": resnet18}
    return famviz.compare_networks({name: kinds[name]() for name in names}, random_images(count), crop=1.0)


def map_times(names: Sequence[str], count: int) -> tuple[list[float], list[float]]:
    """Seconds, passed and of the processor, for the maps of each of `count` images; a first one finds the layer."""
    comparison = compared(names, count + 1)
    store, times, worked = CamStore(comparison), [], []
    for at in range(count + 1):
        start, work = time.perf_counter(), time.process_time()
        comparison.pixels([at])
        comparison.predict([at])
        store.maps([at], Choice(target="reference"))
        times.append(time.perf_counter() - start)
        worked.append(time.process_time() - work)
    return times[1:], worked[1:]


def print_key_times(folder: Path, presses: int) -> None:
    filters, cams, amplitude = (folder / f"{name}.html" for name in ("filters", "cams", "amplitude"))
    run = make_run(folder / "run", epochs=1, shapes=((64, 32),))
    famviz.FilterExplorer(run, c_out=0, c_in=0).to_html(filters, budget=16 << 20)
    comparison = compared(("resnet34", "resnet18"), HELD)
    explorer = famviz.CamExplorer(comparison)
    explorer.to_html(cams, choices=[explorer.choice], budget=64 << 20)
    famviz.AmplitudeExplorer(comparison, stage="layer1", rings=[1, 1]).to_html(amplitude)
    with launched() as browser:
        page = fresh_page(browser)
        print(f"Chromium {browser.version}, a window of {page.viewport_size}")
        drawn, focus = (".fv-main .fv-stack canvas", "seq"), ".fv-nav .fv-stack canvas"
        times = key_times(page, filters, focus, drawn, ("ArrowRight", "ArrowDown"), min(presses, 120))
        print(f"filter explorer, a key to its drawing: {summary(times, 'ms')}")
        back_and_forth = ["ArrowRight"] * (HELD - 1) + ["ArrowLeft"] * (HELD - 1)
        times = key_times(page, cams, ".fv-wall", (".famviz", "image"), back_and_forth, presses)
        print(f"CAM explorer, a key to its drawing: {summary(times, 'ms')}")
        outward = ["ArrowRight"] * (RINGS - 1) + ["ArrowLeft"] * (RINGS - 1)
        times = key_times(page, amplitude, ".fv-amplitude .fv-diagram", (".famviz", "seq"), outward, presses)
        print(f"amplitude explorer, a key to its drawing: {summary(times, 'ms')}")


def widgets(presses: int = 60, images: int = 20, threads: int = 2) -> None:
    """Time the maps of new images, then key presses on saved pages.

    Args:
        presses: of keys, at most 120 for the filter explorer.
    """
    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, torch {torch.__version__}, "
          f"{threads} threads")  # fmt: skip
    for names in (("resnet18",), ("resnet34", "resnet18")):
        times, worked = map_times(names, images)
        print(f"maps of a new image at 224 px, {' and '.join(names)}: {summary(times, 's')}")
        print(f"    time of the processor, which other programs do not lengthen much: {summary(worked, 's')}")
    with tempfile.TemporaryDirectory() as folder:
        print_key_times(Path(folder), presses)


if __name__ == "__main__":
    run_script(widgets)
