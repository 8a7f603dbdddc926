"""Why training's sum is no bound with ReLU (docs/theory.md P2): how often each unit is exactly 0, and its ψ⁺."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vibtheory.errors import reject
from vibtheory.figures.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["relu_zeros"]


def relu_zeros(table: DataFrame) -> Figure:
    """Share of inputs on which a unit is exactly 0, and ψ⁺ against it, one colour per layer.

    Args:
        table: one row per kept unit: layer, zero_share (a fraction), psi (nats).

    Raises:
        InvalidInputError: a column is missing, or no row.
    """
    import matplotlib.pyplot as plt

    missing = {"layer", "zero_share", "psi"} - set(table.columns)
    if missing or table.empty:
        reject("table", f"missing {sorted(missing) or 'rows'}", "layer, zero_share, psi per unit", "run the benchmark")
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 2.9))
        bins = [k / 25 for k in range(26)]
        for layer, part in table.groupby("layer"):
            left.hist(100 * part["zero_share"], bins=[100 * edge for edge in bins], alpha=0.6, label=str(layer))
            right.plot(100 * part["zero_share"], part["psi"], ls="", marker=".", ms=4, alpha=0.6, label=str(layer))
        left.set(xlabel="inputs on which the unit is 0 [%]", ylabel="kept units", xlim=(0, 100))
        right.set(xlabel="inputs on which the unit is 0 [%]", ylabel="ψ⁺ [nats]", xlim=(0, 100), ylim=(0, None))
        left.legend()
    return figure
