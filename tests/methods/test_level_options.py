"""Which levels of fam and fam_review have a filter, and how their maps are compared with the teacher's."""

import copy

import pytest
import torch
from helpers.run_files import Killed, kill_after_each_epoch, same

from famkd.distill.types import Batch, Probe, View
from famkd.errors import UserError
from famkd.layers import native
from famkd.layers.fourier import FilterOptions
from famkd.methods.common import amplitude_error, map_error
from famkd.methods.fam import FAMLayers
from famkd.methods.review import FAMReview
from famkd.models import build_model
from famkd.run.directory import Run
from famkd.training.loop import train

BOTH = pytest.mark.parametrize("method", [FAMLayers, FAMReview])
LEVELS = {FAMLayers: 2, FAMReview: 3}
NOISY = FilterOptions(init="balanced")
ALL = {"filter_levels": (2,), "phase_weight": 0.5}


def scene(method) -> tuple[View, View, Batch]:
    torch.manual_seed(0)
    own = [torch.randn(4, 8, 8, 8), torch.randn(4, 16, 4, 4), torch.randn(4, 16)][: LEVELS[method]]
    others = [torch.randn(4, 16, 8, 8), torch.rand(4, 32, 4, 4), torch.randn(4, 32)][: LEVELS[method]]
    return View(None, own), View(None, others), Batch(None, None, torch.arange(4))


def build(method, **options):
    student, teacher, batch = scene(method)
    torch.manual_seed(1)
    built = method(Probe(student, teacher, None), filter=options.pop("filter", NOISY), **options)
    return built, lambda: sum(built(student, teacher, batch).values())


# which levels have a filter ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("named", "with_filter"), [((), [0, 1]), ((1,), [0]), ((2,), [1]), ((1, 2), [0, 1])])
def test_only_named_levels_have_a_filter(method, named, with_filter):
    built, _ = build(method, filter_levels=named)
    levels = [module[0] for module in built.compared()]
    assert [at for at, fam in enumerate(levels) if fam.filter is not None] == with_filter
    assert all(fam.local is not None for fam in levels)


@BOTH
def test_naming_no_level_or_every_level_is_the_same_to_the_bit(method):
    whole, named = build(method)[1](), build(method, filter_levels=(1, 2))[1]()
    assert torch.equal(whole, named)
    plain = build(method, phase_weight=1.0)[1]()
    assert torch.equal(whole, plain)


def test_a_level_without_a_filter_is_a_convolution():
    built, _ = build(FAMLayers, filter_levels=(2,), filter=FilterOptions(branch="global"))
    first, second = (module[0] for module in built.compared())
    x = torch.randn(2, 8, 8, 8)
    torch.testing.assert_close(first(x), first.gamma * first.local(x))
    assert second.local is None


@BOTH
@pytest.mark.parametrize(("named", "why"), [
    ((4,), "names level 4, and there are"), ((0,), "filter_levels"), ((-1,), "filter_levels"),
])  # fmt: skip
def test_levels_that_do_not_exist_are_refused(method, named, why):
    with pytest.raises(ValueError, match=why):
        build(method, filter_levels=named)


@pytest.mark.parametrize(("named", "options", "why"), [
    ((3,), {}, "a map of one pixel has no frequency to filter"),
    ((1,), {"branch": "local"}, "the local branch has no filter"),
    ((1,), {}, None),
    ((), {}, None),
])  # fmt: skip
def test_named_levels_without_effect_are_told(named, options, why):
    built, _ = build(FAMReview, filter_levels=named, filter=FilterOptions(**options))
    assert built.idle_options().get("filter_levels") == why


# phases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (8, 8), (7, 5), (5, 8)])
def test_amplitude_error_is_that_of_the_full_plane_and_so_is_its_gradient(size):
    torch.manual_seed(0)
    own = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    target = torch.randn(2, 3, *size, dtype=torch.float64)
    spectra = [torch.fft.fft2(x, norm="ortho") for x in (own, target)]
    naive = (spectra[0].abs() - spectra[1].abs()).square().mean()
    ours = amplitude_error(own, target)
    torch.testing.assert_close(ours, naive)
    gradients = [torch.autograd.grad(loss, own, retain_graph=True)[0] for loss in (ours, naive)]
    torch.testing.assert_close(*gradients)
    turned = 2 * (spectra[0].abs() * spectra[1].abs() - (spectra[0] * spectra[1].conj()).real).mean()
    for weight in (0.0, 0.3, 1.0, 2.0):
        torch.testing.assert_close(map_error(own, target, weight), naive + weight * turned)


def test_a_shifted_map_has_no_amplitude_error_and_zeros_have_a_gradient_of_zero():
    target = torch.randn(2, 3, 6, 7)
    assert amplitude_error(target.roll((2, 3), (2, 3)), target) < 1e-12
    own = torch.zeros(2, 3, 6, 7, requires_grad=True)
    amplitude_error(own, target).backward()
    assert not own.grad.any()


# engines and resuming ---------------------------------------------------------------------------------------------


@BOTH
def test_the_kernels_compute_the_same(method):
    native.library.cache_clear()
    if native.library() is None:
        pytest.skip("no compiler here makes the kernels")
    found = []
    for used in (False, True):
        built, loss = build(method, **ALL)
        native.use(used)
        try:
            value = loss()
            found.append([value, *torch.autograd.grad(value, list(built.parameters()))])
        finally:
            native.use(False)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@BOTH
def test_the_loss_is_one_graph_to_the_compiler(method):
    """As on a GPU, where the whole step is compiled and captured."""
    built, loss = build(method, **ALL)
    state, values = copy.deepcopy(built.state_dict()), []
    torch.compiler.reset()
    for run in (loss, torch.compile(loss, fullgraph=True, dynamic=False, backend="eager")):
        built.load_state_dict(state)
        value = run()
        values.append([value, *torch.autograd.grad(value, list(built.parameters()))])
    for eager, compiled in zip(*values, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["eager", "compile"])
def test_a_run_that_stops_after_every_epoch_is_the_same(small, monkeypatch, engine):
    torch.manual_seed(5)
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    options = ("--fam_review.filter_levels", "2", "--fam_review.phase_weight", "0.5")
    recipe = small("--method", "fam_review", "--teacher.model", "resnet8", "--teacher.weights", "teacher.pt",
                   "--engine", engine, "--epochs", "2", *options)  # fmt: skip
    whole = train(recipe, out="whole")
    kill_after_each_epoch(monkeypatch)
    for done in (1, 2):
        torch.manual_seed(done)
        with pytest.raises(Killed):
            train(recipe, out="steps", resume=True)
    same(whole, Run("steps"))


@pytest.mark.parametrize(("flags", "why"), [
    (("--fam.filter_levels", "5"), "filter_levels names level 5, and there are 3 levels"),
    (("--fam.filter_levels", "0"), "filter_levels"),
    (("--fam.phase_weight", "-1"), "phase_weight"),
])  # fmt: skip
def test_bad_options_end_in_a_sentence(small, flags, why):
    torch.save(build_model("resnet8", 3).state_dict(), "teacher.pt")
    teacher = ("--teacher.model", "resnet8", "--teacher.weights", "teacher.pt", "--epochs", "1")
    with pytest.raises(UserError, match=why):
        train(small("--method", "fam", *teacher, *flags))
