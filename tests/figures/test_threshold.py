"""The threshold figure draws the table it is given, and refuses one that it cannot draw."""

from __future__ import annotations

import pandas as pd

from vibtheory.figures import threshold_figure

TABLE = pd.DataFrame({"threshold": [0.1, 1.0, 10.0], "h1": [9, 8, 7], "h2": [3, 3, 2], "r_w": 3.0, "error": 1.5})


def test_draws_each_layer_and_the_error() -> None:
    left, right = threshold_figure(TABLE).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.lines}
    assert drawn["h1"] == [9, 8, 7]
    assert drawn["h2"] == [3, 3, 2]
    assert list(right.lines[0].get_ydata()) == [1.5, 1.5, 1.5]
