"""Detectors teach detectors: the same pixels, losses at any size, all weights trained, runs that resume."""

from pathlib import Path

import pytest
import torch
from helpers.processes import finish
from helpers.tiny_coco import tiny_detector

from famkd.bench.step import bench
from famkd.cli import main
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.distill.types import Scores
from famkd.errors import UserError
from famkd.models.detection import LEVELS
from famkd.run.directory import Run
from famkd.tasks import Detection
from famkd.tasks.coco_ap import FIGURES
from famkd.tasks.detection import GRID
from famkd.training import loop as training
from famkd.training.build import build_distiller, build_recipe_data
from famkd.training.checkpoint import TrainingState
from famkd.training.loop import train

pytest_plugins = ("helpers.tiny_coco",)


METHODS = ("mimic", "reviewkd", "fam", "fam_review")


def built(recipe):
    torch.manual_seed(0)
    data = build_recipe_data(recipe)
    return data, build_distiller(recipe, data)


# student and teacher --------------------------------------------------------------------------------------------------


def test_teacher_and_student_see_the_same_pixels(tiny):
    data, distiller = built(tiny())
    seen = {}
    for who, net in (("student", distiller.student), ("teacher", distiller.teacher)):
        net.model.backbone.register_forward_pre_hook(lambda _, args, who=who: seen.__setitem__(who, args[0]))
    for piece in data.epoch(1):
        distiller.train()(data.take(piece))
        assert torch.equal(seen["student"], seen["teacher"])
    assert not distiller.teacher.training
    assert distiller.student.training
    assert distiller.teacher.model.transform is distiller.student.model.transform


