"""Read the file that --resume continues from."""

import zipfile
from pathlib import Path
from typing import Any

import torch


def load_resume(path: Path) -> dict[str, Any]:
    """Load a state; any exception means that the file is damaged."""
    with zipfile.ZipFile(path) as archive:
        if any(part.compress_type for part in archive.infolist()):
            raise ValueError("it is compressed")  # torch.save compresses nothing
        broken = archive.testzip()  # torch.load does not check checksums
        if broken:
            raise ValueError(f"the checksum of {broken} does not match")
    return torch.load(path, map_location="cpu", weights_only=True)
