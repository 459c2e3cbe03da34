"""Frequency attention against the formula written out in complex numbers, and the released storage against ours."""

import pytest
import torch
from torch import nn

from famkd.layers.fourier import FAM, FourierFilter, dft_matrices
from famkd.layers.highpass import highpass_gain
from famkd.layers.released import fold_full_plane

SIZES = [(1, 1), (7, 7), (8, 8), (16, 16), (28, 28), (32, 32), (5, 9), (9, 4), (1, 6), (6, 1), (2, 2)]


def full_plane(half: torch.Tensor, w: int) -> torch.Tensor:
    """Every frequency of a half spectrum: what is missing is the conjugate at the opposite frequency."""
    h = half.shape[-2]
    full = half.new_zeros(*half.shape[:-1], w)
    for ky in range(h):
        for kx in range(w):
            if kx <= w // 2:
                full[..., ky, kx] = half[..., ky, kx]
            else:
                full[..., ky, kx] = half[..., -ky % h, w - kx].conj()
    return full


def naive(x: torch.Tensor, full: torch.Tensor) -> torch.Tensor:
    """Re F^-1(K F(x)) with a full complex FFT and a complex einsum; K is (C_out, C_in, H, W)."""
    spectrum = torch.fft.fft2(x.to(torch.complex128), norm="ortho")
    mixed = torch.einsum("bchw,ochw->bohw", spectrum, full.to(torch.complex128))
    return torch.fft.ifft2(mixed, norm="ortho").real


def stored(module: FourierFilter) -> torch.Tensor:
    """The complex half spectrum of a dense filter, high-pass included, as it stands in memory."""
    pairs = module.weight.detach().permute(4, 2, 0, 1, 3).contiguous()
    return torch.view_as_complex(pairs) * module.gain


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["ideal", "butterworth", "gaussian", "none", "official"])
def test_forward_and_backward_equal_the_naive_formula(size, kind):
    torch.manual_seed(0)
    module = FourierFilter(3, 5, size, highpass=kind, cutoff=0.3)
    x = torch.randn(4, 3, *size, requires_grad=True)
    out = module(x)
    grad = torch.randn_like(out)
    own = torch.autograd.grad(out, x, grad)[0]
    expected = naive(x, full_plane(stored(module), size[1]))
    wanted = torch.autograd.grad(expected, x, grad.double())[0]
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (6, 9), (16, 16)])
def test_gradient_of_the_weight_equals_the_naive_formula(size):
    torch.manual_seed(0)
    module = FourierFilter(2, 3, size, highpass="none")
    x, target = torch.randn(4, 2, *size), torch.randn(4, 3, *size)
    own = torch.autograd.grad((module(x) - target).square().sum(), module.weight)[0]
    pairs = module.weight.detach().permute(4, 2, 0, 1, 3).double().clone().requires_grad_()
    half = torch.view_as_complex(pairs.contiguous())
    loss = (naive(x, full_plane(half, size[1])) - target).square().sum()
    wanted = torch.autograd.grad(loss, pairs)[0].permute(2, 3, 1, 4, 0)
    torch.testing.assert_close(own.double(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(7, 7), (8, 8), (16, 16), (5, 6)])
@pytest.mark.parametrize("kind", ["dense", "separable", "lowrank"])
def test_response_is_what_the_filter_does(size, kind):
    torch.manual_seed(0)
    module = FourierFilter(4, 6, size, filter=kind, rank=3)
    x = torch.randn(2, 4, *size)
    expected = naive(x, full_plane(module.response(), size[1]))
    torch.testing.assert_close(module(x).double(), expected, rtol=1e-4, atol=1e-4)


class Released(nn.Module):
    """The published module, from its description: full-plane complex filter, shifted window, real part, 1x1 branch."""

    def __init__(self, c_in: int, c_out: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(c_in, c_out, size, size, dtype=torch.cfloat) / (c_in * c_out))
        self.local = nn.Conv2d(c_in, c_out, 1)
        self.gamma = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, x):
        spectrum = torch.einsum("bixy,ioxy->boxy", torch.fft.fft2(x, norm="ortho"), self.weight)
        shifted = torch.fft.fftshift(spectrum, dim=(-2, -1))
        centre = x.shape[-1] // 2
        radius = int(0.1 * centre)
        window = torch.ones(x.shape[-2:])
        window[centre - radius : centre + radius, centre - radius : centre + radius] = 0
        spectrum = torch.fft.ifftshift(shifted * window, dim=(-2, -1))
        return self.gamma[0] * torch.fft.ifft2(spectrum, norm="ortho").real + self.gamma[1] * self.local(x)


