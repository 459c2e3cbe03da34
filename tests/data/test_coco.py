"""COCO's data against hand-made files, and its figures against detections with known scores."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny_coco import CROWDED, EMPTY, SIZES, make_coco

from famkd.data import build_data
from famkd.data.coco import Coco
from famkd.data.coco_annotations import read_instances
from famkd.data.coco_files import find_annotations
from famkd.errors import UserError
from famkd.tasks.coco_ap import FIGURES, coco_figures


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return make_coco(tmp_path_factory.mktemp("data") / "coco")


ANNOTATIONS = "annotations/instances_val2017.json"


def open_coco(root, batch_size=2, **options) -> Coco:
    return Coco(str(root), batch_size, **{"sides": (64, 96, 128), "longest": 160, "workers": 0} | options)


def same(one, two) -> bool:
    """Whether two pieces or batches hold the same images, targets and numbers."""
    targets = zip(one.targets, two.targets, strict=True)
    return (
        torch.equal(one.index, two.index)
        and all(map(torch.equal, one.images, two.images))
        and all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in targets)
    )


def centres(image: torch.Tensor) -> dict[int, tuple[float, float]]:
    """Middle x, y of the red and the blue pixels of an image in 0..1: the boxes must have the same."""
    red, _, blue = image
    found = {}
    for label, mask in ((1, (red > 0.7) & (blue < 0.3)), (2, (blue > 0.7) & (red < 0.3))):
        y, x = mask.nonzero(as_tuple=True)
        found[label] = (x.float().mean().item() + 0.5, y.float().mean().item() + 0.5)
    return found


# what is read -----------------------------------------------------------------------------------------------------


def test_classes_follow_the_categories_numbers_and_labels_start_at_1(root):
    data = open_coco(root)
    assert data.classes == ["red", "blue"]
    batch = next(data.test())
    assert batch.targets[0]["labels"].sort().values.tolist() == [1, 2]


def test_boxes_are_where_the_rectangles_are_whatever_the_scale_and_flip(root):
    data, flips, sizes = open_coco(root), set(), set()
    for epoch in range(1, 8):
        plan = data.plan(epoch)
        flips |= set(plan.flip.tolist())
        for piece in data.epoch(epoch):
            batch = data.take(piece)
            for image, target, index in zip(batch.images, batch.targets, batch.index.tolist()):
                h, w = image.shape[1:]
                sizes.add(min(h, w))
                assert max(h, w) <= 160
                boxes, labels = target["boxes"], target["labels"].tolist()
                if index == EMPTY:
                    assert (boxes.shape, labels) == ((0, 4), [])
                    continue
                assert sorted(labels) == [1, 2]  # the crowd and the box without width are left out
                assert (boxes[:, 2:] > boxes[:, :2]).all()
                assert boxes.min() >= 0
                assert (boxes[:, [0, 2]] <= w).all()
                seen = centres(image)
                for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels):
                    assert seen[label] == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2), abs=1.0)
    assert flips == {False, True}
    assert {64, 96, 128} <= sizes  # and shorter ones where the longer side is at its limit


def test_an_image_keeps_its_shape_within_a_pixel(root):
    data = open_coco(root, augment=False)
    for image, (h, w) in zip(next(iter(data.test(8))).images, SIZES):
        height, width = image.shape[1:]
        scale = min(128 / min(h, w), 160 / max(h, w))
        assert (height, width) == (round(h * scale), round(w * scale))


def test_draws_follow_from_seed_epoch_and_index(root):
    def seen(batch_size, seed=0, epoch=1, workers=0):
        data = open_coco(root, batch_size, seed=seed, workers=workers)
        plan = data.plan(epoch)
        return {i: (s, f) for i, s, f in zip(*(t.tolist() for t in plan))}, [
            p.index.tolist() for p in data.epoch(epoch)
        ]

    one, order = seen(1)
    assert (one, order) == seen(1)
    assert one == seen(1, workers=2)[0]
    assert order == seen(1, workers=2)[1]
    other = seen(2)[0]
    assert all(one[i] == drawn for i, drawn in other.items())  # whatever the batch
    assert one != seen(1, seed=1)[0]
    assert one != seen(1, epoch=2)[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_was_left_goes_on_with_the_same_pieces(root, workers):
    whole = list(open_coco(root, workers=workers).epoch(2))
    rest = list(open_coco(root, workers=workers).epoch(2, 1))
    assert len(rest) == len(whole) - 1 > 0
    assert all(same(one, two) for one, two in zip(rest, whole[1:]))


def test_worker_processes_read_the_same_images_and_boxes(root):
    alone, helped = open_coco(root), open_coco(root, workers=3)
    for epoch in (3, 4):  # the workers live on between epochs
        for one, two in zip(alone.epoch(epoch), helped.epoch(epoch), strict=True):
            assert same(one, two)
    for one, two in zip(alone.test(2), helped.test(2), strict=True):
        assert same(one, two)


def test_workers_share_the_cores_among_the_processes_of_this_machine(root, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(12), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr("famkd.distributed.world", lambda: 32)  # of all machines
    monkeypatch.setattr("famkd.distributed.on_rank_zero", lambda call: call())
    assert open_coco(root, workers=-1)._workers == 3
    assert open_coco(root, workers=5)._workers == 5


def test_an_epoch_shows_no_image_twice_and_wide_ones_together(root, tmp_path):
    data = open_coco(make_coco(tmp_path / "more", 23), 4)
    for epoch in (1, 2):
        pieces = [piece.index.tolist() for piece in data.epoch(epoch)]
        assert len(pieces) == data.steps == 5
        assert data.n_train == 23
        assert len({i for piece in pieces for i in piece}) == 20
        tall = [{data._train.source.sizes[i][0] > data._train.source.sizes[i][1] for i in piece} for piece in pieces]
        assert sum(len(kinds) > 1 for kinds in tall) <= 1


def test_the_probe_is_as_large_as_images_come(root):
    batch = open_coco(root, 3).probe()
    assert batch.index.tolist() == [0, 1, 2]
    assert [min(image.shape[1:]) for image in batch.images] == [128, 128, 128]
    assert all(image.min() >= 0 and image.max() <= 1 for image in batch.images)


def test_tests_keep_crowds_and_the_size_of_the_file(root):
    targets = [target for batch in open_coco(root).test(2) for target in batch.targets]
    assert [target["size"].tolist() for target in targets] == [list(size) for size in SIZES]
    assert targets[CROWDED]["iscrowd"].sum() == 1
    assert len(targets[EMPTY]["boxes"]) == 0
    assert targets[0]["area"].sort().values.tolist() == [600, 600]


# what is refused --------------------------------------------------------------------------------------------------


def broken(root: Path, tmp_path: Path, change) -> Path:
    """The same data with one json changed."""
    for part in ("train2017", "val2017"):
        (tmp_path / part).symlink_to(root / part)
    (tmp_path / "annotations").mkdir()
    for part in ("train2017", "val2017"):
        content = json.loads((root / "annotations" / f"instances_{part}.json").read_text())
        text = change(content) if part == "val2017" else None
        (tmp_path / "annotations" / f"instances_{part}.json").write_text(text or json.dumps(content))
    return tmp_path


BROKEN = {
    "no json": (lambda c: '{"images": [', "Cannot use .*instances_val2017.json"),
    "no object": (lambda c: "[1]", "not in COCO's form"),
    "no annotations": (lambda c: c.pop("annotations") and None, "a field 'annotations' is missing"),
    "no height": (lambda c: c["images"][1].pop("height") and None, "a field 'height' is missing"),
    "no images": (lambda c: c.update(images=[]), "lists no images"),
    "no categories": (lambda c: c.update(categories=[]), "lists no categories"),
    "unknown image": (lambda c: c["annotations"][0].update(image_id=9), "names image_id 9, which is not listed"),
    "unknown category": (lambda c: c["annotations"][0].update(category_id=1), "names category_id 1"),
    "short box": (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "bbox"),
    "box of no number": (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), "four finite numbers"),
    "box turned over": (lambda c: c["annotations"][0].update(bbox=[9, 9, -3, 4]), "not negative"),
    "other categories": (
        lambda c: c["categories"].append({"id": 99, "name": "green"}),
        "test images differ: green",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_json_ends_in_one_sentence(root, tmp_path, case):
    change, words = BROKEN[case]
    with pytest.raises(UserError, match=words) as raised:
        _ = open_coco(broken(root, tmp_path, change)).steps
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("missing", ["annotations/instances_val2017.json", "val2017", "."])
def test_what_is_missing_is_named(root, tmp_path, missing):
    (tmp_path / "annotations").mkdir()
    if missing == "val2017":
        (tmp_path / "annotations" / "instances_val2017.json").write_text((root / ANNOTATIONS).read_text())
    with pytest.raises(UserError, match=r"There is no json of val boxes under|none of its 5 images, .*, is in "):
        read_instances(find_annotations(tmp_path if missing != "." else tmp_path / "nowhere", "val"))


def test_an_image_that_turns_out_to_be_none_or_of_another_size(root, tmp_path, monkeypatch):
    monkeypatch.setattr("famkd.data.coco.find_unreadable", lambda *a: {})
    own = make_coco(tmp_path / "own")
    (own / "val2017" / "1.jpg").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"Cannot read the image .*1\.jpg"):
        list(open_coco(own, workers=2).test())
    with pytest.warns(UserWarning, match=r"1\.jpg cannot be read and is left out"):
        tested = [batch.index.tolist() for batch in open_coco(own, workers=2, unreadable="skip").test()]
    assert tested == [[0], [2], [3], [4]]
    (own / "train2017" / "1.jpg").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"1\.jpg cannot be read and is left out"):
        trained = [piece.index.tolist() for piece in open_coco(own, 5, unreadable="skip").epoch(1)]
    assert sorted(trained[0]) == [0, 2, 2, 3, 4]  # the next one stands in
    (own / "val2017" / "1.jpg").write_bytes((own / "val2017" / "0.jpg").read_bytes())
    with pytest.raises(UserError, match=r"is 80x100 but its annotations say 100x80"):
        list(open_coco(own).test())


def test_sides_that_are_none(root):
    with pytest.raises(UserError, match="pass 32 or more"):
        open_coco(root, sides=(16,))


def test_by_name(root):
    data = build_data("coco", str(root), 2, sides=(64,), longest=100, workers=0)
    assert data.probe().images[0].shape == (3, 64, 80)


# figures ----------------------------------------------------------------------------------------------------------


def truth(boxes, labels, crowd=None) -> dict:
    boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    crowd = torch.zeros(len(boxes), dtype=torch.bool) if crowd is None else torch.tensor(crowd)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "area": area, "iscrowd": crowd}


def found(boxes, labels, scores=None) -> dict:
    scores = torch.ones(len(labels)) if scores is None else torch.tensor(scores)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": scores,
    }


SMALL, LARGE = [0, 0, 20, 20], [10, 10, 150, 150]


def test_perfect_boxes_have_100_percent_and_none_has_0():
    truths = [truth([SMALL, LARGE], [1, 2]), truth([LARGE], [1]), truth([], [])]
    figures, by_class = coco_figures(truths, [found(t["boxes"].tolist(), t["labels"].tolist()) for t in truths], 3)
    assert tuple(figures) == FIGURES
    assert len(FIGURES) == 12
    assert [figures[name] for name in ("AP", "AP50", "AP_small", "AR100")] == [pytest.approx(100)] * 4
    assert figures["AP_medium"] == -1
    assert by_class == [pytest.approx(100), pytest.approx(100), -1]
    none, by_class = coco_figures(truths, [found([], [])] * 3, 3)
    assert (none["AP"], none["AR100"], by_class) == (0, 0, [0, 0, -1])
    assert list(next(iter(none))) == list("AP")


def test_half_right_is_half():
    """A box of IoU 0.6 counts at thresholds 0.5, 0.55 and 0.6, three of ten; another class's box not at all."""
    shifted = [0, 0, 100, 62]
    figures, _ = coco_figures([truth([[0, 0, 100, 100]], [1])], [found([shifted], [1])], 1)
    assert figures["AP"] == pytest.approx(30)
    assert (figures["AP50"], figures["AP75"]) == (pytest.approx(100), 0)
    figures, by_class = coco_figures([truth([SMALL, LARGE], [1, 2])], [found([SMALL, LARGE], [1, 1])], 2)
    assert by_class == [pytest.approx(100), 0]
    assert figures["AP"] == pytest.approx(50)


