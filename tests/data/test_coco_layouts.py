"""COCO's annotations as others write them: layouts, categories, boxes and names of files."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from helpers.tiny_coco import KINDS, make_coco
from PIL import Image

from famkd.data.coco import Coco
from famkd.data.coco_annotations import read_instances
from famkd.data.coco_files import Place, find_annotations
from famkd.errors import UserError


def opened(root: Path, batch_size: int = 2, **options) -> Coco:
    return Coco(str(root), batch_size, **{"sides": (64,), "longest": 160, "workers": 0} | options)


def truths(data: Coco) -> list[tuple[list[int], list[list[float]]]]:
    return [(t["labels"].tolist(), t["boxes"].tolist()) for batch in data.test() for t in batch.targets]


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    return make_coco(tmp_path_factory.mktemp("coco") / "official")


def json_of(root: Path, part: str) -> Path:
    return root / "annotations" / f"instances_{part}.json"


# layouts ----------------------------------------------------------------------------------------------------------

# where the json and the images of training and test images go
LAYOUTS = {
    "2017": (("annotations/instances_train2017.json", "train2017"), ("annotations/instances_val2017.json", "val2017")),
    "2014": (("annotations/instances_train2014.json", "train2014"), ("annotations/instances_val2014.json", "val2014")),
    "roboflow": (("train/_annotations.coco.json", "train"), ("valid/_annotations.coco.json", "valid")),
    "roboflow, test only": (("train/_annotations.coco.json", "train"), ("test/_annotations.coco.json", "test")),
    "images folder": (("annotations/instances_train2017.json", "images/train2017"),
                      ("annotations/instances_val2017.json", "images/val2017")),
    "one images folder": (("annotations/train.json", "images"), ("annotations/val.json", "images")),
    "json in the root": (("train.json", "train"), ("val.json", "val")),
    "coco json in the root": (("train_coco.json", "images/train"), ("validation_coco.json", "images/validation")),
    "without year": (("annotations/instances_train.json", "train"), ("annotations/instances_val.json", "val")),
    "fiftyone": (("train/labels.json", "train/data"), ("validation/labels.json", "validation/data")),
    "images beside": (("Train/annotations.json", "Train/images"), ("Valid/annotations.json", "Valid/images")),
    "flat": (("train.json", "."), ("val.json", ".")),
}  # fmt: skip


def move(official: Path, root: Path, layout) -> Path:
    for part, (annotations, images) in zip(("train2017", "val2017"), layout):
        content = json.loads(json_of(official, part).read_text())
        (root / images).mkdir(parents=True, exist_ok=True)
        (root / annotations).parent.mkdir(parents=True, exist_ok=True)
        for image in content["images"]:  # names of their own, as the splits may share a folder
            own = f"{part}_{image['file_name']}"
            shutil.copy(official / part / image["file_name"], root / images / own)
            image["file_name"] = own
        (root / annotations).write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_found_by_themselves(official, tmp_path, name):
    data = opened(move(official, tmp_path, LAYOUTS[name]))
    assert truths(data) == truths(opened(official))
    assert data.steps == 2
    assert data.classes == ["red", "blue"]


def test_jsons_of_other_tasks_are_no_candidates(official, tmp_path):
    root = move(official, tmp_path, LAYOUTS["2017"])
    for kind in ("captions", "person_keypoints", "panoptic"):
        for part in ("train2017", "val2017"):
            (root / f"annotations/{kind}_{part}.json").write_text("{}")
    (root / "annotations/._instances_val2017.json").write_text("x")
    (root / "annotations/instances_val2014.json").write_text("{}")
    assert opened(root).n_test == 5


def test_any_pair_of_folder_and_file_may_be_named(official, tmp_path):
    root = move(official, tmp_path, (("notes/a.json", "pictures/one"), ("notes/b.json", "pictures/two")))
    assert "There is no json of val boxes under" in refused(root)
    pair = {"train_annotations": "notes/a.json", "train_images": "pictures/one", "test_annotations": "notes/b.json",
            "test_images": str(root / "pictures/two")}  # fmt: skip
    data = opened(root, **pair)
    assert truths(data) == truths(opened(official))
    assert data.steps == 2
    assert "--data.test_annotations: there is no file" in refused(root, **pair | {"test_annotations": "c.json"})
    assert "--data.test_images: there is no folder" in refused(root, **pair | {"test_images": "c"})
    assert "none of its 5 images, such as 'val2017_0.jpg', is in" in refused(root, **pair | {"test_images": "notes"})


def refused(root: Path, **options) -> str:
    with pytest.raises(UserError) as raised:
        _ = opened(root, **options).steps
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_what_is_there_and_what_is_wanted_is_said(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "boxes.json").write_text("{}")
    words = refused(tmp_path)
    assert "which holds boxes.json, pictures: point --data.root at a folder with annotations/instances_tr" in words
    assert "or name the files by --data.test_annotations and --data.test_images" in words
    for name in ("val_a.json", "val_b.json"):
        (tmp_path / name).write_text("{}")
    assert "There are several jsons of val boxes: " in refused(tmp_path)


# contents ---------------------------------------------------------------------------------------------------------


def changed(official: Path, root: Path, change, part: str = "both") -> Path:
    """The official layout with its jsons changed."""
    shutil.copytree(official, root, dirs_exist_ok=True)
    for each in ("train2017", "val2017"):
        if part in (each, "both"):
            content = json.loads(json_of(official, each).read_text())
            change(content)
            json_of(root, each).write_text(json.dumps(content))
    return root


def renumber(numbers: dict[int, int], *others: dict):
    """Change the categories' numbers from 3 (red) and 7 (blue), and add others."""

    def change(content):
        for note in content["annotations"]:
            note["category_id"] = numbers[note["category_id"]]
        content["categories"] = [*map(dict, others), *(kind | {"id": numbers[kind["id"]]} for kind in KINDS)]

    return change


