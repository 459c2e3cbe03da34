"""What strangers may send: files that would run code, fill a machine, or write outside of their place."""

import csv
import io
import json
import pickle
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.famviz_runs import make_run
from PIL import Image

import famviz
from famkd.cli import main
from famkd.config.load import load_recipe
from famkd.console import console, reporting, table
from famkd.data import build_data
from famkd.data.small import npz
from famkd.data.transforms import decoded
from famkd.errors import UserError, inert
from famkd.files import total_memory
from famkd.models import build_model, load_weights
from famkd.run.directory import Run
from famkd.tables import write_table
from famkd.training.loop import train
from famviz.report import write_report

TITLE, COLOUR, TURNED = "\x1b]0;owned\x07", "\x1b[31m", "\u202egpj.exe"
ODD = [TITLE, COLOUR, "all is well\rfamkd: ", TURNED, "two\nlines", "\x9b2J", "\u2066", "\ud800"]
MARKUP = ["[bold]", "[/bold]", "[/nothing]", ":warning:", "\\[red]", "[link=x]"]


class Trap:
    """A pickle that makes a file when it is read unsafely."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def as_zip(content, file: Path):
    torch.save(content, file)


def as_legacy(content, file: Path):
    torch.save(content, file, _use_new_zipfile_serialization=False)


def as_pickle(content, file: Path):
    file.write_bytes(pickle.dumps(content, protocol=2))


def as_tar(content, file: Path):
    """The form of torch before 0.1.10: a tar of pickles."""
    with tarfile.open(file, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(content if name == "pickle" else 0, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def as_npz(content, file: Path):
    with open(file, "wb") as stream:
        np.savez(stream, x_train=np.array([content], object))


@pytest.fixture
def trap(tmp_path):
    path = tmp_path / "sprung"
    yield Trap(path)
    assert not path.exists()
    pickle.loads(pickle.dumps(Trap(path)))
    assert path.exists()  # it was a real one


@pytest.mark.parametrize("ending", [".pth", ".npz", ".safetensors"])
@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle, as_tar, as_npz])
def test_no_reader_runs_what_a_file_says(trap, small, write, ending):
    file = Path(f"weights{ending}")
    write({"state_dict": {"x": trap}}, file)
    start = ["--student.weights", str(file)]
    taught = ["--method", "kd", "--teacher.model", "resnet8", "--teacher.weights", str(file)]
    for read in (
        lambda: load_weights(build_model("resnet8", 3), file),
        lambda: famviz.open(file),
        lambda: npz(str(file)),
        lambda: train(small(*start)),
        lambda: train(small(*taught)),
    ):
        with pytest.raises(UserError):
            read()
    data = ["--data", "npz", "--root", str(small().data.root)]
    with pytest.raises(SystemExit) as ended:
        main(["eval", "--model", "resnet8x0.5", "--weights", str(file), *data])
    assert ended.value.code == 2


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle, as_tar])
def test_a_run_that_is_resumed_runs_no_code(trap, small, write):
    run = Run("run")
    run.path.mkdir()
    write({"metrics": [trap]}, Path("run/resume.pt"))
    with pytest.raises(UserError, match="damaged"):
        run.read_resume()


def test_a_recipe_cannot_use_the_parsers_own_flags(tmp_path, monkeypatch, capsys):
    """They write a completion script to any path, or end the process as if all were well."""
    monkeypatch.chdir(tmp_path)
    for text in ("name: {}\ntyro-write-completion: [bash, sprung]", "name: {}\ntyro_write_completion: [bash, sprung]",
                 "help: true", "seed: [1, --help]", "student: {taps: [-h]}"):  # fmt: skip
        Path("a.yaml").write_text(text)
        with pytest.raises(UserError):
            load_recipe("a.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("text", "words"), [
    ("a: &a [x]\nb: *a", r"\*a stands for another value"),
    ("seed: 1\nseed: 2", "'seed' is set twice"),
    ("optim: {lr: 1, lr: 2}", "'lr' is set twice"),
    ("<<: {seed: 1}", "'<<' is no name of a setting"),
    ("1: 2", "'1' is no name of a setting"),
    ("? [a, b]\n: c", "unhashable key"),
    ("[" * 3000, "nests too deep"),
    ("# " + "x" * 40_000, "larger than 32,768 bytes"),
    ('name: "\\e]0;owned\\a"', "characters that cannot be printed"),
    ('"\\u202e": 1', "characters that cannot be printed"),
    ("method: [kd, at]", "The setting method is one word"),
    ("data: {sides: [[1], 2]}", "The setting data.sides cannot hold"),
])  # fmt: skip
def test_yaml_that_is_more_than_settings_is_told(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=words):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize("content", [b"\x00\x01\x02\xff", b"\x89PNG\r\n\x1a\n", "häßlich".encode("utf-16"), b"a: \xff"])
def test_binary_files_are_no_recipes(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(UserError, match="Cannot read the recipe"):
        load_recipe(tmp_path / "a.yaml")


def test_a_tag_of_python_makes_no_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("name: !!python/object/apply:os.mkdir sprung\n")
    assert load_recipe("a.yaml").name == "sprung"  # a word like any other
    assert not Path("sprung").exists()


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..", ".", "", "C:/x", "a\\..\\..\\x", "x" * 300, TITLE])
def test_a_name_stays_in_the_folder_of_runs(small, name):
    with pytest.raises(UserError, match="cannot name a folder of runs"):
        small("--name", name)


@pytest.mark.parametrize("source", ["x" * 300, "x" * 300 + ".yaml", "a\0b", "."])
def test_what_no_file_can_be_called_is_no_recipe(small, source):
    with pytest.raises(UserError, match="There is no recipe"):
        load_recipe(source)
    with pytest.raises(UserError, match="no file of weights"):
        load_weights(build_model("resnet8", 3), source)


@pytest.mark.parametrize("text", ODD)
def test_whatever_is_printed_is_obeyed_by_no_terminal(text, capsys):
    table(text, ["", text], [[text, text]])
    console.print(text)
    with reporting(text, 1, 1) as report:
        report.epoch({"epoch": 1, "top1": 1.0}, 1.0)
    for form in ("table", "markdown", "csv", "html"):
        print(write_table(form, [text], [[text]], [text]))
    print(UserError(f"There is no {text}."))
    shown = capsys.readouterr().out
    assert inert(shown.replace("\n", "")) == shown.replace("\n", "")
    assert inert(text) in shown
    assert "famkd: " not in {line[:7] for line in shown.splitlines()}


@pytest.mark.parametrize("text", MARKUP)
def test_whatever_is_printed_is_no_markup(text, capsys):
    table(text, [text], [[text]])
    console.print(f"{text} done")
    with reporting(text, 1, 1) as report:
        report.epoch({"epoch": 1, "top1": 1.0}, 1.0)
    print(write_table("table", [text], [[text]], [text]))
    assert capsys.readouterr().out.count(text) == 8


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(1)", " =1", "＝1", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(text):
    (row,) = csv.reader(io.StringIO(write_table("csv", [text], [], [])))
    assert not row[0].lstrip().startswith(tuple("=+-@＝"))
    assert inert(text).strip() in row[0]


def test_numbers_in_cells_stay_numbers():
    numbers = ["-1.5", "+0.25", "-1e-05", "nan", "-inf", "", "3"]
    assert write_table("csv", numbers, [], []) == ",".join(numbers) + "\n"


@pytest.mark.parametrize("text", ["![x](http://x/x.png)", "[x](javascript:x)", "<img src=x>", "a\\|b", "a|b", "\\"])
def test_no_cell_of_markdown_is_more_than_a_cell(text):
    shown = write_table("markdown", ["a", "b"], [[text, "c"]], [text])
    line = shown.splitlines()[2]
    assert "](" not in shown
    assert "<" not in shown
    assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_a_report_of_a_hostile_run_is_text(tmp_path):
    run = make_run(tmp_path / f"run {TURNED} <b>", "--data.root", "nowhere", shapes=((2, 5), (2, 4)))
    machine = {**run.machine, "device": f"<script>{TITLE}{TURNED}", "\x1b[2J": [1]}
    (run.path / "machine.json").write_text(json.dumps(machine))
    (run.path / "recipe.yaml").write_text(f"{(run.path / 'recipe.yaml').read_text()}# {TURNED} <script>\n")
    page = write_report(run.path, tmp_path / "r.html").read_text()
    body = page[page.index("<body>") :]
    assert body.count("<script") == page.count("<script")
    assert "<script>" not in body
    assert "<b>" not in body
    assert not any(bad in page for bad in ("\x1b", "\x07", "\u202e"))


def test_a_damaged_part_leaves_the_rest_of_a_report(tmp_path):
    run = make_run(tmp_path / "run", "--data.root", "nowhere", shapes=((2, 5), (2, 4)))
    (run.path / "machine.json").write_text("[")
    page = write_report(run.path, tmp_path / "r.html").read_text()
    assert "machine.json is damaged" in page[page.index("<h2>Machine</h2>") :]
    assert "<svg" in page[page.index("<h2>Curves</h2>") :]


def png_of(width: int, height: int) -> bytes:
    """A PNG of one pixel that claims to have many."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def jpeg_of(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
