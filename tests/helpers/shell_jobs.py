"""Jobs of a sweep that run a few lines of Python instead of a training."""

import sys
from pathlib import Path

from famkd.config.recipe import Recipe
from famkd.sweep.jobs import Job


def shell(folder: Path, code: str, name: str) -> Job:
    """A job that runs `code`, with its log in a folder of its name."""
    return Job(name, Recipe(), folder / name, [sys.executable, "-c", code])
