"""Training, readable from top to bottom."""

import time
from dataclasses import replace
from math import cos, isfinite, pi
from pathlib import Path

import torch
from lightning_fabric import Fabric, seed_everything
from torch import nn

from famkd.data import build_data
from famkd.data.resident import Resident
from famkd.distiller import Distiller
from famkd.engine import Step
from famkd.errors import UserError
from famkd.loggers import open_loggers
from famkd.methods import METHODS
from famkd.models import build_model, load_weights
from famkd.progress import Reporter, reporting
from famkd.recipe import Net, Optim, Recipe, differences, load_recipe, method_options, without_teacher
from famkd.run import FORMAT, Run, notes_of
from famkd.tasks import Classification


def train(recipe: Recipe, *, out: str | Path | None = None, resume: bool = False, runs: str | Path = "runs") -> Run:
    """Train a recipe's student, its teacher and its baseline first where they are asked for and missing.

    Args:
        out: the run directory; by itself runs/<recipe>/<method>-seed<seed>.
        resume: go on from the last finished epoch, as if nothing had happened.

    Errors: UserError for anything the user can mend; the run directory then holds its last good epoch.
    """
    recipe = ready(recipe, runs)
    if recipe.baseline and recipe.method_names:
        train(without_teacher(recipe), resume=True, runs=runs)
    run = Run(out or Path(runs) / recipe.name / f"{recipe.method}-seed{recipe.seed}")
    with run.locked():
        if not _must_train(run, recipe, resume):
            return run
        seed_everything(recipe.seed, verbose=False)
        fabric = Fabric(accelerator=recipe.accelerator, devices=1, precision=_precision(recipe))
        data = build_data(recipe.data.name, recipe.data.root, recipe.data.batch_size,
                          device=fabric.device, seed=recipe.seed, augment=recipe.data.augment)  # fmt: skip
        distiller = build_distiller(recipe, data, fabric)
        optimizer = build_optimizer(distiller, recipe.optim, fabric)
        wrapped, optimizer = fabric.setup(distiller, optimizer)
        step = Step(wrapped, optimizer, data.take, fabric.backward, ["task", *recipe.method_names], fabric.device,
                    recipe.engine)  # fmt: skip
        saved = run.read_resume() if resume else None
        metrics, timing = _restore(saved, distiller, optimizer) if saved else ([], [])
        run.begin(recipe, str(fabric.device))
        with open_loggers(recipe, run.path) as log, reporting(run.path.name, recipe.optim.epochs, data.steps) as report:
            report.resume(len(metrics))
            for epoch in range(len(metrics) + 1, recipe.optim.epochs + 1):
                row, clock = train_epoch(epoch, recipe, step, distiller, data, report)
                metrics.append(row)
                timing.append(clock)
                log(row | clock)
                _save(run, metrics, timing, distiller, optimizer)
    return run


def train_epoch(
    epoch: int, recipe: Recipe, step: Step, distiller: Distiller, data: Resident, report: Reporter
) -> tuple[dict, dict]:
    """One pass over the training set and one look at the test set: a metrics row and a timing row."""
    start = time.perf_counter()
    torch.manual_seed(recipe.seed * 1_000_003 + epoch)  # whatever draws inside the step follows from (seed, epoch) too
    lr = learning_rate(recipe.optim, epoch)
    step.set_epoch(lr, loss_weights(recipe, epoch))
    distiller.train()
    for piece in data.epoch(epoch):
        step(piece)
        report.step()
    losses = step.means()
    broken = [f"{name} = {value}" for name, value in losses.items() if not isfinite(value)]
    if broken:
        raise UserError(
            f"A loss is not finite in epoch {epoch}: {', '.join(broken)}. The run directory holds epoch {epoch - 1}; "
            "lower --lr or the method's weight and go on with --resume, or start over."
        )
    seconds = time.perf_counter() - start
    student = distiller.student.model.eval()
    row = {"epoch": epoch, **losses, **distiller.task.evaluate(student, data.test()), "lr": lr}
    peak = torch.cuda.max_memory_allocated() / 2**20 if data.device.type == "cuda" else None
    whole = time.perf_counter() - start
    clock = {"epoch": epoch, "seconds": whole, "images_per_s": data.steps * data.batch_size / seconds, "peak_mib": peak}
    report.epoch(row, whole)
    return row, clock


def learning_rate(optim: Optim, epoch: int) -> float:
    """Learning rate of an epoch counted from 1: dropped after each of `steps`, or cosine; linear warm-up first."""
    lr = optim.lr
    if epoch <= optim.lr_warmup:
        return lr * epoch / optim.lr_warmup
    if optim.schedule == "cosine":
        done = (epoch - 1 - optim.lr_warmup) / max(1, optim.epochs - optim.lr_warmup)
        return lr * (1 + cos(pi * done)) / 2
    return lr * optim.gamma ** sum(epoch > after for after in optim.steps)


def loss_weights(recipe: Recipe, epoch: int) -> dict[str, float]:
    """What each group of losses counts in an epoch: methods ramp up over their warm-up."""
    sections = {name: recipe.section(name) for name in recipe.method_names}
    weights = {name: s.weight * min(1.0, epoch / max(1, s.warmup)) for name, s in sections.items()}
    return {"task": max((s.task_weight for s in sections.values()), default=1.0), **weights}


