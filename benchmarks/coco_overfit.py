"""Does a detector learn, with frequency attention and without? It overfits a sample of COCO; a table is printed.

python benchmarks/coco_overfit.py --root ../shared/data/coco            16 images, half an hour on two busy cores
python benchmarks/coco_overfit.py --root DIR --images 128 --passes 20   an hour of one core
python benchmarks/coco_overfit.py --root DIR --images 128 --side 320 \\
    --student fasterrcnn_resnet18 --teacher fasterrcnn_resnet50         on a GPU

By itself it takes the first 16 images, 800 steps of 4; 128 of them take eight times the steps.
Training and test images are the same, so average precision says what was memorised and nothing of new images.
`small` and `smaller` are residual networks of 18 and 10 layers under a pyramid of 64 channels, in place of 256 in
torchvision's, which two cores cannot train in that time. All start from random weights; the teacher is trained first.
"""

import argparse
import csv
import json
import multiprocessing
import resource
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import BasicBlock, ResNet

from famkd.config.load import load_recipe
from famkd.models.detection import DETECTORS
from famkd.models.faster_rcnn import adapt_detector
from famkd.training.loop import train

RECIPE = """task: detection
student: {{model: {student}}}
data: {{name: coco, root: {root}, batch_size: {batch}, sides: [{side}], longest: {longest}, augment: false, workers: 1}}
optim: {{epochs: {epochs}, lr: {lr}, schedule: cosine, weight_decay: 1e-4, warmup_steps: 100}}
"""
COLUMNS = ("method", "AP", "AP50", "AR100", "images", "passes", "weight", "cpu_s_per_step", "images_per_s", "peak_mib",
           "student", "teacher", "side", "batch", "seed", "device", "threads", "torch", "minutes")  # fmt: skip


def small(layers: tuple[int, ...], classes: int, pretrained: bool = False) -> nn.Module:
    """Faster R-CNN on a residual network under a pyramid of 64 channels, with few proposals."""
    backbone = _resnet_fpn_extractor(ResNet(BasicBlock, list(layers)), 5)
    backbone.fpn = type(backbone.fpn)([64, 128, 256, 512], 64, backbone.fpn.extra_blocks)
    backbone.out_channels = 64
    few = {f"rpn_{when}_nms_top_n_{mode}": 200 for when in ("pre", "post") for mode in ("train", "test")}
    anchors = AnchorGenerator(tuple((side,) for side in (8, 16, 32, 64, 128)), ((0.5, 1.0, 2.0),) * 5)  # small images
    return adapt_detector(FasterRCNN(
        backbone, rpn_anchor_generator=anchors, box_head=TwoMLPHead(64 * 49, 256),
        box_predictor=FastRCNNPredictor(256, classes + 1), rpn_batch_size_per_image=64, box_batch_size_per_image=64,
        **few,
    ))  # fmt: skip


def prepare(root: Path, to: Path, passes: int, images: int) -> int:
    """The first training images as test images too, each listed `passes` times in an epoch; how many there are."""
    content = json.loads((root / "annotations" / "instances_train2017.json").read_text())
    content["images"] = content["images"][:images]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [note for note in content["annotations"] if note["image_id"] in kept]
    (to / "annotations").mkdir(parents=True)
    for part in ("train2017", "val2017"):
        (to / part).symlink_to((root / "train2017").resolve())
    (to / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    far = 1 + max(image["id"] for image in content["images"])
    again = {
        "images": [image | {"id": image["id"] + n * far} for n in range(passes) for image in content["images"]],
        "annotations": [
            a | {"image_id": a["image_id"] + n * far} for n in range(passes) for a in content["annotations"]
        ],
    }
    (to / "annotations" / "instances_train2017.json").write_text(json.dumps(content | again))
    return len(content["images"])


def one(method: str, options: argparse.Namespace, folder: Path, images: int) -> dict:
    """Train one student, or the teacher, in a process of its own, so that its peak memory is its own."""
    torch.set_num_threads(options.threads)
    DETECTORS["small"], DETECTORS["smaller"] = partial(small, (2, 2, 2, 2)), partial(small, (1, 1, 1, 1))
    teaches = method == "teacher"
    net = options.teacher if teaches else options.student
    text = RECIPE.format(student=net, root=folder / "data", batch=options.batch, side=options.side,
                         longest=round(options.side * 5 / 3), epochs=options.looks, lr=options.lr)  # fmt: skip
    if not teaches and method != "none":
        text += f"method: {method}\n{method}: {{weight: {options.weight}, warmup: 0}}\n"
        text += f"teacher: {{model: {options.teacher}, weights: {folder / 'teacher'}}}\n"
    recipe = folder / f"{method}.yaml"
    recipe.write_text(text)
    start, used = time.perf_counter(), time.process_time()
    run = train(load_recipe(recipe, "--seed", str(options.seed)), out=folder / method)
    steps = options.looks * options.passes * images // options.batch
    rows, timing = run.metrics(), run.timing()
    peaks = [row["peak_mib"] for row in timing if row["peak_mib"]]
    return {
        "method": method, **{name: rows[-1][name] for name in ("AP", "AP50", "AR100")}, "images": images,
        "passes": options.looks * options.passes, "weight": 0 if teaches or method == "none" else options.weight,
        "cpu_s_per_step": (time.process_time() - used) / steps,
        "images_per_s": max(row["images_per_s"] for row in timing),
        "peak_mib": max(peaks) if peaks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "student": net, "teacher": "" if teaches or method == "none" else options.teacher, "side": options.side,
        "batch": options.batch, "seed": options.seed, "device": run.machine["device"], "threads": options.threads,
        "torch": torch.__version__, "minutes": (time.perf_counter() - start) / 60,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/coco"))
    parser.add_argument("--methods", nargs="*", default=["none", "fam"])
    parser.add_argument("--student", default="smaller")
    parser.add_argument("--teacher", default="small")
    parser.add_argument("--weight", type=float, default=0.1, help="of the method's loss, the same for all; not tuned")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--side", type=int, default=96, help="pixels of the shorter side")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--looks", type=int, default=4, help="times that average precision is measured")
    parser.add_argument("--passes", type=int, default=50, help="passes over the images between two looks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="students trained at once")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = prepare(options.root, folder / "data", options.passes, options.images)
        with context.Pool(1) as pool:
            rows = [pool.apply(one, ("teacher", options, folder, images))]
        with context.Pool(options.jobs, maxtasksperchild=1) as pool:
            asked = [pool.apply_async(one, (method, options, folder, images)) for method in options.methods]
            rows += [answer.get() for answer in asked]
    for row in [dict(zip(COLUMNS, COLUMNS)), *rows]:
        shown = [f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in COLUMNS[:10]]
        print("".join(f"{text:>16}" for text in shown))
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
