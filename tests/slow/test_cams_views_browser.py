"""The views of all images in the CAM explorer, on a saved page: their figures against Python, and what a click does."""

import numpy as np
import pytest
from helpers.browser import settled, trait
from helpers.cam_networks import COUNT, comparison
from helpers.cam_pages import ACROSS, DOWN, drawn, listed

import famviz

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow
ROWS = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"


@pytest.fixture(scope="module")
def shown():
    found = comparison()
    found.predict()
    return found


@pytest.fixture
def opened(page, shown, tmp_path):
    """A function that opens a page with a view; returns the explorer in Python."""

    def show(view, source=None, **traits):
        explorer = famviz.CamExplorer(source or shown, view=view, **traits)
        explorer.to_html(tmp_path / "page.html", choices=[explorer.choice])
        page.goto(f"file://{tmp_path / 'page.html'}")
        drawn(page, explorer.image)
        return explorer

    return show


def cell(page, view: str, i: int, j: int) -> tuple[float, float]:
    """The middle of a cell of a grid, in px of the window."""
    page.locator(f".fv-{view} .fv-heat").scroll_into_view_if_needed()
    tiles = page.locator(f".fv-{view} .fv-tile")
    columns = round(tiles.count() ** 0.5) if view == "confusion" else 3
    box = tiles.nth(i * columns + j).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def present(counts: np.ndarray) -> list[int]:
    return np.flatnonzero(counts.sum(0) + counts.sum(1)).tolist()


def test_a_cell_of_the_confusion_filters_the_wall(opened, page, shown):
    opened("confusion")
    counts = shown.confusion("student").counts
    classes = present(counts)
    texts = page.locator(".fv-confusion text").all_text_contents()[-(len(classes) ** 2) :]
    assert texts == [str(n or "") for n in counts[np.ix_(classes, classes)].ravel()]
    i, j = np.unravel_index(np.where(np.eye(len(counts)), 0, counts).argmax(), counts.shape)
    at = cell(page, "confusion", classes.index(i), classes.index(j))
    page.mouse.move(*at)
    assert page.locator(".fv-read").inner_text() == f"true class kind {i}, student says kind {j}: {counts[i, j]}"
    page.mouse.click(*at)
    settled(page)
    assert (trait(page, "only_class"), trait(page, "only_answer")) == (i, j)
    assert listed(page) == counts[i, j] > 0
    assert page.locator(".fv-left .fv-answer input").input_value() == f"kind {j}"
    page.mouse.click(*at)
    settled(page)
    assert listed(page) == COUNT
    page.focus(".fv-confusion .fv-heat")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):  # the first key shows the first cell
        page.keyboard.press(key)
    settled(page)
    assert (trait(page, "only_class"), trait(page, "only_answer")) == (classes[1], classes[1])
    assert listed(page) == counts[classes[1], classes[1]]


def test_classes_are_listed_with_their_shares(opened, page, shown):
    opened("classes")
    right = {name: shown.logits[name].argmax(1) == shown.labels for name in shown.names}
    same = shown.logits["teacher"].argmax(1) == shown.logits["student"].argmax(1)
    rows = {row[0]: row[1:] for row in page.locator(".fv-classes tbody tr").evaluate_all(ROWS)}
    assert set(rows) == {f"kind {label}" for label in shown.labels}
    for label in np.unique(shown.labels):
        own = shown.labels == label
        shares = [float(np.mean(each[own])) for each in (same, right["teacher"], right["student"])]
        sure = [shown.answers[name].probabilities[own].max(1).mean() for name in shown.names]
        found = [float(text.removesuffix(" %")) for text in rows[f"kind {label}"]]
        assert found == pytest.approx([own.sum(), *(100 * share for share in shares), *sure], abs=0.51)
        assert found[4:] == pytest.approx(sure, abs=0.006)
    page.locator(".fv-classes tbody tr").first.click()
    settled(page)
    assert listed(page) == (shown.labels == trait(page, "only_class")).sum() < COUNT


