"""The optimizers of a training: which parameters they group, what they take, their state, and a captured step."""

import copy
import io
from types import SimpleNamespace

import pytest
import torch
from helpers.on_device import DeviceOnly
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from famkd.config.load import load_recipe, parse_recipe
from famkd.config.optimizers import optimizer_info, optimizer_names
from famkd.config.recipe import Optim
from famkd.config.validate import validated
from famkd.distill.distiller import Distiller
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.models import build_model
from famkd.tasks import Classification
from famkd.training.optimizer import (
    FUSED,
    build_optimizer,
    can_be_captured,
    learning_rate_scales,
    load_state,
    parameter_groups,
    set_learning_rate,
    start_over,
    state_tensors,
)

HERE = [name for name in optimizer_names() if not isinstance(optimizer_info(name).kind, str)]  # needs no other package
FIRST_ORDER = [name for name in HERE if not optimizer_info(name).second_order]
CAPTURED = [name for name in FIRST_ORDER if can_be_captured(name)]


class Net(nn.Module):
    """A convolution, a norm, an embedding of positions and a classifier."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4)
        self.position = nn.Parameter(torch.zeros(1, 4, 4, 4))
        self.head = nn.Linear(4, 3)

    def no_weight_decay(self):
        return {"position"}

    def forward(self, images):
        return self.head((self.norm(self.conv(images)) + self.position).relu().mean((2, 3)))


class Method(nn.Module):
    """What a method may train: a connector, and a filter in the frequency domain."""

    def __init__(self):
        super().__init__()
        self.connector, self.filter = nn.Conv2d(4, 6, 1), nn.Parameter(torch.zeros(6, 6, 4, 3, 2))


IMAGES = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def make(methods: bool = False) -> Distiller:
    torch.manual_seed(0)
    labels = torch.arange(8) % 3
    distiller = Distiller(Classification(), Net(), None, {}, probe=Batch(IMAGES, labels, torch.arange(8)))
    if methods:
        distiller.methods["mine"] = Method()
    return distiller


def steps(distiller: Distiller, optimizer: torch.optim.Optimizer, count: int) -> None:
    network = distiller.student.model.eval()  # without statistics of batches, which are no parameters
    for number in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(IMAGES + number), torch.arange(8) % 3).backward()
        optimizer.step()


def saved_and_read(state):
    """Through a file, as resume.pt holds it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.fixture(autouse=True)
def _kron_uncompiled(monkeypatch):
    """Its compilation takes a minute."""
    monkeypatch.setattr("timm.optim.kron.has_dynamo", False)


@pytest.mark.sample(30)
@pytest.mark.parametrize("name", FIRST_ORDER)
def test_every_optimizer_goes_on_from_its_saved_state(name):
    optim = Optim(name=name, lr=1e-2)
    distiller = make()
    start = copy.deepcopy(distiller.state_dict())
    optimizer = build_optimizer(distiller, optim)
    steps(distiller, optimizer, 2)
    assert any(not torch.equal(value, start[key]) for key, value in distiller.state_dict().items())
    weights, state = copy.deepcopy(distiller.state_dict()), saved_and_read(optimizer.state_dict())
    steps(distiller, optimizer, 3)
    other = make()
    other.load_state_dict(weights)
    resumed = build_optimizer(other, optim)
    load_state(resumed, state)
    steps(other, resumed, 3)
    for key, value in distiller.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_sgd_has_one_group_of_all_parameters_and_is_pytorchs():
    distiller = make(methods=True)
    optimizer = build_optimizer(distiller, Optim(lr=0.1, momentum=0.8, nesterov=True, weight_decay=1e-3))
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in distiller.parameters()]
    kept = {key: group[key] for key in ("lr", "momentum", "nesterov", "weight_decay", "fused")}
    assert kept == {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 1e-3, "fused": True}


def test_options_reach_the_optimizer():
    adamw = build_optimizer(make(), Optim(name="adamw", lr=1e-3, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.05))
    assert adamw.param_groups[0]["betas"] == (0.8, 0.9)
    assert (adamw.param_groups[0]["eps"], adamw.param_groups[0]["weight_decay"]) == (1e-5, 0.05)
    assert build_optimizer(make(), Optim(name="rmsprop", momentum=0.7)).param_groups[0]["momentum"] == 0.7
    assert build_optimizer(make(), Optim(name="lamb")).param_groups[0]["betas"] == (0.9, 0.999)


def by_name(distiller: Distiller, optim: Optim, key: str) -> dict[str, float]:
    names = {id(p): name.removeprefix("student.model.") for name, p in distiller.named_parameters()}
    groups = build_optimizer(distiller, optim).param_groups
    return {names[id(p)]: group[key] for group in groups for p in group["params"]}


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_only_weights_decay_on_request(name):
    decays = by_name(make(methods=True), Optim(name=name, weight_decay=0.1, decay="weights"), "weight_decay")
    assert {key for key, decay in decays.items() if decay} == {
        "conv.weight", "head.weight", "methods.mine.connector.weight", "methods.mine.filter"
    }  # fmt: skip
    assert set(by_name(make(methods=True), Optim(name=name, weight_decay=0.1), "weight_decay").values()) == {0.1}


def test_muon_is_for_the_weights_of_layers():
    fallback = by_name(make(methods=True), Optim(name="muon"), "use_fallback")
    assert {key for key, used in fallback.items() if not used} == {
        "conv.weight", "head.weight", "methods.mine.connector.weight"
    }  # fmt: skip


