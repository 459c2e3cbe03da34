"""A fixed number of augmentations: each epoch shows one of them, and the very pixels can be made again."""

import pytest
import torch
from helpers.tiny_coco import make_coco
from PIL import Image

from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.data import DATA, build_data
from famkd.data.views import Views
from famkd.errors import UserError
from famkd.training.build import build_recipe_data

OPTIONS = {"coco": {"sides": (64, 72, 80), "longest": 100, "workers": 0}, "imagenet": {"size": 16, "workers": 0}}
KINDS = ("npz", "imagenet", "coco")


@pytest.fixture(scope="module")
def roots(tmp_path_factory, few_digits) -> dict[str, str]:
    place = tmp_path_factory.mktemp("sets")
    draw = torch.Generator().manual_seed(0)
    for part in ("train", "val"):
        for n in range(12):
            file = place / "tree" / part / "ab"[n % 2] / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(torch.randint(256, (24, 20, 3), generator=draw).byte().numpy()).save(file)
    return {"npz": str(few_digits), "imagenet": str(place / "tree"), "coco": str(make_coco(place / "coco", 6))}


def built(kind: str, roots: dict[str, str], **options):
    return build_data(kind, roots[kind], 2, **OPTIONS.get(kind, {}), **options)


def epoch(data, number: int) -> dict[int, bytes]:
    """The pixels of each image that an epoch shows, by its position."""
    batches = [data.take(piece) for piece in data.epoch(number)]
    return {int(i): image.numpy().tobytes() for batch in batches for i, image in zip(batch.index, batch.images)}


def order(data, number: int) -> list[int]:
    return torch.cat([data.take(piece).index for piece in data.epoch(number)]).tolist()


def shown(data, number: int) -> dict[int, bytes]:
    batches = data.view(number, range(len(epoch(data, 1))), 5)
    return {int(i): image.numpy().tobytes() for batch in batches for i, image in zip(batch.index, batch.images)}


def test_epochs_use_the_views_in_turn():
    assert [Views(3, 0).of_epoch(epoch) for epoch in range(1, 8)] == [1, 2, 3, 1, 2, 3, 1]
    assert [Views(1, 0).of_epoch(epoch) for epoch in (1, 2)] == [1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_shows_one_view_in_an_order_of_its_own(kind, roots):
    data = built(kind, roots, views=2)
    first, second, third = (epoch(data, number) for number in (1, 2, 3))
    assert first == third == shown(data, 1)
    assert second == shown(data, 2)
    assert sum(first[i] != second[i] for i in first) >= len(first) // 2
    assert order(data, 1) != order(data, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_views_do_not_depend_on_the_training_seed(kind, roots):
    one, other = built(kind, roots, views=2, seed=1), built(kind, roots, views=2, seed=2)
    assert epoch(one, 1) == epoch(other, 1)
    assert order(one, 1) != order(other, 1)
    assert shown(built(kind, roots, views=2, views_seed=7), 1) != shown(one, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_view_zero_is_the_image_as_it_is(kind, roots):
    data, plain = built(kind, roots, views=2), built(kind, roots, augment=False)
    assert shown(data, 0) == epoch(plain, 1)
    batch = next(data.view(0, [3, 1]))
    assert batch.index.tolist() == [3, 1]
    assert batch.images[1].numpy().tobytes() == shown(data, 0)[1]


def test_worker_processes_and_held_out_images_change_no_view(roots):
    data = build_data("imagenet", roots["imagenet"], 2, size=16, workers=2, views=2)
    assert epoch(data, 2) == epoch(built("imagenet", roots, views=2), 2)
    held_out = built("imagenet", roots, views=2, val="0.25")
    assert len(held_out.labels) == 9
    assert epoch(held_out, 2).items() <= shown(held_out, 2).items()


AUGMENTS = [
    ("--augment.crop_scale", "0.3", "1"), ("--augment.jitter", "0.4"), ("--augment.policy", "randaugment"),
    ("--augment.policy", "augmix"), ("--augment.erase", "0.9"),
]  # fmt: skip


@pytest.mark.sample(1)
@pytest.mark.parametrize("flags", AUGMENTS, ids=lambda flags: flags[1] if flags[0].endswith("policy") else flags[0])
@pytest.mark.parametrize("kind", ["npz", "imagenet"])
def test_further_augmentation_of_single_images_is_repeated_too(kind, flags, roots):
    options = ("--data.size", "16", "--data.workers", "0") if kind == "imagenet" else ()
    common = ("--data", kind, "--root", roots[kind], "--data.batch_size", "2", "--method", "none", *options, *flags)
    data = build_recipe_data(validated(load_recipe("quickstart", *common, "--views", "2")))
    first, second, third = (epoch(data, number) for number in (1, 2, 3))
    assert first == third == shown(data, 1)
    assert second == shown(data, 2)
    assert sum(first[i] != second[i] for i in first) >= len(first) // 2
    without = build_recipe_data(validated(load_recipe("quickstart", *common[: -len(flags)], "--views", "2")))
    assert sum(first[i] != pixels for i, pixels in epoch(without, 1).items()) >= len(first) // 2
    assert shown(data, 0) == shown(without, 0)
    other = build_recipe_data(validated(load_recipe("quickstart", *common, "--views", "2", "--seed", "9")))
    assert epoch(other, 1) == first


@pytest.mark.parametrize(("flags", "what"), [
    (("--augment.mixup", "0.8"), "--augment.mixup and --augment.cutmix"),
    (("--augment.erase", "0.5", "--augment.erase_with", "noise"), "--augment.erase_with noise"),
])  # fmt: skip
def test_what_is_drawn_within_a_step_cannot_be_repeated(flags, what):
    with pytest.raises(UserError, match=rf"{what} cannot be repeated in every epoch"):
        validated(load_recipe("quickstart", "--method", "kd", "--views", "2", *flags))


def test_a_data_set_that_cannot_repeat_views_says_so(monkeypatch):
    class Own:
        def __init__(self, root, batch_size, device, seed, augment):
            pass

    monkeypatch.setitem(DATA, "own", Own)
    with pytest.raises(UserError, match=r"The data set own cannot repeat augmentations: leave --data\.views out"):
        build_data("own", "", 1, views=2)
