"""Augmentation of whole batches: each operation is torchvision's, mixing is timm's, and the draws follow a seed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.on_device import DeviceOnly
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.data import draws, transforms
from famkd.data.augment import Augment
from famkd.data.augmented import Augmented, augmented, erased, mixed
from famkd.data.in_memory import InMemory
from famkd.data.policies import augmix, in_turn, jittered, operate, resized_crop
from famkd.data.small import Images
from famkd.distill.types import Batch, Mixed
from famkd.errors import UserError
from famkd.methods.logits import DKD, dkd_loss
from famkd.tasks import Classification

SIZE = (12, 16)
POLICIES = {"randaugment": v2.RandAugment(), "trivialaugment": v2.TrivialAugmentWide(), "augmix": v2.AugMix()}


def photos(count: int) -> torch.Tensor:
    """Smooth random images with a sharp edge, (count, 3, H, W) bytes."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 5, generator=generator)
    images = F.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)
    images[:, :, 3:7, 5:9] = 0.9
    return (images * 255).round().to(torch.uint8)


class Fixed:
    """A network that returns the same logits for any images."""

    head = None

    def __init__(self, logits: torch.Tensor):
        self.logits = logits

    def __call__(self, images):
        return self.logits, []


def nearly_equal(ours: torch.Tensor, wanted: torch.Tensor, share: float = 0.01) -> None:
    """Equal to one grey level, except in a small share of pixels on the edge between two."""
    off = (ours - wanted.float()).abs() > 1
    assert off.float().mean() <= share, off.float().mean()
    assert torch.equal(ours, ours.round())


@pytest.mark.sample(14)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", draws.OPERATIONS)
def test_each_operation_is_torchvisions(policy, name):
    table = draws.operations(policy, SIZE)
    number = draws.OPERATIONS.index(name)
    if number not in table.op:
        assert (policy, name) == ("augmix", "Identity")
        return
    row = table.op.tolist().index(number)
    amounts = np.unique(np.concatenate([table.amount[row], -table.amount[row] * table.signed[row]]))
    images = photos(len(amounts))
    ours = operate(images.float(), torch.full((len(amounts),), number), torch.tensor(amounts).float())
    for image, amount, found in zip(images, amounts, ours):
        wanted = POLICIES[policy]._apply_image_or_video_transform(
            image, name, float(np.float32(amount)), interpolation=InterpolationMode.NEAREST, fill={}
        )
        nearly_equal(found, wanted, 0.05 if number <= draws.OPERATIONS.index("Rotate") else 0.0)  # ties of nearest


def test_operations_of_each_image_in_turn():
    images = photos(3)
    op = torch.tensor([[7, 13], [0, 6], [10, 0]])
    amount = torch.tensor([[0.5, 0.0], [0.0, -0.3], [3.0, 0.0]])
    ours = in_turn(images.float(), op, amount)
    nearly_equal(ours[0], functional.equalize(functional.adjust_saturation(images[0], 1.5)))
    nearly_equal(ours[1], functional.adjust_brightness(images[1], 0.7))
    nearly_equal(ours[2], functional.posterize(images[2], 3))


def test_augmix_is_the_weighted_sum_of_its_chains():
    images = photos(2)
    op, amount = torch.zeros(2, 9, dtype=torch.int64), torch.zeros(2, 9)
    op[:, 0], op[:, 3], op[:, 4] = 6, 12, 13  # brightness; auto contrast, then equalize; nothing
    amount[:, 0] = 0.4
    weight = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    ours = augmix(images.float(), op, amount, weight)
    chains = [
        functional.adjust_brightness(images, 1.4), functional.equalize(functional.autocontrast(images)), images
    ]  # fmt: skip
    wanted = weight[:, 0, None, None, None] * images
    for number, chain in enumerate(chains, 1):
        wanted = wanted + weight[:, number, None, None, None] * chain
    nearly_equal(ours, wanted.to(torch.uint8))


