"""Sentences that say what runs show, made from the figures that were measured."""

from collections.abc import Sequence

import numpy as np

from famkd.compare import Paired, paired
from famkd.compare.find import read_scores
from famkd.compare.groups import SeedGroup, group_scores
from famkd.compare.stats import spread
from famkd.run.directory import Run
from famkd.run.scores import leading, result
from famviz.analysis.amplitude import Stage
from famviz.analysis.cam_compare import Comparison
from famviz.analysis.cam_scores import mean, standard_error
from famviz.analysis.effect import Effect
from famviz.analysis.filter_tables import against_noise
from famviz.filter import Filter
from famviz.networks import Source, run_of, student_alone

__all__ = [
    "accuracy_words", "difference_words", "filters_words", "joined", "maps_words", "moved", "spectra_words", "verdict",
]  # fmt: skip

ALONE = "student alone"
OUTPUT = " output"  # in the name of what a method compares with the teacher


def accuracy_words(source: Source | Sequence[Source]) -> str:
    """The accuracy of runs, each with the runs beside it that differ only in their seed.

    Each seed is compared with the student alone of the same seed, where that was trained in the same folder.
    """
    runs = [run_of(each) for each in ([source] if isinstance(source, Source) else source)]
    parts, unfinished, seeds = [], [], []
    for run in runs:
        group = _seeds_beside(run)
        if group is None:
            unfinished.append(_unfinished(run))
            continue
        words, count = _group_words(group)
        parts.append(words)
        seeds.append(count)
    sentences = unfinished
    if parts:
        teacher = next((run.teacher["top1"] for run in runs if "top1" in run.teacher), None)
        also = "" if teacher is None else f"; the teacher has {teacher:.2f} %"
        sentences = [f"After the last epoch {'; '.join(dict.fromkeys(parts))}{also}.", *unfinished]
    if 1 in seeds:
        sentences.append("One seed cannot tell a method from chance.")
    return " ".join(sentences)


def _seeds_beside(run: Run) -> SeedGroup | None:
    """The finished runs in the folder of a run that differ from it only in their seed; None if it is not finished."""
    own = run.path.resolve()
    beside = sorted(file.parent for file in own.parent.glob("*/recipe.yaml") if file.parent != own)
    groups = group_scores(read_scores([own, *beside])[0])[0]
    return next((group for group in groups if own in [score.path for score in group.scores.values()]), None)


def _group_words(group: SeedGroup) -> tuple[str, int]:
    """Accuracy of a group with its difference from the student alone, and from how many seeds that is."""
    last = group.last()
    name = figure_name(next(iter(group.scores.values())).figure)
    who = f"the student by {group.label}" if group.recipe.method_names else "the student alone"
    words = f"{who} has {name} {spread(list(last.values()))} %"
    if not group.recipe.method_names:
        return f"{words} ({_seeds(len(last))})", len(last)
    alone: dict[int, float] = {}
    for seed, score in group.scores.items():
        base = student_alone(Run(score.path))
        if base:
            alone[seed] = result(base).last
    test = paired(last, alone)
    if test is None:
        return f"{words} ({_seeds(len(last))}; no student alone was trained beside it)", 0
    words += f", {difference_words(test)} from the student alone ({_seeds(test.n)}"
    return f"{words})" if test.n == 1 else f"{words}, {verdict(test)})", test.n


def _unfinished(run: Run) -> str:
    rows = run.metrics()
    if not rows:
        return "No epoch is done yet."
    figure = leading(rows[-1])
    done = f"{rows[-1]['epoch']} of {run.recipe.optim.epochs} epochs"
    return f"The training has done {done}; {figure_name(figure)} is {rows[-1][figure]:.2f} % so far."


def difference_words(test: Paired, unit: str = " points") -> str:
    """A paired difference with its 95 % confidence interval, if there is one."""
    words = f"{test.difference:+.2f}{unit}"
    return words if test.n == 1 else f"{words} [{test.low:.2f}, {test.high:.2f}]"


def verdict(test: Paired) -> str:
    """Where the 95 % interval of a paired difference lies; it is not corrected for the number of comparisons."""
    if test.low > 0:
        return "the interval is above 0"
    if test.high < 0:
        return "the interval is below 0"
    return "the interval contains 0: not told apart"


def filters_words(filters: Sequence[Filter], effects: Sequence[Effect] = ()) -> str:
    """Which frequencies each level prefers, beside noise, and how much of its output the global branch carries."""
    sentences = []
    rows = against_noise(filters)
    for each, trained, noise in zip(filters, rows[::2], rows[1::2]):
        sentences.append(
            f"{each.title}: the filters pass {trained['centroid, mean']:.2f} of Nyquist on average (noise "
            f"{noise['centroid, mean']:.2f}), with a coherence of {trained['coherence, mean']:.2f} (noise "
            f"{noise['coherence, mean']:.2f})."
        )
    shares = [f"{100 * each.share:.2g} % at {each.name}" for each in effects if each.share is not None]
    if shares:
        sentences.append(f"On real features the global branch carries {joined(shares)} of the energy.")
    return " ".join(sentences)


