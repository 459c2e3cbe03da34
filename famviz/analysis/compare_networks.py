"""Compare networks: any ones by name, or those of runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from famkd.data.bands import bands_truth
from famkd.errors import UserError
from famkd.run.directory import Run
from famviz.analysis.cam_compare import Comparison
from famviz.analysis.network_comparison import NetworkComparison
from famviz.networks import Source, classification_run, networks_of_runs, run_images
from famviz.networks.images import Images, as_images
from famviz.networks.inputs import Models
from famviz.networks.prepare import CROP, Transform

Sources = Source | Sequence[Source] | Models | NetworkComparison


def compare_networks(
    source: Sources, images: Any = None, labels: Any = None,
    names: Sequence[str] | None = None, transforms: Transform | Mapping[str, Transform] | None = None, *,
    masks: np.ndarray | None = None, crop: float = CROP, root: str = "",
) -> NetworkComparison:  # fmt: skip
    """Compare networks on the same images: any `nn.Module`s by name, or those of runs of famkd.

    Nothing is computed yet. The network called `teacher`, or else the first one, is the reference.

    Args:
        source: networks by name, a run, several runs of one teacher, or a comparison, which is returned.
        images: a tensor (B, 3, H, W) of normalised floats, which every network gets as they are; or pictures: a uint8
            tensor or array, PIL images, paths, a folder, or a data set. Of runs the number of test images, or their
            positions; by default 200.
        labels: class indices (N,); by default those that the images come with.
        names: names of the classes.
        transforms: from a picture to a normalised tensor (3, h, w), one for all networks or one by name. By default a
            picture is cropped to its centre, once for all networks, and resized and normalised as each network says:
            models of timm name their size and normalisation, others get 224 pixels as on ImageNet. Transforms of your
            own must show the same part of the picture, so that maps lie over one another.
        masks: (N, H, W) bool, where the evidence truly is, at the size of the pixels that are drawn.
        crop: share of the shorter side that the centre has.
        root: where the data of a run is, if it was moved since the training.

    Errors: UserError for images or networks of another form.
    """
    if isinstance(source, NetworkComparison):
        return source
    if isinstance(source, Mapping):
        return NetworkComparison(source, as_images(images, labels, names), transforms, masks=masks, crop=crop)
    first = _first_run(source)
    count = 200 if images is None else images
    shown = run_images(first, count, root)
    if masks is None and first.recipe.data.name == "bands":
        known = bands_truth().masks
        masks = known[:count] if isinstance(count, int) else known[list(count)]
    truth = shown.labels.numpy()
    classes = names or shown.classes
    held = Images(len(truth), lambda at: (shown.images[at], int(truth[at])), truth, classes, shown.pixels)
    return NetworkComparison(networks_of_runs(source, root), held, transforms, masks=masks, crop=crop)


def _first_run(source: Source | Sequence[Source]) -> Run:
    """The run that names data and teacher; UserError for what is no run."""
    first = source if isinstance(source, Source) else source[0] if isinstance(source, Sequence) and source else None
    if not isinstance(first, Source):
        raise UserError('Pass networks by name, such as {"teacher": one, "student": other}, or runs.')
    return classification_run(first)


def compare_runs(
    source: Source | Sequence[Source], images: int | Sequence[int] = 6, root: str = "", **options: Any
) -> Comparison:
    """Class activation maps of a run, or of several runs of one teacher, on test images; `options` as in `compare`.

    The images are the first `images`, or those at these positions. Masks are known for the data set `bands`.
    """
    return compare_networks(source, images, root=root).cams(None, **options)
