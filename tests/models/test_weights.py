"""Checkpoints as other programs write them: where the weights are found, and what each other file is called."""

import argparse
import datetime
import json
import pathlib
import pickle
import sys
import types
from collections import OrderedDict, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from famkd.errors import UserError
from famkd.models import build_model, load_weights
from famkd.models.weights import load_checkpoint

NAME = "resnet8x0.5"


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """A network whose every weight differs from that of a new one."""
    torch.manual_seed(3)
    model = build_model(NAME, 5)
    for value in model.state_dict().values():
        value.copy_(torch.rand(value.shape) + 0.5 if value.is_floating_point() else torch.tensor(7))
    return model


def prefixed(state, prefix: str) -> dict:
    return {prefix + key: value for key, value in state.items()}


def wrapped_inside(state, word: str) -> dict:
    """The names as they are where every block is wrapped, as by FSDP or activation checkpointing."""
    return {key.replace("layer", f"{word}.layer", 1).replace(".conv", f".{word}.conv"): v for key, v in state.items()}


def other(state) -> dict:
    return {key: value + 1 for key, value in state.items()}


def counted(state) -> dict:
    """With what thop leaves in every module."""
    layers = {key.rpartition(".")[0] for key in state}
    extra = {f"{layer}.{leaf}": torch.zeros(1) for layer in layers for leaf in ("total_ops", "total_params")}
    return {**state, **extra, "total_ops": torch.zeros(1)}


def optimizer_state(state) -> dict:
    model = build_model(NAME, 5)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


HOLDERS = {
    "lightning": lambda s: {
        "state_dict": prefixed(s, "model.") | {"criterion.weight": torch.ones(5)},
        "epoch": 3, "pytorch-lightning_version": "2.5.0", "callbacks": {}, "loops": {"fit_loop": {"state_dict": {}}},
        "optimizer_states": [optimizer_state(s)], "hyper_parameters": {"lr": 0.1}, "hparams_name": "kwargs",
    },
    "timm": lambda s: {"epoch": 9, "arch": "resnet8", "state_dict": s, "state_dict_ema": other(s), "version": 2,
                       "optimizer": optimizer_state(s), "args": argparse.Namespace(lr=0.1), "metric": 77.5},
    "torchvision": lambda s: {"model": s, "model_ema": prefixed(other(s), "module.") | {"n_averaged": torch.tensor(3)},
                              "optimizer": optimizer_state(s), "lr_scheduler": {"last_epoch": 3}, "epoch": 3,
                              "args": argparse.Namespace(data_path="x", device="cuda")},
    "data parallel": lambda s: prefixed(s, "module."),
    "parallel twice": lambda s: prefixed(s, "module.module."),
    "compiled": lambda s: {"net": prefixed(s, "_orig_mod.")},
    "fsdp": lambda s: prefixed(s, "_fsdp_wrapped_module."),
    "fsdp in every block": lambda s: prefixed(wrapped_inside(s, "_fsdp_wrapped_module"), "_fsdp_wrapped_module."),
    "checkpointed blocks": lambda s: wrapped_inside(s, "_checkpoint_wrapped_module"),
    "compiled blocks": lambda s: wrapped_inside(s, "_orig_mod"),
    "parallel blocks": lambda s: wrapped_inside(s, "module"),
    "deepspeed": lambda s: {"module": s, "optimizer": None, "lr_scheduler": None, "global_steps": 10},
    "mmengine": lambda s: {"meta": {"dataset_meta": {"classes": ["a"]}}, "state_dict": prefixed(s, "backbone.")},
    "net": lambda s: prefixed(s, "net."),
    "encoder": lambda s: {"model_state_dict": prefixed(s, "encoder.")},
    "anything": lambda s: {"a": {"b": {"c": prefixed(s, "my.own.network.")}}},
    "student and teacher": lambda s: prefixed(s, "student.") | prefixed(other(s), "teacher."),
    "momentum copy first": lambda s: prefixed(other(s), "module.encoder_k.") | prefixed(s, "module.encoder_q."),
    "only an average": lambda s: {"ema": s},
    "average beside": lambda s: prefixed(other(s), "model_ema.module.") | prefixed(s, "model."),
    "counters": counted,
    "parallel counters": lambda s: {"state_dict": prefixed(counted(s), "module.")},
    "auxiliary head": lambda s: {**s, "aux_head.0.weight": torch.ones(3, 3), "aux_head.0.bias": torch.ones(3)},
    "auxiliary classifier in a stage": lambda s: {**s, "layer2.aux_fc.weight": torch.ones(3, 3)},
    "second head": lambda s: {**s, "projector.weight": torch.ones(3, 3)},
    "half": lambda s: {key: value.half() if value.is_floating_point() else value for key, value in s.items()},
    "bfloat16": lambda s: {key: value.bfloat16() if value.is_floating_point() else value for key, value in s.items()},
    "double": lambda s: {key: value.double() if value.is_floating_point() else value for key, value in s.items()},
    "head in a sequence": lambda s: {key.replace("fc.", "fc.1."): value for key, value in s.items()},
    "head of another name": lambda s: {key.replace("fc.", "classifier."): value for key, value in s.items()},
    "parameters": lambda s: {key: nn.Parameter(v) if v.is_floating_point() else v for key, v in s.items()},
    "ordered": lambda s: OrderedDict(s),
    "with a figure": lambda s: {**s, "best_acc": torch.tensor(71.5)},
}  # fmt: skip


