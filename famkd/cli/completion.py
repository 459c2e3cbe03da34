"""famkd completion: a script that completes commands, flags, their values and names in bash, zsh and fish.

The script holds all words, so that a press of Tab starts no Python.
"""

import shlex
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, get_args, get_origin

import tyro

from famkd.command_line.parse import Flag, call, flags_of, off_form
from famkd.command_line.values import is_switch
from famkd.errors import UserError

SHELLS = ("bash", "zsh", "fish")


class Command(NamedTuple):
    """What may follow a command."""

    names: list[str]  # recipes, for example
    switches: list[str]  # flags without a value
    values: dict[str, list[str]]  # of each other flag; empty where it takes any value, such as a file

    @property
    def flags(self) -> list[str]:
        return [*self.values, *self.switches, "--help"]


Commands = dict[str, Command]


def completion_command(argv: list[str]) -> None:
    print(call(completion, argv, prog="famkd completion"), end="")


def completion(shell: tyro.conf.Positional[str] = "", /) -> str:
    """Print a script that completes famkd's commands, flags and names. Print it again after an update.

    Args:
        shell: bash, zsh or fish.
    """
    scripts = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if shell not in scripts:
        raise UserError("Name the shell: famkd completion bash, zsh or fish.")
    return scripts[shell](_commands())


def _commands() -> Commands:
    """What may follow each command."""
    from famkd.cli import COMMANDS
    from famkd.cli.listing import KINDS
    from famkd.config.builtin import builtin_recipes, builtin_sweeps

    recipes, sweeps = list(builtin_recipes()), list(builtin_sweeps())
    names = {"train": recipes, "store": recipes, "bench": recipes, "sweep": sweeps, "ls": list(KINDS)}
    names["completion"] = list(SHELLS)
    commands = {name: Command(names.get(name, []), [], {}) for name in COMMANDS}
    named = _names()
    for command, kinds in _parsed().items():
        for kind in kinds:
            for name, flag in flags_of(kind).items():
                _add(commands[command], name, flag, named)
    return commands


def _add(command: Command, name: str, flag: Flag, named: dict[str, list[str]]) -> None:
    """Add a flag, with the values that its type lists or that are names. One without a value gets `--no_NAME` too."""
    word = f"--{name}"
    if not is_switch(flag.hint):
        command.values.setdefault(word, named.get(word) or _choices(flag))
        return
    command.switches.append(word)
    if off := off_form(flag):
        command.switches.append(off)


def _parsed() -> dict[str, list[Any]]:
    """The dataclasses and functions that hold the flags of each command."""
    from famkd.cli import compare, doctor, listing, store, sweep, train, tune
    from famkd.cli.bench import BenchFlags
    from famkd.cli.eval import EvalFlags
    from famkd.cli.export import ExportFlags
    from famkd.config.sections import recipe_type
    from famkd.methods import METHODS

    recipe = recipe_type(tuple(METHODS), "")
    functions: dict[str, Callable] = {
        "compare": compare.compare, "sweep": sweep.sweep, "ls": listing.show, "doctor": doctor.doctor,
        "tune": tune.tune,
    }  # fmt: skip
    return {
        "train": [train.TrainFlags, recipe], "init": [recipe], "store": [store.StoreFlags, recipe],
        "bench": [BenchFlags, recipe], "eval": [EvalFlags], "export": [ExportFlags],
        **{name: [function] for name, function in functions.items()},
    }  # fmt: skip


def _names() -> dict[str, list[str]]:
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


# Shared by bash and zsh. Sets `names` and `flags` of the command, and `values` or `files` for the flag before the word.
TABLES = """\
    case "$command" in
%(commands)s
    esac
    case "$command $before" in
%(values)s
        %(switches)s) ;;
        *" --"*) files=yes ;;
    esac
"""

