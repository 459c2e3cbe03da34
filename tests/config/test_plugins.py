"""Files of one's own that register models and methods: imported by every command when named, and never else."""

import json
import re
from pathlib import Path

import pytest
from helpers.famviz_runs import make_run

import famviz
from famkd.config.load import load_recipe
from famkd.config.plugins import import_plugins
from famkd.errors import UserError
from famkd.run.directory import Run
from famkd.sweep.grid import read_grid

MINE = """
from pathlib import Path

import torch
from torch import nn

import famkd

Path("imported").touch()


class MyNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(8, classes)

    def forward(self, x):
        return self.fc(self.two(self.one(x)).mean((2, 3)))


class Mine(famkd.Method):
    def __init__(self, probe=None, *, power=2.0):
        super().__init__()
        self.power = power

    def forward(self, student, teacher, batch):
        return {"gap": (student.logits - teacher.logits).abs().pow(self.power).mean()}


famkd.MODELS["mynet"], famkd.METHODS["mine"] = MyNet, Mine
"""
OWN = ("--student.model", "mynet", "--method", "mine", "--mine.power", "1.5", "--teacher.model", "resnet8x0.5")
NAMED = ("--plugins", "mine.py")


@pytest.fixture
def mine(small) -> Path:
    Path("mine.py").write_text(MINE)
    Path("teacher.yaml").write_text(Path("small.yaml").read_text().replace("epochs: 3", "epochs: 1"))
    return Path("mine.py")


COMMANDS = """
import contextlib, io, json, sys
from famkd.cli import main

answers = []
for command in json.loads(sys.argv[1]):
    said, code = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            main(command)
        except SystemExit as ended:
            code = ended.code
    answers.append((code, said.getvalue()))
print(json.dumps(answers))
"""


@pytest.fixture
def one_process(python):
    """Run several commands in one process that has imported no plug-in; returns exit code and output of each."""

    def run(*commands: tuple[str, ...]) -> list[tuple[int, str]]:
        code, out, err = python("-c", COMMANDS, json.dumps(commands))
        assert code == 0, err
        return [tuple(answer) for answer in json.loads(out)]

    return run


@pytest.mark.slow
def test_every_command_takes_plugins_as_real_processes(mine, python, one_process):
    train = ("train", "small.yaml", *OWN, "--teacher.weights", "recipe:teacher.yaml", "--out", "run")
    code, _, err = python("-m", "famkd", *train, "--epochs", "1", *NAMED)
    assert code == 0, err
    assert Run("run").metrics()[0]["mine.gap"] > 0
    assert "plugins:\n- mine.py\nmine:\n" in Path("run/recipe.yaml").read_text()
    Path("elsewhere").mkdir()
    mine.rename("elsewhere/mine.py")  # the file may move
    Path("imported").unlink()

    unknown, *refused = one_process(
        (*train, "--epochs", "1", "--resume"), ("eval", "run"), ("export", "run"), ("compare", "run")
    )
    assert unknown[0] == 2
    assert "There is no method 'mine'" in unknown[1]
    sentence = "This run uses mine.py: pass --plugins mine.py (or set FAMKD_PLUGINS) if you trust it."
    for code, said in refused:
        assert code == 2
        assert sentence in said
    assert not Path("imported").exists()

    moved = ("--plugins", "elsewhere/mine.py")
    bench = ("bench", "small.yaml", *train[2:-2], "--steps", "1", "--format", "json", *moved)
    answers = one_process(
        ("eval", "run", *moved), ("export", "run", "--to", "safetensors", *moved), ("compare", "run", *moved),
        ("train", "run", "--out", "run", "--resume", *moved), ("ls", "models", *moved), bench,
    )  # fmt: skip
    assert [code for code, _ in answers] == [0] * 6, answers
    evaluated, exported, compared, _, listed, timed = (said for _, said in answers)
    assert evaluated.startswith(f"top1 {Run('run').metrics()[-1]['top1']:.2f} ")
    assert "parameters" in exported
    assert "mine" in compared
    assert "mynet" in listed
    assert json.loads(timed)["method"] == "mine"


@pytest.mark.slow
def test_a_sweep_passes_plugins_on_to_its_trainings(mine, python):
    Path("grid.yaml").write_text(
        "recipe: small.yaml\nstudent.model: mynet\nmethod: mine\nteacher.model: mynet\noptim.epochs: 1\n"
        'teacher.weights: "recipe:own.yaml"\n'
    )
    own = Path("teacher.yaml").read_text().replace("resnet8x0.5", "mynet")
    Path("own.yaml").write_text(f"{own}plugins: [mine.py]\n")
    code, out, err = python("-m", "famkd", "sweep", "grid.yaml", *NAMED)
    assert code == 0, err
    assert re.search(r"small\s+mine\s+1 ", out)


@pytest.mark.slow
def test_seeds_and_devices_pass_plugins_on_to_their_processes(mine, python):
    flags = ("--student.model", "mynet", "--devices", "2", "--accelerator", "cpu", "--epochs", "1", "--optim.steps")
    code, _, err = python("-m", "famkd", "train", "small.yaml", *flags, "--seeds", "3", *NAMED)
    assert code == 0, err
    assert Run("runs/small/none-seed3").metrics()[-1]["epoch"] == 1


def test_a_sweep_file_imports_nothing(mine):
    Path("grid.yaml").write_text("recipe: small.yaml\nplugins: [mine.py]\n")
    with pytest.raises(UserError, match="names plug-ins: leave them out and pass --plugins"):
        read_grid(Path("grid.yaml"))


def test_a_recipes_own_plugins_are_not_imported(mine):
    for text in ("plugins: [mine.py]", "plugins: mine.py", "plugins: [a/mine.py, 'b\\mine.py']"):
        Path("foreign.yaml").write_text(f"student: {{model: resnet8}}\n{text}\n")
        with pytest.raises(UserError, match=r"This run uses .*mine\.py: pass --plugins .*mine\.py \(or set FAMKD_PLUG"):
            load_recipe("foreign.yaml")
    Path("foreign.yaml").write_text("plugins: {a: b}\n")
    with pytest.raises(UserError, match="plugins is a list of Python files"):
        load_recipe("foreign.yaml")
    run = make_run(Path("run"), shapes=((2, 5), (2, 4)))
    (run.path / "recipe.yaml").write_text(f"{run.recipe.to_yaml().replace('plugins: []', 'plugins: [mine.py]')}")
    with pytest.raises(UserError, match=r"This run uses mine\.py"):
        _ = famviz.open(run.path).run.recipe
    assert not Path("imported").exists()


def test_the_environment_names_plugins_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("count.py").write_text("from pathlib import Path\nPath('times').open('a').write('x')\n")
    Path("other.py").write_text("")
    Path("recipe.yaml").write_text("plugins: [count.py]\n")
    monkeypatch.setenv("FAMKD_PLUGINS", f"{tmp_path}/count.py:other.py")
    assert load_recipe("recipe.yaml").plugins == ("count.py",)
    load_recipe("recipe.yaml", "--plugins", "count.py", "other.py", "--seed", "3")
    assert Path("times").read_text() == "x"  # each once


@pytest.mark.parametrize(("text", "words"), [
    ("1 / 0", r"The plug-in bad\.py cannot be imported: ZeroDivisionError: division by zero\."),
    ("def", r"cannot be imported: SyntaxError"),
    (None, r"There is no plug-in bad\.py: name a Python file"),
])  # fmt: skip
def test_plugins_that_are_none_are_told(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    if text:
        Path("bad.py").write_text(text)
    with pytest.raises(UserError, match=words):
        import_plugins(["bad.py"])