def ready(recipe: Recipe, runs: str | Path = "runs") -> Recipe:
    """The recipe with its teacher's weights on disk: checked, and `recipe:NAME` trained where no run of it is done."""
    if not recipe.student.model:
        raise UserError("No student is named: pass --student.model, or a recipe that has one.")
    if recipe.method_names and not recipe.teacher.model:
        raise UserError(f"The method {recipe.method} needs a teacher: pass --teacher.model and --teacher.weights.")
    if not recipe.method_names:
        return replace(recipe, teacher=Net()) if recipe.teacher.model else recipe
    if not recipe.teacher.weights and not recipe.teacher.model.startswith(("timm:", "torchvision:")):
        raise UserError("The teacher has no weights: pass --teacher.weights with a file, a run, or recipe:NAME.")
    name = recipe.teacher.weights.removeprefix("recipe:")
    if name == recipe.teacher.weights:
        return recipe
    run = train(load_recipe(name, "--data.root", recipe.data.root), resume=True, runs=runs)
    return replace(recipe, teacher=replace(recipe.teacher, weights=str(run.path)))


def build_distiller(recipe: Recipe, data: Resident, fabric: Fabric) -> Distiller:
    """Student, teacher and methods on the device, the methods shaped by one real batch."""
    classes = len(data.classes)
    student = _network(recipe.student, classes).to(fabric.device, memory_format=torch.channels_last)
    teacher = None
    if recipe.method_names:
        teacher = _network(recipe.teacher, classes).to(fabric.device, memory_format=torch.channels_last)
    methods = {name: METHODS[name] for name in recipe.method_names}
    options = {
        name: {key: getattr(recipe.section(name), key) for key in method_options(method)}
        for name, method in methods.items()
    }
    try:
        return Distiller(Classification(), student, teacher, methods, probe=data.probe(), labels=data.labels,
                         options=options, student_taps=recipe.student.taps, teacher_taps=recipe.teacher.taps)  # fmt: skip
    except ValueError as error:
        raise UserError(f"{recipe.method} cannot teach this pair: {error}") from error


def build_optimizer(distiller: nn.Module, optim: Optim, fabric: Fabric) -> torch.optim.Optimizer:
    """SGD; on a GPU its learning rate is a tensor, so that a captured step can read a new one."""
    on_gpu = fabric.device.type == "cuda"
    lr = torch.tensor(optim.lr, device=fabric.device) if on_gpu else optim.lr
    return torch.optim.SGD(
        [p for p in distiller.parameters() if p.requires_grad],
        lr=lr, momentum=optim.momentum, nesterov=optim.nesterov, weight_decay=optim.weight_decay, fused=on_gpu or None,
    )  # fmt: skip


def _network(net: Net, classes: int) -> nn.Module:
    """A model with its weights: from a file, a run directory, or the model's own pretrained ones."""
    foreign = net.model.startswith(("timm:", "torchvision:"))
    model = build_model(net.model, classes, pretrained=foreign and net.weights == "pretrained")
    if net.weights and net.weights != "pretrained":
        path = Path(net.weights)
        load_weights(model, path / "student.safetensors" if path.is_dir() else path)
    return model


def _precision(recipe: Recipe) -> str:
    if recipe.precision != "auto":
        return recipe.precision
    on_gpu = recipe.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu else "32-true"


def _must_train(run: Run, recipe: Recipe, resume: bool) -> bool:
    """Whether anything is left to do in a run directory; UserError where it holds something else."""
    if not (run.path / "recipe.yaml").is_file():
        return True
    changed = differences(run.recipe, recipe)
    if changed:
        raise UserError(
            f"{run.path} holds a run of another recipe ({', '.join(changed[:3])} differ): pass another --out or --name."
        )
    if run.finished:
        return False
    if not resume and run.metrics():
        raise UserError(f"{run.path} holds an unfinished run: pass --resume to go on, or another --out.")
    return True


def _save(run: Run, metrics: list[dict], timing: list[dict], distiller: Distiller, optimizer) -> None:
    score = [row["top1"] for row in metrics]
    taps = {name: dict(zip(("student", "teacher"), distiller.taps(name))) for name in distiller.methods}
    notes = {"taps": taps, "modules": notes_of(distiller.methods)}
    best = score[-1] > max(score[:-1], default=-1)
    run.write_epoch(metrics, timing, distiller.student.model, distiller.methods, notes, best)
    run.write_resume({
        "format": FORMAT, "metrics": metrics, "timing": timing,
        "student": distiller.student.model.state_dict(), "methods": distiller.methods.state_dict(),
        "optimizer": optimizer.state_dict(),
    })  # fmt: skip


def _restore(saved: dict, distiller: Distiller, optimizer) -> tuple[list[dict], list[dict]]:
    distiller.student.model.load_state_dict(saved["student"])
    distiller.methods.load_state_dict(saved["methods"])
    optimizer.load_state_dict(saved["optimizer"])
    return saved["metrics"], saved["timing"]
