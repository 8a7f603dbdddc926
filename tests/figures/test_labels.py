"""The names in the trade-off figures are beside their points, and apart."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Annotation, Text

from vibtheory.figures import tradeoff
from vibtheory.studies.table_runs import recorded_table
from vibtheory.studies.tables import longest_runs

FIGURES = Path(__file__).parents[2] / "figures"


@pytest.mark.parametrize("table", [1, 2])
def test_no_name_covers_another(table: int) -> None:
    recorded = recorded_table(table, FIGURES).read()
    assert recorded is not None
    figure = tradeoff(longest_runs(recorded), table)
    figure.canvas.draw()
    names = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    assert len(names) > 5
    boxes = [Text.get_window_extent(name) for name in names]  # as drawn, without the arrow
    assert [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)] == []
    assert all(figure.axes[0].bbox.contains(*box.min) for box in boxes)
    plt.close(figure)
