"""What a plot cannot draw, it refuses, naming the argument: one table of (plot, arguments, message)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from vibtheory import QuadraticBound, figures
from vibtheory.errors import InvalidInputError
from vibtheory.information import LayerBound

BOUND = QuadraticBound(np.eye(3), np.zeros(3), 0.0, 1.0)
THRESHOLDS = pd.DataFrame({"threshold": [1.0], "h1": 8, "r_w": 3.0, "error": 1.5})
ZEROS = pd.DataFrame({"layer": ["h1"], "zero_share": 0.5, "psi": 1.5})
HISTOGRAM = pd.DataFrame({"epoch": [0], "layer": "h1", "log10_alpha": 0.5, "gates": 3})
JOINT = np.full((2, 2), 0.25)
INFINITE = LayerBound(1.0, 1, 0.5, 0.2, 0.2, 0.6, 0.3, np.inf, 0.5, np.inf, np.inf, 0.0, 0.0)


def _no_table(name, *columns):
    """Refused: a table without its last column, and one without a row."""
    table = pd.DataFrame({column: [1.0] for column in columns})
    yield name, (table.drop(columns=columns[-1]),), f"table: got no column {columns[-1]}"
    yield name, (table.iloc[:0],), "table: got 0 rows"


REFUSALS = (
    ("plot", (3,), "report: got int, expected one of BoundTable, "),
    ("information_plane", ({},), "curves: got none"),
    ("merge_clusters", (JOINT, np.ones((3, 2))), "encoder"),
    ("sections", (BOUND, BOUND.value, np.zeros(2), {"a": 0}), "origin"),
    ("sections", (BOUND, BOUND.value, np.zeros(3), {}), "gates"),
    ("sections", (BOUND, BOUND.value, np.zeros(3), {"a": 3}), "gates"),
    ("slide_surface", (1.0, 0.0), "metric"),
    ("plot_penalty_section", (-1.0, 1.0), "w: "),
    ("plot_landscape", (BOUND, ()), "bound: got 3 gates, expected 2 gates"),
    ("plot_one_gate", (np.nan, 1.0), "mu"),
    ("plot_one_gate", (1.0, 0.0), "sigma"),
    ("plot_alpha_histogram", (HISTOGRAM, 7), r"epoch: got 7, expected one of \[0\]"),
    ("plot_gap", (INFINITE,), "bound: got an infinite one"),
    ("plot_training", (pd.DataFrame({"epoch": [1]}),), "history: got no kept_ columns"),
    ("tradeoff", (None, 1), "results"),
    ("tradeoff", (None, 3, "error"), "error: got 'error'"),
    ("threshold_figure", (THRESHOLDS.drop(columns="threshold"),), "table"),
    ("threshold_figure", (THRESHOLDS.drop(columns="h1"),), "table"),
    *_no_table("relu_zeros", "layer", "zero_share", "psi"),
    *_no_table("plot_budget", "layer", "kind", "d", "factor", "budget", "survivors", "a_priori", "open", "rank"),
    *_no_table("plot_solver_cost", "d", "rank", "gamma", "fast_s", "cvxpy_s"),
    *_no_table("plot_dead_units", "layer", "unit", "proposition", "step", "alpha"),
    *_no_table("width_figure", "width", "seed", "gamma", "layer", "live", "rank", "soft_rank_sharp", "nonzeros", "kept",
               "error", "r_w_of_narrowest"),
)  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSALS)
def test_refused(name, arguments, message):
    with pytest.raises(InvalidInputError, match=f"^{message}"):
        getattr(figures, name)(*arguments)