def test_the_teacher_runs_its_backbone_and_no_more(tiny):
    data, distiller = built(tiny())
    distiller.teacher.model.rpn.register_forward_hook(lambda *_: pytest.fail("the teacher proposed boxes"))
    losses = distiller.train()(data.take(next(data.epoch(1))))[0]
    assert set(losses["task"]) == {"classifier", "box_reg", "objectness", "rpn_box_reg"}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_all_it_has_at_any_size(tiny, method):
    """Two batches of other sizes than the probe's, wide and tall, and an image without a box among them."""
    data, distiller = built(tiny("--method", method))
    distiller.train()
    shapes = set()
    for piece in data.epoch(1):
        batch = data.take(piece)
        shapes |= {tuple(image.shape) for image in batch.images}
        losses = distiller(batch)[0]
        assert set(losses) == {"task", method}
        assert all(loss.isfinite() for terms in losses.values() for loss in terms.values())
        sum(losses[method].values()).backward()
    assert len(shapes) > 2
    idle = [key for key, p in distiller.methods.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []
    reached = [key for key, p in distiller.student.model.backbone.named_parameters() if p.grad is not None]
    assert any(key.startswith("body.0.0") for key in reached)


def test_all_methods_at_once_hold_no_gradient_of_the_teacher(tiny):
    data, distiller = built(tiny("--method", "+".join(METHODS)))
    before = {key: value.clone() for key, value in distiller.teacher.state_dict().items()}
    losses = distiller.train()(data.take(next(data.epoch(1))))[0]
    sum(sum(terms.values()) for terms in losses.values()).backward()
    assert all(p.grad is None for p in distiller.teacher.parameters())
    assert all(torch.equal(before[key], value) for key, value in distiller.teacher.state_dict().items())


def test_equal_networks_have_nothing_to_imitate(tiny):
    data, distiller = built(
        tiny("--method", "mimic", "--student.model", "fasterrcnn_wide", "--student.weights", "teacher.pt")
    )
    for connector in distiller.methods["mimic"].connectors:
        torch.nn.init.dirac_(connector.weight)
        torch.nn.init.zeros_(connector.bias)
    losses = distiller.eval().methods["mimic"](*_both(distiller, data.probe()))
    assert losses["mimic"] < 1e-10


def _both(distiller, batch):
    with torch.no_grad():
        views = distiller.task.teach(distiller.student, batch), distiller.task.teach(distiller.teacher, batch)
    return *views, batch


@pytest.mark.parametrize("method", ["fam", "fam_review"])
def test_filters_keep_to_a_grid(tiny, method):
    recipe = tiny("--method", method)
    assert recipe.section(method).grid == GRID
    assert tiny("--method", method, f"--{method}.grid", "8").section(method).grid == 8
    assert load_recipe("quickstart", "--method", method).section(method).grid == 0
    _, distiller = built(tiny("--method", method, f"--{method}.grid", "4"))
    sizes = [m.size for m in distiller.modules() if type(m).__name__ == "FourierFilter"]
    assert len(sizes) == 4
    assert all(max(size) <= 4 for size in sizes)


# runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_ranks_epochs_by_average_precision_and_opens_everywhere(tiny, capsys):
    import famviz

    run = train(tiny(), out="run")
    rows = run.metrics()
    assert [key for key in rows[0] if key in FIGURES] == list(FIGURES)
    assert rows[0]["lr"] == 0.01
    assert run.recipe.engine == "eager"
    best = max(range(3), key=lambda n: (rows[n]["AP"], -n))
    same = all(torch.equal(v, run.student_state(best=True)[k]) for k, v in run.student_state().items())
    assert same == (best == 2)
    assert len(famviz.open(run).filters) == 4
    assert famviz.open(run).filters[0].student == LEVELS[0]
    assert len(run.filter_epochs()) == 3
    axes = famviz.plots.training_curves(famviz.open(run))
    assert [line.get_label() for line in axes[1].lines] == ["AP", "AP50"]
    capsys.readouterr()
    main(["eval", "run", "--accelerator", "cpu"])
    printed = capsys.readouterr().out
    words = printed.splitlines()[0].split()
    assert words[::2] == list(FIGURES)
    assert [float(w) for w in words[1::2]] == pytest.approx([rows[-1][name] for name in FIGURES], abs=0.01)
    assert "red" in printed
    assert "blue" in printed
    main(["compare", "run"])
    assert "last AP" in capsys.readouterr().out


@pytest.mark.slow
def test_a_report_of_a_detection_run(tiny):
    import famviz
    from famviz.report.looked import Looked
    from famviz.report.report import made_sections, opening_sentences

    opened = [famviz.open(train(tiny("--epochs", "1"), out="run"))]
    looked = Looked(opened)
    pages, missing = made_sections(opened, looked, 2)
    shown = {page["name"]: page["content"] for page in pages}
    assert "<td>AP</td>" in shown["curves"]
    assert shown["maps"].count("<img") == 1
    assert shown["amplitudes"].count("<img") == 1
    assert "AP" in opening_sentences(opened, looked)[0]
    assert list(missing) == ["No run here holds a frequency filter."] or not missing


def test_a_detectors_step_is_timed_piece_by_piece(tiny):
    figures = bench(tiny("--method", "mimic"), steps=1)
    assert figures["engine"] == "eager"
    assert figures["batch"] == 2
    assert all(figures[f"{piece}_ms"] >= 0 for piece in ("data", "teacher", "student", "method", "optimiser"))
    with pytest.raises(UserError, match="--noise makes images for classification, not for detection"):
        bench(tiny(), steps=1, noise=True)


@pytest.mark.slow
def test_two_processes_share_images_and_figures(tiny, background):
    """One process reads a tiny detector's data, two share it; each counts every test image once."""
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from helpers.tiny_coco import tiny_detector\n"
        "from famkd.models import DETECTORS; DETECTORS['fasterrcnn_tiny'] = tiny_detector\n"
        "DETECTORS['fasterrcnn_wide'] = lambda n, pretrained=False: tiny_detector(n, width=24)\n"
        "from famkd.cli import main; main()\n"
    )
    Path("main.py").write_text(code)
    flags = ("--epochs", "1", "--accelerator", "cpu", "--out", "both", "--data.batch_size", "4")
    process = background("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "main.py",
                         str(Path(__file__).parents[1]), "train", "tiny.yaml", *flags)  # fmt: skip
    code, out, err = finish(process)
    assert code == 0, out + err
    run = Run("both")
    row = run.metrics()[0]
    model = tiny_detector(2)
    model.load_state_dict(run.student_state())
    data = build_recipe_data(tiny())
    figures = Detection().evaluate(model.eval(), data.test()).figures
    assert figures == pytest.approx({name: row[name] for name in FIGURES}, abs=1e-6)


