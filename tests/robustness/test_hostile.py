"""Files from strangers must not run code, fill the memory, write outside of their folder, or control a terminal."""

import io
import json
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.famviz_runs import make_run
from PIL import Image

import famviz
from famkd.config.load import load_recipe
from famkd.console import console, reporting
from famkd.data import build_data
from famkd.data.archives import npz
from famkd.errors import UserError, inert
from famkd.models import build_model, load_weights
from famkd.run.directory import Run
from famkd.tables import rich_table, write_table
from famviz.report import write_report

# code ------------------------------------------------------------------------------------------------------------


class Trap:
    """An object whose pickle makes a file when it is loaded unsafely."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def as_zip(content, file: Path) -> None:
    torch.save(content, file)


def as_legacy(content, file: Path) -> None:
    torch.save(content, file, _use_new_zipfile_serialization=False)


def as_pickle(content, file: Path) -> None:
    file.write_bytes(pickle.dumps(content, protocol=2))


def as_tar(content, file: Path) -> None:
    """The format of torch before 0.1.10: a tar of pickles."""
    with tarfile.open(file, "w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(content if name == "pickle" else 0, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def as_npz(content, file: Path) -> None:
    with open(file, "wb") as stream:
        np.savez(stream, x_train=np.array([content], object))


@pytest.fixture
def trap(tmp_path):
    path = tmp_path / "sprung"
    yield Trap(path)
    assert not path.exists()
    pickle.loads(pickle.dumps(Trap(path)))
    assert path.exists()  # the trap works


@pytest.mark.parametrize("ending", [".pth", ".npz", ".safetensors"])
@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle, as_tar, as_npz])
def test_no_reader_runs_code_of_a_file(trap, tmp_path, write, ending):
    file = tmp_path / f"weights{ending}"
    write({"state_dict": {"x": trap}}, file)
    with pytest.raises(UserError):
        load_weights(build_model("resnet8", 3), file)
    with pytest.raises(UserError):
        famviz.open(file)
    with pytest.raises(UserError):
        npz(str(file))


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_pickle, as_tar])
def test_resuming_runs_no_code_of_a_file(trap, tmp_path, write):
    write({"metrics": [trap]}, tmp_path / "resume.pt")
    with pytest.raises(UserError, match="damaged"):
        Run(tmp_path).read_resume()


def test_a_python_tag_in_a_recipe_makes_no_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("name: !!python/object/apply:os.mkdir sprung\n")
    assert load_recipe("a.yaml").name == "sprung"  # an ordinary word
    assert not Path("sprung").exists()


# places ----------------------------------------------------------------------------------------------------------

TITLE = "\x1b]0;owned\x07"  # sets the title of a terminal
REVERSED = "\u202egpj.exe"  # is shown from right to left


@pytest.mark.parametrize("text", [
    "name: {}\ntyro-write-completion: [bash, sprung]", "name: {}\ntyro_write_completion: [bash, sprung]", "help: true",
    "seed: [1, --help]", "student: {taps: [-h]}",
])  # fmt: skip
def test_a_recipe_cannot_use_the_flags_of_the_parser(tmp_path, monkeypatch, capsys, text):
    """They write a completion script to any path, or end the process with exit code 0."""
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(text)
    with pytest.raises(UserError):
        load_recipe("a.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "..", ".", "", "C:/x", "a\\..\\..\\x", "x" * 300, TITLE])
def test_the_name_of_a_run_stays_in_the_folder_of_runs(small, name):
    with pytest.raises(UserError, match="cannot name a folder of runs"):
        small("--name", name)


@pytest.mark.parametrize("name", ["/dev/zero", "../../etc/passwd", "C:\\x.jpg", "a\\..\\..\\x.jpg"])
def test_annotations_name_no_file_outside_of_their_folder(tmp_path, name):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    image = {"id": 1, "file_name": name, "height": 8, "width": 8}
    content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="lies outside of"):
        build_data("coco", str(tmp_path), 1)


# terminals and pages ---------------------------------------------------------------------------------------------

CONTROL = [TITLE, "\x1b[31m", "all is well\rfamkd: ", REVERSED, "two\nlines", "\x9b2J", "\u2066", "\ud800"]
MARKUP = ["[bold]", "[/bold]", "[/nothing]", ":warning:", "\\[red]", "[link=x]"]


def print_everywhere(text: str) -> None:
    """Print a text in every way that famkd prints: seven times."""
    console.print(rich_table(text, [text], [[text]]))
    console.print(text)
    with reporting(text, 1, 1) as report:
        report.epoch({"epoch": 1, "top1": 1.0}, 1.0)
    print(write_table("table", [text], [[text]], [text]))


@pytest.mark.parametrize("text", CONTROL)
def test_printed_text_does_not_control_the_terminal(text, capsys):
    print_everywhere(text)
    for form in ("markdown", "csv", "html"):
        print(write_table(form, [text], [[text]], [text]))
    print(UserError(f"There is no {text}."))
    shown = "".join(capsys.readouterr())
    assert inert(shown.replace("\n", "")) == shown.replace("\n", "")
    assert inert(text) in shown
    assert not [line for line in shown.splitlines() if line.startswith("famkd: ")]


@pytest.mark.parametrize("text", MARKUP)
def test_printed_text_is_not_read_as_markup(text, capsys):
    print_everywhere(text)
    assert "".join(capsys.readouterr()).count(text) == 8


@pytest.mark.parametrize("text", ["![x](http://x/x.png)", "[x](javascript:x)", "<img src=x>", "a\\|b", "a|b", "\\"])
def test_text_stays_in_its_cell_of_a_markdown_table(text):
    shown = write_table("markdown", ["a", "b"], [[text, "c"]], [text])
    line = shown.splitlines()[2]
    assert "](" not in shown
    assert "<" not in shown
    assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3


@pytest.mark.slow
def test_the_report_of_a_hostile_run_shows_its_texts_as_texts(tmp_path):
    run = make_run(tmp_path / f"run {REVERSED} <b>", "--data.root", "nowhere", shapes=((2, 5), (2, 4)))
    machine = {**run.machine, "device": f"<script>{TITLE}{REVERSED}", "\x1b[2J": [1]}
    (run.path / "machine.json").write_text(json.dumps(machine))
    (run.path / "recipe.yaml").write_text(f"{(run.path / 'recipe.yaml').read_text()}# {REVERSED} <script>\n")
    page = write_report(run.path, tmp_path / "r.html").read_text()
    body = page[page.index("<body>") :]
    assert body.count("<script") == page.count("<script")
    assert "<script>" not in body
    assert "<b>" not in body
    assert not any(bad in page for bad in ("\x1b", "\x07", "\u202e"))


@pytest.mark.slow
def test_a_damaged_file_leaves_the_rest_of_a_report(tmp_path):
    run = make_run(tmp_path / "run", "--data.root", "nowhere", shapes=((2, 5), (2, 4)))
    (run.path / "machine.json").write_text("[")
    page = write_report(run.path, tmp_path / "r.html").read_text()
    assert "machine.json is damaged" in page[page.index('<p class="missing">') :]
    assert "finished" in page[page.index("<h2>Curves</h2>") :]


# sizes -----------------------------------------------------------------------------------------------------------


def png_of(width: int, height: int) -> bytes:
    """A PNG of one pixel whose header claims more."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG of 8 x 8 pixels whose header claims more."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
