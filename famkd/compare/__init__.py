"""Runs side by side: grouped by recipe, with their spread over seeds and a paired test against one of the groups."""

import statistics
from collections.abc import Iterable, Mapping
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

from scipy.stats import ttest_rel

from famkd.compare.groups import SeedGroup, find_runs, group_scores, read_scores
from famkd.compare.published import Figure, published_beside, published_for
from famkd.errors import UserError, nearest
from famkd.tables import Format, write_table


class Paired(NamedTuple):
    """Mean difference over common seeds, its 95 % confidence interval and the p of a two-sided paired t-test.

    Of one seed, and where all differ alike, there is no p: NaN; of one seed no interval either.
    """

    difference: float
    low: float
    high: float
    p: float
    n: int


def compare(runs: Iterable[str | Path], *, against: str = "", published: bool = False, format: Format = "table") -> str:
    """A table of runs, given as directories, folders of such, or patterns.

    Args:
        against: method or group that the others are tested against; by itself the student alone, where it is there.
        published: figures of other papers for the same pairs beside ours.

    Errors: UserError where nothing is finished, or `against` names no group.
    """
    scores, skipped = read_scores(find_runs(runs))
    groups, repeated = group_scores(scores)
    skipped += repeated
    if not groups:
        raise UserError(f"No finished run among them. {' '.join(skipped)}".strip())
    bases = {name: _base(name, groups, against) for name in dict.fromkeys(g.recipe.name for g in groups)}
    if against and not any(bases.values()):
        hint = nearest(against, [group.label for group in groups])
        raise UserError(f"There is no group {against!r}.{hint} There are: {'; '.join(_named(groups))}.")
    header = _header(format, next(iter(scores)).figure, published)
    rows = [_row(group, bases[group.recipe.name], format, published) for group in _ordered(groups, bases)]
    if published:
        beside = published_beside([group.recipe for group in groups])
        rows += [_published_row(figure, len(header)) for figure in beside]
    if format != "csv":
        header, *rows = _without_empty([header, *rows])
    pairs = [(base, group) for group in groups if (base := bases[group.recipe.name]) not in (None, group)]
    return write_table(format, header, rows, _notes(pairs, skipped), left=2)


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Paired | None:
    """Test one group against another, run by run of the same seed; None without a common seed."""
    seeds = sorted(one.keys() & other.keys())
    if not seeds:
        return None
    differences = [one[seed] - other[seed] for seed in seeds]
    mean = statistics.mean(differences)
    if len(seeds) == 1:
        return Paired(mean, nan, nan, nan, 1)
    if max(differences) - min(differences) < 1e-9:  # no spread, so no t: a test would answer a certainty that is none
        return Paired(mean, mean, mean, nan, len(seeds))
    test = ttest_rel(*([group[seed] for seed in seeds] for group in (one, other)))
    low, high = test.confidence_interval(0.95)
    return Paired(mean, float(low), float(high), float(test.pvalue), len(seeds))


def _base(recipe: str, groups: list[SeedGroup], against: str) -> SeedGroup | None:
    here = [group for group in groups if group.recipe.name == recipe]
    wanted = against or "none"
    named = [g for g in here if g.label == wanted] or [g for g in here if g.recipe.method == wanted]
    if against and len(named) > 1:
        raise UserError(f"{against} is several groups of {recipe}: name one of {'; '.join(g.label for g in named)}.")
    return named[0] if len(named) == 1 else None


def _named(groups: list[SeedGroup]) -> list[str]:
    """Groups by name, with the recipes where there are several."""
    by_label: dict[str, list[str]] = {}
    for group in groups:
        by_label.setdefault(group.label, []).append(group.recipe.name)
    several = len({group.recipe.name for group in groups}) > 1
    return [f"{label} (of {', '.join(recipes)})" if several else label for label, recipes in by_label.items()]


def _ordered(groups: list[SeedGroup], bases: Mapping[str, SeedGroup | None]) -> list[SeedGroup]:
    def place(group: SeedGroup):
        base = bases[group.recipe.name]
        return group.recipe.name, group is not base, -statistics.mean(group.last().values())

    return sorted(groups, key=place)


def _header(format: Format, figure: str, published: bool) -> list[str]:
    what = "top-1 %" if figure == "top1" else figure
    if format == "csv":
        header = ["recipe", "method", "n", "seeds", "last_mean", "last_std", "best_mean", "best_std"]
        header += ["seconds_per_epoch", "peak_mib", "against", "pairs", "difference", "ci_low", "ci_high", "p"]
    else:
        header = ["recipe", "method", "seeds", f"last {what}", f"best {what}", "s/epoch", "peak MiB"]
        header += ["difference [95 % CI]", "p"]
    return header + ["published"] * published


def _row(group: SeedGroup, base: SeedGroup | None, format: Format, published: bool) -> list[str]:
    runs = group.scores.values()
    last, best = [run.last for run in runs], [run.best for run in runs]
    seconds = statistics.median([second for run in runs for second in run.seconds] or [float("nan")])
    peak = max((run.peak_mib for run in runs if run.peak_mib), default=None)
    test = paired(group.last(), base.last()) if base and base is not group else None
    row = [group.recipe.name, group.label, str(len(last))]
    if format == "csv":
        row += [" ".join(map(str, group.scores)), *_moments(last), *_moments(best), f"{seconds:.4g}", f"{peak or ''}"]
        row += [base.label, str(test.n), *(f"{value:.6g}" for value in test[:4])] if test else [""] * 6
    else:
        row += [_evenly_spread(last), _evenly_spread(best), f"{seconds:.2f}", f"{peak:.0f}" if peak else "–"]
        row += _tested(test) if test else ["–", "–"]
    return row + [published_for(group.recipe)] * published


def _published_row(figure: Figure, width: int) -> list[str]:
    pair = f"{figure.teacher}-{figure.student}"
    return [pair, figure.method, "0", *[""] * (width - 4), str(figure)]


def _moments(values: list[float]) -> list[str]:
    return [f"{statistics.mean(values):.6g}", f"{statistics.stdev(values):.6g}" if len(values) > 1 else ""]


def _evenly_spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _tested(test: Paired) -> list[str]:
    if isnan(test.p):
        return [f"{test.difference:+.2f}", "–"]
    p = f"{test.p:.3f}" if test.p >= 0.001 else "<0.001"
    return [f"{test.difference:+.2f} [{test.low:+.2f}, {test.high:+.2f}]", p]


def _without_empty(table: list[list[str]]) -> list[list[str]]:
    """A table without the columns that say nothing."""
    kept = [place for place in range(len(table[0])) if {row[place] for row in table[1:]} - {"–", ""}]
    return [[row[place] for place in kept] for row in table]


def _notes(pairs: list[tuple[SeedGroup, SeedGroup]], skipped: list[str]) -> list[str]:
    notes = ["Mean ± standard deviation over seeds. The last epoch counts; the best epoch is chosen on the test set."]
    common = {base.label: 0 for base, _ in pairs}
    for base, group in pairs:
        common[base.label] = max(common[base.label], len(base.scores.keys() & group.scores.keys()))
    if max(common.values(), default=0) > 1:
        notes.append(
            f"Difference and p: last epoch against {' or '.join(common)}, paired by seed (two-sided t-test, not "
            "corrected for the number of groups)."
        )
    elif any(common.values()):
        notes.append(f"Difference: last epoch against {' or '.join(common)}, one seed; two or more have a p.")
    return notes + skipped
