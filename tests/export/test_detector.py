"""A detector in ONNX finds what the run finds, in real images of any size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from famkd.errors import UserError
from famkd.evaluate import load_deployed
from famkd.export import detector, export
from famkd.export.options import Options
from famkd.run.directory import Run
from famkd.training.loop import train

pytest_plugins = ("helpers.tiny_coco",)
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def run(tiny):
    return train(tiny("--epochs", "1", "--method", "none"), out="run")


def test_a_file_finds_the_boxes_of_the_run_in_files_of_images(run):
    report = export(run.path, input="bytes")
    assert report.path == run.path / "student.onnx"
    assert int(report.checked_on.split()[0]) > 10, "few boxes were compared"
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    network, _ = load_deployed(run)
    for file in sorted(Path("coco/val2017").glob("*.jpg"))[:3]:
        pixels = np.asarray(Image.open(file)).transpose(2, 0, 1)
        boxes, labels, scores = session.run(None, {"image": pixels})
        with torch.no_grad():
            (wanted,) = network([torch.from_numpy(pixels.copy()) / 255])
        assert len(wanted["boxes"])
        np.testing.assert_allclose(boxes, wanted["boxes"], atol=1e-2)
        np.testing.assert_array_equal(labels, wanted["labels"])
        np.testing.assert_allclose(scores, wanted["scores"], atol=1e-4)
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["classes"]) == ["red", "blue"]
    assert json.loads(notes["shorter side"]) == 96


@pytest.mark.slow
def test_a_file_that_misses_boxes_is_not_written(run, monkeypatch):
    shifted = detector.open_onnx

    def wrong(*arguments):
        session = shifted(*arguments)
        return lambda image: [session(image)[0] + 1, *session(image)[1:]]

    monkeypatch.setattr(detector, "open_onnx", wrong)
    with pytest.raises(UserError, match=r"are 1 pixels away from those of the run, .* nothing was written"):
        export(run.path)
    assert list(run.path.glob("*.onnx")) == []


@pytest.mark.parametrize(("options", "words"), [
    ({"to": "pt2"}, r"exported to onnx only; run/student\.safetensors is the student's state dict"),
    ({"int8": True}, "written in float32: leave --int8 out"),
    ({"dynamic": "none"}, "one image of any size"),
    ({"opset": 25}, "opset 11 to 20"),
])  # fmt: skip
def test_what_a_detector_cannot_be_is_refused(options, words):
    with pytest.raises(UserError, match=words):
        detector._must_suit_a_detector(Run("run"), Options(**options))


def test_a_box_without_its_label_is_infinitely_far():
    box = torch.tensor([1.0, 2, 3, 4])
    found = [box[None], torch.tensor([2]), torch.tensor([0.5])]
    assert detector._nearest(box, torch.tensor(2), torch.tensor(0.4), found) == (0, pytest.approx(0.1))
    assert detector._nearest(box, torch.tensor(1), torch.tensor(0.5), found) == (float("inf"), float("inf"))
