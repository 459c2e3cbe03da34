"""Compare runs: mean and spread over seeds, and a paired test of each group against one of them."""

import statistics
from collections.abc import Iterable
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

from famkd.compare.find import find_runs, read_scores
from famkd.compare.groups import RunResult, SeedGroup, group_scores
from famkd.compare.published import Figure, published_beside, published_for
from famkd.compare.saved import save_results
from famkd.compare.stats import Paired, holm, paired, spread
from famkd.config.recipe import Recipe
from famkd.errors import UserError, nearest
from famkd.run.scores import best_is_chosen
from famkd.tables import MISSING, Format, write_table

FOR_PROGRAMS = ("csv", "json")  # formats with a column for each number
SIGNIFICANT = 0.05  # p below which two groups are told apart


class Comparison(NamedTuple):
    """A group, the group that it is tested against, if any, and the p of the test after Holm's correction."""

    group: SeedGroup
    base: SeedGroup | None
    test: Paired | None
    p_holm: float = nan


def compare(
    runs: Iterable[str | Path],
    *,
    against: str = "",
    published: bool = False,
    explain: bool = False,
    format: Format = "table",
    save: str | Path = "",
) -> str:
    """A table of runs, given as run directories, folders of runs or of saved results, or patterns.

    Args:
        against: method or group that the others are tested against; by default the student alone, if it is there.
        published: add the figures that other papers report for the same pairs.
        explain: add each difference as a sentence.
        save: folder in which the results are saved as CSV files and recipes.

    Errors: UserError where no run is finished, or `against` names no group.
    """
    scores, skipped = read_scores(find_runs(runs))
    groups, repeated = group_scores(scores)
    skipped += repeated
    if not groups:
        raise UserError(f"No finished run among them. {' '.join(skipped)}".strip())
    comparisons = _comparisons(groups, against)
    if save:
        save_results(groups, Path(save))
    figures = list(dict.fromkeys(group.figure for group in groups))
    header = _header(format, figures, published)
    rows = [_row(each, format, published) for each in comparisons]
    if published:
        others = published_beside([group.recipe for group in groups])
        rows += [_published_row(figure, len(header)) for figure in others]
    if format not in FOR_PROGRAMS:
        header, *rows = _without_empty([header, *rows], {"figure"} if len(figures) == 1 else set())
    sentences = explained(comparisons) if explain else []
    return write_table(format, header, rows, _notes(comparisons) + sentences + skipped, left=2)


def _comparisons(groups: list[SeedGroup], against: str) -> list[Comparison]:
    """Every group with its base, sorted by recipe: the base first, then the others from best to worst."""
    comparisons, by_recipe = [], _by_recipe(groups)
    for recipe, base in _bases(groups, against).items():
        here = by_recipe[recipe]
        tests = [_tested(group, base) for group in here]
        adjusted = holm([test.p if test else nan for test in tests])
        comparisons += [Comparison(group, base, test, p) for group, test, p in zip(here, tests, adjusted)]
    return sorted(comparisons, key=_place)


def _tested(group: SeedGroup, base: SeedGroup | None) -> Paired | None:
    """A group against its base; None for the base itself, and where the two have different figures."""
    if base is None or base is group or base.figure != group.figure:
        return None
    return paired(group.last(), base.last())


def _bases(groups: list[SeedGroup], against: str) -> dict[str, SeedGroup | None]:
    """The group that the others are tested against, by recipe; UserError where `against` names none."""
    bases = {recipe: _base(recipe, here, against) for recipe, here in _by_recipe(groups).items()}
    if against and not any(bases.values()):
        hint = nearest(against, [group.label for group in groups])
        raise UserError(f"There is no group {against!r}.{hint} There are: {'; '.join(_names(groups))}.")
    return bases


def must_name_a_group(recipes: Iterable[Recipe], against: str) -> None:
    """UserError where `against` names no group among runs of these recipes, which need not be trained yet."""
    planned = [RunResult(Path(), recipe, "", 0.0, None, "", [], None) for recipe in recipes]
    _bases(group_scores(planned)[0], against)


