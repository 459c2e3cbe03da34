"""The built site: no warning, no dead link, and each page in headless Chromium at two widths, light and dark."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers.processes import HANG

pytest.importorskip("mkdocs", reason="the site needs pip install famkd[docs]")
pytest_plugins = ("helpers.browser",)
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
WIDTHS = (390, 1440)
QUIET = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a note about the future of MkDocs


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built strictly from a copy of the repository in which no network can be reached."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    if shutil.which("unshare") and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0:
        command = ["unshare", "-rn", *command]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=4 * HANG, env=QUIET)
    assert built.returncode == 0, (built.stdout + built.stderr)[-3000:]
    assert "WARNING" not in built.stderr
    return folder


class Links(HTMLParser):
    """The links and the ids of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.ids.add(value)


def _pages(site: Path) -> list[Path]:
    """The pages of the theme, not those of widgets. 404.html has links for a server."""
    pages = [path for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    return [path for path in pages if "data-md-color-scheme" in path.read_text(encoding="utf-8")]


def test_every_link_leads_to_a_file_and_a_section(site):
    pages = {path: Links(path.read_text()) for path in _pages(site)}
    assert len(pages) > 30
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids
            ):
                dead.append((path.name, link))
    assert not dead, dead[:20]


def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", path.read_text()):
            if 'rel="canonical"' not in tag:
                assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag), (path.name, tag)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_two_widths(site, page, scheme):
    page.emulate_media(color_scheme=scheme)
    wide = []
    for path in _pages(site):
        page.goto(path.as_uri())
        assert page.get_attribute("body", "data-md-color-scheme") == {"light": "default", "dark": "slate"}[scheme]
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            over = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
            if over > 0:
                wide.append((path.relative_to(site).as_posix(), width, over))
    assert not wide


def test_the_search_finds_a_page_from_a_file(site, page):
    page.goto((site / "index.html").as_uri())
    page.set_viewport_size({"width": 1440, "height": 900})
    page.click(".md-search__input")
    page.type(".md-search__input", "layer_decay")
    page.wait_for_selector(".md-search-result__item a")
    links = page.eval_on_selector_all(".md-search-result__item a", "(all) => all.map((each) => each.href)")
    assert any("recipe.html" in link for link in links)
    page.click(".md-search-result__item a")
    page.wait_for_url("**/*.html*")


def test_the_explorer_is_alive(site, page):
    page.goto((site / "explorer.html").as_uri())
    page.wait_for_selector(".famviz[data-seq]")
