"""What one filter does to one image: the feature that enters, each step of the level, and what the teacher has."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from famviz.analysis.effect import Level, Maps, filter_levels
from famviz.analysis.filters import Pair
from famviz.analysis.predictions import called
from famviz.analysis.stage_spectra import method_of, walk
from famviz.networks import Source, run_images, trained_distiller

KEPT = 16  # images and levels whose maps are kept


class Step(NamedTuple):
    """One map on the way through a level."""

    name: str
    map: np.ndarray  # float32 (H, W)

    @property
    def spectrum(self) -> np.ndarray:
        """|F|, orthonormal, DC in the middle, float32 (H, W)."""
        found = np.abs(np.fft.fftshift(np.fft.fft2(self.map, norm="ortho")))
        return found.astype(np.float32)


@dataclass(frozen=True, eq=False)
class ImageEffect:
    """The way of one image through one level, for one pair of channels."""

    image: int
    label: str
    pixels: np.ndarray  # (H, W, 3) uint8
    steps: list[Step]


class ImageEffects:
    """Effects of a run's filters on its test images. Networks and data are loaded when the first one is asked for.

    Args:
        root: where the data of the run is, if it was moved since the training.
    """

    def __init__(self, source: Source, root: str = ""):
        self.source, self.root = source, root
        self._distiller = None
        self._kept: OrderedDict[tuple[str, int], tuple[Level, Maps, Tensor, ImageEffect]] = OrderedDict()

    def of(self, path: str, image: int, pair: Pair) -> ImageEffect:
        """The effect of the level whose filter has a module path, as `Filter.path`, on a test image.

        Steps, in the units in which a level is compared with the teacher: `input feature` of the input channel,
        `high-passed` (left out where the map is not as large as the filter), `this filter` alone, then of the output
        channel `global branch`, with all filters of that output, `local branch` if there is one, `leaves the level`,
        and `teacher`.
        """
        key = path, image
        if key not in self._kept:
            self._kept[key] = self._measure(path, image)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        level, seen, teacher, shown = self._kept[key]
        c_out, c_in = pair
        entering, scale = seen["enters"], level.scale()[c_out, 0, 0]
        steps = [Step("input feature", _array(entering[0, c_in]))]
        if tuple(entering.shape[-2:]) == level.filter.size:
            steps.append(Step("high-passed", _high_passed(level, entering[0, c_in])))
        alone = torch.zeros_like(entering)
        alone[:, c_in] = entering[:, c_in]
        with torch.no_grad():
            one = level.filter(alone)[0, c_out]
        steps.append(Step("this filter", _array(level.fam.gamma[0] * scale * one)))
        for gamma, name in zip(level.fam.gamma, [each for each in ("global", "local") if each in seen]):
            steps.append(Step(f"{name} branch", _array(gamma * scale * seen[name][0, c_out])))
        steps += [
            Step("leaves the level", _array(seen["output"][0, c_out])),
            Step("teacher", _array(teacher[0, c_out])),
        ]
        return ImageEffect(image, shown.label, shown.pixels, steps)

    def _measure(self, path: str, image: int) -> tuple[Level, Maps, Tensor, ImageEffect]:
        if self._distiller is None:
            self._distiller = trained_distiller(self.source, self.root)
        distiller, name = self._distiller, path.split(".")[0]
        images, labels, pixels, classes = run_images(self.source, [image], self.root)
        levels = filter_levels(method_of(distiller, name).compared())
        paths = {id(module): each for each, module in distiller.methods.named_modules()}
        level = next(each for each in levels if paths[id(each.filter)] == path)
        with level.watched():
            (teacher,) = walk(distiller, name, images, labels)
        label = called(classes, int(labels[0]))
        seen = {each: maps.detach() for each, maps in level.seen.items()}
        return level, seen, teacher.feats[level.back], ImageEffect(image, label, pixels[0], [])


def _high_passed(level: Level, feature: Tensor) -> np.ndarray:
    """A feature map without what the high-pass of the filter removes."""
    gain = level.filter.gain.reshape(feature.shape[0], -1)
    return _array(torch.fft.irfft2(torch.fft.rfft2(feature.float()) * gain, s=tuple(feature.shape)))


def _array(maps: Tensor) -> np.ndarray:
    return maps.detach().float().numpy()