BOMBS = {"png": png_of(12_000, 12_000), "jpeg": jpeg_of(65_500, 65_500), "postscript": POSTSCRIPT}


def folders_with(root: Path, bomb: bytes) -> str:
    """Image folders for training and validation; one training image is the given one."""
    for place in ("train/a", "train/b", "val/a"):
        (root / place).mkdir(parents=True)
        Image.new("RGB", (8, 8), (9, 9, 9)).save(root / place / "0.png")
    (root / "train/a/1.png").write_bytes(bomb)
    return str(root)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bomb", BOMBS)
def test_an_image_that_claims_too_many_pixels_is_not_decoded(tmp_path, bomb):
    root = folders_with(tmp_path, BOMBS[bomb])
    tracemalloc.start()
    with pytest.raises(UserError, match=r"1\.png cannot be read as an image"):
        build_data("folder", root, 2)
    with pytest.warns(UserWarning, match=r"1 of 4 images cannot be read and are left out: .*1\.png"):
        data = build_data("imagenet", root, 3, size=16, workers=0, unreadable="skip")
    assert len(data.labels) == 2
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def test_an_archive_that_unpacks_to_more_than_the_memory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("famkd.files.total_memory", lambda: 1 << 20)
    x, y = np.zeros((3, 1000, 1000, 3), np.uint8), np.arange(3)
    np.savez_compressed(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 16
    with pytest.raises(UserError, match=r"a\.npz: it takes 0\.0 GiB, this machine's memory has"):
        npz(str(tmp_path / "a.npz"))


def test_a_compressed_checkpoint_is_not_read(tmp_path):
    """torch writes none, and a small file could unpack to more than the memory."""
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


def shards(root: Path, label: bytes) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    for part in ("train", "val"):
        (root / part).mkdir()
        with tarfile.open(root / part / "0.tar", "w") as tar:
            for name, data in (("a.png", buffer.getvalue()), ("a.cls", label)):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(root)


@pytest.mark.parametrize("label", [b"-1", b"100000", b"9" * 5000])
def test_a_shard_cannot_ask_for_any_number_of_classes(tmp_path, label):
    with pytest.raises(UserError, match=r"hold a class that is no number from 0 to 99,999|is no name of a class"):
        build_data("imagenet", shards(tmp_path, label), 1, workers=0)


@pytest.mark.parametrize("change", [
    {"shard": np.array([7])}, {"place": np.zeros((1, 3), np.int64)}, {"keys": np.array([None])},
    {"labels": np.array([0.5])},
])  # fmt: skip
def test_an_index_of_shards_that_is_wrong_is_made_again(tmp_path, change):
    root = shards(tmp_path, b"0")
    build_data("imagenet", root, 1, workers=0)
    with np.load(tmp_path / "train/index.npz") as file:
        index = dict(file)
    np.savez(tmp_path / "train/index.npz", **{**index, **change})
    data = build_data("imagenet", root, 1, size=8, workers=0)
    assert len(data.labels) == 1
    assert data.probe().images.shape == (1, 3, 8, 8)
