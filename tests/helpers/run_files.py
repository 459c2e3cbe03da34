"""Compare two run directories, of which one was interrupted."""

import json

from famkd.run.directory import Run


class Killed(BaseException):
    """Stands for a process that ends between two instructions."""


def files(run: Run) -> dict[str, bytes]:
    """What must not depend on when a run was interrupted; tensors by their bytes."""
    names = ["metrics.jsonl", "recipe.yaml", "student.safetensors", "best.safetensors", "method.safetensors"]
    filters = [f"filters/{epoch:04d}.safetensors" for epoch in run.filter_epochs()]
    contents = {name: (run.path / name).read_bytes() for name in names + filters if (run.path / name).is_file()}
    if "method.safetensors" in contents:  # its two notes come in any order, so: the tensors, then the notes
        length = int.from_bytes(contents["method.safetensors"][:8], "little")
        header = json.loads(contents["method.safetensors"][8 : 8 + length])
        header = json.dumps(header, sort_keys=True).encode()
        contents["method.safetensors"] = header + contents["method.safetensors"][8 + length :]
    return contents


def same(one: Run, two: Run) -> None:
    one, two = files(one), files(two)
    assert one.keys() == two.keys()
    assert [name for name in one if one[name] != two[name]] == []
