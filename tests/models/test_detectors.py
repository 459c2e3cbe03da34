"""Networks for detection: their pyramid, their boxes and where their weights come from."""

import pytest
import torch
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from famkd.errors import UserError
from famkd.models import build_model
from famkd.models.detection import LEVELS
from famkd.models.faster_rcnn import KeepSize, PreciseCoder

pytest_plugins = ("helpers.tiny_coco",)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("fasterrcnn_resnet18", 28.7), ("fasterrcnn_resnet50", 41.8), ("fasterrcnn_mobilenet_v2", 19.2)],
)
def test_detectors_have_a_pyramid_of_four_levels_at_strides_4_to_32(name, parameters):
    model = build_model(name, 80)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.1)
    assert model.roi_heads.box_predictor.cls_score.out_features == 81  # and the background
    with torch.no_grad():
        maps = model.eval().backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps.values()][:4] == [(256, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    assert model.taps["stages"] == LEVELS
    assert all(model.get_submodule(path) for path in LEVELS)


def test_images_come_out_at_the_size_they_came_in_whatever_the_mode():
    prepare, images = KeepSize(), [torch.rand(3, 60, 100), torch.rand(3, 90, 40)]
    for mode in (True, False):
        batch, _ = prepare.train(mode)(images)
        assert batch.image_sizes == [(60, 100), (90, 40)]
        assert batch.tensors.shape == (2, 3, 96, 128)
        back = batch.tensors[1, :, :90, :40] * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        assert torch.allclose(back + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), images[1], atol=1e-6)


def test_boxes_are_decoded_in_single_precision():
    boxes = torch.tensor([[1001.0, 503.0, 1103.0, 701.0]])
    coder = PreciseCoder((1.0, 1.0, 1.0, 1.0))
    decoded = coder.decode(torch.zeros(1, 4, dtype=torch.bfloat16), [boxes])
    assert torch.equal(decoded[:, 0], boxes)
    model = build_model("fasterrcnn_mobilenet_v2", 2)
    assert isinstance(model.rpn.box_coder, PreciseCoder)
    assert isinstance(model.roi_heads.box_coder, PreciseCoder)


def test_backbone_weights_are_frozen_where_they_are_borrowed(monkeypatch):
    """No network here: torchvision's own loading is stood in for, what is frozen is ours."""
    asked = []
    monkeypatch.setattr(
        "torchvision.models.mobilenetv2.MobileNet_V2_Weights.get_state_dict", _fake(asked), raising=False
    )
    monkeypatch.setattr("torchvision.models.resnet.ResNet18_Weights.get_state_dict", _fake(asked), raising=False)
    for name in ("fasterrcnn_resnet18", "fasterrcnn_mobilenet_v2"):
        model = build_model(name, 2, pretrained=True)
        kinds = {type(m).__name__ for m in model.backbone.modules()}
        assert "FrozenBatchNorm2d" in kinds
        assert "BatchNorm2d" not in kinds
        frozen = [p for p in model.backbone.body.parameters() if not p.requires_grad]
        assert 0 < len(frozen) < len(list(model.backbone.body.parameters()))
        other = build_model(name, 2)  # evaluation builds it without weights: the state must go over
        other.load_state_dict(model.state_dict())
        images = [torch.rand(3, 64, 64)]
        with torch.no_grad():
            features = [m.eval().backbone(m.transform(images)[0].tensors)["0"] for m in (model, other)]
        assert torch.allclose(*features, atol=1e-5)
    assert len(asked) == 2


def _fake(asked):
    def state_dict(self, *args, **options):
        from torchvision.models import get_model

        asked.append(self)
        torch.manual_seed(1)
        return get_model(
            type(self).__name__.removesuffix("_Weights").lower().replace("v2", "_v2").replace("__", "_")
        ).state_dict()

    return state_dict


def test_coco_weights_become_80_classes_in_the_same_function(monkeypatch):
    """torchvision's own model beside ours, both from one state that stands for the download: equal scores and boxes."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    state = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-12  # torch 2.11 takes no 0
    monkeypatch.setattr(
        "torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.get_state_dict", lambda *a, **o: state
    )
    ours = build_model("fasterrcnn_resnet50", 80, pretrained="COCO_V1").eval()
    kinds = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    rows = [n for n, kind in enumerate(kinds) if kind != "N/A"]
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64)
        one, two = (model.backbone(x)["1"] for model in (theirs, ours))
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4 * one.abs().max())
        seen = torch.rand(5, 1024)
        (scores, boxes), (own, own_boxes) = (m.roi_heads.box_predictor(seen) for m in (theirs, ours))
    assert torch.allclose(own, scores[:, rows], atol=1e-5)
    assert torch.allclose(own_boxes, boxes.view(5, 91, 4)[:, rows].flatten(1), atol=1e-5)
    with pytest.raises(UserError, match="COCO_V1 know 80 classes, the data has 2"):
        build_model("fasterrcnn_resnet50", 2, pretrained="COCO_V1")
    with pytest.raises(
        UserError, match="no weights 'COCO_V2' of fasterrcnn_resnet50: there are IMAGENET1K_V1, COCO_V1"
    ):
        build_model("fasterrcnn_resnet50", 80, pretrained="COCO_V2")


def test_weights_out_of_reach(monkeypatch, tmp_path):
    from urllib.error import URLError

    def refuse(*args, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="backbone's ImageNet weights of fasterrcnn_resnet18 could not be downloaded"):
        build_model("fasterrcnn_resnet18", 80, pretrained=True)