def test_calibration_is_that_of_python(opened, page, shown):
    opened("calibration")
    words = page.locator(".fv-calibration .fv-legend div").all_inner_texts()
    for text, name in zip(words, shown.names, strict=True):
        assert text.startswith(f"■ {name}: expected calibration error ")
        assert float(text.rpartition(" ")[2]) == pytest.approx(shown.calibration(name).error, abs=0.001)
    page.focus(".fv-calibration .fv-lines")
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    found = shown.calibration("teacher"), shown.calibration("student")
    least = min((each.confidence[each.counts > 0][0], each) for each in found)[1]
    first = int(np.flatnonzero(least.counts)[0])
    wanted = (
        f"{least.network}: sure {least.confidence[first]:.2f} on average, "
        f"right in {100 * least.accuracy[first]:.0f} % of {least.counts[first]}"
    )
    assert wanted in page.locator(".fv-read").inner_text()


def test_similarities_of_stages_are_those_of_python(opened, page, shown):
    opened("CKA")
    values = shown.cka("teacher", "student", range(COUNT)).values
    texts = page.locator(".fv-cka text").all_text_contents()[-values.size :]
    assert [float(text.replace("−", "-")) for text in texts] == pytest.approx(values.ravel().tolist(), abs=0.006)
    page.mouse.move(*cell(page, "cka", 2, 0))
    assert page.locator(".fv-read").inner_text().startswith("teacher layer3, student layer1: CKA ")


def test_embeddings_stand_side_by_side_and_choose(opened, page, shown):
    opened("embedding")
    points = shown.embedding()
    ends = [f(np.concatenate(list(points.values())), 0) for f in (np.min, np.max)]
    low, high = np.minimum(ends[0], -1), np.maximum(ends[1], 1)
    for at, name in enumerate(shown.names):
        dots = page.locator(".fv-embeddings .fv-scatter").nth(at).locator(".fv-dot")
        share = (points[name] - low) / (high - low)
        np.testing.assert_allclose(dots.evaluate_all(ACROSS), 44 + share[:, 0] * (300 - 54), atol=0.2)
        np.testing.assert_allclose(dots.evaluate_all(DOWN), 216 - share[:, 1] * 208, atol=0.2)
    page.locator(".fv-embeddings .fv-scatter").nth(1).focus()
    page.keyboard.press("ArrowRight")
    order = np.argsort(points["student"][:, 0]).tolist()
    drawn(page, order[order.index(0) + 1] if order[-1] else 0)


def test_confidences_of_both_show_where_answers_differ(opened, page, shown):
    opened("confusion", plot="confidences")
    sure = [shown.answers[name].probabilities.max(1) for name in shown.names]
    dots = page.locator(".fv-diagram .fv-dot")
    np.testing.assert_allclose(dots.evaluate_all(ACROSS), 44 + sure[0] * (340 - 54), atol=0.2)
    np.testing.assert_allclose(dots.evaluate_all(DOWN), 216 - sure[1] * 208, atol=0.2)
    unlike = shown.logits["teacher"].argmax(1) != shown.logits["student"].argmax(1)
    assert page.locator(".fv-diagram .fv-dot.fv-bad").count() == unlike.sum() > 0


@pytest.mark.parametrize("view", ["confusion", "classes", "calibration", "CKA", "embedding"])
@pytest.mark.parametrize("width", [390, 900])
def test_no_view_is_wider_than_the_page(opened, page, view, width):
    page.set_viewport_size({"width": width, "height": 900})
    opened(view)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_images_without_labels_are_compared_with_the_reference(opened, page):
    unlabelled = comparison(labelled=False)
    opened("confusion", unlabelled)
    counts = unlabelled.confusion("teacher", "student").counts
    classes = present(counts)
    texts = page.locator(".fv-confusion text").all_text_contents()[-(len(classes) ** 2) :]
    assert texts == [str(n or "") for n in counts[np.ix_(classes, classes)].ravel()]
    assert "teacher says" in page.locator(".fv-confusion").text_content()
