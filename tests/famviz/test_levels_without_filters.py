"""Runs in which only some levels have a frequency filter are opened, measured and shown like others."""

from dataclasses import replace

import pytest
from helpers.famviz_runs import make_run

import famviz
from famkd.training.loop import train
from famviz.analysis.effect import effect_table
from famviz.analysis.effect_image import ImageEffects
from famviz.report import write_report

pytest_plugins = ("helpers.famviz_trained", "helpers.browser")


def test_a_run_is_opened_with_the_filters_that_it_has(tmp_path):
    (only,) = famviz.open(make_run(tmp_path / "run", filter_levels=(2,))).filters
    assert (only.title, only.size) == ("level 1 (layer2)", (8, 8))


def test_the_explorer_shows_it_beside_a_run_with_all_filters(tmp_path):
    whole, some = make_run(tmp_path / "whole"), make_run(tmp_path / "some", filter_levels=(2,))
    for runs in ([whole, some], [some, whole]):
        explorer = famviz.FilterExplorer(runs)
        explorer.other = explorer.runs[1].name
        assert explorer.to_html()
        explorer.close()
    explorer = famviz.FilterExplorer(some)
    assert explorer.filter.title == "level 1 (layer2)"
    explorer.close()


def test_the_explorer_compares_levels_by_their_number(tmp_path):
    shapes = ((4, 8), (4, 8))  # so that any two filters could be compared
    whole, some = (
        make_run(tmp_path / "whole", shapes=shapes),
        make_run(tmp_path / "some", filter_levels=(2,), shapes=shapes),
    )
    explorer = famviz.FilterExplorer([some, whole], budget=0)
    explorer.other = explorer.runs[1].name
    assert explorer._compared() is explorer.runs[1].filters[1]
    assert set(explorer._rows) == {f"{place}.{explorer.c_out}" for place in ("0.0", "1.1")}
    explorer.close()
    explorer = famviz.FilterExplorer([whole, some], budget=0)
    explorer.other = explorer.runs[1].name
    assert explorer._compared() is None
    explorer.level = 1
    assert explorer._compared() is explorer.runs[1].filters[0]
    assert set(explorer._rows) == {f"{place}.{explorer.c_out}" for place in ("0.1", "1.0")}
    explorer.close()


def test_levels_of_another_method_are_found_by_their_number(tmp_path):
    (own,), other = (
        famviz.open(make_run(tmp_path / "some", filter_levels=(2,))).filters,
        famviz.open(make_run(tmp_path / "whole")),
    )
    assert other.same_level(own) == 1
    assert other.same_level(replace(own, path="fam.stages.1.0.filter")) == 1
    assert other.same_level(replace(own, path="fam.stages.7.0.filter", index=7)) is None


@pytest.mark.slow
def test_the_report_of_both_is_written(tmp_path):
    runs = [make_run(tmp_path / name, "--data.root", "nowhere", filter_levels=levels)
            for name, levels in (("whole", ()), ("some", (2,)))]  # fmt: skip
    text = write_report([run.path for run in runs], tmp_path / "report.html").read_text()
    _, below = text.split("Strongest filters, level 1 (layer2)")
    assert below.count("strongest filters of level 1 (layer2)") == 2  # side by side


@pytest.mark.slow
def test_the_page_compares_levels_by_their_number(tmp_path, page):
    some, whole = make_run(tmp_path / "some", filter_levels=(2,)), make_run(tmp_path / "whole")
    explorer = famviz.FilterExplorer([some, whole])
    explorer.other = explorer.runs[1].name
    explorer.to_html(tmp_path / "page.html")
    page.goto(f"file://{tmp_path / 'page.html'}")
    page.wait_for_selector(".famviz[data-seq]")
    assert page.locator(".fv-b").is_visible()  # the first level of the other run has another shape
    page.evaluate("() => window.famviz[0].set('wall', 'strongest')")
    page.wait_for_selector(".fv-wall-cell")


def test_effects_are_of_the_levels_with_a_filter(trained_runs):
    recipe = trained_runs["fam"].recipe
    section = replace(recipe.fam, filter_levels=(2,))
    run = train(replace(recipe, name="some", baseline=False, fam=section), runs=trained_runs["fam"].path.parents[1])
    (row,) = effect_table(run, count=10)
    assert row["level"] == "layer2"
    (only,) = famviz.open(run).filters
    steps = ImageEffects(run).of(only.path, 0, (0, 0)).steps
    assert [step.name for step in steps][-1] == "teacher"
