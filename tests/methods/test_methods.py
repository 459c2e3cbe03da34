"""Every method in every awkward case, and every baseline against its formula written out in loops."""

import math
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from famkd.distill.types import Batch, Probe, View
from famkd.methods import METHODS, contrast, frequency, heads, logits, maps, relations
from famkd.methods.common import flat, match_size, pair

EVEN = [(8, 8, 8), (12, 4, 4), (16, 2, 2)]  # channels, height, width, shallow to deep
WIDE = [(16, 8, 8), (20, 4, 4), (24, 2, 2)]
ODD = [(6, 9, 7), (10, 5, 3)]  # fewer taps than the teacher, odd and not square: smaller here, larger there
LONG = [(8, 12, 14), (12, 8, 10), (14, 4, 6)]
PIXEL = [(6, 2, 2), (8, 1, 1)]
CASES = {  # student, teacher, batch, classes, scale of the logits
    "equal nets": (EVEN, EVEN, 6, 5, 1),
    "unlike channels": (EVEN, WIDE, 6, 5, 1),
    "wider student": (WIDE, EVEN, 6, 5, 1),
    "odd student": (ODD, LONG, 6, 5, 1),
    "larger student": (LONG, ODD, 6, 5, 1),
    "one pixel": (PIXEL, PIXEL, 6, 5, 1),
    "two classes": (EVEN, WIDE, 6, 2, 1),
    "one sample": (EVEN, WIDE, 1, 5, 1),
    "bfloat16": (EVEN, WIDE, 6, 5, 1),
    "extreme logits": (EVEN, WIDE, 6, 5, 1e4),
}
# a batch norm over the pooled feature needs two values, and one sample has no relations to learn from
IMPOSSIBLE = {(name, "one sample") for name in ("fam_review", "reviewkd", "sp", "cc", "rkd", "pkt")}
POSSIBLE = [(name, case) for name in METHODS for case in CASES if (name, case) not in IMPOSSIBLE]
LABELS = torch.arange(40) % 2


