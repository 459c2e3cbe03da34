"""Weights of the levels of fam and fam_review."""

import pytest
import torch

from famkd.distill.types import Batch, Probe, View
from famkd.errors import UserError
from famkd.methods.fam import FAMLayers
from famkd.methods.review import FAMReview
from famkd.models import build_model
from famkd.training.loop import train


def views() -> tuple[View, View, Batch]:
    torch.manual_seed(0)
    own = [torch.randn(4, 8, 8, 8), torch.randn(4, 16, 4, 4), torch.randn(4, 16)]
    others = [torch.randn(4, 16, 8, 8), torch.randn(4, 32, 4, 4), torch.randn(4, 32)]
    return View(None, own), View(None, others), Batch(None, None, torch.arange(4))


@pytest.mark.parametrize(("method", "levels"), [(FAMLayers, 2), (FAMReview, 3)])
def test_the_loss_is_the_weighted_sum_of_the_levels(method, levels):
    student, teacher, batch = views()
    if method is FAMLayers:
        student, teacher = (view._replace(feats=view.feats[:2]) for view in (student, teacher))

    def loss(*weights: float) -> float:
        torch.manual_seed(1)
        built = method(Probe(student, teacher, None), level_weights=weights).eval()
        (value,) = built(student, teacher, batch).values()
        return float(value)

    units = [loss(*(float(place == level) for place in range(levels))) for level in range(levels)]
    assert len(set(units)) == levels
    assert sum(units) == pytest.approx(loss(), rel=1e-5)
    weights = [0.5, 2.0, 3.0][:levels]
    assert sum(w * u for w, u in zip(weights, units)) == pytest.approx(loss(*weights), rel=1e-5)


def test_shallow_levels_come_first():
    """Only the shallowest level changes when the teacher's shallowest map does."""
    student, teacher, batch = views()
    for weights, changes in (((1.0, 0.0, 0.0), True), ((0.0, 0.0, 1.0), False)):
        torch.manual_seed(1)
        built = FAMReview(Probe(student, teacher, None), level_weights=weights).eval()
        before = built(student, teacher, batch)["review"]
        other = teacher._replace(feats=[teacher.feats[0] + 1, *teacher.feats[1:]])
        assert bool(built(student, other, batch)["review"] != before) == changes


@pytest.mark.parametrize(("weights", "why"), [
    (["1", "2"], "level_weights has 2 numbers, and there are 3 levels"),
    (["0", "0", "0"], "all level_weights are 0"),
    (["1", "-1", "1"], "level_weights"),
])  # fmt: skip
def test_weights_that_do_not_fit_are_told(small, weights, why):
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    teacher = ("--teacher.model", "resnet8", "--teacher.weights", "teacher.pt", "--epochs", "1")
    with pytest.raises(UserError, match=why):
        train(small("--method", "fam", *teacher, "--fam.level_weights", *weights))
