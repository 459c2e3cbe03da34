"""Draw the pictures of the documentation again: `python tools/pictures.py [RUNS]`.

They show `bands/student` by `fam`, trained in the folder RUNS if it is not there, the CIFAR-100 run that comes with the
notebooks, and the saved results of the study. The pictures of the explorers are taken in JupyterLab and on saved pages,
which needs Chromium and playwright.
"""

import io
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image
from tyro.conf import Positional

import famkd
import famviz
from famkd.command_line.main import run_script
from famviz import plots
from famviz.analysis import filters as values
from famviz.analysis import studies
from famviz.figures import amplitude as features
from famviz.figures import cam, style
from famviz.figures.study import cost_figure, difference_figure
from notebooks import SOURCES, paired  # pyright: ignore[reportAttributeAccessIssue]  (notebooks.py beside this file)

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from helpers.browser import ask_kernel, fresh_page, lab, launched, open_notebook, run_all, settled  # noqa: E402

DOCS = ROOT / "docs"
EDGE = 14  # px around an explorer
LEVEL, FILTERS = 0, 3  # of the animation: a level of the run, and how many of its strongest filters are chosen
LARGEST = 300_000  # bytes of a picture
MAP = ".fv-nav .fv-stack canvas"
# Of the 20 strongest filters the one with the clearest direction.
STRIKING = "*[max(list(explorer.table())[:20], key=lambda row: row['coherence'])[name] for name in ('out', 'in')]"


def draw_explorer(path: Path) -> None:
    """Run notebook 3 in JupyterLab and photograph its explorer on the filter with the clearest direction."""
    source = next(each for each in SOURCES if each.stem.startswith("03"))
    folder = Path(tempfile.mkdtemp())
    (folder / f"{source.stem}.ipynb").write_text(paired(source))
    with launched() as browser, lab(folder) as address:
        page = fresh_page(browser)
        open_notebook(page, address, f"{source.stem}.ipynb")
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        run_all(page, timeout=600)
        page.wait_for_selector(".famviz[data-seq]")
        page.locator(".famviz").first.evaluate("(e) => e.closest('.jp-Cell').scrollIntoView()")
        across, down = map(int, ask_kernel(page, "*explorer.filter.channels[::-1]").split())
        out, inn = map(int, ask_kernel(page, STRIKING).split())
        box = page.locator(MAP).first.bounding_box()
        at = (box["x"] + box["width"] * (inn + 0.5) / across, box["y"] + box["height"] * (out + 0.5) / down)
        page.mouse.click(*at)
        settled(page)
        page.screenshot(path=path)
        page.close()
    shrink(path)


def draw_amplitude(run: famkd.Run, path: Path) -> None:
    """Photograph the amplitude explorer of a run as a saved page shows it, with some rings chosen."""
    page_of = Path(tempfile.mkdtemp()) / "page.html"
    famviz.AmplitudeExplorer(run, stage="layer1", network="fam output", rings=[6, 9]).to_html(page_of)
    with launched() as browser:
        page = fresh_page(browser)
        page.goto(f"file://{page_of}")
        page.wait_for_selector(".famviz[data-rebuilt]")
        settled(page)
        box = page.locator(".famviz").bounding_box()
        page.screenshot(path=path, full_page=True, clip=around(box))
        page.close()
    shrink(path)


def around(box: dict[str, float]) -> dict[str, float]:
    """A box with an edge."""
    left, top, width, height = (box[name] for name in ("x", "y", "width", "height"))
    return {"x": left - EDGE, "y": top - EDGE, "width": width + 2 * EDGE, "height": height + 2 * EDGE}


