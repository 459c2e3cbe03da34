"""Training from a store: is it of the teacher that the recipe names?"""

import hashlib
from pathlib import Path

from famkd.config.recipe import Net
from famkd.errors import UserError
from famkd.store.shards import Store
from famkd.training.places import weights_file


def weights_digest(net: Net, runs: str | Path = "runs") -> str:
    """SHA-256 of the file of a network's weights, or of all files of a folder; "" where there is neither."""
    if net.weights.partition(":")[0] == "pretrained":
        return ""  # a library brings them
    path, part = weights_file(net, runs)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(part.encode())
    for file in files:
        if not file.is_file():
            return ""
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def must_be_same_weights(store: Store, teacher: Net, runs: str | Path = "runs") -> None:
    """UserError where a store is of other weights than the recipe's. Without a file, the names are compared."""
    header, digest = store.header, weights_digest(teacher, runs)
    same = digest == header.weights_sha256 if digest else teacher.weights == header.weights
    if not same:
        raise UserError(
            f"{store.folder} is of other weights of {header.model} ({header.weights}) than {teacher.weights}: store "
            "these, or leave --teacher.weights out."
        )
