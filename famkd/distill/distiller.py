"""The one place where student and teacher meet."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, Task, View
from famkd.errors import UserError
from famkd.features.taps import Tapped, default_head, default_taps

Losses = dict[str, dict[str, Tensor]]  # "task" and each method's name -> loss name -> scalar


class Distiller(nn.Module):
    """A student and what teaches it; called with a batch, it answers every loss and whether all is sound.

    Student and methods are its parameters. The teacher is held aside: never trained, saved or put in train mode.
    """

    def __init__(
        self,
        task: Task,
        student: nn.Module,
        teacher: nn.Module | None,
        methods: Mapping[str, type[Method]],
        *,
        probe: Batch,
        labels: Tensor | None = None,
        options: Mapping[str, dict] | None = None,
        student_taps: tuple[str, ...] = (),
        teacher_taps: tuple[str, ...] = (),
    ):
        """Builds each method from both views of one probe batch.

        Args:
            methods: class by name; `options` its keyword arguments by the same name.
            probe: a real batch on the models' device; labels: class of every training image.
            student_taps, teacher_taps: module paths in place of those that the models name or a probe forward finds.
        """
        super().__init__()
        self.task = task
        self._picks: dict[str, tuple[list[int], list[int]]] = {}
        student_wants, teacher_wants = [], []
        for name, method in methods.items():
            own = _wanted(student, method.wants, student_taps, probe)
            others = _wanted(teacher, method.teacher_wants or method.wants, teacher_taps, probe)
            self._picks[name] = (_indices(student_wants, own), _indices(teacher_wants, others))
        needs_head = bool(methods)
        self.student = Tapped(student, student_wants, default_head(student, probe.images) if needs_head else "")
        self._aside = (teacher and freeze(Tapped(teacher, teacher_wants, default_head(teacher, probe.images))), student)
        self.methods = nn.ModuleDict()
        if methods:
            views = self._probe(probe)
            for name, method in methods.items():
                student_view, teacher_view = self._view(name, *views)
                self.methods[name] = method(Probe(student_view, teacher_view, labels), **(options or {}).get(name, {}))
                worn = Tapped(student, self.taps(name)[0])
                dressed = self.methods[name].deploy_as(worn)
                if dressed is None:
                    worn.remove()  # else its hooks would stay on the student and keep every batch's features
                self._aside = (self.teacher, dressed or self.deployed)

    @property
    def teacher(self) -> Tapped | None:
        return self._aside[0]

    @property
    def deployed(self) -> nn.Module:
        """What is measured and exported: the student, or what a method makes of it (SimKD adds the teacher's head)."""
        return self._aside[1]

    def taps(self, name: str) -> tuple[list[str], list[str]]:
        """Module paths that a method looks at, of the student and of the teacher."""
        own, others = self._picks[name]
        return [self.student.taps[i] for i in own], [self.teacher.taps[i] for i in others]

    def forward(self, batch: Batch) -> tuple[Losses, dict[str, Tensor]]:
        """Every loss, and by its name the sum of all that each network showed: not finite where any of it is not."""
        own_losses, student = self.task.study(self.student, batch)
        losses: Losses = {"task": own_losses}
        sums: dict[str, Tensor] = {}
        if self.methods:
            with torch.no_grad():
                teacher = self.task.teach(self.teacher, batch)
            sums = _sums("teacher", self.teacher, teacher)
            for name, method in self.methods.items():
                losses[name] = method(*self._view(name, student, teacher), batch)
        return losses, sums | _sums("student", self.student, student)

    @torch.no_grad()
    def _probe(self, batch: Batch) -> tuple[View, View]:
        """Both views of one batch, leaving the student's mode and running statistics as they were."""
        training = self.student.training
        try:
            student, teacher = self.task.teach(self.student.eval(), batch), self.task.teach(self.teacher, batch)
        finally:
            self.student.train(training)
        for name, total in _sums("teacher", self.teacher, teacher).items():
            if not total.isfinite():
                raise UserError(f"Not finite for real images: {name}. Pass other --teacher.weights, these are damaged.")
        return student, teacher

    def _view(self, name: str, student: View, teacher: View) -> tuple[View, View]:
        own, others = self._picks[name]
        return (
            student._replace(feats=[student.feats[i] for i in own]),
            teacher._replace(feats=[teacher.feats[i] for i in others]),
        )


def _sums(who: str, net: Tapped, view: View) -> dict[str, Tensor]:
    """Sum of each output of a network: the cheapest figure that is not finite where any part of it is not."""
    shown = {f"the {who}'s output at {tap}": feature for tap, feature in zip(net.taps, view.feats)}
    shown |= {f"the {who}'s logits": view.logits} if view.logits is not None else {}
    return {name: value.detach().sum(dtype=torch.float32) for name, value in shown.items()}


def freeze(module: nn.Module) -> nn.Module:
    """A network that only teaches: eval mode, no gradients."""
    return module.eval().requires_grad_(False)


def _wanted(model: nn.Module, wants: str, named: tuple[str, ...], probe: Batch) -> list[str]:
    """A method's taps: those the user named replace the default stages, embeddings stay."""
    if not named or wants in ("logits", "embed"):
        return default_taps(model, wants, probe.images)
    return [*named, *(default_taps(model, "embed", probe.images) if wants.endswith("+embed") else [])]


def _indices(union: list[str], taps: list[str]) -> list[int]:
    """Positions of taps in a list that grows by those it lacks."""
    union.extend(tap for tap in taps if tap not in union)
    return [union.index(tap) for tap in taps]
