"""What the filter explorer in the browser asks for, and the answers: JSON, and bytes beside it."""

from typing import Any

import numpy as np

from famkd.errors import UserError, as_sentence
from famviz.analysis.effect_image import ImageEffects
from famviz.explorer.page import Message
from famviz.explorer.pictures import encoded
from famviz.load import LoadedRun


class EffectMessages:
    """Answers about what a filter of a run does to an image.

    Args:
        root: where the data of the run is, if it was moved since the training.
    """

    def __init__(self, opened: LoadedRun, root: str = ""):
        self.opened = opened
        self.effects = None if opened.run is None else ImageEffects(opened.run, root)

    def answer(self, question: dict[str, Any]) -> Message:
        """The pictures of each step, or a message that says in a sentence why there are none."""
        numbers = {name: int(question[name]) for name in ("level", "image", "c_out", "c_in")}
        try:
            return self.effect(**numbers)
        except Exception as error:  # data that is gone or a damaged file fails in any way; the page shows the reason
            return {"kind": "effect", "failed": as_sentence(error), **numbers}, []

    def effect(self, level: int, image: int, c_out: int, c_in: int) -> Message:
        """The image, then map and spectrum of each step, float32 (H, W)."""
        if self.effects is None:
            raise UserError("A bare checkpoint comes without networks and data.")
        found = self.effects.of(self.opened.filters[level].path, image, (c_out, c_in))
        content = {
            "kind": "effect", "level": level, "image": image, "c_out": c_out, "c_in": c_in, "label": found.label,
            "steps": [{"name": step.name, "size": list(step.map.shape)} for step in found.steps],
        }  # fmt: skip
        buffers = [encoded(found.pixels)]
        for step in found.steps:
            buffers += [part.astype(np.float32).tobytes() for part in (step.map, step.spectrum)]
        return content, buffers