@pytest.fixture(autouse=True)
def one_thread():
    """These tensors are tiny: a second thread only waits, three times as long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def show(shapes, batch, classes, scale, wants, leaf, dtype=torch.float32):
    """A View whose head really is what makes its logits, with leaves that can take a gradient."""
    feats = [torch.rand(batch, *shape) + 0.1 * torch.randn(batch, *shape) for shape in shapes]
    head = nn.Linear(shapes[-1][0], classes)
    with torch.no_grad():
        values = head(feats[-1].mean((2, 3)))
        stretch = scale / values.abs().max() if scale != 1 else 1
        head.weight *= stretch
        head.bias *= stretch
        values = head(feats[-1].mean((2, 3)))
        if wants.startswith("preact"):
            feats = [torch.randn_like(feat) for feat in feats]
        if wants == "embed":
            feats = [feats[-1].mean((2, 3))]
        if wants.endswith("+embed"):
            feats = [*feats, feats[-1].mean((2, 3))]
    values, *feats = (x.to(dtype).requires_grad_(leaf) for x in (values, *feats))
    return View(values, feats if wants != "logits" else [], head)


def scene(method, case="equal nets"):
    """The method built for a case, with student, teacher and batch for it."""
    torch.manual_seed(0)
    student, teacher, size, classes, scale = CASES[case]
    dtype = torch.bfloat16 if case == "bfloat16" else torch.float32
    views = [
        show(student, size, classes, scale, method.wants, True, dtype),
        show(teacher, size, classes, scale, method.teacher_wants or method.wants, False, dtype),
    ]
    options = {"negatives": 16} if method is contrast.CRD else {}
    with torch.no_grad():
        probe = Probe(*(View(v.logits.detach(), [f.detach().float() for f in v.feats], v.head) for v in views), LABELS)
    batch = Batch(torch.zeros(size, 3, 4, 4), torch.arange(size) % classes, torch.randperm(40)[:size])
    return method(probe, **options), *views, batch


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


def close(ours, naive):
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(naive).to(ours.dtype), rtol=1e-5, atol=1e-7)


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture
def pairs_of_logits():
    torch.manual_seed(1)
    return 3 * numbers(4, 6), 3 * numbers(4, 6), torch.tensor([0, 5, 2, 2])


def kl(q, p):
    return sum(a * math.log(a / b) for a, b in zip(q.tolist(), p.tolist()))


def test_kd_is_the_mean_divergence(pairs_of_logits):
    s, t, _ = pairs_of_logits
    naive = sum(kl(torch.softmax(b / 4, 0), torch.softmax(a / 4, 0)) for a, b in zip(s, t)) / 4 * 16
    close(logits.kd_loss(s, t, 4.0), naive)


def test_dkd_parts_are_as_published_and_add_up_to_kd(pairs_of_logits):
    s, t, y = pairs_of_logits
    tckd = nckd = 0
    for a, b, c in zip(s, t, y):
        p, q = torch.softmax(a / 4, 0), torch.softmax(b / 4, 0)
        rest = [i for i in range(6) if i != c]
        tckd += kl(torch.stack([q[c], 1 - q[c]]), torch.stack([p[c], 1 - p[c]])) / 4 * 16
        nckd += kl(q[rest] / (1 - q[c]), p[rest] / (1 - p[c])) / 4 * 16
    close(logits.dkd_loss(s, t, y, 1.0, 0.0, 4.0), tckd)
    close(logits.dkd_loss(s, t, y, 1.0, 8.0, 4.0), tckd + 8 * nckd)


def test_dkd_of_two_classes_is_kd():
    torch.manual_seed(0)
    s, t, y = numbers(5, 2), numbers(5, 2), torch.tensor([0, 1, 1, 0, 1])
    close(logits.dkd_loss(s, t, y, 1.0, 8.0, 4.0), logits.kd_loss(s, t, 4.0))


def correlation(a, b):
    a, b = (a - a.mean()).tolist(), (b - b.mean()).tolist()
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_dist_is_one_minus_correlations(pairs_of_logits):
    s, t, _ = pairs_of_logits
    p, q = torch.softmax(s / 4, 1), torch.softmax(t / 4, 1)
    inter = 1 - sum(correlation(p[i], q[i]) for i in range(4)) / 4
    intra = 1 - sum(correlation(p[:, j], q[:, j]) for j in range(6)) / 6
    close(logits.dist_loss(s, t, 2.0, 3.0, 4.0), 16 * (2 * inter + 3 * intra))


def test_nkd_and_wttm(pairs_of_logits):
    s, t, y = pairs_of_logits
    nkd = wttm = 0
    for a, b, c in zip(s, t, y):
        p, q = torch.softmax(a, 0), torch.softmax(b, 0)
        rest = [i for i in range(6) if i != c]
        pr, qr = torch.softmax(a[rest] / 2, 0), torch.softmax(b[rest] / 2, 0)
        nkd -= (q[c] * p[c].log() + 1.5 * 4 * (qr * pr.log()).sum()) / 4
        u = (q**0.2).sum()
        wttm += u * kl(q**0.2 / u, p) / 4
    close(logits.nkd_loss(s, t, y, 1.5, 2.0), nkd)
    close(logits.wttm_loss(s, t, 0.2), wttm)


@pytest.mark.parametrize("name", ["kd", "dkd", "dist", "nkd", "wttm", "figkd"])
def test_standardised_logits_forget_shift_and_scale(name, pairs_of_logits):
    s, t, y = pairs_of_logits
    z = (s[1] - s[1].mean()) / (1e-7 + math.sqrt(((s[1] - s[1].mean()) ** 2).sum() / 5))
    close(logits.standardized(s)[1], z)
    method = METHODS[name](Probe(View(s, []), View(t, []), None), standardize=True)
    (loss,) = method(View(s, []), View(t, []), Batch(s, y, y)).values()
    (moved,) = method(View(7 * s + 3, []), View(t, []), Batch(s, y, y)).values()
    close(moved, loss)


@pytest.fixture
def pairs_of_maps():
    torch.manual_seed(2)
    return numbers(3, 4, 5, 3), numbers(3, 6, 5, 3)


def unit(values):
    values = torch.as_tensor(values).tolist()
    norm = math.sqrt(sum(v**2 for v in values))
    return [v / norm for v in values]


def test_at_and_nst(pairs_of_maps):
    s, t = pairs_of_maps
    at = nst = 0
    for a, b in zip(s, t):
        maps_of = [unit([(x[:, i, j] ** 2).mean() for i in range(5) for j in range(3)]) for x in (a, b)]
        at += sum((p - q) ** 2 for p, q in zip(*maps_of)) / (3 * 15)
        channels = [[unit(c.flatten()) for c in x] for x in (a, b)]

        def kernel(xs, ys):
            return sum(sum(p * q for p, q in zip(x, y)) ** 2 for x in xs for y in ys) / (len(xs) * len(ys))

        nst += (kernel(channels[1], channels[1]) + kernel(channels[0], channels[0]) - 2 * kernel(*channels)) / 3
    close(maps.at_loss(s, t, 2.0), at)
    close(maps.nst_loss(s, t), nst)


def test_vid_is_a_gaussian_likelihood(pairs_of_maps):
    _, t = pairs_of_maps
    mean, scale = numbers(*t.shape), numbers(6)
    naive = 0
    for c in range(6):
        variance = math.log(1 + math.exp(scale[c])) + 1e-5
        naive += (0.5 * ((mean[:, c] - t[:, c]) ** 2 / variance + math.log(variance))).sum() / t.numel()
    close(maps.vid_loss(mean, t, scale, 1e-5), naive)


def test_vid_trains_its_variances_from_the_published_start():
    method, student, teacher, batch = scene(maps.VID)
    names = dict(method.named_parameters())
    assert {"log_scales.0", "log_scales.1", "log_scales.2"} <= names.keys()
    close(F.softplus(method.log_scales[0]) + 1e-5, torch.full((8,), 5.0))
    method(student, teacher, batch)["vid"].backward()
    assert all(scale.grad.abs().sum() > 0 for scale in method.log_scales)


def test_ofd_is_the_partial_distance(pairs_of_maps):
    _, t = pairs_of_maps
    s, margin = numbers(*t.shape), -numbers(6).abs()
    naive = 0
    for place in torch.cartesian_prod(*map(torch.arange, t.shape)).tolist():
        a, b, m = s[tuple(place)].item(), t[tuple(place)].item(), margin[place[1]].item()
        if a > m and b <= m:
            naive += (a - m) ** 2
        elif (a > b and m < b <= 0) or b > 0:
            naive += (a - b) ** 2
    close(maps.ofd_loss(s, t, margin[:, None, None]), naive / 3)


def test_ofd_margin_is_the_mean_negative_response():
    torch.manual_seed(0)
    x = (
        torch.randn(64, 3, 40, 40) * torch.tensor([1.0, 2.0, 0.1])[:, None, None]
        + torch.tensor([0.3, -1.0, 2.0])[:, None, None]
    )
    margin = maps.margins(x).flatten()
    for c in range(2):
        assert margin[c] == pytest.approx(x[:, c][x[:, c] < 0].mean().item(), rel=0.02)
    assert margin[2] == pytest.approx(-0.3, rel=0.02)  # never negative: minus three deviations
    assert maps.margins(torch.zeros(1, 2, 1, 1)).isfinite().all()


def test_ofd_and_fitnet_weigh_and_choose_their_stages():
    method, student, teacher, batch = scene(maps.OFD, "odd student")
    naive = sum(
        maps.ofd_loss(method.connectors[i](s), t, getattr(method, f"margin{i}")) / 2 ** (1 - i)
        for i, (s, t) in enumerate(zip(student.feats, teacher.feats[1:]))
    )
    close(method(student, teacher, batch)["ofd"], naive)
    method, student, teacher, batch = scene(maps.FitNet)
    close(method(student, teacher, batch)["fitnet"], F.mse_loss(method.regressor(student.feats[1]), teacher.feats[1]))


def test_sp_cc_pkt(pairs_of_maps):
    s, t = pairs_of_maps
    rows = [[unit([(a * b).sum() for b in x]) for a in x] for x in (s, t)]
    close(relations.sp_loss(s, t), sum((rows[0][i][j] - rows[1][i][j]) ** 2 for i in range(3) for j in range(3)) / 9)
    a, b = numbers(4, 5), numbers(4, 5)
    d = (a - b).abs()
    close(relations.cc_loss(a, b), sum(float(d[i] @ d[i + 1]) for i in range(3)) / 3)
    c, probabilities = numbers(4, 7), []
    for x in (a, c):
        units = [unit(row) for row in x]
        similar = [[(sum(p * q for p, q in zip(u, v)) + 1) / 2 for v in units] for u in units]
        probabilities.append([[v / sum(row) for v in row] for row in similar])
    p, q = probabilities
    naive = sum(q[i][j] * math.log((q[i][j] + 1e-7) / (p[i][j] + 1e-7)) for i in range(4) for j in range(4)) / 16
    close(relations.pkt_loss(a, c), naive)


def test_rkd_compares_distances_and_angles():
    torch.manual_seed(3)
    s, t = numbers(4, 5), numbers(4, 7)

    def huber(x, y):
        return 0.5 * (x - y) ** 2 if abs(x - y) < 1 else abs(x - y) - 0.5

    far, angle = [], []
    for x in (s, t):
        apart = [[float((a - b).norm()) for b in x] for a in x]
        mean = sum(map(sum, apart)) / 12
        far.append([d / mean for row in apart for d in row])
        lines = [[(b - a) / (b - a).norm() if i != j else 0 * a for j, b in enumerate(x)] for i, a in enumerate(x)]
        angle.append([float(lines[i][j] @ lines[i][k]) for i in range(4) for j in range(4) for k in range(4)])
    naive = 25 * sum(map(huber, *far)) / 16 + 50 * sum(map(huber, *angle)) / 64
    close(relations.rkd_loss(s, t, 25.0, 50.0), naive)


def test_crd_is_the_published_estimator_and_updates_its_memory():
    method, student, teacher, batch = scene(contrast.CRD)
    old = {key: value.clone() for key, value in method.state_dict().items()}
    torch.manual_seed(5)
    chosen = method.draw(batch.index)
    torch.manual_seed(5)
    loss = method(student, teacher, batch)["crd"]
    anchors = {
        side: F.normalize(getattr(method, side)(view.feats[-1])) for side, view in zip(SIDES, (student, teacher))
    }
    naive, n, m = 0, 40, 16
    for side, other in (SIDES, SIDES[::-1]):
        odds = [(old[f"memory_{other}"][r] @ a / 0.07).exp() for r, a in zip(chosen, anchors[side])]
        z = torch.stack(odds).mean() * n
        close(method.state_dict()[f"constant_{side}"], z.detach())
        for x in odds:
            x = x / z.detach()
            naive -= (x[0] / (x[0] + m / n)).log() / 6 + (m / n / (x[1:] + m / n)).log().sum() / 6
        blended = 0.5 * old[f"memory_{side}"][batch.index] + 0.5 * anchors[side].detach()
        fresh = getattr(method, f"memory_{side}")
        close(fresh[batch.index], blended / blended.norm(dim=1, keepdim=True))
        untouched = torch.ones(n, dtype=torch.bool).index_fill(0, batch.index, False)
        assert torch.equal(fresh[untouched], old[f"memory_{side}"][untouched])
    close(loss.detach(), naive.detach())
    constant = method.constant_student.clone()
    method(student, teacher, batch)
    assert torch.equal(method.constant_student, constant)  # measured once


SIDES = ("student", "teacher")


def test_crd_draws_all_other_classes_alike():
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 1, 4])  # class 3 is empty
    embed = View(None, [torch.zeros(2, 3)])
    method = contrast.CRD(Probe(embed, embed, labels), dim=4, negatives=20000)
    relaxed = contrast.CRD(Probe(embed, embed, labels), dim=4, negatives=3, mode="relax")
    positives = torch.cat([relaxed.draw(torch.arange(8))[:, :1] for _ in range(200)], 1)
    drawn = method.draw(torch.arange(8))
    assert torch.equal(drawn[:, 0], torch.arange(8))
    for i in range(8):
        assert set(positives[i].tolist()) == set((labels == labels[i]).nonzero().flatten().tolist())
        counts = torch.bincount(drawn[i, 1:], minlength=8).float()
        others = labels != labels[i]
        assert counts[~others].sum() == 0
        assert counts[others] / 20000 == pytest.approx(1 / others.sum().item(), abs=0.02)


def test_catkd_compares_unit_class_maps():
    method, student, teacher, batch = scene(heads.CATKD, "unlike channels")
    naive, size = 0, 2
    for b in range(6):
        for c in range(5):
            flat_maps = []
            for view in (student, teacher):
                cam = sum(w * f for w, f in zip(view.head.weight[c], view.feats[-1][b]))
                flat_maps.append(unit(F.adaptive_avg_pool2d(cam[None], size).flatten()))
            naive += sum((p - q) ** 2 for p, q in zip(*flat_maps)) / (6 * 5 * 4)
    loss = method(student, teacher, batch)["catkd"]
    close(loss.detach(), naive)
    loss.backward()
    assert student.head.weight.grad.abs().sum() > 0
    assert teacher.head.weight.grad is None


class Shown(nn.Module):
    """A student with a tap on its only map, answering as Tapped does."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Conv2d(3, channels, 3, padding=1)

    def forward(self, images):
        return None, [self.body(images)]


