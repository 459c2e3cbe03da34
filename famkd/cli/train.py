"""famkd train."""

import itertools
import shlex
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import tyro
from annotated_types import Ge

from famkd.cli.flags import Place
from famkd.cli.recipe_first import names_a_student
from famkd.cli.sweep import print_sweep
from famkd.command_line.parse import parse_known
from famkd.config.builtin import builtin_recipes, find_recipe
from famkd.errors import UserError, is_first_process


@dataclass(frozen=True)
class TrainFlags:
    """Where this training is saved and how it is carried out. Not part of the recipe."""

    out: Place = ""
    """Run directory. By default a folder in `runs`, named after recipe, method and seed."""
    runs: Place = "runs"
    """Folder of run directories. Teachers are looked up here too."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue from the last finished epoch, or from the step at which a signal stopped the training. `--epochs` may be
    larger with the schedules step and constant. The data and the teacher's file may have moved."""
    seeds: tuple[int, ...] = ()
    """Train once per seed, then print mean and spread."""
    jobs: Annotated[int, Ge(0)] = 0
    """With --seeds: trainings at once. 0 for as many as fit on the GPUs, or one on a CPU."""


def train_command(argv: list[str]) -> None:
    """Train a student, then print a table of the teacher, the student alone and the distilled student."""
    source, rest = recipe_first(argv)
    if source:
        find_recipe(source)  # before torch is imported
    from famkd.config.load import load_recipe, parse_recipe

    if not source and not names_a_student(rest):
        parse_recipe({"method": "fam_review"}, ["--help"], name="recipe", own=TrainFlags)
    _must_have_one_seed(rest)
    own, flags = parse_known(TrainFlags, rest, prog=f"famkd train {source}".rstrip())
    if "--seeds" in rest and not own.seeds:
        raise UserError("--seeds takes one or more numbers, as in --seeds 0 1 2.")
    if own.jobs and not own.seeds:
        raise UserError("--jobs is for several seeds: pass --seeds too, or leave it out.")
    recipe = load_recipe(source, *flags, own=TrainFlags)
    if own.seeds:
        if own.out:
            raise UserError("--seeds makes one run per seed, which cannot share one --out: pass --runs instead.")
        from famkd.sweep.seeds import train_seeds

        print_sweep(*train_seeds(source, flags, list(own.seeds), runs=own.runs, resume=own.resume, jobs=own.jobs))
        return
    from famkd.evaluate import closing_table
    from famkd.training.loop import train

    run = train(recipe, out=own.out or None, resume=own.resume, runs=own.runs)
    if is_first_process():
        closing_table(run, own.runs)


def _must_have_one_seed(argv: list[str]) -> None:
    """UserError for several numbers after --seed."""
    after = argv[argv.index("--seed") + 1 :] if "--seed" in argv else []
    numbers = list(itertools.takewhile(str.isdigit, after))
    if len(numbers) > 1:
        raise UserError(f"--seed takes one number: to train once for each, pass --seeds {' '.join(numbers)}.")


def recipe_first(argv: list[str]) -> tuple[str, list[str]]:
    """Split a command line into the recipe and the rest; the recipe is "" for help, and where flags name a student."""
    if argv and not argv[0].startswith("-"):
        return argv[0], argv[1:]
    places = [place for place, word in enumerate(argv) if place and _is_recipe(word)]
    if names_a_student(argv):  # a run directory may be a value, as of --teacher.weights
        places = [place for place in places if argv[place] in builtin_recipes() and argv[place - 1][:2] != "--"]
        if not places:
            return "", argv
    if not places:
        if {"-h", "--help"} & {*argv}:
            return "", argv
        raise UserError(
            "Name a recipe or a file: famkd train quickstart, or one of `famkd ls recipes`; or "
            "networks of your own: famkd train --student.model M --teacher.model T --teacher.weights W --data D "
            "--root DIR."
        )
    builtin = [place for place in places if argv[place] in builtin_recipes()]
    place = builtin[0] if builtin else places[-1]
    reordered = [argv[place], *argv[:place], *argv[place + 1 :]]
    raise UserError(f"The recipe comes first: {shlex.join(['famkd', 'train', *reordered])}")


def _is_recipe(text: str) -> bool:
    with suppress(UserError):
        return bool(find_recipe(text))
    return False
