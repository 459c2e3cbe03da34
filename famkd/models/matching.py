"""Find the weights of a model among everything that a checkpoint holds, under whatever names they were saved."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from famkd.models.weight_files import is_plain

Tensors = Mapping[str, Tensor]

# Parts of names that data parallelism, sharding, checkpointing and compilation put anywhere.
WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
PARALLEL = "module"  # the same of DataParallel, which may also be a module's own name
# Words of a prefix that mean a second copy of the network; it is used where it is the only one or is asked for.
SECOND = {"ema", "averaged", "avg", "swa", "momentum", "shadow", "teacher", "k", "target"}
COUNTERS = {"total_ops", "total_params", "n_averaged"}  # what tools add to every module
DEPTH = 6  # of tables in tables


class Found(NamedTuple):
    """The weights of one copy of a network in a checkpoint."""

    prefix: str  # what stands before the model's names, ending in a dot unless it is empty
    state: dict[str, Tensor]  # by the model's names, with others that stand beside them


class Misfit(NamedTuple):
    """How weights differ from those of a model."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]
    ignored: list[str]  # beside the model's own: counters and modules that the model does not have


def find_weights(content: Mapping, own: Tensors, part: str = "") -> Found | None:
    """The copy of a network's weights that fits a model best, under any prefix; None without a named part.

    Args:
        own: the model's state dict.
        part: a word of the prefix, such as ema, student or teacher; "" for the ordinary copy.
    """
    entries = list(_flat(content, own))
    prefixes = _candidates(entries, own)
    if part:
        prefixes = {prefix: score for prefix, score in prefixes.items() if _says(prefix, part)}
        if not prefixes:
            return None
    found = [_under(prefix, entries, own) for prefix in _best(prefixes)] or [_under("", entries, own)]
    return min(found, key=lambda each: (len(misfit(each.state, own).unexpected), _preference(each.prefix, part)))


def parts_of(content: Mapping, own: Tensors) -> list[str]:
    """The prefixes under which a checkpoint holds weights of a model."""
    prefixes = _candidates(list(_flat(content, own)), own)
    return [prefix.rstrip(".") for prefix in _best(prefixes) if prefix]


def misfit(state: Tensors, own: Tensors) -> Misfit:
    """The names in which weights and a model differ."""
    tops = {name.partition(".")[0] for name in own}
    counted = {f"{name.rpartition('.')[0]}.num_batches_tracked" for name in own}  # as frozen batch norms do not
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    misshapen = [name for name in own if name in state and state[name].shape != own[name].shape]
    others = [name for name in state if name not in own]
    ignored = [name for name in others if name in counted or _is_beside(name, state[name], tops)]
    return Misfit(missing, [name for name in others if name not in ignored], misshapen, ignored)


def _flat(content: Mapping, own: Tensors) -> list[tuple[str, str, Tensor]]:
    """Every tensor in a checkpoint: the table that it is in, its full name without wrappers, and itself."""
    dropped = set(WRAPPERS)
    if not any(PARALLEL in name.split(".") for name in own):
        dropped.add(PARALLEL)
    entries: list[tuple[str, str, Tensor]] = []
    seen: set[int] = set()  # tables may hold each other

    def walk(table: Mapping, place: str, depth: int) -> None:
        seen.add(id(table))
        for key, value in table.items():
            if not isinstance(key, str):
                continue
            if is_plain(value):
                parts = [part for part in f"{place}{key}".split(".") if part not in dropped]
                entries.append((place, ".".join(parts), value))
            elif isinstance(value, Mapping) and depth and id(value) not in seen:
                walk(value, f"{place}{key}.", depth - 1)

    walk(content, "", DEPTH)
    return entries


def _candidates(entries: list[tuple[str, str, Tensor]], own: Tensors) -> dict[str, tuple[int, int]]:
    """Prefixes that lead to names of the model: how many have the right shape, and how many there are."""
    right: Counter[str] = Counter()
    named: Counter[str] = Counter()
    for _, name, tensor in entries:
        for start in [0, *(dot.end() for dot in re.finditer(r"\.", name))]:
            suffix = name[start:]
            if suffix in own:
                named[name[:start]] += 1
                right[name[:start]] += tensor.shape == own[suffix].shape
    return {prefix: (right[prefix], named[prefix]) for prefix in named}


def _best(prefixes: Mapping[str, tuple[int, int]]) -> list[str]:
    most = max(prefixes.values(), default=(0, 0))
    return [prefix for prefix, score in prefixes.items() if score == most]


def _under(prefix: str, entries: list[tuple[str, str, Tensor]], own: Tensors) -> Found:
    """The weights under a prefix, in the tables that hold some of the model's."""
    below = [(table, name.removeprefix(prefix), value) for table, name, value in entries if name.startswith(prefix)]
    tables = {table for table, name, _ in below if name in own} or {table for table, _, _ in below}
    return Found(prefix, {name: value for table, name, value in below if table in tables})


def _preference(prefix: str, part: str) -> tuple[bool, int]:
    """Ordinary copies of a network come first, then short prefixes."""
    return bool(_words(prefix) & (SECOND - {part})), len(prefix)


def _says(prefix: str, part: str) -> bool:
    return part.lower() in _words(prefix) or part in prefix.split(".")


def _words(prefix: str) -> set[str]:
    return set(re.split(r"[._]", prefix.lower()))


def _is_beside(name: str, value: Tensor, tops: set[str]) -> bool:
    """Whether a name that a model does not have may be left out: its function does not depend on it."""
    top, dot, _ = name.partition(".")
    if name.rpartition(".")[2] in COUNTERS or "aux" in name.lower():
        return True
    if not dot:
        return value.numel() == 1  # a figure beside the weights
    return top not in tops and not _is_sibling(top, tops)


def _is_sibling(top: str, tops: set[str]) -> bool:
    """Whether a module has the name of another one but for its number, as layer4 has beside layer3."""
    stem = top.rstrip("0123456789")
    return stem != top and any(other != top and other.rstrip("0123456789") == stem for other in tops)
