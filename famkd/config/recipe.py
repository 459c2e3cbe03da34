"""The fields of a recipe, with their types, ranges, defaults and help."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import tyro
import yaml
from annotated_types import Ge, Gt, Le, Lt

from famkd.command_line.values import PLACE
from famkd.data.augment import Augment
from famkd.distill.types import Engine

HEADER = "# resolved by famkd"  # first line of a recipe that a run saved: every field has a value
# Fields that do not change the result of a training.
NOT_PART_OF_RESULT = ("accelerator", "devices", "nodes", "data.workers", "data.cache", "data.cache_gib", "keep")
LARGEST_SEED = (1 << 32) - 1  # of numpy's generator


@dataclass(frozen=True)
class Data:
    """The data set. Options of the chosen data set are fields of their own."""

    name: Annotated[str, tyro.conf.arg(aliases=["--data"])] = "cifar100"
    """Name of the data set, from `famkd ls data`."""
    root: Annotated[str, PLACE, tyro.conf.arg(aliases=["--root"])] = "data"
    """Folder or file of the data set."""
    batch_size: Annotated[int, Ge(1)] = 64
    """Images per step."""
    augment: bool = True
    """Augment training images: random crop, and horizontal flip where the data set allows it."""
    val: str = ""
    """Held-out split, on which the best epoch is chosen: a fraction of the training images, such as 0.1, the same of
    each class; or a split of its own, by the name of its folder beside the training folder (of an .npz, VAL for x_VAL
    and y_VAL). The test set is then measured once, at the end. Without it, the best epoch is chosen on the test set."""
    balance: Literal["none", "sample", "loss"] = "none"
    """Classes of different sizes: sample shows each equally often in training, loss weighs the student's own loss by
    the inverse of a class's number of images."""
    val_seed: Annotated[int, Ge(-1), Le(LARGEST_SEED)] = 0
    """Random seed of the held-out fraction, the same for every `--seed`; -1 draws another one for each `--seed`."""
    views: Annotated[int, Ge(0), tyro.conf.arg(aliases=["--views"])] = 0
    """Augmentations of each training image, which the epochs use in turn; 0 draws a new one in every epoch. With
    `--teacher.store` it is the number that the store holds."""
    views_seed: Annotated[int, Ge(0), Le(LARGEST_SEED)] = 0
    """Random seed of these augmentations, the same for every `--seed`."""
    classes: Annotated[int, Ge(0)] = 0
    """Number of classes of a teacher that teaches without labels; 0 for that of its weights, where it is found."""


@dataclass(frozen=True)
class Net:
    """A network: the student or the teacher."""

    model: str = ""
    """Name of the model: from `famkd ls models`, `timm:NAME`, `torchvision:NAME`, or `hf-hub:OWNER/NAME` for a model
    of timm on the Hugging Face hub."""
    weights: Annotated[str, PLACE] = ""
    """Initial weights: a checkpoint file, a folder of the Hugging Face hub, a run directory, `recipe:NAME` (trains that
    recipe first) or `pretrained` (for torchvision also `pretrained:IMAGENET1K_V1` and so on). FILE:ema takes the
    averaged copy in a file. Random by default."""
    taps: tuple[str, ...] = ()
    """Module paths of the stages whose features are compared, shallow to deep. Found automatically by default."""
    drop: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Dropout before the classifier, of a student that takes it; 0 for the network's own."""
    drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Drop path (stochastic depth) of a student that takes it: the probability for the last block; 0 for the network's
    own."""
    patch: Annotated[int, Ge(0)] = 0
    """Side of a patch of a vision transformer, in pixels, such as 4 for images of 32 x 32; 0 for the network's own."""
    output: str = ""
    """Where the logits are in what the network returns: a key, an attribute or an index, joined by dots, such as
    `logits`, `1` or `out.logits`. Found automatically where only one part can be the logits."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, for pixels in 0..1, that the network was trained with. By default that of its pretrained
    weights or of the run that they come from, else that of the data set."""
    std: tuple[Annotated[float, Gt(0)], ...] = ()
    """Standard deviation of each channel, as for `mean`."""
    size: tuple[Annotated[int, Ge(1)], ...] = ()
    """Height and width of the network's images, or one number for both. Images are resized on the device. By default
    the data's for a student; for a teacher that of its pretrained weights or of its run, else the data's."""
    interpolation: Literal["", "bilinear", "bicubic", "nearest", "area"] = ""
    """How images are resized. By default as for the pretrained weights, else bilinear."""