def test_simkd_dresses_the_student_in_projector_and_teachers_head():
    method, student, teacher, batch = scene(heads.SimKD, "larger student")
    s, t = student.feats[-1], teacher.feats[-1]
    projected = method.projector(s)
    assert projected.shape == (6, 10, 4, 3)  # each side pooled to the smaller: 4x6 against 5x3
    close(
        method(student, teacher, batch)["simkd"].detach(),
        F.mse_loss(projected, F.adaptive_avg_pool2d(t, (4, 3))).detach(),
    )
    deployed = method.deploy_as(Shown(14)).eval()
    images = torch.rand(2, 3, 4, 6)
    expected = teacher.head(method.projector(deployed.student.body(images)).mean((2, 3)))
    close(deployed(images), expected)
    assert not method.head.weight.requires_grad
    assert method.head.weight is not teacher.head.weight
    assert "projector.layers.0.weight" in dict(method.named_parameters())


@pytest.mark.parametrize("method", [heads.SimKD, heads.CATKD])
def test_heads_that_do_not_fit_are_refused(method):
    _, student, teacher, _ = scene(method)
    deep = nn.Sequential(nn.Linear(16, 5), nn.ReLU())
    with pytest.raises(ValueError, match=r"teacher whose classifier is one nn\.Linear or one 1x1 convolution, not Seq"):
        method(Probe(student, teacher._replace(head=deep), None))
    with pytest.raises(ValueError, match="tap the map that enters the pooling"):
        method(Probe(student, teacher._replace(feats=[teacher.feats[-1].neg()]), None))
    with pytest.raises(ValueError, match="reads 16 channels but its last tap has 12"):
        method(Probe(student, teacher._replace(feats=teacher.feats[:2]), None))


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