@pytest.mark.slow
def test_resuming_changes_nothing(tiny, monkeypatch):
    whole = train(tiny(), out="whole")
    save = TrainingState.save_epoch

    class Killed(BaseException):
        pass

    def save_and_stop(*arguments):
        save(*arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(TrainingState, "save_epoch", save_and_stop)
        for done in range(3):
            torch.manual_seed(done)
            with pytest.raises(Killed):
                train(tiny(), out="steps", resume=True)
    assert Run("steps").metrics() == whole.metrics()
    one, two = whole.student_state(), Run("steps").student_state()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("method", ["none", "fam"])
def test_half_precision_rounds_no_box(tiny, method):
    """What trains on a GPU by itself: boxes stay as they were read, anchors as they were laid."""
    flags = ("--method", method, "--precision", "bf16-mixed", "--epochs", "1")
    run = train(tiny(*flags), out="half")
    single = train(tiny(*flags[:2], "--epochs", "1"), out="single")
    for name, value in single.metrics()[0].items():
        if name.startswith("task."):
            assert run.metrics()[0][name] == pytest.approx(value, rel=0.25)  # other proposals are drawn


def test_anchors_are_laid_in_single_precision():
    model = tiny_detector(2).eval()
    images, _ = model.transform([torch.rand(3, 800, 1344)])
    maps = [torch.zeros(1, 4, 800 // stride, 1344 // stride) for stride in (4, 8, 16, 32, 64)]
    maps = maps[: len(model.rpn.anchor_generator.sizes)]
    (exact,) = model.rpn.anchor_generator(images, maps)
    (half,) = model.rpn.anchor_generator(images, [each.bfloat16() for each in maps])
    assert half.dtype == torch.float32
    assert torch.equal(half, exact)


def test_a_warm_up_by_steps_raises_the_rate_in_the_first_epoch(tiny, monkeypatch):
    rates, step = [], training.Step.__call__

    def note(self, piece):
        rates.append(self.optimizer.param_groups[0]["lr"])
        step(self, piece)

    monkeypatch.setattr(training.Step, "__call__", note)
    monkeypatch.setattr(Detection, "evaluate", lambda *a: Scores({"AP": 0.0}))
    train(tiny("--optim.warmup_steps", "2", "--data.batch_size", "1", "--epochs", "2", "--method", "mimic"), out="run")
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.01] + [0.01] * 5)


def test_figures_do_not_depend_on_the_scale_of_the_images(tiny):
    """A model that finds what is there, at whatever size it is shown, has 100 %."""
    for sides in (("64",), ("40", "200")):
        data = build_recipe_data(tiny("--data.sides", *sides, "--data.longest", "400"))
        model = _Oracle([target for batch in data.test(2) for target in batch.targets])
        figures, by_class = Detection().evaluate(model, data.test(2))
        assert figures["AP"] == pytest.approx(100)
        assert by_class == [pytest.approx(100)] * 2


class _Oracle(torch.nn.Module):
    def __init__(self, targets):
        super().__init__()
        self.targets = iter(targets)
        self.roi_heads = torch.nn.Module()
        self.roi_heads.box_predictor = torch.nn.Module()
        self.roi_heads.box_predictor.cls_score = torch.nn.Linear(1, 3)

    def forward(self, images):
        targets = [next(self.targets) for _ in images]
        kept = [~t["iscrowd"] for t in targets]
        return [
            {"boxes": t["boxes"][k], "labels": t["labels"][k], "scores": torch.ones(int(k.sum()))}
            for t, k in zip(targets, kept)
        ]


# what does not fit ----------------------------------------------------------------------------------------------------

REFUSED = {
    "a classifier": (
        ("--student.model", "resnet20"),
        "resnet20 is a network for classification, not for detection: detection takes fasterrcnn",
    ),
    "a detector that classifies": (("--task", "classification"), "pass --task detection"),
    "small images": (
        ("--data", "digits"),
        "data set digits is for classification or unlabelled, not for detection",
    ),
    "logits": (("--method", "kd"), "as a whole: detection takes methods that compare stages, such as fam"),
    "embeddings": (("--method", "fam+rkd"), "rkd compares"),
    "a graph": (("--engine", "graph"), "cannot run on --engine graph, .* leave it out"),
    "no such folder": (("--data.root", "nowhere"), r"There is no json of val boxes under nowhere, which holds nothing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(tiny, case):
    flags, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as told:
        train(tiny(*flags), out="run")
    assert "\n" not in str(told.value)


def test_coco_with_a_classifier():
    with pytest.raises(UserError, match="data set coco is for detection, not for classification"):
        validated(load_recipe("quickstart", "--data", "coco"))
