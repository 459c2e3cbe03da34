"""Methods of logits against their formulas, written out in loops."""

import math

import pytest
import torch
from helpers.views import close, numbers

from famkd.distill.types import Batch, Probe, View
from famkd.methods import METHODS, logits


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
