"""Files of other numbers, sizes and opsets, in onnxruntime, and the folder of the hub, in timm."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from famkd.cli import main
from famkd.errors import UserError
from famkd.evaluate import evaluate_checkpoint, evaluate_run, load_deployed
from famkd.export import export
from famkd.export.onnx_files import example
from famkd.export.options import Options
from famkd.export.pixels import Form
from famkd.features.prepare import Pixels
from famkd.models import MODELS, build_model
from famkd.run.directory import Run
from famkd.training.loop import train


@pytest.fixture
def run(small) -> Run:
    return train(small("--epochs", "1"))


def session(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def digits(file) -> np.ndarray:
    """The test scans as bytes (B, 3, 8, 8)."""
    return np.repeat(np.load(file)["x_test"][:, None], 3, 1)


REFUSED = [
    ({"to": "safetensors", "input": "unit"}, "safetensors holds weights only, no normalisation"),
    ({"to": "hub", "dynamic": "batch+size"}, "leave --dynamic out"),
    ({"to": "pt2", "int8": True}, "--int8 writes an ONNX file"),
    ({"int8": True, "fp16": True}, "choose one"),
    ({"to": "pt2", "opset": 18}, "--opset is a version of ONNX"),
    ({"calibration": 10}, "--calibration is for --int8"),
    ({"to": "tflite"}, "--to is tflite: pass onnx, pt2, safetensors or hub"),
    ({"int8": True, "calibration": -1}, "--calibration is -1: pass 0 or more"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_options_that_do_not_fit_together_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        Options(**options).must_fit_together()


@pytest.mark.parametrize("input", ["normalized", "unit", "bytes"])
def test_a_form_can_be_undone(input):
    form = Form(Pixels((0.1, 0.5, 0.9), (0.2, 0.3, 0.4)), input)
    pixels = torch.randint(0, 256, (2, 3, 4, 4)) / 255
    normalized = (pixels - torch.tensor((0.1, 0.5, 0.9))[:, None, None]) / torch.tensor((0.2, 0.3, 0.4))[:, None, None]
    torch.testing.assert_close(form.normalized(form.of(normalized)), normalized)


@pytest.mark.slow
def test_int8_takes_bytes_and_is_measured_before_and_after(run, few_digits):
    pytest.importorskip("onnxruntime")
    report = export(run.path, "onnx", input="bytes", int8=True, calibration=40)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(report.path)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    weights = [each.data_type for each in model.graph.initializer if len(each.dims) == 4]
    assert weights
    assert {*weights} == {onnx.TensorProto.INT8}
    assert {each.key: each.value for each in model.metadata_props}["numbers"] == "int8"
    assert report.path.name == "student-int8.onnx"
    assert (report.numbers, report.calibrated_on) == ("int8", 40)
    assert report.before.figures["top1"] == pytest.approx(evaluate_run(run.path)[0]["top1"])
    (logits,) = session(report.path).run(None, {"images": digits(few_digits)})
    right = 100 * np.mean(logits.argmax(1) == np.load(few_digits)["y_test"])
    assert report.figures["top1"] == pytest.approx(right)
    assert "float32 -> int8" in str(report)
    assert json.loads(report.as_json())["before"]["bytes"] == report.before.bytes


@pytest.mark.slow
def test_int8_is_calibrated_on_training_images_in_the_form_of_the_file(run, monkeypatch, few_digits):
    pytest.importorskip("onnxruntime")
    import famkd.export.network as network

    seen = []

    def note(source, target, batches, header):
        seen.extend(batches)
        raise UserError("enough")

    monkeypatch.setattr(network, "write_int8", note)
    with pytest.raises(UserError, match="enough"):
        export(run.path, "onnx", input="bytes", int8=True, calibration=1000)
    shown = {image.numpy().tobytes() for image in torch.cat(seen)}
    training = np.repeat(np.load(few_digits)["x_train"][:, None], 3, 1)
    assert shown == {image.tobytes() for image in training}
    assert list(run.path.glob("*.onnx")) == []


def test_int8_without_the_data_set_is_refused(run, few_digits):
    pytest.importorskip("onnxruntime")
    recipe = (run.path / "recipe.yaml").read_text()
    (run.path / "recipe.yaml").write_text(recipe.replace(str(few_digits), "gone.npz"))
    with pytest.raises(UserError, match=r"gone\.npz"):
        export(run.path, int8=True)


@pytest.mark.sample(1)
@pytest.mark.parametrize("to", ["safetensors", "pt2", "onnx"])
def test_half_precision_halves_the_file_and_keeps_the_logits(run, to):
    pytest.importorskip("onnxruntime")
    report = export(run.path, to, fp16=True)
    assert report.bytes < report.before.bytes - report.parameters
    assert 0 < report.difference < 0.05
    assert report.figures["top1"] == pytest.approx(report.before.figures["top1"], abs=5)
    if to == "safetensors":
        assert {value.dtype for value in load_file(report.path).values()} == {torch.float16, torch.int64}


@pytest.mark.sample(1)
@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_images_of_another_size_and_number(run, to):
    report = export(run.path, to, dynamic="batch+size")
    assert report.input.startswith("images (B, 3, H, W)")
    images = torch.randn(3, 3, 24, 16)
    if to == "onnx":
        (found,) = session(report.path).run(None, {"images": images.numpy()})
    else:
        found = torch.export.load(report.path).module()(images).detach()
    network, _ = load_deployed(run)
    torch.testing.assert_close(torch.as_tensor(found), network(images).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_one_image_at_a_time(run, few_digits):
    report = export(run.path, dynamic="none", input="bytes", int8=True)
    assert session(report.path).get_inputs()[0].shape == [1, 3, 8, 8]
    assert report.input.startswith("images (1, 3, 8, 8)")
    assert report.figures.keys() == {"top1", "top5"}


class OneSize(nn.Module):
    """A network whose classifier fits images of 8 x 8 pixels only."""

    taps = {"stages": ("conv",), "embed": "flat"}
    head = "fc"

    def __init__(self, classes: int):
        super().__init__()
        self.conv, self.flat, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, classes)

    def forward(self, images):
        return self.fc(self.flat(self.conv(images)))


def test_a_network_for_one_size_is_refused_other_sizes(small, monkeypatch):
    monkeypatch.setitem(MODELS, "one_size", OneSize)
    run = train(small("--epochs", "1", "--student.model", "one_size"))
    with pytest.raises(UserError, match="one_size takes images of 8 x 8 pixels only: leave --dynamic"):
        export(run.path, "pt2", dynamic="batch+size")
    assert list(run.path.glob("student.pt2*")) == []
    assert list(run.path.glob(".export-*")) == []


@pytest.mark.slow
def test_an_opset_is_written_or_refused(run):
    onnx = pytest.importorskip("onnx")
    report = export(run.path, opset=20)
    assert report.opset == 20
    assert onnx.load(report.path).opset_import[0].version == 20
    with pytest.raises(UserError, match="--opset is 11: networks are written in opset 18 or newer"):
        export(run.path, opset=11)


def test_an_example_for_a_fixed_batch_has_one_image():
    pixels = torch.zeros(32, 3, 8, 8)
    assert example(pixels, Options(dynamic="none"))[0].shape[0] == 1
    assert [*example(pixels, Options(dynamic="batch+size"))[1][0]] == [0, 2, 3]


# the folder of the hub -----------------------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("model", ["timm:test_vit", "timm:test_resnet"])
def test_timm_loads_its_folder(small, model, tmp_path, few_digits):
    run = train(small("--epochs", "1", "--student.model", model, "--student.size", "32"))
    report = export(run.path, "hub")
    assert {path.name for path in report.path.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((report.path / "config.json").read_text())
    assert config["label_names"] == ["0", "1", "2"]
    assert config["pretrained_cfg"]["mean"] == pytest.approx(run.facts["student"]["mean"])
    loaded = timm.create_model(f"local-dir:{report.path}", pretrained=True).eval()
    network, data = load_deployed(run)
    images = next(data.test(4)).images
    with torch.no_grad():
        wanted = network(images)
        larger = torch.nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
        torch.testing.assert_close(loaded(larger), wanted, rtol=1e-3, atol=1e-3)


def test_a_network_of_famkd_says_how_to_load_it(run, few_digits, capsys):
    report = export(run.path, "hub", out="mine")
    said = capsys.readouterr().err
    assert "timm does not know resnet8x0.5: build it by famkd.build_model('resnet8x0.5', 3)" in said
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model("local-dir:mine", pretrained=True)
    model = build_model("resnet8x0.5", 3)
    model.load_state_dict(load_file("mine/model.safetensors"))
    figures = evaluate_checkpoint("resnet8x0.5", "mine", "npz", str(few_digits))[0]
    assert figures["top1"] == pytest.approx(evaluate_run(run.path)[0]["top1"])
    assert report.bytes == sum(path.stat().st_size for path in report.path.iterdir())
    again = export(run.path, "hub", out="mine")  # over the first one
    assert again.bytes == report.bytes


@pytest.mark.slow
def test_what_a_method_adds_has_no_folder(small):
    teacher = train(small("--epochs", "1", "--student.model", "resnet8"), out="teacher")
    flags = ("--method", "simkd", "--teacher.model", "resnet8", "--teacher.weights", str(teacher.path))
    run = train(small("--epochs", "1", *flags))
    with pytest.raises(UserError, match=r"more than resnet8x0\.5"):
        export(run.path, "hub")
    assert not (run.path / "student-hub").exists()


# the command ---------------------------------------------------------------------------------------------------------


def test_the_command_prints_json_on_stdout_and_progress_on_stderr(run, capsys):
    main(["export", str(run.path), "--to", "safetensors", "--fp16", "--format", "json"])
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["numbers"] == "fp16"
    assert found["before"]["figures"].keys() == found["figures"].keys() == {"top1", "top5"}
    assert "on the test images" in err