def test_haar_keeps_energy_and_finds_only_details():
    torch.manual_seed(0)
    x = numbers(2, 3, 6, 4)
    low, details = frequency.haar2d(x)
    close(low.square().sum() + details.square().sum(), x.square().sum())
    close(low[1, 2, 2, 1], x[1, 2, 4:6, 2:4].sum() / 2)
    (a, b), (c, d) = x[1, 2, 4:6, 2:4]
    close(details[1, 2, :, 2, 1], torch.stack([a + b - c - d, a - b + c - d, a - b - c + d]) / 2)
    assert frequency.haar2d(torch.ones(1, 1, 5, 3))[1].abs().sum() == 0  # an odd edge makes no detail
    low, high = frequency.haar1d(numbers(2, 7))
    assert low.shape == high.shape == (2, 4)
    assert high[:, 3].abs().sum() == 0


def test_freekd_and_figkd_are_sums_over_bands():
    torch.manual_seed(0)
    s, t, naive = numbers(2, 3, 6, 5), numbers(2, 3, 6, 5), 0
    a, b = s, t
    for _ in range(2):
        (a, p), (b, q) = frequency.haar2d(a), frequency.haar2d(b)
        for i in range(2):
            energy = q[i].abs().sum((0, 1))
            naive += ((p[i] - q[i]).abs() * energy / energy.mean()).sum() / p.numel()
    close(frequency.detail_loss(s, t, 2, True), naive)
    s, t = numbers(3, 6), numbers(3, 6)
    gap = (s - t).reshape(3, 3, 2)
    high, low = (gap[..., 0] - gap[..., 1]) / math.sqrt(2), (gap[..., 0] + gap[..., 1]) / math.sqrt(2)
    close(frequency.figkd_loss(s, t, 1, "high"), (high**2).mean())
    close(frequency.figkd_loss(s, t, 1, "low"), (low**2).mean())
    close(frequency.figkd_loss(s, t, 1, "both"), 2 * ((s - t) ** 2).mean())


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
