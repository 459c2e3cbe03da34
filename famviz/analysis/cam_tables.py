"""Rows of figures about activation maps: with their errors, by method, and by layer."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from famkd.features.taps import default_taps
from famviz.analysis import cam_scores
from famviz.analysis.cam import METHODS, CamResult, cam
from famviz.analysis.cam_compare import Comparison
from famviz.analysis.network_comparison import NetworkComparison

Rows = list[dict[str, object]]


def with_errors(shown: Comparison, keys: Sequence[str] = ("rank correlation", "energy inside")) -> Rows:
    """A row for each network: mean and standard error over images of some figures, and their means by chance.

    Figures that are not known are left out, such as `energy inside` without masks.
    """
    rows = []
    for name, figures in shown.figures.items():
        row: dict[str, object] = {"network": name}
        for key in keys:
            if key not in figures:
                continue
            row |= {key: cam_scores.mean(figures[key]), f"{key} ±": cam_scores.standard_error(figures[key])}
            if key in shown.chance[name]:
                row[f"{key} by chance"] = cam_scores.mean(shown.chance[name][key])
        rows.append(row)
    return rows


def by_method(
    comparison: NetworkComparison, images: int | Sequence[int] = 32, methods: Sequence[str] = METHODS, **options: Any
) -> Rows:
    """A row for each method and network: the figures of its maps on some images; `options` as in `cam.compare`."""
    rows = []
    for method in methods:
        found = comparison.cams(images, method=method, **options)
        rows += [{"method": method} | row for row in found.rows() if "chance" not in str(row["network"])]
    return rows


def by_layer(comparison: NetworkComparison, name: str = "", images: int | Sequence[int] = 64) -> dict[str, CamResult]:
    """The maps of one network, by default the reference, at each of its stages, for the true class if it is known."""
    name = comparison.known(name or comparison.reference)
    positions = comparison.positions(images)
    model, inputs = comparison.models[name], comparison.inputs(positions)[name]
    labels = comparison.labels
    about: Any = "predicted" if labels is None else torch.from_numpy(labels[positions])
    return {layer: cam(model, inputs, about, layer=layer) for layer in default_taps(model, "stages", inputs[:2])}


def layer_rows(found: dict[str, CamResult], masks: np.ndarray | None = None) -> Rows:
    """A row for each layer: the share of pixels with evidence, the median of the largest values, with masks also the
    share of the evidence inside.
    """
    rows = []
    for layer, result in found.items():
        row: dict[str, object] = {"layer": layer, "map": " x ".join(map(str, result.evidence.shape[1:]))}
        row["pixels with evidence, %"] = 100 * float((result.maps > 0).mean())
        row["largest, median"] = float(np.median(result.maps.max((1, 2))))
        if masks is not None:
            row["energy inside"] = cam_scores.mean(cam_scores.energy_inside(result.maps, masks[: len(result.maps)]))
        rows.append(row)
    return rows


def by_answer(shown: Comparison, name: str, key: str) -> Rows:
    """Two rows: the mean of a figure over the images that a network classifies rightly, and over the others.

    [] where the true classes or the figure are unknown.
    """
    if shown.labels is None or key not in shown.figures[name]:
        return []
    right = shown.results[name].predicted == shown.labels
    rows = []
    for words, chosen in (("right", right), ("wrong", ~right)):
        value = cam_scores.mean(shown.figures[name][key][chosen])
        rows.append({"the prediction was": words, "images": int(chosen.sum()), key: value})
    return rows
