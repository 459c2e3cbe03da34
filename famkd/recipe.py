"""A recipe is a saved command line: file and flags -> Recipe -> file, through one parser."""

import inspect
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro
import yaml

from famkd.errors import UserError, nearest
from famkd.method import Method
from famkd.methods import METHODS


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
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """Arithmetic of the networks; auto is bf16-mixed on a GPU and 32-true elsewhere."""
    accelerator: str = "auto"
    """Where to run: auto, cpu, cuda or mps."""
    devices: int = 1
    """Processes on each machine, one per GPU; batch_size is the total over all. torchrun and SLURM tell it themselves.
    """
    nodes: int = 1
    """Machines, all of which see the run directory; torchrun and SLURM tell it themselves."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How processes work together; auto is ddp (DistributedDataParallel) where there are several."""
    sync_bn: bool = False
    """Batch norms of student and method take their statistics over all GPUs."""
    engine: Literal["auto", "eager", "compile", "graph"] = "auto"
    """How a step runs: auto is graph (one CUDA graph) on a GPU and eager elsewhere."""
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where to send metrics besides the run directory."""

    @property
    def method_names(self) -> tuple[str, ...]:
        return _method_names(self.method)

    def section(self, method: str) -> Any:
        """The options of one of the recipe's methods, with `weight`, `task_weight` and `warmup`."""
        return getattr(self, method)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_yaml(self) -> str:
        """A file that `load_recipe` turns into this very recipe."""
        plain = yaml.safe_dump(_listed(self.to_dict()), sort_keys=False, allow_unicode=True)
        return f"# resolved by famkd\n{plain}"


PLACE = ("accelerator", "devices", "nodes", "strategy", "data.workers")  # fields that do not decide what comes out

GRID = 16  # of filters in detection, whose maps differ in size from batch to batch and would fill a GPU's memory

LOOP_OPTIONS = {
    "weight": "Weight of this method's losses.",
    "task_weight": "Weight of the student's own loss beside it; of several methods the largest counts.",
    "warmup": "Epochs over which this method's weight rises linearly.",
}


def method_options(cls: type[Method]) -> dict[str, tuple[Any, Any]]:
    """Type and default of each keyword-only argument of a method: its config section."""
    hints = get_type_hints(cls.__init__)
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: (hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY}


def section_type(name: str) -> type:
    """The dataclass of a method's section: the loop's weights, then the method's own options."""
    cls = METHODS[name]
    loop = [(key, type(getattr(cls, key)), getattr(cls, key)) for key in LOOP_OPTIONS]
    own = [(key, hint, default) for key, (hint, default) in method_options(cls).items()]
    section = make_dataclass(f"{cls.__name__}Options", loop + own, frozen=True)
    summary, _, rest = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:")
    helps = "".join(f"\n    {key}: {text}" for key, text in LOOP_OPTIONS.items())
    section.__doc__ = f"{summary.splitlines()[0]}\n\nArgs:{helps}{rest}"
    return section


@cache
def recipe_type(methods: tuple[str, ...]) -> type[Recipe]:
    """`Recipe` with a section for each chosen method."""
    sections = [(name, (kind := section_type(name)), field(default_factory=kind)) for name in methods]
    return make_dataclass("Recipe", sections, bases=(Recipe,), frozen=True, namespace={"__doc__": Recipe.__doc__})


def load_recipe(source: str | Path, *flags: str) -> Recipe:
    """Read a shipped recipe by name or a YAML file by path, with command-line flags on top.

    Errors: UserError for an unknown recipe or an unreadable file; an unknown or ill-typed field, in the file as in
    the flags, ends the process with exit code 2 and the parser's own words, as a command line does.
    """
    path, name = find_recipe(str(source))
    return parse_recipe(_read_yaml(path), list(flags), name=name, prog=f"famkd train {source}")


