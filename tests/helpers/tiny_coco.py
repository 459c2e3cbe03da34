"""A COCO of a few drawn images and a detector small enough to train on it in a test."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.models import DETECTORS
from famkd.models.faster_rcnn import adapt_detector

KINDS = [{"id": 7, "name": "blue"}, {"id": 3, "name": "red"}]  # out of order and with gaps, as COCO's numbers are
COLOURS = {3: (230, 20, 20), 7: (20, 20, 230)}
SIZES = [(80, 100), (100, 80), (90, 90), (80, 120), (120, 80)]  # height, width
EMPTY, CROWDED = 2, 3  # images without a box, and with a crowd beside its own
TEXT = """# a tiny detector taught by a wider one
task: detection
student: {model: fasterrcnn_tiny}
teacher: {model: fasterrcnn_wide, weights: teacher.pt}
method: fam
data: {name: coco, root: coco, batch_size: 2, sides: [64, 96], longest: 160, workers: 0}
optim: {epochs: 3, lr: 0.01, steps: [2], warmup_steps: 2}
fam: {warmup: 2}
"""


def make_coco(root: Path, count: int = 5) -> Path:
    """A red and a blue rectangle on grey noise in each image of train2017 and val2017, as JPEGs and json."""
    draw = np.random.RandomState(0)
    (root / "annotations").mkdir(parents=True)
    for first, part in ((100, "train2017"), (200, "val2017")):
        (root / part).mkdir()
        images, notes = [], []
        for n in range(count):
            h, w = SIZES[n % len(SIZES)]
            pixels = draw.randint(100, 140, (h, w, 3)).astype(np.uint8)
            boxes = [] if n == EMPTY else [(3, 5, 8, 30, 40), (7, w - 45, h - 35, 40, 30)]  # kind, x, y, width, height
            for kind, x, y, width, height in boxes:
                pixels[y : y + height, x : x + width] = COLOURS[kind]
                notes.append(_note(len(notes) + 1, first + n, kind, [x, y, width, height]))
            if n == CROWDED:
                notes.append(_note(len(notes) + 1, first + n, 3, [0, 0, 60, 60]) | {"iscrowd": 1})
            if n == CROWDED and part == "train2017":
                notes.append(_note(len(notes) + 1, first + n, 3, [20, 20, 0, 5]))  # no width: the real set has some
            Image.fromarray(pixels).save(root / part / f"{n}.jpg", quality=95)
            images.append({"id": first + n, "file_name": f"{n}.jpg", "height": h, "width": w})
        content = {"images": images, "annotations": notes[::-1], "categories": KINDS}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    return root


def _note(number: int, image: int, kind: int, bbox: list[int]) -> dict:
    area = bbox[2] * bbox[3] * 0.5  # of an outline, less than the box
    return {"id": number, "image_id": image, "category_id": kind, "bbox": bbox, "area": area, "iscrowd": 0}


def tiny_detector(classes: int, pretrained: bool = False, width: int = 8) -> nn.Module:
    """A Faster R-CNN of 0.15 M parameters, its pyramid of 32 channels."""
    steps = ((3, width, 4), (width, width, 1), (width, 16, 2), (16, 16, 2), (16, 16, 2))
    layers = [nn.Sequential(nn.Conv2d(a, b, 3, s, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b, s in steps]
    levels = {"1": "0", "2": "1", "3": "2", "4": "3"}
    backbone = BackboneWithFPN(nn.Sequential(*layers), levels, [width, 16, 16, 16], 32)
    few = {f"rpn_{when}_nms_top_n_{mode}": 100 for when in ("pre", "post") for mode in ("train", "test")}
    return adapt_detector(FasterRCNN(
        backbone, box_head=TwoMLPHead(32 * 49, 64), box_predictor=FastRCNNPredictor(64, classes + 1),
        box_batch_size_per_image=32, **few,
    ))  # fmt: skip


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A directory with data, a teacher and tiny.yaml; called with flags it answers the recipe."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DETECTORS, "fasterrcnn_tiny", tiny_detector)
    monkeypatch.setitem(DETECTORS, "fasterrcnn_wide", lambda n, pretrained=False: tiny_detector(n, width=24))
    make_coco(Path("coco"))
    torch.manual_seed(5)
    torch.save(tiny_detector(2, width=24).state_dict(), "teacher.pt")
    Path("tiny.yaml").write_text(TEXT)
    return lambda *flags: validated(load_recipe("tiny.yaml", *flags))
