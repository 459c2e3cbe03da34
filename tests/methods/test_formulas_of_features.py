"""Methods of features against their formulas, written out in loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.views import close, numbers, scene, unit
from torch import nn

from famkd.distill.types import Probe, View
from famkd.methods import contrast, frequency, heads, maps, relations


@pytest.fixture
def pairs_of_maps():
    torch.manual_seed(2)
    return numbers(3, 4, 5, 3), numbers(3, 6, 5, 3)


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