GROUP = {"id": 0, "name": "colours", "supercategory": "none"}


def grouped(content):
    """As Roboflow writes it: the first category is the group of the others, and has no boxes."""
    renumber({3: 1, 7: 2}, GROUP)(content)
    for kind in content["categories"][1:]:
        kind["supercategory"] = "colours"


def named_alike(content):
    grouped(content)
    content["categories"][0]["name"] = "red"
    for kind in content["categories"][1:]:
        kind["supercategory"] = "red"


CATEGORIES = {
    "from 0": renumber({3: 0, 7: 1}),
    "with gaps": renumber({3: 12, 7: 4000}),
    "a group without boxes": grouped,
    "a group with the name of a class": named_alike,
    "supercategories missing": lambda content: [kind.pop("supercategory", None) for kind in content["categories"]],
}


@pytest.mark.parametrize("case", CATEGORIES)
def test_categories_of_any_numbers_are_classes_from_1(official, tmp_path, case):
    data = opened(changed(official, tmp_path, CATEGORIES[case]))
    assert data.classes == ["red", "blue"]
    assert truths(data) == truths(opened(official))
    labels = {label for piece in data.epoch(1) for target in piece.targets for label in target["labels"].tolist()}
    assert labels == {1, 2}


def test_a_group_with_boxes_is_a_class(official, tmp_path):
    def change(content):
        grouped(content)
        content["annotations"][0]["category_id"] = 0

    assert opened(changed(official, tmp_path, change)).classes == ["colours", "red", "blue"]


def test_training_may_number_the_same_categories_otherwise(official, tmp_path):
    data = opened(changed(official, tmp_path, renumber({3: 9, 7: 2}), "train2017"))
    assert data.classes == ["red", "blue"]
    expected = opened(official)
    for one, two in zip(data.epoch(1), expected.epoch(1), strict=True):
        assert all(torch.equal(a["labels"], b["labels"]) for a, b in zip(one.targets, two.targets))


def test_categories_of_one_split_only_are_named(official, tmp_path):
    root = changed(official, tmp_path, renumber({3: 3, 7: 7}, {"id": 9, "name": "green"}), "val2017")
    assert "instances_train2017.json and of the test images differ: green. List the same in both" in refused(root)


def test_boxes_without_area_or_outside_are_counted_named_and_left_out(official, tmp_path):
    outside = [[10.5, 10.25, 0, 20], [5, 5, 10, 0.0], [500, 500, 10, 10], [-30, -30, 20, 20]]
    boxes = [*outside, [90.5, 70.5, 30, 30], [-0.4, 0, 9, 9]]

    def change(content):
        image = content["images"][0]["id"]
        for n, box in enumerate(boxes):
            content["annotations"].append({"id": 900 + n, "image_id": image, "category_id": 3, "bbox": box})

    root = changed(official, tmp_path, change, "val2017")
    with pytest.warns(UserWarning, match="boxes") as warned:
        data = opened(root)
    words = " ".join(str(each.message) for each in warned)
    assert "4 boxes have no area inside of their image and are left out: annotations 900, 901, 902 and 1 more." in words
    assert "1 boxes reach over the edge of their image and are clipped in training: annotations 904." in words
    assert len(warned) == 2
    assert len(truths(data)[0][0]) == 2 + 2


def test_fields_that_others_leave_out_have_their_usual_values(official, tmp_path):
    def change(content):
        for note in content["annotations"]:
            note.pop("segmentation", None)
            if not note["iscrowd"]:
                del note["iscrowd"]
            note["area"] = None
        content["info"] = content["licenses"] = None

    data = opened(changed(official, tmp_path, change))
    areas = next(iter(data.test())).targets[0]["area"].tolist()
    assert sorted(areas) == [1200, 1200]  # of the boxes