@dataclass(frozen=True)
class Student(Net):
    """The network to train."""

    freeze: tuple[str, ...] = ()
    """Parts that are not trained: paths of modules or patterns, such as `conv1 layer1` or `blocks.[0-5]`. Their batch
    norms and dropout stay in eval mode."""


@dataclass(frozen=True)
class Teacher(Net):
    """The network to learn from. Not needed for method `none`."""

    finetune_head: Annotated[int, Ge(0)] = 0
    """Epochs over the training set for which the classifier alone is trained before it teaches, for weights that know
    other classes."""
    store: Annotated[str, PLACE] = ""
    """Folder of the teacher's outputs, written by `famkd store`. Training then runs no teacher. The store says which
    teacher and which augmentations it is of."""


@dataclass(frozen=True)
class Optim:
    """The optimizer, its learning rate schedule and its weight decay."""

    epochs: Annotated[int, Ge(1), tyro.conf.arg(aliases=["--epochs"])] = 240
    """Number of epochs."""
    patience: Annotated[int, Ge(0), tyro.conf.arg(aliases=["--patience"])] = 0
    """Stop training after so many epochs in a row without a better held-out figure; 0 for never. Needs `--data.val`.
    """
    name: str = "sgd"
    """Optimizer: sgd (PyTorch's own), or a name from timm such as adamw, lamb, lion, muon, adabelief or rmsprop. `famkd
    ls optimizers` lists them."""
    lr: Annotated[float, Ge(0), tyro.conf.arg(aliases=["--lr"])] = 0.05
    """Learning rate at the start, or after the warm-up."""
    schedule: Literal["step", "cosine", "linear", "onecycle", "constant"] = "step"
    """Learning rate schedule. step: multiply by `gamma` after each epoch in `steps`. cosine, linear: decay to `min_lr`.
    onecycle: rise from lr/25 to lr, then cosine decay to `min_lr`; it changes with every step. constant: no change."""
    steps: tuple[Annotated[int, Ge(1)], ...] = (150, 180, 210)
    """Epochs, counted from 1, after which the learning rate is multiplied by `gamma`."""
    gamma: Annotated[float, Ge(0)] = 0.1
    """Factor of the step schedule."""
    min_lr: Annotated[float, Ge(0)] = 0.0
    """Learning rate at which cosine, linear and onecycle end."""
    lr_warmup: Annotated[int, Ge(0)] = 0
    """Epochs of linear learning rate warm-up. For onecycle, epochs of the rise; 0 for 30 % of the training."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps of linear learning rate warm-up within the first epoch."""
    per_step: bool = False
    """Change the learning rate of cosine, linear and `lr_warmup` with every step instead of every epoch."""
    momentum: float = 0.9
    """Momentum, of optimizers that have one."""
    nesterov: bool = False
    """Use Nesterov momentum with sgd."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], ...] = ()
    """Decay rates of the moving averages of gradients, of optimizers that have them (adamw: 2 numbers). By default the
    optimizer's own."""
    eps: Annotated[float, Ge(0)] = 0.0
    """Number added to denominators, of optimizers that have one; 0 for the optimizer's own."""
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    """Weight decay. It is part of the gradient (L2 penalty) for sgd, adam, rmsprop and others, and decoupled for adamw,
    lion, muon and others."""
    decay: Literal["all", "weights"] = "all"
    """Parameters that decay. all: every trained parameter. weights: not biases, norms, position embeddings and class
    tokens."""
    layer_decay: Annotated[float, Gt(0), Le(1)] = 1.0
    """Factor of the learning rate for each layer of the student that lies between a parameter and the output."""
    clip_grad: Annotated[float, Ge(0)] = 0.0
    """Largest L2 norm of the gradient of all trained parameters together; 0 for no limit."""
    accumulate: Annotated[int, Ge(1)] = 1
    """Gradient accumulation steps per optimizer step. `batch_size` is the total over all of them."""