def test_jitter_changes_brightness_then_contrast_then_saturation():
    images = photos(2)
    ours = jittered(images.float(), torch.tensor([[0.7, 1.3, 0.5], [1.2, 0.8, 1.4]]))
    for image, found, factors in zip(images, ours, [(0.7, 1.3, 0.5), (1.2, 0.8, 1.4)]):
        wanted = functional.adjust_brightness(image, factors[0])
        wanted = functional.adjust_contrast(wanted, factors[1])
        nearly_equal(found, functional.adjust_saturation(wanted, factors[2]))


@pytest.mark.parametrize("box", [(0, 0, 12, 16), (3, 4, 5, 7), (2, 9, 10, 4), (11, 15, 1, 1)])
def test_a_crop_is_scaled_as_torchvision_does_it(box):
    images = photos(2)
    ours = resized_crop(images.float(), torch.tensor([box, box]).float())
    nearly_equal(ours, functional.resized_crop(images, *box, SIZE, antialias=False), 0.0)


def test_boxes_lie_inside_and_have_the_areas_and_ratios_asked_for():
    augment = Augment(crop_scale=(0.3, 0.6), crop_ratio=(0.5, 2.0), erase=0.25)
    top, left, tall, wide = draws.crops(augment, (32, 32), 4000, 0, 1)["box"].unbind(1)
    for start, length in ((top, tall), (left, wide)):
        assert (start >= 0).all()
        assert (start + length <= 32).all()
    area = tall * wide / 1024
    assert 0.25 < area.min() < 0.32
    assert 0.58 < area.max() < 0.65
    assert 0.4 < (wide / tall).min() < 0.6
    assert 1.7 < (wide / tall).max() < 2.3
    assert area.mean().item() == pytest.approx(0.45, abs=0.01)
    top, left, bottom, right = draws.erasures(augment, (32, 32), 4000, 0, 1)["erased"].unbind(1)
    area = (bottom - top) * (right - left) / 1024
    assert torch.maximum(bottom, right).max() <= 32
    assert (area > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert area.max() < 0.37


def test_shares_of_mixtures():
    both = draws.mixtures(Augment(mixup=0.8, cutmix=1.0, mix_prob=0.5), (32, 32), 4000, 1, 0, 1)
    pasted = (both["pasted"][:, 2] > both["pasted"][:, 0]) & (both["pasted"][:, 3] > both["pasted"][:, 1])
    assert pasted.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (both["share"] == 1).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (both["blend"][pasted] == 1).all()
    top, left, bottom, right = both["pasted"].unbind(1)
    area = (bottom - top) * (right - left) / 1024
    torch.testing.assert_close(both["share"][pasted], 1 - area[pasted])
    only = draws.mixtures(Augment(mixup=0.8), (32, 32), 1000, 1, 0, 1)
    assert torch.equal(only["share"], only["blend"])
    assert (only["pasted"][:, 0] == only["pasted"][:, 2]).all()


def test_a_mixed_batch_and_its_loss_are_timms(monkeypatch):
    """Pixels and soft labels of timm.data.Mixup, with the same shares and rectangles."""
    from timm.data import mixup as library

    images, targets = photos(6).float(), torch.tensor([0, 1, 2, 3, 4, 0])
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    drawn = draws.mixtures(Augment(mixup=0.8, cutmix=1.0), SIZE, 6, 6, 3, 1)
    for step in range(6):
        share, blend, pasted = (drawn[key][step * 6 : step * 6 + 6] for key in ("share", "blend", "pasted"))
        batch = mixed(Batch(images, targets, torch.arange(6)), share, blend, pasted)
        top, left, bottom, right = pasted[0].tolist()
        cut = bool((blend == 1).all())
        drawn_by = (share[0].item(), cut)
        monkeypatch.setattr(library.Mixup, "_params_per_batch", lambda self, drawn_by=drawn_by: drawn_by)
        box = ((top, bottom, left, right), share[0].item())
        monkeypatch.setattr(library, "cutmix_bbox_and_lam", lambda *a, box=box, **k: box)
        wanted, soft = library.Mixup(num_classes=5, label_smoothing=0.1)(images.clone(), targets)
        torch.testing.assert_close(batch.images, wanted)
        losses, _ = Classification(0.1).study(Fixed(logits), batch)
        torch.testing.assert_close(losses["ce"], F.cross_entropy(logits, soft))
        assert batch.mixed.share >= 0.5


def test_methods_of_the_true_class_learn_both_classes_by_their_shares():
    generator = torch.Generator().manual_seed(4)
    student, teacher = torch.randn(2, 6, 5, generator=generator)
    first, second = torch.tensor([0, 1, 2, 3, 4, 0]), torch.tensor([4, 3, 2, 1, 0, 1])
    batch = Batch(None, first, torch.arange(6), Mixed(second, torch.tensor(0.7)))
    view = [SimpleNamespace(logits=logits) for logits in (student, teacher)]
    probe = SimpleNamespace(student=view[0], teacher=view[1], labels=None)
    found = DKD(probe)(*view, batch)["dkd"]
    losses = [dkd_loss(student, teacher, targets, 1.0, 8.0, 4.0) for targets in (first, second)]
    torch.testing.assert_close(found, 0.7 * losses[0] + 0.3 * losses[1])


def test_a_rectangle_is_erased():
    images = torch.ones(2, 3, *SIZE)
    out = erased(images, torch.tensor([[1, 2, 4, 5], [3, 3, 3, 9]]), torch.zeros_like(images))
    assert out[0].sum() == 3 * (12 * 16 - 9)
    assert (out[0, :, 1:4, 2:5] == 0).all()
    assert (out[1] == 1).all()


def small_images() -> Images:
    x = photos(20).permute(0, 2, 3, 1).numpy()
    y = np.arange(20) % 5
    return Images(x, y, x, y, [str(n) for n in range(5)], (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


EVERYTHING = Augment(
    crop_scale=(0.3, 1.0), jitter=0.3, policy="randaugment", erase=0.5, erase_with="noise", mixup=0.8, cutmix=1.0
)


def build(augment: Augment, device: str = "cpu") -> Augmented:
    return augmented(InMemory(small_images(), 8, device, seed=3), augment, 3)


def batches(data, epoch: int, done: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(epoch)
    return [data.take(piece).images for piece in data.epoch(epoch, done)]


@pytest.mark.parametrize("policy", ["none", *POLICIES])
def test_draws_follow_from_seed_and_epoch_and_not_from_the_step_before(policy):
    augment = Augment(crop_scale=(0.3, 1.0), jitter=0.3, policy=policy, erase=0.5, mixup=0.8)
    whole = batches(build(augment), 2)
    data = build(augment)
    batches(data, 1)
    rest = batches(data, 2, done=1)
    assert len(whole) == 2
    assert torch.equal(whole[1], rest[0])
    assert not torch.equal(whole[0], batches(data, 3)[0])


def test_without_anything_to_draw_images_stay_as_they_are():
    plain = InMemory(small_images(), 8, seed=3)
    data = build(Augment(erase=1e-9))
    for one, other in zip(batches(plain, 1), batches(data, 1)):
        assert torch.equal(one, other)
    assert data.steps == plain.steps
    assert torch.equal(next(data.test()).images, next(plain.test()).images)


def test_identity_operations_give_the_pixels_back():
    plain = InMemory(small_images(), 8, seed=3, augment=True)
    plain.augment_by(EVERYTHING)
    data = build(Augment(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)))
    for one, other in zip(batches(plain, 1), batches(data, 1)):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_augmentation_stays_on_the_device(policy):
    """As a CUDA graph needs."""
    augment = Augment(
        crop_scale=(0.3, 1.0), jitter=0.3, policy=policy, erase=0.5, erase_with="noise", mixup=0.8, cutmix=1.0
    )
    data = build(augment)
    piece = next(data.epoch(1))
    with FakeTensorMode() as mode:
        piece = type(piece)(*(torch.empty(each.shape, dtype=each.dtype, device="cuda") for each in piece))
        data._data.device = torch.device("cuda")
        for name in ("_train", "_targets", "_scale", "_shift"):
            held = getattr(data._data, name)
            setattr(data._data, name, torch.empty(held.shape, dtype=held.dtype, device="cuda"))
        data._mean = data._std = torch.empty(3, 1, 1, device="cuda")
        assert mode is not None
        with DeviceOnly():
            batch = data.take(piece)
    assert batch.images.shape == (8, 3, *SIZE)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


REFUSED = {
    "augment.strength 5": "no effect: pass --augment.policy randaugment or augmix",
    "augment.policy trivialaugment augment.strength 5": "no effect",
    "augment.policy augmix augment.strength 11": "at most 10 for augmix",
    "augment.erase_with noise": "no effect: pass --augment.erase",
    "augment.mix_prob 0.5": "no effect: pass --augment.mixup",
    "augment.crop_scale 0.5": "two numbers, the smaller one first",
    "augment.crop_scale 0.9 0.5": "two numbers, the smaller one first",
    "augment.mixup 0.8 data.no_augment": "contradicts --augment",
    "augment.mixup 0.8 method crd": "crd cannot learn from images that are mixed of two",
    "teacher.drop_path 0.1": "--teacher.drop_path has no effect",
    "label_smoothing 1.0": "less than 1",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_what_means_nothing_or_cannot_work_is_refused(flags):
    words = [f"--{word}" if ("." in word and word[0].isalpha()) or word in ("method", "label_smoothing") else word
             for word in flags.split()]  # fmt: skip
    with pytest.raises(UserError, match=REFUSED[flags]) as told:
        validated(load_recipe("quickstart", *words))
    assert "\n" not in str(told.value)


def test_detection_takes_none_of_it():
    for option, value in (("--augment.mixup", "1"), ("--label_smoothing", "0.1")):
        with pytest.raises(UserError, match=f"{option.partition('.')[0]} is for classification, not for detection"):
            validated(load_recipe("coco/fasterrcnn_resnet50", option, value))


def test_a_ratio_needs_a_crop_where_there_is_none():
    with pytest.raises(UserError, match="crop_ratio has no effect on images held in memory"):
        build(Augment(crop_ratio=(0.5, 2.0)))


def test_grey_images_cannot_be_recoloured():
    data = SimpleNamespace(probe=lambda: SimpleNamespace(images=torch.zeros(2, 1, 8, 8)), size=(8, 8), streamed=False)
    with pytest.raises(UserError, match="3 channels, not 1: leave them out"):
        augmented(data, Augment(jitter=0.2), 0)


def test_images_from_files_are_recoloured_by_torchvision():
    settings = Augment(crop_scale=(0.5, 1.0), crop_ratio=(0.9, 1.1), jitter=0.3, policy="randaugment", strength=5)
    view = transforms.training_view(32, transforms.Preprocessing(interpolation="bicubic", training=settings))
    crop, flip, as_pillow, *jitters, policy = view.transforms
    assert (tuple(crop.scale), tuple(crop.ratio), crop.interpolation.value) == ((0.5, 1.0), (0.9, 1.1), "bicubic")
    assert isinstance(flip, v2.RandomHorizontalFlip)
    assert isinstance(as_pillow, v2.ToPILImage)
    assert [(jitter.brightness, jitter.contrast, jitter.saturation) for jitter in jitters] == [
        ((0.7, 1.3), None, None),
        (None, (0.7, 1.3), None),
        (None, None, (0.7, 1.3)),
    ]
    assert (type(policy), policy.magnitude) == (v2.RandAugment, 5)
    usual = transforms.training_view(32).transforms
    assert (tuple(usual[0].scale), len(usual)) == ((0.08, 1.0), 2)


@pytest.mark.parametrize(
    ("crop", "size", "shorter"), [(0.0, 224, 256), (0.0, 64, 64), (0.95, 224, 236), (1.0, 224, 224)]
)
def test_the_margin_of_test_images(crop, size, shorter):
    image = F.interpolate(photos(1).float(), (300, 400), mode="bilinear").round().to(torch.uint8)[0]
    wanted = functional.center_crop(functional.resize(image, shorter, antialias=True), [size, size])
    assert torch.equal(transforms.plain_view(size, transforms.Preprocessing(test_crop=crop))(image), wanted)
