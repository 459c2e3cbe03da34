"""The report, the prepared notebook and the command line."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from helpers.browser import settled
from helpers.famviz_runs import make_run, released_state

import famviz
from famkd.errors import UserError
from famkd.files import write_rows
from famviz import figures as plots
from famviz import report
from famviz.cli import lab, main
from famviz.lab.prepare import prepare_notebook
from famviz.report.looked import Looked
from famviz.report.report import made_sections, opening_sentences
from famviz.report.sections import cam_section, differences_section, not_shown, recipe_section

pytest_plugins = ("helpers.browser", "helpers.famviz_trained")
SMALL = {"shapes": ((2, 5), (2, 4))}
TITLES = ["Filters", "Curves", "How amplitudes differ", "What filters do to features", "Where networks look",
          "Recipe", "Machine"]  # fmt: skip
EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("report") / "run", "--data.root", "nowhere", **SMALL)


@pytest.mark.slow
def test_a_report_is_one_page_that_names_no_other_place(run, tmp_path):
    path = report.write_report(run.path, tmp_path / "deep" / "report.html")
    text = path.read_text()
    assert len(text) < 8e6
    addresses = set(re.findall(r"https?://[^\"'\s<>)]+", text))
    assert {a for a in addresses if not a.startswith("http://www.w3.org/")} == set()  # names of XML, not places
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    left = [title for title in TITLES if title not in TITLES[2:5]]  # what needs data and networks is left out
    assert re.findall(r"<h2>(.*?)</h2>", text) == left
    for section in re.split(r"<section id=\"\w+\"><h2>", text)[1:]:  # each says what it shows
        assert len(re.match(r".*?</h2><p>(.*?)</p>", section)[1].split()) >= 7
    contents = re.search(r"<nav .*?</nav>", text)[0]
    assert re.findall(r">([^<]+)</a>", contents) == left
    for name in re.findall(r'href="#(\w+)"', contents):
        assert text.count(f'<section id="{name}">') == 1
    missing = re.search(r'<p class="missing">(.*?)</p>', text)[1]
    assert missing.startswith(f"Left out: {', '.join(TITLES[2:5])} (There is no file of weights at digits/")
    assert missing.endswith("/none-seed0).")
    curves = text[text.index("<h2>Curves") :].partition("</section>")[0]
    assert 'data-widget="dashboard"' in curves
    (chosen, sheet, *_) = re.findall(r'<img [^>]*alt="(.*?)"', text)
    assert chosen == "The chosen filter in every view."
    assert sheet.startswith("Amplitude spectra of the strongest filters of level 0")
    for each in famviz.open(run).filters:
        assert f"<p>Options of this level: {each.caption}.</p>" in text


def test_a_notebooks_command_is_named_as_such(run, tmp_path):
    kernel = {**run.machine, "command": "/venv/ipykernel_launcher.py -f /tmp/tmp7.json"}
    shown = SimpleNamespace(name="a", run=SimpleNamespace(path=run.path, machine=kernel))
    section = report.machine_section([shown], Looked([]), 1)
    assert "<td>a notebook</td>" in section
    assert "tmp7" not in section


@pytest.mark.slow
@pytest.mark.parametrize("width", [700, 1400])
def test_names_of_facts_stay_on_one_line(run, tmp_path, page, width):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"file://{report.write_report(run.path, tmp_path / 'report.html')}")
    cells = page.locator("table.facts td:first-child")
    heights = cells.evaluate_all("(cells) => cells.map((cell) => { const r = document.createRange();"
                                 " r.selectNodeContents(cell); return r.getClientRects().length; })")  # fmt: skip
    assert "torchvision" in cells.all_inner_texts()
    assert set(heights) == {1}


def test_a_dollar_in_a_name_leaves_no_section_out(tmp_path):
    odd = make_run(tmp_path / "a$_{b$" / "$x^{$", "--data.root", "nowhere", **SMALL)
    curves = report.curves_section(famviz.open([odd.path, odd.path]), Looked([]), 1)
    assert curves.count("a$_{b$/$x^{$") >= 3  # in the legend, its words and the table


@pytest.mark.slow
def test_curves_say_what_the_best_epoch_was_chosen_on(tmp_path):
    plain = make_run(tmp_path / "plain", "--data.root", "nowhere", **SMALL)
    held_out = make_run(tmp_path / "val", "--data.root", "nowhere", "--data.val", "0.1", **SMALL)
    rows = [{key.replace("top", "val_top"): value for key, value in row.items()} for row in held_out.metrics()]
    write_rows(held_out.path / "metrics.jsonl", rows)
    opened = famviz.open([plain.path, held_out.path])
    assert plots.training_curves(opened[0])[1].get_title() == "accuracy on the test set"
    assert plots.training_curves(opened[1])[1].get_title() == "accuracy on held-out images"
    assert plots.training_curves(opened)[1].get_title() == "accuracy on held-out images or the test set"
    section = report.curves_section(opened, Looked([]), 1)
    assert "<td>top-1</td><td>53.00</td><td>53.00</td><td>the test set</td>" in section
    assert "<td>val_top-1</td><td>53.00</td><td>53.00</td><td>held-out images</td>" in section
    held_out.write_test({"last": {"epoch": 3, "top1": 41.0}, "best": {"epoch": 3, "top1": 41.0}})
    section = report.curves_section(opened, Looked([]), 1)
    assert "<td>top-1</td><td>41.00</td><td>41.00</td><td>held-out images</td>" in section


@pytest.mark.slow
def test_a_report_works_in_a_browser_without_a_network(run, tmp_path, page):
    second = make_run(tmp_path / "second", "--data.root", "nowhere", seed=3, **SMALL)
    path = report.write_report([run.path, second.path], tmp_path / "report.html")
    page.context.set_offline(True)
    page.goto(f"file://{path}")
    page.wait_for_selector(".famviz[data-seq]")
    seq = settled(page)
    page.select_option(".fv-other select", index=1)
    assert settled(page) > seq
    assert page.locator(".fv-diff").is_visible()
    assert page.locator(".fv-dashboard .fv-lines").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture(scope="module")
def looked(trained_runs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("famviz.report.looked.IMAGES", 8)  # of the images, so that the tests stay fast
        found = Looked(famviz.open(list(trained_runs.values())))
        assert len(found.comparison) == 8
        yield found


@pytest.mark.slow
def test_runs_of_one_teacher_are_explored_together(looked):
    opened = famviz.open([run.path for run in looked.runs])
    text = differences_section(opened, looked, 2)
    assert 'data-widget="amplitude"' in text
    networks = json.loads(re.search(r"json\">(.*?)</script>", text)[1])["traits"]["_meta"]["networks"]
    assert networks[:4] == ["teacher", "student alone", "student by fam", "student by fam_review"]
    assert re.search(
        r"<details class=\"pictures\"><summary>All stages in one picture</summary><div class=\"figure\">", text
    )
    maps = cam_section(opened, looked, 2)
    traits = json.loads(re.search(r"json\">(.*?)</script>", maps)[1])["traits"]["_meta"]
    assert traits["networks"] == networks[:4]
    assert "The first 2 images in one picture" in maps


def test_the_opening_says_accuracy_spectra_and_maps(looked):
    accuracy, spectra, maps = opening_sentences(famviz.open([run.path for run in looked.runs]), looked)
    first, second = (run.metrics()[-1]["top1"] for run in looked.runs)
    assert f"the student by fam has top-1 {first:.2f} %" in accuracy
    assert f"the student by fam_review has top-1 {second:.2f} %" in accuracy
    assert "from the student alone (n = 1 seed)" in accuracy
    for student in ("student by fam", "student by fam_review"):
        distances = [f"{stage.name} ({stage.rms_db('student alone'):.2f} to {stage.rms_db(student):.2f} dB"
                     for stage in looked.stages]  # fmt: skip
        assert all(distance in spectra for distance in distances)
        agreement = looked.maps.means(student)[0]["rank correlation"]
        assert f"{agreement:.2f} for {student} (" in maps


def test_runs_with_another_teacher_are_named_and_not_shown(trained_runs, run):
    looked = Looked(famviz.open([trained_runs["fam"].path, run.path]))
    assert [each.path for each in looked.others] == [run.path]
    assert "Not shown here, since data or teacher are others than those of the first run: " in not_shown(looked)


def test_settings_that_differ_stand_side_by_side(trained_runs):
    opened = famviz.open(list(trained_runs.values()))
    text = recipe_section(opened, Looked(opened), 1)
    assert re.search(r"<td>method</td><td>fam</td><td>fam_review</td>", text)
    assert "<td>seed</td>" not in text  # which is the same
    assert text.count("<details>") == 2
    machines = report.machine_section(opened, Looked(opened), 1)
    assert machines.count("<table") == 1
    assert re.search(r"<td>torch</td><td>[^<]+</td><td>[^<]+</td>", machines)


def test_what_cannot_be_shown_is_left_out_with_its_reason(tmp_path):
    torch.save(released_state((8,)), tmp_path / "bare.pth")
    opened = [famviz.open(tmp_path / "bare.pth")]
    sections, missing = made_sections(opened, Looked(opened), 1)
    assert [section["title"] for section in sections] == ["Filters"]
    assert missing["A bare checkpoint comes without networks and data."] == [TITLES[2], TITLES[4]]
    assert missing["A bare checkpoint has no recipe."] == ["Recipe"]
    assert sum(map(len, missing.values())) == len(TITLES) - 1
    assert opening_sentences(opened, Looked(opened)) == []


@pytest.mark.slow
def test_a_report_of_trained_runs_holds_every_widget_prints_and_fits_a_phone(trained_runs, tmp_path, page):
    paths = [run.path for run in trained_runs.values()]
    path = report.write_report(paths, tmp_path / "report.html")
    assert path.stat().st_size < 8e6
    page.goto(f"file://{path}")
    for name in ("filters", "dashboard", "amplitude", "cams"):
        page.wait_for_selector(f'[data-widget="{name}"] .famviz canvas, [data-widget="{name}"] .famviz svg')
    page.wait_for_selector(".famviz[data-seq]")
    assert page.locator(".still").first.is_hidden()
    for width in (390, 900, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        settled(page)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator(".live").first.is_hidden()
    assert page.locator(".still img").first.is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    folded = page.locator("details.pictures")
    assert folded.count() > 0
    assert all(folded.evaluate_all("(all) => all.map((each) => each.open)"))
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.slow
def test_what_users_write_is_never_markup(tmp_path, page):
    run = make_run(tmp_path / f"run{EVIL.replace('/', '_')}", "--data.root", "nowhere", **SMALL)
    recipe = run.path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("name: quickstart", f'name: "{EVIL}"'))
    machine = {**run.machine, "device": EVIL, "command": EVIL}
    (run.path / "machine.json").write_text(json.dumps(machine))
    path = report.write_report(run.path, tmp_path / "report.html")
    assert "<img src=x" not in path.read_text()
    page.goto(f"file://{path}")
    page.wait_for_selector(".famviz[data-seq]")
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.slow
def test_the_report_command_says_where_the_page_is(run, tmp_path, capsys):
    main(["report", str(run.path), "-o", str(tmp_path / "r.html")])
    assert re.search(r"r\.html: \d\.\d MB, opens without a network", capsys.readouterr().out)


@pytest.mark.parametrize(("argv", "words"), [
    (["report", "nowhere"], "famviz: There is nothing at nowhere"),
    (["lab", "nowhere"], "famviz: There is nothing at nowhere"),
    (["reprot"], "There is no command 'reprot'. Did you mean report?"),
])  # fmt: skip
def test_mistakes_end_in_a_sentence_and_code_two(argv, words, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_a_wrong_path_is_refused_before_anything_slow_is_imported(python, run, tmp_path):
    (tmp_path / "empty").mkdir()
    code = "import sys\nfrom famviz.cli import main\ntry:\n  main(sys.argv[1:])\nexcept SystemExit as e:\n"
    code += "  print(e.code, {'torch', 'matplotlib'} & set(sys.modules))"
    for argv, words in (
        (["report", "nowhere"], "nothing at nowhere"),
        (["lab", str(tmp_path / "empty")], "no run dir"),
        (["report", str(run.path), "--teacher", "nowhere"], "which --teacher names"),
    ):
        _, out, err = python("-c", code, *argv)
        assert (out.strip(), words in err) == ("2 set()", True)


@pytest.mark.parametrize(("flags", "words"), [
    (["--root", "nowhere"], "There is nothing at nowhere, which --root names."),
    (["--teacher", "nowhere"], "There is nothing at nowhere, which --teacher names."),
    (["--images", "0"], "--images must be at least 1, not 0."),
])  # fmt: skip
def test_wrong_places_of_data_and_teacher_end_in_a_sentence(run, flags, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["report", str(run.path), "-o", str(tmp_path / "r.html"), *flags])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_flags_reach_the_sections_that_need_networks(trained_runs, tmp_path, monkeypatch):
    seen = {}

    def section(runs, looked, images):
        seen["weights"] = [each.recipe.teacher.weights for each in looked.runs]
        seen["root"], seen["images"] = looked.root, images
        raise UserError("enough")

    monkeypatch.setattr("famviz.report.report.SECTIONS", [SimpleNamespace(make=section, title="A")])
    monkeypatch.setattr("famviz.report.report.opening_sentences", lambda runs, looked: [])
    moved = tmp_path / "teacher.pth"
    moved.touch()
    flags = ["--root", str(tmp_path), "--teacher", str(moved), "--images", "3"]
    main(["report", str(trained_runs["fam"].path), "-o", str(tmp_path / "r.html"), *flags])
    assert seen == {"weights": [str(moved)], "root": str(tmp_path), "images": 3}
    assert "Left out: A (enough)." in (tmp_path / "r.html").read_text()


def test_a_kept_notebook_lies_beside_the_run_and_is_opened_again(tmp_path):
    kept = make_run(tmp_path / "run", epochs=1, **SMALL)
    path = lab((str(kept.path),), keep=True)
    assert path == kept.path.resolve() / "look.ipynb"
    path.write_text("mine")
    assert lab((str(kept.path),), keep=True) == path
    assert path.read_text() == "mine"
    assert lab((str(kept.path),)).parent != kept.path


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "famviz report RUN" in capsys.readouterr().out


def test_the_prepared_notebook_opens_its_run(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = prepare_notebook([str(run.path)], tmp_path)
    cells = [cell["source"] for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    names = {}
    exec("".join(cells[0]).removeprefix("%matplotlib inline\n"), names)
    assert [each.student for each in names["run"].filters] == ["layer1", "layer2"]
    assert any("FilterExplorer" in "".join(cell) for cell in cells)


@pytest.mark.parametrize("count", [1, 2])
def test_the_prepared_notebook_has_curves_to_point_at(run, tmp_path, monkeypatch, count):
    monkeypatch.chdir(tmp_path)
    second = make_run(tmp_path / "second", seed=1, **SMALL)
    path = prepare_notebook([str(run.path), str(second.path)][:count], tmp_path)
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    names, shown = {}, {}
    exec(cells[0].removeprefix("%matplotlib inline\n"), names)
    for cell in cells[1:]:
        if cell.split("\n")[-1].startswith(("famviz.hover.", "explorer")):
            *before, last = cell.split("\n")
            exec("\n".join(before), names)
            shown[last.partition("(")[0]] = eval(last, names)
    assert len(shown["famviz.hover.training_curves"].data) == count
    assert len(shown["famviz.hover.radial_curves"].data) == 2  # two levels, or the first of two runs
    assert len(shown["explorer"].runs) == count


def test_lab_hands_further_flags_to_jupyterlab(run, monkeypatch):
    class Became(Exception):
        pass

    def become(program, command):
        raise Became(command)

    monkeypatch.setattr("os.execv", become)
    with pytest.raises(Became) as became:
        main(["lab", str(run.path), "--no-browser", "--port=1"])
    command = became.value.args[0]
    assert command[1:3] == ["-m", "jupyterlab"]
    assert command[-2:] == ["--no-browser", "--port=1"]
    assert command[3].endswith("look.ipynb")
    assert "--LabApp.default_url=/lab/tree/look.ipynb" in command
    with pytest.raises(Became) as became:
        main(["lab", str(run.path), str(run.path), "--port", "1"])
    assert became.value.args[0][-2:] == ["--port", "1"]
