"""Recipes of COCO: the published protocol, and a step of each pair."""

import json

import pytest
import torch
from helpers.tiny_coco import make_coco

from famkd.config.builtin import builtin_recipes
from famkd.config.load import load_recipe
from famkd.config.validate import validated
from famkd.training.build import build_distiller, build_recipe_data

pytest_plugins = ("helpers.tiny_coco",)

METHODS = ("mimic", "reviewkd", "fam", "fam_review")
RECIPES = {name: path for name, path in builtin_recipes().items() if name.startswith("coco/")}


WEIGHTS = {  # as published for ReviewKD
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
