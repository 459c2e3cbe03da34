"""Several labels, numbers and no labels at all: losses and figures by a naive formula, and what is refused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.features.taps import Tapped
from famkd.methods import METHODS
from famkd.methods.logits import kd_loss
from famkd.tasks import TASKS
from famkd.tasks.multilabel import two_classes


class Answers(nn.Module):
    """A network that returns its images as logits."""

    def forward(self, x):
        return x.flatten(1)


def batch_of(logits, targets) -> Batch:
    logits = torch.as_tensor(logits, dtype=torch.float32)
    return Batch(logits[:, :, None, None], torch.as_tensor(targets), torch.arange(len(logits)))


def test_kd_of_two_classes_is_the_divergence_of_the_sigmoids():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 3), torch.randn(5, 3)
    p, q = torch.sigmoid(student / 2), torch.sigmoid(teacher / 2)
    naive = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    found = kd_loss(two_classes(student), two_classes(teacher), 2.0)
    torch.testing.assert_close(found, 4 * naive.mean())


def test_the_loss_of_several_labels_is_a_binary_cross_entropy():
    batch = batch_of([[2.0, -1.0], [0.5, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
    losses, view = TASKS["multilabel"].study(Tapped(Answers()), batch)
    p = torch.sigmoid(batch.images.flatten(1))
    naive = -(batch.targets * p.log() + (1 - batch.targets) * (1 - p).log()).mean()
    torch.testing.assert_close(losses["bce"], naive)
    assert view.logits.shape == (4, 2)


def test_average_precision_is_the_mean_precision_at_each_image_with_the_label():
    scores = np.array([[3.0, 0.1, 1.0], [2.0, 0.3, 2.0], [1.0, -0.2, 3.0], [-1.0, 0.4, 4.0]])
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    batches = [batch_of(scores[:3], truth[:3]), batch_of(scores[3:], truth[3:])]
    figures, by_label = TASKS["multilabel"].evaluate(Answers(), batches)
    expected = [100 * (1 / 1 + 2 / 3) / 2, 100 / 2, -1.0]
    assert by_label == pytest.approx(expected)
    assert figures["mAP"] == pytest.approx(np.mean(expected[:2]))
    right, named = 3, 10  # logits above 0 that are labels, and all of them
    assert figures["F1"] == pytest.approx(200 * right / (named + truth.sum()))


@pytest.mark.parametrize("loss", ["smooth_l1", "mse"])
def test_regression_measures_errors_and_explained_variance(loss):
    torch.manual_seed(1)
    found, truth = torch.randn(7, 2), torch.randn(7, 2)
    task = TASKS["regression"].with_loss(loss)
    losses, _ = task.study(Tapped(Answers()), batch_of(found, truth))
    naive = F.mse_loss(found, truth) if loss == "mse" else F.smooth_l1_loss(found, truth)
    torch.testing.assert_close(losses, {loss: naive})
    figures, _ = task.evaluate(Answers(), [batch_of(found[:4], truth[:4]), batch_of(found[4:], truth[4:])])
    explained = 100 * (1 - (found - truth).square().sum(0) / (truth - truth.mean(0)).square().sum(0))
    assert figures["R2"] == pytest.approx(float(explained.mean()), rel=1e-5)
    assert figures["MAE"] == pytest.approx(float((found - truth).abs().mean()), rel=1e-5)


def test_without_labels_figures_are_agreement_with_the_classes_of_the_teacher():
    task = TASKS["unlabelled"]
    batch = batch_of([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]], [0, 0])
    assert task.evaluate(Answers(), [batch]).figures == {"agree1": 50.0, "agree5": 50.0}
    assert task.study(Tapped(Answers()), batch)[0] == {}


# which methods each task refuses
REFUSED = {
    "unlabelled": {"dkd", "nkd", "crd"},
    "multilabel": {"dkd", "nkd", "dist", "figkd", "crd"},
    "regression": {"kd", "dkd", "nkd", "dist", "wttm", "figkd", "crd"},
}


@pytest.mark.parametrize("task", REFUSED)
def test_methods_without_a_form_for_the_task_are_refused(task):
    refused = {name for name, method in METHODS.items() if TASKS[task].refuses(method)}
    assert refused == REFUSED[task]


SETTINGS = {
    "dkd": (("--task", "multilabel", "--method", "dkd"), "dkd compares the classes of an image, of which multilabel"),
    "numbers": (("--task", "regression", "--method", "kd"), "kd compares classes, and regression has none"),
    "classes": (("--task", "unlabelled", "--method", "crd"), "crd needs the class of each image: without labels"),
    "task weight": (("--task", "unlabelled", "--kd.task_weight", "1"), "pass --kd.task_weight 0"),
    "baseline": (("--task", "unlabelled", "--baseline"), "nothing is learned without a teacher: leave --baseline out"),
    "no method": (("--task", "unlabelled", "--method", "none"), "pass --method and --teacher.model"),
    "data": (("--task", "multilabel", "--data", "digits"), "digits is for classification or unlabelled, not"),
    "smoothing": (("--task", "multilabel", "--label_smoothing", "0.1"), "is for classification, not for multilabel"),
    "loss": (("--regression_loss", "mse"), "--regression_loss is for regression, not for classification"),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_contradict_a_task_are_refused(case):
    flags, words = SETTINGS[case]
    usual = ("--data", "npz", "--student.model", "resnet8", "--teacher.model", "resnet8", "--teacher.weights", "t.pt")
    with pytest.raises(UserError, match=words):
        validated(load_recipe("", *usual, "--method", "kd", *flags))