def _place(comparison: Comparison) -> tuple[str, bool, float]:
    group = comparison.group
    mean = statistics.mean(group.last().values())
    return group.recipe.name, group is not comparison.base, -mean


def _by_recipe(groups: list[SeedGroup]) -> dict[str, list[SeedGroup]]:
    found: dict[str, list[SeedGroup]] = {}
    for group in groups:
        found.setdefault(group.recipe.name, []).append(group)
    return found


def _base(recipe: str, here: list[SeedGroup], against: str) -> SeedGroup | None:
    """The group of a recipe that `against` names: by its label, else by its method."""
    wanted = against or "none"
    named = [group for group in here if group.label == wanted]
    named = named or [group for group in here if group.recipe.method == wanted]
    if against and len(named) > 1:
        labels = "; ".join(group.label for group in named)
        raise UserError(f"{against} is several groups of {recipe}: name one of {labels}.")
    return named[0] if len(named) == 1 else None


def _names(groups: list[SeedGroup]) -> list[str]:
    """Labels of groups, with their recipes if there are several."""
    recipes_of: dict[str, list[str]] = {}
    for group in groups:
        recipes_of.setdefault(group.label, []).append(group.recipe.name)
    if len({group.recipe.name for group in groups}) == 1:
        return list(recipes_of)
    return [f"{label} (of {', '.join(recipes)})" for label, recipes in recipes_of.items()]


def explained(comparisons: Iterable[Comparison]) -> list[str]:
    """What each comparison says, largest difference first, as a sentence."""
    tested = [each for each in comparisons if each.base and each.test]
    return [_sentence(each) for each in sorted(tested, key=lambda each: -(each.test.difference if each.test else 0))]


def _sentence(comparison: Comparison) -> str:
    group, base, test, p = comparison
    assert base and test
    side = "above" if test.difference >= 0 else "below"
    words = f"{group.label} was {abs(test.difference):.2f} points {side} {base.label}"
    if isnan(p):
        return f"{words}, n = {test.n}: too few seeds to tell them apart."
    low, high = sorted(value if test.difference >= 0 else -value for value in (test.low, test.high))
    verdict = "told apart" if p < SIGNIFICANT else "not told apart"
    return f"{words} [{low:.2f}, {high:.2f}], n = {test.n}: {verdict} (p = {p:.3f} after correction)."


def _header(format: Format, figures: list[str], published: bool) -> list[str]:
    if format in FOR_PROGRAMS:
        header = ["recipe", "method", "n", "seeds", "figure", "last_mean", "last_std", "best_mean", "best_std"]
        header += ["best_chosen_on", "ema_mean", "ema_std"]
        header += ["seconds_per_epoch", "peak_mib", "against", "pairs", "difference", "ci_low", "ci_high"]
        header += ["p", "p_holm"]
    else:
        name = f" {_spelled(figures[0])}" if len(figures) == 1 else ""
        header = ["recipe", "method", "seeds", "figure", f"last{name}", f"best{name}", f"EMA{name}"]
        header += ["s/epoch", "peak MiB", "difference [95 % CI]", "p"]
    return [*header, "published"] if published else header


def _spelled(figure: str) -> str:
    return "top-1 %" if figure == "top1" else figure


def _row(comparison: Comparison, format: Format, published: bool) -> list[str]:
    row = _csv_cells(comparison) if format in FOR_PROGRAMS else _cells(comparison)
    return [*row, published_for(comparison.group.recipe)] if published else row


