"""Small run directories and checkpoints for the tests of famviz, written without training."""

from pathlib import Path

import torch
from torch import nn

from famkd.config.load import load_recipe
from famkd.distill.types import Probe, View
from famkd.layers.fourier import FilterOptions, FourierFilter
from famkd.methods.review import FAMReview
from famkd.run.directory import Run
from famkd.run.summaries import notes_of

SHAPES = ((4, 9), (6, 8))  # channels and pixels of each stage, an odd and an even map
TAPS = ["layer1", "layer2", "avgpool"]


def make_run(
    path: Path, *flags: str, seed: int = 0, epochs: int = 3, shapes=SHAPES, student=None, filter_levels=(), **options
) -> Run:
    """A run of FAM-review with filters that change from epoch to epoch; `options` are those of its filters."""
    torch.manual_seed(seed)
    feats = [torch.rand(2, channels, side, side) for channels, side in shapes] + [torch.rand(2, shapes[-1][0])]
    options = {"init": "balanced", **options}  # from zero there would be nothing to see without training
    probe = Probe(View(None, feats), View(None, feats), None)
    methods = nn.ModuleDict(
        {"fam_review": FAMReview(probe, filter_levels=filter_levels, filter=FilterOptions(**options))}
    )
    run = Run(path)
    run.begin(load_recipe("quickstart", "--epochs", str(max(1, epochs)), *flags), "cpu")
    for _ in range(epochs):
        add_epoch(run, methods, student or nn.Linear(2, 2))
    return run


def add_epoch(run: Run, methods: nn.ModuleDict, student: nn.Module) -> None:
    """One more epoch in a run directory: every filter a little larger."""
    for module in methods.modules():
        if isinstance(module, FourierFilter):
            module.weight.data.mul_(1.5)
    metrics, timing = run.metrics(), run.timing()
    epoch = len(metrics) + 1
    figures = {"task.ce": 2 / epoch, "fam_review.review": 3 / epoch, "top1": 50.0 + epoch, "top5": 90.0, "lr": 0.1}
    metrics.append({"epoch": epoch, **figures})
    timing.append({"epoch": epoch, "seconds": 1.0, "images_per_s": 10.0, "peak_mib": None})
    notes = {"taps": {"fam_review": {"student": TAPS, "teacher": TAPS}}, "modules": notes_of(methods)}
    run.write_epoch(metrics, timing, student, methods, notes, best=True)


def released_state(sides=(32, 8, 1), c_in: int = 3, c_out: int = 5, prefix: str = "") -> dict[str, torch.Tensor]:
    """A state dict as the released code writes it: `atfs` from deep to shallow, raw planes (in, out, S, S)."""
    torch.manual_seed(0)
    state = {f"{prefix}student.conv1.weight": torch.rand(2, 2)}
    for n, side in enumerate(reversed(sides)):
        base = f"{prefix}atfs.{n}.conv2.0."
        state[base + "weights1"] = torch.rand(c_in, c_out, side, side, dtype=torch.cfloat) / (c_in * c_out)
        state[base + "rate1"], state[base + "rate2"] = torch.tensor([0.25]), torch.tensor([0.75])
        state[base + "w0.weight"], state[base + "w0.bias"] = torch.rand(c_out, c_in, 1, 1), torch.rand(c_out)
    return state


def make_large_run(path: Path, channels: int, size=(7, 7)) -> Run:
    """A run with one level, a dense filter of channels x channels, whose strongest filters lie far apart."""
    run = make_run(path, epochs=1, shapes=((2, size[0]),))
    module = FourierFilter(1, 1, size, init="zero", highpass="none")
    module.c_in = module.c_out = channels
    torch.manual_seed(0)
    scale = torch.linspace(0.1, 1, channels)[:, None, None]
    weight = torch.randn(*module.weight.shape[:2], channels, 2, channels) * scale
    module.weight = nn.Parameter(weight, requires_grad=False)
    level = nn.Module()
    level.add_module("leave", nn.ModuleList([nn.Module()]))
    level.get_submodule("leave.0").add_module("filter", module)
    methods = nn.ModuleDict({"fam_review": nn.ModuleDict({"levels": nn.ModuleList([level])})})
    notes = {"taps": {"fam_review": {"student": TAPS, "teacher": TAPS}}, "modules": notes_of(methods)}
    run.write_epoch(run.metrics(), run.timing(), nn.Linear(2, 2), methods, notes, best=True)
    return run
