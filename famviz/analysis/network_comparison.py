"""Any networks on the same images: what each predicts, where it looks, and how alike they are inside."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from famkd.errors import UserError, nearest
from famviz.analysis.amplitude import Relative, Stages, stages_of
from famviz.analysis.cam_compare import Comparison, compare
from famviz.analysis.predictions import Answers, Calibration, Confusion, agreement, calibration, called, confusion
from famviz.analysis.similarity import Similarity, cka, plane, stage_features, turned_to
from famviz.analysis.stage_spectra import network_spectra
from famviz.networks.images import Images
from famviz.networks.inputs import Models, Reader
from famviz.networks.prepare import CROP, Transform
from famviz.tables import Rows, Table

BATCH = 16  # images that are read and shown to the networks at a time


class NetworkComparison(Rows):
    """Networks and images. What is asked for is computed once and kept; the networks are left as they were."""

    def __init__(
        self, models: Models, images: Images, transforms: Transform | Mapping[str, Transform] | None = None, *,
        masks: np.ndarray | None = None, crop: float = CROP,
    ):  # fmt: skip
        if not models or not all(isinstance(model, nn.Module) for model in models.values()):
            raise UserError("Pass networks by name: {'teacher': model, 'student': model}.")
        self.models, self.images, self.masks = dict(models), images, masks
        self.reader = Reader(self.models, images, self.reference, transforms, crop)
        self.answers = {name: Answers(model, len(images)) for name, model in models.items()}

    @property
    def names(self) -> list[str]:
        return list(self.models)

    @property
    def reference(self) -> str:
        """The network that the others are compared with."""
        return "teacher" if "teacher" in self.models else self.names[0]

    @property
    def others(self) -> list[str]:
        return [name for name in self.names if name != self.reference]

    @property
    def classes(self) -> list[str]:
        """Names of the classes; [] if they are unknown."""
        return self.images.classes

    @property
    def labels(self) -> np.ndarray | None:
        """True classes (N,); None if they are unknown."""
        return self.images.labels

    @property
    def labelled(self) -> bool:
        """Whether the images have labels, found without reading all of them."""
        return self.images.label(0) is not None

    def only(self, names: Collection[str]) -> "NetworkComparison":
        """The same images and some of the networks."""
        chosen = {name: model for name, model in self.models.items() if name in names}
        transforms = {name: self.reader.transforms[name] for name in chosen}
        return NetworkComparison(chosen, self.images, transforms, masks=self.masks, crop=self.reader.crop)

    def __len__(self) -> int:
        return len(self.images)

    def positions(self, only: int | Sequence[int] | None = None) -> list[int]:
        """Positions of images: the first `only`, those at `only`, or all."""
        if only is None or isinstance(only, int):
            return list(range(len(self) if only is None else min(only, len(self))))
        chosen = [int(at) for at in only]
        wrong = [at for at in chosen if not 0 <= at < len(self)]
        if wrong:
            raise UserError(f"There is no image {wrong[0]}: there are {len(self)}, counted from 0.")
        return chosen

    def inputs(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Normalised images (B, 3, h, w) for each network, on its device."""
        return self.reader.read(positions)[0]

    def pixels(self, positions: Sequence[int]) -> np.ndarray:
        """What the reference sees, (B, H, W, 3) uint8; every map is drawn over this."""
        return self.reader.read(positions)[1]

    def predict(self, only: int | Sequence[int] | None = None) -> None:
        """Show images to the networks, unless they have seen them already."""
        unseen = [at for at in self.positions(only) if not self.answers[self.reference].known[at]]
        for start in range(0, len(unseen), BATCH):
            some = unseen[start : start + BATCH]
            for name, images in self.inputs(some).items():
                self.answers[name].show(some, images)

    @property
    def logits(self) -> dict[str, np.ndarray]:
        """Logits (N, classes) of each network on all images."""
        self.predict()
        return {name: each.logits for name, each in self.answers.items()}

    def rows(self) -> list[dict[str, object]]:
        """A row for each image: its class, and what each network predicts with which probability."""
        self.predict()
        chances = {name: each.probabilities for name, each in self.answers.items()}
        found = []
        for at in range(len(self)):
            row: dict[str, object] = {"image": at}
            if self.labels is not None:
                row["true class"] = called(self.classes, int(self.labels[at]))
            for name, probabilities in chances.items():
                best = int(probabilities[at].argmax())
                row |= {name: called(self.classes, best), f"{name} p": float(probabilities[at, best])}
                if self.labels is not None:
                    row[f"{name} right"] = best == self.labels[at]
            found.append(row)
        return found

    def predictions(self) -> Table:
        """The rows as a table."""
        return Table(self.rows())

    def summary(self) -> Table:
        """A row for each network: accuracy in %, mean confidence, calibration error, agreement with the reference."""
        self.predict()
        self._need_same_classes()
        first = self.answers[self.reference].probabilities
        rows = []
        for name in self.names:
            own = self.answers[name].probabilities
            row: dict[str, object] = {"network": name, "images": len(self)}
            if self.labels is not None:
                row["top-1 %"] = 100 * float(np.mean(own.argmax(1) == self.labels))
                row["calibration error"] = self.calibration(name).error
            row["mean p"] = float(own.max(1).mean())
            if name != self.reference:
                row |= agreement(first, own, self.labels, ("the reference", "this one"))
            rows.append(row)
        return Table(rows)

    def calibration(self, name: str) -> Calibration:
        """Calibration of a network; UserError without labels."""
        self.predict()
        return calibration(name, self.answers[self.known(name)].probabilities, self._need_labels())

    def confusion(self, down: str, across: str = "") -> Confusion:
        """True classes against the predictions of a network, or the predictions of two networks."""
        self.predict()
        self._need_same_classes()
        count = self.answers[self.reference].logits.shape[1]
        one = self.answers[self.known(down)].logits.argmax(1)
        if across:
            other = self.answers[self.known(across)].logits.argmax(1)
            return confusion(down, one, across, other, count, self.classes)
        return confusion("true class", self._need_labels(), down, one, count, self.classes)

    def embedding(self, known_only: bool = False) -> dict[str, np.ndarray]:
        """Each network's embedding of the images in the plane (N, 2), turned towards that of the reference.

        Args:
            known_only: only of the images that the networks have seen already; the points of the others are NaN.
        """
        if not known_only:
            self.predict()
        known = self.answers[self.reference].known
        found = {name: plane(each.embeddings[known]) for name, each in self.answers.items()}
        first = found[self.reference]
        placed = {name: np.full((len(self), 2), np.nan) for name in found}
        for name, points in found.items():
            placed[name][known] = points if name == self.reference else turned_to(points, first)
        return placed

    def cka(self, one: str = "", other: str = "", images: int | Sequence[int] = 200) -> Similarity:
        """CKA between the stages of two networks; by default of the reference and the next one."""
        one = self.known(one or self.reference)
        other = self.known(other or (self.others or [one])[0])
        positions = self.positions(images)
        inputs = self.inputs(positions)
        first, second = (stage_features(self.models[name], inputs[name]) for name in (one, other))
        values = np.array([[cka(a, b) for b in second.values()] for a in first.values()])
        return Similarity(one, other, values, (list(first), list(second)), len(positions))

    def spectra(
        self, images: int | Sequence[int] | None = 200, *, relative: Relative = "mean", window: bool = False,
        draws: int = 500, seed: int = 0,
    ) -> Stages:  # fmt: skip
        """Amplitude spectra of every stage, as `amplitude_difference` returns them."""
        inputs = self.inputs(self.positions(images))
        found = {name: network_spectra(model, inputs[name], window=window) for name, model in self.models.items()}
        return stages_of(found, self.reference, draws, seed, relative)

    def cams(self, images: int | Sequence[int] | None = 8, **options: Any) -> Comparison:
        """Class activation maps of all networks, with figures; `options` go to `cam_compare.compare`."""
        positions = self.positions(images)
        inputs, pixels = self.reader.read(positions)
        given: dict[str, Any] = {"pixels": pixels, "classes": self.classes, "steps": 0}
        if self.labels is not None:
            given["labels"] = torch.from_numpy(self.labels[positions])
        if self.masks is not None:
            given["masks"] = self.masks[positions]
        return compare(self.models, inputs, **{**given, **options})

    def known(self, name: str) -> str:
        """The name, if a network has it."""
        if name not in self.models:
            raise UserError(
                f"There is no network {name!r}.{nearest(name, self.names)} There are {', '.join(self.names)}."
            )
        return name

    def _need_labels(self) -> np.ndarray:
        if self.labels is None:
            raise UserError("This needs the true classes: pass labels=.")
        return self.labels

    def _need_same_classes(self) -> None:
        counts = {name: each.logits.shape[1] for name, each in self.answers.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise UserError(
                f"The networks have different numbers of classes ({listed}), so predictions do not compare."
            )

    def __repr__(self) -> str:
        listed = ", ".join(f"{name} ({type(model).__name__})" for name, model in self.models.items())
        return f"NetworkComparison({listed}; {len(self)} images)"

    def _repr_html_(self) -> str:
        """The networks with their sizes; figures of predictions only if all images were shown already."""
        if all(each.known.all() for each in self.answers.values()):
            return self.summary()._repr_html_()
        rows = []
        for name, model in self.models.items():
            parameters = sum(p.numel() for p in model.parameters())
            row = {"network": name, "kind": type(model).__name__, "parameters": parameters}
            rows.append({**row, "images": len(self)})
        return Table(rows)._repr_html_()