def _csv_cells(comparison: Comparison) -> list[str]:
    group, base, test, p_holm = comparison
    runs = list(group.scores.values())
    peak = _peak_mib(runs)
    row = [group.recipe.name, group.label, str(len(runs)), " ".join(map(str, group.scores)), group.figure]
    row += _mean_and_deviation([run.last for run in runs])
    row += [*_mean_and_deviation(_best(runs)), group.chosen_on, *_mean_and_deviation(_ema(runs))]
    row += [f"{_seconds_per_epoch(runs):.4g}", str(peak) if peak else ""]
    if base is None or test is None:
        return [*row, *[""] * 7]
    figures = [test.difference, test.low, test.high, test.p, p_holm]
    return [*row, base.label, str(test.n), *(f"{value:.6g}" for value in figures)]


def _cells(comparison: Comparison) -> list[str]:
    group, _, test, p_holm = comparison
    runs = list(group.scores.values())
    peak = _peak_mib(runs)
    row = [group.recipe.name, group.label, str(len(runs)), _spelled(group.figure)]
    row += [spread(values) if values else MISSING for values in ([run.last for run in runs], _best(runs), _ema(runs))]
    row += [f"{_seconds_per_epoch(runs):.2f}", f"{peak:.0f}" if peak else MISSING]
    return row + (_test_cells(test, p_holm) if test else [MISSING, MISSING])


def _best(runs: list[RunResult]) -> list[float]:
    return [run.best for run in runs if run.best is not None]


def _ema(runs: list[RunResult]) -> list[float]:
    return [run.ema for run in runs if run.ema is not None]


def _seconds_per_epoch(runs: list[RunResult]) -> float:
    seconds = [second for run in runs for second in run.seconds]
    return statistics.median(seconds) if seconds else nan


def _peak_mib(runs: list[RunResult]) -> float | None:
    return max((run.peak_mib for run in runs if run.peak_mib), default=None)


def _mean_and_deviation(values: list[float]) -> list[str]:
    if not values:
        return ["", ""]
    deviation = f"{statistics.stdev(values):.6g}" if len(values) > 1 else ""
    return [f"{statistics.mean(values):.6g}", deviation]


def _test_cells(test: Paired, p_holm: float) -> list[str]:
    if isnan(p_holm):
        return [f"{test.difference:+.2f}", MISSING]
    p = f"{p_holm:.3f}" if p_holm >= 0.001 else "<0.001"
    return [f"{test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}]", p]


def _published_row(figure: Figure, width: int) -> list[str]:
    pair = f"{figure.teacher}-{figure.student}"
    return [pair, figure.method, "0", *[""] * (width - 4), str(figure)]


def _without_empty(table: list[list[str]], dropped: set[str]) -> list[list[str]]:
    """The table without columns that have no value in any row, and without those that are named."""
    header, *rows = table
    filled = [any(row[place] not in (MISSING, "") for row in rows) for place in range(len(header))]
    kept = [place for place, name in enumerate(header) if filled[place] and name not in dropped]
    return [[row[place] for place in kept] for row in table]


def _notes(comparisons: list[Comparison]) -> list[str]:
    """What the figures mean, as sentences to put under the table."""
    chosen = best_is_chosen((group.label, group.chosen_on) for group, *_ in comparisons)
    notes = [f"Mean ± standard deviation over seeds. The last epoch counts; {chosen}."]
    if any(_ema(list(group.scores.values())) for group, *_ in comparisons):
        notes.append("EMA: the averaged weights of the last epoch.")
    tested = [(group, base, test) for group, base, test, _ in comparisons if base and test]
    bases = " or ".join(dict.fromkeys(base.label for _, base, _ in tested))
    if any(test.n > 1 for _, _, test in tested):
        notes.append(
            f"Difference and p: last epoch against {bases}, paired by seed (two-sided t-test; p is corrected by Holm's "
            "method for the number of groups of a recipe)."
        )
    elif tested:
        notes.append(f"Difference: last epoch against {bases}, one seed; two or more have a p.")
    for group, base, test in tested:
        if test.n > 1 and isnan(test.p):
            notes.append(f"{group.label} differs from {base.label} by the same amount for every seed: no t-test.")
    return notes
