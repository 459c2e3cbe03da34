"""Models of timm on the Hugging Face hub, from a cache that is laid out as the hub's client does it."""

import json
import socket
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from famkd.errors import UserError
from famkd.models import build_model
from famkd.models.origin import library_origin
from famkd.training.loop import train

NAME = "hf-hub:someone/small-resnet"
MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A cache of the hub, without a network."""

    def unknown(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr("famkd.models.hub.getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def uploaded(hub) -> torch.nn.Module:
    """A network of timm for the three digits, in that cache."""
    torch.manual_seed(4)
    model = timm.create_model("test_resnet", num_classes=3)
    settings = {"num_classes": 3, "input_size": [3, 64, 64], "mean": MEAN, "std": STD, "interpolation": "bicubic",
                "crop_pct": 0.95, "first_conv": "conv1", "classifier": "fc"}  # fmt: skip
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "pretrained_cfg": settings,
        "label_names": ["0", "1", "2"],
    }
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = hub / "models--someone--small-resnet"
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), snapshot / "model.safetensors")
    return model


def test_a_model_of_the_hub_is_built_with_its_weights(uploaded):
    model = build_model(NAME, 3, pretrained=True)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval()(images), uploaded.eval()(images))
    assert build_model(NAME, 7, size=(32, 32))(images).shape == (2, 7)


def test_its_normalisation_and_classes_are_known(uploaded):
    origin = library_origin(NAME, True)
    assert origin.pixels is not None
    assert origin.pixels == (tuple(MEAN), tuple(STD), (64, 64), "bicubic")
    assert (origin.classes, origin.names) == (3, ("0", "1", "2"))


def test_it_teaches(uploaded, small):
    run = train(small("--method", "kd", "--teacher.model", NAME, "--teacher.weights", "pretrained", "--epochs", "1"))
    assert run.facts["teacher"]["mean"] == MEAN
    assert run.facts["teacher"]["size"] == [64, 64]


@pytest.mark.parametrize(("name", "why"), [
    ("hf-hub:someone/else", "hf-hub:someone/else cannot be read from the Hugging Face hub: check its name and the net"),
    ("hf-hub:alone", "There is no model 'hf-hub:alone'"),
])  # fmt: skip
def test_what_is_not_there_is_told_in_one_sentence(hub, name, why):
    with pytest.raises(UserError, match=why) as told:
        build_model(name, 3)
    assert "\n" not in str(told.value)
