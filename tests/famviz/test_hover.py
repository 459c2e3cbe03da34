"""Hoverable curves hold the numbers that the run and the spectra hold."""

import numpy as np
import pytest
from helpers.famviz_runs import make_run

import famviz
from famviz import spectra
from famviz.figures import hover


def test_training_curves_hold_the_metrics(tmp_path):
    opened = [famviz.open(make_run(tmp_path / name, epochs=3).path) for name in ("one", "two")]
    plot = hover.training_curves(opened)
    assert [list(trace.y) for trace in plot.data] == [[51.0, 52.0, 53.0]] * 2
    assert plot.layout.yaxis.title.text == "top-1, %"
    losses = hover.training_curves(opened[0], "task.ce")
    assert list(losses.data[0].y) == pytest.approx([2, 1, 2 / 3])


def contrast(one: str, two: str) -> float:
    """WCAG's ratio of two colours written as #rrggbb."""
    parts = ([int(each[at : at + 2], 16) / 255 for at in (1, 3, 5)] for each in (one, two))
    linear = ([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in each] for each in parts)
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in linear)
    return (light[1] + 0.05) / (light[0] + 0.05)


def test_figures_are_read_on_light_and_on_dark(tmp_path):
    layout = hover.training_curves(famviz.open(make_run(tmp_path / "run"))).layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    for page in ("#ffffff", "#111111"):  # of JupyterLab's two themes
        assert contrast(layout.font.color, page) > 4
    assert contrast(layout.hoverlabel.font.color, layout.hoverlabel.bgcolor) > 7


def test_a_name_is_neither_markup_nor_mathematics(tmp_path):
    opened = famviz.open(make_run(tmp_path / "<b>$a$"))
    (trace,) = hover.training_curves(opened).data
    assert trace.name.endswith("/&lt;b&gt;&#36;a&#36;")


def test_radial_curves_hold_the_profile(tmp_path):
    each = famviz.open(make_run(tmp_path / "run", highpass="none").path).filters[0]
    (trace,) = hover.radial_curves([each]).data
    rings, mean = spectra.radial_profile(spectra.full_plane(each.amplitude(), each.size[1]))
    np.testing.assert_allclose(trace.y, 20 * np.log10(mean / mean.max()), atol=1e-6)
    np.testing.assert_allclose(trace.x, rings / rings[-1])


def test_emptied_rings_are_left_out(tmp_path):
    each = famviz.open(make_run(tmp_path / "run", highpass="ideal", cutoff=0.5).path).filters[0]
    (trace,) = hover.radial_curves([each], ["high-passed"]).data
    assert trace.name == "high-passed"
    assert min(trace.x) >= 0.5
