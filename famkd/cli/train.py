"""The command famkd train: its own flags beside the recipe's."""

import argparse
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, NoReturn

import tyro

from famkd.cli.commands import close_sweep
from famkd.config.builtin import builtin_recipes, find_recipe
from famkd.errors import UserError


@dataclass(frozen=True)
class Beside:
    """Where this training goes and how it is carried out; no part of the recipe."""

    out: str = ""
    """Run directory; by itself a folder in `runs`, named after recipe, method and seed."""
    runs: str = "runs"
    """Folder of run directories, where teachers are looked for too."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on from the last finished epoch, or the very step where a signal stopped it."""
    seeds: tuple[int, ...] = ()
    """Train each of these seeds, then show mean and spread."""
    jobs: int = 0
    """Of --seeds: trainings at once; 0 for as many as fit on the GPUs, one on a CPU."""


class Own(argparse.ArgumentParser):
    """Takes the command's own flags out of a command line, and says in one sentence what it cannot read."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}: see famkd train --help.")


def train_command(argv: list[str]) -> None:
    """Train, then close with a table of teacher, student alone and student distilled."""
    source, rest = recipe_first(argv)
    own = Own(add_help=False, allow_abbrev=False)
    own.add_argument("--out")
    own.add_argument("--runs", default="runs")
    own.add_argument("--resume", action="store_true")
    own.add_argument("--seeds", type=int, nargs="+")
    own.add_argument("--jobs", type=int, default=0)
    known, flags = own.parse_known_args(rest)
    if source:
        find_recipe(source)  # before anything heavy is imported
    from famkd.config.load import load_recipe, parse_recipe

    if not source:
        parse_recipe({"method": "fam_review"}, ["--help"], name="recipe", beside=Beside)
    recipe = load_recipe(source, *flags, beside=Beside)
    if known.seeds:
        if known.out:
            raise UserError("--seeds makes a run for each seed and cannot put them all into one --out: pass --runs.")
        from famkd.sweep.seeds import train_seeds

        options = {"runs": known.runs, "resume": known.resume, "jobs": known.jobs}
        close_sweep(*train_seeds(source, flags, known.seeds, **options))
        return
    from famkd.evaluate import closing_table
    from famkd.training.loop import train

    run = train(recipe, out=known.out, resume=known.resume, runs=known.runs)
    if first_process():
        closing_table(run, known.runs)


def recipe_first(argv: list[str]) -> tuple[str, list[str]]:
    """The recipe and the rest of a command line; "" where only help is asked for."""
    if argv and not argv[0].startswith("-"):
        return argv[0], argv[1:]
    found = [place for place, each in enumerate(argv) if place and _is_recipe(each)]
    if not found and {"-h", "--help"} & {*argv}:
        return "", argv
    if not found:
        raise UserError("Name a recipe or a file: famkd train quickstart, or one of `famkd ls recipes`.")
    place = next((place for place in found if argv[place] in builtin_recipes()), found[-1])
    moved = [argv[place], *argv[:place], *argv[place + 1 :]]
    raise UserError(f"The recipe comes first: {shlex.join(['famkd', 'train', *moved])}")


def first_process() -> bool:
    """Whether this is the one that speaks, of those that train together, also when they have parted again."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK")  # torchrun's, SLURM's, and those of famkd's own
    return all(os.environ.get(name, "0") == "0" for name in names)


def _is_recipe(text: str) -> bool:
    with suppress(UserError):
        return bool(find_recipe(text))
    return False
