"""Ranges are read from the types of a recipe's fields."""

from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt

from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.ranges import check_ranges


@dataclass(frozen=True)
class Inner:
    lr: Annotated[float, Ge(0)] = 0.1
    steps: tuple[Annotated[int, Ge(1)], ...] = (150, 180)
    pair: tuple[Annotated[int, Gt(0)], str] = (1, "a")


@dataclass(frozen=True)
class Outer:
    temperature: Annotated[float, "a note of another library", Gt(0)] = 4.0
    share: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    seed: Annotated[int, Ge(0), Le(9)] = 0
    below: Annotated[int, Lt(3)] = 0
    free: float = 0.0
    name: str = ""
    kind: Literal["", "flat", "round"] = ""
    optim: Inner = field(default_factory=Inner)


def test_values_in_range_pass():
    check_ranges(Outer())
    check_ranges(Outer(free=float("nan"), seed=9, share=0.0, below=2, optim=Inner(lr=0, steps=())))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Outer(temperature=0.0), "--temperature is 0.0: pass more than 0."),
        (Outer(temperature=float("nan")), "--temperature is nan: pass a finite number."),
        (Outer(temperature=float("inf")), "--temperature is inf: pass a finite number."),
        (Outer(share=-0.5), "--share is -0.5: pass 0 or more."),
        (Outer(share=1.0), "--share is 1.0: pass less than 1."),
        (Outer(seed=-1), "--seed is -1: pass 0 or more."),
        (Outer(kind="sqare"), "--kind is sqare: pass flat or round."),
        (Outer(seed=10), "--seed is 10: pass 9 or less."),
        (Outer(below=3), "--below is 3: pass less than 3."),
        (Outer(optim=Inner(lr=-1)), "--optim.lr is -1: pass 0 or more."),
        (Outer(optim=Inner(steps=(5, 0))), "--optim.steps is 5 0: pass 1 or more."),
        (Outer(optim=Inner(pair=(0, "a"))), "--optim.pair is 0 a: pass more than 0."),
    ],
)
def test_a_value_out_of_range_is_named_with_what_to_pass(value, words):
    with pytest.raises(UserError) as caught:
        check_ranges(value)
    assert str(caught.value) == words


def test_classes_made_at_run_time_and_prefixes():
    kind = make_dataclass("Kind", [("extra", Annotated[float, Gt(0)], 0.0)], bases=(Outer,), frozen=True)
    with pytest.raises(UserError, match=r"^--kd\.extra is 0\.0: pass more than 0\.$"):
        check_ranges(kind(), "kd.")


def test_a_method_is_not_built_with_a_choice_that_it_lacks():
    with pytest.raises(ValueError, match="keep is hihg, it must be high, low or both"):
        METHODS["figkd"](None, keep="hihg")
