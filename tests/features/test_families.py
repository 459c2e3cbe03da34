"""Every family of timm and torchvision: it is tapped at its stages, learns a step and teaches one, or says why not."""

import contextlib
from itertools import pairwise

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision import models

from famkd.distill.distiller import Distiller, total_loss
from famkd.distill.types import Batch
from famkd.errors import UserError
from famkd.features.taps import Tapped, default_taps
from famkd.layers.fourier import FilterOptions
from famkd.methods import METHODS
from famkd.models import build_model
from famkd.tasks import Classification

# Modules of timm, and the smallest network of each class in them by parameters (timm 1.0.31), and some others.
FAMILIES = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1 botnet26t_256 lambda_resnet26t",
    "byobnet": "test_byobnet gernet_s mobileone_s0 repvgg_a0 resnext26ts",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny coat_lite_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "test_convnext convnextv2_atto",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m deepseek_vit_412m_enc",
    "deit": "deit_tiny_patch16_224 deit_tiny_distilled_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet mobilenetv2_035 mixnet_s",
    "efficientvim": "efficientvim_m1 efficientvim_m1_dist",
    "efficientvit_mit": "efficientvit_b0 efficientvit_l1",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb eva02_tiny_patch14_224",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8 fastvit_mci0",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m gemma4_vit_167m_enc",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_256d levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "test_mambaout",
    "maxxvit": "test_coatnet test_maxvit coatnet_pico_rw_224 coatnext_nano_rw_224 maxvit_pico_rw_256 maxxvitv2_nano_rw_256",  # noqa: E501
    "metaformer": "poolformerv2_s12 caformer_s18",
    "mlp_mixer": "gmlp_ti16_224 mixer_s32_224 resmlp_12_224",
    "mobilenetv3": "lcnet_035 mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base mobilenetv5_300m_enc",
    "mobilevit": "mobilevit_xxs mobilevitv2_050",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "test_nfnet",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m qwen3_vit_88m_enc",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "test_resnet resnet18",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit vit_tiny_patch16_224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
NETWORKS = [(module, name) for module, names in FAMILIES.items() for name in names.split()]
SIDE = 64  # of the images, in pixels
SIDES = {  # of networks that need another size
    "crossvit_tiny_240": 240, "efficientformer_l1": 224, "halonet_h1": 256, "inception_resnet_v2": 96,
    "inception_v3": 96, "inception_v4": 96,
}  # fmt: skip
REFUSED = {  # on images of that size, or because they are encoders without a classifier
    "deepseek_vit_412m": r"divisible by patch size \(14\)\): it is made for 546 x 546",
    "deepseek_vit_412m_enc": r"divisible by patch size \(14\)\): it is made for 546 x 546",
    "gemma4_vit_167m_enc": r"must be divisible by .*: it is made for 768 x 768",
    "mobilenetv5_300m_enc": r"The student returns a tensor \(batch, 2048, 16, 16\) float32, in which no part is logits",
    "qwen3_vit_88m_enc": r"The student returns a tensor \(batch, 4, 1024\) float32, in which no part is logits",
}
# Maps that timm takes elsewhere: before a norm, or in the branches of a network that has several.
ELSEWHERE = {"coat_tiny", "coat_lite_tiny", "hrnet_w18_small", "mvitv2_tiny", "twins_svt_small"}
TROUBLESOME = [
    "test_coatnet", "test_maxvit", "efficientvit_m0", "tiny_vit_5m_224", "levit_128s", "hrnet_w18_small",
    "tnt_s_legacy_patch16_224", "test_mambaout", "hiera_tiny_224",
]  # fmt: skip
TORCHVISION = {  # and the path of the classifier; "" for one that is no single layer
    "alexnet": "classifier.6", "convnext_tiny": "classifier.2", "densenet121": "classifier",
    "efficientnet_b0": "classifier.1", "efficientnet_v2_s": "classifier.1", "googlenet": "fc", "inception_v3": "fc",
    "maxvit_t": "classifier.5", "mnasnet0_5": "classifier.1", "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3", "regnet_y_400mf": "fc", "resnet18": "fc", "resnext50_32x4d": "fc",
    "shufflenet_v2_x0_5": "fc", "squeezenet1_1": "classifier.1", "swin_t": "head", "swin_v2_t": "head",
    "vgg11_bn": "classifier.6", "vit_b_32": "heads.head", "wide_resnet50_2": "fc",
}  # fmt: skip
TORCHVISION_SIDES = {"inception_v3": 299, "maxvit_t": 224}
FAST = ["mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1"]


def random_images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def step(student: nn.Module, teacher: nn.Module, side: int) -> Distiller:
    """One step by fam and kd."""
    batch = Batch(random_images(side), torch.tensor([0, 3]), torch.arange(2))
    options = {"fam": {"filter": FilterOptions(filter="lowrank")}}
    methods = {name: METHODS[name] for name in ("fam", "kd")}
    distiller = Distiller(
        Classification(), student, teacher, methods, probe=batch, options=options, classes=5
    ).train()  # fmt: skip
    losses = distiller(batch)[0]
    assert all(term.isfinite() for terms in losses.values() for term in terms.values())
    total_loss(losses, dict.fromkeys(losses, 1.0)).backward()
    assert any(each.grad is not None and each.grad.abs().sum() > 0 for each in student.parameters())
    return distiller


