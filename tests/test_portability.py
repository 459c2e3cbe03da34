"""What differs on Windows, macOS and mps, by stand-ins: no file in the system's encoding, no call that is not there."""

import ast
import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

import famkd
import famviz
from famkd.bench.step import _peak_mib
from famkd.command_line.main import run_command
from famkd.data import loader
from famkd.files import total_memory
from famkd.methods import METHODS
from famkd.training.build import build_distiller, build_recipe_data
from famkd.training.stop import stop_requests

FILES = [path for each in (famkd, famviz) for path in sorted(Path(each.__file__).parent.rglob("*.py"))]
TEXT = {"read_text", "write_text"}


def without_encoding(source: str) -> list[str]:
    """Calls that read or write text in the encoding of the system, such as "read_text in line 3"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = [word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
        is_file = isinstance(node.func, ast.Name) or any(word[:1] in "rwax" and len(word) < 4 for word in words)
        opens_text = name == "open" and is_file and not any("b" in word for word in words if len(word) < 4)
        if (name in TEXT or opens_text) and "encoding" not in {each.arg for each in node.keywords}:
            found.append(f"{name} in line {node.lineno}")
    return found


@pytest.mark.parametrize(("source", "count"), [
    ("path.read_text()", 1), ("path.write_text(x, encoding='utf-8')", 0), ("open(p)", 1), ("open(p, 'rb')", 0),
    ("path.open('w')", 1), ("path.open('ab')", 0), ("Run.open(p)", 0), ("Image.open(p)", 0),
])  # fmt: skip
def test_the_search_for_encodings_sees_what_it_should(source, count):
    assert len(without_encoding(source)) == count


def test_text_files_are_utf8_on_every_system():
    found = {path.name: without_encoding(path.read_text(encoding="utf-8")) for path in FILES}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_a_terminal_of_few_characters_gets_escapes(monkeypatch):
    held = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, "cp1252", write_through=True))
    run_command("famkd", "", {"say": lambda argv: print("5 → 6")}, ["say"])
    assert held.getvalue().strip() == rb"5 \u2192 6"


# systems without some calls --------------------------------------------------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """Take away what Windows does not have and the code asks for."""
    for module, name in ((os, "sched_getaffinity"), (os, "sysconf"), (os, "geteuid"), (signal, "SIGUSR1"),
                         (signal, "sigwaitinfo"), (signal, "pthread_sigmask")):  # fmt: skip
        monkeypatch.delattr(module, name)
    monkeypatch.setitem(sys.modules, "resource", None)


def test_cores_and_memory_are_known_or_taken_as_unlimited(windows):
    assert loader.usable_cores() == os.cpu_count()
    assert total_memory() > 1 << 60
    assert _peak_mib(torch.device("cpu")) == 0


def test_signals_that_there_are_stop_a_training(windows):
    with stop_requests() as requested:
        assert requested() == ""
        signal.raise_signal(signal.SIGTERM)
        assert requested() == "SIGTERM"
    before = signal.getsignal(signal.SIGINT)
    try:
        loader._ignore_job_signals(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_memory_on_macos_is_told_in_bytes(monkeypatch):
    linux = _peak_mib(torch.device("cpu"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _peak_mib(torch.device("cpu")) == pytest.approx(linux / 1024, rel=0.1)


SPAWNED = """
import multiprocessing, sys
from pathlib import Path
import numpy as np
from PIL import Image

def main():
    multiprocessing.set_start_method("spawn")
    from famkd.data import build_data
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = Path(split, name)
            folder.mkdir(parents=True)
            for n in range(4):
                Image.fromarray(np.full((32, 32, 3), 40 * n, np.uint8)).save(folder / f"{n}.png")
    data = build_data("imagenet", ".", 4, workers=2)
    print(sum(len(data.take(piece).images) for piece in data.epoch(1)), sum(len(b.images) for b in data.test()))

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_workers_that_are_not_forked_read_images(tmp_path, monkeypatch, python):
    """macOS and Windows start workers by spawn."""
    monkeypatch.chdir(tmp_path)
    Path("main.py").write_text(SPAWNED)
    assert python("main.py")[:2] == (0, "8 8\n")


FORK_SERVER = """
import multiprocessing, os
from pathlib import Path

class WhereTorchWasImported:
    def __getitems__(self, keys):
        libraries = Path(f"/proc/{os.getppid()}/maps").read_text()
        return ["libtorch" in libraries and "torchvision" in libraries for _ in keys]

def main():
    multiprocessing.set_start_method("forkserver")
    import torch
    from famkd.data.loader import make_loader
    for _ in range(2):
        loader = make_loader(WhereTorchWasImported(), [[0], [1]], 2, torch.device("cpu"), keep_workers=False)
        print(*[from_server for batch in loader for from_server in batch])

if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads /proc")
def test_the_fork_server_imports_what_all_workers_need(tmp_path, monkeypatch, python):
    """Python 3.14 starts workers through a fork server on Linux. An import of torch in each takes seconds."""
    monkeypatch.chdir(tmp_path)
    Path("main.py").write_text(FORK_SERVER)
    assert python("main.py")[:2] == (0, "True True\nTrue True\n")


# mps ----------------------------------------------------------------------------------------------------------------


class OnHost(torch.Tensor):
    """A tensor that was brought to the CPU."""


class WithoutFloat64(TorchFunctionMode):
    """As if tensors were on mps until `cpu()` is called: none may become float64 before."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.Tensor.cpu:
            return result.detach().as_subclass(OnHost)
        tensors = [each for each in args if isinstance(each, torch.Tensor)]
        on_mps = tensors and not any(
            isinstance(each, OnHost) or each.dtype in (torch.float64, torch.complex128) for each in tensors
        )
        if on_mps and isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            raise TypeError(f"{function.__name__}: mps has no float64")
        return result


def test_the_stand_in_for_mps_refuses_float64():
    with WithoutFloat64():
        assert torch.zeros(2).cpu().double().dtype == torch.float64
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(2).double()
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(2).to(torch.float64)


@pytest.mark.sample(6)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_and_an_evaluation_need_no_float64(small, method):
    recipe = small("--method", method, "--teacher.model", "resnet8", "--data.batch_size", "16")
    data = build_recipe_data(recipe)
    with WithoutFloat64():
        distiller = build_distiller(recipe, data, weights=False).train()
        losses = distiller(data.take(next(data.epoch(1))))[0]
        sum(sum(terms.values()) for terms in losses.values()).backward()
        figures = distiller.task.evaluate(distiller.student.model.eval(), data.test()).figures
    assert figures.keys() == {"top1", "top5"}


def test_figures_of_numbers_and_activation_maps_need_no_float64():
    from famkd.distill.types import Batch
    from famkd.tasks.regression import Regression
    from famviz.analysis.cam_scores import insertion_deletion

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 1))
    batch = Batch(torch.rand(4, 3, 2, 2), torch.rand(4, 1), torch.arange(4))
    with WithoutFloat64():
        assert {*Regression().evaluate(model, [batch])[0]} == {"R2", "MAE"}
        images = torch.rand(2, 3, 2, 2)
        scores = insertion_deletion(
            torch.nn.Sequential(*model, torch.nn.Linear(1, 3)), images, np.ones((2, 2, 2)), torch.tensor([0, 1])
        )
    assert all(len(each) == 2 for each in scores)
