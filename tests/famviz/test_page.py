"""The modules of the widgets: joined to one, with nothing missing, and a page that nothing in it can break."""

import json
import re

import pytest

from famviz.explorer.page import EXPORT, IMPORT, STATIC, WIDGETS, bundle, css, fragment, module, page

MODULES = sorted(path for path in STATIC.rglob("*.js") if path.name != "page.js")


def test_modules_are_joined_in_the_order_of_their_imports_with_scopes_of_their_own(tmp_path):
    (tmp_path / "deep.js").write_text("const own = 1;\nexport const deep = own + 1;\n")
    (tmp_path / "near.js").write_text(
        'import { deep as d } from "./deep.js";\nconst own = 7;\nexport function near() { return d * own; }\n'
    )
    (tmp_path / "top.js").write_text(
        'import { near } from "./near.js";\nimport { deep } from "./deep.js";\nexport default near() + deep;\n'
    )
    text = bundle(tmp_path / "top.js")
    assert text == (
        "const module0 = (() => {\nconst own = 1;\nconst deep = own + 1;\nreturn { deep };\n})();\n"
        "const module1 = (() => {\nconst { deep: d } = module0;\nconst own = 7;\nfunction near() { return d * own; }\n"
        "return { near };\n})();\n"
        "const { near } = module1;\nconst { deep } = module0;\nexport default near() + deep;\n"
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(STATIC).as_posix())
def test_every_import_is_exported_and_used(path):
    text = path.read_text()
    body = IMPORT.sub("", text)
    assert "import " not in re.sub(r"//.*", "", body)
    for names, target in IMPORT.findall(text):
        there = EXPORT.findall((path.parent / target).read_text())
        for name in re.split(r",\s*", names.strip().rstrip(",")):
            assert name in there, (target, name)
            assert re.search(rf"\b{re.escape(name)}\b", body), f"{name} is imported and not used"
    assert len(text.splitlines()) <= 300
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", WIDGETS)
def test_a_widget_is_one_module_that_names_no_other_place(name):
    text = module(name)
    assert not IMPORT.search(text)
    assert len(re.findall(r"^export default ", text, re.MULTILINE)) == len(re.findall(r"\bexport\b", text)) == 1
    assert not re.search(r"https?://(?!www\.w3\.org/)", text + css(name))


def test_a_page_holds_the_widgets_that_it_shows_and_no_value_ends_its_script():
    evil = "</script><script>alert(1)</script>"
    body = fragment("cams", {"word": evil}, {"_b": {"k": b"\x00\xff"}}, [({"kind": evil}, [b"a", b""])])
    text = page(evil, body)
    assert evil not in text
    assert "widgets.cams = " in text
    assert "widgets.filters" not in text
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert json.loads(data) == {
        "traits": {"word": evil}, "buffers": {"_b": {"k": "AP8="}}, "messages": [[{"kind": evil}, ["YQ==", ""]]]
    }  # fmt: skip
