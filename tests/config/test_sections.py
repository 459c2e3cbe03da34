"""Options of a method are read from the signature of its class, and put back together to call it."""

import dataclasses
from typing import Annotated

import pytest
from annotated_types import Ge

from famkd.config.load import load_recipe
from famkd.config.sections import method_arguments, method_options, method_section
from famkd.layers.fourier import FilterOptions
from famkd.methods import METHODS

OWN = {"fuse", "level_weights", "filter_levels", "phase_weight"}
FILTER_FIELDS = [each.name for each in dataclasses.fields(FilterOptions)]


@pytest.mark.parametrize("method", ["fam", "fam_review"])
def test_options_of_filters_are_options_of_the_method(method):
    options = method_options(METHODS[method])
    assert [name for name in options if name not in OWN] == FILTER_FIELDS
    assert options["cutoff"] == (Annotated[float, Ge(0)], 0.1)
    assert all(f"\n    {name}: " in method_section(method).__doc__ for name in options)
    recipe = load_recipe("quickstart", "--method", method, f"--{method}.cutoff", "0.3", f"--{method}.filter", "lowrank")
    arguments = method_arguments(METHODS[method], vars(recipe.section(method)))
    assert arguments["filter"] == FilterOptions(cutoff=0.3, filter="lowrank")
    assert arguments.keys() <= {"filter", *OWN}


def test_arguments_of_a_method_come_from_its_options():
    assert method_arguments(METHODS["fam_review"], {}) == {"filter": FilterOptions()}
    wanted = {"fuse": "sigmoid", "filter": FilterOptions(grid=16)}
    assert method_arguments(METHODS["fam_review"], {"fuse": "sigmoid", "grid": 16, "weight": 2.0}) == wanted
    assert method_arguments(METHODS["kd"], {"temperature": 2.0, "weight": 2.0}) == {"temperature": 2.0}
