"""What a recipe may say: every field with its type, default and help."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import tyro
import yaml


@dataclass(frozen=True)
class Data:
    """What is learned from."""

    name: Annotated[str, tyro.conf.arg(aliases=["--data"])] = "cifar100"
    """Data set: a name from `famkd ls data`."""
    root: Annotated[str, tyro.conf.arg(aliases=["--root"])] = "data"
    """Folder or .npz file that holds it."""
    batch_size: int = 64
    """Images a step."""
    augment: bool = True
    """Random crop and, where the data set allows it, flip; of coco, sides and flip."""
    sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    """Of coco: pixels of an image's shorter side, one drawn for each image; tests take the last."""
    longest: int = 1333
    """Of coco: most pixels of the longer side."""
    size: int = 0
    """Of imagenet: height and width of what the networks see, in pixels; 0 for 224."""
    splits: tuple[str, str] = ("train", "val")
    """Of imagenet: the folders under the root of training and test images; `. .` uses one tree of classes for both."""
    workers: int = -1
    """Of imagenet and coco: processes or threads that decode images; -1 for one per core, 0 for none."""
    gpu_decode: bool = False
    """Of imagenet: decode JPEGs on the GPU."""


@dataclass(frozen=True)
class Net:
    """A network: the student, or the teacher."""

    model: str = ""
    """A name from `famkd ls models`, `timm:NAME` or `torchvision:NAME`."""
    weights: str = ""
    """Where it starts: a checkpoint file, a run directory, `recipe:NAME`, which trains that recipe first, or
    `pretrained`, of torchvision also `pretrained:IMAGENET1K_V1` and the like."""
    taps: tuple[str, ...] = ()
    """Module paths of the stages to look at, shallow to deep; found by themselves when left out."""


@dataclass(frozen=True)
class Optim:
    """SGD with momentum and its schedule."""

    epochs: Annotated[int, tyro.conf.arg(aliases=["--epochs"])] = 240
    """Passes over the training set."""
    lr: Annotated[float, tyro.conf.arg(aliases=["--lr"])] = 0.05
    """Learning rate at the start."""
    schedule: Literal["step", "cosine"] = "step"
    """Multiply by `gamma` after each of `steps`, or follow half a cosine to 0."""
    steps: tuple[int, ...] = (150, 180, 210)
    """Epochs, counted from 1, after which the learning rate drops."""
    gamma: float = 0.1
    """What it drops by."""
    lr_warmup: int = 0
    """Epochs over which the learning rate rises linearly at first."""
    warmup_steps: int = 0
    """Steps of the first epoch over which it rises linearly, for epochs as long as COCO's."""
    momentum: float = 0.9
    """Of SGD."""
    nesterov: bool = False
    """Nesterov's form of it."""
    weight_decay: float = 5e-4
    """L2 penalty on every trained parameter."""
    accumulate: int = 1
    """Parts that each process takes its share of a step in, one after the other, to save memory."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run. The chosen method's options are fields of their own, named after it."""

    name: str = "recipe"
    """What the run is called; by itself the recipe's path without its ending."""
    task: Literal["classification", "detection"] = "classification"
    """What networks do with an image: tell its class, or find objects in it."""
    student: Net = field(default_factory=Net)
    """The network that is trained."""
    teacher: Net = field(default_factory=Net)
    """The network that it learns from; no model for plain training."""
    method: str = "none"
    """How it learns from it: a name from `famkd ls methods`, several joined by +, or none."""
    data: Data = field(default_factory=Data)
    optim: Optim = field(default_factory=Optim)
    seed: int = 0
    """Of initial weights, data order and augmentation."""
    baseline: bool = False
    """Train the student alone first, to compare with."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Arithmetic of the networks; auto is bf16-mixed on a GPU and 32-true elsewhere."""
    accelerator: str = "auto"
    """Where to run: auto, cpu, cuda or mps."""
    devices: int = 1
    """Processes on each machine, one per GPU; batch_size is the total over all. torchrun and SLURM tell it themselves.
    """
    nodes: int = 1
    """Machines, all of which see the run directory; torchrun and SLURM tell it themselves."""
    sync_bn: bool = False
    """Batch norms of student and method take their statistics over all GPUs."""
    engine: Literal["auto", "eager", "compile", "graph"] = "auto"
    """How a step runs: auto is graph (one CUDA graph) on a GPU, elsewhere compile for long runs and eager for short."""
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where to send metrics besides the run directory."""
    plugins: tuple[str, ...] = ()
    """Python files that register models, methods or data of your own; imported only if the command line names them."""

    @property
    def method_names(self) -> tuple[str, ...]:
        return split_methods(self.method)

    def section(self, method: str) -> Any:
        """The options of one of the recipe's methods, with `weight`, `task_weight` and `warmup`."""
        return getattr(self, method)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_yaml(self) -> str:
        """A file that `load_recipe` turns into this very recipe."""
        plain = yaml.safe_dump(_listed(self.to_dict()), sort_keys=False, allow_unicode=True)
        return f"# resolved by famkd\n{plain}"


def split_methods(method: str) -> tuple[str, ...]:
    """Names of a method that may be a sum, such as `fam_review+kd`."""
    return () if method in ("none", "") else tuple(name.strip() for name in method.split("+"))


def _listed(tree: dict) -> dict:
    return {k: _listed(v) if isinstance(v, dict) else list(v) if isinstance(v, tuple) else v for k, v in tree.items()}