def test_deeper_layers_learn_faster_and_methods_at_the_full_rate():
    distiller = make(methods=True)
    optim = Optim(lr=0.4, layer_decay=0.5)
    optimizer = build_optimizer(distiller, optim)
    set_learning_rate(optimizer, 0.8)
    names = {id(p): name.removeprefix("student.model.") for name, p in distiller.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates["head.weight"] == rates["methods.mine.filter"] == 0.8
    assert rates["norm.weight"] == 0.4
    assert rates["conv.weight"] == 0.2
    assert rates["position"] == 0.1


@pytest.mark.parametrize(
    ("model", "order"),
    [
        ("resnet20", ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.2.conv1.weight",
                      "layer3.2.bn2.bias", "fc.bias"]),
        ("timm:vit_tiny_patch16_224", ["pos_embed", "blocks.0.attn.qkv.weight", "blocks.11.mlp.fc2.bias", "head.bias"]),
        ("torchvision:vit_b_16", ["class_token", "conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight",
                                  "encoder.layers.encoder_layer_11.mlp.3.bias", "encoder.ln.bias", "heads.head.bias"]),
    ],
)  # fmt: skip
def test_layers_of_any_network_in_order(model, order):
    with torch.device("meta"):
        network = build_model(model, 10)
    scales = learning_rate_scales(network, 0.5)
    named = dict(network.named_parameters())
    assert set(map(id, scales)) == set(map(id, named.values()))
    found = [scales[named[name]] for name in order]
    assert found == sorted(set(found))
    assert max(scales.values()) == 1


REFUSED = {
    "name adamm": "no optimizer 'adamm'. Did you mean",
    "name adahessian": "second derivatives",
    "name adamw optim.momentum 0.9": "adamw has no momentum; pass --optim.betas instead",
    "name adagrad optim.momentum 0.9": "adagrad has no momentum; leave it out",
    "name adamw optim.nesterov": "others have it by name, such as nadamw",
    "name rmsprop optim.betas 0.9 0.99": "rmsprop has no betas; pass --optim.momentum instead",
    "name lion optim.eps 1e-6": "lion has no eps",
    "name adan optim.betas 0.9 0.99": "adan takes 3 --optim.betas, not 2",
    "betas 0.9 0.99": "sgd has no betas; pass --optim.momentum instead",
    "name adamw optim.betas 0.9 1.0": "less than 1",
    "schedule cosine optim.steps 3": "an option of --optim.schedule step, not of cosine",
    "schedule onecycle optim.per_step": "not of onecycle",
    "schedule onecycle optim.warmup_steps 4": "not of onecycle",
    "schedule constant optim.min_lr 0.1": "an option of --optim.schedule cosine and linear and onecycle",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_options_without_effect_are_refused(flags):
    words = [f"--{word}" if word[0].isalpha() and "optim." in word else word for word in f"optim.{flags}".split()]
    with pytest.raises(UserError, match=REFUSED[flags].replace(".", r"\.")) as told:
        validated(load_recipe("quickstart", *words))
    assert "\n" not in str(told.value)


def test_options_of_a_file_are_refused_or_left_out_with_another_choice():
    file = {"student": {"model": "resnet20"}, "optim": {"momentum": "0.8", "steps": ["3"], "lr": "0.2"}}
    recipe = validated(parse_recipe(file, ["--optim.name", "adamw", "--optim.schedule", "cosine"], name="x"))
    assert (recipe.optim.momentum, recipe.optim.steps, recipe.optim.lr) == (0.9, (150, 180, 210), 0.2)
    assert parse_recipe(file, [], name="x").optim.momentum == 0.8
    file["optim"]["name"] = "adamw"
    with pytest.raises(UserError, match="adamw has no momentum"):
        validated(parse_recipe(file, [], name="x"))


@pytest.mark.parametrize("name", [name for name in CAPTURED if optimizer_info(name).kind not in FUSED])
def test_a_captured_step_stays_on_the_device(name, monkeypatch):
    """The tensors are fake ones, so no GPU is needed; PyTorch's fused kernels do not take them."""
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(L2_cache_size=2**25))
    distiller = make()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in distiller.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    fake = torch.empty(parameter.shape, device="cuda")
                    module._parameters[key] = nn.Parameter(fake)
        optimizer = build_optimizer(distiller, Optim(name=name, clip_grad=1.0))
        for parameter in distiller.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()  # allocates the state
        assert all(tensor.device.type == "cuda" for tensor in state_tensors(optimizer))
        with DeviceOnly():
            optimizer.step()


def test_there_are_optimizers_that_a_graph_captures_and_others():
    assert {"sgd", "adamw", "rmsprop", "nadam"} <= set(CAPTURED)
    assert {"lion", "lamb", "adabelief"} <= set(FIRST_ORDER) - set(CAPTURED)


@pytest.mark.parametrize("name", CAPTURED)
def test_the_state_starts_over_from_its_first_values(name):
    """As after the warm-up of a CUDA graph."""
    optim = Optim(name=name, lr=1e-2)
    fresh, warm = make(), make()
    weights = copy.deepcopy(warm.state_dict())
    first, second = build_optimizer(fresh, optim), build_optimizer(warm, optim)
    steps(warm, second, 2)
    warm.load_state_dict(weights)
    with torch.no_grad():
        start_over(second)
    for distiller, optimizer in ((fresh, first), (warm, second)):
        steps(distiller, optimizer, 2)
    for key, value in fresh.state_dict().items():
        torch.testing.assert_close(warm.state_dict()[key], value, rtol=1e-6, atol=1e-7)


def test_groups_hold_each_trained_parameter_once():
    distiller = make(methods=True)
    distiller.student.model.conv.weight.requires_grad_(False)
    for optim in (Optim(), Optim(decay="weights"), Optim(layer_decay=0.9), Optim(name="muon", decay="weights")):
        held = [id(p) for group in parameter_groups(distiller, optim) for p in group["params"]]
        assert sorted(held) == sorted(id(p) for p in distiller.parameters() if p.requires_grad)
