"""Detectors teach detectors: the same pixels, losses at any size, all weights trained, runs that resume."""

import json
from pathlib import Path

import pytest
import torch
from helpers.processes import finish
from helpers.tiny_coco import make_coco, tiny_detector
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from famkd.bench.step import bench
from famkd.cli import main
from famkd.config.builtin import builtin_recipes
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.distill.types import Scores
from famkd.errors import UserError
from famkd.models import build_model
from famkd.models.detection import LEVELS
from famkd.models.faster_rcnn import KeepSize, PreciseCoder
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
RECIPES = {name: path for name, path in builtin_recipes().items() if name.startswith("coco/")}


def built(recipe):
    torch.manual_seed(0)
    data = build_recipe_data(recipe)
    return data, build_distiller(recipe, data)


# networks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("fasterrcnn_resnet18", 28.7), ("fasterrcnn_resnet50", 41.8), ("fasterrcnn_mobilenet_v2", 19.2)],
)
def test_detectors_have_a_pyramid_of_four_levels_at_strides_4_to_32(name, parameters):
    model = build_model(name, 80)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.1)
    assert model.roi_heads.box_predictor.cls_score.out_features == 81  # and the background
    with torch.no_grad():
        maps = model.eval().backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps.values()][:4] == [(256, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    assert model.taps["stages"] == LEVELS
    assert all(model.get_submodule(path) for path in LEVELS)


def test_images_come_out_at_the_size_they_came_in_whatever_the_mode():
    prepare, images = KeepSize(), [torch.rand(3, 60, 100), torch.rand(3, 90, 40)]
    for mode in (True, False):
        batch, _ = prepare.train(mode)(images)
        assert batch.image_sizes == [(60, 100), (90, 40)]
        assert batch.tensors.shape == (2, 3, 96, 128)
        back = batch.tensors[1, :, :90, :40] * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        assert torch.allclose(back + torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), images[1], atol=1e-6)


def test_boxes_are_decoded_in_single_precision():
    boxes = torch.tensor([[1001.0, 503.0, 1103.0, 701.0]])
    coder = PreciseCoder((1.0, 1.0, 1.0, 1.0))
    decoded = coder.decode(torch.zeros(1, 4, dtype=torch.bfloat16), [boxes])
    assert torch.equal(decoded[:, 0], boxes)
    model = build_model("fasterrcnn_mobilenet_v2", 2)
    assert isinstance(model.rpn.box_coder, PreciseCoder)
    assert isinstance(model.roi_heads.box_coder, PreciseCoder)


def test_backbone_weights_are_frozen_where_they_are_borrowed(monkeypatch):
    """No network here: torchvision's own loading is stood in for, what is frozen is ours."""
    asked = []
    monkeypatch.setattr(
        "torchvision.models.mobilenetv2.MobileNet_V2_Weights.get_state_dict", _fake(asked), raising=False
    )
    monkeypatch.setattr("torchvision.models.resnet.ResNet18_Weights.get_state_dict", _fake(asked), raising=False)
    for name in ("fasterrcnn_resnet18", "fasterrcnn_mobilenet_v2"):
        model = build_model(name, 2, pretrained=True)
        kinds = {type(m).__name__ for m in model.backbone.modules()}
        assert "FrozenBatchNorm2d" in kinds
        assert "BatchNorm2d" not in kinds
        frozen = [p for p in model.backbone.body.parameters() if not p.requires_grad]
        assert 0 < len(frozen) < len(list(model.backbone.body.parameters()))
        other = build_model(name, 2)  # evaluation builds it without weights: the state must go over
        other.load_state_dict(model.state_dict())
        images = [torch.rand(3, 64, 64)]
        with torch.no_grad():
            features = [m.eval().backbone(m.transform(images)[0].tensors)["0"] for m in (model, other)]
        assert torch.allclose(*features, atol=1e-5)
    assert len(asked) == 2


def _fake(asked):
    def state_dict(self, *args, **options):
        from torchvision.models import get_model

        asked.append(self)
        torch.manual_seed(1)
        return get_model(
            type(self).__name__.removesuffix("_Weights").lower().replace("v2", "_v2").replace("__", "_")
        ).state_dict()

    return state_dict


def test_coco_weights_become_80_classes_in_the_same_function(monkeypatch):
    """torchvision's own model beside ours, both from one state that stands for the download: equal scores and boxes."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    torch.manual_seed(0)
    theirs = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).eval()
    state = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-12  # torch 2.11 takes no 0
    monkeypatch.setattr(
        "torchvision.models.detection.FasterRCNN_ResNet50_FPN_Weights.get_state_dict", lambda *a, **o: state
    )
    ours = build_model("fasterrcnn_resnet50", 80, pretrained="COCO_V1").eval()
    kinds = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    rows = [n for n, kind in enumerate(kinds) if kind != "N/A"]
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64)
        one, two = (model.backbone(x)["1"] for model in (theirs, ours))
        assert torch.allclose(one, two, rtol=1e-3, atol=1e-4 * one.abs().max())
        seen = torch.rand(5, 1024)
        (scores, boxes), (own, own_boxes) = (m.roi_heads.box_predictor(seen) for m in (theirs, ours))
    assert torch.allclose(own, scores[:, rows], atol=1e-5)
    assert torch.allclose(own_boxes, boxes.view(5, 91, 4)[:, rows].flatten(1), atol=1e-5)
    with pytest.raises(UserError, match="COCO_V1 know 80 classes, the data has 2"):
        build_model("fasterrcnn_resnet50", 2, pretrained="COCO_V1")
    with pytest.raises(
        UserError, match="no weights 'COCO_V2' of fasterrcnn_resnet50: there are IMAGENET1K_V1, COCO_V1"
    ):
        build_model("fasterrcnn_resnet50", 80, pretrained="COCO_V2")


def test_weights_out_of_reach(monkeypatch, tmp_path):
    from urllib.error import URLError

    def refuse(*args, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="backbone's ImageNet weights of fasterrcnn_resnet18 could not be downloaded"):
        build_model("fasterrcnn_resnet18", 80, pretrained=True)


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


# recipes --------------------------------------------------------------------------------------------------------------

WEIGHTS = {  # METHODS.md 3.5
    "coco/fasterrcnn_resnet101-fasterrcnn_resnet18": 1.2,
    "coco/fasterrcnn_resnet101-fasterrcnn_resnet50": 1.0,
    "coco/fasterrcnn_resnet50-fasterrcnn_mobilenet_v2": 2.0,
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_published_protocol(name):
    recipe = validated(load_recipe(name))
    optim, images = recipe.optim, 118_287
    steps = images // recipe.data.batch_size
    assert (recipe.data.batch_size, optim.lr) == (8, 0.01)
    assert optim.epochs == round(180_000 / steps)
    assert optim.steps == (round(120_000 / steps), round(160_000 / steps))
    assert recipe.student.weights == "pretrained"
    assert (recipe.data.sides[-1], recipe.data.longest) == (800, 1333)


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_pair_lists_its_methods(name):
    for method in METHODS:
        recipe = validated(load_recipe(name, "--method", method))
        assert recipe.teacher.weights == f"recipe:coco/{recipe.teacher.model}"
        assert recipe.teacher.weights.removeprefix("recipe:") in RECIPES
    assert load_recipe(name, "--method", "reviewkd").reviewkd.weight == WEIGHTS[name]


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", WEIGHTS)
def test_every_pair_takes_one_step(name, tmp_path):
    """The real networks on two tiny images, both attentions at once, few filters: it runs and all that trains moves."""
    make_coco(tmp_path / "coco", 2)
    flags = ("--method", "fam+fam_review", "--fam.grid", "2", "--fam_review.grid", "2", "--fam_review.fuse", "sigmoid")
    flags += (
        "--data.root",
        str(tmp_path / "coco"),
        "--data.sides",
        "32",
        "--data.batch_size",
        "2",
        "--data.workers",
        "0",
    )
    recipe = validated(load_recipe(name, *flags))
    torch.manual_seed(0)
    data = build_recipe_data(recipe)
    distiller = build_distiller(recipe, data, weights=False)
    distiller.student.model.roi_heads.fg_bg_sampler.batch_size_per_image = 8
    losses = distiller.train()(data.take(next(data.epoch(1))))[0]
    sum(sum(terms.values()) for terms in losses.values()).backward()
    assert [key for key, p in distiller.named_parameters() if p.requires_grad and p.grad is None] == []
    assert json.dumps({group: list(terms) for group, terms in losses.items()})
