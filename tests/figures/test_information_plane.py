"""The information plane draws the given numbers, and no others."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from vibtheory.figures import information_plane
from vibtheory.information.bottleneck import deterministic_bottleneck
from vibtheory.information.bottleneck_curve import ib_curve
from vibtheory.information.gaussian_bottleneck import gaussian_bottleneck

JOINT = np.random.default_rng(0).dirichlet(np.full(12, 0.3)).reshape(4, 3)


def test_curves_and_encoders_are_drawn_where_they_lie():
    curve = ib_curve(JOINT, [2.0, 5.0, 20.0])
    point = deterministic_bottleneck(JOINT, 5.0)
    figure = information_plane({"discrete": curve}, {"hard": point})
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["discrete"].get_xydata().T, curve.hull())
    np.testing.assert_allclose(lines["hard"].get_xydata()[0], [point.i_tx, point.i_ty])
    assert "nats" in figure.axes[0].get_xlabel()
    plt.close(figure)


def test_a_continuous_curve_has_no_entropy_line():
    curve = gaussian_bottleneck([[4.0]], [[1.0]], [[1.4]]).curve([1.5, 4.0, 9.0])
    figure = curve.plot()
    assert "H(X)" not in {line.get_label() for line in figure.axes[0].lines}
    plt.close(figure)
