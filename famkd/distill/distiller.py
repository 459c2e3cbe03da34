"""The distiller: the module in which student, teacher and methods meet."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, StoredTeacher, Task, View
from famkd.errors import UserError
from famkd.features.answer import Answer, Wanted, find_answer
from famkd.features.taps import Tapped, default_head, default_taps

Shape = tuple[int, ...]
Losses = dict[str, dict[str, Tensor]]  # "task" and each method's name -> loss name -> scalar


class Distiller(nn.Module):
    """A student, its teacher and the methods between them; called with a batch, it returns every loss.

    Student and methods are its parameters. The teacher is not registered: it is never trained, saved or put in
    training mode.
    """

    def __init__(
        self,
        task: Task,
        student: nn.Module,
        teacher: nn.Module | StoredTeacher | None,
        methods: Mapping[str, type[Method]],
        *,
        probe: Batch,
        labels: Tensor | None = None,
        options: Mapping[str, dict[str, Any]] | None = None,
        student_taps: tuple[str, ...] = (),
        teacher_taps: tuple[str, ...] = (),
        classes: int | None = None,
        student_output: str = "",
        teacher_output: str = "",
    ):
        """Builds each method from both views of one probe batch.

        Args:
            teacher: the network, or a stored one, whose outputs come with each batch.
            methods: class by name; `options` holds its keyword arguments by the same name.
            probe: a real batch on the models' device; labels: class of every training image.
            student_taps, teacher_taps: module paths instead of those that the models name or a probe forward finds.
            classes: number of logits that both networks must return; by default any number.
            student_output, teacher_output: where the logits are in what a network returns, such as `logits`, `1` or
                `out.logits`. Found automatically where only one part can be the logits.
        """
        super().__init__()
        if methods and teacher is None:
            raise ValueError(f"the methods {', '.join(methods)} need a teacher")
        self.task = task
        wanted = [Wanted(classes, student_output, "student"), Wanted(classes, teacher_output, "teacher")]
        network = teacher if isinstance(teacher, nn.Module) else None
        own_answer, other_answer = _find_answers(task, student, network, probe, wanted)
        _check_widths(own_answer, other_answer, methods, labels)
        self._picks: dict[str, tuple[list[int], list[int]]] = {}
        self._stored = teacher if isinstance(teacher, StoredTeacher) else None
        student_union: list[str] = []
        self._teacher_taps: list[str] = list(self._stored.taps) if self._stored else []
        for name, method in methods.items():
            own = _wanted(student, method.wants, student_taps, probe, own_answer)
            teacher_wants = method.teacher_wants or method.wants
            others = _wanted(teacher, teacher_wants, teacher_taps, probe, other_answer)
            self._picks[name] = (_indices(student_union, own), _indices(self._teacher_taps, others))
        self.student = _tapped(student, student_union, probe, own_answer, with_head=bool(methods))
        tapped = _tapped(network, self._teacher_taps, probe, other_answer) if network else None
        tapped_teacher = freeze(tapped) if tapped else None
        self._unregistered: tuple[Tapped | None, nn.Module] = (tapped_teacher, self.student.returning_logits())
        self.deploys_student = True  # whether no method makes another network of the student
        self._build_methods(methods, options or {}, probe, labels)

    def _build_methods(
        self,
        methods: Mapping[str, type[Method]],
        options: Mapping[str, dict[str, Any]],
        probe: Batch,
        labels: Tensor | None,
    ) -> None:
        self.methods = nn.ModuleDict()
        self.tap_shapes: dict[str, tuple[list[Shape], list[Shape]]] = {}  # of one image, at each method's taps
        if not methods:
            return
        student, teacher = self._probe(probe)
        for name, method in methods.items():
            own_views = self._view(name, student, teacher)
            own, others = ([tuple(feat.shape[1:]) for feat in view.feats] for view in own_views)
            self.tap_shapes[name] = (own, others)
            built = self.methods[name] = method(Probe(*own_views, labels), **options.get(name, {}))
            if method.deploy_as is Method.deploy_as:
                continue
            deployed = built.deploy_as(Tapped(self.student.model, self.taps(name)[0]))
            if deployed is not None:
                self._unregistered = (self.teacher, deployed)
                self.deploys_student = False

    @property
    def teacher(self) -> Tapped | None:
        """The teacher's network; None without a method, and where the teacher's outputs are stored."""
        return self._unregistered[0]

    @property
    def deployed(self) -> nn.Module:
        """The network to measure and export: the student, or what a method makes of it (SimKD adds a head)."""
        return self._unregistered[1]

    def taps(self, name: str) -> tuple[list[str], list[str]]:
        """Module paths whose features a method compares, of the student and of the teacher."""
        own, others = self._picks[name]
        return [self.student.taps[i] for i in own], [self._teacher_taps[i] for i in others]

    def forward(self, batch: Batch) -> tuple[Losses, dict[str, Tensor]]:
        """Every loss, and the sum of every output by name: a sum is not finite where any value of the output is not."""
        losses, student, teacher = self.losses(batch)
        outputs = _sums("teacher", self._teacher_taps, teacher) if teacher else {}
        return losses, outputs | _sums("student", self.student.taps, student)

    def losses(self, batch: Batch) -> tuple[Losses, View, View | None]:
        """Every loss, the student's view, and the teacher's, which is None without a method."""
        own_losses, student = self.task.study(self.student, batch)
        losses: Losses = {"task": own_losses}
        teacher = None
        if self.methods:
            with torch.no_grad():
                teacher = self._teach(batch)
            for name, method in self.methods.items():
                losses[name] = method(*self._view(name, student, teacher), batch)
        return losses, student, teacher

    def _teach(self, batch: Batch) -> View:
        """The teacher's view: computed, or stored and brought by the batch."""
        if self._stored is not None:
            logits, *feats = batch.teacher
            return View(logits, feats, self._stored.head)
        assert self.teacher is not None
        return self.task.teach(self.teacher, batch)

    @torch.no_grad()
    def _probe(self, batch: Batch) -> tuple[View, View]:
        """Both views of one batch, leaving the student's mode and running statistics as they were."""
        training = self.student.training
        try:
            student = self.task.teach(self.student.eval(), batch)
            teacher = self._teach(batch)
        finally:
            self.student.train(training)
        for name, total in _sums("teacher", self._teacher_taps, teacher).items():
            if not total.isfinite():
                raise UserError(
                    f"Not finite for real images: {name}. These weights are damaged: pass other --teacher.weights."
                )
        return student, teacher

    def _view(self, name: str, student: View, teacher: View) -> tuple[View, View]:
        """The views with the features that a method wants."""
        own, others = self._picks[name]
        return (
            student._replace(feats=[student.feats[i] for i in own]),
            teacher._replace(feats=[teacher.feats[i] for i in others]),
        )


