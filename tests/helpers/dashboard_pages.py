"""What tests read of a dashboard in a page."""

# Pairs of texts that lie over one another.
OVERLAPS = """() => { const boxes = [...document.querySelectorAll(".famviz svg text, .famviz td, .famviz th, "
    + ".famviz .fv-legend span, .famviz figcaption, .famviz b, .famviz .fv-x span, .famviz .fv-y span")]
      .filter((node) => node.textContent.trim() && node.checkVisibility())
      .map((node) => { const range = document.createRange(); range.selectNodeContents(node);
        const own = node.getBoundingClientRect(), text = range.getBoundingClientRect();
        const [left, right] = [Math.max(own.left, text.left), Math.min(own.right, text.right)];
        return [node.textContent, left, right, text.top, text.bottom];
      });
    return boxes.flatMap((a, n) => boxes.slice(n + 1).filter((b) =>
      a[1] < b[2] - 1 && b[1] < a[2] - 1 && a[3] < b[4] - 2 && b[3] < a[4] - 2).map((b) => [a[0], b[0]])); }"""


def legend(page, chart: str) -> list[tuple[str, str]]:
    """Names and values of a diagram's legend."""
    rows = page.locator(f".fv-chart-{chart} .fv-legend > div").evaluate_all(
        "(rows) => rows.map((row) => [...row.querySelectorAll('span')].map((each) => each.textContent))"
    )
    return [tuple(row) for row in rows]
