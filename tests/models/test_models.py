"""Every network keeps its published size, keys and shapes, and files of weights are read safely."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.processes import environment
from safetensors.torch import save_file

from famkd.errors import UserError, nearest
from famkd.models import DETECTORS, MODELS, build_model, count_parameters, load_weights

# Parameters with 100 classes (MobileNetV1: 1000), entries of the state dict, pooled width, channels and size of
# each stage for a 32x32 image. The counts are those of the networks in mdistiller and RepDistiller.
THIN = ((16, 32), (32, 16), (64, 8))
THICK = ((64, 32), (128, 16), (256, 8))
DIGITS = ((8, 32), (16, 16), (32, 8))
VGG = ((128, 16), (256, 8), (512, 4), (512, 4))
KNOWN = {
    "resnet8": (83_892, 56, 64, THIN),
    "resnet14": (181_108, 92, 64, THIN),
    "resnet20": (278_324, 128, 64, THIN),
    "resnet32": (472_756, 200, 64, THIN),
    "resnet44": (667_188, 272, 64, THIN),
    "resnet56": (861_620, 344, 64, THIN),
    "resnet110": (1_736_564, 668, 64, THIN),
    "resnet8x4": (1_233_540, 62, 256, THICK),
    "resnet32x4": (7_433_860, 206, 256, THICK),
    "resnet8x0.5": (22_924, 56, 32, DIGITS),
    "resnet14x0.5": (47_340, 92, 32, DIGITS),
    "ResNet18": (11_220_132, 122, 512, ((64, 32), (128, 16), (256, 8), (512, 4))),
    "ResNet50": (23_705_252, 320, 2048, ((256, 32), (512, 16), (1024, 8), (2048, 4))),
    "wrn_16_1": (180_916, 82, 64, THIN),
    "wrn_16_2": (703_284, 83, 128, ((32, 32), (64, 16), (128, 8))),
    "wrn_40_1": (569_780, 226, 64, THIN),
    "wrn_40_2": (2_255_156, 227, 128, ((32, 32), (64, 16), (128, 8))),
    "vgg8": (3_965_028, 37, 512, VGG),
    "vgg11": (9_277_284, 58, 512, VGG),
    "vgg13": (9_462_180, 72, 512, VGG),
    "vgg16": (14_774_436, 93, 512, VGG),
    "vgg19": (20_086_692, 114, 512, VGG),
    "MobileNetV1": (4_231_976, 164, 1024, ((128, 8), (256, 4), (512, 2), (1024, 1))),
    "MobileNetV2": (812_836, 320, 1280, ((12, 16), (16, 8), (48, 4), (160, 2))),
    "ShuffleV1": (949_258, 296, 960, ((240, 16), (480, 8), (960, 4))),
    "ShuffleV2": (1_355_528, 338, 1024, ((116, 16), (232, 8), (464, 4))),
}


@pytest.fixture(scope="module", autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


def look(model, images, taps):
    """Run the model once and return its logits and what stood at each tap."""
    seen, handles = {}, []
    for tap in taps:
        path, _, entering = tap.partition(":")
        module = model
        for step in path.split("."):
            module = module[int(step)] if step.lstrip("-").isdigit() else getattr(module, step)
        if entering:
            hook = module.register_forward_pre_hook(lambda _, args, tap=tap: seen.update({tap: args[0]}))
        else:
            hook = module.register_forward_hook(lambda _, args, out, tap=tap: seen.update({tap: out}))
        handles.append(hook)
    with torch.no_grad():
        logits = model(images)
    for handle in handles:
        handle.remove()
    return logits, [seen[tap] for tap in taps]


def lively(name, num_classes=7):
    """Build a network in eval mode whose normalisation layers are not all alike."""
    torch.manual_seed(0)
    model = build_model(name, num_classes).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.uniform_(-0.5, 0.5)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def test_the_table_names_every_model():
    assert list(KNOWN) == list(MODELS)


def test_parameters_are_counted_without_building_the_network():
    counts = {name: count_parameters(name) for name in (*MODELS, *DETECTORS)}
    published = {name: known[0] for name, known in KNOWN.items() if name != "MobileNetV1"}
    assert {name: counts[name] for name in published} == published
    assert counts["MobileNetV1"] == KNOWN["MobileNetV1"][0] - 900 * 1025  # the classifier is for 100 classes
    assert counts["fasterrcnn_resnet50"] / 1e6 == pytest.approx(41.81, abs=0.005)


def test_models_of_a_table_are_built_from_it():
    def tiny(num_classes, pretrained=False):
        return torch.nn.Linear(3, num_classes, bias=bool(pretrained))

    model = build_model("tiny", 5, models={"tiny": tiny})
    assert (model.out_features, model.bias) == (5, None)
    assert build_model("tiny", 5, pretrained="COCO_V1", models={"tiny": tiny}).bias is not None
    with pytest.raises(UserError, match=r"no model 'tinny'. Did you mean tiny\? Choose from tiny"):
        build_model("tinny", 5, models={"tiny": tiny})
    with pytest.raises(UserError, match="no model 'resnet8'"):
        build_model("resnet8", 5, models={"tiny": tiny})


def test_the_tables_are_there_without_torchvision():
    code = "import sys, famkd.models as m; assert 'torchvision' not in sys.modules, 'imported'; print(*m.DETECTORS)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(DETECTORS)


@pytest.mark.parametrize("name", MODELS)
def test_sizes_are_the_published_ones(name):
    parameters, entries, _, _ = KNOWN[name]
    with torch.device("meta"):
        model = build_model(name, 1000 if name == "MobileNetV1" else 100)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(model.state_dict()) == entries


@pytest.mark.sample(26)
@pytest.mark.parametrize("name", MODELS)
def test_taps_show_the_published_shapes_and_any_image_size_goes_through(name):
    _, _, pooled, stages = KNOWN[name]
    model = lively(name)
    images = torch.randn(2, 3, 32, 32)
    taps = model.taps
    logits, seen = look(model, images, [*taps["stages"], *taps["preact"], *taps["embed"]])
    maps, before, embed = seen[: len(stages)], seen[len(stages) : -1], seen[-1]

    assert logits.shape == (2, 7)
    shapes = [(2, channels, size, size) for channels, size in stages]
    assert [tuple(m.shape) for m in maps] == shapes
    assert [tuple(m.shape) for m in before] == shapes
    assert embed.shape == (2, pooled)
    head = model.get_submodule(model.head)
    assert torch.allclose(head(embed), logits)

    if name == "MobileNetV2":  # its blocks end in a linear map
        assert taps["preact"] == taps["stages"]
        assert all((m < 0).any() for m in maps)
    elif name.startswith("wrn"):  # stages end in sums, whose batch norm the next stage begins with
        norms = [
            model.get_submodule(tap.replace("relu1:in", "bn1").replace("relu:in", "bn1")) for tap in taps["preact"]
        ]
        assert all((m < 0).any() for m in maps)
        assert all(torch.equal(norm(m), b) for norm, m, b in zip(norms, maps, before))
    else:
        assert all((b < 0).any() for b in before)  # nothing overwrote it in place
        assert all(torch.equal(b.relu(), m) for b, m in zip(before, maps))

    # 8x8 are scikit-learn's digits; 24x40 halves to odd sides (3x5) and is not square.
    for height, width in ((24, 40), (8, 8)):
        assert model(torch.randn(1, 3, height, width)).shape == (1, 7)


def test_vgg_halves_a_fourth_time_for_tiny_imagenet_alone():
    model = lively("vgg8")
    _, (at_64,) = look(model, torch.randn(1, 3, 64, 64), ["relu4"])
    _, (at_48,) = look(model, torch.randn(1, 3, 48, 48), ["relu4"])
    assert at_64.shape[-2:] == (4, 4)
    assert at_48.shape[-2:] == (6, 6)


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "MobileNetV2", "ShuffleV1", "ShuffleV2"])
def test_every_parameter_learns(name):
    model = build_model(name, 7)
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_keys_are_those_of_published_checkpoints():
    def layers(name):
        return {key.rpartition(".")[0] for key in build_model(name, 7).state_dict()}

    assert {"conv1", "layer2.0.downsample.0", "layer3.0.bn2", "fc"} <= layers("resnet8")
    assert {"conv1", "layer2.0.shortcut.1", "layer4.1.conv2", "linear"} <= layers("ResNet18")
    assert {"conv1", "block2.layer.0.convShortcut", "block3.layer.1.bn2", "bn1", "fc"} <= layers("wrn_16_1")
    assert {"block0.0", "block0.1", "block4.0", "classifier"} <= layers("vgg8")
    assert {"conv1.0", "blocks.6.0.conv.7", "conv2.1", "classifier.0"} <= layers("MobileNetV2")
    assert {"model.0.0", "model.13.4", "fc"} <= layers("MobileNetV1")
    assert {"layer1.0.conv3", "layer3.3.bn3", "linear"} <= layers("ShuffleV1")
    assert {"layer1.0.conv5", "layer3.3.bn3", "conv2", "bn2", "linear"} <= layers("ShuffleV2")


def test_a_misspelt_name_is_reported_with_the_nearest():
    assert nearest("resnet55", MODELS) == " Did you mean resnet56 or ResNet50?"
    assert nearest("quite another thing", MODELS) == ""
    with pytest.raises(UserError, match=r"no model 'mobilenetv2'. Did you mean MobileNetV2"):
        build_model("mobilenetv2", 10)
    with pytest.raises(UserError, match="See `famkd ls models`, use timm:NAME"):
        build_model("quite another thing", 10)
    with pytest.raises(UserError, match=r"torchvision has no model 'resnt18'. Did you mean resnet18"):
        build_model("torchvision:resnt18", 10)
    with pytest.raises(UserError, match="give a checkpoint file instead"):
        build_model("resnet8", 10, pretrained=True)


def test_models_of_libraries_come_by_prefix():
    assert sum(p.numel() for p in build_model("torchvision:resnet18", 1000).parameters()) == 11_689_512


def test_timm_names_are_checked():
    assert build_model("timm:resnet10t", 10).eval()(torch.randn(1, 3, 32, 32)).shape == (1, 10)
    with pytest.raises(UserError, match=r"timm has no model 'resnet_18'. Did you mean resnet18"):
        build_model("timm:resnet_18", 10)


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def same(model, state):
    return all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


WRAPPERS = {
    "bare": lambda s: s,
    "model": lambda s: {"model": s, "epoch": 240},
    "state_dict": lambda s: {"state_dict": prefixed(s, "module."), "epoch": 240},
    "student": lambda s: {"student": s},
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "compiled and parallel": lambda s: prefixed(s, "module._orig_mod."),
    "inside a model": lambda s: prefixed(s, "model."),
    "inside a student": lambda s: {"model": prefixed(s, "student.")},
    "inside three": lambda s: {"model": prefixed(s, "module.student._orig_mod.")},
    "next to a weight of the same name": lambda s: {"model": {**prefixed(s, "student."), "fc.weight": torch.ones(1)}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ["resnet8x0.5", "MobileNetV1"])  # the keys of the latter begin with "model." anyhow
def test_weights_come_back_from_every_wrapper(tmp_path, name, wrapper):
    state = lively(name).state_dict()
    torch.save(WRAPPERS[wrapper](state), tmp_path / "weights.pt")
    model = build_model(name, 7)
    assert not same(model, state)
    load_weights(model, tmp_path / "weights.pt")
    assert same(model, state)


def test_weights_come_back_from_safetensors_with_their_notes(tmp_path):
    state = lively("resnet8").state_dict()
    save_file(state, tmp_path / "weights.safetensors", metadata={"epoch": "240"})
    model = build_model("resnet8", 7)
    assert load_weights(model, tmp_path / "weights.safetensors") == {"epoch": "240"}
    assert same(model, state)


def test_a_whole_distiller_holds_two_networks(tmp_path):
    student, teacher = lively("resnet8").state_dict(), lively("resnet14").state_dict()
    extra = {"module.connector.weight": torch.ones(3)}
    both = prefixed(student, "module.student.") | prefixed(teacher, "module.teacher.") | extra
    torch.save({"model": both, "epoch": 3}, tmp_path / "latest")
    model = build_model("resnet8", 7)
    assert load_weights(model, tmp_path / "latest") == {"epoch": 3}
    assert same(model, student)
    model = build_model("resnet14", 7)
    load_weights(model, tmp_path / "latest", part="teacher")
    assert same(model, teacher)


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_of_numpy_in_old_files_become_plain_notes(tmp_path, zipped):
    state = lively("resnet8").state_dict()
    content = {"epoch": 240, "model": state, "best_acc": np.float64(72.5), "acc": torch.tensor(71.5), "opt": "sgd"}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=zipped)
    notes = load_weights(build_model("resnet8", 7), tmp_path / "old.pth")
    assert notes == {"epoch": 240, "best_acc": 72.5, "acc": 71.5, "opt": "sgd"}
    assert type(notes["best_acc"]) is float


def test_files_from_before_batches_were_counted_still_load(tmp_path):
    state = {k: v for k, v in lively("resnet8").state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    load_weights(build_model("resnet8", 7), tmp_path / "old.pth")


class Hostile:
    """What a pickle that runs code looks like: reading it would make a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "named safetensors"])
