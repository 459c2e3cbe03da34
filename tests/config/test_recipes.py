"""Every shipped recipe: it loads, says of itself what it is, builds and takes one step with every method it lists."""

import dataclasses
import re

import pytest
import torch
import yaml
from lightning_fabric import Fabric

from famkd.bench.step import prepared_step
from famkd.config.builtin import builtin_recipes
from famkd.config.load import differences, load_recipe, parse_recipe, without_teacher
from famkd.config.sections import method_options, method_section, recipe_type
from famkd.config.validate import validated
from famkd.data.augment import NOTHING
from famkd.data.augmented import augmented
from famkd.data.in_memory import InMemory
from famkd.data.small import Images
from famkd.errors import RecipeError, UserError
from famkd.methods import METHODS
from famkd.training.build import build_distiller
from famkd.training.schedule import learning_rate, loss_weights

RECIPES = builtin_recipes()
LOADED = {name: load_recipe(name) for name in RECIPES}
MODERN = [name for name in RECIPES if LOADED[name].optim.name != "sgd" or LOADED[name].optim.schedule == "onecycle"]
SMALL_IMAGES = [name for name in RECIPES if name.startswith("cifar100/") and name not in MODERN]
PAIRS = [name for name in RECIPES if LOADED[name].teacher.model]
CLASSIFY = [name for name in PAIRS if LOADED[name].task == "classification" and name not in MODERN]


def random_images(recipe, n: int = 4) -> Images:
    """Noise of the shape of a recipe's data set."""
    size, classes = {"digits": (8, 10), "imagenet": (64, 100)}.get(recipe.data.name, (32, 100))
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=generator).numpy()
    y = (torch.arange(n) % classes).numpy()
    return Images(x, y, x, y, [str(i) for i in range(classes)], (0.5,) * 3, (0.25,) * 3)


