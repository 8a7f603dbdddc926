"""The plot of each kind of result: what `report.plot()` looks up."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vibtheory.errors import reject

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot"]

_PLOTS = {
    "BoundTable": "plot_bound_table",
    "CollinearityReport": "plot_collinearity",
    "DeadGateFlow": "plot_flow",
    "DeadUnitReport": "plot_dead_unit",
    "IBCurve": "plot_curve",
    "LayerInformation": "plot_layer_information",
    "NetworkReport": "plot_network",
    "RealLossMinimum": "plot_descent",
    "SparsityPath": "plot_path",
    "SparsityReport": "plot_sparsity",
    "TrainedNetworkReport": "plot_trained",
}


def plot(report: object) -> Figure:
    """The figure of a result object, `report`, by its type.

    Raises:
        InvalidInputError: no plot is registered for this type.
    """
    kind = next((kind.__name__ for kind in type(report).__mro__ if kind.__name__ in _PLOTS), None)
    if kind is None:
        reject("report", type(report).__name__, "one of " + ", ".join(_PLOTS), "plot its table with matplotlib")
    figure: Figure = getattr(importlib.import_module("vibtheory.figures"), _PLOTS[kind])(report)
    return figure
