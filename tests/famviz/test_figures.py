"""Every view as a figure: what is drawn is what the arrays say, and nothing is left open."""

import sys

import numpy as np
import pytest
from helpers.famviz_runs import make_run
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import famviz
from famviz import plots, spectra
from famviz.figures import style


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return famviz.open(make_run(tmp_path_factory.mktemp("plots") / "run", highpass="gaussian", cutoff=0.5))


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.mark.parametrize("pair", [None, (2, 1)])
def test_amplitude_is_in_decibels_of_the_largest(opened, ax, pair):
    each = opened.filters[0]
    assert plots.filter_amplitude(each, pair, ax) is ax
    half = each.amplitude() if pair is None else np.abs(each.response[pair])
    wanted = 20 * np.log10(np.maximum(spectra.full_plane(half, 9) / np.abs(each.response).max(), 1e-3))
    np.testing.assert_allclose(ax.images[0].get_array(), wanted, rtol=1e-5)
    assert ax.images[0].get_clim() == (-60, 0)
    assert ax.lines  # the high-pass is outlined


def test_outline_closes_around_what_the_highpass_removes(ax, tmp_path):
    each = famviz.open(make_run(tmp_path / "run")).filters[1]  # ideal: DC alone, between -0.5 and 0.5
    plots.filter_amplitude(each, None, ax)
    ends = {tuple(np.round(point, 6)) for line in ax.lines for point in line.get_xydata()}
    assert ends == {(x, y) for x in (-0.5, 0.5) for y in (-0.5, 0.5)}
    assert len(ax.lines) == 4


def test_phase_is_cyclic_with_fixed_ends_and_masked_where_weak(opened, ax):
    each = opened.filters[0]
    plots.filter_phase(each, (0, 0), ax)
    image = ax.images[0]
    assert image.get_clim() == (-np.pi, np.pi)
    assert image.cmap.name == "twilight"
    assert image.get_array().mask[4, 4]  # DC, cut by the high-pass
    np.testing.assert_allclose(image.get_array()[0, 0], np.angle(each.plane()[0, 0, 0, 0]))


def test_kernel_has_a_range_symmetric_about_zero(opened, ax):
    plots.filter_kernel(opened.filters[1], (1, 2), ax)
    low, high = ax.images[0].get_clim()
    assert low == -high
    wanted = np.fft.fftshift(np.fft.irfft2(opened.filters[1].response[1, 2], s=(8, 8)))
    np.testing.assert_allclose(ax.images[0].get_array(), wanted, atol=1e-6)


