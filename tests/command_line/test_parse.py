"""Flags of a dataclass and of a function: every way to write them, and one sentence for what cannot be read."""

from dataclasses import dataclass, field
from typing import Annotated

import pytest
import tyro

from famkd.command_line.parse import call, call_known, flags_of, normalised, parse, parse_known
from famkd.errors import RecipeError, UserError


@dataclass(frozen=True)
class Inner:
    lr: Annotated[float, tyro.conf.arg(aliases=["--lr"])] = 0.1
    """The rate of
    learning."""
    steps: tuple[int, ...] = (3,)
    decay: bool = True


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    best: bool = False
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(("argv", "wanted"), [
    (["--best"], {"best": True}), (["--best", "yes"], {"best": True}), (["--best=False"], {}), (["--no-best"], {}),
    (["--best", "--name", "y"], {"best": True, "name": "y"}), (["--resume", "true"], {"resume": True}),
    (["--resume", "no"], {}), (["--name", "true"], {"name": "true"}), (["--name=-x"], {"name": "-x"}),
    (["--lr", "1"], {"lr": 1.0}), (["--inner.lr=1e-3"], {"lr": 1e-3}), (["--inner.steps", "1,2"], {"steps": (1, 2)}),
    (["--inner.steps", "1", "2", "--best"], {"steps": (1, 2), "best": True}), (["--inner.steps"], {"steps": ()}),
    (["--inner.decay", "off"], {"decay": False}), (["--inner.no_decay"], {"decay": False}),
    (["--inner.steps", "-1"], {"steps": (-1,)}),
])  # fmt: skip
def test_every_way_to_write_a_flag(argv, wanted):
    inner = {key: value for key, value in wanted.items() if key in ("lr", "steps", "decay")}
    outer = {key: value for key, value in wanted.items() if key not in inner}
    assert parse(Outer, argv, prog="p") == Outer(**outer, inner=Inner(**inner))


@pytest.mark.parametrize(("argv", "setting", "sentence"), [
    (["--inner.stps", "1"], "inner.stps",
     "--inner.stps is not a setting. Did you mean --inner.steps or --inner.lr? See p --help."),
    (["--decay"], "decay", "--decay is not a setting. Did you mean --inner.decay? See p --help."),
    (["--lr", "fast"], "inner.lr", "--inner.lr is 'fast': pass a number."),
    (["--best", "maybe"], "", "'maybe' belongs to no flag: leave it out, or put a value with spaces in quotes."),
    (["--best=maybe"], "best", "--best is 'maybe': pass true or false."),
    (["--name"], "name", "--name needs a value."), (["--name", "--best"], "name", "--name needs a value."),
])  # fmt: skip
def test_what_cannot_be_read(argv, setting, sentence, capsys):
    with pytest.raises(RecipeError) as error:
        parse(Outer, argv, prog="p")
    assert (str(error.value), error.value.setting) == (sentence, setting)
    assert capsys.readouterr() == ("", "")


def test_help_goes_to_stdout(capsys):
    with pytest.raises(SystemExit) as ended:
        parse(Outer, ["--help"], prog="p", default=Outer(name="mine"))
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert "default: mine" in out
    assert "The rate of learning." in out  # which has a line break in the source


def test_other_flags_are_returned():
    assert parse_known(Outer, ["--other", "1", "--best", "true"], prog="p") == (Outer(best=True), ["--other", "1"])


def evaluate(run: tyro.conf.Positional[tuple[str, ...]] = (), /, best: bool = False, port: int = 1) -> tuple:
    """Evaluate.

    Args:
        run: A run.
        best: The best.
    """
    if port == 2:
        raise UserError("two")
    return run, best, port


def test_a_function_is_called_with_its_flags(capsys):
    assert call(evaluate, ["a", "b", "--best", "yes", "--port", "3.0"], prog="p") == (("a", "b"), True, 3)
    assert call_known(evaluate, ["a", "--best", "--no-browser", "--x=1"], prog="p") == (
        (("a",), True, 1), ["--no-browser", "--x=1"],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"^two$"):
        call(evaluate, ["--port", "2"], prog="p")
    with pytest.raises(RecipeError, match=r"--bset is not a setting\. Did you mean --best"):
        call(evaluate, ["a", "--bset"], prog="p")


def test_what_the_function_prints_is_printed(capsys):
    def loud(name: str = "x") -> None:
        import sys

        print(name, file=sys.stderr)

    call(loud, ["--name", "y"], prog="p")
    assert capsys.readouterr().err == "y\n"


def test_flags_are_known_by_name_and_alias():
    known = flags_of(Outer)
    assert set(known) == {"name", "best", "resume", "inner.lr", "lr", "inner.steps", "inner.decay"}
    assert known["lr"].name == "inner.lr"
    assert normalised(["--foreign", "yes", "--lr", "2"], known) == ["--foreign", "yes", "--lr=2"]
