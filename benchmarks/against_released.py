"""Time our training step against that of the released FAM-KD code, in turn, in one process.

    git clone https://github.com/cuong-pv/FAM-KD SOMEWHERE   (outside this project; nothing of it is copied here)
    python benchmarks/against_released.py SOMEWHERE [--pair resnet56-resnet20] [--steps 10] [--processor]

Both take batches of 64 random images on the same device and start from random weights. The released step is what its
trainer does with a batch that is ready: forward pass of both networks, the losses, backward pass, SGD, and reading
top-k accuracy and loss back for its meters. Its data loader is left out; ours is inside our step.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import torch
import yaml
from tyro.conf import Positional

from famkd.bench.step import as_text, noise_images, prepared_step, save_csv
from famkd.bench.timer import Call, Timer, processor_seconds
from famkd.command_line.main import run_script
from famkd.config.load import load_recipe
from famkd.data.in_memory import InMemory
from famkd.errors import UserError
from famkd.run.environment import environment_info
from famkd.training.build import build_fabric

CONFIGS = {"resnet56-resnet20": "res56_res20", "resnet32x4-resnet8x4": "res324_res84"}
DEFAULTS = {"CE_WEIGHT": 1.0, "FAMKD_WEIGHT": 1.0, "WARMUP_EPOCHS": 20}
WARM_UP = 3  # steps before the timed ones


def released_step(root: Path, pair: str, device: torch.device, batch_size: int) -> Call:
    """One step of the released code, as a function without arguments."""
    if not (root / "distillers" / "FAM_KD.py").is_file():
        raise UserError(f"{root} is no clone of the released code: it holds no distillers/FAM_KD.py.")
    sys.path.insert(0, str(root))
    from distillers.FAM_KD import FAM_KD
    from models.cifar import cifar_model_dict

    tree = yaml.safe_load((root / "configs/cifar100/FAM_KD" / f"{CONFIGS[pair]}.yaml").read_text())
    fam_kd = SimpleNamespace(**{**DEFAULTS, **tree["FAM_KD"]})
    kd = SimpleNamespace(TEMPERATURE=4, LOSS=SimpleNamespace(KD_WEIGHT=0.9))
    teacher, student = (cifar_model_dict[name][0](num_classes=100) for name in pair.split("-"))
    distiller = FAM_KD(student, teacher, SimpleNamespace(FAM_KD=fam_kd, KD=kd)).to(device).train()
    optimizer = torch.optim.SGD(distiller.get_learnable_parameters(), 0.05, momentum=0.9, weight_decay=5e-4)
    x = torch.randn(batch_size, 3, 32, 32, device=device)
    y = torch.arange(batch_size, device=device) % 100

    def step() -> None:
        optimizer.zero_grad()
        logits, losses = distiller(image=x, target=y, epoch=1)
        loss = torch.stack([each.mean() for each in losses.values()]).sum()
        loss.backward()
        optimizer.step()
        loss.item()
        logits.topk(5).indices.eq(y[:, None]).float().sum().item()

    return step


def against_released(
    released: Positional[Path], pair: Literal["resnet56-resnet20", "resnet32x4-resnet8x4"] = "resnet56-resnet20",
    steps: int = 10, engine: str = "auto", precision: str = "auto", processor: bool = False, save: Path | None = None,
) -> None:  # fmt: skip
    """Time both steps in turn, and print the medians and their ratio.

    Args:
        released: folder of the released code.
        steps: timed steps.
        engine: of our step.
        precision: of our step; the released step is timed as it is.
        processor: time the processor, for a CPU that others use too.
        save: folder of tables; append a row to the one of this machine.
    """
    recipe = load_recipe(f"cifar100/{pair}", "--engine", engine, "--precision", precision)
    fabric = build_fabric(recipe)
    theirs = released_step(released, pair, fabric.device, recipe.data.batch_size)
    data = InMemory(noise_images(), recipe.data.batch_size, fabric.device)
    step, _ = prepared_step(recipe, data, fabric)
    piece = next(data.epoch(1))

    def ours() -> None:
        step(piece)

    for _ in range(WARM_UP):
        ours()
        theirs()
    timer = Timer(fabric.device)
    rounds = [
        tuple(1000 * processor_seconds(call) if processor else timer.once(call) for call in (ours, theirs))
        for _ in range(steps)
    ]
    middle = steps // 2
    own_ms, released_ms = (sorted(times)[middle] for times in zip(*rounds))
    ratios = sorted(released / own for own, released in rounds)
    machine = environment_info(str(fabric.device))
    figures = {
        "pair": pair,
        "device": machine["device"],
        "torch": machine["torch"],
        "engine": step.engine,
        "precision": precision,
        "n": steps,
        "ms_per_step": own_ms,
        "released_ms_per_step": released_ms,
        "ratio": ratios[middle],
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
    }
    print(as_text(figures))
    if save:
        print(f"saved in {save_csv(figures, save / 'against_released')}")


if __name__ == "__main__":
    run_script(against_released)
