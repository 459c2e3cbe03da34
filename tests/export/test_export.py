"""Exported files give what the run gives, for any number of images."""

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import famkd.export
from famkd.errors import UserError
from famkd.evaluate import evaluate_run, load_deployed
from famkd.evaluate.noise import Noise
from famkd.export import export
from famkd.export.pixels import Normalizing
from famkd.export.report import macs
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.training.loop import train


@pytest.fixture
def run(small) -> Run:
    return train(small("--epochs", "1"))


@pytest.mark.slow
def test_onnx_takes_bytes_and_any_batch(run, few_digits):
    onnxruntime = pytest.importorskip("onnxruntime")
    report = export(run.path, "onnx", input="bytes")
    assert report.path == run.path / "student.onnx"
    assert report.difference < 1e-3
    assert report.bytes == report.path.stat().st_size
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    scans = np.load(few_digits)["x_test"]
    pixels = np.repeat(scans[:, None], 3, 1)
    logits = np.concatenate([session.run(None, {"images": part})[0] for part in (pixels[:1], pixels[1:8], pixels[8:])])
    network, data = load_deployed(run)
    with torch.no_grad():
        wanted = torch.cat([network(batch.images) for batch in data.test()])
    np.testing.assert_allclose(logits, wanted.numpy(), atol=1e-4)


def test_weights_are_the_students_own(run):
    report = export(run.path, "safetensors")
    state = load_file(report.path)
    assert all(torch.equal(value, run.student_state()[key]) for key, value in state.items())
    assert report.parameters == sum(p.numel() for p in build_model("resnet8x0.5", 3).parameters())
    with pytest.raises(UserError, match="no normalisation"):
        export(run.path, "safetensors", input="bytes")


@pytest.mark.slow
def test_a_program_of_simkd_is_the_dressed_student(small):
    teacher = train(small("--epochs", "1", "--student.model", "resnet8"), out="teacher")
    flags = ("--method", "simkd", "--teacher.model", "resnet8", "--teacher.weights", str(teacher.path))
    run = train(small("--epochs", "2", *flags))
    assert evaluate_run(run.path)[0]["top1"] == pytest.approx(run.metrics()[-1]["top1"])
    with pytest.raises(UserError, match="leave --best out"):
        evaluate_run(run.path, best=True)
    report = export(run.path, "pt2", input="unit")
    program = torch.export.load(report.path).module()
    network, data = load_deployed(run)
    images = next(data.test(5)).images
    unit = images * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(program(unit.contiguous()), network(images), rtol=1e-4, atol=1e-4)


def test_macs_are_those_of_a_convolution_counted_by_hand():
    conv = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert macs(conv, torch.zeros(1, 3, 8, 8)) == 8 * 8 * 5 * 3 * 9


def test_normalisation_is_the_data_sets():
    pixels = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    ours = Normalizing(torch.nn.Identity(), mean, std, 255)(pixels)
    wanted = (pixels / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(ours, wanted)


def test_a_file_that_differs_is_not_written(run, monkeypatch):
    monkeypatch.setitem(famkd.export.WRITERS, "pt2", lambda *_: lambda images: torch.full((len(images), 3), 1e3))
    with pytest.raises(UserError, match="nothing was written"):
        export(run.path, "pt2")
    assert not list(run.path.glob("*student.pt2*"))


@pytest.mark.sample(1)
@pytest.mark.parametrize("to", ["safetensors", "pt2"])
def test_without_the_data_set_the_same_is_written_and_checked_on_noise(run, few_digits, capsys, to):
    with_data = export(run.path, to, input="normalized", out=f"a.{to}")
    recipe = (run.path / "recipe.yaml").read_text()
    (run.path / "recipe.yaml").write_text(recipe.replace(str(few_digits), "gone.npz"))
    without = export(run.path, to, out=f"b.{to}")
    assert "gone.npz" in capsys.readouterr().err
    assert (with_data.checked_on, without.checked_on) == ("32 test images", "32 images of noise")
    assert without._replace(path="", bytes=0, difference=0, latency_ms=0, checked_on="") == with_data._replace(
        path="", bytes=0, difference=0, latency_ms=0, checked_on=""
    )
    if to == "safetensors":
        one, two = (safe_open(f"{name}.safetensors", "pt") for name in "ab")
        assert one.metadata() == two.metadata()
        assert all(torch.equal(one.get_tensor(key), two.get_tensor(key)) for key in one.keys())  # noqa: SIM118
    assert "32 images of noise" in str(without)
    with pytest.raises(UserError, match=r"elsewhere\.npz"):
        export(run.path, to, root="elsewhere.npz")  # a place that is named must hold the data
    (run.path / "facts.json").unlink()
    with pytest.raises(UserError, match=r"gone\.npz"):
        export(run.path, to)


def test_noise_is_bytes_in_the_normalisation_of_the_run(run):
    facts = run.facts
    images = Noise(facts).probe().images
    pixels = images * torch.tensor(facts["std"])[:, None, None] + torch.tensor(facts["mean"])[:, None, None]
    assert images.shape == (32, 3, *facts["size"])
    torch.testing.assert_close(pixels * 255, (pixels * 255).round(), atol=1e-3, rtol=0)
    assert 0 <= pixels.min() < 0.1 < 0.9 < pixels.max() <= 1
