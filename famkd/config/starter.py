"""A recipe for a pair of one's own: from flags alone, and as a file with comments to start from."""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from famkd.command_line.parse import parse_known
from famkd.config.choice import Choice
from famkd.config.recipe import Recipe
from famkd.config.sections import WEIGHT_OPTIONS
from famkd.config.yaml_flags import flatten

METHOD = "fam_review"  # where a teacher is named and no method

# The settings that a new file holds, whatever their values are, each with its comment.
SHOWN = {
    "student.model": "from `famkd ls models`, timm:NAME, torchvision:NAME or hf-hub:OWNER/NAME",
    "student.weights": "a file, a run directory or pretrained; nothing for random weights",
    "teacher.model": "the network to learn from",
    "teacher.weights": "a file, a run directory, pretrained, or recipe:NAME, which trains that recipe first",
    "method": "from `famkd ls methods`; several are joined by +, none trains the student alone",
    "data.name": "from `famkd ls data`",
    "data.root": "folder or file of the data set",
    "data.batch_size": "images in a step",
    "data.val": "fraction of the training images on which the best epoch is chosen, such as 0.1; nothing for none",
    "optim.name": "from `famkd ls optimizers`",
    "optim.epochs": "",
    "optim.lr": "learning rate at the start",
    "optim.schedule": "step, cosine, linear, onecycle or constant",
    "seed": "of initial weights, order and augmentation",
    "baseline": "true trains the student alone too, for comparison",
}


@dataclass(frozen=True)
class _Network:
    model: str = ""
    weights: str = ""
    store: str = ""


@dataclass(frozen=True)
class _Pair:
    """The flags from which a recipe without a file gets its name and its method."""

    student: _Network = field(default_factory=_Network)
    teacher: _Network = field(default_factory=_Network)
    method: str = ""


def starting_settings(flags: list[str], prog: str) -> tuple[dict[str, Any], str]:
    """What a recipe without a file starts from, and its name: data set, teacher and student."""
    pair, _ = parse_known(_Pair, flags, prog=prog)
    data = parse_known(Choice, flags, prog=prog)[0].data.name
    tree = {"method": METHOD} if pair.teacher != _Network() and not pair.method else {}
    networks = "-".join(filter(None, (pair.teacher.model, pair.student.model)))
    return tree, f"{data}/{re.sub(r'[^a-zA-Z0-9_.+-]+', '_', networks) or 'student'}"


def commented(recipe: Recipe) -> str:
    """A recipe as a YAML file that explains its settings: those of `SHOWN`, and all others that are not at default."""
    values = flatten(recipe.to_dict())
    usual = flatten(type(recipe)().to_dict())
    comments = dict(SHOWN)
    for name in recipe.method_names:
        comments |= {f"{name}.{option}": text.rstrip(".") for option, text in WEIGHT_OPTIONS.items()}
    if recipe.optim.schedule == "step":
        comments["optim.steps"] = "epochs after which the learning rate falls"
    shown = [name for name in values if name in comments or (name != "name" and values[name] != usual.get(name))]
    lines = ["# a recipe for a pair of your own; `famkd train FILE --help` explains every setting"]
    section = ""
    for name in shown:
        parent, _, leaf = name.rpartition(".")
        if parent != section and parent:
            lines.append(f"{parent}:")
        section = parent
        lines.append(_line("  " * bool(parent) + leaf, values[name], comments.get(name, "")))
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any, comment: str) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = (
        "" if value == "" else yaml.safe_dump(value, default_flow_style=True, width=1000).partition("\n...")[0].strip()
    )
    return f"{name}: {text}".rstrip() + (f"  # {comment}" if comment else "")
