"""The data set with a known truth: the class must show inside the mask, and nowhere else."""

import numpy as np
import pytest

from famkd.config.builtin import builtin_recipes
from famkd.data import build_data
from famkd.data.bands import FREQUENCIES, ORIENTATIONS, bands, bands_truth


@pytest.fixture(scope="module")
def data():
    return bands()


@pytest.fixture(scope="module")
def truth():
    return bands_truth()


def test_the_images_are_the_same_every_time(data):
    again = bands()
    assert all(np.array_equal(getattr(data, f), getattr(again, f)) for f in ("x_train", "y_train", "x_test", "y_test"))
    again.x_test[:] = again.y_test[:] = 0  # each caller gets copies
    bands_truth().masks[:] = False
    assert np.array_equal(data.x_test, bands().x_test)
    assert bands_truth().masks.any()
    assert np.array_equal(build_data("bands", "", 8).images().x_train, data.x_train)
    assert {"bands/teacher", "bands/student"} <= set(builtin_recipes())


def test_the_draw_is_pinned(data, truth):
    """numpy promises that RandomState's stream never changes, so these numbers change only with the code."""
    assert data.y_test[:10].tolist() == [7, 3, 1, 6, 3, 5, 6, 1, 1, 1]
    assert truth.masks.sum((1, 2))[:5].tolist() == [213, 145, 180, 208, 208]


def test_shapes_and_classes(data, truth):
    assert data.x_train.shape == (2000, 32, 32, 3)
    assert data.x_test.shape == (400, 32, 32, 3)
    assert data.x_train.dtype == np.uint8
    assert data.flip is False  # a mirrored grating at 45 degrees is of the class at 135
    assert len(data.classes) == len(FREQUENCIES) * len(ORIENTATIONS) == len(truth.frequency)
    counts = np.bincount(np.concatenate((data.y_train, data.y_test)), minlength=8)
    assert counts.tolist() == [300] * 8
    assert bands_truth("train").masks.shape == (2000, 32, 32)
    assert truth.masks.dtype == bool
    assert 0.1 < truth.masks.mean() < 0.25


def grating_power(grey: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Power (N, classes) of mean-free (N, H, W) images at each class's wave vector."""
    y, x = np.mgrid[:32, :32] / 32
    waves = np.exp(-2j * np.pi * (vectors[:, 0, None, None] * y + vectors[:, 1, None, None] * x))
    return np.square(np.abs(np.einsum("nyx,cyx->nc", grey, waves)))


def test_the_evidence_is_inside_the_mask_at_the_class_frequency(data, truth):
    grey = data.x_test.mean(-1)
    vectors = truth.wave_vectors()
    inside = np.where(truth.masks, grey - (grey * truth.masks).sum((1, 2), keepdims=True)
                      / truth.masks.sum((1, 2), keepdims=True), 0)  # fmt: skip
    accuracy = (grating_power(inside, vectors).argmax(1) == data.y_test).mean()
    assert accuracy > 0.85  # a matched filter that knows the mask


def test_there_is_no_evidence_outside_the_mask(data, truth):
    grey, outside = data.x_test.mean(-1), ~truth.masks
    around = np.where(outside, grey - (grey * outside).sum((1, 2), keepdims=True)
                      / outside.sum((1, 2), keepdims=True), 0)  # fmt: skip
    accuracy = (grating_power(around, truth.wave_vectors()).argmax(1) == data.y_test).mean()
    assert accuracy < 0.25  # chance is 0.125


def test_colour_and_brightness_do_not_give_the_class(data):
    """A linear classifier on each image's mean and deviation of colour stays at chance."""
    features = [np.concatenate((x.mean((1, 2)), x.std((1, 2)), np.ones((len(x), 1))), 1)
                for x in (data.x_train.astype(float), data.x_test.astype(float))]  # fmt: skip
    weights = np.linalg.lstsq(features[0], np.eye(8)[data.y_train], rcond=None)[0]
    assert ((features[1] @ weights).argmax(1) == data.y_test).mean() < 0.2
