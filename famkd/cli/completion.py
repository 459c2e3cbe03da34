"""famkd completion: a script that completes commands, flags and names in bash, zsh and fish.

The script holds all words, so that a press of Tab starts no Python.
"""

import shlex
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

import tyro

from famkd.command_line.parse import Flag, call, flags_of
from famkd.errors import UserError

SHELLS = ("bash", "zsh", "fish")
Words = dict[str, list[str]]  # command or flag to what may follow it


def completion_command(argv: list[str]) -> None:
    print(call(completion, argv, prog="famkd completion"), end="")


def completion(shell: tyro.conf.Positional[str] = "", /) -> str:
    """Print a script that completes famkd's commands, flags and names. Print it again after an update.

    Args:
        shell: bash, zsh or fish.
    """
    if shell not in SHELLS:
        raise UserError("Name the shell: famkd completion bash, zsh or fish.")
    commands, values = _words()
    if shell == "fish":
        return _fish(commands, values)
    script = _bash(commands, values)
    return script if shell == "bash" else f"autoload -Uz compinit bashcompinit\ncompinit\nbashcompinit\n{script}"


def _words() -> tuple[Words, Words]:
    """What may follow each command, and the values of each flag that has a list of them."""
    from famkd.cli import COMMANDS
    from famkd.cli.listing import KINDS
    from famkd.config.builtin import builtin_recipes, builtin_sweeps

    recipes, sweeps = list(builtin_recipes()), list(builtin_sweeps())
    first = {"train": recipes, "store": recipes, "bench": recipes, "sweep": sweeps, "ls": list(KINDS)}
    first["completion"] = list(SHELLS)
    commands: Words = {name: list(first.get(name, [])) for name in COMMANDS}
    values = _names()
    for command, kinds in _parsed().items():
        for kind in kinds:
            for name, flag in flags_of(kind).items():
                if (word := f"--{name}") not in commands[command]:
                    commands[command].append(word)
                if name == flag.name and (choices := _choices(flag)):
                    values.setdefault(word, choices)
    return commands, values


def _parsed() -> dict[str, list[Any]]:
    """The dataclasses and functions that hold the flags of each command."""
    from famkd.cli import commands, doctor, listing, store, train, tune
    from famkd.cli.bench import BenchFlags
    from famkd.cli.eval import EvalFlags
    from famkd.cli.export import ExportFlags
    from famkd.config.sections import recipe_type
    from famkd.methods import METHODS

    recipe = recipe_type(tuple(METHODS), "")
    functions: dict[str, Callable] = {
        "compare": commands.compare, "sweep": commands.sweep, "ls": listing.show, "doctor": doctor.doctor,
        "tune": tune.tune,
    }  # fmt: skip
    return {
        "train": [train.TrainFlags, recipe], "init": [recipe], "store": [store.StoreFlags, recipe],
        "bench": [BenchFlags, recipe], "eval": [EvalFlags], "export": [ExportFlags],
        **{name: [function] for name, function in functions.items()},
    }  # fmt: skip


def _names() -> Words:
    """The values of the flags that take a name."""
    from famkd.config.optimizers import optimizer_names
    from famkd.data import DATA
    from famkd.methods import METHODS
    from famkd.models import DETECTORS, MODELS

    models, data = [*MODELS, *DETECTORS], list(DATA)
    return {
        "--method": [*METHODS, "none"], "--student.model": models, "--teacher.model": models, "--model": models,
        "--data": data, "--data.name": data, "--optim.name": list(optimizer_names()),
    }  # fmt: skip


def _choices(flag: Flag) -> list[str]:
    """The values of a flag whose type lists them."""
    kind = flag.hint
    while get_origin(kind) is not Literal and get_args(kind):
        kind = get_args(kind)[0]
    return [str(choice) for choice in get_args(kind) if choice != ""]


BASH = """# Completion of famkd. For this shell: eval "$(famkd completion bash)"
_famkd() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "%(commands)s --help --version" -- "$word"))
        return
    fi
    case "$before" in
%(values)s
    esac
    if [ -z "$words" ]; then
        case "${COMP_WORDS[1]}" in
%(flags)s
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _famkd famkd
"""


def _bash(commands: Words, values: Words) -> str:
    def cases(table: Words) -> str:
        return "\n".join(f"        {name}) words={shlex.quote(' '.join(words))} ;;" for name, words in table.items())

    flags = {name: [*words, "--help"] for name, words in commands.items()}
    return BASH % {"commands": " ".join(commands), "values": cases(values), "flags": cases(flags)}


def _fish(commands: Words, values: Words) -> str:
    lines = ["# Completion of famkd. famkd completion fish > ~/.config/fish/completions/famkd.fish"]
    lines += [f"complete -c famkd -n __fish_use_subcommand -f -a {_quoted(commands)}"]
    for command, words in commands.items():
        seen = f"complete -c famkd -n '__fish_seen_subcommand_from {command}'"
        if names := [word for word in words if not word.startswith("--")]:
            lines.append(f"{seen} -a {_quoted(names)}")
        for flag in [*(word for word in words if word.startswith("--")), "--help"]:
            chosen = f" -x -a {_quoted(values[flag])}" if flag in values else ""
            lines.append(f"{seen} -l {flag.removeprefix('--')}{chosen}")
    return "\n".join(lines) + "\n"


def _quoted(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))