VIEWS = {
    "complex": lambda run, ax: plots.filter_complex(run.filters[0], (0, 1), ax),
    "radial": lambda run, ax: plots.radial_curves(run.filters, ax),
    "energy": lambda run, ax: plots.energy_map(run.filters[0], ax),
    "life": lambda run, ax: plots.filter_life(run, "layer2", ax),
    "share": lambda run, ax: plots.share_bars(run, ax),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_views_draw_on_the_axes_they_are_given_or_on_their_own(opened, ax, view):
    assert view(opened, ax) is ax
    assert ax.has_data()
    own = view(opened, None)
    assert isinstance(own, Axes)
    assert own is not ax


def test_training_curves_show_every_loss_and_score(opened):
    losses, scores = plots.training_curves([opened, opened])
    assert len(losses.lines) == len(scores.lines) == 4
    np.testing.assert_allclose(losses.lines[0].get_ydata(), [2, 1, 2 / 3])


def test_a_figure_that_is_always_100_is_left_out(opened, monkeypatch):
    assert [line.get_label() for line in plots.training_curves(opened)[1].lines] == ["top1", "top5"]
    rows = [{**row, "top5": 100.0} for row in opened.run.metrics()]
    monkeypatch.setattr(type(opened.run), "metrics", lambda run: rows)
    assert [line.get_label() for line in plots.training_curves(opened)[1].lines] == ["top1"]


@pytest.mark.slow
def test_a_dollar_in_a_name_is_no_mathematics(opened, tmp_path):
    run = famviz.open(make_run(tmp_path / "a$_{b$" / "$x^{$"))
    for figure in (plots.training_curves([run, run]), plots.radial_curves(run.filters, labels=[run.name] * 2)):
        assert style.to_bytes(figure)  # matplotlib would end in a parse error
        assert b"$_{b$/$x^{$" in style.to_bytes(figure, "svg")


def test_a_profile_of_one_filter_is_that_filters(opened, ax):
    each = opened.filters[0]
    plots.radial_curves([each], ax, pair=(2, 1))
    _, mean = spectra.radial_profile(np.abs(each.plane()[2, 1]))
    wanted = spectra.decibel(mean, mean.max(), -60)
    wanted[wanted <= -60] = np.nan
    np.testing.assert_allclose(ax.lines[0].get_ydata(), wanted)
    other = plots.radial_curves([each]).lines[0].get_ydata()
    assert np.nanmax(np.abs(other - wanted)) > 0.5


def test_rings_that_hold_nothing_are_masked_in_a_life(opened, ax):
    each = opened.filters[1]  # a gaussian high-pass, so only DC is empty
    plots.filter_life(opened, 1, ax)
    shown = ax.collections[0].get_array()
    assert shown.mask[0].all()
    assert not shown.mask[1:].any()
    assert len(shown) == min(each.size) // 2 + 1


def test_a_difference_is_taken_before_the_floor_and_masked_below_it(opened, tmp_path):
    one, two = opened.filters[0], famviz.open(make_run(tmp_path / "run", seed=1)).filters[0]
    ax = plots.filter_difference(one, two, (2, 1), floor=-12)
    planes, reference = [each.plane()[2, 1] for each in (one, two)], max(np.abs(e.response).max() for e in (one, two))
    weak = np.any([20 * np.log10(np.maximum(np.abs(p) / reference, 1e-9)) <= -12 for p in planes], axis=0)
    shown = ax.images[0].get_array()
    np.testing.assert_array_equal(shown.mask, weak)
    assert 5 < weak.sum() < 70
    wanted = 20 * np.log10(np.maximum(np.abs(planes[0]), 1e-9) / np.maximum(np.abs(planes[1]), 1e-9))
    np.testing.assert_allclose(shown[~weak], wanted[~weak], rtol=1e-4, atol=1e-4)
    turned = plots.filter_difference(one, two, (2, 1), "phase", floor=-12).images[0].get_array()
    np.testing.assert_array_equal(turned.mask, weak)
    np.testing.assert_allclose(turned[~weak], np.angle(planes[0] * planes[1].conj())[~weak], atol=1e-4)


@pytest.mark.parametrize(("share", "words"), [
    (0.0, "0 %"), (3e-6, "< 0.001 %"), (0.00046, "0.046 %"), (0.27, "27 %"), (0.99954, "99.954 %"),
    (1 - 3e-6, "> 99.999 %"), (1.0, "100 %"),
])  # fmt: skip
def test_a_share_is_never_rounded_to_nothing_or_to_all(share, words):
    assert style.percent(share) == words


def test_the_complex_view_has_a_key_of_two_directions(opened, ax):
    plots.filter_complex(opened.filters[0], (0, 1), ax)
    (key,) = ax.child_axes
    colours = key.images[0].get_array()
    table = spectra.hues()
    np.testing.assert_allclose(colours[32, -1], table[128], atol=1e-6)  # phase 0 at 0 dB
    assert colours[:, 0].max() < 0.01
    assert [label.get_text() for label in key.get_xticklabels()] == ["\u221260", "0"]


def test_contact_sheet_starts_with_the_strongest(opened):
    sheet = plots.contact_sheet(opened.filters[0], 6, columns=4)
    out, inn = np.unravel_index(opened.filters[0].energy().argmax(), (4, 4))
    titles = [ax.get_title() for ax in sheet.axes]
    assert titles[0] == f"{inn} \u2192 {out}"
    assert sum(bool(title) for title in titles) == 6


def test_titles_have_the_options_of_the_level_and_of_both_if_they_differ(opened, tmp_path):
    each, other = opened.filters[0], famviz.open(make_run(tmp_path / "run", epochs=1, highpass="none")).filters[0]
    for figure in (plots.overview(each), plots.contact_sheet(each, 4)):
        assert figure.get_suptitle().split("\n")[1:] == [each.caption]
    pair = plots.comparison(each, other, names=("a", "b"))
    assert pair.get_suptitle().split("\n")[1:] == [each.caption, other.caption]
    same = plots.comparison(each, each, names=("a", "b"))
    assert same.get_suptitle().split("\n")[1:] == [each.caption]


@pytest.mark.slow
def test_figures_are_written_in_each_form(opened, tmp_path):
    written = style.save(plots.overview(opened.filters[0], (1, 1)), tmp_path / "deep" / "figure.png", style.FORMATS)
    assert [path.suffix for path in written] == [".png", ".svg", ".pdf"]
    starts = [path.read_bytes()[:5] for path in written]
    assert starts[0].startswith(b"\x89PNG")
    assert starts[1:] == [b"<?xml", b"%PDF-"]


def test_the_same_figure_is_the_same_bytes(opened):
    one, two = (style.to_bytes(plots.energy_map(opened.filters[0]), "svg") for _ in range(2))
    assert one == two


def test_a_notebook_shows_a_figure_without_pyplot(opened):
    figure = style.figure(3.0, 2.0)
    plots.energy_map(opened.filters[0], figure.subplots())
    picture, shown = figure._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert shown == {"width": 330}  # 110 pixels to the inch, whatever the picture has
    assert int.from_bytes(picture[16:20]) == 600


def test_losses_and_epochs_are_written_as_plain_numbers(opened):
    losses, _ = plots.training_curves(opened)
    style.to_bytes(losses)  # draws, so that labels are there
    epochs, values = ({t.get_text() for t in axis.get_ticklabels()} for axis in (losses.xaxis, losses.yaxis))
    assert not any("." in label for label in epochs)
    assert {"1", "2"} <= values
    assert not any("$" in label or "e" in label for label in values)


def test_what_is_added_outside_keeps_the_style(opened):
    ax = style.figure().subplots()
    ax.plot([0, 1], label="line")
    ax.set_title("by hand")
    assert ax.title.get_fontsize() == 8
    assert not ax.legend().get_frame_on()


def test_nothing_stays_open(opened):
    plots.overview(opened.filters[0])
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_runs_are_named_by_path_alone_or_in_a_list(tmp_path):
    path = make_run(tmp_path / "run", epochs=1, shapes=((2, 4),)).path
    for source in (path, str(path), [path], famviz.open(path)):
        assert len(plots.training_curves(source)[0].lines) == 2
    assert len(plots.training_curves([path, path])[0].lines) == 4
    assert plots.filter_life(path).get_title().startswith("life of level 0")
    assert len(plots.share_bars(path).patches) == 2
