"""Training from a store: is it of the teacher that the recipe names?"""

import hashlib
from pathlib import Path

from famkd.config.recipe import Net
from famkd.errors import UserError
from famkd.store.shards import Store


def files_digest(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder; "" where there is neither."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    files = [each for each in files if each.is_file()]
    if not files:
        return ""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while part := content.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()


def must_be_same_weights(store: Store, teacher: Net, file: Path | None) -> None:
    """UserError where a store is of other weights than the recipe's.

    Args:
        file: of the recipe's weights; None for a library's pretrained ones. Where it is missing, the names of the
            weights are compared.
    """
    header = store.header
    digest = files_digest(file) if file else ""
    same = digest == header.weights_sha256 if digest else teacher.weights == header.weights
    if not same:
        raise UserError(
            f"{store.folder} is of other weights of {header.model} ({header.weights}) than {teacher.weights}: store "
            "these, or leave --teacher.weights out."
        )
