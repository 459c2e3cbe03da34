"""A sanity check of activation maps: a map that explains a network must change when its weights are randomised."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from famkd.features.taps import default_taps
from famviz.analysis import cam_scores
from famviz.analysis.cam import ROLLOUT, CamResult, Target, cam


@dataclass(frozen=True, eq=False)
class Sanity:
    """Maps of a network while its weights are randomised from the classifier to the first layer."""

    trained: CamResult
    randomised: dict[
        str, CamResult
    ]  # by the deepest part to the one that was randomised last, such as "head to layer4"
    pixels: np.ndarray | None = None  # (B, H, W, 3) uint8

    def similarity(self, name: str) -> np.ndarray:
        """Rank correlation (B,) of the maps with those of the trained network; NaN where a map is constant."""
        return cam_scores.rank_correlation(self.randomised[name].maps, self.trained.maps)

    def rows(self) -> list[dict[str, object]]:
        """A row for each step: rank correlation and IoU with the maps of the trained network, means over images."""
        rows: list[dict[str, object]] = []
        for name, result in self.randomised.items():
            overlap = cam_scores.top_iou(result.maps, self.trained.maps)
            similar = cam_scores.mean(self.similarity(name))
            rows.append({"randomised": name, "rank correlation": similar, "IoU": cam_scores.mean(overlap)})
        return rows

    def __repr__(self) -> str:
        return f"Sanity({self.trained!r}, {len(self.randomised)} steps)"


def randomisation(
    model: nn.Module, images: Tensor, target: Target = "predicted", method: str = "GradCAM",
    layer: str | None = None, labels: Tensor | None = None, *, seed: int = 0,
) -> Sanity:  # fmt: skip
    """Maps while the weights of a copy are randomised, from the classifier down to the first layer.

    Every map is about the class that the map of the trained network is about. A method whose maps stay the same does
    not depend on what the network learned. Source: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018; here
    the values of each parameter are shuffled, which keeps their distribution.

    Args:
        target, method, layer, labels: as in `cam`.
        seed: of the shuffling; the state of torch's random number generator does not change.
    """
    trained = cam(model, images, target, method, layer, labels)
    classes = torch.from_numpy(trained.classes)
    taken = None if method == ROLLOUT else trained.layer
    steps = {}
    for name, random in randomised_copies(model, images, seed):
        steps[name] = cam(random, images, classes, method, taken)
    return Sanity(trained, steps)


def randomised_copies(model: nn.Module, images: Tensor, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """One copy of a network, after its head and then each stage from deep to shallow was randomised as well."""
    groups = parts(model, images)
    copy = deepcopy(model)
    draw = torch.Generator().manual_seed(seed)
    first = groups[0][0]
    for name, paths in groups:
        for path in paths:
            shuffle(copy.get_submodule(path), draw)
        yield name if name == first else f"{first} to {name}", copy


@torch.no_grad()
def shuffle(module: nn.Module, draw: torch.Generator) -> None:
    """Put the values of each parameter of a module itself, not of its parts, into a random order."""
    for parameter in module.parameters(recurse=False):
        order = torch.randperm(parameter.numel(), generator=draw).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))


def parts(model: nn.Module, images: Tensor) -> list[tuple[str, list[str]]]:
    """The head and the stages of a network, from deep to shallow, each with the paths of its modules with parameters.

    A part begins behind the stage before it, so that together they hold every parameter.
    """
    stages = default_taps(model, "stages", images[:2])
    owners = [
        path for path, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None
    ]
    ends = [_last_within(owners, stage.removesuffix(":in")) for stage in stages]
    found: list[tuple[str, list[str]]] = []
    start = 0
    for stage, end in zip(stages, ends):
        if end > start:
            found.append((stage, owners[start:end]))
            start = end
    found.append(("head", owners[start:]))
    return [(name, paths) for name, paths in reversed(found) if paths]


def _last_within(owners: Sequence[str], stage: str) -> int:
    """How many of the paths come up to the end of a stage, in the order of registration; 0 if it has no parameter."""
    inside = [at for at, path in enumerate(owners) if path == stage or path.startswith(f"{stage}.")]
    return inside[-1] + 1 if inside else 0