def listed_methods(name: str) -> list[str]:
    tree = yaml.safe_load(RECIPES[name].read_text())
    return [key for key in tree if key in METHODS] or [tree["method"]]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_loads_and_round_trips(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert validated(recipe).student.model
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe
    assert differences(again, recipe) == []


@pytest.mark.sample(8)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_chosen_and_round_trips(method, tmp_path):
    recipe = load_recipe("quickstart", "--method", method)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_with_every_method_round_trips(name, tmp_path):
    recipe = load_recipe(name, "--method", "+".join(METHODS))
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", CLASSIFY)
def test_every_method_takes_one_step_on_every_pair(name):
    """All at once on one pair of networks: each method sees its own taps, all gradients add up."""
    recipe = load_recipe(name, "--method", "+".join(METHODS), "--data.batch_size", "4")
    torch.manual_seed(0)
    data = InMemory(random_images(recipe), 4)
    distiller = build_distiller(recipe, data, weights=False)
    parameters = [p for p in distiller.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    weights = loss_weights(recipe, epoch=1)
    before = [p.detach().clone() for p in parameters]
    losses = distiller.train()(data.take(next(data.epoch(1))))[0]
    assert set(losses) == {"task", *METHODS}
    for group, terms in losses.items():
        assert all(value.isfinite() for value in terms.values()), group
    sum(weights[group] * sum(terms.values()) for group, terms in losses.items()).backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in parameters)
    missing = [key for key, p in distiller.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    student = {id(p) for p in distiller.student.parameters()}
    moved = [not torch.equal(old, new) for old, new in zip(before, parameters) if id(new) in student]
    assert all(moved)


def slow_unless_small(name):
    return name if name.startswith("cifar100/") else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", map(slow_unless_small, MODERN))
def test_modern_recipes_train(name):
    """Two steps on images of the right shape, with every method that is listed, as a training takes them."""
    methods = "+".join(listed_methods(name)) if LOADED[name].teacher.model else "none"
    recipe = validated(load_recipe(name, "--method", methods, "--data.batch_size", "4", "--engine", "eager"))
    data = InMemory(random_images(recipe, 8), 4)
    if recipe.augment != NOTHING:
        data = augmented(data, recipe.augment, recipe.seed)
    step, distiller = prepared_step(recipe, data, Fabric(accelerator="cpu", devices=1))
    before = {key: value.clone() for key, value in distiller.student.model.state_dict().items()}
    for piece in data.epoch(1):
        step.set_lr(learning_rate(recipe.optim, 2, step.count, data.steps))
        step(piece)
    assert step.monitor.first_bad() is None
    assert {key.partition(".")[0] for key in step.monitor.means(2)} == {"task", *recipe.method_names}
    moved = {key for key, value in distiller.student.model.state_dict().items() if not torch.equal(value, before[key])}
    assert {key for key, _ in distiller.student.model.named_parameters()} <= moved
    assert (step.averaged is not None) == bool(recipe.ema)


def test_modern_recipes_are_for_every_size_of_images():
    assert {name.partition("/")[0] for name in MODERN} == {"cifar100", "tiny_imagenet", "folder"}
    for kind in ("cifar100", "tiny_imagenet", "folder"):
        pairs = [LOADED[name] for name in MODERN if name.startswith(f"{kind}/") and LOADED[name].teacher.model]
        is_vit = [["it_" in net.model for net in (pair.student, pair.teacher)] for pair in pairs]
        assert [True, False] in is_vit, kind
        assert [False, True] in is_vit, kind


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", PAIRS)
def test_listed_weights_reach_the_loss(name):
    tree = yaml.safe_load(RECIPES[name].read_text())
    for method in listed_methods(name):
        recipe = load_recipe(name, "--method", method)
        section = recipe.section(method)
        for key, value in tree.get(method, {}).items():
            assert getattr(section, key) == value
        assert loss_weights(recipe, epoch=1000)[method] == section.weight


PUBLISHED = {  # METHODS.md 3.2 and FAM.md fact 10
    ("cifar100/resnet56-resnet20", "fam_review"): {"weight": 0.8, "task_weight": 1.0, "warmup": 20},
    ("cifar100/resnet32x4-resnet8x4", "fam_review"): {"weight": 20},
    ("cifar100/wrn_40_2-wrn_16_2", "fam_review"): {"weight": 5},
    ("cifar100/resnet56-resnet20", "reviewkd"): {"weight": 0.6, "warmup": 20},
    ("cifar100/resnet32x4-ShuffleV2", "reviewkd"): {"weight": 8},
    ("cifar100/resnet56-resnet20", "kd"): {"weight": 0.9, "task_weight": 0.1, "temperature": 4.0},
    ("cifar100/resnet32x4-resnet8x4", "dkd"): {"alpha": 1.0, "beta": 8.0, "temperature": 4.0, "warmup": 20},
    ("cifar100/resnet56-resnet20", "dkd"): {"beta": 2.0},
    ("cifar100/wrn_40_2-ShuffleV1", "catkd"): {"weight": 80, "size": 4},
    ("cifar100/resnet56-resnet20", "crd"): {"weight": 0.8},
    ("cifar100/vgg13-vgg8", "at"): {"weight": 1000},
    ("imagenet/resnet34-resnet18", "kd"): {"weight": 0.5, "task_weight": 0.5, "temperature": 1},
    ("imagenet/resnet34-resnet18", "at"): {"weight": 1000},
    ("imagenet/resnet34-resnet18", "crd"): {"weight": 0.8},
    ("imagenet/resnet34-resnet18", "dist"): {"weight": 2, "temperature": 1},
    ("imagenet/resnet34-resnet18", "ofd"): {"weight": 1e-4},
    ("imagenet/resnet34-resnet18", "reviewkd"): {"weight": 1, "warmup": 1},
    ("imagenet/resnet34-resnet18", "dkd"): {"alpha": 1, "beta": 0.5, "temperature": 1, "warmup": 1},
    ("imagenet/resnet34-resnet18", "fam_review"): {"weight": 1, "warmup": 1, "filter": "dense"},
    ("imagenet/resnet50-MobileNetV1", "dist"): {"weight": 2, "temperature": 1},
    ("imagenet/resnet50-MobileNetV1", "ofd"): {"weight": 1e-4},
    ("imagenet/resnet50-MobileNetV1", "reviewkd"): {"weight": 8, "warmup": 1},
    ("imagenet/resnet50-MobileNetV1", "dkd"): {"beta": 2},
    ("imagenet/resnet50-MobileNetV1", "fam"): {"weight": 8, "warmup": 1, "filter": "separable"},
    ("imagenet/resnet50-MobileNetV1", "fam_review"): {"weight": 8, "warmup": 1, "filter": "separable"},
}


@pytest.mark.sample(10)
@pytest.mark.parametrize(("name", "method"), PUBLISHED)
def test_published_hyperparameters(name, method):
    section = load_recipe(name, "--method", method).section(method)
    for key, value in PUBLISHED[name, method].items():
        assert getattr(section, key) == value, key


@pytest.mark.parametrize("name", SMALL_IMAGES)
def test_the_common_protocol(name):
    recipe = load_recipe(name)
    optim = recipe.optim
    small = recipe.student.model.startswith(("Mobile", "Shuffle"))
    assert (optim.epochs, optim.steps, optim.gamma) == (240, (150, 180, 210), 0.1)
    assert (optim.lr, optim.momentum, optim.weight_decay, optim.nesterov) == (0.01 if small else 0.05, 0.9, 5e-4, False)
    assert (recipe.data.name, recipe.data.batch_size) == ("cifar100", 64)


@pytest.mark.parametrize("name", [name for name in PAIRS if name.startswith("imagenet/")])
def test_the_protocol_of_imagenet(name):
    recipe = load_recipe(name)
    optim = recipe.optim
    assert (optim.epochs, optim.steps, optim.gamma, optim.lr) == (100, (30, 60, 90), 0.1, 0.1)
    assert (optim.momentum, optim.weight_decay, optim.nesterov) == (0.9, 1e-4, False)
    assert (recipe.data.name, recipe.data.batch_size) == ("imagenet", 256)
    assert set(listed_methods(name)) == {"kd", "at", "crd", "dist", "ofd", "reviewkd", "dkd", "fam", "fam_review"}


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_signature_is_its_section_and_its_help(method):
    section = method_section(method)
    names = {field.name for field in dataclasses.fields(section)}
    assert names == {"weight", "task_weight", "warmup", *method_options(METHODS[method])}
    for name in names:
        assert f"{name}:" in section.__doc__, f"{method} says nothing about {name}"


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("student: {model: resnet8}\nseed: 3\noptim: {lr: 0.2, steps: [1, 2]}\nbaseline: true\n")
    recipe = load_recipe(file, "--seed", "4", "--optim.steps", "7", "--no-baseline", "--lr=0.5")
    assert (recipe.seed, recipe.optim.steps, recipe.baseline, recipe.optim.lr) == (4, (7,), False, 0.5)
    assert recipe.name == "mine"


def test_sections_of_other_methods_are_left_out():
    tree = {"student": {"model": "resnet8"}, "method": "kd", "kd": {"temperature": "2"}, "fam": {"weight": "9"}}
    recipe = parse_recipe(tree, ["--method", "fam+kd"], name="x")
    assert recipe.method_names == ("fam", "kd")
    assert (recipe.fam.weight, recipe.kd.temperature) == (9, 2)
    assert not hasattr(parse_recipe(tree, [], name="x"), "fam")


def test_spaces_in_a_sum_of_methods_are_left_out(tmp_path):
    assert load_recipe("quickstart", "--method", " fam_review + kd").method == "fam_review+kd"
    assert load_recipe("quickstart", "--method=").method == "none"


def test_help_shows_the_recipes_own_values(capsys):
    with pytest.raises(SystemExit) as end:
        load_recipe("quickstart", "--method", "kd", "--help")
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert end.value.code == 0
    assert "Number of epochs. (default: 5)" in out
    assert "--kd.temperature" in out


def test_without_teacher_is_the_same_protocol():
    recipe = load_recipe("quickstart")
    alone = without_teacher(recipe)
    assert alone.method_names == ()
    assert type(alone) is recipe_type((), alone.data.name)
    assert {key.partition(".")[0] for key in differences(recipe, alone)} == {
        "baseline", "fam_review", "method", "teacher",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tree", "flags", "words"),
    [
        ({"optim": {"lrr": "1"}}, [], r"In the recipe x: optim.lrr is not a setting. Did you mean optim.lr or .*"),
        ({}, ["--optim.lr", "fast"], r"--optim.lr is 'fast': pass a number."),
        ({"seed": "one"}, [], r"In the recipe x: seed is 'one': pass a whole number."),
        ({"seed": "-1"}, [], r"In the recipe x: seed is -1: pass 0 or more."),
        ({"method": "kd", "kd": {"temprature": "4"}}, [], r".* Did you mean kd.temperature\? See .*"),
        ({"kd": {"temprature": "4"}}, [], r".*kd.temprature is not a setting. Did you mean kd.temperature\? .*"),
        ({"optim": "fast"}, [], r"In the recipe x: optim is a section: write `optim: {epochs: fast}`."),
    ],
)
def test_mistakes_in_file_and_flags_raise_an_error_with_a_hint(tree, flags, words, capsys):
    with pytest.raises(RecipeError) as error:
        parse_recipe(tree, flags, name="x")
    assert re.fullmatch(words, str(error.value))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("source", "flags", "words"),
    [
        ("cifar100/resnet56-resnet02", [], "Did you mean cifar100/resnet56-resnet20"),
        ("quickstart", ["--method", "fam_reveiw"], "Did you mean fam_review"),
        ("quickstart", ["--method", "kd+fitnot"], "Did you mean fitnet"),
        (
            "quickstart",
            ["--dkd.beta=2"],
            r"dkd is not among .*\(fam_review\): pass --method dkd or leave --dkd.beta out",
        ),
    ],
)
def test_unknown_names_come_with_the_nearest(source, flags, words):
    with pytest.raises(UserError, match=words):
        load_recipe(source, *flags)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "\x00"])
def test_files_that_are_no_recipe(text, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=r"recipe"):
        load_recipe(file)