@pytest.mark.parametrize("size", [1, 7, 8, 16, 28, 32])
def test_official_mode_follows_the_released_code_over_five_sgd_steps(size):
    torch.manual_seed(0)
    released = Released(3, 4, size)
    ours = FAM(3, 4, (size, size), init="official", highpass="official")
    with torch.no_grad():
        half = fold_full_plane(released.weight.transpose(0, 1))
        ours.filter.weight.copy_(torch.view_as_real(half).permute(2, 3, 1, 4, 0))
        ours.local.load_state_dict(released.local.state_dict())
    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2}
    optimizers = [torch.optim.SGD(net.parameters(), **sgd) for net in (released, ours)]
    start = ours.filter.weight.detach().clone()
    for _ in range(5):
        x, target = torch.randn(4, 3, size, size), torch.randn(4, 4, size, size)
        outputs = []
        for net, optimizer in zip((released, ours), optimizers):
            out = net(x)
            optimizer.zero_grad()
            (out - target).square().mean().mul(4).backward()
            optimizer.step()
            outputs.append(out)
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    assert (ours.filter.weight - start).abs().max() > 1e-3  # the filter itself has moved
    torch.testing.assert_close(ours(x), released(x), rtol=1e-4, atol=1e-5)


def test_official_window_facts():
    """It removes nothing below 20 px and is off-centre above: FAM.md facts 1 and 2, at 32 px."""
    for size in (8, 16, 19):
        assert highpass_gain("official", (size, size)).eq(1).all()
    gain = highpass_gain("official", (32, 32))
    assert gain[0, 0] == 0
    assert gain[0, 1] == 0.5
    assert gain[1, 1] == 0.5
    assert gain[-1, 1] == 1
    assert (gain[1, 0] + gain[-1, 0]) / 2 == 0.5  # both rows of this column act as their mean


