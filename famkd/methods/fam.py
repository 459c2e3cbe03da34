"""Frequency attention from layer to layer: each student stage is filtered to match the teacher's stage."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated

from annotated_types import Ge
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.layers.fourier import FAM, FilterOptions, FourierFilter
from famkd.layers.fusion import resize
from famkd.methods.common import LevelWeights, add_up, for_levels, map_error, pair_maps, weigh

FilterLevels = tuple[Annotated[int, Ge(1)], ...]


def filter_options_of_levels(options: FilterOptions, filtered: FilterLevels, levels: int) -> list[FilterOptions]:
    """The filter options of each level, shallow to deep. Levels that are not to be filtered have the local branch only.

    Args:
        filtered: numbers of the levels with a filter, the shallowest is 1; all levels if empty.
    """
    if filtered and max(filtered) > levels:
        raise ValueError(f"filter_levels names level {max(filtered)}, and there are {levels} levels")
    local = replace(options, branch="local")
    return [options if not filtered or level in filtered else local for level in range(1, levels + 1)]


def idle_filter_options(
    options: FilterOptions, filters: Sequence[FourierFilter], filtered: FilterLevels = ()
) -> dict[str, str]:
    """Options of filters that have no effect next to the others or on maps of this size, each with its reason."""
    default, chosen = vars(FilterOptions()), vars(options)
    unused: dict[str, str] = {}
    if options.branch == "local":
        unused = dict.fromkeys(set(chosen) - {"branch"}, "the local branch has no filter")
    elif options.highpass == "none":
        unused = dict.fromkeys(("cutoff", "order"), "highpass none removes nothing")
    elif options.highpass != "butterworth":
        unused = {"order": "only the butterworth high-pass has one"}
    if options.filter != "lowrank":
        unused.setdefault("rank", "only the lowrank filter has one")
    idle = {name: why for name, why in unused.items() if chosen[name] != default[name]}
    if filtered and not filters:
        idle["filter_levels"] = unused.get("filter", "a map of one pixel has no frequency to filter")
    gains = [each.gain for each in filters]
    if gains and all(bool((gain == 0).all()) for gain in gains):
        idle["branch"] = "the high-pass removes every frequency, so that nothing is left for the global branch"
    if gains and options.highpass != "none" and all(bool((gain == 1).all()) for gain in gains):
        idle["highpass"] = f"the maps are too small for {options.highpass} to remove anything"
    if options.grid and gains and all(max(each.size) < options.grid for each in filters):
        idle["grid"] = "no map of the first images is that large"
    return idle


def filters_in(module: nn.Module) -> list[FourierFilter]:
    """The learned filters inside a module."""
    return [each for each in module.modules() if isinstance(each, FourierFilter)]


def leave_by_fam(c_in: int, target: Tensor, options: FilterOptions) -> nn.Sequential:
    """FAM and batch norm from `c_in` channels to the shape of a teacher map (B, C, H, W).

    A ReLU follows only where the teacher's map is never negative: other targets could not be reached through one.
    The released code always has it, and so has `init` official.
    """
    c_out, height, width = target.shape[1:]
    layers = nn.Sequential(FAM(c_in, c_out, (height, width), **asdict(options)), nn.BatchNorm2d(c_out))
    if options.init == "official" or target.min() >= 0:
        layers.append(nn.ReLU())
    return layers


class FAMLayers(Method):
    """Each stage goes through its own frequency attention module and is compared with the teacher's by MSE.

    Source: Pham et al., Frequency Attention for Knowledge Distillation, WACV 2024.

    Args:
        level_weights: weight of each stage's loss, shallow to deep; by default all are 1.
        filter_levels: numbers of the stages that have a frequency filter, 1 is the shallowest; the others have the
            local branch only. By default all have one.
        phase_weight: weight of the phases in the comparison of two maps. The MSE is an error of the amplitude spectra
            and an error of the phases: 1 is the MSE, 0 compares the amplitudes only, whatever the positions are.
    """

    wants = "stages"
    warmup = 20

    def __init__(
        self,
        probe: Probe,
        *,
        level_weights: LevelWeights = (),
        filter_levels: FilterLevels = (),
        phase_weight: Annotated[float, Ge(0)] = 1.0,
        filter: FilterOptions = FilterOptions(),
    ):
        super().__init__()
        self.options, self.filter_levels, self.phase_weight = filter, filter_levels, phase_weight
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        options = filter_options_of_levels(filter, filter_levels, len(pairs))
        self.stages = nn.ModuleList(
            leave_by_fam(own.shape[1], target, each) for (own, target), each in zip(pairs, options)
        )
        self.level_weights = for_levels(level_weights, len(self.stages))

    def compared(self) -> list[nn.Module]:
        return list(self.stages)

    def idle_options(self) -> dict[str, str]:
        return idle_filter_options(self.options, filters_in(self), self.filter_levels)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        pairs = pair_maps(student.feats, teacher.feats)
        losses = []
        for fam, (s, t) in zip(self.stages, pairs, strict=True):
            resized = resize(s, (t.shape[2], t.shape[3]))
            losses.append(map_error(fam(resized), t, self.phase_weight))
        return {"mse": add_up(weigh(losses, self.level_weights))}
