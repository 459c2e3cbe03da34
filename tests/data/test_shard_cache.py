"""Shards behind real servers are read in place or through copies on this machine, which stay within a limit."""

import errno
import functools
import http.server
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.pictures import CLASSES, pack
from helpers.processes import finish, spoken, start

from famkd.data import build_data
from famkd.data.shard_cache import GIB, ShardCache
from famkd.data.shard_files import TarFolder
from famkd.errors import UserError

BUCKET = "pictures"


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """The shards as files: 4 of training images and 2 of test images."""
    root = tmp_path_factory.mktemp("shards")
    pack(root, "train", 4, 5)
    pack(root, "val", 4, 2)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


@pytest.fixture(scope="module")
def s3(local) -> Iterator[str]:
    """Address of the same shards on an S3-compatible server of this machine."""
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    account = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in account.items():
            patched.setenv(name, value)
        files = s3fs.S3FileSystem()
        files.mkdir(BUCKET)
        for path in [path for path in local.rglob("*") if path.suffix in (".tar", ".txt")]:
            files.put_file(str(path), f"{BUCKET}/set/{path.relative_to(local).as_posix()}")
        yield f"s3://{BUCKET}/set"
    server.stop()


@pytest.fixture
def website(local) -> Iterator[str]:
    """Address of the same shards on a web server, where nothing can be saved."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(local))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def stream(root: object, **options):
    return build_data("imagenet", str(root), 4, **{"size": 32, "workers": 0, **options})


def shown(data, epoch: int = 1) -> list[torch.Tensor]:
    """Everything that an epoch and the test show, in order."""
    pieces = [*data.epoch(epoch)]
    tested = [batch.images for batch in data.test()]
    return [torch.cat([piece.pixels for piece in pieces]), torch.cat([piece.targets for piece in pieces]), *tested]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def copies(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.tar")}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cached", [False, True])
def test_a_bucket_shows_what_the_folder_shows(local, s3, tmp_path, cached, workers):
    options = {"cache": str(tmp_path / "copies")} if cached else {}
    data = stream(s3, workers=workers, **options)
    assert data.classes == list(CLASSES)
    assert same(shown(data), shown(stream(local)))
    assert same(shown(data, 2), shown(stream(local), 2))
    assert len(copies(tmp_path / "copies")) == (6 if cached else 0)


def test_copies_are_read_without_the_server(local, s3, tmp_path, monkeypatch):
    import s3fs

    data = stream(s3, cache=str(tmp_path))
    first = shown(data)
    for method in ("get_file", "cat_file", "open", "info"):
        monkeypatch.setattr(s3fs.S3FileSystem, method, lambda *a, **k: pytest.fail("asked the server"))
    assert same(shown(data), first)


def test_copies_stay_within_their_limit(local, s3, tmp_path):
    largest = max(path.stat().st_size for path in local.rglob("*.tar"))
    data = stream(s3, cache=str(tmp_path), cache_gib=2.5 * largest / GIB)
    for epoch in (1, 2):
        seen = []
        for piece in data.epoch(epoch):
            seen.append(piece.pixels)
            assert sum(path.stat().st_size for path in tmp_path.glob("*.tar")) <= 2.5 * largest
        assert torch.equal(torch.cat(seen), shown(stream(local), epoch)[0])


def test_the_least_recently_used_copy_is_removed(local, tmp_path):
    size = max((local / f"train/0000{n}.tar").stat().st_size for n in range(3))
    folder = TarFolder(str(local / "train"), ShardCache(tmp_path, 2.5 * size / GIB))
    names = []
    for tar in ("00000.tar", "00001.tar", "00000.tar", "00002.tar"):
        with folder.open(tar):
            names.append(folder._names[tar])
    assert copies(tmp_path) == {names[0], names[3]}


def test_a_shard_that_was_replaced_is_copied_again(local, tmp_path):
    tar = tmp_path / "0.tar"
    tar.write_bytes(b"old!")
    cache = ShardCache(tmp_path / "copies")
    assert TarFolder(str(tmp_path), cache).read("0.tar", 0, 4) == b"old!"
    tar.write_bytes(b"new!")
    os.utime(tar, (1, 1))
    assert TarFolder(str(tmp_path), cache).read("0.tar", 0, 4) == b"new!"


def test_the_index_of_a_website_is_saved_with_the_copies(local, website, tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    for path in local.rglob("*index.npz"):
        path.unlink()
    monkeypatch.setattr("fsspec.implementations.http.HTTPFileSystem._pipe_file", _refused, raising=False)
    first = shown(stream(website, cache=str(tmp_path)))
    monkeypatch.setattr("famkd.data.webdataset.read_samples", lambda *a, **k: pytest.fail("indexed again"))
    assert same(shown(stream(website, cache=str(tmp_path))), first)


async def _refused(*_: object, **__: object) -> None:
    raise PermissionError("read only")


def test_a_website_that_sends_whole_files_needs_copies(website):
    pytest.importorskip("aiohttp")
    with pytest.raises(UserError, match=r"does not send parts of files: pass --data\.cache"):
        list(stream(website).epoch(1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_full_disk_is_one_sentence(local, tmp_path, monkeypatch, workers):
    data = stream(local, workers=workers, cache=str(tmp_path))
    for copy in tmp_path.glob("*.tar"):
        copy.unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.get_file", full)
    with pytest.raises(UserError, match=r"Cannot copy .*\.tar to .*: No space left on device. Free some space, or"):
        list(data.epoch(1))
    assert not list(tmp_path.glob("*.tar")) + list(tmp_path.glob(".copying*"))


def test_settings_that_have_no_effect_are_refused(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
    with pytest.raises(UserError, match=r"these images lie in folders: leave it out"):
        stream(tmp_path, cache=str(tmp_path / "copies"))
    with pytest.raises(UserError, match=r"name it by --data\.cache"):
        stream(tmp_path, cache_gib=3.0)


def test_a_bucket_that_is_missing_is_one_sentence(s3):
    with pytest.raises(UserError, match=r"There are no shards of train under s3://nowhere/set"):
        stream("s3://nowhere/set")


def test_what_a_server_raises_is_one_sentence(monkeypatch, tmp_path):
    def refuse(*_):
        raise RuntimeError("Unable to locate credentials")

    module = sys.modules["famkd.data.imagenet"]  # whose name in the package is that of its function
    monkeypatch.setattr(module, "read_shards", refuse)
    with pytest.raises(UserError, match=r"^s3://mine/set cannot be read: Unable to locate credentials\. Check the add"):
        stream("s3://mine/set")
    monkeypatch.setattr(module, "has_shards", lambda *_: True)
    with pytest.raises(RuntimeError):  # not of a server
        stream(tmp_path)


@pytest.mark.slow
def test_a_training_on_a_bucket(s3, tmp_path):
    command = ("train", "imagenet/resnet34-resnet18", "--student.model", "resnet8x0.5", "--method", "none")
    data = ("--data.root", s3, "--data.size", "32", "--data.cache", str(tmp_path / "copies"), "--data.workers", "1")
    options = ("--optim.epochs", "1", "--data.batch_size", "5", "--runs", str(tmp_path / "runs"))
    code, _, err = finish(start("-m", "famkd", *command, *data, *options))
    assert code == 0, spoken(err) or err
    assert len(copies(tmp_path / "copies")) == 6
    code, _, err = finish(start("-m", "famkd", *command, "--data.root", "s3://nowhere/set", *options))
    assert code == 2
    assert spoken(err).count("\n") == 1
