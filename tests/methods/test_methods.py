"""Every method in every awkward case."""

from contextlib import nullcontext

import pytest
import torch
from helpers.views import CASES, scene

from famkd.distill.types import Batch, Probe, View
from famkd.methods import METHODS, contrast, frequency, heads, logits, maps, relations
from famkd.methods.common import flat, match_size, pair

# a batch norm over the pooled feature needs two values, and one sample has no relations to learn from
IMPOSSIBLE = {(name, "one sample") for name in ("fam_review", "reviewkd", "sp", "cc", "rkd", "pkt")}
POSSIBLE = [(name, case) for name in METHODS for case in CASES if (name, case) not in IMPOSSIBLE]


@pytest.mark.parametrize(("name", "case"), POSSIBLE, ids="-".join)
def test_every_method_in_every_case(name, case):
    method, student, teacher, batch = scene(METHODS[name], case)
    before = [x.clone() for x in (teacher.logits, *teacher.feats)]
    with torch.autocast("cpu", torch.bfloat16) if case == "bfloat16" else nullcontext():
        losses = method(student, teacher, batch)
    total = sum(losses.values())
    assert total.shape == ()
    assert total.isfinite(), losses
    if not total.requires_grad:
        pytest.fail("the loss does not depend on the student")
    total.backward()
    for key, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
    grads = [x.grad for x in (student.logits, *student.feats) if x.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)
    moves = any(grad.abs().sum() > 0 for grad in grads)
    assert moves or case == "extreme logits"  # a saturated softmax has no slope
    for x, old in zip((teacher.logits, *teacher.feats), before):
        assert torch.equal(x, old)
        assert not x.requires_grad
        assert x.grad is None


def test_weights_are_the_published_ones():
    published = {
        "fam": (1, 1, 20),
        "fam_review": (1, 1, 20),
        "reviewkd": (1, 1, 20),
        "mimic": (1, 1, 0),
        "kd": (0.9, 0.1, 0),
        "dkd": (1, 1, 20),
        "dist": (2, 1, 0),
        "nkd": (1, 1, 0),
        "wttm": (4, 1, 0),
        "fitnet": (100, 1, 0),
        "at": (1000, 1, 0),
        "nst": (50, 1, 0),
        "vid": (1, 1, 0),
        "ofd": (1e-3, 1, 0),
        "sp": (3000, 1, 0),
        "cc": (0.02, 1, 0),
        "rkd": (1, 1, 0),
        "pkt": (30000, 1, 0),
        "crd": (0.8, 1, 0),
        "simkd": (1, 0, 0),
        "catkd": (15, 1, 0),
        "freekd": (1, 1, 0),
        "figkd": (1, 1, 0),
    }
    ours = {name: (method.weight, method.task_weight, method.warmup) for name, method in METHODS.items()}
    assert {name: ours[name] for name in published} == published


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", METHODS)
def test_no_method_breaks_the_graph_or_waits_for_the_device(name):
    # one full graph: no loop over data, no item(), no shape that depends on values
    method, student, teacher, batch = scene(METHODS[name])

    def step(s_logits, s_feats, t_logits, t_feats, index, targets):
        views = View(s_logits, s_feats, student.head), View(t_logits, t_feats, teacher.head)
        return sum(method(*views, Batch(batch.images, targets, index)).values())

    torch.compiler.reset()  # each method is another graph of the same function
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    loss = compiled(student.logits, student.feats, teacher.logits, teacher.feats, batch.index, batch.targets)
    assert loss.isfinite()


@pytest.mark.parametrize("loss", [relations.sp_loss, relations.pkt_loss, maps.nst_loss, maps.mse_loss])
def test_losses_keep_float32_under_autocast(loss):
    # cosines of near neighbours differ in digits that bfloat16 does not have
    torch.manual_seed(0)
    shape = (4, 8) if loss is relations.pkt_loss else (4, 8, 3, 3)
    s, t = torch.rand(shape).bfloat16(), torch.rand(shape).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(s, t)
    assert half.dtype == torch.float32
    assert torch.equal(half, loss(s.float(), t.float()))


def test_taps_are_paired_from_the_deepest_and_fitted_to_the_smaller_sides():
    assert pair("xabc", "ABC") == [("a", "A"), ("b", "B"), ("c", "C")]
    with pytest.raises(ValueError, match="the student has 0 and the teacher 1"):
        pair([], ["A"])
    s, t = match_size(torch.rand(2, 3, 9, 4), torch.rand(2, 5, 6, 7))
    assert s.shape == (2, 3, 6, 4)
    assert t.shape == (2, 5, 6, 4)
    assert flat(torch.rand(2, 5, 1, 1)).shape == flat(torch.rand(2, 5)).shape == (2, 5)


def test_what_a_method_cannot_use_is_said_in_a_sentence():
    tokens = View(torch.zeros(2, 3), [torch.zeros(2, 7, 8)] * 3)
    silent = View(None, [torch.zeros(2, 7)])
    for method in (maps.AT, maps.OFD, maps.VID, maps.FitNet, maps.NST, heads.SimKD, frequency.FreeKD):
        with pytest.raises(ValueError, match=r"needs maps .* shape \(2, 7, 8\)"):
            method(Probe(tokens, tokens, None))
    with pytest.raises(ValueError, match=r"embedding must be .* not \(2, 7, 8\)"):
        relations.RKD(Probe(tokens, tokens, None))
    with pytest.raises(ValueError, match="stage 3 does not exist: the pairs of taps are 0 to 2"):
        maps.FitNet(scene_probe(), stage=3)
    with pytest.raises(ValueError, match="class of every training image"):
        contrast.CRD(Probe(silent, silent, None))
    with pytest.raises(ValueError, match="at least two classes"):
        contrast.CRD(Probe(silent, silent, torch.zeros(4)))
    with pytest.raises(ValueError, match="a network returns none"):
        logits.KD(Probe(silent, silent, None))(silent, silent, None)


def scene_probe():
    _, student, teacher, _ = scene(maps.AT)
    return Probe(student, teacher, None)
