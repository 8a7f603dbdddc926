"""Every theory result with `.plot()` draws what it says, in labelled axes, and leaves matplotlib's settings alone."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from vibtheory.errors import InvalidInputError
from vibtheory.figures import plot_solver_cost
from vibtheory.theory.dead_gate import dead_gate_flow
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.path import sparsity_path
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.redundancy import check_collinearity
from vibtheory.theory.sparsity import check_sparsity_bound


@pytest.fixture(scope="module")
def bound():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((4, 7))
    return QuadraticBound(A, -2 * A.T @ (4 * rng.standard_normal(4)), 0.0, 0.1)


RESULTS = {
    "sparsity": check_sparsity_bound,
    "collinearity": lambda bound: check_collinearity(bound, find_local_minimum(bound)),
    "path": lambda bound: sparsity_path(bound, [0.1, 0.2]),
    "flow in sigma": lambda _: dead_gate_flow(1.0, 0.5, 0.1, np.linspace(0, 5, 20)),
    "flow in log variance": lambda _: dead_gate_flow(1.0, 0.5, 0.1, np.linspace(0, 5, 20), "log_variance"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_each_result_plots_itself_with_labelled_axes(bound, name):
    before = dict(matplotlib.rcParams)
    figure = RESULTS[name](bound).plot()
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
    assert all(axes.get_xlabel() or axes.get_ylabel() or axes.get_title(loc="left") for axes in figure.axes)
    assert dict(matplotlib.rcParams) == before
    plt.close(figure)


def test_collinearity_plot_shows_every_pair(bound):
    report = check_collinearity(bound, find_local_minimum(bound))
    figure = report.plot()
    points = figure.axes[0].collections[-1].get_offsets()
    np.testing.assert_allclose(points[:, 0], report.limits)
    np.testing.assert_allclose(points[:, 1], report.squared_cosines)
    plt.close(figure)


def test_solver_cost_plots_the_table_and_names_missing_columns():
    table = pd.DataFrame(
        {
            "d": [150, 784, 784],
            "rank": [100, 100, 50],
            "gamma": 0.1,
            "fast_s": [0.1, 0.2, 0.15],
            "cvxpy_s": [9.0, 30.0, np.nan],
        }
    )
    figure = plot_solver_cost(table)
    fast = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(fast.get_xydata(), [[150, 0.1], [784, 0.2]])
    np.testing.assert_allclose(figure.axes[0].get_lines()[1].get_ydata(), [9.0, 30.0])
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_xydata(), [[50, 0.15], [100, 0.2]])
    plt.close(figure)
    with pytest.raises(InvalidInputError, match="cvxpy_s"):
        plot_solver_cost(table.drop(columns="cvxpy_s"))