def spectra_words(stages: Sequence[Stage], images: int) -> str:
    """Where the spectra of the students are nearer to the reference's, or farther, than those of the student alone.

    A stage of one ring is left out: beside its mean, a single ring says nothing.
    """
    stages = [stage for stage in stages if len(stage.frequency) > 2]
    if not stages:
        return ""
    parts = []
    for name in _students(stages[0].others):
        having = [stage for stage in stages if name in stage.others]
        known = all(ALONE in stage.others for stage in having)
        parts.append(_moved_words(name, having) if known else _distance_words(name, having))
    if not parts:
        return ""
    lead = f"Spectra of {_images(images)}, by the RMS difference from the {stages[0].reference}"
    if ALONE in stages[0].others:
        lead += ", before (student alone) and after, and by the rings whose 95 % bands do not overlap"
    return f"{lead}: {'; '.join(parts)}."


def _moved_words(name: str, stages: Sequence[Stage]) -> str:
    """Where a student moved to, compared with the student alone."""
    parts: dict[str, list[str]] = {"nearer": [], "farther": []}
    for stage in stages:
        before, after = stage.rms_db(ALONE), stage.rms_db(name)
        rings = f"{moved(stage, name)} of {len(stage.frequency) - 1} rings"
        where = "nearer" if after < before else "farther"
        parts[where].append(f"{stage.name} ({before:.2f} to {after:.2f} dB, {rings})")
    listed = [f"{where} at {joined(found)}" for where, found in parts.items() if found]
    return f"{name} is {', and '.join(listed)}"


def moved(stage: Stage, name: str, other: str = ALONE) -> int:
    """Number of rings above DC where the 95 % bands of two networks' differences from the reference do not overlap."""
    one, two = stage.difference_bands[name][:, 1:], stage.difference_bands[other][:, 1:]
    return int(np.sum((one[0] > two[1]) | (two[0] > one[1])))


def _distance_words(name: str, stages: Sequence[Stage]) -> str:
    """How far a network is from the reference, where there is no student alone."""
    distances = joined([f"{stage.rms_db(name):.2f} dB at {stage.name}" for stage in stages])
    most = max(stages, key=lambda stage: np.abs(stage.difference_curve(name)[1:]).max())
    curve = most.difference_curve(name)[1:]
    at = int(np.abs(curve).argmax())
    sign = "more" if curve[at] > 0 else "less"
    return (
        f"{name} differs by {distances}, most at {most.name}, where it has "
        f"{abs(curve[at]):.2g} dB {sign} at {most.frequency[1:][at]:.3g} cycles per map"
    )


def maps_words(shown: Comparison) -> str:
    """How alike the maps of each network and of the reference are, beside what they would have in common by chance."""
    others = [name for name in shown.results if name != shown.reference]
    if not others:
        return ""
    key, method = "rank correlation", shown.results[shown.reference].method
    parts = [f"{mean(shown.figures[name][key]):.2f} for {name} ({mean(shown.chance[name][key]):.2f} by chance)"
             for name in others]  # fmt: skip
    words = f"{method} of {_images(len(shown.pixels))}: the rank correlation with the maps of the {shown.reference} is "
    sentences = [f"{words}{joined(parts)}."]
    if ALONE in others and _students(others):
        changes = [f"{_change(shown, name, key)} for {name}" for name in _students(others)]
        sentences.append(
            f"From the student alone this is a change of {joined(changes)} (± standard error over images)."
        )
    if shown.masks is not None:
        inside = [f"{100 * mean(shown.figures[name]['energy inside']):.0f} % for {name}" for name in shown.results]
        sentences.append(f"The share of the evidence inside the true place is {joined(inside)}.")
    return " ".join(sentences)


def _change(shown: Comparison, name: str, key: str) -> str:
    """The mean change of a figure from the student alone to a student, image by image, with its standard error."""
    change = shown.figures[name][key] - shown.figures[ALONE][key]
    return f"{mean(change):+.3f} ± {standard_error(change):.3f}"


def joined(words: Sequence[str]) -> str:
    """Words as a list in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _students(names: Sequence[str]) -> list[str]:
    """The networks whose change is of interest: not the student alone, and not what methods make of their maps."""
    return [name for name in names if name != ALONE and OUTPUT not in name]


def figure_name(name: str) -> str:
    """The name of a figure in words: top-1 for `top1`."""
    return name.replace("top1", "top-1")


def _seeds(count: int) -> str:
    return f"n = {count} seed{'s' if count > 1 else ''}"


def _images(count: int) -> str:
    return f"{count} image{'s' if count > 1 else ''}"
