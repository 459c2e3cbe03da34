"""Files that hold no weights are named for what they are, and what to do with them is said."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from famkd.errors import UserError
from famkd.models import build_model, load_weights

NAME = "resnet8x0.5"


def as_whole_model(file: Path) -> None:
    torch.save(build_model(NAME, 5), file)


def as_whole_model_in_a_table(file: Path) -> None:
    torch.save({"epoch": 3, "model": nn.Sequential(nn.Linear(2, 2))}, file)


def as_whole_model_in_the_old_format(file: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), file, _use_new_zipfile_serialization=False)


def as_torchscript(file: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), file)


def as_program(file: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), file)


def as_onnx(file: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph, producer_name="pytorch"), file)


def as_another_protocol(file: Path) -> None:
    torch.save(build_model(NAME, 5).state_dict(), file, pickle_protocol=4)


def as_half_a_file(file: Path) -> None:
    torch.save(build_model(NAME, 5).state_dict(), file)
    file.write_bytes(file.read_bytes()[:2000])


def as_half_an_old_file(file: Path) -> None:
    torch.save(build_model(NAME, 5).state_dict(), file, _use_new_zipfile_serialization=False)
    file.write_bytes(file.read_bytes()[:2000])


def as_half_of_safetensors(file: Path) -> None:
    save_file(build_model(NAME, 5).state_dict(), file)
    file.write_bytes(file.read_bytes()[:-200])


def as_archive(file: Path) -> None:
    import zipfile

    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights/best.pth", "x")


def as_arrays(file: Path) -> None:
    with open(file, "wb") as stream:
        np.savez(stream, x=np.ones(3))


FILES = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", r"Git-LFS.*git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s12--ab.pth\n", r"git-annex.*git annex get"),
    "page": (b"\n<!DOCTYPE html>\n<html><head>\xe9</head>", r"saved web page.*download"),
    "page of a mirror": (b"<html lang='zh'>\xe4\xbd\xa0\xe5\xa5\xbd", r"saved web page"),
    "refusal of a store": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", r"saved web page"),
    "note of a server": (b"Entry not found", r'text file that begins "Entry not found"'),
    "json": (b'{"error": "Repository not found"}', r"JSON"),
    "empty": (b"", r"is empty; copy or download it again"),
    "zeros": (bytes(3000), r"zeros only.*again"),
    "cut zip": (as_half_a_file, r"is cut off.*again"),
    "cut old file": (as_half_an_old_file, r"damaged"),
    "cut safetensors": (as_half_of_safetensors, r"damaged"),
    "onnx": (as_onnx, r"ONNX.*state_dict"),
    "torchscript": (as_torchscript, r"TorchScript.*torch\.jit\.load"),
    "program": (as_program, r"torch\.export.*state_dict"),
    "whole model": (as_whole_model, r"whole pickled model \(famkd\.models\.resnet\.\w+\).*state_dict"),
    "whole model in a table": (as_whole_model_in_a_table, r"whole pickled model.*state_dict"),
    "whole model of old": (as_whole_model_in_the_old_format, r"whole pickled model.*state_dict"),
    "array": (b"\x93NUMPY\x01\x00v\x00{'descr'", r"numpy array.*torch\.save"),
    "arrays": (as_arrays, r"numpy arrays.*torch\.save"),
    "archive": (as_archive, r"zip archive of other files, weights/best\.pth among them; unpack"),
    "keras": (b"\x89HDF\r\n\x1a\n\x00\x00", r"HDF5.*Keras.*convert"),
    "lite": (b"\x1c\x00\x00\x00TFL3\x14\x00", r"TensorFlow Lite"),
    "pickle": (pickle.dumps({"model": {"w": [1.0]}}), r"pickle that torch\.save did not write"),
    "protocol": (as_another_protocol, r"another pickle_protocol"),
    "gzip": (b"\x1f\x8b\x08\x00\x00\x00", r"gzip; unpack"),
    "image": (b"\x89PNG\r\n\x1a\n\x00", r"an image"),
    "nothing known": (bytes(range(7, 255)), r"damaged"),
}


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".ckpt", ""])
@pytest.mark.parametrize("case", FILES)
def test_other_files_are_named_for_what_they_are(tmp_path, case, ending):
    content, words = FILES[case]
    file = tmp_path / f"teacher{ending}"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        content(file)
    with pytest.raises(UserError, match=words) as told:
        load_weights(build_model(NAME, 5), file)
    assert str(file) in str(told.value)
    assert "\n" not in str(told.value)
    assert "weights_only=True" not in str(told.value)


@pytest.mark.parametrize("ending", ["h5", "pb", "keras", "msgpack", "engine", "mlmodel", "data-00000-of-00001", "part"])
def test_endings_tell_the_rest(tmp_path, ending):
    file = tmp_path / f"model.{ending}"
    file.write_bytes(b"\x07\x11\xff" * 9)
    with pytest.raises(UserError, match="cannot be read as weights: it is"):
        load_weights(build_model(NAME, 5), file)


def test_a_broken_link_is_told(tmp_path):
    (tmp_path / "w.pt").symlink_to(tmp_path / "gone.pt")
    with pytest.raises(UserError, match="it is a broken link"):
        load_weights(build_model(NAME, 5), tmp_path / "w.pt")
