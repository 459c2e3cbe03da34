"""Read pictures once, and prepare them for each of several networks."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from famkd.errors import UserError, nearest
from famviz.networks.images import Images
from famviz.networks.inside import device_of
from famviz.networks.prepare import SIDE, Preparation, Transform, as_bytes, checked, framed, preparation_of

Models = Mapping[str, nn.Module]


class Reader:
    """The images of several networks.

    Args:
        reference: the network whose view of a picture is drawn.
        transforms: one for all networks or one by name, as in `compare_networks`.
        crop: share of the shorter side of a picture that its centre has.
    """

    def __init__(
        self, models: Models, images: Images, reference: str,
        transforms: Transform | Mapping[str, Transform] | None, crop: float,
    ):  # fmt: skip
        self.images, self.reference, self.crop = images, reference, crop
        self.transforms = _by_name(models, transforms)
        self.devices = {name: device_of(model) for name, model in models.items()}

    def read(self, positions: Sequence[int]) -> tuple[dict[str, Tensor], np.ndarray]:
        """Normalised images (B, 3, h, w) for each network, and what the reference sees, (B, H, W, 3) uint8."""
        pictures = [self.images.picture(at) for at in positions]
        frames = [each if isinstance(each, Tensor) else framed(each, self.sizes, self.crop) for each in pictures]
        inputs = {}
        for name, transform in self.transforms.items():
            shown = frames if isinstance(transform, Preparation) else pictures
            prepared = [checked(transform(each), name) for each in shown]
            inputs[name] = _stacked(prepared, name).to(self.devices[name])
        return inputs, self._pixels(positions, frames, inputs[self.reference])

    def _pixels(self, positions: Sequence[int], frames: Sequence[Tensor | Image.Image], seen: Tensor) -> np.ndarray:
        """The images as bytes; `frames` are the pictures after the crop, `seen` what the reference gets."""
        if self.images.pixels is not None:
            return self.images.pixels[list(positions)]
        transform = self.transforms[self.reference]
        if not isinstance(transform, Preparation):
            return as_bytes(seen, transform)
        pictures = [each for each in frames if isinstance(each, Image.Image)]
        if len(pictures) < len(frames):  # floats of the caller, whose normalisation nothing names
            return as_bytes(seen, None)
        largest = Preparation(max(self.sizes), named=transform.named)
        return np.stack([np.array(largest.resized(each)) for each in pictures])

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width that each network names, of those that get no transform of the caller."""
        named = [each.size for each in self.transforms.values() if isinstance(each, Preparation)]
        return named or [(SIDE, SIDE)]


def _by_name(models: Models, transforms: Transform | Mapping[str, Transform] | None) -> dict[str, Transform]:
    """A transform for each network: the given one, or what the network itself says."""
    if isinstance(transforms, Mapping):
        wrong = [name for name in transforms if name not in models]
        if wrong:
            raise UserError(f"A transform is for {wrong[0]!r}, which is no network here.{nearest(wrong[0], models)}")
        return {name: transforms.get(name) or preparation_of(model) for name, model in models.items()}
    return {name: transforms or preparation_of(model) for name, model in models.items()}


def _stacked(images: Sequence[Tensor], name: str) -> Tensor:
    sizes = sorted({tuple(each.shape) for each in images})
    if len(sizes) > 1:
        raise UserError(f"The images of {name} differ in size, {sizes[0]} and {sizes[-1]}: pass a transform.")
    return torch.stack(list(images))