def draw_animation(run: famkd.Run, path: Path) -> None:
    """Film the filter explorer of a run on a saved page: filters are chosen, then the epochs, then the views."""
    page_of = Path(tempfile.mkdtemp()) / "page.html"
    explorer = famviz.FilterExplorer(run, level=LEVEL)
    explorer.to_html(page_of)
    strongest = values.strongest(explorer.filter, FILTERS)
    with launched() as browser:
        page = fresh_page(browser)
        page.set_viewport_size({"width": 1000, "height": 700})
        page.goto(f"file://{page_of}")
        page.wait_for_selector(".famviz[data-seq]")
        settled(page)
        film = Film(page)
        film.take(1200)
        for out, inn in reversed(strongest):  # the strongest one last
            choose(page, explorer, out, inn)
            film.take(900)
        epochs = page.locator(".fv-epoch input")
        for at in range(int(epochs.get_attribute("max") or 0) + 1):
            epochs.fill(str(at))
            film.take(450 if at else 900)
        for view in ("phase", "complex", "kernel", "amplitude"):
            page.select_option(".fv-view select", view)
            film.take(1100)
        film.save(path)
        page.close()


def choose(page, explorer: famviz.FilterExplorer, out: int, inn: int) -> None:
    """Click on a pair of channels in the map of energies."""
    down, across = explorer.filter.channels
    box = page.locator(MAP).bounding_box()
    page.mouse.click(box["x"] + box["width"] * (inn + 0.5) / across, box["y"] + box["height"] * (out + 0.5) / down)


class Film:
    """Pictures of the upper part of an explorer, each with its time in ms."""

    def __init__(self, page):
        box, below = (page.locator(each).first.bounding_box() for each in (".famviz", ".fv-say"))
        self.page = page
        height = below["y"] + below["height"] - box["y"]
        self.clip = around({**box, "height": height})
        self.pictures: list[Image.Image] = []
        self.times: list[int] = []

    def take(self, ms: int) -> None:
        settled(self.page)
        self.pictures.append(Image.open(io.BytesIO(self.page.screenshot(clip=self.clip))).convert("RGB"))
        self.times.append(ms)

    def save(self, path: Path) -> None:
        first, *rest = self.pictures
        first.save(path, save_all=True, append_images=rest, duration=self.times, loop=0, quality=75, method=6)


def draw_figure(figure, path: Path) -> None:
    """Save a figure at the size that notebooks show."""
    with style.context():
        figure.savefig(path, dpi=style.RULES["figure.dpi"])
    shrink(path)


def shrink(path: Path) -> None:
    """Write a picture again without alpha, and in dithered 256 colours if it would be larger than `LARGEST`."""
    with Image.open(path) as image:
        picture = image.convert("RGB")
    picture.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        colours = picture.quantize(256)  # only with a palette of its own does Pillow dither
        picture.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def pictures(runs: Positional[Path] = Path("runs")) -> None:
    """Draw all pictures again.

    Args:
        runs: folder of the run that they show, which is trained if it is missing.
    """
    os.environ["FAMKD_RUNS"] = str(runs.resolve())
    run = famkd.train(famkd.load_recipe("bands/student", "--method", "fam"), runs=runs.resolve(), resume=True)
    parts = {"bands": studies.study("parts_bands"), "20 classes of CIFAR-100": studies.study("parts_cifar20")}
    draw_figure(difference_figure(parts, "fam_review"), DOCS / "parts.png")
    draw_figure(cost_figure(studies.study("methods"), studies.study_costs("methods")), DOCS / "truth.png")
    draw_figure(features.differences_figure(run), DOCS / "differences.png")
    draw_figure(cam.grid_figure(run, 6), DOCS / "cams.png")
    shipped = famviz.open(SOURCES[0].parent / "runs/cifar100/resnet56-resnet20/fam_review-seed0")
    draw_figure(plots.contact_sheet(shipped.filters[0], 16), DOCS / "filters.png")
    draw_explorer(DOCS / "explorer.png")
    draw_amplitude(run, DOCS / "amplitude.png")
    draw_animation(run, DOCS / "explorer.webp")
    for path in sorted([*DOCS.glob("*.png"), *DOCS.glob("*.webp")]):
        print(f"{path.relative_to(DOCS.parent)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    run_script(pictures)