def parse_recipe(tree: dict, flags: list[str], *, name: str, prog: str = "famkd train RECIPE") -> Recipe:
    """One frozen recipe from nested settings and flags; the flags win."""
    tree = {"name": name, **tree}
    names = _method_names(_chosen(flags, "method") or tree.get("method", "none"))
    for unknown in [n for n in names if n not in METHODS]:
        raise UserError(f"There is no method {unknown!r}.{nearest(unknown, METHODS)} See `famkd ls methods`.")
    if len(set(names)) < len(names):
        raise UserError(f"The method {'+'.join(names)} names one method twice: pass each once and raise its weight.")
    if (_chosen(flags, "task") or tree.get("task")) == "detection":
        filtered = [name for name in names if "grid" in method_options(METHODS[name])]
        tree |= {name: {"grid": str(GRID), **(tree.get(name) or {})} for name in filtered}
    chosen = {key: value for key, value in tree.items() if key in names or key not in METHODS}
    return tyro.cli(recipe_type(names), args=[*_as_flags(chosen), *flags], prog=prog, use_underscores=True)


def without_teacher(recipe: Recipe) -> Recipe:
    """The same student under the same protocol, taught by nobody."""
    kept = {f.name: getattr(recipe, f.name) for f in fields(Recipe)}
    return recipe_type(())(**kept | {"teacher": Net(), "method": "none", "baseline": False})


def shipped_recipes() -> dict[str, Path]:
    """Every recipe in the package: name to file."""
    root = Path(str(files("famkd") / "recipes"))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.yaml"))}


def find_recipe(source: str) -> tuple[Path, str]:
    """File and name of a recipe given by shipped name, by path, or by the directory of a run made from it."""
    shipped = shipped_recipes()
    if source in shipped:
        return shipped[source], source
    path = Path(source)
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    if path.is_file():
        return path, path.stem
    raise UserError(f"There is no recipe or file {source!r}.{nearest(source, shipped)} See `famkd ls recipes`.")


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Dotted names of the fields in which two recipes differ, those aside that say where to run."""
    flat = [dict(zip(*_flat(r.to_dict()))) for r in (one, other)]
    keys = (flat[0].keys() | flat[1].keys()) - set(PLACE)
    return sorted(key for key in keys if flat[0].get(key) != flat[1].get(key))


def _flat(tree: dict, prefix: str = "") -> tuple[list[str], list[Any]]:
    keys, values = [], []
    for key, value in tree.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else ([prefix + key], [value])
        keys, values = keys + inner[0], values + inner[1]
    return keys, values


def _method_names(method: str) -> tuple[str, ...]:
    return () if method in ("none", "") else tuple(name.strip() for name in method.split("+"))


def _chosen(flags: list[str], field: str) -> str | None:
    chosen = None
    for flag, value in zip(flags, [*flags[1:], ""]):
        if flag == f"--{field}":
            chosen = value
        elif flag.startswith(f"--{field}="):
            chosen = flag.partition("=")[2]
    return chosen


def _read_yaml(path: Path) -> dict:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"Cannot read the recipe {path}: {' '.join(str(error).split())}") from error
    if tree is not None and not isinstance(tree, dict):
        raise UserError(f"The recipe {path} is not a table of settings: write lines like `seed: 1`.")
    return tree or {}


def _as_flags(tree: dict, prefix: str = "") -> list[str]:
    """Nested settings, every scalar a string, as the flags that say the same."""
    flags: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flags += _as_flags(value, f"{name}.")
        elif isinstance(value, list):
            flags += [f"--{name}", *map(str, value)]
        elif value in ("true", "false"):
            parent, _, leaf = name.rpartition(".")
            flags.append(f"--{name}" if value == "true" else f"--{parent}{'.' if parent else ''}no_{leaf}")
        else:
            flags += [f"--{name}", value]
    return flags


def _listed(tree: dict) -> dict:
    return {k: _listed(v) if isinstance(v, dict) else list(v) if isinstance(v, tuple) else v for k, v in tree.items()}