@pytest.mark.parametrize("holder", HOLDERS)
def test_weights_are_found_wherever_they_are(tmp_path, trained, holder):
    state = trained.state_dict()
    torch.save(HOLDERS[holder](state), tmp_path / "w.pt")
    model = build_model(NAME, 5)
    load_weights(model, tmp_path / "w.pt")
    rough = {"half": 1e-3, "bfloat16": 1e-2}.get(holder, 0)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=rough, atol=0, msg=key)


COPIES = {  # file, part -> the state dict that is taken
    "timm": ("ema", 1),
    "torchvision": ("ema", 1),
    "average beside": ("ema", 1),
    "student and teacher": ("teacher", 1),
    "momentum copy first": ("encoder_k", 1),
    "lightning": ("model", 0),
}


@pytest.mark.parametrize("holder", COPIES)
def test_a_copy_is_taken_by_its_name(tmp_path, trained, holder):
    part, added = COPIES[holder]
    torch.save(HOLDERS[holder](trained.state_dict()), tmp_path / "w.pt")
    model = build_model(NAME, 5)
    load_weights(model, tmp_path / "w.pt", part)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, trained.state_dict()[key] + added, rtol=0, atol=0, msg=key)


def test_a_copy_that_there_is_not_is_told_with_those_that_there_are(tmp_path, trained):
    torch.save(HOLDERS["lightning"](trained.state_dict()), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"holds no weights under 'ema', but under state_dict\.model\."):
        load_weights(build_model(NAME, 5), tmp_path / "w.pt", "ema")


# beside the weights -----------------------------------------------------------------------------------------------


class Settings(dict):
    """A table with a class of its own, as easydict, addict, yacs and Lightning have them."""

    __module__ = "some_package.settings"


class Config:
    """An object with attributes, as omegaconf's and those of a user's own."""

    __module__ = "another_package"

    def __init__(self):
        self.content, self.parent, self.kind, self.list = {"lr": 0.1}, None, dict, [1]

    def __getstate__(self):
        return self.__dict__


class Tupled(Config):
    __module__ = "another_package"

    def __getstate__(self):
        return None, {"slot": 1}

    def __setstate__(self, state):
        raise AssertionError("called")


@pytest.fixture
def packages(monkeypatch):
    """Packages that are there when a file is written, and not when it is read."""
    for kind in (Settings, Config, Tupled):
        module = types.ModuleType(kind.__module__)
        for each in (Settings, Config, Tupled):
            setattr(module, each.__qualname__, each)
        monkeypatch.setitem(sys.modules, kind.__module__, module)
    parent = types.ModuleType("some_package")
    monkeypatch.setitem(sys.modules, "some_package", parent)
    return lambda: [monkeypatch.delitem(sys.modules, name) for name in ("some_package.settings", "another_package")]


class Windows(pathlib.PurePosixPath):
    """Pickled under the name of a path of another system."""

    def __reduce__(self):
        return pathlib.WindowsPath, ("c:", "data")


