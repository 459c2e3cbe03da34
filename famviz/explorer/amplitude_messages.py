"""What the amplitude explorer in the browser asks for, and the answers: JSON, and bytes beside it.

Decibels are int16 in steps of 0.01 dB, shares uint16 of 65535 times their square root. Maps are int16, in a saved page
int8, of their largest value.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from famkd.errors import as_sentence
from famviz.analysis.amplitude import Relative, without_dc
from famviz.analysis.amplitude_store import AmplitudeStore, Look
from famviz.analysis.bands import cell_shares
from famviz.analysis.predictions import called
from famviz.explorer.page import Message
from famviz.explorer.pictures import encoded, thumbnail
from famviz.figures import style

SECONDS = 0.8  # that an answer about all images may take before it tells what is known so far
CHANNELS = 8  # whose maps are sent, those with the most energy apart from their mean
SHARE, VALUE, SMALL = 65535, 32767, 127  # the largest codes
TABLES = {"amplitude": style.AMPLITUDE, "signed": style.SIGNED, "map": style.ENERGY}

Names = Collection[str] | None  # of networks; None for all


class PageBudget(NamedTuple):
    """How much of what a saved page holds."""

    looks: Sequence[Look]
    images: Sequence[int]  # with spectra, shares, maps and pictures, as far as they fit; the first always
    bytes: int


class Messages:
    """Answers about the images of a store."""

    def __init__(self, store: AmplitudeStore):
        self.store, self.comparison = store, store.comparison

    def answer(self, question: dict[str, Any]) -> Message:
        """The answer to one question, or a message that says in a sentence why there is none."""
        kind = question.get("ask")
        try:
            if kind == "thumbs":
                return self.thumbs(question["positions"])
            if kind == "maps":
                return self.maps(question["position"], question["epoch"])
            look = Look(bool(question["window"]), int(question["epoch"]))
            self.store.check(look)
            if kind == "planes":
                return self.planes(question["position"], look)
            if kind == "cells":
                return self.cells(look)
            if kind == "bands":
                return self.bands(look, question["reference"], question["relative"])
            self.store.advance(look, SECONDS)
            return self.spectra(look)
        except Exception as error:  # a damaged file or an unusual network fails in any way; the page shows the reason
            return {"kind": "failed", "words": as_sentence(error), "question": question}, []

    def spectra(self, look: Look) -> Message:
        """Mean spectra of all stages over the images that are known, nothing taken out, with loudness and DC."""
        stages, buffers = [], []
        for stage in range(len(self.store.sizes)):
            found = self.store.spectra(look, stage)
            stages.append({name: _levels(planes) for name, planes in found.items()})
            buffers += [_decibels(planes.mean(0)) for planes in found.values()]
        return self._about("spectra", look, stages=stages, count=len(self.store.known(look))), buffers

    def bands(self, look: Look, reference: str, relative: Relative) -> Message:
        """Bootstrap intervals of all curves, and of their differences from a reference."""
        stages, buffers = [], []
        for stage in range(len(self.store.sizes)):
            names = list(self.store.spectra(look, stage, [0]))
            base = reference if reference in names else names[0]
            radial = self.store.stage(look, stage, base, relative)
            angular = self.store.directions(look, stage, base)
            others = [name for name in names if name != base]
            stages.append({"names": names, "others": others, "base": base})
            parts = [radial.bands[name] for name in names] + [radial.difference_bands[name] for name in others]
            parts += [angular.bands[name] for name in names] + [angular.difference_bands[name] for name in others]
            buffers.append(np.concatenate([each.ravel() for each in parts]).astype(np.float32).tobytes())
        about = {"reference": reference, "relative": relative, "count": len(self.store.known(look))}
        return self._about("bands", look, stages=stages, **about), buffers

    def cells(self, look: Look, positions: Sequence[int] | None = None, names: Names = None) -> Message:
        """Share of each ring and direction in the energy of each image, by stage and network."""
        images = self.store.known(look) if positions is None else list(positions)
        stages, buffers = [], []
        for stage in range(len(self.store.sizes)):
            found = _only(self.store.spectra(look, stage, images), names)
            stages.append(list(found))
            for planes in found.values():
                codes = np.rint(SHARE * np.sqrt(cell_shares(planes)))
                buffers.append(codes.astype(np.uint16).tobytes())
        return self._about("cells", look, stages=stages, images=images), buffers

    def planes(self, position: int, look: Look, names: Names = None) -> Message:
        """Spectra of one image, nothing taken out, by stage and network."""
        stages, buffers = [], []
        for stage in range(len(self.store.sizes)):
            found = _only(self.store.spectra(look, stage, [position]), names)
            stages.append({name: _levels(planes) for name, planes in found.items()})
            buffers += [_decibels(planes[0]) for planes in found.values()]
        return self._about("planes", look, stages=stages, position=position), buffers

    def maps(self, position: int, epoch: int, names: Names = None, most: int = VALUE) -> Message:
        """The picture, and for each stage and network the channels with the most energy apart from their mean."""
        pixels = self.comparison.pixels([position])[0]
        stages, buffers = [], [encoded(pixels)]
        found = self.store.maps([position], epoch, names)
        for back in range(len(self.store.sizes), 0, -1):
            stage = {}
            for name, maps in found.items():
                if back <= len(maps):
                    stage[name], data = _channels(maps[-back][1][0].float().cpu().numpy(), most)
                    buffers.append(data)
            stages.append(stage)
        return {"kind": "maps", "epoch": epoch, "position": position, "stages": stages}, buffers

    def thumbs(self, positions: Sequence[int]) -> Message:
        """Small pictures, and the classes where they are known."""
        labels = [self.comparison.images.label(at) for at in positions]
        names = ["" if label is None else called(self.comparison.classes, label) for label in labels]
        pictures = [thumbnail(each) for each in self.comparison.pixels(positions)]
        return {"kind": "thumbs", "positions": list(positions), "labels": names}, pictures

    def of_page(self, budget: PageBudget) -> tuple[list[int], list[Message]]:
        """What a page without a kernel needs, and which images it holds."""
        messages: list[Message] = []
        left = budget.bytes
        for look in budget.looks:
            self.store.learn(look, range(len(self.comparison)))
            messages.append(self.spectra(look))
            for reference in self.store.names:
                messages += [self.bands(look, reference, relative) for relative in get_args(Relative)]
        left -= _size(messages)
        held: list[int] = []
        for at in budget.images:
            own = [self.thumbs([at]), *self._of_image(at, budget.looks)]
            cells = [self.cells(look, [at], self._changed(look)) for look in budget.looks]
            left -= _size(own) + _size(cells)
            if held and left < 0:
                break
            held.append(at)
            messages += own
        return held, [*messages, *(self.cells(look, held, self._changed(look)) for look in budget.looks)]

    def _of_image(self, at: int, looks: Sequence[Look]) -> list[Message]:
        """Maps and spectra of an image; of an epoch those of the networks that have its checkpoint."""
        epochs = {look.epoch: self._changed(look) for look in looks}
        maps = [self.maps(at, epoch, names, SMALL) for epoch, names in epochs.items()]
        return [*maps, *(self.planes(at, look, self._changed(look)) for look in looks)]

    def _changed(self, look: Look) -> Names:
        """The networks that are not as at the end; None for the end itself."""
        return list(self.store.checkpoints[look.epoch]) if look.epoch else None

    def _about(self, kind: str, look: Look, **more: Any) -> dict[str, Any]:
        return {"kind": kind, "window": look.window, "epoch": look.epoch, **more}


def _only(found: Mapping[str, Any], names: Names) -> dict[str, Any]:
    return {name: each for name, each in found.items() if names is None or name in names}


def _levels(planes: np.ndarray) -> dict[str, float]:
    """Mean loudness and DC of spectra (B, H, W), dB."""
    dc = planes[:, planes.shape[1] // 2, planes.shape[2] // 2]
    return {"loudness": round(float(without_dc(planes).mean()), 4), "dc": round(float(dc.mean()), 4)}


def _decibels(plane: np.ndarray) -> bytes:
    return np.rint(100 * plane).clip(-VALUE, VALUE).astype(np.int16).tobytes()


def _channels(maps: np.ndarray, most: int) -> tuple[dict[str, Any], bytes]:
    """The channels of maps (C, H, W) with the most energy apart from their mean: JSON and codes."""
    energy = maps.var((1, 2))
    chosen = np.sort(np.argsort(-energy, kind="stable")[:CHANNELS])
    kept = maps[chosen]
    top = float(np.abs(kept).max()) or 1.0
    content = {"channels": chosen.tolist(), "of": len(maps), "size": list(maps.shape[1:]), "top": top, "most": most}
    return content, np.rint(kept / top * most).astype(np.int8 if most == SMALL else np.int16).tobytes()


def _size(messages: Iterable[Message]) -> int:
    """Bytes of messages in a page, in which three bytes are four characters."""
    return sum(4 * len(part) // 3 for _, parts in messages for part in parts)
