"""Values as people write them get one spelling, or a sentence that says what to write."""

from typing import Annotated, Literal

import pytest
from annotated_types import Ge

from famkd.command_line.values import PLACE, expanded, spelled
from famkd.errors import UserError

Schedule = Literal["step", "cosine", "none"]


@pytest.mark.parametrize(("hint", "words", "wanted"), [
    (int, ["7"], ["7"]), (int, ["1.0"], ["1"]), (int, ["1e3"], ["1000"]), (int, ["-2"], ["-2"]),
    (int, ["1_000"], ["1000"]), (int, [" 4 "], ["4"]), (Annotated[int, Ge(1)], ["2.0"], ["2"]),
    (float, ["1e-3"], ["1e-3"]), (float, ["1"], ["1"]), (float, [".5"], [".5"]),
    (bool, ["True"], ["True"]), (bool, ["OFF"], ["False"]),
    (str, ["true"], ["true"]), (str, ["null"], ["null"]), (str, ["1.0"], ["1.0"]),
    (Schedule, ["Cosine"], ["cosine"]), (Schedule, ["none"], ["none"]),
    (int | None, ["none"], ["None"]), (int | None, ["8.0"], ["8"]), (float | None, ["~"], ["None"]),
    (tuple[int, ...], ["1", "2.0"], ["1", "2"]), (tuple[int, ...], ["150,180, 210"], ["150", "180", "210"]),
    (tuple[int, ...], ["150,", "180"], ["150", "180"]), (tuple[int, ...], ["[1, 2]"], ["1", "2"]),
    (tuple[int, ...], ["[1,", "2]"], ["1", "2"]), (tuple[int, ...], ["(1)"], ["1"]), (tuple[int, ...], ["[]"], []),
    (tuple[int, ...], [], []), (tuple[Annotated[int, Ge(1)], ...], ["3.0"], ["3"]),
    (tuple[str, str], ["a,b"], ["a", "b"]), (tuple[str, ...], ["['layer1', \"layer2\"]"], ["layer1", "layer2"]),
    (tuple[bool, ...], ["yes", "0"], ["True", "False"]),
])  # fmt: skip
def test_one_spelling(hint, words, wanted):
    assert spelled(hint, words) == wanted


@pytest.mark.parametrize(("hint", "words", "why"), [
    (int, ["1.5"], "pass a whole number"), (int, ["inf"], "pass a whole number"), (int, ["x"], "pass a whole number"),
    (int, [""], "pass a whole number"), (int, ["9" * 5000 + "x"], "pass a whole number"),
    (float, ["0,1"], "pass a number"), (float, ["fast"], "pass a number"), (bool, ["maybe"], "pass true or false"),
    (Schedule, ["cosin"], r"pass step, cosine or none. Did you mean cosine\?"), (tuple[int, ...], ["1,x"], "whole"),
    (tuple[str, str], ["a"], "pass 2 values"), (int, ["1", "2"], "pass one value"),
])  # fmt: skip
def test_what_cannot_be_meant(hint, words, why):
    with pytest.raises(ValueError, match=why):
        spelled(hint, words)


def test_no_value_is_the_empty_default_of_a_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert spelled(str, ["None"], default="") == [""]
    assert spelled(str, ["none"], default="none") == ["none"]
    (tmp_path / "none").touch()
    assert spelled(str, ["none"], default="") == ["none"]  # there is such a file


def test_places_are_expanded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = str(tmp_path / "home")
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("DATA_1", "images")
    for text, wanted in {"~/a": f"{home}/a", "$HOME/a": f"{home}/a", "${DATA_1}/b@64": "images/b@64", "a/~": "a/~",
                         "recipe:~/t.yaml": f"recipe:{home}/t.yaml", "pretrained": "pretrained", "s3://b/$": "s3://b/$",
                         }.items():  # fmt: skip
        assert spelled(Annotated[str, PLACE], [text]) == [expanded(text)] == [wanted]
    assert spelled(tuple[Annotated[str, PLACE], ...], ["~/a.py", "b.py"]) == [f"{home}/a.py", "b.py"]
    assert spelled(str, ["~/a"]) == ["~/a"]
    with pytest.raises(UserError, match=r"The path \$NOWHERE/x names \$NOWHERE, which is not set"):
        expanded("$NOWHERE/x")
    (tmp_path / "$NOWHERE").mkdir()
    assert expanded("$NOWHERE") == "$NOWHERE"