def learns_and_teaches(name: str, side: int) -> tuple[nn.Module, str]:
    """Let a network learn a step and teach one, look at its taps; returns it and the path of its classifier."""
    torch.manual_seed(0)
    model = build_model(name, 5, size=(side, side))
    distiller = step(model, build_model("resnet8", 5), side)
    taps = distiller.taps("fam")[0]
    distiller.student.remove()
    shapes = [feat.shape for feat in Tapped(model.eval(), taps)(random_images(side))[1]]
    assert 2 <= len(taps) <= 4
    assert all(len(shape) == 4 and min(shape[2:]) > 1 for shape in shapes)
    assert all(deep[2] <= shallow[2] for shallow, deep in pairwise(shapes))
    step(build_model("resnet8", 5), model, side)
    return model, distiller.student.head_path


@torch.no_grad()
def agrees_with_timm(model: nn.Module, side: int) -> bool:
    """Whether the map at each tap is one of those that timm returns itself."""
    images = random_images(side)
    theirs = model.eval().forward_intermediates(images, intermediates_only=True)
    theirs = [each[0] if isinstance(each, tuple | list) else each for each in theirs]
    ours = Tapped(model, default_taps(model, "stages", images))(images)[1]
    same = [[a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4) for b in theirs] for a in ours]
    return all(map(any, same))


def check(name: str) -> None:
    if name not in timm.list_models():
        pytest.skip(f"this version of timm has no {name}")
    side = SIDES.get(name, SIDE)
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            learns_and_teaches(f"timm:{name}", side)
        return
    model, head = learns_and_teaches(f"timm:{name}", side)
    assert head
    assert agrees_with_timm(model, side) or name in ELSEWHERE


@pytest.mark.slow
@pytest.mark.parametrize("name", TROUBLESOME)
def test_troublesome_networks_of_timm(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name"), [pair for pair in NETWORKS if pair[1] not in TROUBLESOME])
def test_every_family_of_timm(module, name):
    check(name)


@pytest.mark.slow
def test_modules_that_timm_has_gained():
    """A network of each module that is newer than the table above."""
    for module in sorted(set(map(module_of, timm.list_models())) - FAMILIES.keys()):
        name = next(each for each in timm.list_models() if module_of(each) == module)
        with contextlib.suppress(UserError):  # it may be refused, in one sentence
            learns_and_teaches(f"timm:{name}", SIDE)


def module_of(name: str) -> str:
    return timm.model_entrypoint(name).__module__.rpartition(".")[2]


@pytest.mark.parametrize("name", FAST)
def test_networks_of_torchvision(name):
    _, head = learns_and_teaches(f"torchvision:{name}", SIDE)
    assert head == TORCHVISION[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TORCHVISION if name not in FAST])
def test_every_family_of_torchvision(name):
    _, head = learns_and_teaches(f"torchvision:{name}", TORCHVISION_SIDES.get(name, SIDE))
    assert head == TORCHVISION[name]


def test_every_module_of_torchvision_is_in_the_table():
    modules = {models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    assert {models.get_model_builder(name).__module__ for name in TORCHVISION} == modules


SIZES = {  # network -> size of the images, and what is said of it
    "timm:halonet_h1": ((64, 64), r"AssertionError\): it is made for 256 x 256, so choose images of that size"),
    "timm:crossvit_tiny_240": ((32, 32), r"made for 240 x 240, .* \(of a folder by --data\.root PATH@240\)"),
    "timm:vit_tiny_patch16_224": ((8, 8), r"it is made for 224 x 224"),
    "torchvision:maxvit_t": ((64, 64), r"not divisible by partition size 7.* it is made for 224 x 224"),
    "torchvision:vit_b_32": ((20, 20), r"indivisible by patch size.* it is made for 224 x 224"),
    "torchvision:squeezenet1_1": ((8, 8), r"it is made for 224 x 224"),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_images_of_a_wrong_size_are_refused_with_the_right_one(name):
    size, sentence = SIZES[name]
    with pytest.raises(
        UserError, match=f"^{name} cannot be built for images of {size[0]} x {size[1]} pixels"
    ) as caught:
        build_model(name, 5, size=size)
    assert caught.match(sentence)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_coatnet", "efficientvit_m0", "test_vit_relpos"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_networks_of_one_size_are_built_for_the_images(name, size):
    version = tuple(map(int, timm.__version__.split(".")[:3]))
    if name not in timm.list_models() or (name == "efficientvit_m0" and version < (1, 0, 31)):
        pytest.skip("this version of timm does not have it, or not for other sizes")
    model = build_model(f"timm:{name}", 5, size=size).eval()
    assert model(torch.zeros(1, 3, *size)).shape == (1, 5)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_networks_of_timm_are_built_for_the_channels(channels):
    model = build_model("timm:test_resnet", 5, size=(64, 64), channels=channels).eval()
    assert model(torch.zeros(1, channels, 64, 64)).shape == (1, 5)
