"""Export of the student alone, checked against the run: ONNX, a torch.export program, weights, a folder of the hub."""

from pathlib import Path

from famkd.evaluate import load_deployed
from famkd.export.detector import export_detector
from famkd.export.formats import WRITERS as WRITERS
from famkd.export.network import export_network
from famkd.export.options import Dynamic, Input, Options, Target
from famkd.export.report import Report
from famkd.files import must_be_writable
from famkd.run.directory import Run
from famkd.tasks import TASKS


def export(
    run: str | Path,
    to: Target = "onnx",
    *,
    out: str | Path = "",
    root: str = "",
    best: bool = False,
    ema: bool = False,
    epoch: int = 0,
    input: Input = "normalized",
    int8: bool = False,
    fp16: bool = False,
    dynamic: Dynamic = "batch",
    opset: int = 0,
    calibration: int = 0,
) -> Report:
    """Write a run's student (for SimKD with its projector and head) and check the file on test images of the run.

    Where the data set is not there, the file is checked on noise: size, classes and normalisation are in the run.

    Args:
        out: the file, or the folder for `hub`; by default `student.onnx` and so on in the run directory.
        root: folder or file of the data set, where it has moved since; it must be there then.
        best, ema, epoch: weights of the best epoch, of the averaged student, or of an epoch that --keep kept.
        input: what the file takes, (B, 3, H, W): normalized floats as in training, unit floats in 0..1, or bytes.
        int8, fp16: store smaller numbers; int8 is calibrated on training images and for ONNX only.
        dynamic: what may differ in use: nothing (one image at a time), the number of images, or their size too.
        opset: version of ONNX's operators; 0 for that of torch's exporter.
        calibration: training images for int8; 0 for 256.

    Errors: UserError for missing packages, for a place that cannot be written, and where the file does not reproduce
    the run; nothing is written then.
    """
    options = Options(to, input, int8, fp16, dynamic, opset, calibration)
    options.must_fit_together()
    opened = Run.open(run)
    path = Path(out) if out else opened.path / options.default_name(ema)
    must_be_writable(path.parent)
    network, data = load_deployed(opened, root=root, best=best, ema=ema, epoch=epoch, noise=not (root or int8))
    write = export_network if TASKS[opened.recipe.task].returns_logits else export_detector
    return write(opened, network, data, options, path)
