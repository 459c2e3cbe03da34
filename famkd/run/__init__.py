"""The run directory: what a training leaves on disk."""

from famkd.run.directory import Run

__all__ = ["Run"]
