"""CAMs of any network: the right place by default, vision transformers, ablation, rollout, and a sanity check."""

import matplotlib
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

matplotlib.use("Agg")
from famkd.errors import UserError
from famkd.models import build_model
from famviz.analysis import cam_scores
from famviz.analysis.cam_methods import _tail_alone
from famviz.analysis.cam_place import caught, find_place
from famviz.analysis.cam_sanity import parts, randomisation
from famviz.figures.cam import cam, compare, sanity_figure


def vit(**options):
    vits = pytest.importorskip("timm.models.vision_transformer")
    torch.manual_seed(0)
    model = vits.VisionTransformer(32, 8, num_classes=5, embed_dim=24, depth=3, num_heads=2, **options)
    return with_head(model.eval())


def torch_vit():
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(32, 8, 3, 2, 24, 48, num_classes=5).eval()
    nn.init.normal_(model.heads.head.weight)
    return model


def swin():
    swins = pytest.importorskip("timm.models.swin_transformer")
    torch.manual_seed(0)
    model = swins.SwinTransformer(
        32, 2, num_classes=5, window_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 2), mlp_ratio=2.0
    )
    return with_head(model.eval())


def torch_swin():
    torch.manual_seed(0)
    return torchvision.models.SwinTransformer([2, 2], 12, [1, 2], [2, 2], [4, 4], num_classes=5).eval()


def mixer():
    mixers = pytest.importorskip("timm.models.mlp_mixer")
    torch.manual_seed(0)
    return with_head(mixers.MlpMixer(num_classes=5, img_size=32, patch_size=8, num_blocks=2, embed_dim=16).eval())


def convnext():
    convnexts = pytest.importorskip("timm.models.convnext")
    torch.manual_seed(0)
    return with_head(convnexts.ConvNeXt(num_classes=5, depths=(1, 1, 1, 1), dims=(8, 8, 12, 12)).eval())


def efficientnet():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    return timm.create_model("tf_efficientnet_lite0", num_classes=5).eval()


def with_head(model):
    """The network with a classifier that is not zero, as timm starts some."""
    nn.init.normal_(model.get_classifier().weight)
    return model


@pytest.fixture
def batch():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


