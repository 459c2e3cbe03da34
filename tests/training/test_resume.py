"""A training that is stopped in the middle of an epoch and resumed ends in the same bits, with every option."""

import contextlib
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from famkd.config.optimizers import optimizer_info, optimizer_names
from famkd.errors import TrainingStopped
from famkd.models import MODELS
from famkd.training import loop
from famkd.training.loop import train

STOP_AFTER = 4  # steps; an epoch has three
TAUGHT = ("--method", "kd", "--teacher.model", "dot", "--teacher.weights", "teacher.pt")

OPTIMIZERS = [name for name in optimizer_names() if not isinstance(optimizer_info(name).kind, str)]
COMMON = ("sgd", "adamw", "lamb", "lion", "muon", "adabelief", "rmsprop")
OTHERS = sorted({optimizer_info(name).kind: name for name in OPTIMIZERS}.values())  # a name of each class
CASES = {
    **{name: ("--optim.name", name, "--lr", "0.01") for name in COMMON},
    "sgd by groups": ("--optim.decay", "weights", "--optim.layer_decay", "0.8", "--optim.nesterov"),
    "adamw by groups": ("--optim.name", "adamw", "--optim.decay", "weights", "--optim.betas", "0.8", "0.9"),
    "clipped": ("--optim.clip_grad", "0.1"),
    "accumulated": ("--optim.accumulate", "2", "--optim.clip_grad", "0.1"),
    "step": ("--optim.schedule", "step", "--optim.steps", "1", "--optim.warmup_steps", "3"),
    "cosine": ("--optim.schedule", "cosine", "--optim.lr_warmup", "1"),
    "cosine, every step": ("--optim.schedule", "cosine", "--optim.per_step", "--optim.min_lr", "0.01"),
    "linear": ("--optim.schedule", "linear", "--optim.per_step"),
    "onecycle": ("--optim.schedule", "onecycle"),
    "constant": ("--optim.schedule", "constant", "--optim.lr_warmup", "2", "--optim.per_step"),
    "mixed": ("--augment.mixup", "0.8", "--augment.cutmix", "1", "--label_smoothing", "0.1"),
    "mixed, taught": ("--augment.mixup", "0.8", "--method", "dkd+at", *TAUGHT[2:]),
    "erased": ("--augment.erase", "0.5", "--augment.erase_with", "noise"),
    "cropped and jittered": ("--augment.crop_scale", "0.3", "1", "--augment.jitter", "0.3"),
    "randaugment": ("--augment.policy", "randaugment"),
    "trivialaugment": ("--augment.policy", "trivialaugment"),
    "augmix": ("--augment.policy", "augmix"),
    "dropout": ("--student.drop", "0.5"),
    "everything": (
        "--optim.name",
        "adamw",
        "--optim.schedule",
        "onecycle",
        "--ema",
        "0.9",
        "--augment.cutmix",
        "1",
        "--augment.policy",
        "randaugment",
        "--augment.erase",
        "0.3",
        "--student.drop",
        "0.2",
        "--optim.accumulate",
        "2",
    ),
    "ema": ("--ema", "0.9"),
    "ema of simkd": ("--ema", "0.9", "--method", "simkd", *TAUGHT[2:]),
}


class Dot(nn.Module):
    """A network that trains in milliseconds."""

    taps = {"stages": ("act",), "preact": ("norm",), "embed": ("avgpool",)}
    head = "fc"

    def __init__(self, classes: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(4, classes)

    def forward(self, images):
        return self.fc(self.dropout(self.avgpool(self.act(self.norm(self.conv(images))))))


@pytest.fixture
def tiny(small, monkeypatch):
    """`small` with a tiny student, two epochs, and an untrained teacher in a file."""
    monkeypatch.setitem(MODELS, "dot", Dot)
    monkeypatch.setattr("timm.optim.kron.has_dynamo", False)  # its compilation takes a minute
    torch.manual_seed(5)
    torch.save(Dot(3).state_dict(), "teacher.pt")
    return lambda *flags: small("--student.model", "dot", "--epochs", "2", *flags)


def stopped(monkeypatch, recipe, out) -> None:
    """Train until a signal arrives after some steps."""
    seen = iter(range(100))

    @contextlib.contextmanager
    def requests():
        yield lambda: "SIGTERM" if next(seen) >= STOP_AFTER else ""

    with monkeypatch.context() as patched:
        patched.setattr(loop, "stop_requests", requests)
        with pytest.raises(TrainingStopped, match="in epoch 2 after step 1 of 3"):
            train(recipe, out=out)


def contents(run) -> dict[str, bytes]:
    """Every file of results; of tensor files the tensors, since the notes in their headers come in any order."""
    found = {"metrics.jsonl": (run.path / "metrics.jsonl").read_bytes()}
    for file in run.path.glob("*.safetensors"):
        content = file.read_bytes()
        found[file.name] = content[8 + int.from_bytes(content[:8], "little") :]
    return found


@pytest.mark.sample(6)
@pytest.mark.parametrize("case", CASES)
def test_resumed_in_an_epoch_equals_undisturbed(tiny, monkeypatch, case):
    compare(tiny(*CASES[case]), monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OTHERS if not optimizer_info(name).second_order])
def test_resumed_in_an_epoch_with_any_other_optimizer(tiny, monkeypatch, name):
    compare(tiny("--optim.name", name, "--lr", "0.01"), monkeypatch)


@pytest.fixture
def files(few_digits, tmp_path) -> str:
    """A few digits as image files."""
    with np.load(few_digits) as arrays:
        for split, name in (("train", "train"), ("val", "test")):
            for number, (x, y) in enumerate(zip(arrays[f"x_{name}"], arrays[f"y_{name}"])):
                folder = tmp_path / "files" / split / str(y)
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(x).convert("RGB").resize((16, 16)).save(folder / f"{number}.png")
    return str(tmp_path / "files")


STREAMED = {
    "randaugment": ("--augment.policy", "randaugment", "--augment.jitter", "0.3", "--augment.mixup", "0.8"),
    "augmix": ("--augment.policy", "augmix", "--augment.crop_scale", "0.5", "1", "--augment.erase", "0.5"),
    "trivialaugment": ("--augment.policy", "trivialaugment", "--data.interpolation", "bicubic"),
}


@pytest.mark.sample(1)
@pytest.mark.parametrize("case", STREAMED)
def test_resumed_in_an_epoch_of_images_from_files(tiny, files, monkeypatch, case):
    data = ("--data", "imagenet", "--root", files, "--data.size", "16", "--data.workers", "0")
    compare(tiny(*data, *STREAMED[case]), monkeypatch)


def compare(recipe, monkeypatch) -> None:
    whole = contents(train(recipe, out="whole"))
    stopped(monkeypatch, recipe, "cut")
    for seed in (random.seed, np.random.seed, torch.manual_seed):  # a new process starts from other generators
        seed(11)
    assert contents(train(recipe, out="cut", resume=True)) == whole
    assert set(whole) >= {"metrics.jsonl", "student.safetensors"}