def test_a_file_that_runs_code_is_refused_unrun(tmp_path, form):
    trap, file = tmp_path / "sprung", tmp_path / "weights.pt"
    content = {"model": lively("resnet8").state_dict(), "extra": Hostile(trap)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        file = file.with_suffix(".safetensors") if form == "named safetensors" else file
        torch.save(content, file, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(UserError, match=r"cannot be read as weights|is damaged") as caught:
        load_weights(build_model("resnet8", 7), file)
    assert "weights_only" not in str(caught.value)  # torch's own text advises to run it
    assert not trap.exists()
    pickle.loads(pickle.dumps(Hostile(trap)))
    assert trap.exists()  # the trap was a real one


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}q\x00."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_raises_a_user_error(tmp_path, content, suffix):
    file = tmp_path / f"weights{suffix}"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"weights"):
        load_weights(build_model("resnet8", 7), file)


def test_files_without_weights_are_named(tmp_path):
    model = build_model("resnet8", 7)
    with pytest.raises(UserError, match="There is no file of weights at"):
        load_weights(model, tmp_path / "nowhere.pt")
    with pytest.raises(UserError, match="There is no file of weights at"):
        load_weights(model, tmp_path)
    torch.save([torch.ones(3)], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds a list, not weights by name"):
        load_weights(model, tmp_path / "list.pt")
    loop: dict = {"epoch": 3}
    loop["model"] = loop
    torch.save(loop, tmp_path / "loop.pt")
    with pytest.raises(UserError, match="47 missing"):
        load_weights(model, tmp_path / "loop.pt")
    sparse = model.state_dict() | {"fc.weight": model.fc.weight.detach().to_sparse()}
    torch.save(sparse, tmp_path / "sparse.pt")
    with pytest.raises(UserError, match=r"1 missing \(fc.weight\)"):
        load_weights(model, tmp_path / "sparse.pt")


def test_another_architecture_is_distinguished_from_another_number_of_classes(tmp_path):
    state = lively("resnet14", 100).state_dict()
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"36 unexpected \(layer1.1.conv1.weight, layer1.1.bn1.weight, .*, …\)"):
        load_weights(build_model("resnet8", 100), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"another architecture, with keys \d+ missing \(layer1.2.conv1.weight"):
        load_weights(build_model("resnet20", 100), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"of another shape \(conv1.weight, bn1.weight, bn1.bias, …\)"):
        load_weights(build_model("resnet14x0.5", 100), tmp_path / "w.pt")

    model = build_model("resnet14", 10)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(UserError, match="the checkpoint has 100 classes, the model 10: pass --data with 100 classes"):
        load_weights(model, tmp_path / "w.pt")
    assert same(model, before)


def test_the_published_teacher_loads(real_data):
    file = real_data("checkpoints/cifar100_resnet56-f2eff4c8.pt")
    model = build_model("resnet56", 100)
    load_weights(model, file)
    assert same(model, torch.load(file, weights_only=True))
