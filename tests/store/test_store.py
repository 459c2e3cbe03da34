"""A stored teacher gives the losses of a live one, is written once, and is refused for anything that it is not of."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.run_files import Killed, kill_after_each_epoch, same

from famkd.cli import main
from famkd.config.load import load_recipe
from famkd.config.recipe import Recipe
from famkd.config.validate import validated
from famkd.distill.distiller import Distiller
from famkd.errors import UserError
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.store.columns import decode_logits, encode
from famkd.store.header import read_header, shard_path
from famkd.store.shards import Store
from famkd.training import storable
from famkd.training import store as writing
from famkd.training.build import build_distiller, build_training_data
from famkd.training.loop import train
from famkd.training.store import StoreOptions, store_teacher

TEACHER = ("--teacher.model", "resnet8", "--teacher.weights", "teacher.pt")
KINDS = ("stages", "preact", "embed", "last")
ALL = StoreOptions(KINDS)


@pytest.fixture(scope="session")
def whole(tmp_path_factory, few_digits) -> Path:
    """A folder with a teacher's weights and `all`, its stored logits and features under two views, in small shards."""
    place = tmp_path_factory.mktemp("whole")
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), place / "teacher.pt")
    before = Path.cwd()
    os.chdir(place)
    try:
        Path("small.yaml").write_text(
            f"student: {{model: resnet8x0.5}}\nteacher: {{model: resnet8, weights: teacher.pt}}\nmethod: kd\n"
            f"data: {{name: npz, root: {few_digits}, batch_size: 16}}\noptim: {{epochs: 3, lr: 0.05, steps: [2]}}\n"
        )
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(storable, "SHARD_ROWS", 20)
            store_teacher(load_recipe("small.yaml", "--views", "2"), "all", ALL)
    finally:
        os.chdir(before)
    return place


