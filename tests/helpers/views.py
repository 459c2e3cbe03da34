"""Small views of student and teacher for the tests of methods, and numbers for their formulas."""

import math

import torch
from torch import nn

from famkd.distill.types import Batch, Probe, View
from famkd.methods import contrast

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
LABELS = torch.arange(40) % 2


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


def close(ours, naive):
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(naive).to(ours.dtype), rtol=1e-5, atol=1e-7)


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def unit(values):
    values = torch.as_tensor(values).tolist()
    norm = math.sqrt(sum(v**2 for v in values))
    return [v / norm for v in values]