DEFAULTS = {
    "class token": (vit, "blocks.2.norm1:in", (4, 4)),
    "class token and registers": (lambda: vit(reg_tokens=4), "blocks.2.norm1:in", (4, 4)),
    "mean of the tokens": (lambda: vit(class_token=False, global_pool="avg"), "blocks.2", (4, 4)),
    "mean beside a class token": (lambda: vit(global_pool="avg"), "blocks.2", (4, 4)),
    "torchvision's ViT": (torch_vit, "encoder.layers.encoder_layer_2.ln_1:in", (4, 4)),
    "Swin": (swin, "norm", (8, 8)),
    "torchvision's Swin": (torch_swin, "permute", (8, 8)),
    "Mixer": (mixer, "blocks.1", (4, 4)),
    "ConvNeXt": (convnext, "norm_pre", (2, 2)),
    "EfficientNet": (efficientnet, "bn2", (2, 2)),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_layer_of_every_family_has_evidence(name, batch):
    build, layer, grid = DEFAULTS[name]
    images = batch if grid != (2, 2) else nn.functional.interpolate(batch, (64, 64))
    model = build()
    result = cam(model, images, "predicted", "HiResCAM")
    assert result.layer == layer
    assert result.evidence.shape[1:] == grid
    assert result.why_empty == ["", ""]
    assert np.abs(cam(model, images).evidence).max(axis=(1, 2)).min() > 0


def gradients(model, images, layer, classes):
    """Input of a norm and its gradient, (B, N, C), by plain autograd."""
    seen = []

    def keep(module, args):
        args[0].retain_grad()
        seen.append(args[0])

    handle = model.get_submodule(layer.removesuffix(":in")).register_forward_pre_hook(keep)
    logits = model(images.clone().requires_grad_())
    handle.remove()
    logits[torch.arange(len(images)), classes].sum().backward()
    return seen[0].detach(), seen[0].grad


@pytest.mark.parametrize(("build", "prefix"), [(vit, 1), (lambda: vit(reg_tokens=4), 5), (torch_vit, 1)])
def test_gradcam_of_a_class_token_is_its_formula_at_the_first_norm(build, prefix, batch):
    """The gradient through the attention alone: the residual path of a patch does not reach the class token."""
    model, classes = build(), torch.tensor([3, 1])
    result = cam(model, batch, classes)
    whole, _ = gradients(model, batch, result.layer, classes)
    taken = whole.clone().requires_grad_()
    place = find_place(model, result.layer)
    handle = place.module.register_forward_pre_hook(lambda module, args: (taken,))
    scores = model(batch)[torch.arange(2), classes].sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(scores, taken)
    maps, slopes = (each[:, prefix:].transpose(1, 2).unflatten(2, (4, 4)) for each in (whole, gradient))
    wanted = (slopes.mean((2, 3), keepdim=True) * maps).sum(1)
    np.testing.assert_allclose(result.evidence, wanted.numpy(), atol=1e-6)


def test_an_empty_map_of_a_class_token_names_the_layer_that_has_one(batch):
    model = vit()
    words = cam(model, batch, 2, layer="blocks.2").why_empty[0]
    assert words == (
        "blocks.2 has no evidence for class 2: the classifier reads only the class token there, so the patch tokens "
        "have no gradient: pass layer='blocks.2.norm1:in'."
    )
    assert np.abs(cam(model, batch, 2, layer="blocks.2.norm1:in").evidence).max() > 0
    late = cam(model, batch, 2, layer="norm").why_empty[0]
    assert late.endswith("so the patch tokens have no gradient: choose an earlier layer.")


def test_a_last_stage_of_one_pixel_is_passed_over(batch):
    tiny = build_model("ResNet18", 5)
    assert cam(tiny, batch[:, :, :8, :8], 0).layer == "layer3"
    assert "1 x 1 here" in cam(tiny, batch[:, :, :8, :8], 0, layer="layer4").why_empty[0]


@pytest.mark.parametrize(
    ("build", "layer", "channel"),
    [
        (lambda: build_model("resnet8x0.5", 5), "layer3", lambda out, c: out[:, c]),
        (swin, "norm", lambda out, c: out[..., c]),
        (vit, "blocks.2.norm1:in", lambda out, c: out[:, 1:, c]),
    ],
)
def test_ablation_equals_one_channel_after_another(build, layer, channel, batch):
    model, classes = build().eval(), torch.tensor([4, 0])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
    place, result = find_place(model, layer), cam(model, batch, classes, "AblationCAM", layer)
    with torch.no_grad():
        with caught(place, False) as seen:
            scores = model(batch)[torch.arange(2), classes]
        falls = []
        for c in range(seen[0].shape[1 if layer == "layer3" else -1]):
            without = seen[0].clone()
            channel(without, c).zero_()
            value = (without,) if place.entering else without
            change = (lambda m, a, v=value: v) if place.entering else (lambda m, a, o, v=value: v)
            kind = "register_forward_pre_hook" if place.entering else "register_forward_hook"
            handle = getattr(place.module, kind)(change)
            falls.append(scores - model(batch)[torch.arange(2), classes])
            handle.remove()
        values = [channel(seen[0], c).reshape(2, -1) for c in range(len(falls))]
    wanted = sum(fall[:, None] * value for fall, value in zip(falls, values))
    np.testing.assert_allclose(result.evidence.reshape(2, -1), wanted.numpy(), atol=2e-5)


def test_ablation_agrees_with_the_library_where_scores_are_positive(batch):
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(0)
    model = build_model("resnet8x0.5", 5).eval()
    best = model(batch).argmax(1)
    with AblationCAM(model, [model.layer3], batch_size=8) as theirs:
        scaled = theirs(batch, [ClassifierOutputTarget(int(each)) for each in best])
    ours = cam(model, batch, best, "AblationCAM", "layer3").maps
    for mine, other in zip(ours, scaled):
        assert np.corrcoef(mine.ravel(), other.ravel())[0, 1] > 0.99


def test_ablation_of_a_network_that_needs_its_batch_size(batch):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.last(self.first(x).mean((2, 3)).view(len(x), 4))

    torch.manual_seed(0)
    model, free = (
        Fixed().eval(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    free[0], free[3] = model.first, model.last
    one, other = cam(model, batch, 1, "AblationCAM", "first"), cam(free, batch, 1, "AblationCAM", "0")
    np.testing.assert_allclose(one.evidence, other.evidence, atol=1e-6)
    taken = model.first(batch)
    assert not _tail_alone(model, find_place(model, "first"), batch[:1], taken[:1].detach())
    assert _tail_alone(free, find_place(free, "0"), batch[:1], taken[:1].detach())


def attention_of(model, images):
    """Weights (B, heads, N, N) of each layer of timm's vision transformer, in numpy, from its queries and keys."""
    found = []
    for block in model.blocks:
        block.attn.qkv.register_forward_hook(lambda module, args, out: found.append(out.detach().double().numpy()))
    with torch.no_grad():
        model(images)
    layers = []
    for out in found:
        b, n, _ = out.shape
        query, key, _ = out.reshape(b, n, 3, 2, -1).transpose(2, 0, 3, 1, 4)
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        layers.append(weights / weights.sum(-1, keepdims=True))
    return layers


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("options", [{}, {"reg_tokens": 4}, {"class_token": False, "global_pool": "avg"}])
def test_rollout_is_the_product_of_the_attention_of_all_layers(fused, options, batch):
    model = vit(**options)
    for block in model.blocks:
        nn.init.normal_(block.attn.qkv.weight, std=0.5)  # attention that prefers places
        block.attn.fused_attn = fused
    result = cam(model, batch, method="AttentionRollout")
    prefix = model.num_prefix_tokens
    joint = np.eye(16 + prefix)
    for weights in attention_of(model, batch):
        mean = (weights.mean(1) + np.eye(16 + prefix)) / 2
        joint = mean / mean.sum(-1, keepdims=True) @ joint
    rows = joint[:, 0] if prefix else joint.mean(1)
    np.testing.assert_allclose(result.evidence.reshape(2, -1), rows[:, prefix:], atol=1e-6)
    assert result.layer == "all 3 attention layers"
    assert (result.predicted == model(batch).argmax(1).numpy()).all()
    assert result.evidence.std() > 1e-3


def test_rollout_sees_the_attention_that_torchs_module_computes(batch):
    model = torch_vit()
    result = cam(model, batch, method="AttentionRollout")
    joint, seen = np.eye(17), []
    for layer in model.encoder.layers:
        layer.ln_1.register_forward_hook(lambda module, args, out: seen.append(out))
    model(batch)
    for layer, out in zip(model.encoder.layers, seen):
        weights = layer.self_attention(out, out, out, need_weights=True)[1]
        joint = (weights.detach().numpy() + np.eye(17)) / 2 @ joint
    np.testing.assert_allclose(result.evidence.reshape(2, -1), joint[:, 0, 1:], atol=1e-6)


@pytest.mark.parametrize(
    ("build", "words"),
    [(convnext, "has no attention. Choose GradCAM"), (swin, "attention between all tokens, which Swin"),
     (mixer, "MlpMixer has no attention")],
)  # fmt: skip
def test_rollout_is_refused_where_there_is_none(build, words, batch):
    with pytest.raises(UserError, match=words):
        cam(build(), nn.functional.interpolate(batch, (32, 32)), method="AttentionRollout")
    with pytest.raises(UserError, match="takes all layers"):
        cam(build(), batch, method="AttentionRollout", layer="norm")


def test_parts_hold_every_parameter_once(batch):
    for model in (build_model("resnet8x0.5", 5), vit(), swin(), efficientnet()):
        images = nn.functional.interpolate(batch, (64, 64)) if model.__class__.__name__ == "EfficientNet" else batch
        found = parts(model, images)
        paths = [path for _, group in found for path in group]
        own = [p for path in paths for p in model.get_submodule(path).parameters(recurse=False)]
        assert found[0][0] == "head"
        assert sorted(map(id, own)) == sorted(map(id, model.parameters()))


def test_randomised_weights_change_the_maps_and_not_the_network(batch):
    torch.manual_seed(0)
    model = build_model("resnet8x0.5", 5)
    before, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    found = randomisation(model, batch, 2)
    assert list(found.randomised) == ["head", "head to layer3", "head to layer2", "head to layer1"]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert all((each.classes == 2).all() for each in found.randomised.values())
    assert not np.allclose(found.randomised["head"].evidence, found.trained.evidence)
    rows = {row["randomised"]: row for row in found.rows()}
    wanted = cam_scores.rank_correlation(found.randomised["head"].maps, found.trained.maps)
    assert rows["head"]["rank correlation"] == pytest.approx(cam_scores.mean(wanted))
    blind = randomisation(model, batch, 2, "EigenCAM")  # does not look at the head
    np.testing.assert_allclose(blind.similarity("head"), 1)
    again = randomisation(model, batch, 2)
    np.testing.assert_array_equal(again.randomised["head"].maps, found.randomised["head"].maps)
    axes = sanity_figure(found).axes
    assert [ax.get_title().split("\n")[0] for ax in axes[:6]] == [
        "trained",
        *[f"{n} random" for n in found.randomised],
        "",
    ]


def test_a_comparison_tells_how_much_of_the_maps_random_weights_keep(batch):
    torch.manual_seed(0)
    pair = {"teacher": build_model("resnet14x0.5", 5), "student": build_model("resnet8x0.5", 5)}
    shown = compare(pair, batch, steps=0, sanity=True)
    for name, model in pair.items():
        found = randomisation(model, batch, torch.from_numpy(shown.results[name].classes))
        np.testing.assert_array_equal(shown.figures[name]["head random"], found.similarity("head"))
        np.testing.assert_array_equal(shown.figures[name]["all random"], found.similarity("head to layer1"))
    assert "head random" not in compare(pair, batch, steps=0).figures["teacher"]
    plain = compare(pair, batch, steps=0, sanity=True, method="EigenCAM")
    assert plain.rows()[0]["head random"] == pytest.approx(1)
