"""The explorer of a large level in a browser, with a kernel that answers, and as a saved page."""

import base64

import pytest
from helpers.famviz_runs import make_large_run

import famviz
from famviz import load, survey
from famviz.analysis.filter_search import search
from famviz.explorer.page import fragment
from famviz.explorer.page import page as page_of

CHANNELS = 300
TRAITS = ("_figures", "_rows", "_large")

# In the place of a page's own `send`: questions go to a kernel, traits and answers come back.
ASK = """
  window.apply = ({ traits, parts, messages }) => {
    const model = window.famviz[0], bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    for (const name in traits) model.set(name, traits[name]);
    for (const name in parts) {
      model.set(name, Object.fromEntries(Object.entries(parts[name]).map(([key, text]) => [key, bytes(text)])));
    }
    for (const [content, buffers] of messages) model.emit("msg:custom", content, buffers.map(bytes));
  };
  window.ask = async (question) => window.apply(await window.kernel(question, {}));
"""
TELL = """() => {
  const model = window.famviz[0], set = model.set, told = ["c_out", "c_in", "wall", "mean", "level", "search"];
  model.set = async (name, value) => {
    const is_new = model.get(name) !== value;
    set(name, value);
    if (is_new && told.includes(name)) window.apply(await window.kernel(null, { [name]: value }));
  };
}"""

pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    return make_large_run(tmp_path_factory.mktemp("wide") / "run", CHANNELS)


@pytest.fixture
def live(page, wide, tmp_path, monkeypatch):
    """The explorer in a page whose questions it answers."""
    monkeypatch.setattr(load, "LARGE", 0)
    monkeypatch.setattr(survey, "BLOCK", 1 << 18)
    monkeypatch.setattr("famviz.explorer.large_levels.SECONDS", 0)
    explorer = famviz.FilterExplorer(wide.path)
    sent = []
    explorer.send = lambda content, buffers=None: sent.append((content, buffers or []))

    def coded(name):
        return {key: base64.b64encode(value).decode() for key, value in getattr(explorer, name).items()}

    def kernel(question, traits):
        for name, value in traits.items():
            setattr(explorer, name, value)
        if question:
            explorer._answer(None, question, [])
        messages = [[content, [base64.b64encode(part).decode() for part in parts]] for content, parts in sent]
        sent.clear()
        return {"traits": {"_figures": explorer._figures}, "parts": {name: coded(name) for name in TRAITS[1:]},
                "messages": messages}  # fmt: skip

    buffers = {name: getattr(explorer, name) for name in ("_whole", *TRAITS[1:])}
    traits = {"_meta": explorer._meta, "_figures": explorer._figures, **explorer.chosen()}
    text = page_of("live", fragment("filters", traits, buffers))
    assert "send() {}," in text
    (tmp_path / "page.html").write_text(text.replace("send() {},", "send: (question) => window.ask(question),"))
    page.add_init_script(ASK)
    page.expose_function("kernel", kernel)
    page.goto(f"file://{tmp_path / 'page.html'}")
    page.wait_for_selector(".famviz[data-seq]")
    page.evaluate(TELL)
    return explorer


def wait_for(page, what: str, *given) -> None:
    page.wait_for_function(what, arg=list(given), timeout=300_000)


def test_the_page_reads_the_level_to_its_end_and_answers_for_all_of_it(page, live):
    wait_for(page, "() => window.famviz[0].get('_figures')['0.0'].large.complete")
    wait_for(page, "() => !document.querySelector('.fv-options').textContent.includes('read so far')")
    page.locator("input[type=search]").fill("out = 3, centroid > 0.4")
    pairs, count = search(live.filter.survey, "out = 3, centroid > 0.4")
    wait_for(page, f"() => document.querySelector('.famviz').innerText.includes('{count} of {CHANNELS**2:,}')")
    cells = page.locator("tbody tr").first.locator("td").all_inner_texts()
    assert [int(cell) for cell in cells[:2]] == pairs[0].tolist()
    page.locator("tbody tr").first.click()
    wait_for(page, "([out, inn]) => window.famviz[0].get('c_out') === out && window.famviz[0].get('c_in') === inn",
             *pairs[0].tolist())  # fmt: skip
    wait_for(page, "([inn]) => `0.0.in${inn}` in window.famviz[0].get('_rows')", int(pairs[0][1]))
    wait_for(page, "([inn]) => document.querySelector('.fv-read').textContent.includes(`input ${inn}: energy`)",
             int(pairs[0][1]))  # fmt: skip


def test_a_click_on_the_map_chooses_the_strongest_filter_of_the_block(page, live):
    wait_for(page, "() => window.famviz[0].get('_figures')['0.0'].large.complete")
    box = page.locator(".fv-nav canvas").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    row, column = page.evaluate("""() => [window.famviz[0].get('c_out'), window.famviz[0].get('c_in')]""")
    block = live.filter.energy()[row // 2 * 2 : row // 2 * 2 + 2, column // 2 * 2 : column // 2 * 2 + 2]
    assert block.max() == live.filter.energy()[row, column]
    assert abs(row - CHANNELS / 2) < 6
    assert abs(column - CHANNELS / 2) < 6


def test_the_walls_show_what_is_held(page, live):
    page.evaluate("() => window.famviz[0].set('wall', 'output')")
    wait_for(page, "() => document.querySelectorAll('.fv-wall-cell').length === 128")
    page.evaluate("() => window.famviz[0].set('wall', 'strongest')")
    wait_for(page, "() => document.querySelectorAll('.fv-wall-cell').length === 48")


@pytest.mark.parametrize("width", [1440, 390])
def test_a_saved_page_says_what_it_holds(page, wide, tmp_path, monkeypatch, width):
    monkeypatch.setattr(load, "LARGE", 0)
    page.set_viewport_size({"width": width, "height": 900})
    explorer = famviz.FilterExplorer(wide.path)
    explorer.to_html(tmp_path / "page.html", budget=1 << 20)
    page.goto(f"file://{tmp_path / 'page.html'}")
    page.wait_for_selector(".famviz[data-seq]")
    assert f"20,000 of the 20,000 strongest of {CHANNELS**2:,}" in page.locator(".famviz").inner_text()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.locator("input[type=search]").fill("in = 299")
    rows = "() => [...document.querySelectorAll('tbody tr')].map((row) => row.children[1].textContent)"
    wait_for(page, f"() => ((found) => found.length && found.every((text) => text === '299'))(({rows})())")
    assert page.evaluate("() => window.famviz[0].get('search')") == "in = 299"
    page.evaluate("() => window.famviz[0].set('c_in', 299)")
    page.wait_for_function("() => document.querySelector('.fv-read').textContent.length > 0")