@pytest.fixture
def here(tmp_path, whole, monkeypatch) -> Path:
    """An empty folder with the recipe, the weights and the store of `whole`."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(*flags: str) -> Recipe:
    return validated(load_recipe("small.yaml", *flags))


def both(method: str) -> tuple[Distiller, Distiller, list]:
    """A live and a stored distiller with equal weights, and pairs of batches that show the same images."""
    live, stored = recipe("--method", method, "--views", "2"), recipe("--method", method, "--teacher.store", "all")
    built = []
    for each in (live, stored):
        data = build_training_data(each)
        torch.manual_seed(1)
        built.append((build_distiller(each, data, fold=True), data))
    (one, one_data), (other, other_data) = built
    other.load_state_dict(one.state_dict())
    pairs = []
    for epoch in (1, 2, 3):
        for piece, taught in zip(one_data.epoch(epoch), other_data.epoch(epoch), strict=True):
            pairs.append((one_data.take(piece), other_data.take(taught)))
    return one, other, pairs


# the losses -------------------------------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_of_a_live_teacher_but_for_rounding(here, method):
    live, stored, pairs = both(method)
    assert stored.teacher is None
    for one, other in pairs[:: max(1, len(pairs) // 3)]:
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.index, other.index)
        torch.manual_seed(3)  # crd draws negatives
        expected = live(one)[0][method]
        torch.manual_seed(3)
        found = stored(other)[0][method]
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=4e-3, atol=4e-4)


def test_every_epoch_reads_the_outputs_of_its_own_view(here):
    data = build_training_data(recipe("--teacher.store", "all"))
    epochs = []
    for number in (1, 2, 3):
        batches = [data.take(piece) for piece in data.epoch(number)]
        index, logits = (torch.cat(parts) for parts in zip(*((batch.index, batch.teacher[0]) for batch in batches)))
        epochs.append((index, logits[index.argsort()]))
    (one, first), (_, second), (other, third) = epochs
    assert torch.equal(first, third)
    assert (first != second).any(1).sum() > 40  # of 48 images
    assert not torch.equal(one, other)


def test_top_logits_keep_their_probabilities_and_the_others_share_the_rest():
    torch.manual_seed(0)
    logits = 3 * torch.randn(7, 20)
    columns = encode(logits, {}, topk=4, dtype=torch.float32)
    assert [(tuple(value.shape), value.dtype) for value in columns.values()] == [
        ((7, 4), torch.int32), ((7, 4), torch.float32), ((7, 1), torch.float32)
    ]  # fmt: skip
    found = decode_logits([columns[name] for name in ("logits.top", "logits.classes", "logits.rest")], 20)
    wanted, kept = logits.softmax(1), logits.topk(4, 1).indices
    torch.testing.assert_close(found.softmax(1).gather(1, kept), wanted.gather(1, kept))
    rest = found.softmax(1).scatter(1, kept, 0.0)
    shares = (1 - wanted.gather(1, kept).sum(1, keepdim=True)) / 16
    torch.testing.assert_close(rest[rest > 0].view(7, 16), shares.expand(7, 16))


def test_a_store_of_top_logits_trains(here, capsys):
    store_teacher(load_recipe("small.yaml", "--views", "1"), "top", StoreOptions(topk=1))
    assert "1 logits: 8 bytes an image, 384 bytes in all" in capsys.readouterr().err
    rows = train(recipe("--teacher.store", "top", "--epochs", "1"), out="run").metrics()
    assert rows[0]["kd.kd"] > 0
    with pytest.raises(UserError, match=r"--topk 3 keeps all logits of 3 classes: leave it out"):
        store_teacher(load_recipe("small.yaml", "--views", "1"), "other", StoreOptions(topk=3))


# training ---------------------------------------------------------------------------------------------------------


def test_a_training_from_a_store_names_its_teacher_and_its_views(here, capsys):
    Path("teacher.pt").unlink()  # it is not needed any more
    run = train(recipe("--teacher.store", "all", "--method", "fam_review+kd"), out="run")
    assert "teacher top1" in capsys.readouterr().err
    assert run.recipe.teacher.model == "resnet8"
    assert run.recipe.teacher.weights == "teacher.pt"
    assert (run.recipe.data.views, run.recipe.data.views_seed) == (2, 0)
    assert run.teacher == read_header("all").figures
    assert [row["kd.kd"] > 0 for row in run.metrics()] == [True] * 3


def test_students_methods_and_seeds_share_one_store(here):
    before = {path: path.read_bytes() for path in Path("all").rglob("*.safetensors")}
    runs = [
        train(recipe("--teacher.store", "all", "--epochs", "1", *flags), out=f"run{n}")
        for n, flags in enumerate((
            ("--seed", "0"), ("--seed", "1"), ("--method", "simkd"), ("--student.model", "resnet8"),
            ("--data.batch_size", "48"), ("--optim.accumulate", "2"),
        ))
    ]  # fmt: skip
    assert all(run.finished for run in runs)
    assert runs[0].metrics() != runs[1].metrics()
    assert {path: path.read_bytes() for path in Path("all").rglob("*.safetensors")} == before


@pytest.mark.slow
def test_a_training_from_a_store_goes_on_as_if_undisturbed(here, monkeypatch):
    chosen = recipe("--teacher.store", "all", "--method", "fam_review")
    undisturbed = train(chosen, out="undisturbed")
    kill_after_each_epoch(monkeypatch)
    for done in (1, 2, 3):
        torch.manual_seed(done)
        with pytest.raises(Killed):
            train(chosen, out="steps", resume=True)
    monkeypatch.undo()
    os.chdir(here)
    same(undisturbed, train(chosen, out="steps", resume=True))


@pytest.mark.slow
def test_several_processes_read_one_store_at_once(here, background):
    from helpers.processes import finish

    flags = ("--teacher.store", "all", "--epochs", "2", "--optim.steps")
    started = [
        background("-m", "famkd", "train", "small.yaml", "--out", f"run{n}", *flags, *more)
        for n, more in enumerate(((), ("--devices", "2")))
    ]
    for process in started:
        code, _, err = finish(process)
        assert code == 0, err


# what is refused --------------------------------------------------------------------------------------------------


def test_a_damaged_shard_is_named(here):
    path = shard_path(Path("all"), 2, 1)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path} is damaged: delete it and run the same `famkd store` command again"):
        train(recipe("--teacher.store", "all"), out="run")
    for broken in (content[:-100], b""):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=f"{path} is damaged"):
            train(recipe("--teacher.store", "all"), out=f"run{len(broken)}")
    path.unlink()
    with pytest.raises(UserError, match="all is unfinished, 5 of 6 shards: run the same `famkd store` command again"):
        train(recipe("--teacher.store", "all"), out="run-unfinished")
    header = Path("all/store.json")
    header.write_text(header.read_text()[:40])
    with pytest.raises(UserError, match=r"all/store\.json cannot be read"):
        recipe("--teacher.store", "all")


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "words"), [
    (("--teacher.model", "resnet20"), "all is of the teacher resnet8, not of resnet20"),
    (("--teacher.weights", "other.pt"), r"all is of other weights of resnet8 \(teacher.pt\) than other.pt"),
    (("--data.root", "order.npz"), "all is of 3 classes, in another order"),
    (("--data.root", "names.npz"), "all is of 3 classes, not these"),
    (("--data.root", "fewer.npz"), "all is of 48 other training images"),
    (("--data.root", "labels.npz"), "all is of 48 other training images"),
    (("--data.root", "pixels.npz"), "all is of other images than these"),
    (("--data.val", "0.2"), "all is of 48 other training images: .* --data.val among them"),
    (("--data.no_augment",), "all is of other augmentations than these"),
    (("--views", "3"), r"all is of --data.views 2, not 3: leave it out"),
    (("--data.views_seed", "3"), r"all is of --data.views_seed 0, not 3"),
    (("--teacher.taps", "layer1"), "all is of another --teacher.taps: leave it out"),
    (("--teacher.size", "16"), "all is of another --teacher.size: leave it out"),
    (("--augment.jitter", "0.4"), "all is of other augmentations than these"),
    (("--augment.mixup", "0.8"), "--augment.mixup and --augment.cutmix cannot be repeated in every epoch"),
])  # fmt: skip
def test_a_store_of_something_else_is_refused(here, flags, words):
    torch.save({"weight": torch.zeros(1)}, "other.pt")
    data = load_recipe("small.yaml").data
    with np.load(data.root) as stored:
        arrays = dict(stored)
    names = np.array(["0", "1", "2"])
    labels = arrays["y_train"]
    for name, changed in {
        "order": {"class_names": names[::-1]},
        "names": {"class_names": np.array(["a", "b", "c"])},
        "fewer": {"x_train": arrays["x_train"][:40], "y_train": labels[:40]},
        "labels": {"y_train": np.roll(labels, 1)},
        "pixels": {"x_train": arrays["x_train"][:, ::-1]},
    }.items():
        np.savez(f"{name}.npz", **arrays | changed)
    with pytest.raises(UserError, match=words):
        train(recipe("--teacher.store", "all", *flags), out="run")


@pytest.mark.parametrize(("method", "kinds"), [
    ("fam_review", "stages and embed"), ("ofd", "preact"), ("simkd", "last"), ("fam_review+kd", "stages and embed"),
])  # fmt: skip
def test_a_method_that_needs_more_than_the_store_has_names_the_option(here, method, kinds):
    store_teacher(load_recipe("small.yaml", "--views", "1"), "logits")
    options = kinds.replace(" and ", " ")
    words = f"{method.split('+')[0]} needs the teacher's {kinds}, .* `famkd store` with --features {options}"
    with pytest.raises(UserError, match=words):
        train(recipe("--teacher.store", "logits", "--method", method), out="run")


def test_what_cannot_be_stored_is_refused(here, monkeypatch):
    for flags, words in (
        ((), "Say how many augmentations of each image to store, as in --views 4"),
        (("--views", "1", "--method", "none"), "A store needs a teacher"),
        (("--views", "1", "--teacher.store", "all"), r"--teacher\.store is for training: leave it out"),
    ):
        with pytest.raises(UserError, match=words):
            store_teacher(load_recipe("small.yaml", *flags), "new")
    with pytest.raises(UserError, match="no store of a teacher: make one by `famkd store RECIPE --views 4 --out new`"):
        recipe("--teacher.store", "new")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(UserError, match=r"new has room for 1 byte, the store needs 288 bytes: pass fewer --views"):
        store_teacher(load_recipe("small.yaml", "--views", "1"), "new")
    assert not list(Path("new").glob("view*"))


def test_values_beyond_the_type_are_refused():
    with pytest.raises(UserError, match=r"logits of the teacher holds values that are not finite in float16: pass"):
        encode(torch.tensor([[1.0, 70000.0]]), {})
    assert encode(torch.tensor([[1.0, 70000.0]]), {}, dtype=torch.float32)["logits"][0, 1] == 70000


# writing ----------------------------------------------------------------------------------------------------------


def test_a_stopped_store_goes_on_and_ends_with_the_same_bytes(here, monkeypatch, capsys):
    monkeypatch.setattr(storable, "SHARD_ROWS", 20)
    chosen = load_recipe("small.yaml", "--views", "2")
    real, written = writing.write_tensors, []

    def stop(path, *arguments):
        if len(written) == 4:
            raise Killed
        written.append(path)
        real(path, *arguments)

    monkeypatch.setattr(writing, "write_tensors", stop)
    with pytest.raises(Killed):
        store_teacher(chosen, "again", ALL)
    with pytest.raises(UserError, match="again is unfinished, 3 of 6 shards"):
        Store("again")
    monkeypatch.setattr(writing, "write_tensors", real)
    capsys.readouterr()
    store_teacher(chosen, "again", ALL)
    assert "3 of 6 shards are there" in capsys.readouterr().err
    for path in sorted(Path("all").rglob("*.safetensors")):
        assert path.read_bytes() == (Path("again") / path.relative_to("all")).read_bytes(), path
    times = {path: path.stat().st_mtime_ns for path in Path("again").rglob("*.safetensors")}
    store_teacher(chosen, "again", ALL)
    assert {path: path.stat().st_mtime_ns for path in Path("again").rglob("*.safetensors")} == times


def test_a_folder_with_another_store_is_left_alone(here):
    with pytest.raises(UserError, match=r"all holds another store \(views.* differ\): pass another --out"):
        store_teacher(load_recipe("small.yaml", "--views", "3"), "all", ALL)
    with pytest.raises(UserError, match=r"all holds another store \(kinds, columns.* differ\)"):
        store_teacher(load_recipe("small.yaml", "--views", "2"), "all")


def test_the_command_takes_networks_without_a_file(here, capsys):
    teacher, data = load_recipe("small.yaml").teacher, load_recipe("small.yaml").data
    student, of_teacher = "--student.model resnet8x0.5", f"--teacher.model {teacher.model}"
    networks = [*student.split(), *of_teacher.split(), "--teacher.weights", teacher.weights]
    main(["store", *networks, "--data", data.name, "--root", data.root, "--views", "1", "--out", "own"])
    assert read_header("own").views == 1
    with pytest.raises(SystemExit):
        main(["store", "--views", "1"])
    assert "or networks of your own by --student.model" in capsys.readouterr().err


def test_the_command_says_the_size_before_it_writes(here, capsys):
    main(["store", "small.yaml", "--views", "2", "--features", "embed"])
    out, err = capsys.readouterr()
    said = err.splitlines()
    assert said[0].startswith("teacher resnet8  top1 ")
    assert said[1].startswith(
        "stores/resnet8-npz-2: 48 images, 2 views, 3 logits, embed: 134 bytes an image, 12.9 kB in all; "
    )
    assert out == "stores/resnet8-npz-2: train with --teacher.store stores/resnet8-npz-2\n"
    header = json.loads(Path("stores/resnet8-npz-2/store.json").read_text())
    assert (header["images"], header["views"], header["kinds"]) == (48, 2, {"embed": ["avgpool"]})
    main(["store", "small.yaml", "--views", "2", "--method", "fam_review", "--out", "other"])
    assert "note: fam_review of this recipe also needs --features stages embed" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_streamed_data_set_is_stored_with_its_own_pixels(here, tmp_path):
    from PIL import Image

    draw = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name in "abc":
            (tmp_path / "tree" / part / name).mkdir(parents=True)
            for n in range(count):
                pixels = draw.integers(0, 256, (20, 24, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "tree" / part / name / f"{n}.png")
    (tmp_path / "tree" / "train" / "b" / "2.png").write_bytes(b"no image")  # it is left out
    data = ("--data", "imagenet", "--root", "tree", "--data.size", "16", "--data.batch_size", "6")
    data += ("--data.unreadable", "skip")
    store_teacher(load_recipe("small.yaml", *data, "--data.workers", "0", "--views", "2"), "streamed")
    run = train(recipe(*data, "--data.workers", "1", "--teacher.store", "streamed"), out="run")
    assert run.finished
    live = train(recipe(*data, "--data.workers", "0", "--views", "2"), out="live")
    for first, second in zip(run.metrics(), live.metrics(), strict=True):
        assert first["task.ce"] == pytest.approx(second["task.ce"], rel=1e-2)
        assert first["kd.kd"] == pytest.approx(second["kd.kd"], rel=1e-2)


def test_replacing_fields_of_a_recipe_keeps_its_store(here):
    chosen = recipe("--teacher.store", "all")
    assert validated(replace(chosen, seed=3)).teacher == chosen.teacher
