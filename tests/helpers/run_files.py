"""Interrupt a training, and compare its run directory with that of an undisturbed one."""

import os

from famkd.run.directory import Run
from famkd.training.checkpoint import TrainingState


class Killed(BaseException):
    """Stands for a process that ends between two instructions."""


def files(run: Run) -> dict[str, bytes]:
    """What must not depend on when a run was interrupted; tensors by their bytes."""
    names = ["metrics.jsonl", "recipe.yaml", "student.safetensors", "best.safetensors", "method.safetensors"]
    filters = [f"filters/{epoch:04d}.safetensors" for epoch in run.filter_epochs()]
    return {name: (run.path / name).read_bytes() for name in names + filters if (run.path / name).is_file()}


def kill_at_write(monkeypatch, fatal: int) -> list[str]:
    """Raise Killed at the write of a file with this number, counted from 1; returns the names as they are written."""
    replace, written = os.replace, []

    def kill(source, target):
        written.append(target.name)
        if len(written) == fatal:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(os, "replace", kill)
    return written


def kill_after_each_epoch(monkeypatch) -> None:
    """Raise Killed after an epoch is saved."""
    real = TrainingState.save_epoch

    def save_and_stop(*arguments):
        real(*arguments)
        raise Killed

    monkeypatch.setattr(TrainingState, "save_epoch", save_and_stop)


def stop_in_epoch(number: int):
    """A reporter that raises Killed at the first step of an epoch, to take the place of `training.loop.reporting`."""

    class Reporter:
        done = 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return False

        def resume(self, epoch):
            self.done = epoch

        def step(self):
            if self.done + 1 == number:
                raise Killed

        def epoch(self, row, seconds):
            self.done += 1

    return lambda *a: Reporter()


def same(one: Run, two: Run) -> None:
    one, two = files(one), files(two)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
