"""Show an evaluation: as lines and tables, as JSON, and as files of predictions and confusions."""

import io
import json
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from famkd.errors import UserError
from famkd.evaluate.answers import BINS, Answers
from famkd.files import write_atomically
from famkd.tables import MISSING, write_table


class Evaluation(NamedTuple):
    """Figures of a network on some images."""

    figures: dict[str, float]  # in percent, the leading one first
    by_class: dict[str, float]  # the leading figure of each class; -1 for a class without images
    answers: Answers | None = None  # of a classifier
    numbers: Answers | None = None  # of several labels or numbers for each image, in place of logits and labels


def as_text(found: Evaluation, rows: int) -> str:
    """The figures in one line, then at most `rows` rows of the weakest classes and of the most frequent confusions."""
    parts = [_line(found.figures)]
    if found.answers is not None:
        parts.append(f"expected calibration error {found.answers.calibration_error():.2f} % ({BINS} bins)\n")
        if agreement := found.answers.agreement():
            parts.append(_line({name.replace("_", " "): value for name, value in agreement.items()}))
    if found.by_class and rows:
        parts.append(_classes_table(found, rows))
    if found.answers is not None and rows:
        parts.append(_confusions_table(found.answers, rows))
    return "".join(parts)


def _line(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" for name, value in figures.items()) + "\n"


def _classes_table(found: Evaluation, rows: int) -> str:
    figure = next(iter(found.figures))
    weakest = sorted(found.by_class.items(), key=lambda item: item[1])
    cells = [[name, f"{value:.2f}" if value >= 0 else MISSING] for name, value in weakest[:rows]]
    notes = ["–: no test object of this class"] if any(value < 0 for _, value in weakest[:rows]) else []
    left_out = len(weakest) - len(cells)
    if left_out > 0:
        notes.append(f"{left_out} of {len(weakest)} classes are left out: their {figure} is higher")
    return "\n" + write_table("table", ["class", f"{figure} %"], cells, notes)


def _confusions_table(answers: Answers, rows: int) -> str:
    confusions = answers.confusions()
    if not confusions:
        return "\nno image is taken for another class\n"
    names = answers.classes
    cells = [[names[label], names[taken], str(count)] for label, taken, count in confusions[:rows]]
    left_out = len(confusions) - len(cells)
    notes = [f"{left_out} more pairs are left out"] if left_out > 0 else []
    return "\n" + write_table("table", ["class", "taken for", "images"], cells, notes, left=2)


def as_json(found: Evaluation) -> str:
    """Everything as one JSON object. Classes without images, and figures that are not finite, are null."""
    by_class = {name: value if value >= 0 else None for name, value in found.by_class.items()}
    shown: dict[str, Any] = {"figures": found.figures, "by_class": by_class}
    if found.answers is not None:
        names = found.answers.classes
        shown |= {
            "images": len(found.answers.labels),
            "calibration_error": found.answers.calibration_error(),
            "confusions": [
                {"class": names[label], "taken_for": names[taken], "images": count}
                for label, taken, count in found.answers.confusions()
            ],
        }
        if agreement := found.answers.agreement():
            shown["agreement"] = agreement
    return json.dumps(_finite(shown), indent=1, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(held) for key, held in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value


def write_confusion(answers: Answers, path: str | Path) -> None:
    """Write the number of images by class (row) and predicted class (column): .npz, or CSV with class names."""
    counts = answers.confusion()
    if _is_npz(path):
        _write_arrays(path, {"counts": counts}, classes=answers.classes)
        return
    rows = [[name, *row] for name, row in zip(answers.classes, counts.tolist())]
    _write_csv(path, ["class", *answers.classes], rows)


def write_predictions(answers: Answers, path: str | Path) -> None:
    """Write what was predicted for each image: .npz with all logits, or CSV with class names.

    An image is named by its position in the test set, counted from 0, and by its file where there is one.
    """
    if _is_npz(path):
        tensors = {"index": answers.index, "labels": answers.labels, "predicted": answers.predicted}
        tensors["logits"] = answers.logits
        if answers.teacher is not None:
            tensors["teacher_logits"] = answers.teacher
        _write_arrays(path, tensors, files=answers.files, classes=answers.classes)
        return
    names = answers.classes
    columns = [answers.index.tolist(), _named(names, answers.labels), _named(names, answers.predicted)]
    columns.append([f"{sure:.4f}" for sure in answers.confidence.tolist()])
    header = ["image", "class", "predicted", "confidence"]
    if answers.teacher is not None:
        header.append("teacher_predicted")
        columns.append(_named(names, answers.teacher.argmax(1)))
    if answers.files:
        header.append("file")
        columns.append(list(answers.files))
    _write_csv(path, header, zip(*columns, strict=True))


def write_numbers(answers: Answers, path: str | Path) -> None:
    """Write what was predicted for each image and label, a probability or a number, beside what is true."""
    if _is_npz(path):
        tensors = {"index": answers.index, "targets": answers.labels, "predicted": answers.logits}
        _write_arrays(path, tensors, files=answers.files, labels=answers.classes)
        return
    columns: list[Sequence[Any]] = [answers.index.tolist()]
    header = ["image"]
    for place, name in enumerate(answers.classes):
        header += [name, f"{name} predicted"]
        columns.append([f"{value:g}" for value in answers.labels[:, place].tolist()])
        columns.append([f"{value:.4g}" for value in answers.logits[:, place].tolist()])
    if answers.files:
        header.append("file")
        columns.append(answers.files)
    _write_csv(path, header, zip(*columns, strict=True))


def must_be_table_or_arrays(flag: str, path: str) -> None:
    """UserError for a file that is neither CSV nor .npz."""
    if path and not path.endswith((".csv", ".npz")):
        raise UserError(f"--{flag} is {path!r}: name a file that ends in .csv or .npz.")


def _is_npz(path: str | Path) -> bool:
    return str(path).endswith(".npz")


def _named(names: list[str], places: Tensor) -> list[str]:
    return [names[place] for place in places.tolist()]


def _write_arrays(path: str | Path, tensors: dict[str, Tensor], **words: Sequence[str]) -> None:
    """Write tensors and lists of words as .npz; empty lists are left out."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    arrays |= {name: np.array(each) for name, each in words.items() if each}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]  (it takes any arrays)
    write_atomically(Path(path), buffer.getbuffer())


def _write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = write_table("csv", header, [[str(cell) for cell in row] for row in rows])
    write_atomically(Path(path), table.encode())
