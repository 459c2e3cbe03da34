"""Two small networks and images of `bands` with their masks, for the tests of the CAM explorer."""

import torch
from torch import nn

import famviz
from famkd.data.bands import bands, bands_truth
from famkd.models import build_model

COUNT = 20


def networks() -> dict[str, nn.Module]:
    """Untrained networks whose maps are not empty."""
    torch.manual_seed(0)
    found = {"teacher": build_model("resnet14x0.5", 8), "student": build_model("resnet8x0.5", 8)}
    for model in found.values():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.3)
        nn.init.normal_(model.get_submodule(model.head).weight)
        model.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return found


LONG = (
    "teacher resnet56 of the run quickstart/fam_review-seed0",
    "student resnet8x0.5 by fam_review after the last epoch",
)


def comparison(labelled: bool = True, names: tuple[str, ...] = ("teacher", "student")) -> famviz.NetworkComparison:
    data = bands()
    labels = data.y_test[:COUNT] if labelled else None
    classes = [f"kind {n}" for n in range(8)]
    models = dict(zip(names, networks().values(), strict=True))
    return famviz.compare_networks(
        models, data.x_test[:COUNT], labels, classes, masks=bands_truth().masks[:COUNT], crop=1.0
    )
