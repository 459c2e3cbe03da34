"""Manners of the command line: examples, formats for programs, colours, streams, famkd doctor."""

import json
import os
import re
import shlex
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
from helpers.processes import HANG

from famkd.cli import COMMANDS, doctor
from famkd.cli.examples import EXAMPLES
from famkd.cli.train import TrainFlags
from famkd.command_line.other_names import OTHER_NAMES
from famkd.command_line.parse import flags_of
from famkd.config.load import recipe_type
from famkd.training.loop import train
from famviz import cli as famviz

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


# examples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_in_its_examples(famkd, command):
    code, out, err = famkd(command, "--help")
    assert (code, err) == (0, "")
    examples = out.rpartition("\nexamples:\n")[2].splitlines()
    assert [line.strip() for line in examples] == list(EXAMPLES[command])
    assert all(f"famkd {command}" in line for line in examples)


def test_flags_in_examples_are_flags(famkd):
    for command, lines in EXAMPLES.items():
        _, out, _ = famkd(command, "--help")
        known = {*re.findall(r"--[\w.]+", out), "--fam_review"}
        for flag in re.findall(r"--[\w.]+", " ".join(lines)):
            assert flag in known, (command, flag)


@pytest.mark.parametrize("command", famviz.COMMANDS)
def test_the_help_of_famviz_ends_in_examples_with_its_flags(command, capsys):
    with pytest.raises(SystemExit) as end:
        famviz.main([command, "--help"])
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "")
    text, _, examples = out.rpartition("\nexamples:\n")
    assert [line.strip() for line in examples.splitlines()] == list(famviz.EXAMPLES[command])
    for flag in re.findall(r"--[\w.]+", examples):
        assert flag in text or flag == "--no"  # --no-browser is a flag of JupyterLab


# formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["recipes", "methods", "optimizers"])
def test_a_list_as_json(famkd, kind):
    code, out, err = famkd("ls", kind, "--format", "json")
    assert (code, err) == (0, "")
    text = famkd("ls", kind)[1]
    assert [row["name"] for row in json.loads(out)] == [line.split()[0] for line in text.splitlines()]


def test_every_result_for_programs_is_one_json_on_stdout(small, famkd):
    run = str(train(small("--epochs", "1")).path)
    for argv in (["eval", run], ["compare", run], ["export", run, "--to", "safetensors"]):
        code, out, _ = famkd(*argv, "--format", "json")
        assert code == 0, argv
        assert json.loads(out), argv


# colours ---------------------------------------------------------------------------------------------------------


def on_a_terminal(*argv: str, **variables: str) -> str:
    """What a command writes to a terminal."""
    environment = {**os.environ, "TERM": "xterm-256color", **variables}
    environment = {name: value for name, value in environment.items() if value}
    command = ["script", "-qec", " ".join(argv), "/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, env=environment).stdout


@pytest.mark.skipif(not shutil.which("script"), reason="script(1) makes a terminal")
@pytest.mark.parametrize("argv", [("ls", "--help"), ("compare", "--help")])
def test_colours_are_on_a_terminal_unless_no_color_is_set(python_path, argv):
    assert "\x1b[1m" in on_a_terminal(python_path, "-m", "famkd", *argv, NO_COLOR="")
    plain = on_a_terminal(python_path, "-m", "famkd", *argv, NO_COLOR="1")
    assert "usage: famkd" in plain
    assert "\x1b[" not in plain


@pytest.mark.skipif(not shutil.which("script"), reason="script(1) makes a terminal")
def test_a_dumb_terminal_gets_whole_lines(python_path):
    program = "from famkd.console import console; console.print('word ' * 40)"
    assert on_a_terminal(python_path, "-c", shlex.quote(program), TERM="dumb").count("\n") == 1


@pytest.fixture
def python_path():
    import sys

    return sys.executable


def test_no_colours_in_a_pipe(python):
    assert "\x1b[" not in "".join(map(str, python("-m", "famkd", "ls", "--help")))


def test_a_warning_is_a_sentence_without_the_line_of_code(famkd, monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # given back afterwards
    famkd()
    said = warnings.formatwarning("3 images are\tleft out.", UserWarning, "in_memory.py", 260, "augment = True")
    assert said == "famkd: warning: 3 images are\\tleft out.\n"
    assert "code.py:7" in warnings.formatwarning("old", DeprecationWarning, "code.py", 7)


# doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_names_versions_devices_and_parts(famkd):
    code, out, err = famkd("doctor")
    assert (code, err) == (0, "")
    for title in ("versions", "devices", "compilers", "optional parts"):
        assert title in out.splitlines()
    facts = json.loads(famkd("doctor", "--format", "json")[1])
    assert re.match(r"\d+\.\d+", facts["versions"]["torch"])
    assert "cores" in facts["devices"]["cpu"]


def test_doctor_says_what_a_missing_part_would_give(famkd, monkeypatch):
    known = doctor._installed
    monkeypatch.setattr(doctor, "_installed", lambda name: "missing" if name == "onnx" else known(name))
    monkeypatch.setattr("shutil.which", lambda name: None)
    _, out, _ = famkd("doctor")
    assert "missing onnx: pip install 'famkd[export]' for famkd export --to onnx" in out
    assert "install g++ for --engine compile" in out


def test_doctor_knows_the_extras_of_the_package():
    text = PROJECT.read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    extras = dict(re.findall(r"^([\w-]+) = \[(.*)\]$", text, re.MULTILINE))
    assert {*doctor.OPTIONAL} == {*extras} - {"test", "docs"}
    for extra, (_, packages) in doctor.OPTIONAL.items():
        assert all(f'"{package}' in extras[extra] for package in packages), extra


# streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_progress_is_on_stderr_and_the_table_on_stdout(small, python):
    code, out, err = python("-m", "famkd", "train", "small.yaml", "--epochs", "2")
    assert code == 0
    assert re.findall(r"epoch (\d)/2", err) == ["1", "2"]
    assert "epoch 1/2" not in out
    assert "last top-1 %" in out


def test_names_of_other_programs_lead_to_flags_that_there_are():
    known = {*flags_of(recipe_type(("kd",), "imagenet")), *flags_of(TrainFlags)}
    assert set(OTHER_NAMES.values()) <= known
    assert not set(OTHER_NAMES) & known


@pytest.mark.parametrize(("flag", "meant"), [("--device", "accelerator"), ("--output-dir", "out")])
def test_a_flag_of_another_program_is_told_by_its_name_here(famkd, flag, meant):
    code, _, err = famkd("train", "quickstart", flag, "x")
    assert code == 2
    assert f"is not a setting. Did you mean --{meant}? See" in err
