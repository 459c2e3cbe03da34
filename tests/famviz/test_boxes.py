"""Detectors looked at: the spectra of their pyramids, and where they find evidence for the class of a box."""

import numpy as np
import pytest
import torch

import famviz
from famkd.errors import UserError
from famkd.training.loop import train
from famviz.analysis.differences import amplitude_difference, differences_table
from famviz.analysis.effect import effects
from famviz.networks import BoxScores, common_part, networks, scenes

pytest_plugins = ("helpers.tiny_coco",)


@pytest.fixture
def run(tiny):
    return train(tiny("--epochs", "1", "--method", "fam_review"), out="run")


def test_scenes_are_test_images_with_their_boxes(run):
    shown, classes = scenes(run, 10)
    assert classes == ["background", "red", "blue"]
    assert len(shown) == 4  # the image without a box is left out
    assert torch.equal(
        scenes(run, [1, 0, 1])[0][0].image, scenes(run, [1])[0][0].image
    )  # in the order of the positions
    assert len(scenes(run, [1, 0, 1])[0]) == 3
    for scene in shown:
        assert len(scene.boxes) == len(scene.labels) == 2  # without the crowd
        assert all(side % 32 == 0 for side in scene.image.shape[1:])
        mask = scene.mask(scene.largest)
        inside = scene.pixels[mask].mean(0)
        strongest = {1: 0, 2: 2}[int(scene.labels[scene.largest])]  # red or blue
        assert inside.argmax() == strongest
        assert mask.sum() == pytest.approx(float((scene.boxes[:, 2:] - scene.boxes[:, :2]).prod(1).max()), rel=0.1)


def test_a_box_is_scored_as_the_detector_scores_it(run):
    """Asked about boxes that the detector itself returns, it gives their scores."""
    detector = networks(run)["teacher"]
    scene = scenes(run, 1)[0][0]
    with torch.no_grad():
        detector.roi_heads.score_thresh = 0.0
        found = detector([scene.image])[0]
        heads = detector.roi_heads
        seen = {}
        hook = heads.box_roi_pool.register_forward_pre_hook(lambda module, args: seen.update(boxes=args[1][0]))
        logits = heads.box_predictor.cls_score
        keep = logits.register_forward_hook(lambda module, args, out: seen.update(logits=out))
        detector([scene.image])
        hook.remove()
        keep.remove()
        expected = seen["logits"][:3]
        for box, wanted in zip(seen["boxes"], expected):
            own = BoxScores(detector, box[None])(scene.image[None])
            torch.testing.assert_close(own[0], wanted, rtol=1e-4, atol=1e-4)
    assert len(found["boxes"])


@pytest.mark.slow
def test_spectra_of_the_pyramid_are_those_of_its_maps(run):
    shown = scenes(run, 3)[0]
    images = common_part(shown)
    stages = amplitude_difference(run, count=3, relative="none")
    assert [stage.name[-1] for stage in stages] == ["0", "1", "2", "3"]
    assert set(stages[0].planes) == {"teacher", "student", "fam_review output"}
    detector = networks(run)["teacher"]
    with torch.no_grad():
        maps = detector.backbone(detector.transform(list(images))[0].tensors)["0"].double().numpy()
    energy = np.abs(np.fft.fftshift(np.fft.fft2(maps, norm="ortho"), axes=(-2, -1))) ** 2
    expected = 10 * np.log10(energy.mean(1))
    np.testing.assert_allclose(stages[0].planes["teacher"], expected.mean(0), atol=1e-3)
    assert {row["of"] for row in differences_table([run], count=3)} == {"student", "fam_review output"}
    assert effects(run, count=3)


@pytest.mark.slow
def test_maps_of_a_box_differ_with_the_box(run, tmp_path):
    detectors = networks(run)
    shown, classes = scenes(run, 1)
    scene = shown[0]
    both = [famviz.boxes.box_maps(detectors, scene, box, classes=classes, steps=4) for box in range(2)]
    for box, found in enumerate(both):
        assert found.results["teacher"].classes == scene.labels[box]
        assert found.pixels.shape[1:3] == found.masks.shape[1:] == scene.image.shape[1:]
        assert set(found.means("student")[0]) >= {"rank correlation", "insertion", "energy inside", "pointing"}
    assert not np.allclose(both[0].results["teacher"].maps, both[1].results["teacher"].maps)
    eigen = famviz.boxes.box_maps(detectors, scene, method="EigenCAM", level=0)
    assert eigen.results["student"].layer.endswith("layer_blocks.0")
    with pytest.raises(UserError, match="There is no box 5: this image has 2"):
        famviz.boxes.box_maps(detectors, scene, 5)
    figure = famviz.boxes.boxes_figure(run, images=2)
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == ["", "teacher", "student"]
    assert "rank r" in figure.axes[2].get_xlabel()
