"""The documentation: its navigation holds every page, and the reference has every method, field and public name."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

import famkd
import famviz
from famkd import losses
from famkd.command_line.parse import flags_of
from famkd.config.recipe import Recipe
from famkd.config.sections import method_section
from famkd.methods import METHODS

ROOT = Path(__file__).parents[1]
reference = pytest.importorskip("reference", reason="the tools are not in this checkout")
COPIED = {"contributing.md", "changelog.md", "licences.md"}


def pages(entry) -> list[str]:
    """The files that a part of the navigation names."""
    if isinstance(entry, str):
        return [entry]
    return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]


@pytest.fixture(scope="module")
def nav() -> list[str]:
    return pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])


def test_every_page_is_in_the_navigation(nav):
    missing = sorted({path.name for path in (ROOT / "docs").glob("*.md")} - {*nav})
    assert not missing, f"add a line to nav in mkdocs.yml for docs/{', docs/'.join(missing)}"


def test_every_notebook_is_in_the_navigation(nav):
    sources = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("[0-9]*.py")}
    missing = sorted(sources - {*nav})
    assert not missing, f"add a line to nav in mkdocs.yml for {', '.join(missing)}"


def test_the_navigation_names_only_pages_that_there_are(nav):
    written = {*reference.pages(), *COPIED}
    sources = {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("[0-9]*.py")}
    assert [page for page in nav if page not in written | sources and not (ROOT / "docs" / page).is_file()] == []
    assert len(nav) == len({*nav})


@pytest.fixture(scope="module")
def methods() -> dict[str, str]:
    """The section of each method on its page."""
    parts = re.split(r"^## ", reference.methods_page(), flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part for part in parts}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_its_code_its_source_its_options_and_its_cost(methods, name):
    text = methods[name]
    assert "Code of the loss" in text
    assert re.search(r"et al\.|Source:|\d{4}", text.split("Code of the loss")[0])
    for option in flags_of(method_section(name)):
        assert re.search(rf"^\| `{option}` \| .+ \| .+ \| \S.* \|$", text, re.MULTILINE), option
    assert re.search(r"\*\*Cost:\*\* [\d,]+ trained parameters; [\d.]+ MFLOP", text), "run tools/method_costs.py"
    assert "Options for each pair" in text or "the defaults count" in text


def test_the_options_of_a_pair_are_those_of_its_recipe(methods):
    row = next(line for line in methods["dkd"].splitlines() if "`cifar100/resnet56-resnet20`" in line)
    assert row.strip() == "| `cifar100/resnet56-resnet20` | beta 2 |"


def test_every_field_of_a_recipe_is_explained():
    text = reference.recipe_page()
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}
    for name, flag in flags_of(Recipe).items():
        if name == flag.name:
            section, _, field = name.rpartition(".")
            row = re.search(rf"^\| `{field}` \| .+ \| .+ \| (.*) \|$", sections[section or "Top level"], re.MULTILINE)
            assert row, name
            assert len(row[1]) > 10, name


@pytest.mark.parametrize("package", [famkd, losses, famviz], ids=lambda each: each.__name__)
def test_every_public_name_has_a_section_that_finds_it(package):
    text = reference.names_page(package)
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.ismodule(value) and not callable(value):
            continue
        place = re.search(rf"^## {package.__name__}\.{name}\n\n::: (\S+)$", text, re.MULTILINE)
        assert place, name
        module, _, attribute = place[1].rpartition(".")
        found = getattr(__import__(module, fromlist=["_"]), attribute)
        assert found is value or inspect.ismodule(value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fam", "crd", "kd"])
def test_costs_are_those_of_the_code(name):
    import method_costs

    _, parameters, mflop = method_costs.cost(name, batch_size=8 if name != "crd" else 64)
    row = reference.costs()[name]
    assert int(row["parameters"]) == parameters
    assert float(row["mflop"]) == pytest.approx(mflop, rel=0.01, abs=1e-3)


WIDGET = """# ---
# jupyter:
#   kernelspec:
#     name: python3
#     display_name: Python 3
#     language: python
# ---

# %% [markdown]
# # A notebook
# %%
import ipywidgets
from pathlib import Path
class Page(ipywidgets.HTML):
    def to_html(self, path):
        Path(path).write_text("<p>alive</p>", encoding="utf-8")
print("text")
Page()
# %%
ipywidgets.HTML()
"""


@pytest.mark.slow
def test_a_widget_of_a_notebook_becomes_a_page_in_its_page(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs")
    import run_notebooks
    import site_hook

    source = tmp_path / "11_new.py"
    source.write_text(WIDGET)
    monkeypatch.setattr(site_hook, "EXECUTED", tmp_path / "executed")
    run_notebooks.run(source, tmp_path, tmp_path / "executed")
    made = site_hook.notebook(source)
    frames = re.findall(r'<iframe class="widget".* src="(.*)"></iframe>', made["notebooks/11_new.md"])
    assert frames == ["11_new-1-1.html"]
    assert made[f"notebooks/{frames[0]}"] == b"<p>alive</p>"
    assert "``` { .text .printed .wrapped }\ntext\n```" in made["notebooks/11_new.md"]
    assert site_hook.NO_OUTPUTS not in made["notebooks/11_new.md"]


def test_what_a_cell_prints_line_by_line_is_one_box(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs")
    import nbformat
    import site_hook

    def printed(text: str, stream: str = "stdout"):
        return nbformat.v4.new_output("stream", name=stream, text=text)

    cell = nbformat.v4.new_code_cell("run()")
    cell.outputs = [
        printed("epoch 1\r\n"), printed("epoch 2\n"), nbformat.v4.new_output("display_data", {"text/plain": "shown"}),
        printed("a  b\n"), printed("c  d\n"), printed("careful\n", "stderr"),
    ]  # fmt: skip
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])
    nbformat.write(book, tmp_path / "11_new.ipynb")
    monkeypatch.setattr(site_hook, "EXECUTED", tmp_path)
    page = site_hook.notebook(tmp_path / "11_new.py")["notebooks/11_new.md"]
    boxes = re.findall(r"^``` \{ .text .printed(.*?) \}\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    wrapped = " .wrapped"
    assert boxes == [(wrapped, "epoch 1\nepoch 2"), (wrapped, "shown"), ("", "a  b\nc  d"), (wrapped, "careful")]


def test_formulas_of_a_notebook_are_drawn_without_a_script(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs")
    import markdown
    import site_hook

    monkeypatch.setattr(site_hook, "EXECUTED", tmp_path)
    source = tmp_path / "11_new.py"
    text = "# # Title\n#\n# $N^2$ is large.\n#\n# | $|H|$ | `b` |\n# | --- | --- |\n# | $2N$ | 1 |\n#\n# $$a +\n# b$$\n"
    source.write_text(f"# %% [markdown]\n{text}")
    page = site_hook.notebook(source)["notebooks/11_new.md"]
    html = markdown.markdown(page, extensions=["tables", "md_in_html"])
    assert "$" not in html
    assert re.findall(r"<math [^>]*display=\"(\w+)\"", html) == ["inline", "inline", "inline", "block"]
    assert re.search(r"<p><span><math.*</math></span> is large\.</p>", html)
    assert re.search(r"<th><span><math.*</math></span></th>\s*<th><code>b</code></th>", html)
