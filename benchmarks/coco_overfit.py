"""Train detectors with and without frequency attention until they overfit a sample of COCO, and print a table.

python benchmarks/coco_overfit.py --root DIR                            16 images, half an hour on two busy cores
python benchmarks/coco_overfit.py --root DIR --images 128 --passes 20   an hour of one core
python benchmarks/coco_overfit.py --root DIR --images 128 --side 320 \\
    --student fasterrcnn_resnet18 --teacher fasterrcnn_resnet50         on a GPU

DIR is the folder of COCO. By default the first 16 images are taken and trained on for 800 steps of 4 images; 128 images
take eight times the steps.
Training and test images are the same, so average precision shows what was memorised and nothing about new images.
`small` and `smaller` are residual networks of 18 and 10 layers under a pyramid of 64 channels. Those of torchvision
have 256 channels, which two cores cannot train in that time. All networks start from random weights; the teacher is
trained first.
"""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, ResNet

from famkd.command_line.main import exiting
from famkd.command_line.parse import parse
from famkd.config.load import load_recipe
from famkd.files import read_json, write_csv
from famkd.models.detection import DETECTORS
from famkd.models.faster_rcnn import adapt_detector
from famkd.tables import write_table
from famkd.training.loop import train

# Workers of the data loader would be children of the pool's processes, which may have none.
RECIPE = """task: detection
student: {{model: {student}}}
data: {{name: coco, root: {root}, batch_size: {batch}, sides: [{side}], longest: {longest}, augment: false, workers: 0}}
optim: {{epochs: {epochs}, lr: {lr}, schedule: cosine, weight_decay: 1e-4, warmup_steps: 100}}
"""
FIGURES = ("AP", "AP50", "AR100")
PRINTED = ("method", *FIGURES, "images", "passes", "weight", "cpu_s_per_step", "images_per_s", "peak_mib")
COLUMNS: tuple[str, ...] = (
    *PRINTED,
    "student",
    "teacher",
    "side",
    "batch",
    "seed",
    "device",
    "threads",
    "torch",
    "minutes",
)


@dataclass(frozen=True)
class Options:
    """What is trained, and how."""

    root: Path
    """Folder of COCO."""
    methods: tuple[str, ...] = ("none", "fam")
    student: str = "smaller"
    teacher: str = "small"
    weight: float = 0.1
    """Weight of every method's loss; not tuned."""
    images: int = 16
    side: int = 96
    """Shorter side of the images, in pixels."""
    batch: int = 4
    lr: float = 0.005
    looks: int = 4
    """Evaluations of average precision."""
    passes: int = 50
    """Passes over the images before each evaluation."""
    seed: int = 0
    threads: int = 1
    jobs: int = 2
    """Students trained at once."""
    csv: Path | None = None


def small(layers: tuple[int, ...], classes: int, pretrained: bool = False) -> nn.Module:
    """Faster R-CNN on a residual network under a pyramid of 64 channels, with few proposals, for small images."""
    backbone = _resnet_fpn_extractor(ResNet(BasicBlock, list(layers)), 5)
    backbone.fpn = type(backbone.fpn)([64, 128, 256, 512], 64, backbone.fpn.extra_blocks)
    backbone.out_channels = 64
    sizes = tuple((side,) for side in (8, 16, 32, 64, 128))
    detector = FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5),
        box_head=TwoMLPHead(64 * 49, 256),
        box_predictor=FastRCNNPredictor(256, classes + 1),
        rpn_batch_size_per_image=64,
        box_batch_size_per_image=64,
        rpn_pre_nms_top_n_train=200,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_train=200,
        rpn_post_nms_top_n_test=200,
    )
    return adapt_detector(detector)