LEFTOVERS = {
    "options": lambda: argparse.Namespace(lr=0.1, out=Path("x/y"), sizes=[1, 2], nested=argparse.Namespace(a=1)),
    "path": lambda: Path("a/b"),
    "pure path": lambda: pathlib.PureWindowsPath("c:/a"),
    "path of another system": lambda: Windows("c:/a"),
    "time": lambda: datetime.datetime(2024, 1, 1),
    "default table": lambda: defaultdict(list, {"a": [1]}),
    "queue": lambda: deque([1, 2], maxlen=3),
    "table of a package": lambda: Settings(lr=0.1),
    "object of a package": Config,
    "object with another state": Tupled,
    "array": lambda: np.arange(4.0),
    "random state": lambda: np.random.RandomState(3).get_state(),
    "numbers": lambda: {"acc": np.float64(3), "kind": np.int64(3)},
    "device": lambda: torch.device("cuda:1"),
    "type": lambda: torch.float16,
    "set": lambda: {Path("a"), Path("b")},
    "network": lambda: nn.Linear(2, 2),
    "generator": lambda: torch.random.get_rng_state(),
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("leftover", LEFTOVERS)
def test_leftovers_beside_the_weights_do_no_harm(tmp_path, trained, packages, leftover, zipped):
    if leftover == "network" and not zipped:
        pytest.skip("the old format stores the source code of networks")
    content = {"model": trained.state_dict(), "epoch": 3, "left": LEFTOVERS[leftover](), "more": {"x": 1}}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    packages()
    model = build_model(NAME, 5)
    assert load_weights(model, tmp_path / "w.pt")["epoch"] == 3
    assert torch.equal(model.state_dict()["fc.weight"], trained.state_dict()["fc.weight"])
    assert "another_package" not in sys.modules  # nothing was imported


class Runs:
    """An object whose pickle calls a function of Python itself."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [eval, exec, getattr, print, open, pathlib.Path.touch, pickle.loads, __import__])
def test_a_file_that_names_functions_of_python_is_refused(tmp_path, trained, function):
    torch.save({"model": trained.state_dict(), "x": Runs(function, "1")}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_weights(build_model(NAME, 5), tmp_path / "w.pt")


# another classifier -----------------------------------------------------------------------------------------------


def test_another_number_of_classes_leaves_the_head_as_it_was_drawn(tmp_path, trained):
    torch.save({"state_dict": prefixed(trained.state_dict(), "module.")}, tmp_path / "w.pt")
    model = build_model(NAME, 8)
    drawn = model.fc.weight.detach().clone()
    with pytest.raises(UserError, match="the checkpoint has 5 classes, the model 8: pass --data with 5 classes"):
        load_weights(model, tmp_path / "w.pt")
    loaded = load_checkpoint(model, tmp_path / "w.pt", any_classes=True)
    assert loaded.new_head == "the checkpoint has 5 classes, the model 8"
    assert torch.equal(model.fc.weight, drawn)
    assert torch.equal(model.conv1.weight, trained.conv1.weight)


def test_a_trunk_without_a_head(tmp_path, trained):
    trunk = {key: value for key, value in trained.state_dict().items() if not key.startswith("fc.")}
    torch.save(prefixed(trunk, "backbone."), tmp_path / "w.pt")
    model = build_model(NAME, 5)
    with pytest.raises(UserError, match="the checkpoint has no classifier fc: pass weights of the whole network"):
        load_weights(model, tmp_path / "w.pt")
    assert load_checkpoint(model, tmp_path / "w.pt", any_classes=True).new_head == "the checkpoint has no classifier fc"
    assert torch.equal(model.conv1.weight, trained.conv1.weight)
    deep = {**trunk, "fc.0.weight": torch.ones(9, 32), "fc.2.weight": torch.ones(5, 9)}
    torch.save(deep, tmp_path / "w.pt")
    assert load_checkpoint(model, tmp_path / "w.pt", any_classes=True).new_head == "the checkpoint has no classifier fc"


def test_what_is_left_out_is_told(tmp_path, trained):
    torch.save(HOLDERS["auxiliary head"](trained.state_dict()), tmp_path / "w.pt")
    loaded = load_checkpoint(build_model(NAME, 5), tmp_path / "w.pt")
    assert loaded.remarks == ("left out: 2 tensors that the model does not have (aux_head.0.weight, aux_head.0.bias)",)
    torch.save(HOLDERS["head of another name"](trained.state_dict()), tmp_path / "w.pt")
    assert load_checkpoint(build_model(NAME, 5), tmp_path / "w.pt").remarks == ("classifier is taken for fc",)


def test_weights_for_images_of_other_channels_say_so(tmp_path):
    torch.save(build_model(NAME, 7).state_dict(), tmp_path / "w.pt")
    words = r"it is for images of 3 channels, and these have 1: pass --data\.channels 3, or weights for images of 1\.$"
    with pytest.raises(UserError, match=words):
        load_checkpoint(build_model(NAME, 5, channels=1), tmp_path / "w.pt", any_classes=True)


def test_a_deeper_network_does_not_pass_for_a_shallow_one(tmp_path):
    torch.save(build_model("resnet14x0.5", 5).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"another architecture, with keys 36 unexpected \(layer1\.1\.conv1\.weight"):
        load_weights(build_model(NAME, 5), tmp_path / "w.pt")
    state = build_model(NAME, 5).state_dict()
    torch.save({**state, "layer4.0.conv1.weight": torch.ones(3)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"1 unexpected \(layer4\.0\.conv1\.weight\)"):
        load_weights(build_model(NAME, 5), tmp_path / "w.pt")


# folders of the hub -----------------------------------------------------------------------------------------------


def timm_folder(folder: Path, architecture: str = "test_resnet", classes: int = 5, **config) -> nn.Module:
    timm = pytest.importorskip("timm")
    torch.manual_seed(8)
    model = timm.create_model(architecture, num_classes=classes)
    folder.mkdir(exist_ok=True)
    save_file(model.state_dict(), folder / "model.safetensors")
    table = {"architecture": architecture, "num_classes": classes, "num_features": model.num_features, **config}
    (folder / "config.json").write_text(json.dumps(table))
    return model


def test_a_folder_of_the_hub(tmp_path):
    theirs = timm_folder(tmp_path / "hub")
    ours = build_model("timm:test_resnet", 5)
    load_weights(ours, tmp_path / "hub")
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())
    with pytest.raises(UserError, match=r"another architecture.* Its config\.json names timm:test_resnet\."):
        load_weights(build_model("resnet8", 5), tmp_path / "hub")


def test_a_folder_of_another_package_is_named(tmp_path):
    save_file({"vit.embeddings.cls_token": torch.ones(1, 1, 8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["ViTForImageClassification"]}))
    with pytest.raises(UserError, match="ViTForImageClassification, a network of the package transformers"):
        load_weights(build_model("resnet8", 5), tmp_path)


def test_a_checkpoint_in_several_files(tmp_path, trained):
    state = trained.state_dict()
    names = list(state)
    save_file({name: state[name] for name in names[:9]}, tmp_path / "model-00001-of-00002.safetensors")
    save_file({name: state[name] for name in names[9:]}, tmp_path / "model-00002-of-00002.safetensors")
    where = {name: f"model-0000{1 if place < 9 else 2}-of-00002.safetensors" for place, name in enumerate(names)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        model = build_model(NAME, 5)
        load_weights(model, path)
        assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"fc.weight": "../x"}}))
    with pytest.raises(UserError, match="list of a checkpoint's files: it is damaged"):
        load_weights(build_model(NAME, 5), tmp_path)


def test_a_folder_with_one_file_is_that_file(tmp_path, trained):
    torch.save(trained.state_dict(), tmp_path / "epoch=3.ckpt")
    load_weights(build_model(NAME, 5), tmp_path)
    torch.save(trained.state_dict(), tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"several files of weights: name one of epoch=3\.ckpt, last\.ckpt\."):
        load_weights(build_model(NAME, 5), tmp_path)
    (tmp_path / ".metadata").write_text("")
    with pytest.raises(UserError, match="dcp_to_torch"):
        load_weights(build_model(NAME, 5), tmp_path)


def test_timm_converts_other_sizes(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("test_vit", num_classes=5, img_size=96)
    torch.save({"state_dict": prefixed(theirs.state_dict(), "module.")}, tmp_path / "w.pt")
    ours = build_model("timm:test_vit", 5, size=(64, 64))
    load_weights(ours, tmp_path / "w.pt")
    assert torch.equal(ours.blocks[0].attn.qkv.weight, theirs.blocks[0].attn.qkv.weight)
    assert ours.pos_embed.shape == (1, 17, 64)


def test_a_file_of_safetensors_by_another_name(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "w.pt")
    model = build_model(NAME, 5)
    load_weights(model, tmp_path / "w.pt")
    assert torch.equal(model.fc.weight, trained.fc.weight)
