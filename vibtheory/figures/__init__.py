"""Plots. Each reads a results table or a report and nothing else; `style` is what they share.

Result objects have `.plot()`; these functions are behind it. Names are loaded on first use, and matplotlib with them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vibtheory.errors import reject
from vibtheory.figures.gate_block import gate_block
from vibtheory.figures.information_plane import information_plane
from vibtheory.figures.tradeoff import tradeoff

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vibtheory.figures.dead_gate import plot_dead_unit, plot_dead_units, plot_flow
    from vibtheory.figures.path import plot_path
    from vibtheory.figures.penalty import plot_penalty_comparison, plot_penalty_surface, slide_surface
    from vibtheory.figures.real_loss import plot_descent
    from vibtheory.figures.redundancy import plot_collinearity
    from vibtheory.figures.solver_cost import plot_solver_cost
    from vibtheory.figures.sparsity import plot_network, plot_sparsity
    from vibtheory.figures.style import COLORS, save

__all__ = [
    "COLORS",
    "gate_block",
    "information_plane",
    "plot",
    "plot_collinearity",
    "plot_dead_unit",
    "plot_dead_units",
    "plot_descent",
    "plot_flow",
    "plot_network",
    "plot_path",
    "plot_penalty_comparison",
    "plot_penalty_surface",
    "plot_solver_cost",
    "plot_sparsity",
    "save",
    "slide_surface",
    "tradeoff",
]

_NAMES = {
    "style": ("COLORS", "save"),
    "sparsity": ("plot_network", "plot_sparsity"),
    "path": ("plot_path",),
    "solver_cost": ("plot_solver_cost",),
    "redundancy": ("plot_collinearity",),
    "penalty": ("plot_penalty_comparison", "plot_penalty_surface", "slide_surface"),
    "real_loss": ("plot_descent",),
    "dead_gate": ("plot_dead_unit", "plot_dead_units", "plot_flow"),
}
# The plot of each kind of result: what `report.plot()` looks up.
_PLOTS = {
    "BoundTable": "bound_table.plot_bound_table",
    "CollinearityReport": "redundancy.plot_collinearity",
    "DeadGateFlow": "dead_gate.plot_flow",
    "DeadUnitReport": "dead_gate.plot_dead_unit",
    "IBCurve": "information_plane.plot_curve",
    "NetworkReport": "sparsity.plot_network",
    "RealLossMinimum": "real_loss.plot_descent",
    "SparsityPath": "path.plot_path",
    "SparsityReport": "sparsity.plot_sparsity",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def plot(report: object) -> Figure:
    """The figure of a result object, by its type.

    Raises:
        InvalidInputError: no plot is registered for this type.
    """
    kind = next((kind.__name__ for kind in type(report).__mro__ if kind.__name__ in _PLOTS), None)
    if kind is None:
        reject("report", type(report).__name__, "one of " + ", ".join(_PLOTS), "plot its table with matplotlib")
    module, name = _PLOTS[kind].split(".")
    figure: Figure = getattr(importlib.import_module(f"vibtheory.figures.{module}"), name)(report)
    return figure


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"vibtheory.figures.{_HOME[name]}"), name)
    raise AttributeError(f"module 'vibtheory.figures' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
