"""Networks that users bring: whole trainings, evaluation, export and maps of one that returns more than its logits."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import famkd
from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.evaluate import evaluate_checkpoint, evaluate_run
from famkd.export import export
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.tasks import Classification
from famkd.training.build import build_distiller, build_recipe_data
from famviz.analysis.cam import METHODS as CAMS
from famviz.analysis.cam import cam
from famviz.analysis.cam_scores import insertion_deletion
from famviz.networks import networks


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


class Net(nn.Module):
    """Two stages and a classifier; `returns` chooses what it returns."""

    def __init__(self, num_classes: int = 3, returns: str = "tensor", channels: int = 3):
        super().__init__()
        self.returns = returns
        self.one = nn.Sequential(nn.Conv2d(channels, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU())
        self.fc, self.other = nn.Linear(6, num_classes), nn.Linear(6, num_classes)

    def forward(self, x: Tensor):
        hidden = self.two(self.one(x)).mean((2, 3))
        logits, other = self.fc(hidden), self.other(hidden)
        if self.returns == "training" and not self.training:
            return logits
        return {
            "tensor": logits,
            "dictionary": {"logits": logits, "other": other},
            "dataclass": Output(logits, hidden),
            "tuple": (other, logits),
            "training": (other, logits),
        }[self.returns]


def register(monkeypatch, **builders) -> None:
    for name, builder in builders.items():
        monkeypatch.setitem(famkd.MODELS, name, builder)


@pytest.fixture
def run(small, monkeypatch):
    """A student that returns a dictionary, taught by a teacher that returns a tuple."""
    register(monkeypatch, mine=lambda n: Net(n, "dictionary"), theirs=lambda n: Net(n, "tuple"), plain=lambda n: Net(n))
    torch.manual_seed(0)
    torch.save(Net(3).state_dict(), "teacher.pt")
    flags = ("--student.model", "mine", "--teacher.model", "theirs", "--teacher.weights", "teacher.pt")
    recipe = small(*flags, "--teacher.output", "1", "--method", "fam_review+kd", "--epochs", "1")
    return famkd.train(recipe, out="run")


@pytest.mark.slow
def test_such_a_run_is_evaluated_exported_and_looked_at(run, tmp_path, few_digits):
    score = run.metrics()[-1]["top1"]
    assert evaluate_run("run")[0]["top1"] == score
    for to in ("pt2", "safetensors"):
        report = export("run", to)
        assert report.difference < 1e-4
        assert report.output == "logits (B, 3)"
    found = networks("run")
    assert set(found) == {"teacher", "student"}
    images = torch.randn(2, 3, 8, 8)
    for net in found.values():
        assert isinstance(net, Net)
        assert net(images).shape == (2, 3)
        assert cam(net, images, layer="one").maps.shape == (2, 8, 8)
    teacher = Net(3).eval()
    teacher.load_state_dict(torch.load("teacher.pt"))
    torch.testing.assert_close(found["teacher"](images), teacher(images))


def test_a_bare_checkpoint_of_such_a_network_is_evaluated(run, few_digits):
    flags = ("teacher.pt", "npz", str(few_digits))
    plain = evaluate_checkpoint("plain", *flags)[0]
    assert evaluate_checkpoint("theirs", *flags, output="1")[0] == plain
    with pytest.raises(UserError, match=r"name the right one, as in --output 0"):
        evaluate_checkpoint("theirs", *flags)
    with pytest.raises(UserError, match=r"The model returns one tensor, so --output has no effect"):
        evaluate_checkpoint("plain", *flags, output="1")


@pytest.mark.parametrize("returns", ["dictionary", "dataclass", "training"])
def test_maps_of_a_network_that_nobody_trained_here(returns):
    torch.manual_seed(0)
    net, images, labels = Net(3, returns).eval(), torch.randn(2, 3, 8, 8), torch.tensor([0, 2])
    plain = Net(3).eval()
    plain.load_state_dict(net.state_dict())
    for method in CAMS:
        expected = cam(plain, images, "true", method, labels=labels)
        got = cam(net, images, "true", method, labels=labels)
        assert got.layer == expected.layer == "two"
        assert (got.maps == expected.maps).all()
    areas = [insertion_deletion(each, images, got.maps, labels, steps=2)[0].tolist() for each in (net, plain)]
    assert areas[0] == areas[1]
    assert type(net(images)) is type(Net(3, returns).eval()(images))  # as it was before


def test_maps_name_the_output_where_two_parts_may_be_the_logits():
    net, images = Net(3, "tuple"), torch.randn(2, 3, 8, 8)
    with pytest.raises(UserError, match=r"0 and 1 may be the logits: name the right one, as in output='0'"):
        cam(net, images)
    one, other = (cam(net, images, 1, "GradCAM", output=place).evidence for place in ("0", "1"))
    assert (one != other).any()


ANSWERS = {"dictionary": "", "dataclass": "", "training": "", "tuple": "1"}


@pytest.mark.sample(1)
@pytest.mark.parametrize("returns", ANSWERS)
def test_a_step_stays_one_compiled_graph(returns):
    torch.manual_seed(0)
    student, teacher = Net(3, returns), Net(3, returns)
    batch = Batch(torch.randn(4, 3, 8, 8), torch.arange(4) % 3, torch.arange(4))
    named = {"student_output": ANSWERS[returns] or ("1" if returns == "training" else ""),
             "teacher_output": ANSWERS[returns]}  # fmt: skip
    methods = {name: METHODS[name] for name in ("kd", "fam")}
    distiller = Distiller(Classification(), student, teacher, methods, probe=batch, classes=3, **named).train()
    compiled = torch.compile(distiller, fullgraph=True, backend="eager", dynamic=False)
    losses, expected = compiled(batch)[0], distiller(batch)[0]
    for group in ("task", "kd"):
        for name, loss in losses[group].items():
            torch.testing.assert_close(loss, expected[group][name])
    torch._dynamo.reset()


def test_a_loop_of_ones_own_leaves_the_network_as_it_returns():
    torch.manual_seed(0)
    student, teacher = Net(3, "dictionary"), Net(3, "tuple")
    batch = Batch(torch.randn(4, 3, 8, 8), torch.arange(4) % 3, torch.arange(4))
    distiller = Distiller(
        Classification(), student, teacher, {"kd": METHODS["kd"]}, probe=batch, teacher_output="1"
    )  # fmt: skip
    losses = distiller(batch)[0]
    hidden = student.two(student.one(batch.images)).mean((2, 3))
    torch.testing.assert_close(losses["task"]["ce"], F.cross_entropy(student.fc(hidden), batch.targets))
    assert isinstance(student(batch.images), dict)
    assert distiller.deployed(batch.images).shape == (4, 3)
    assert set(distiller.deployed.state_dict()) == {f"model.{key}" for key in student.state_dict()}


def test_a_loop_of_ones_own_names_arguments():
    batch = Batch(torch.randn(4, 3, 8, 8), torch.arange(4) % 3, torch.arange(4))

    def build(student, teacher, **options):
        return Distiller(Classification(), student, teacher, {"kd": METHODS["kd"]}, probe=batch, **options)

    with pytest.raises(UserError, match=r"as in student_output='0'"):
        build(Net(3, "tuple"), Net(3))
    with pytest.raises(UserError, match=r"The teacher returns 3 logits .* but the data set has 5 classes"):
        build(Net(5), Net(3), classes=5)
    with pytest.raises(UserError, match=r"kd compares logits, but the student returns 4 and the teacher 3"):
        build(Net(4), Net(3))
    with pytest.raises(UserError, match=r"The student returns 3 logits for each image, but there is a label 7"):
        build(Net(3), Net(8), labels=torch.tensor([1, 7]))


class Lazy(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.conv = nn.Sequential(nn.LazyConv2d(6, 3, 2, 1), nn.LazyBatchNorm2d(), nn.ReLU())
        self.fc = nn.LazyLinear(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


class Perceptron(nn.Module):
    """A network without maps."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Margin(Net):
    """In training its forward needs the targets."""

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Tensor:
        if self.training:
            return super().forward(x) + F.one_hot(targets, 3)
        return super().forward(x)


