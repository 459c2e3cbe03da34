"""Name files that are not weights of PyTorch for what they are, and say how to get at the weights."""

import os
import re
import zipfile
from pathlib import Path

HEAD = 1024  # bytes at the start of a file that tell its kind

CONVERT = "convert its weights to PyTorch first"
FROM_SOURCE = 'use the network that it was made from, saved by torch.save(model.state_dict(), "weights.pt")'
UNPACK = "unpack it first"
PAGE = "is a saved web page, not the file itself; use the page's download button or raw link"
KERAS = f"is a file of Keras; {CONVERT}"
TORCHSCRIPT = (
    "is a TorchScript program; where you trust it, save its weights by "
    'torch.save(torch.jit.load("FILE").state_dict(), "weights.pt")'
)

# What a file is and what to do, by the bytes that it starts with.
STARTS: dict[bytes, str] = {
    b"version https://git-lfs.github.com/spec/": "is a Git-LFS pointer, not the file itself; run `git lfs pull` in its "
    "repository",
    b"\x93NUMPY": "is a numpy array; save the weights by name with torch.save or safetensors",
    b"\x89HDF\r\n\x1a\n": f"is an HDF5 file, as Keras and TensorFlow write it; {CONVERT}",
    b"GGUF": "is a GGUF file of llama.cpp; use the original weights of PyTorch",
    b"\x1f\x8b": f"is compressed by gzip; {UNPACK}",
    b"BZh": f"is compressed by bzip2; {UNPACK}",
    b"\xfd7zXZ\x00": f"is compressed by xz; {UNPACK}",
    b"\x28\xb5\x2f\xfd": f"is compressed by zstd; {UNPACK}",
    b"7z\xbc\xaf\x27\x1c": f"is a 7z archive; {UNPACK}",
    b"Rar!": f"is a RAR archive; {UNPACK}",
    b"\x89PNG": "is an image; name the file of the weights",
    b"\xff\xd8\xff": "is an image; name the file of the weights",
    b"%PDF": "is a PDF document; name the file of the weights",
}

# The same for text, by a pattern of its beginning.
TEXTS: dict[str, str] = {
    r"<\?xml.*<net\b": f"is a network of OpenVINO; {FROM_SOURCE}",
    r"<(!doctype|html|head|body|script|meta|\?xml|error|!--)": PAGE,
    r"(\.\./|/)*(\.git/)?annex/objects/": "is a git-annex pointer, not the file itself; run `git annex get` on it",
    r'model_checkpoint_path:\s*"': f"is the index of a TensorFlow checkpoint; {CONVERT}",
    r"[{\[]": "is a JSON file; name the file of the weights",
}

# The same for binary files, by a pattern of their beginning.
BINARIES: dict[bytes, str] = {
    rb"\0+$": "holds zeros only, as after an interrupted copy; copy or download it again",
    rb".{4}TFL3": f"is a model of TensorFlow Lite; {FROM_SOURCE}",
    rb".{4}ET\d\d": f"is a program of ExecuTorch; {FROM_SOURCE}",
    # a protobuf: the version of the format, then the name of the program that wrote it, or the graph
    rb"\x08[\x01-\x20]\x12[\x01-\x40][\w .-]+[\x1a\x22\x2a\x32\x3a\x42]": f"is an ONNX model; {FROM_SOURCE}",
    rb"\x08[\x01-\x20]\x3a.{1,10}\x0a": f"is an ONNX model; {FROM_SOURCE}",
}

# The same for zip archives, by a pattern of a name in them.
ARCHIVES: dict[str, str] = {
    r"([^/]*/)?(serialized_exported_program\.json|models/.*\.json|archive_format)$": "is a program of torch.export; "
    + FROM_SOURCE,
    r"([^/]*/)?(code/|constants\.pkl|bytecode\.pkl)": TORCHSCRIPT,
    r"model\.weights\.h5$": KERAS,
    r".*\.npy$": "is an archive of numpy arrays; save the weights by name with torch.save or safetensors",
}

# The same for kinds that their beginning does not tell, by the ending of the name.
ENDINGS: dict[str, str] = {
    ".onnx": f"is an ONNX model; {FROM_SOURCE}",
    ".pb": f"is a TensorFlow graph; {CONVERT}",
    ".h5": KERAS,
    ".keras": KERAS,
    ".index": f"is a part of a TensorFlow checkpoint; {CONVERT}",
    ".msgpack": f"is a file of Flax; {CONVERT}",
    ".engine": f"is a TensorRT engine; {FROM_SOURCE}",
    ".plan": f"is a TensorRT engine; {FROM_SOURCE}",
    ".mlmodel": f"is a model of Core ML; {FROM_SOURCE}",
    ".pdparams": f"is a file of PaddlePaddle; {CONVERT}",
    ".crdownload": "is an unfinished download; download it again",
    ".part": "is an unfinished download; download it again",
    ".incomplete": "is an unfinished download; download it again",
}


def foreign_kind(path: Path) -> str:
    """What a file is and what to do, such as "is empty; copy or download it again"; "" if PyTorch may have written it.

    Nothing but names and the first bytes are read.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head:
        return "is empty; copy or download it again"
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _archive_kind(path)
    text = _as_text(head)
    if text:
        return _matching(TEXTS, text) or _some_text(text)
    for pattern, kind in BINARIES.items():
        if re.match(pattern, head, re.DOTALL):
            return kind
    if re.search(r"\.data-\d+-of-\d+$", path.name):
        return ENDINGS[".index"]
    return ENDINGS.get(path.suffix.lower(), "")


def is_safetensors(path: Path) -> bool:
    """Whether a file starts as safetensors does: with the length of a JSON table, then the table."""
    with open(path, "rb") as file:
        length, brace = file.read(8), file.read(1)
    return brace == b"{" and 2 <= int.from_bytes(length, "little") <= os.path.getsize(path)


def is_torch(path: Path) -> bool:
    """Whether a file starts as those of torch.save do: as a zip archive, a pickle or, long ago, a tar archive."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    return head.startswith((b"PK", b"\x80")) or head[257:262] == b"ustar"


def _archive_kind(path: Path) -> str:
    """What a zip archive is, if torch.save did not write it; "" if it did."""
    if not zipfile.is_zipfile(path):
        return "is cut off; it has a beginning but no end, so copy or download it again"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    for name in names:
        kind = _matching(ARCHIVES, name)
        if kind:
            return kind
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return ""
    return f"is a zip archive of other files, {names[0]} among them; {UNPACK}" if names else "is an empty archive"


def _as_text(head: bytes) -> str:
    """The beginning of a text file without leading blanks; "" for a binary file."""
    if re.search(rb"[\x00-\x08\x0e-\x1a]", head):
        return ""
    text = head.decode("utf-8-sig", errors="ignore")  # the last character may be cut
    return text.lstrip() if len(text.encode()) > 0.9 * len(head) - 6 else ""


def _some_text(text: str) -> str:
    first = " ".join(text.split())[:40]
    return f'is a text file that begins "{first}"; name the file of the weights, or download it again'


def _matching(kinds: dict[str, str], text: str) -> str:
    """The kind whose pattern a text begins with, or ""."""
    for pattern, kind in kinds.items():
        if re.match(pattern, text, re.IGNORECASE | re.DOTALL):
            return kind
    return ""
