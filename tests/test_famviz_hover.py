"""Hoverable curves hold the numbers that the run and the spectra hold."""

import numpy as np
import pytest
from famviz_runs import make_run

import famviz
from famviz import hover, spectra


def test_training_curves_hold_the_metrics(tmp_path):
    opened = [famviz.open(make_run(tmp_path / name, epochs=3).path) for name in ("one", "two")]
    plot = hover.training_curves(opened)
    assert [list(trace.y) for trace in plot.data] == [[51.0, 52.0, 53.0]] * 2
    assert plot.layout.yaxis.title.text == "top1"
    losses = hover.training_curves(opened[0], "task.ce")
    assert list(losses.data[0].y) == pytest.approx([2, 1, 2 / 3])


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