class Guarded(Net):
    """Its forward runs without gradient, in a way that no loss can take."""

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Without(nn.Module):
    """A network without weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def broken(num_classes: int) -> nn.Module:
    net = Net(num_classes)
    net.forward = lambda x: {}[x.shape]
    return net


BOTH = ("student", "teacher")
NETWORKS = {  # builder -> which networks are refused if it builds them, and what is said of them
    "lazy": (Lazy, (), ""),
    "takes one channel if told": (lambda num_classes, in_chans=1: Net(num_classes, channels=in_chans), (), ""),
    "one channel": (lambda n: Net(n, channels=1), BOTH, r"first convolution takes 1 channels and the images have 3"),
    "half precision": (lambda n: Net(n).half(), BOTH, r"its weights are float16, but the images are float32"),
    "fails": (broken, BOTH, r"Net, the WHO, does not run on images of 3x8x8: "),
    "needs the targets": (Margin, ("student",), r"Margin, the student in training mode, does not run on images of "),
    "no gradient": (Guarded, BOTH, r"The forward of the WHO uses torch\.inference_mode|carry no gradient"),
    "frozen": (lambda n: Net(n).requires_grad_(False), ("student",), r"carry no gradient: .* its weights are frozen"),
    "no weights": (lambda n: Without(), ("student",), r"The logits of the student carry no gradient"),
}


@pytest.mark.sample(9)
@pytest.mark.parametrize(("who", "method"), [("student", "none"), ("student", "kd"), ("teacher", "kd")])
@pytest.mark.parametrize("name", NETWORKS)
def test_whole_networks(name, who, method, small, monkeypatch):
    builder, refused, sentence = NETWORKS[name]
    register(monkeypatch, mine=builder if who == "student" else Net, theirs=builder if who == "teacher" else Net)
    recipe = small("--student.model", "mine", "--teacher.model", "theirs", "--method", method)
    data = build_recipe_data(recipe)
    if who in refused:
        with pytest.raises(UserError, match=sentence.replace("WHO", who)):
            build_distiller(recipe, data, weights=False)
        return
    losses = build_distiller(recipe, data, weights=False).train()(data.probe())[0]
    total_loss(losses, dict.fromkeys(losses, 1.0)).backward()


def test_a_network_without_maps_learns_from_logits_only(small, monkeypatch):
    register(monkeypatch, mine=Perceptron, theirs=Net)
    flags = ("--student.model", "mine", "--teacher.model", "theirs", "--method")
    data = build_recipe_data(small())
    for method in ("kd", "rkd", "crd"):
        losses = build_distiller(small(*flags, method), data, weights=False).train()(data.probe())[0]
        assert sum(losses[method].values()).isfinite()
    with pytest.raises(UserError, match=r"Perceptron shows no feature maps: name its taps with --student\.taps"):
        build_distiller(small(*flags, "fam"), data, weights=False)


def test_looking_at_a_network_leaves_it_and_the_random_numbers_as_they_were():
    torch.manual_seed(0)
    net = build_model("resnet8", 3)
    net.layer1.eval()
    modes = {name: module.training for name, module in net.named_modules()}
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    batch = Batch(torch.randn(4, 3, 8, 8, generator=torch.Generator()), torch.arange(4) % 3, torch.arange(4))
    Distiller(Classification(), net, None, {}, probe=batch)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("who", ["student", "teacher"])
@pytest.mark.parametrize("method", ["kd", "fam"])
def test_torchvisions_auxiliary_heads_are_left_alone(who, method):
    nets = {"student": build_model("resnet8", 3), "teacher": build_model("resnet8", 3)}
    nets[who] = build_model("torchvision:googlenet", 3, size=(32, 32))
    batch = Batch(torch.randn(4, 3, 32, 32), torch.arange(4) % 3, torch.arange(4))
    distiller = Distiller(
        Classification(), nets["student"], nets["teacher"], {method: METHODS[method]}, probe=batch, classes=3
    )
    losses = distiller.train()(batch)[0]
    total_loss(losses, dict.fromkeys(losses, 1.0)).backward()
    heads = [each for name, each in nets[who].named_parameters() if name.startswith("aux")]
    assert heads
    assert all(each.grad is None for each in heads)
