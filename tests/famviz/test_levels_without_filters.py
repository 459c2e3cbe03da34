"""Runs in which only some levels have a frequency filter are opened, measured and shown like others."""

from dataclasses import replace

import pytest
from helpers.famviz_runs import make_run

import famviz
from famkd.training.loop import train
from famviz.analysis.effect import effect_table
from famviz.analysis.effect_image import ImageEffects
from famviz.report import write_report

pytest_plugins = ("helpers.famviz_trained",)


def test_a_run_is_opened_with_the_filters_that_it_has(tmp_path):
    (only,) = famviz.open(make_run(tmp_path / "run", filter_levels=(2,))).filters
    assert (only.title, only.size) == ("level 1 (layer2)", (8, 8))


def test_the_explorer_shows_it_beside_a_run_with_all_filters(tmp_path):
    whole, some = make_run(tmp_path / "whole"), make_run(tmp_path / "some", filter_levels=(2,))
    for runs in ([whole, some], [some, whole]):
        explorer = famviz.FilterExplorer(runs)
        explorer.other = explorer.runs[1].name
        assert explorer._compared() is None  # another level, of another shape
        assert explorer.to_html()
        explorer.close()
    explorer = famviz.FilterExplorer(some)
    assert explorer.filter.title == "level 1 (layer2)"
    explorer.close()


@pytest.mark.slow
def test_the_report_of_both_is_written(tmp_path):
    runs = [make_run(tmp_path / name, "--data.root", "nowhere", filter_levels=levels)
            for name, levels in (("whole", ()), ("some", (2,)))]  # fmt: skip
    text = write_report([run.path for run in runs], tmp_path / "report.html").read_text()
    assert "level 1 (layer2)" in text


def test_effects_are_of_the_levels_with_a_filter(trained_runs):
    recipe = trained_runs["fam"].recipe
    section = replace(recipe.fam, filter_levels=(2,))
    run = train(replace(recipe, name="some", baseline=False, fam=section), runs=trained_runs["fam"].path.parents[1])
    (row,) = effect_table(run, count=10)
    assert row["level"] == "layer2"
    (only,) = famviz.open(run).filters
    steps = ImageEffects(run).of(only.path, 0, (0, 0)).steps
    assert [step.name for step in steps][-1] == "teacher"