@dataclass(frozen=True)
class Recipe:
    """Everything that determines a training. Options of the chosen methods are sections of their own."""

    name: str = "recipe"
    """Name of the run's folder. By default the recipe's path without its extension."""
    task: str = "classification"
    """What the networks do with an image: classification, multilabel (several labels each), regression (numbers),
    detection, or unlabelled: classes that only the teacher knows."""
    student: Student = field(default_factory=Student)
    """The network to train."""
    teacher: Teacher = field(default_factory=Teacher)
    """The network to learn from. Not needed for method `none`."""
    method: str = "none"
    """Distillation method: a name from `famkd ls methods`, several names joined by +, or none."""
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    optim: Optim = field(default_factory=Optim)
    seed: Annotated[int, Ge(0), Le(LARGEST_SEED)] = 0
    """Random seed of initial weights, data order and augmentation."""
    baseline: bool = False
    """Also train the student without a teacher, for comparison."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Label smoothing: the part of each label that is spread over all classes, in the student's cross-entropy."""
    regression_loss: Literal["smooth_l1", "mse"] = "smooth_l1"
    """The student's own loss in regression, a mean over all numbers."""
    ema: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Also average the student's weights over the steps (EMA): the share of the old average that a step keeps, such as
    0.9999; 0 for no average. It rises from 0 in the first steps. The average is measured and saved beside the student.
    """
    keep: Annotated[int, Ge(1)] = 1
    """Number of best epochs whose students are kept. The best one is best.safetensors; with 2 or more, each of them is
    epoch0007.safetensors and so on."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Floating point precision. auto is bf16-mixed on a GPU that supports it, else 32-true. 16-mixed is float16 with a
    gradient scaler, for older GPUs; a step whose gradients overflow is left out."""
    accelerator: str = "auto"
    """Device type: auto, cpu, cuda or mps."""
    devices: Annotated[int, Ge(1)] = 1
    """Processes per machine, one per GPU. `batch_size` is the total over all processes. Set by torchrun and SLURM."""
    nodes: Annotated[int, Ge(1)] = 1
    """Number of machines. All of them must see the run directory. Set by torchrun and SLURM."""
    sync_bn: bool = False
    """Synchronize the batch norms of student and method over all GPUs."""
    engine: Engine = "auto"
    """How a step runs. auto is eager for fewer than 500 steps, else graph (a CUDA graph) on a GPU and compile on a CPU.
    With auto, networks that a CUDA graph cannot capture are compiled or run eagerly."""
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Loggers that receive the metrics, in addition to the run directory."""
    plugins: tuple[Annotated[str, PLACE], ...] = ()
    """Python files that register your own models, methods or data sets. A file is only imported if the command line
    names it."""

    @property
    def title(self) -> str:
        """Name and method, with which messages about a training begin."""
        return f"{self.name} {self.method}"

    @property
    def method_names(self) -> tuple[str, ...]:
        return split_methods(self.method)

    def section(self, method: str) -> Any:
        """The options of one of the recipe's methods, with `weight`, `task_weight` and `warmup`."""
        return getattr(self, method)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_yaml(self) -> str:
        """The recipe as a file that `load_recipe` reads back to an equal recipe."""
        text = yaml.safe_dump(_tuples_as_lists(self.to_dict()), sort_keys=False, allow_unicode=True)
        return f"{HEADER}\n{text}"


def split_methods(method: str) -> tuple[str, ...]:
    """Names of the methods in a sum such as `fam_review+kd`."""
    if method in ("none", ""):
        return ()
    return tuple(name.strip() for name in method.split("+"))


def _tuples_as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples_as_lists(held) for key, held in value.items()}
    return list(value) if isinstance(value, tuple) else value