def test_the_area_that_counts_is_the_annotations_own():
    """A large box round a thin object counts as small."""
    thin = truth([[0, 0, 200, 200]], [1]) | {"area": torch.tensor([900.0])}
    figures, _ = coco_figures([thin], [found([[0, 0, 200, 200]], [1])], 1)
    assert (figures["AP_small"], figures["AP_large"]) == (pytest.approx(100), -1)


def test_what_is_found_in_a_crowd_is_neither_right_nor_wrong():
    truths = [truth([LARGE, [200, 0, 400, 200]], [1, 1], [False, True])]
    inside = [[210, 10, 300, 100], [300, 50, 390, 190]]
    figures, _ = coco_figures(truths, [found([LARGE, *inside], [1, 1, 1], [0.5, 0.9, 0.9])], 1)
    assert figures["AP"] == pytest.approx(100)


def test_without_pycocotools_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.cocoeval", None)
    with pytest.raises(UserError, match=r"pip install famkd\[detection\]"):
        coco_figures([truth([SMALL], [1])], [found([SMALL], [1])], 1)


# the shared sample ------------------------------------------------------------------------------------------------


def test_the_real_sample(real_data):
    data = open_coco(real_data("coco/annotations").parent, 8)
    assert (len(data.classes), data.steps, data.classes[0], data.classes[-1]) == (80, 16, "person", "toothbrush")
    batches = [data.take(piece) for piece in [next(data.epoch(1))]]
    assert all(np.isfinite(target["boxes"]).all() for batch in batches for target in batch.targets)
    truths = [t for batch in data.test() for t in batch.targets]
    assert len(truths) == 128
    assert sum(len(t["boxes"]) for t in truths) == 898
