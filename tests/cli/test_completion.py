"""famkd completion, in the real shells: what stands on the command line after Tab."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.processes import HANG
from helpers.shells import Shell

from famkd.cli import COMMANDS
from famkd.cli.completion import completion
from famkd.config.builtin import builtin_recipes
from famkd.errors import UserError
from famkd.methods import METHODS

# What is typed, and what the shell makes of it. The folder holds own.yaml and runs/mine/.
TYPED = {
    "tra": "train ",
    "--vers": "--version ",
    "train quick": "train quickstart ",
    "train bands/s": "train bands/student ",
    "train --root DATA quick": "train --root DATA quickstart ",
    "train own": "train own.yaml ",
    "train quickstart --optim.nest": "train quickstart --optim.nesterov ",
    "train quickstart --no_base": "train quickstart --no_baseline ",
    "train quickstart --method fam_": "train quickstart --method fam_review ",
    "train quickstart --method=fam_": "train quickstart --method=fam_review ",
    "train quickstart --engine e": "train quickstart --engine eager ",
    "train quickstart --resume --engi": "train quickstart --resume --engine ",
    "train quickstart --root ru": "train quickstart --root runs/",
    "train quickstart --root=ru": "train quickstart --root=runs/",
    "eval runs/": "eval runs/mine/",
    "eval runs/mine --format ta": "eval runs/mine --format table ",
    "compare runs --format ma": "compare runs --format markdown ",
    "export runs/mine --to hu": "export runs/mine --to hub ",
    "ls mod": "ls models ",
    "sweep abl": "sweep ablations ",
    "completion z": "completion zsh ",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own.yaml").touch()
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    return tmp_path


def installed(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(shell), reason=f"{shell} is not installed")


LOADS = [  # a shell, a command that loads the script, the file that holds it
    pytest.param("bash", ". ./famkd.bash", "famkd.bash", marks=installed("bash")),
    pytest.param("bash", 'eval "$(cat script)"', "script", marks=installed("bash")),
    pytest.param("zsh", ". ./famkd.zsh", "famkd.zsh", marks=installed("zsh")),
    pytest.param("zsh", 'eval "$(cat script)"', "script", marks=installed("zsh")),
    pytest.param("zsh", "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D", "_famkd", marks=installed("zsh")),
]


@pytest.mark.parametrize(("shell", "load", "file"), LOADS)
def test_tab_in_bash_and_zsh(shell, load, file, folder):
    (folder / file).write_text(completion(shell))
    with Shell(shell, load, folder) as opened:
        found = {typed: opened.completed(f"famkd {typed}").removeprefix("famkd ") for typed in TYPED}
    assert found == TYPED


def fish(folder: Path, typed: str) -> list[str]:
    """What fish offers for the last word."""
    script = folder / "famkd.fish"
    script.write_text(completion("fish"))
    command = ["fish", "-N", "-c", f"source {script}; complete -C 'famkd {typed}'"]
    environment = os.environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@installed("fish")
def test_tab_in_fish(folder):
    found = {typed: fish(folder, typed) for typed in TYPED}
    assert found == {typed: [made.split()[-1]] for typed, made in TYPED.items()}


@installed("fish")
def test_lists_in_fish(folder):
    assert {*COMMANDS} <= {*fish(folder, "")}
    assert {*fish(folder, "train quickstart --method ")} == {*METHODS, "none"}
    files = fish(folder, "train --root ")
    assert {"own.yaml", "runs/"} <= {*files}
    assert "quickstart" not in files


def bash(folder: Path, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    (folder / "famkd.bash").write_text(completion("bash"))
    typed = " ".join(f"'{word}'" for word in words)
    code = f". ./famkd.bash; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _famkd"
    code += "; printf '%s\\n' ${COMPREPLY[@]+\"${COMPREPLY[@]}\"}"
    done = subprocess.run(["bash", "-uc", code], cwd=folder, capture_output=True, text=True, timeout=HANG)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@installed("bash")
def test_lists_in_bash(folder):
    assert bash(folder, "famkd", "") == [*COMMANDS, "--help", "--version"]
    assert {*bash(folder, "famkd", "train", "cifar100/")} == {n for n in builtin_recipes() if n.startswith("cifar100/")}
    assert bash(folder, "famkd", "train", "quickstart", "--method", "") == [*METHODS, "none"]
    assert bash(folder, "famkd", "export", "RUN", "--to", "=", "") == ["onnx", "pt2", "safetensors", "hub"]
    assert "--optim.lr" in bash(folder, "famkd", "train", "quickstart", "--optim.")
    assert bash(folder, "famkd", "eval", "") == []  # so bash completes file names


def test_another_shell_is_refused():
    with pytest.raises(UserError, match="bash, zsh or fish"):
        completion("csh")