def total_loss(losses: Losses, weights: Mapping[str, Tensor | float]) -> Tensor:
    """The loss that is minimised: the weighted sum over groups, where a group's loss is the sum of its terms."""
    total = sum(weights[group] * sum(terms.values()) for group, terms in losses.items())
    assert isinstance(total, Tensor)  # a student has a loss of its own
    return total


def _sums(who: str, taps: Sequence[str], view: View) -> dict[str, Tensor]:
    """The sum of each output of a network: the cheapest number that is not finite where any value is not."""
    outputs = {f"the {who}'s output at {tap}": feature for tap, feature in zip(taps, view.feats)}
    if view.logits is not None:
        outputs[f"the {who}'s logits"] = view.logits
    return {name: value.detach().sum(dtype=torch.float32) for name, value in outputs.items()}


Network = TypeVar("Network", bound=nn.Module)


def freeze(module: Network) -> Network:
    """Put a network in eval mode and turn its gradients off."""
    module.eval().requires_grad_(False)
    return module


def _wanted(
    model: nn.Module | StoredTeacher | None, wants: str, named: tuple[str, ...], probe: Batch, answer: Answer | None
) -> list[str]:
    """A method's taps. Taps that the user named replace the stages; the embedding stays."""
    if model is None or isinstance(model, StoredTeacher):
        kinds = model.kinds if model else {}
        return [tap for kind in wants.split("+") for tap in kinds.get(kind, ())]
    if not named or wants in ("logits", "embed"):
        return default_taps(model, wants, probe.images, answer)
    embed = default_taps(model, "embed", probe.images, answer) if wants.endswith("+embed") else []
    return [*named, *embed]


def _tapped(model: nn.Module, taps: list[str], probe: Batch, answer: Answer | None, with_head: bool = True) -> Tapped:
    head = default_head(model, probe.images, answer) if with_head else ""
    return Tapped(model, taps, head, answer)


def _find_answers(
    task: Task, student: nn.Module, teacher: nn.Module | None, probe: Batch, wanted: Sequence[Wanted]
) -> tuple[Answer | None, Answer | None]:
    """How to read the logits of both networks; None for a network without logits, or none at all."""
    if not task.returns_logits:
        return None, None
    own = find_answer(student, probe.images, wanted[0], trains=True)
    return own, find_answer(teacher, probe.images, wanted[1]) if teacher is not None else None


def _check_widths(
    student: Answer | None, teacher: Answer | None, methods: Mapping[str, type[Method]], labels: Tensor | None
) -> None:
    """UserError for fewer logits than labels, and for unlike numbers of logits where a method compares them."""
    highest = int(labels.max()) if labels is not None and len(labels) else 0
    for who, answer in (("student", student), ("teacher", teacher)):
        if answer is not None and highest >= answer.classes:
            raise UserError(
                f"The {who} returns {answer.classes} logits for each image, but there is a label {highest}: build it "
                f"for {highest + 1} classes or more."
            )
    compared = [name for name, method in methods.items() if method.wants == "logits"]
    if compared and student and teacher and student.classes != teacher.classes:
        raise UserError(
            f"{compared[0]} compares logits, but the student returns {student.classes} and the teacher "
            f"{teacher.classes} for each image: build both for the same classes."
        )


def _indices(union: list[str], taps: list[str]) -> list[int]:
    """Positions of taps in a list, after adding those that it lacks."""
    union.extend(tap for tap in taps if tap not in union)
    return [union.index(tap) for tap in taps]
