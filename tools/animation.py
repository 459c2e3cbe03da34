"""Record docs/explorer.webp, a walk through the strongest filters of the run that comes with the notebooks.

It needs Chromium and playwright: `python tools/animation.py`.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

import famviz
from notebooks import SOURCES  # pyright: ignore[reportAttributeAccessIssue]  (notebooks.py beside this file)

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from helpers.browser import fresh_page, launched, settled  # noqa: E402

RUN = SOURCES[0].parent / "runs/cifar100/resnet56-resnet20/fam_review-seed0"
MAP = ".fv-nav .fv-stack canvas"
FILTERS, MILLISECONDS, WIDTH = 12, 900, 1000


def main() -> None:
    """Choose one filter after the other on the map, and save the pictures as one animation."""
    explorer = famviz.FilterExplorer(str(RUN))
    chosen = [row[:2] for row in explorer._meta["levels"][0][0]["table"][:FILTERS]]
    down, across = explorer.filter.channels
    frames = []
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        page = fresh_page(browser)
        page.set_viewport_size({"width": WIDTH, "height": 900})
        explorer.to_html(Path(folder) / "explorer.html")
        page.goto((Path(folder) / "explorer.html").as_uri())
        page.wait_for_selector(".famviz[data-seq]")
        for out, inn in chosen:
            box = page.locator(MAP).first.bounding_box()
            page.mouse.click(
                box["x"] + box["width"] * (inn + 0.5) / across, box["y"] + box["height"] * (out + 0.5) / down
            )
            settled(page)
            frames.append(Image.open(io.BytesIO(page.locator(".famviz").screenshot())).convert("RGB"))
        page.close()
    size = min(frame.width for frame in frames), min(frame.height for frame in frames)
    first, *rest = [frame.crop((0, 0, *size)) for frame in frames]
    path = ROOT / "docs" / "explorer.webp"
    first.save(path, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0, quality=70, method=4)
    print(
        f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB, {size[0]} x {size[1]}, {len(frames)} pictures"
    )


if __name__ == "__main__":
    main()
