"""What the amplitude explorer compares: networks, what methods make of their maps, and their checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from famkd.distill.distiller import Distiller
from famkd.errors import UserError, nearest
from famkd.features.taps import default_taps
from famviz.analysis.compare_networks import Sources, compare_networks
from famviz.analysis.network_comparison import NetworkComparison
from famviz.analysis.stage_spectra import level_maps, method_of
from famviz.networks import Source, students_of_runs, tapping, trained_distiller
from famviz.networks.checkpoints import Checkpoints, best_checkpoint, network_at

Inputs = Mapping[str, Tensor]  # normalised images by network
Maps = list[tuple[str, Tensor]]  # name and maps (B, C, H, W) of each stage that has frequencies, shallow to deep


class Compared(NamedTuple):
    """Networks on the same images, and all that has maps: the networks and the outputs of methods."""

    comparison: NetworkComparison
    makers: dict[str, Callable[[Inputs], Maps]]
    checkpoints: dict[int, dict[str, Callable[[], Callable[[Inputs], Maps]]]]  # by epoch and network


def compared(source: Sources, checkpoints: Checkpoints | None = None, **options: Any) -> Compared:
    """What is compared; `options` as in `compare_networks`.

    Of runs also the outputs that their methods compare with the teacher, at the taps of the training, and the weights
    of the best epoch where they were kept and it is not the last one.
    """
    comparison = compare_networks(source, **options)
    taps: dict[str, Sequence[str]] = {}
    outputs: dict[str, Callable[[Inputs], Maps]] = {}
    given: dict[str, dict[int, Any]] = {name: dict(each) for name, each in (checkpoints or {}).items()}
    for name in given:
        if name not in comparison.models:
            raise UserError(f"Checkpoints are for {name!r}, which is no network here.{nearest(name, comparison.names)}")
    if not isinstance(source, NetworkComparison | Mapping):
        taps, outputs = _of_runs(source, comparison.reference, options.get("root", ""))
        for name, run in students_of_runs(source).items():
            given[name] = {**best_checkpoint(run), **given.get(name, {})}
    makers = {name: maker_of(name, model, taps.get(name, ())) for name, model in comparison.models.items()}
    by_epoch: dict[int, dict[str, Callable]] = {}
    for name, kept in given.items():
        for epoch, checkpoint in sorted(kept.items()):
            model, own = comparison.models[name], taps.get(name, ())
            make = partial(_maker_at, name, model, checkpoint, own)
            by_epoch.setdefault(int(epoch), {})[name] = make
    return Compared(comparison, {**makers, **outputs}, dict(sorted(by_epoch.items())))


def maker_of(name: str, model: nn.Module, taps: Sequence[str] = ()) -> Callable[[Inputs], Maps]:
    """A function from images to the maps of a network's stages, or of its `taps`. The network is left as it was."""
    known = list(taps)

    def make(inputs: Inputs) -> Maps:
        images = inputs[name]
        if not known:
            known.extend(default_taps(model, "stages", images[:2]))
        with tapping(model, known) as tapped:
            return with_frequencies(known, tapped(images)[1])

    return make


def with_frequencies(names: Sequence[str], maps: Sequence[Tensor]) -> Maps:
    """The maps that are larger than one pixel."""
    return [(name, each) for name, each in zip(names, maps) if each.ndim == 4 and min(each.shape[-2:]) > 1]


def _maker_at(name: str, model: nn.Module, checkpoint: Any, taps: Sequence[str]) -> Callable[[Inputs], Maps]:
    return maker_of(name, network_at(model, checkpoint).eval(), taps)


def _of_runs(
    source: Source | Sequence[Source], reference: str, root: str
) -> tuple[dict[str, Sequence[str]], dict[str, Callable[[Inputs], Maps]]]:
    """Taps by network, and the outputs that methods compare with the teacher, by name."""
    taps: dict[str, Sequence[str]] = {}
    outputs: dict[str, Callable[[Inputs], Maps]] = {}
    for student, run in students_of_runs(source).items():
        if not run.recipe.method_names:
            continue
        distiller = trained_distiller(run, root)
        for method in distiller.methods:
            if not method_of(distiller, method).compared():
                continue
            own, teacher = distiller.taps(method)
            taps.setdefault(student, own)
            taps.setdefault("student alone", own)
            taps.setdefault("teacher", teacher)
            name = f"{method} output"
            outputs[f"{name}, {run.path.name}" if name in outputs else name] = _output(distiller, method, reference)
    return taps, outputs


def _output(distiller: Distiller, method: str, reference: str) -> Callable[[Inputs], Maps]:
    """The maps that a method compares with the teacher."""

    def make(inputs: Inputs) -> Maps:
        names, chunks = level_maps(distiller, method, inputs[reference])
        return with_frequencies(names, [torch.cat(parts) for parts in zip(*chunks)])

    return make
