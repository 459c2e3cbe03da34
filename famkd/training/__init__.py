"""Training: from a recipe to a finished run directory."""

from famkd.training.loop import train

__all__ = ["train"]
