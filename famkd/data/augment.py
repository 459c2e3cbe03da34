"""The options of augmentation: mixing of images, random policies of colour and geometry, erasing, cropping."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

Policy = Literal["none", "randaugment", "trivialaugment", "augmix"]
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random resized crop, as in torchvision
# Strength of a policy unless it is given, and the largest one, as in torchvision.
USUAL = {"randaugment": 9, "augmix": 3}
LARGEST = {"randaugment": 30, "augmix": 10}


@dataclass(frozen=True)
class Augment:
    """Further augmentation of training images, in this order: crop, colour jitter, policy, erasing, mixing. Student and
    teacher see the same image."""

    crop_scale: tuple[Annotated[float, Gt(0), Le(1)], ...] = ()
    """Random resized crop: smallest and largest part of the image's area, such as 0.25 1. By default 0.08 1 for images
    that are read from files, and a random shift by some pixels for small images held in memory."""
    crop_ratio: tuple[Annotated[float, Gt(0)], ...] = ()
    """Smallest and largest ratio of width to height of that crop, in proportion to that of the image that a network
    sees. By default 0.75 1.3333."""
    jitter: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Colour jitter: brightness, contrast and saturation are each multiplied by a random factor between 1 - jitter and
    1 + jitter."""
    policy: Policy = "none"
    """Random operations of colour and geometry, as torchvision does them."""
    strength: Annotated[int, Ge(0)] = 0
    """Strength of the policy: 1 to 30 for randaugment, 1 to 10 for augmix; 0 for the usual one (9 and 3)."""
    erase: Annotated[float, Ge(0), Le(1)] = 0.0
    """Random erasing: the probability that a rectangle of 2 to 33 % of an image is erased."""
    erase_with: Literal["mean", "noise"] = "mean"
    """What an erased rectangle is filled with: the mean colour, or noise in each pixel."""
    mixup: Annotated[float, Ge(0)] = 0.0
    """mixup: the batch is mixed with itself in reverse order. Parameter of the Beta distribution of shares, such as
    0.8; 0 for no mixup."""
    cutmix: Annotated[float, Ge(0)] = 0.0
    """cutmix: a rectangle is pasted instead. Parameter of the Beta distribution of its area, such as 1; 0 for no
    cutmix. With both, half of the batches are mixed by cutmix."""
    mix_prob: Annotated[float, Ge(0), Le(1)] = 1.0
    """Probability that a batch is mixed."""

    @property
    def mixes(self) -> bool:
        """Whether images are mixed of two."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def crops(self) -> bool:
        """Whether images are cropped by these options."""
        return bool(self.crop_scale or self.crop_ratio)

    @property
    def recolours(self) -> bool:
        """Whether colours or shapes of single images change, by the policy or the jitter."""
        return self.policy != "none" or self.jitter > 0


NOTHING = Augment()


def without_effect(augment: Augment) -> str:
    """Why the first option that changes nothing does so, or ""."""
    if augment.strength and augment.policy not in LARGEST:
        return "--augment.strength has no effect: pass --augment.policy randaugment or augmix"
    if augment.strength > LARGEST.get(augment.policy, 0):
        return f"--augment.strength is {augment.strength}: pass at most {LARGEST[augment.policy]} for {augment.policy}"
    if augment.erase_with != NOTHING.erase_with and not augment.erase:
        return "--augment.erase_with has no effect: pass --augment.erase, the probability, too"
    if augment.mix_prob != NOTHING.mix_prob and not augment.mixes:
        return "--augment.mix_prob has no effect: pass --augment.mixup or --augment.cutmix too"
    for name in ("crop_scale", "crop_ratio"):
        bounds = getattr(augment, name)
        if bounds and (len(bounds) != 2 or bounds[0] > bounds[1]):
            return f"--augment.{name} takes two numbers, the smaller one first"
    return ""