@pytest.mark.parametrize("kind", ["ideal", "butterworth", "gaussian"])
@pytest.mark.parametrize("size", [(7, 7), (8, 8), (32, 32), (12, 5)])
def test_highpasses_are_centred_and_remove_the_mean(kind, size):
    gain = highpass_gain(kind, size, 0.1)
    assert gain.shape == (size[0], size[1] // 2 + 1)
    assert gain[0, 0] == 0
    assert gain.max() > 0.99 - 0.1 * (kind == "butterworth")
    torch.testing.assert_close(gain[1:, 0], gain[1:, 0].flip(0))  # +ky and -ky alike
    x = torch.full((2, 3, *size), 7.0)
    assert FourierFilter(3, 4, size, highpass=kind)(x).abs().max() < 1e-4


def test_ideal_highpass_keeps_what_lies_above_its_cutoff():
    gain = highpass_gain("ideal", (16, 16), 0.5)
    assert gain[0, 4] == 0  # 4 of 8 cycles is the cutoff itself
    assert gain[0, 5] == 1
    assert gain[3, 3] == 1  # radius 4.24
    assert gain[2, 3] == 0


def test_balanced_branches_start_with_equal_variance():
    torch.manual_seed(0)
    fam = FAM(32, 64, (16, 16), highpass="none")
    x = torch.randn(16, 32, 16, 16)
    ratio = fam.filter(x).var() / (fam.local(x).var())
    assert 0.9 < ratio < 1.1


@pytest.mark.parametrize("kind", ["separable", "lowrank"])
def test_small_filters_start_balanced_too(kind):
    torch.manual_seed(0)
    fam = FAM(32, 64, (16, 16), highpass="none", filter=kind, rank=16)
    x = torch.randn(16, 32, 16, 16)
    assert 0.7 < fam.filter(x).var() / fam.local(x).var() < 1.4


@pytest.mark.parametrize("kind", ["dense", "separable", "lowrank"])
def test_a_filter_that_starts_from_zero_can_learn(kind):
    torch.manual_seed(0)
    fam, x = FAM(3, 4, (8, 8), init="zero", filter=kind), torch.randn(2, 3, 8, 8)
    assert fam.filter(x).abs().max() == 0
    assert fam.filter.response().abs().max() == 0
    fam(x).square().mean().backward()
    assert fam.filter.weight.grad.abs().max() > 0


def test_official_start_is_tiny_and_positive():
    torch.manual_seed(0)
    fam = FAM(16, 16, (32, 32), init="official", highpass="official")
    x = torch.randn(8, 16, 32, 32)
    share = (fam.filter(x).var() / fam.local(x).var()).sqrt()
    assert share < 0.05
    assert fam.filter.response().real[..., 5:9, 2:9].min() >= 0


def test_branches():
    x = torch.randn(2, 3, 8, 8)
    both, only, local = (FAM(3, 4, (8, 8), branch=b) for b in ("both", "global", "local"))
    assert both.gamma.tolist() == [0.5, 0.5]
    assert only.local is None
    assert local.filter is None
    torch.testing.assert_close(only(x), 0.5 * only.filter(x))
    torch.testing.assert_close(local(x), 0.5 * local.local(x))
    torch.testing.assert_close(both(x), 0.5 * both.filter(x) + 0.5 * both.local(x))


def test_one_pixel_has_no_frequency():
    assert FAM(3, 4, (1, 1)).filter is None
    assert FAM(3, 4, (1, 1), branch="global")(torch.randn(2, 3, 1, 1)).shape == (2, 4, 1, 1)
    assert FAM(3, 4, (1, 1), init="official", highpass="official").filter is not None


@pytest.mark.parametrize(("map_size", "grid"), [((12, 16), 8), ((9, 7), 5), ((4, 6), 8), ((16, 5), 6)])
@pytest.mark.parametrize("kind", ["dense", "separable"])
def test_grid_filters_only_the_lowest_frequencies(map_size, grid, kind):
    """A filter smaller than the map equals a full-size filter that is zero above the grid."""
    torch.manual_seed(0)
    small = FourierFilter(2, 3, (grid, grid), filter=kind, highpass="none")
    x = torch.randn(3, 2, *map_size)
    h, w = map_size
    padded = torch.zeros(3, 2, h, w // 2 + 1, dtype=torch.cfloat)
    response = small.response() if kind == "separable" else stored(small)
    for ky in range(h):
        signed = ky if ky < (h + 1) // 2 else ky - h
        n = min(h, grid)
        for kx in range(min(w, grid) // 2 + 1):
            if -(n // 2) <= signed < (n + 1) // 2:
                padded[:, :, ky, kx] = (stored(small) if kind == "dense" else _separable(small))[
                    :, :, signed % grid, kx
                ]
    assert response.shape[-2:] == (grid, grid // 2 + 1)
    expected = naive(x, full_plane(padded, w))
    torch.testing.assert_close(small(x).double(), expected, rtol=1e-4, atol=1e-4)


def _separable(module):
    parts = torch.complex(module.weight[..., 0, :], module.weight[..., 1, :]).detach()
    return torch.einsum("or,hwr->orhw", module.up.detach().to(parts), parts) * module.gain


def test_parameter_counts():
    dense = FourierFilter(16, 16, (32, 32))
    assert dense.weight.numel() == 16 * 16 * 32 * 17 * 2
    assert (
        sum(p.numel() for p in FourierFilter(16, 24, (32, 32), filter="separable").parameters()) == 16 * 1088 + 24 * 16
    )
    low = FourierFilter(64, 48, (8, 8), filter="lowrank", rank=4)
    assert sum(p.numel() for p in low.parameters()) == 4 * 80 + 4 * (64 + 48)
    assert not any(p.is_complex() for p in dense.parameters())


def test_matrix_and_library_transforms_agree():
    x = torch.randn(3, 8, 6)
    forward, inverse = dft_matrices(8, 6)
    spectrum = torch.view_as_real(torch.fft.rfft2(x, norm="ortho")).reshape(3, -1)
    torch.testing.assert_close(x.reshape(3, -1) @ forward, spectrum, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close((x.reshape(3, -1) @ forward) @ inverse, x.reshape(3, -1), rtol=1e-5, atol=1e-5)
    by_matrix = FourierFilter(2, 3, (8, 6))
    assert by_matrix.dft is not None
    y = by_matrix(x[:, None].expand(3, 2, 8, 6))
    by_matrix.dft = by_matrix.idft = None
    torch.testing.assert_close(by_matrix(x[:, None].expand(3, 2, 8, 6)), y, rtol=1e-5, atol=1e-5)


def test_autocast_keeps_the_spectrum_in_full_precision():
    torch.manual_seed(0)
    module, x = FourierFilter(8, 8, (12, 12)), torch.randn(4, 8, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = module(x)
        half = module(x.bfloat16())
    torch.testing.assert_close(mixed, module(x))
    assert half.dtype == torch.bfloat16
    assert (half.float() - module(x)).abs().max() < 0.05


@pytest.mark.parametrize(
    "bad",
    [{"filter": "sparse"}, {"highpass": "brick"}, {"init": "zeros"}, {"init": "official", "filter": "lowrank"}],
)
def test_unknown_options_are_refused(bad):
    with pytest.raises(ValueError, match=r"unknown|dense"):
        FourierFilter(2, 2, (4, 4), **bad)


@pytest.mark.parametrize("kind", ["dense", "separable", "lowrank"])
def test_a_summary_keeps_the_strongest_pairs_that_fit(kind):
    torch.manual_seed(0)
    module = FourierFilter(3, 5, (4, 5), filter=kind, init="balanced")
    response = module.response().detach()
    energy = full_plane(response, 5).abs().square().mean((2, 3))
    one = 4 * 4 * 3  # bytes of a filter
    for room, wanted in ((0, 0), (one - 1, 0), (7 * one, 7), (1000 * one, 15)):
        found = module.summary(room)
        torch.testing.assert_close(found["energy"], energy)
        pairs = found["pairs"].long()
        assert pairs.shape == (wanted, 2)
        assert found["strongest"].bfloat16().numel() * 2 <= room
        assert torch.equal(energy[tuple(pairs.T)], energy.flatten().sort(descending=True).values[:wanted])
        real, imaginary = found["strongest"].unbind(1)
        torch.testing.assert_close(torch.complex(real, imaginary), response[tuple(pairs.T)])