BOMBS = {"png": png_of(12_000, 12_000), "larger png": png_of(60_000, 60_000), "jpeg": jpeg_of(65_500, 65_500),
         "postscript": POSTSCRIPT}  # fmt: skip


def pictures(root: Path, extra: dict[str, bytes]) -> str:
    for place in ("train/a", "train/b", "val/a"):
        (root / place).mkdir(parents=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(root / place / "0.png")
    for name, data in extra.items():
        (root / name).write_bytes(data)
    return str(root)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_picture_that_claims_too_much_is_never_decoded(tmp_path, bomb):
    assert Image.open(io.BytesIO(BOMBS["png"])).size == (12_000, 12_000)  # Pillow itself would
    root = pictures(tmp_path, {"train/a/1.png": BOMBS[bomb]})
    tracemalloc.start()
    for place in (root, f"{root}@16"):
        with pytest.raises(UserError, match=r"1\.png cannot be read as an image"):
            build_data("folder", place, 2)
    data = build_data("imagenet", root, 3, size=16, workers=0)
    with pytest.warns(UserWarning, match=r"1 training images cannot be read and are skipped, the first .*1\.png"):
        assert sum(len(data.take(piece).images) for piece in data.epoch(1)) == 3
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_the_device_is_not_handed_a_picture_that_claims_too_much(tmp_path):
    from famkd.data.folders import FolderSource
    from famkd.data.loader import FileImages

    root = pictures(tmp_path, {"train/a/0.jpg": BOMBS["jpeg"]})
    items = FileImages(FolderSource(Path(root) / "train", ["a", "b"]), 16, 0, False, raw=True)
    assert items.one(0, 0) == (None, 0, [0])
    assert items.one(0, 1)[1:] == (1, [])


def test_a_line_of_pixels_does_not_become_gigabytes(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (1, 60_000)).save(buffer, "PNG")
    data = build_data("imagenet", pictures(tmp_path, {"val/a/1.png": buffer.getvalue()}), 2, size=200, workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it may be shown or left out
        assert 1 <= sum(len(batch.images) for batch in data.test()) <= 2


def test_a_set_larger_than_the_memory_is_refused_before_it_is_read(tmp_path):
    with pytest.raises(UserError, match=r"too large to be held: it takes .* GiB"):
        build_data("folder", f"{pictures(tmp_path, {})}@99999", 2)


def test_a_picture_is_a_picture_whatever_it_is_called():
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF"):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 3)).save(buffer, kind)
        assert decoded(buffer.getvalue()).size == (4, 3)


def arrays(**changes) -> dict[str, np.ndarray]:
    x, y = np.zeros((3, 4, 4, 3), np.uint8), np.arange(3)
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **changes}


def header(shape, kind: str) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(("shape", "kind", "words"), [
    ((10**6, 10**6), "|u1", "claims to be"), ((1 << 62, 4), "|u1", "claims to be"),
    ((10**12,), "<U0", "claims to be"), ((-1, 4, 4, 3), "|u1", "negative"), ((3,), "|O", "Object arrays cannot"),
])  # fmt: skip
def test_an_array_that_claims_too_much_is_never_allocated(tmp_path, shape, kind, words):
    file = tmp_path / "a.npz"
    np.savez(file, **arrays())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("class_names.npy", header(shape, kind))
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"Cannot read .*a\.npz: .*{words}"):
        npz(str(file))
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_an_archive_that_would_unpack_to_more_than_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("famkd.files.total_memory", lambda: 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", **arrays(x_train=np.zeros((3, 1000, 1000, 3), np.uint8)))
    assert (tmp_path / "a.npz").stat().st_size < 1 << 16
    with pytest.raises(UserError, match=r"a\.npz: it takes 0\.0 GiB, this machine's memory has"):
        npz(str(tmp_path / "a.npz"))


def test_memory_is_that_of_a_machine():
    assert total_memory() > 1 << 28


@pytest.mark.parametrize(("changes", "words"), [
    ({"class_names": np.array("abc")}, "class_names is .* it must be a row of texts"),
    ({"class_names": np.array([["a", "b", "c"]])}, "it must be a row of texts"),
    ({"class_names": np.zeros(3)}, "it must be a row of texts"),
    ({"y_train": np.array(1)}, "give one label each"),
    ({"y_train": np.array([0, 1, 10**17])}, "class indices from 0, as integers below 100,000"),
    ({"y_test": np.array([0, 1, 2**64 - 1], np.uint64)}, "integers below 100,000"),
    ({"x_train": np.zeros((3, 0, 4, 3), np.uint8)}, r"3 images, \(0, 4, 3\) each"),
])  # fmt: skip
def test_arrays_of_the_wrong_kind_are_refused(tmp_path, changes, words):
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(UserError, match=words):
        npz(str(tmp_path / "a.npz"))


def test_an_encrypted_archive_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    data = bytearray((tmp_path / "a.npz").read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := data.find(mark, at + 1)) >= 0:
            data[at + place] |= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(UserError, match="encrypted"):
        npz(str(tmp_path / "a.npz"))


def test_a_checkpoint_that_unpacks_to_more_than_it_is_is_not_read(tmp_path):
    state = build_model("resnet8", 3).state_dict()
    torch.save({key: torch.zeros_like(value) for key, value in state.items()}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(
        tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED
    ) as small:  # fmt: skip
        for info in plain.infolist():
            small.writestr(info.filename, plain.read(info))
    load_weights(build_model("resnet8", 3), tmp_path / "plain.pt")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load_weights(build_model("resnet8", 3), tmp_path / "small.pt")
    with pytest.raises(UserError, match="no checkpoint"):
        famviz.open(tmp_path / "small.pt")


def test_a_tensor_without_memory_of_its_own_is_no_filter(tmp_path):
    claimed = torch.zeros(1, dtype=torch.cfloat).expand(10**5, 10**5, 8, 8)
    torch.save({"atfs.0.conv2.0.weights1": claimed}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no frequency attention"):
        famviz.open(tmp_path / "a.pth")


def safetensors_of(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + b"aaaa"


ONE = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADERS = {
    "2^63 bytes": safetensors_of(b"{}", 1 << 63), "2^64 - 1 bytes": safetensors_of(b"{}", (1 << 64) - 1),
    "a tensor of 4 terabytes": safetensors_of(
        b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'),
    "a shape beyond 64 bits": safetensors_of(
        b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}}'),
    "overlapping tensors": safetensors_of(b'{"a":' + ONE + b',"b":' + ONE + b"}"),
    "a name twice": safetensors_of(b'{"a":' + ONE + b',"a":' + ONE + b"}"),
    "NaN": safetensors_of(b'{"a":NaN}'), "depth": safetensors_of(b"[" * 100_000),
    "no text": safetensors_of(b"\xff\xfe{}"), "negative size": safetensors_of(ONE.replace(b"[1]", b"[-1]")),
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_headers_of_safetensors_are_not_believed(tmp_path, what):
    file = tmp_path / "student.safetensors"
    file.write_bytes(HEADERS[what])
    with pytest.raises(UserError):
        load_weights(build_model("resnet8", 3), file)
    try:
        state = Run(tmp_path).student_state()
    except UserError as error:
        assert "student.safetensors is damaged" in str(error)  # noqa: PT017
    else:
        assert what == "a name twice"
        assert list(state) == ["a"]


@pytest.mark.parametrize("name", ["/dev/zero", "../../etc/passwd", "C:\\x.jpg", "a\\..\\..\\x.jpg"])
def test_annotations_name_no_file_outside_of_their_folder(tmp_path, name):
    for part in ("annotations", "val2017"):
        (tmp_path / part).mkdir()
    image = {"id": 1, "file_name": name, "height": 8, "width": 8}
    content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="lies outside of"):
        build_data("coco", str(tmp_path), 1)


def shards(root: Path, cls: bytes = b"0") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    for part in ("train", "val"):
        (root / part).mkdir()
        with tarfile.open(root / part / "0.tar", "w") as tar:
            for name, data in (("a.png", buffer.getvalue()), ("a.cls", cls)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(root)


@pytest.mark.parametrize("cls", [b"-1", b"100000", b"9" * 30, b"9" * 5000])
def test_shards_name_no_absurd_class(tmp_path, cls):
    with pytest.raises(UserError, match=r"hold a class that is no number from 0 to 99,999|Cannot read"):
        build_data("imagenet", shards(tmp_path, cls), 1, workers=0)


@pytest.mark.parametrize("change", [
    {"shard": np.array([7])}, {"place": np.zeros((1, 3), np.int64)}, {"labels": np.zeros(2, np.int64)},
    {"keys": np.array([None])}, {"labels": np.array([0.5])}, {"place": np.array(3)},
])  # fmt: skip
def test_an_index_that_leads_astray_is_made_again(tmp_path, change):
    root = shards(tmp_path)
    build_data("imagenet", root, 1, workers=0)
    with np.load(tmp_path / "train/index.npz") as file:
        index = dict(file)
    np.savez(tmp_path / "train/index.npz", **{**index, **change})
    data = build_data("imagenet", root, 1, size=8, workers=0)
    assert len(data.labels) == 1
    assert data.probe().images.shape == (1, 3, 8, 8)
