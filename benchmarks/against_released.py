"""Time our training step against that of the released FAM-KD code, in turn, in one process.

    git clone https://github.com/cuong-pv/FAM-KD SOMEWHERE   (outside this project; nothing of it is copied here)
    python benchmarks/against_released.py SOMEWHERE [--pair resnet56-resnet20] [--steps 10] [--processor]

Both take batches of 64 random images on the same device and start from random weights. The released step is what its
trainer does with a batch that is ready: forward pass of both networks, the losses, backward pass, SGD, and reading
top-k accuracy and loss back for its meters. Its data loader is left out; ours is inside our step.
"""

import argparse
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import torch
import yaml

from famkd.bench.step import as_text, noise_images, prepared_step, save_csv
from famkd.bench.timer import Call, Timer
from famkd.config.load import load_recipe
from famkd.data.in_memory import InMemory
from famkd.run.environment import environment_info
from famkd.training.build import build_fabric

CONFIGS = {"resnet56-resnet20": "res56_res20", "resnet32x4-resnet8x4": "res324_res84"}
DEFAULTS = {"CE_WEIGHT": 1.0, "FAMKD_WEIGHT": 1.0, "WARMUP_EPOCHS": 20}
WARM_UP = 3  # steps before the timed ones


def released_step(root: Path, pair: str, device: torch.device, batch_size: int) -> Call:
    """One step of the released code, as a function without arguments."""
    sys.path.insert(0, str(root))
    from distillers.FAM_KD import FAM_KD  # of the released repository
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


def processor_time(call: Call) -> float:
    """Milliseconds of all threads of this process, without the time in which other programs ran."""
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("released", type=Path, help="folder of the released code")
    parser.add_argument("--pair", choices=CONFIGS, default="resnet56-resnet20")
    parser.add_argument("--steps", type=int, default=10, help="timed steps; medians are printed")
    parser.add_argument("--engine", default="auto", help="of our step")
    parser.add_argument("--precision", default="auto", help="of our step; the released step is timed as it is")
    parser.add_argument("--processor", action="store_true", help="time the processor, for a CPU that others use too")
    parser.add_argument("--save", type=Path, help="folder of tables; append a row to the one of this machine")
    args = parser.parse_args()
    recipe = load_recipe(f"cifar100/{args.pair}", "--engine", args.engine, "--precision", args.precision)
    fabric = build_fabric(recipe)
    data = InMemory(noise_images(), recipe.data.batch_size, fabric.device)
    step, _ = prepared_step(recipe, data, fabric)
    piece = next(data.epoch(1))
    theirs = released_step(args.released, args.pair, fabric.device, data.batch_size)

    def ours() -> None:
        step(piece)

    for _ in range(WARM_UP):
        ours()
        theirs()
    once = processor_time if args.processor else Timer(fabric.device).once
    rounds = [(once(ours), once(theirs)) for _ in range(args.steps)]
    middle = args.steps // 2
    own_ms, released_ms = (sorted(times)[middle] for times in zip(*rounds))
    ratios = sorted(released / own for own, released in rounds)
    machine = environment_info(str(fabric.device))
    figures = {
        "pair": args.pair,
        "device": machine["device"],
        "torch": machine["torch"],
        "engine": step.engine,
        "precision": args.precision,
        "n": args.steps,
        "ms_per_step": own_ms,
        "released_ms_per_step": released_ms,
        "ratio": ratios[middle],
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
    }
    print(as_text(figures))
    if args.save:
        print(f"saved in {save_csv(figures, args.save / 'against_released')}")


if __name__ == "__main__":
    main()