def test_wrong_boxes_are_counted_and_named(official, tmp_path):
    def change(content):
        for note in content["annotations"][:5]:
            note["bbox"] = []

    words = refused(changed(official, tmp_path, change, "val2017"))
    assert "a bbox must be four finite numbers" in words
    assert "it is not in 5 annotations, " in words
    assert "and 2 more" in words


# names of files ---------------------------------------------------------------------------------------------------

PLACES = {
    "sub-paths": ("deep/er/{}", "val2017/deep/er/{}"),
    "with the folder": ("val2017/{}", "val2017/{}"),
    "backslashes": ("deep\\er\\{}", "val2017/deep/er/{}"),
    "of another machine": ("/elsewhere/set/images/{}", "val2017/{}"),
    "of another drive": ("C:\\set\\{}", "val2017/{}"),
    "from elsewhere": ("../../images/{}", "val2017/{}"),
    "spaces and accents": ("été au lac/{}", "val2017/été au lac/{}"),
}


@pytest.mark.parametrize("case", PLACES)
def test_names_of_files_lead_to_the_images(official, tmp_path, case):
    name, place = PLACES[case]

    def change(content):
        for image in content["images"]:
            image["file_name"] = name.format(image["file_name"])

    root = changed(official, tmp_path, change, "val2017")
    for n in range(5):
        target = root / place.format(f"{n}.jpg")
        target.parent.mkdir(parents=True, exist_ok=True)
        (root / f"val2017/{n}.jpg").rename(target)
    assert truths(opened(root)) == truths(opened(official))


def test_two_images_of_one_name_are_not_mixed_up(official, tmp_path):
    def change(content):
        content["images"][0]["file_name"] = "a/0.jpg"
        content["images"][1]["file_name"] = "b/0.jpg"

    root = changed(official, tmp_path, change, "val2017")
    with pytest.raises(UserError, match=r"2 of 5 images .*a/0\.jpg \(missing\), .*b/0\.jpg \(missing\)"):
        opened(root)


def test_missing_images_are_all_named(official, tmp_path):
    shutil.copytree(official, tmp_path, dirs_exist_ok=True)
    for n in range(4):
        (tmp_path / f"val2017/{n}.jpg").unlink()
    words = refused(tmp_path)
    assert words.startswith("4 of 5 images cannot be read: ")
    assert "0.jpg (missing)" in words
    assert "and 1 more. Restore or remove them, or pass --data.unreadable skip." in words


# orientation and transparency -------------------------------------------------------------------------------------


@pytest.mark.parametrize("upright", [True, False])
def test_a_turned_image_is_read_as_its_annotations_see_it(tmp_path, upright):
    """Some tools write height and width of the image as it is stored, most of it as it is shown."""
    stored = Image.new("RGB", (60, 40), (10, 10, 10))
    stored.paste((250, 10, 10), (0, 0, 30, 20))  # the upper left quarter is red as it is stored
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turned to the right: the red is above, on the right
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images/0.png", exif=exif)
    height, width = (60, 40) if upright else (40, 60)
    box = [20, 0, 20, 30] if upright else [0, 0, 30, 20]
    content = {"images": [{"id": 1, "file_name": "0.png", "height": height, "width": width}],
               "annotations": [{"id": 1, "image_id": 1, "category_id": 0, "bbox": box}],
               "categories": [{"id": 0, "name": "red"}]}  # fmt: skip
    (tmp_path / "val.json").write_text(json.dumps(content))
    data = opened(tmp_path, sides=(40,), longest=60)
    (batch,) = data.test()
    (image,), (target,) = batch.images, batch.targets
    assert image.shape[1:] == (height, width)
    x1, y1, x2, y2 = target["boxes"][0].round().int().tolist()
    assert image[0, y1:y2, x1:x2].min() > 0.9
    assert image[0].gt(0.9).sum() == (x2 - x1) * (y2 - y1)


def test_transparent_pixels_lie_on_the_named_colour(official, tmp_path):
    root = changed(official, tmp_path, lambda content: None)
    Image.new("RGBA", (100, 80), (9, 9, 9, 0)).save(root / "val2017/0.jpg", format="PNG")
    assert next(iter(opened(root).test())).images[0].min() == 1
    assert next(iter(opened(root, background="black").test())).images[0].max() == 0


def test_a_json_alone_can_be_read(official):
    place = find_annotations(official, "val")
    instances, missing = read_instances(place)
    assert (len(instances), missing) == (5, [])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        some = instances.without([0, 3])
    assert [str(name) for name in some.names] == ["1.jpg", "2.jpg", "4.jpg"]
    assert some.start.tolist() == [0, 2, 2, 4]
    assert len(some.boxes) == len(some.labels) == len(some.area) == len(some.crowd) == 4
    with pytest.raises(UserError, match="name their folder"):
        read_instances(Place(place.annotations, []))
