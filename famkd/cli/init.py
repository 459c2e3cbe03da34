"""famkd init."""

import shlex
from pathlib import Path

from famkd.command_line.values import expanded
from famkd.errors import UserError

# What a file holds before its reader puts in his own networks and images.
EXAMPLE = ("--student.model", "timm:resnet18", "--teacher.model", "timm:resnet50", "--teacher.weights", "pretrained",
           "--data", "folder", "--data.root", "path/to/images")  # fmt: skip


def init_command(argv: list[str]) -> None:
    """Write a commented recipe: famkd init [FILE] [--flag value ...], with the flags of famkd train."""
    named = bool(argv) and not argv[0].startswith("-")
    path, flags = Path(expanded(argv[0]) if named else "mine.yaml"), argv[named:]
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{path} is no name for a recipe: write famkd init mine.yaml.")
    from famkd.config.load import load_recipe
    from famkd.config.starter import commented
    from famkd.files import write_atomically

    recipe = load_recipe("", *(flags or EXAMPLE), prog="famkd init")
    if path.exists():
        raise UserError(f"{path} exists: name another file, or remove it.")
    write_atomically(path, commented(recipe).encode())
    print(f"{path}: look through it, then {shlex.join(['famkd', 'train', str(path)])}")
