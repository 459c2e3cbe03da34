"""Every method on equal, unlike, odd and non-square nets: finite losses, gradients everywhere, teacher untouched."""

import pytest
import torch
from torch import nn

from famkd.config.sections import method_arguments
from famkd.distill.distiller import Distiller, freeze
from famkd.distill.types import Batch, Method, View
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.tasks import Classification


class Small(nn.Module):
    """Three stages, pooled, with channels and a head of its own; no `taps`, so that they must be discovered."""

    def __init__(self, *widths: int, classes: int = 5):
        super().__init__()
        pairs = zip((3, *widths), widths)
        self.stages = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairs)
        )
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x):
        return self.fc(self.avgpool(self.stages(x)))


NETS = {
    "equal": lambda: (build_model("resnet8", 5), build_model("resnet8", 5), (32, 32)),
    "unlike families": lambda: (build_model("ShuffleV1", 5), build_model("wrn_16_2", 5), (32, 32)),
    "odd maps": lambda: (Small(4, 6, 8), Small(6, 8, 12), (27, 27)),
    "non-square maps": lambda: (Small(4, 7, 8), Small(6, 9, 12), (24, 40)),
    "tiny images": lambda: (build_model("resnet8x0.5", 5), build_model("resnet14", 5), (8, 8)),
    "unequal depth": lambda: (Small(4, 8), Small(6, 8, 10, 12), (32, 32)),
}


def a_batch(size: tuple[int, int], n: int = 8, classes: int = 5) -> Batch:
    return Batch(torch.randn(n, 3, *size), torch.arange(n) % classes, torch.arange(n))


def distiller_of(names, nets: str, options=None, **taps) -> tuple[Distiller, Batch]:
    torch.manual_seed(0)
    student, teacher, size = NETS[nets]()
    batch = a_batch(size)
    methods = {name: METHODS[name] for name in names}
    labels = torch.arange(40) % 5
    return Distiller(
        Classification(), student, teacher, methods, probe=batch, labels=labels, options=options, **taps
    ), batch


