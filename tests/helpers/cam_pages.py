"""What tests of the CAM explorer do with a page, saved or live."""

from helpers.browser import settled

ACROSS, DOWN = (f"(dots) => dots.map((dot) => +dot.getAttribute('{name}'))" for name in ("cx", "cy"))
PICTURE, TEACHER, STUDENT = ".fv-picture", ".fv-map >> nth=0", ".fv-map >> nth=1"


def drawn(page, image: int) -> None:
    """Wait until the maps of an image are drawn and nothing is left to draw."""
    page.wait_for_function("(image) => document.querySelector('.famviz').dataset.image === String(image)", arg=image)
    page.wait_for_function("() => document.querySelector('.fv-cams:not(.fv-wait)')")
    settled(page)


def listed(page) -> int:
    """How many images pass the filters, as the page says."""
    text = page.locator(".fv-pages span").first.inner_text()
    return 0 if text.startswith("no image") else int(text.rpartition(" ")[2])
