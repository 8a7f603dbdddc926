"""The drawing of ReLU zeros shows its table."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from vibtheory.figures import relu_zeros

TABLE = pd.DataFrame({"layer": ["h1", "h1", "h2"], "zero_share": [0.5, 0.9, 0.25], "psi": [1.5, 2.5, 0.7]})


def test_every_unit_is_a_point_in_percent_and_nats():
    figure = relu_zeros(TABLE)
    left, right = figure.axes
    points = np.concatenate([line.get_xydata() for line in right.lines])
    np.testing.assert_allclose(points, [[50, 1.5], [90, 2.5], [25, 0.7]])
    assert sum(patch.get_height() for patch in left.patches) == 3
    plt.close(figure)


def test_many_layers_have_a_colour_each_and_room():
    layers = [f"features.{i}.relu" for i in range(20)]
    figure = relu_zeros(pd.DataFrame({"layer": layers, "zero_share": 0.5, "psi": 1.0}))
    figure.draw_without_rendering()
    left, right = figure.axes
    assert len({tuple(np.atleast_1d(line.get_color())) for line in right.lines}) == 20
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"layer {name}" for name in layers]
    assert left.get_window_extent().height > 0.4 * 2.9 * figure.dpi
    plt.close(figure)