BASH = """\
# Completion of famkd. For this shell: eval "$(famkd completion bash)"
_famkd() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="${COMP_WORDS[1]}"
    local names="" flags="" values="" files=""
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "%(first)s" -- "$word"))
        return
    fi
    if [ "$word" = "=" ]; then  # bash makes three words of --flag=value
        word=""
    elif [ "$before" = "=" ]; then
        before="${COMP_WORDS[COMP_CWORD-2]}"
    fi
%(tables)s    [ -n "$files" ] && return  # without an answer bash completes file names
    if [ -z "$values" ]; then
        case "$word" in
            -*) values="$flags" ;;
            *) values="$names" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$values" -- "$word"))
}
complete -o default -F _famkd famkd
"""

ZSH = """\
#compdef famkd
# Completion of famkd. Source this file in ~/.zshrc, or save it as _famkd in a folder of $fpath.
_famkd() {
    local before="${words[CURRENT-1]}" command="${words[2]}" names="" flags="" values="" files=""
    if (( CURRENT == 2 )); then
        compadd -- %(first)s
        return
    fi
    if [[ "$PREFIX" == --*=* ]]; then  # --flag=value
        before="${PREFIX%%%%=*}"
        compset -P '*='
    fi
%(tables)s    if [[ -n "$values" ]]; then
        compadd -- ${=values}
    elif [[ -z "$files" && "$PREFIX" == -* ]]; then
        compadd -- ${=flags}
    else
        [[ -z "$files" ]] && compadd -- ${=names}
        _files
    fi
}
if [[ "${funcstack[1]}" == _famkd ]]; then  # loaded from $fpath at the first Tab
    _famkd "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
    compdef _famkd famkd
fi
"""


def _bash(commands: Commands) -> str:
    return BASH % {"first": " ".join(_first(commands)), "tables": _tables(commands)}


def _zsh(commands: Commands) -> str:
    return ZSH % {"first": " ".join(_first(commands)), "tables": _tables(commands)}


def _first(commands: Commands) -> list[str]:
    return [*commands, "--help", "--version"]


def _tables(commands: Commands) -> str:
    """The names and flags of each command, and the values of each flag, as `case` statements."""
    words = [
        f"        {name}) names={_quoted(command.names)} flags={_quoted(command.flags)} ;;"
        for name, command in commands.items()
    ]
    holders: dict[str, list[str]] = {}  # the flags that share a list of values
    for name, command in commands.items():
        for flag, values in command.values.items():
            if values:
                holders.setdefault(_quoted(values), []).append(f'"{name} {flag}"')
    values = [f"        {'|'.join(flags)}) values={words} ;;" for words, flags in holders.items()]
    switches = [f'"{name} {flag}"' for name, command in commands.items() for flag in [*command.switches, "--help"]]
    return TABLES % {"commands": "\n".join(words), "values": "\n".join(values), "switches": "|".join(switches)}


FISH = """\
# Completion of famkd. famkd completion fish > ~/.config/fish/completions/famkd.fish
function __famkd_command
    set -l typed (commandline -opc)
    test (count $typed) -gt 1; and test $typed[2] = $argv[1]
end
complete -c famkd -n __fish_use_subcommand -f -a %(commands)s
complete -c famkd -n __fish_use_subcommand -l help
complete -c famkd -n __fish_use_subcommand -l version
"""


def _fish(commands: Commands) -> str:
    lines = [FISH % {"commands": _quoted(commands)}]
    for name, command in commands.items():
        after = f"complete -c famkd -n '__famkd_command {name}'"
        if command.names:
            lines.append(f"{after} -a {_quoted(command.names)}")
        for flag in command.flags:
            values = command.values.get(flag)
            # -r: takes a value, -x: one of these and no file
            taken = "" if values is None else f" -x -a {_quoted(values)}" if values else " -r"
            lines.append(f"{after} -l {flag.removeprefix('--')}{taken}")
    return "\n".join(lines) + "\n"


def _quoted(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))
