"""What the CAM explorer in the browser asks for, and the answers: JSON, and bytes beside it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from famkd.errors import as_sentence
from famviz.analysis.cam_store import CamStore, Choice, ImageMap, Shown
from famviz.analysis.similarity import FEWEST
from famviz.explorer.page import Message
from famviz.explorer.pictures import encoded, thumbnail

STEPS = 8  # of insertion and deletion
CKA_IMAGES = 64  # that a similarity of stages is computed on


class Messages:
    """Answers about the images of a store."""

    def __init__(self, store: CamStore):
        self.store, self.comparison = store, store.comparison

    def answer(self, question: dict[str, Any]) -> Message:
        """The answer to one question, or a message that says in a sentence why there is none."""
        kind = question.get("ask")
        try:
            if kind == "facts":
                return self.facts(question["positions"])
            if kind == "pictures":
                return self.pictures(question["positions"])
            if kind == "embedding":
                return self.embedding()
            if kind == "cka":
                return self.similarity(question["other"])
            choice = Choice(question["method"], question["layer"], question["target"])
            if kind == "areas":
                return self.areas(question["position"], question["network"], choice)
            return self.maps(question["positions"], choice)
        except Exception as error:  # a damaged file or an unusual network fails in any way; the page shows the reason
            return {"kind": "failed", "words": as_sentence(error), "question": question}, []

    def facts(self, positions: Sequence[int]) -> Message:
        """Thumbnails, labels, and what each network predicts with which probability."""
        self.comparison.predict(positions)
        predicted, p = {}, {}
        for name, answers in self.comparison.answers.items():
            chances = answers.probabilities[list(positions)]
            predicted[name] = chances.argmax(1).tolist()
            p[name] = chances.max(1).round(4).tolist()
        labels = [self.comparison.images.label(at) for at in positions]
        content = {"kind": "facts", "positions": list(positions), "predicted": predicted, "p": p}
        content["labels"] = None if None in labels else labels
        return content, [thumbnail(each) for each in self.comparison.pixels(positions)]

    def pictures(self, positions: Sequence[int]) -> Message:
        """The images at the size at which maps are drawn over them."""
        return {"kind": "pictures", "positions": list(positions)}, [
            encoded(each) for each in self.comparison.pixels(positions)
        ]

    def maps(self, positions: Sequence[int], choice: Choice) -> Message:
        """The evidence of each network, float32 at the size of its layer, and figures about it."""
        shown = self.store.maps(positions, choice)
        networks: dict[str, Any] = {}
        buffers = []
        for name in self.comparison.names:
            networks[name], data = _of_network(shown, name)
            buffers.append(data)
        content = {"kind": "maps", "key": "|".join(choice), "positions": list(positions), "networks": networks}
        return content, buffers

    def areas(self, position: int, network: str, choice: Choice) -> Message:
        """Insertion and deletion of one network on one image."""
        insertion, deletion = self.store.areas(position, network, choice, STEPS)
        content = {"kind": "areas", "key": "|".join(choice), "position": position, "network": network}
        return {**content, "insertion": _number(insertion), "deletion": _number(deletion)}, []

    def embedding(self) -> Message:
        """Points (N, 2) float32 of each network; NaN for images that were not shown to it yet."""
        points = self.comparison.embedding(known_only=True)
        count = int(self.comparison.answers[self.comparison.reference].known.sum())
        content = {"kind": "embedding", "networks": list(points), "count": count}
        return content, [each.astype(np.float32).tobytes() for each in points.values()]

    def similarity(self, other: str, images: Sequence[int] | int = CKA_IMAGES) -> Message:
        """CKA between the stages of the reference and of another network; null where a stage is constant."""
        found = self.comparison.cka(self.comparison.reference, other, images)
        values = [[_number(value) for value in row] for row in found.values.tolist()]
        content = {"kind": "cka", "other": other, "stages": list(found.stages), "values": values}
        return {**content, "count": found.images}, []

    def of_page(
        self, positions: Sequence[int], choices: Sequence[Choice], areas: bool, budget: int
    ) -> tuple[list[int], list[Message]]:
        """Everything about as many images as fit into a number of bytes, at least the first one."""
        kept: list[int] = []
        messages: list[Message] = []
        for at in positions:
            own = [self.facts([at]), self.pictures([at]), *(self.maps([at], choice) for choice in choices)]
            budget -= sum(len(part) for _, parts in own for part in parts)
            if kept and budget < 0:
                break
            if areas:
                own += [self.areas(at, name, choice) for name in self.comparison.names for choice in choices]
            kept.append(at)
            messages += own
        if len(kept) >= FEWEST:
            messages += [self.similarity(name, kept[:CKA_IMAGES]) for name in self.comparison.others]
        return kept, [*messages, self.embedding()]


def _of_network(shown: Sequence[Shown], name: str) -> tuple[dict[str, Any], bytes]:
    """The maps of one network on several images: JSON, and the evidence of one image after the other."""
    maps = [each[name] for each in shown]
    refused = [each for each in maps if isinstance(each, str)]
    if refused:
        return {"refused": refused[0]}, b""
    given = [each for each in maps if isinstance(each, ImageMap)]
    figures = {key: [_number(each.figures[key]) for each in given] for key in given[0].figures}
    content = {
        "grid": list(given[0].evidence.shape),
        "labels": [each.label for each in given],
        "p": [round(each.probability, 4) for each in given],
        "why": [each.why_empty for each in given],
        "layer": given[0].layer,
        "figures": figures,
    }
    return content, b"".join(np.ascontiguousarray(each.evidence).tobytes() for each in given)


def _number(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if np.isnan(value) else round(float(value), 4)
