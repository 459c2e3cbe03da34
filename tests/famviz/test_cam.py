"""Class activation maps: against the formulas, against a truth that is known, and without a trace in the network."""

import matplotlib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

matplotlib.use("Agg")
from famkd.data.bands import bands, bands_truth
from famkd.errors import UserError
from famkd.models import build_model
from famviz.analysis import cam_scores as faith
from famviz.figures.cam import METHODS, cam, compare, grid_figure


class Gabors(nn.Module):
    """Sees each class of `bands` with four filters of its own; nothing here is trained, so nothing can fail to be."""

    taps = {"stages": ("energy",)}

    def __init__(self, images: torch.Tensor, side: int = 13, sigma: float = 3.5):
        super().__init__()
        at = torch.arange(side) - side // 2
        y, x = torch.meshgrid(at, at, indexing="ij")
        window = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
        k = torch.hypot(torch.fft.fftfreq(32, 1 / 32)[:, None], torch.fft.fftfreq(32, 1 / 32)[None]).clamp_min(0.1)
        filters = []
        for ky, kx in bands_truth().wave_vectors():
            phase = 2 * torch.pi * (ky * y + kx * x) / 32
            for wave in (window * torch.cos(phase), window * torch.sin(phase)):
                wave = (wave - window * wave.sum() / window.sum()).float()
                wave = wave / (torch.fft.fft2(wave, s=(32, 32)) / k).norm()  # the same answer to noise from each
                filters += [wave, -wave]
        self.conv = nn.Conv2d(3, 32, side, padding=side // 2)
        self.conv.weight.data = torch.stack(filters)[:, None].repeat(1, 3, 1, 1) / 3
        self.conv.bias.data.zero_()
        self.conv.bias.data -= 2 * self.conv(images).std().item()
        self.energy = nn.ReLU()
        self.last = nn.Linear(32, 8)
        own = torch.eye(8).repeat_interleave(4, 1)
        self.last.weight.data, self.last.bias.data = 400 * (own - (1 - own) / 7), torch.zeros(8)

    def forward(self, x):
        return self.last(self.energy(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def known():
    data, count = bands(), 64
    images = torch.from_numpy(data.x_test[:count]).permute(0, 3, 1, 2).float() / 255 - 0.5
    images = images - images.mean((2, 3), keepdim=True)
    return Gabors(images), images, torch.from_numpy(data.y_test[:count]), bands_truth().masks[:count]


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = build_model("resnet8x0.5", 5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as if trained: evidence of both signs
            nn.init.normal_(module.running_mean, std=0.3)
    return model


@pytest.fixture
def batch():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def naive(model, images, classes, layer="layer3"):
    """Activations, their gradients of the class scores and both by plain autograd."""
    model.eval()
    seen = []

    def keep(module, args, out):
        out.retain_grad()
        seen.append(out)

    handle = model.get_submodule(layer).register_forward_hook(keep)
    logits = model(images.clone().requires_grad_())
    handle.remove()
    logits[torch.arange(len(images)), classes].sum().backward()
    return seen[0].detach(), seen[0].grad


def enlarged(evidence, size=(16, 16)):
    return F.interpolate(evidence.clamp_min(0)[:, None], size, mode="bilinear", align_corners=False)[:, 0].numpy()


def test_gradient_methods_equal_their_formulas(net, batch):
    classes = torch.tensor([0, 3, 3])
    a, g = naive(net, batch, classes)
    plus = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + 1e-6) * (g != 0) * g.relu()
    wanted = {
        "GradCAM": (g.mean((2, 3), keepdim=True) * a).sum(1),
        "GradCAM++": (plus.sum((2, 3), keepdim=True) * a).sum(1),
        "HiResCAM": (g * a).sum(1),
        "LayerCAM": (g.relu() * a).sum(1),
    }
    for method, evidence in wanted.items():
        result = cam(net, batch, classes, method)
        np.testing.assert_allclose(result.evidence, evidence.numpy(), atol=1e-6)
        np.testing.assert_allclose(result.maps, enlarged(evidence), atol=1e-6)
        assert result.maps.dtype == np.float32
        assert result.layer == "layer3"


def test_eigencam_is_the_first_component_with_a_sign_that_means_something(net, batch):
    a, _ = naive(net, batch, torch.tensor([0, 0, 0]))
    result = cam(net, batch, method="EigenCAM")
    for image, evidence in zip(a, result.evidence):
        flat = image.flatten(1).T.double().numpy()
        flat = flat - flat.mean(0)
        first = flat @ np.linalg.svd(flat, full_matrices=False)[2][0]
        assert abs(np.corrcoef(first, evidence.ravel())[0, 1]) == pytest.approx(1, abs=1e-5)
        assert np.corrcoef(evidence.ravel(), image.mean(0).numpy().ravel())[0, 1] > 0
        assert np.abs(evidence).max() == pytest.approx(np.abs(first).max(), rel=1e-4)


def test_scorecam_equals_one_masked_image_after_another(net, batch):
    net.eval()
    a, _ = naive(net, batch, torch.tensor([1, 1, 1]))
    result = cam(net, batch, 1, "ScoreCAM", batch_size=2)
    for n in range(3):
        scores = []
        for channel in a[n]:
            mask = F.interpolate(channel[None, None], (16, 16), mode="bilinear", align_corners=False)
            mask = (mask - mask.min()) / (mask.max() - mask.min() + 1e-8)
            scores.append(net(batch[n : n + 1] * mask)[0, 1].detach())
        weights = torch.stack(scores).softmax(0)
        np.testing.assert_allclose(result.evidence[n], (weights[:, None, None] * a[n]).sum(0).numpy(), atol=1e-5)


def test_maps_agree_with_the_library_up_to_its_scaling(net, batch):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(net, [net.layer3]) as theirs:
        scaled = theirs(batch, [ClassifierOutputTarget(2)] * 3)
    ours = cam(net, batch, 2).maps
    for mine, other in zip(ours, scaled):
        if mine.max() > 0:
            assert np.corrcoef(mine.ravel(), other.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("method", METHODS)
def test_frozen_networks_of_32_pixels_under_no_grad(method):
    torch.manual_seed(0)
    teacher = build_model("resnet20", 100).eval().requires_grad_(False)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        result = cam(teacher, images, "predicted", method)
    assert result.maps.shape == (2, 32, 32)
    assert np.isfinite(result.maps).all()
    assert result.evidence.shape == (2, 8, 8)
    assert (result.classes == result.predicted).all()
    with torch.inference_mode():
        inside = cam(teacher, images.clone(), "predicted", method)
    np.testing.assert_allclose(inside.maps, result.maps, atol=1e-6)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def trace(model):
    """Everything about a network that looking at it could have changed."""
    return {
        "modes": [m.training for m in model.modules()],
        "inplace": [getattr(m, "inplace", None) for m in model.modules()],
        "hooks": [[list(getattr(m, kind)) for kind in HOOKS] for m in model.modules()],
        "gradients": [(id(p.grad), None if p.grad is None else p.grad.tolist()) for p in model.parameters()],
        "wants": [p.requires_grad for p in model.parameters()],
        "state": {key: value.tolist() for key, value in model.state_dict().items()},
        "generator": torch.get_rng_state().tolist(),
        "grad mode": torch.is_grad_enabled(),
    }  # fmt: skip


def marked(net, batch):
    """A network in the middle of training: mixed modes, half frozen, gradients in place, a hook of the caller's."""
    net.train()
    net(batch).sum().backward()
    net.layer2.eval()
    net.conv1.weight.requires_grad_(False)
    net.layer3.register_forward_hook(lambda m, a, out: None)
    return net


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_without_a_trace(net, batch, method):
    before = trace(marked(net, batch))
    cam(net, batch, 1, method)
    assert trace(net) == before


def test_no_trace_either_when_something_breaks_inside(net, batch):
    marked(net, batch)

    def fail(*_):
        raise IndexError("in the middle")  # grad-cam's own with-block swallows this one

    handle = net.avgpool.register_forward_hook(fail)
    before = trace(net)
    for method in METHODS:
        with pytest.raises(IndexError, match="in the middle"):
            cam(net, batch, 1, method)
        assert trace(net) == before
    handle.remove()
    before = trace(net)
    with pytest.raises(UserError, match="not maps"):
        cam(net, batch, 1, layer="avgpool")
    with pytest.raises(UserError, match=r"no module 'layr3'.*layer3"):
        cam(net, batch, 1, layer="layr3")
    assert trace(net) == before


def test_an_activation_in_place_does_not_overwrite_the_map(batch):
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
    tail = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    inplace, plain = (nn.Sequential(first, nn.ReLU(inplace=flag), *tail) for flag in (True, False))
    a, b = (cam(model, batch, 0, layer="0") for model in (inplace, plain))
    assert a.evidence.min() < 0
    np.testing.assert_array_equal(a.evidence, b.evidence)
    entering = cam(plain, batch, 0, layer="1:in")
    np.testing.assert_array_equal(entering.evidence, b.evidence)


def test_what_enters_a_module_is_kept_before_the_network_overwrites_it(batch):
    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.inner, self.last = nn.Conv2d(3, 4, 1), nn.Identity(), nn.Linear(4, 2)

        def forward(self, x):
            x = self.first(x)
            kept = self.inner(x).mean((2, 3))
            x.mul_(0)
            return self.last(kept)

    torch.manual_seed(0)
    model = Doubling()
    assert np.abs(cam(model, batch, 0, layer="inner:in").evidence).max() > 0


def test_tokens_fold_into_the_map_that_they_are(batch):
    """The same 4 x 4 features as a map and as tokens behind a class token have the same class activation map."""

    class Tokens(nn.Module):
        def forward(self, x):
            return torch.cat((x.mean((2, 3))[:, None], x.flatten(2).transpose(1, 2)), 1)

    class Mean(nn.Module):
        def forward(self, x):
            return x[:, 1:].mean(1)

    torch.manual_seed(0)
    patch, last = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 2)
    maps = nn.Sequential(patch, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    tokens = nn.Sequential(patch, Tokens(), Mean(), last)
    for method in METHODS:
        wanted, found = cam(maps, batch, 1, method, layer="0"), cam(tokens, batch, 1, method, layer="1")
        np.testing.assert_allclose(found.evidence, wanted.evidence, atol=1e-5)


def test_strength_is_kept(net, batch):
    strong = cam(net, batch, 2).maps
    head = net.get_submodule(net.head)
    head.weight.data /= 1000
    np.testing.assert_allclose(cam(net, batch, 2).maps * 1000, strong, rtol=1e-3, atol=1e-6)
    assert strong.max() > 0


def test_the_class_can_be_chosen(net, batch):
    labels = torch.tensor([4, 0, 2])
    assert cam(net, batch, "true", labels=labels).classes.tolist() == [4, 0, 2]
    assert cam(net, batch, labels, batch_size=2).classes.tolist() == [4, 0, 2]
    assert cam(net, batch, 3).classes.tolist() == [3, 3, 3]
    predicted = net.eval()(batch).argmax(1).tolist()
    assert cam(net, batch).classes.tolist() == predicted
    with pytest.raises(UserError, match="needs labels"):
        cam(net, batch, "true")
    with pytest.raises(UserError, match="Did you mean GradCAM"):
        cam(net, batch, method="gradcam")
    count = net(batch).shape[1]
    for label in (count, -1):
        with pytest.raises(UserError, match=f"no class {label}: the network has {count}"):
            cam(net, batch, torch.tensor([0, label, 0]))


def test_maps_that_say_nothing_say_so_in_words(net, batch):
    positive = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    positive[4].weight.data = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    against, towards = (cam(positive, batch, label, layer="1") for label in (0, 1))
    assert all("speaks against class 0" in words for words in against.why_empty)
    assert against.maps.max() == 0
    assert against.evidence.min() < 0
    assert towards.why_empty == [""] * 3
    positive[4].weight.data.zero_()
    assert "no activation or no gradient" in cam(positive, batch, 0, layer="1").why_empty[0]


@pytest.mark.parametrize("method", ["GradCAM", "LayerCAM", "GradCAM++"])
def test_evidence_lies_inside_the_true_mask(known, method):
    model, images, labels, masks = known
    assert (model(images).argmax(1) == labels).double().mean() > 0.75
    result = cam(model, images, "true", method, labels=labels)
    inside, hits = faith.mean(faith.energy_inside(result.maps, masks)), faith.pointing_hits(result.maps, masks).mean()
    elsewhere = faith.mean(faith.energy_inside(result.maps, np.roll(masks, 1, 0)))
    assert inside > 0.7
    assert elsewhere < 0.4  # another image's mask; more than its area, for masks and maps both keep to the middle
    assert hits > 0.8
    other = cam(model, images, (labels + 1) % 8, method)
    assert faith.mean(faith.energy_inside(other.maps, masks)) < inside - 0.1


def test_figures_about_maps_against_numpy():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 4, 8, 8)).round(1).astype(np.float32)  # with ties
    wanted = [spearmanr(a.ravel(), b.ravel())[0] for a, b in zip(one, other)]
    np.testing.assert_allclose(faith.rank_correlation(one, other), wanted, atol=1e-12)
    assert np.isnan(faith.rank_correlation(np.zeros_like(one), other)).all()
    ramp = np.arange(100.0).reshape(1, 10, 10)
    assert faith.top_pixels(ramp, 0.2).sum() == 20
    assert faith.top_pixels(np.maximum(ramp - 94, 0), 0.2).sum() == 5  # zeros are no evidence, however few are above
    assert faith.top_iou(ramp, ramp[:, ::-1])[0] == 0
    assert faith.top_iou(ramp, np.roll(ramp, 1, 1))[0] == pytest.approx(10 / 30)
    mask = faith.masks_of_boxes([(8, 9, 10, 10)], (10, 10))
    assert mask.sum() == 2
    assert faith.pointing_hits(ramp, mask)[0] == 1
    assert faith.energy_inside(ramp, mask)[0] == pytest.approx((98 + 99) / ramp.sum())
    assert faith.pointing_hits(np.zeros((1, 10, 10)), mask)[0] == 0


def test_insertion_and_deletion_know_a_true_map_from_its_opposite(known):
    model, images, labels, masks = known
    true = masks.astype(np.float32)
    areas = {name: [a.mean() for a in faith.insertion_deletion(model, images, maps, labels)]
             for name, maps in (("true", true), ("opposite", 1 - true), ("nothing", 0 * true))}  # fmt: skip
    assert areas["true"][0] > areas["nothing"][0] > areas["opposite"][0]
    assert areas["true"][1] < areas["nothing"][1] < areas["opposite"][1]


def test_insertion_runs_from_the_blurred_to_the_whole_image_as_said():
    """One pixel decides: probability jumps when the map's first pixel is shown, so the area is known exactly."""

    class First(nn.Module):
        def forward(self, x):
            return torch.stack((200 * x[:, 0, 3, 4] - 100, torch.zeros(len(x))), 1)

    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 3, 4] = 1
    early, late = np.zeros((2, 1, 8, 8), np.float32)
    early[0, 3, 4], late[0, 3, 4] = 1, -1
    for maps, wanted in ((early, (1 - 0.5 / 64, 0.5 / 64)), (late, (0.5 / 64, 1 - 0.5 / 64))):
        areas = faith.insertion_deletion(First(), image, maps, torch.tensor([0]), steps=64)
        assert [float(a[0]) for a in areas] == pytest.approx(wanted, abs=1e-6)


@pytest.fixture
def pair(known):
    torch.manual_seed(0)
    return {"teacher": known[0], "student": build_model("resnet8x0.5", 8)}


def test_a_comparison_ranks_the_networks_and_gives_each_its_own_chance(known, pair):
    _, images, labels, masks = known
    few = slice(0, 16)
    shown = compare(pair, images[few], labels[few], masks=masks[few], steps=4)
    rows = {row["network"]: row for row in shown.rows()}
    assert set(rows) == {"teacher", "student", "teacher, chance", "student, chance"}
    assert rows["teacher"]["rank correlation"] == pytest.approx(1)
    assert rows["student"]["rank correlation"] < 0.9
    assert rows["teacher"]["energy inside"] > rows["student"]["energy inside"]
    assert rows["student, chance"]["pointing"] == pytest.approx(masks[few].mean())
    assert shown.highest == max(r.maps.max() for r in shown.results.values())
    nothing, theirs = np.zeros((16, 32, 32), np.float32), np.roll(shown.results["teacher"].maps, 1, 0)
    for name, model in pair.items():
        own, chance = rows[name], rows[f"{name}, chance"]
        areas = faith.insertion_deletion(model, images[few], nothing, labels[few], steps=4)
        for key, area in zip(("insertion", "deletion"), areas):
            assert chance[key] == pytest.approx(area.mean())
            assert own[f"{key} minus chance"] == pytest.approx(own[key] - area.mean())
        maps = shown.results[name].maps
        telling = [(a.ravel(), b.ravel()) for a, b in zip(maps, theirs) if np.ptp(a) > 0 and np.ptp(b) > 0]
        spearman = [spearmanr(a, b)[0] for a, b in telling]
        assert chance["rank correlation"] == pytest.approx(np.mean(spearman))
        assert chance["IoU"] == pytest.approx(faith.mean(faith.top_iou(maps, theirs)))
    assert rows["teacher, chance"]["insertion"] != pytest.approx(rows["student, chance"]["insertion"], abs=0.02)
    theirs = compare(pair, images[:4], steps=0)
    assert (theirs.results["student"].classes == theirs.results["teacher"].predicted).all()
    single = compare(pair, images[:1], labels[:1], steps=0)
    assert np.isnan(single.chance["student"]["IoU"]).all()  # of one image there is no other


def drawn(figure):
    return [i for ax in figure.axes for i in ax.images if i.cmap.name == "inferno" and i.get_array().ndim == 2]


def words(figure):
    return " ".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


def test_the_grid_draws_each_network_on_the_range_that_it_prints(known, pair):
    shown = compare(pair, *(each[:3] for each in known[1:3]), steps=0)
    ends = {name: float(result.maps.max()) for name, result in shown.results.items()}
    assert sorted(image.get_clim()[1] for image in drawn(grid_figure(shown))) == pytest.approx(
        sorted([*ends.values()] * 3)
    )
    text = words(grid_figure(shown))
    assert all(f"range 0 to {end:.3g}" in text for end in ends.values())
    assert "mean of the 3 images shown" in text
    agreement, chance = (faith.mean(each["student"]["rank correlation"]) for each in (shown.figures, shown.chance))
    assert f"rank r {agreement:.2f} ({chance:.2f})" in text
    assert {image.get_clim() for image in drawn(grid_figure(shown, scale="shared"))} == {(0, shown.highest)}
    assert "one colour range" in words(grid_figure(shown, scale="shared"))
    own = [image.get_clim()[1] for image in drawn(grid_figure(shown, scale="own"))]
    assert sorted(own) == pytest.approx(sorted(float(m.max()) for r in shown.results.values() for m in r.maps))


def test_coarse_maps_lie_over_the_image_and_fine_ones_do_not(known, pair):
    shown = compare(pair, *(each[:2] for each in known[1:3]), steps=0)
    assert [r.evidence.shape[1] for r in shown.results.values()] == [32, 8]
    greys = [[i for i in ax.images if i.cmap.name == "gray"] for ax in grid_figure(shown).axes]
    assert [len(each) for each in greys[:6]] == [0, 0, 1] * 2  # the input, the teacher, the student
    np.testing.assert_allclose(greys[2][0].get_array(), shown.pixels[0].mean(-1))
    assert not [i for ax in grid_figure(shown, overlay=False).axes for i in ax.images if i.cmap.name == "gray"]
    (teacher, student, *_) = drawn(grid_figure(shown))
    assert teacher.get_alpha() is None
    assert np.ptp(student.get_alpha()) > 0.1


def test_classes_are_named_and_errors_are_red(known, pair):
    names = [f"kind_{n}" for n in range(8)]
    _, images, labels, _ = known
    shown = compare(pair, images[:6], labels[:6], steps=0, classes=names)
    below = [(ax.xaxis.label.get_text(), ax.xaxis.label.get_color()) for ax in grid_figure(shown).axes[:18]]
    for column, result in enumerate(shown.results.values(), 1):
        for row, (predicted, label) in enumerate(zip(result.predicted, labels[:6].tolist())):
            text, colour = below[3 * row + column]
            assert (f"says kind {predicted}" in text) == (predicted != label)
            assert (colour == "#b00020") == (predicted != label)
    against = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    against[4].weight.data = -torch.ones(2, 2)
    assert "speaks against crab:" in cam(against, images[:1], 1, layer="1", names=["rose", "crab"]).why_empty[0]