def prepare(root: Path, to: Path, passes: int, images: int) -> int:
    """Make a data set of the first training images, and return their number.

    An epoch lists each of them `passes` times. They are the test images too.
    """
    content = read_json(root / "annotations" / "instances_train2017.json")
    content["images"] = content["images"][:images]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [note for note in content["annotations"] if note["image_id"] in kept]
    (to / "annotations").mkdir(parents=True)
    for part in ("train2017", "val2017"):
        (to / part).symlink_to((root / "train2017").resolve())
    (to / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    offset = 1 + max(kept)  # between the ids of an image in two passes
    repeated: dict[str, list] = {"images": [], "annotations": []}
    for number in range(passes):
        shift = number * offset
        repeated["images"] += [image | {"id": image["id"] + shift} for image in content["images"]]
        repeated["annotations"] += [note | {"image_id": note["image_id"] + shift} for note in content["annotations"]]
    (to / "annotations" / "instances_train2017.json").write_text(json.dumps(content | repeated))
    return len(content["images"])


def train_one(method: str, options: Options, folder: Path, images: int) -> dict[str, Any]:
    """Train one student, or the teacher; returns a row of the table.

    Each runs in a process of its own, so that the peak memory is its own.
    """
    torch.set_num_threads(options.threads)
    DETECTORS["small"], DETECTORS["smaller"] = partial(small, (2, 2, 2, 2)), partial(small, (1, 1, 1, 1))
    is_teacher = method == "teacher"
    is_taught = not is_teacher and method != "none"
    model = options.teacher if is_teacher else options.student
    recipe = folder / f"{method}.yaml"
    recipe.write_text(_recipe(model, method if is_taught else "", options, folder))
    started, cpu_started = time.perf_counter(), time.process_time()
    run = train(load_recipe(recipe, "--seed", str(options.seed)), out=folder / method)
    cpu_seconds = time.process_time() - cpu_started
    last, timing = run.metrics()[-1], run.timing()
    peaks = [row["peak_mib"] for row in timing if row["peak_mib"]]
    passes = options.looks * options.passes
    return {
        "method": method,
        **{name: last[name] for name in FIGURES},
        "images": images,
        "passes": passes,
        "weight": options.weight if is_taught else 0,
        "cpu_s_per_step": cpu_seconds / (passes * images // options.batch),
        "images_per_s": max(row["images_per_s"] for row in timing),
        "peak_mib": max(peaks) if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "student": model,
        "teacher": options.teacher if is_taught else "",
        "side": options.side,
        "batch": options.batch,
        "seed": options.seed,
        "device": run.machine["device"],
        "threads": options.threads,
        "torch": torch.__version__,
        "minutes": (time.perf_counter() - started) / 60,
    }


def _recipe(model: str, method: str, options: Options, folder: Path) -> str:
    """A recipe for `model`; without a teacher if `method` is ""."""
    text = RECIPE.format(
        student=model,
        root=folder / "data",
        batch=options.batch,
        side=options.side,
        longest=round(options.side * 5 / 3),
        epochs=options.looks,
        lr=options.lr,
    )
    if method:
        text += f"method: {method}\n{method}: {{weight: {options.weight}, warmup: 0}}\n"
        text += f"teacher: {{model: {options.teacher}, weights: {folder / 'teacher'}}}\n"
    return text


def coco_overfit(options: Options) -> None:
    """Train the teacher, then the students, and print the table."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = prepare(options.root, folder / "data", options.passes, options.images)
        with context.Pool(1) as pool:
            rows = [pool.apply(train_one, ("teacher", options, folder, images))]
        with context.Pool(options.jobs, maxtasksperchild=1) as pool:
            results = [pool.apply_async(train_one, (method, options, folder, images)) for method in options.methods]
            rows += [result.get() for result in results]
    cells = [[f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in PRINTED] for row in rows]
    print(write_table("table", PRINTED, cells), end="")
    if options.csv:
        write_csv(options.csv, [{name: row[name] for name in COLUMNS} for row in rows])


if __name__ == "__main__":
    with exiting("coco_overfit.py"):
        coco_overfit(parse(Options, sys.argv[1:], prog="python benchmarks/coco_overfit.py"))
