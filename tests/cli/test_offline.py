"""Nothing of this package speaks to a network, unless a data set or weights are asked for."""

from pathlib import Path

import pytest
import torch

from famkd.errors import UserError
from famkd.models import build_model

WATCHED = """
import sys

asked = []
sys.addaudithook(lambda event, args: asked.append(args) if event in ("socket.connect", "socket.getaddrinfo") else None)
from famkd.cli import main
from famviz.cli import main as look

run = ["small.yaml", "--method", "fam", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt"]
train = ["train", *run, "--epochs", "1", "--optim.steps", "--out", "run"]
for command in train, ["eval", "run"], ["compare", "run"], ["export", "run", "--to", "safetensors"], ["ls", "models"]:
    main(command)
look(["report", "run", "-o", "report.html"])
print("asked for", asked)
"""
FETCHING = """
import sys


def refuse(event, args):
    if event == "socket.getaddrinfo":
        print("asked for", args[0], flush=True)
        raise OSError("no network here")


sys.addaudithook(refuse)
from famkd.cli import main

main(["train", "cifar100/resnet56-resnet20", "--data.root", "nowhere", "--method", "none", "--out", "run"])
"""


@pytest.mark.slow
def test_no_command_asks_for_anything_elsewhere(small, python):
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    code, out, err = python("-c", WATCHED)
    assert code == 0, err
    assert out.splitlines()[-1] == "asked for []"
    assert Path("report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_what_fetches_is_seen_and_told(small, python):
    """The watch itself: CIFAR-100 that is not there is asked for, and missed in one sentence."""
    code, out, err = python("-c", FETCHING)
    assert code == 2
    assert "asked for" in out
    assert "CIFAR-100 is not under nowhere and could not be downloaded" in err.splitlines()[-1]


def test_the_hub_is_not_asked_again_and_again_where_its_name_is_unknown(monkeypatch):
    import timm
    from huggingface_hub import constants

    def refuse(*args):
        raise OSError("Name or service not known")

    def create(name, **options):
        assert constants.HF_HUB_OFFLINE
        raise OSError("not in the cache")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("famkd.models.hub.getproxies", dict)
    monkeypatch.setattr(timm, "create_model", create)
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(UserError, match="could not be downloaded: check the network"):
        build_model("timm:resnet18", 5, pretrained=True)
    assert before == constants.HF_HUB_OFFLINE