@pytest.mark.sample(8)
@pytest.mark.parametrize("nets", NETS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_on_every_kind_of_pair(name, nets):
    distiller, batch = distiller_of([name], nets)
    distiller.train()
    before = {key: value.clone() for key, value in distiller.teacher.model.state_dict().items()}
    losses = distiller(batch)[0]
    assert set(losses) == {"task", name}
    total = sum(sum(terms.values()) for terms in losses.values())
    assert total.isfinite()
    total.backward()
    for key, parameter in distiller.named_parameters():
        if parameter.requires_grad:  # all but SimKD's copy of the teacher's head
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    assert distiller.student.model.training
    assert not any(module.training for module in distiller.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in distiller.teacher.parameters())
    for key, value in distiller.teacher.model.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", ["fam", "fam_review", "kd"])
def test_the_method_teaches_the_student(name):
    """The gradient that reaches the student comes from the method, not only from its own loss."""
    distiller, batch = distiller_of([name], "equal")
    distiller.train()
    sum(distiller(batch)[0][name].values()).backward()
    first = next(distiller.student.model.parameters())
    assert first.grad.abs().max() > 0


def test_several_methods_look_at_their_own_taps():
    together, batch = distiller_of(["fam_review", "kd", "at"], "equal")
    torch.manual_seed(0)
    alone = {name: distiller_of([name], "equal")[0] for name in ("kd", "at")}
    for name, other in alone.items():
        other.student.model.load_state_dict(together.student.model.state_dict())
        other.teacher.model.load_state_dict(together.teacher.model.state_dict())
        expected = other.eval()(batch)[0][name]
        got = together.eval()(batch)[0][name]
        assert {k: v.item() for k, v in got.items()} == pytest.approx(
            {k: v.item() for k, v in expected.items()}, rel=1e-5
        )
    assert together.taps("kd") == ([], [])
    assert together.taps("fam_review")[0] == ["layer1", "layer2", "layer3", "avgpool"]


def test_named_taps_replace_the_default_stages_and_keep_the_embedding():
    distiller, _ = distiller_of(
        ["fam_review"], "equal", student_taps=("layer2", "layer3"), teacher_taps=("layer2", "layer3")
    )
    assert distiller.taps("fam_review") == (["layer2", "layer3", "avgpool"],) * 2
    assert len(distiller.methods["fam_review"].levels) == 3


def test_methods_name_the_modules_that_are_compared_with_the_teacher():
    fam, _ = distiller_of(["fam"], "equal")
    assert fam.methods["fam"].compared() == list(fam.methods["fam"].stages)
    for name in ("fam_review", "reviewkd"):
        review, _ = distiller_of([name], "equal")
        assert review.methods[name].compared() == [level.leave for level in review.methods[name].levels]
        assert len(review.methods[name].compared()) == 4
    other, _ = distiller_of(["freekd"], "equal")
    assert other.methods["freekd"].compared() == []


def test_the_state_dict_holds_no_teacher():
    distiller, _ = distiller_of(["fam"], "equal")
    assert {key.partition(".")[0] for key in distiller.state_dict()} == {"student", "methods"}
    assert distiller.train().teacher.training is False


def test_probing_leaves_the_student_as_it_was():
    torch.manual_seed(0)
    student, teacher, size = NETS["equal"]()
    before = {key: value.clone() for key, value in student.state_dict().items()}
    Distiller(Classification(), student, freeze(teacher), {"fam": METHODS["fam"]}, probe=a_batch(size))
    assert student.training
    assert all(torch.equal(value, before[key]) for key, value in student.state_dict().items())


def test_fam_rectifies_only_towards_rectified_teachers():
    """A map with negative values could never be reached through a ReLU (FAM.md fact 8)."""
    post, _ = distiller_of(["fam"], "equal")
    raw, _ = distiller_of(["fam"], "equal", teacher_taps=("layer1.-1.bn2", "layer2.-1.bn2", "layer3.-1.bn2"))
    assert isinstance(post.methods["fam"].stages[0][-1], nn.ReLU)
    assert isinstance(raw.methods["fam"].stages[0][-1], nn.BatchNorm2d)


@pytest.mark.sample(8)
@pytest.mark.parametrize(
    "options",
    [
        {"fuse": "sigmoid"}, {"branch": "global"}, {"branch": "local"}, {"highpass": "none"}, {"highpass": "official"},
        {"highpass": "gaussian", "cutoff": 0.4}, {"highpass": "butterworth", "order": 4}, {"init": "official"},
        {"init": "zero"}, {"filter": "separable"}, {"filter": "lowrank", "rank": 3}, {"grid": 3},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("nets", ["equal", "non-square maps"])
def test_every_option_of_fam_review_changes_the_loss_and_steps(options, nets):
    def review(**changes):
        balanced = {"init": "balanced"}  # from zero, what the global branch is made of does not show at first
        arguments = method_arguments(METHODS["fam_review"], balanced | changes)
        return distiller_of(["fam_review"], nets, {"fam_review": arguments})

    plain, batch = review()
    varied, _ = review(**options)
    varied.student.model.load_state_dict(plain.student.model.state_dict())
    losses = [sum(d.train()(batch)[0]["fam_review"].values()) for d in (plain, varied)]
    assert losses[1].isfinite()
    assert losses[0] != losses[1]
    losses[1].backward()
    assert all(p.grad is not None for p in varied.methods.parameters())


def test_reviewkd_leads_to_what_a_teacher_shows_before_its_activation():
    torch.manual_seed(0)
    student, teacher, x = build_model("resnet8", 5), build_model("wrn_16_2", 5), torch.randn(4, 3, 16, 16)
    batch = Batch(x, torch.arange(4), torch.arange(4))
    distiller = Distiller(Classification(), student, teacher, {"reviewkd": METHODS["reviewkd"]}, probe=batch)
    own, others = distiller.taps("reviewkd")
    assert own == [*student.taps["stages"], *student.taps["embed"]]
    assert others == [*teacher.taps["preact"], *teacher.taps["embed"]]


def test_a_users_own_method_needs_only_a_forward():
    class Mean(Method):
        wants = "embed"

        def forward(self, student: View, teacher: View, batch: Batch):
            return {"mean": (student.feats[0].mean() - teacher.feats[0].mean()).square()}

    torch.manual_seed(0)
    student, teacher, size = NETS["odd maps"]()
    batch = a_batch(size)
    distiller = Distiller(Classification(), student, teacher, {"mean": Mean}, probe=batch)
    assert distiller(batch)[0]["mean"]["mean"].isfinite()
