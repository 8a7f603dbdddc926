"""The poster's sketch with real numbers: ḡ above g along an active and along a redundant gate (docs/theory.md T5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["plot_bound_counts", "plot_bound_sections", "sections"]

Array = NDArray[np.float64]


def sections(
    bound: QuadraticBound, loss: Callable[[Array], Array], origin: ArrayLike, gates: dict[str, int], width: float = 2.0
) -> DataFrame:
    """g and ḡ where one gate's z_j moves and the others stay at `origin`.

    Args:
        bound: ḡ with d gates.
        loss: z [S, d] → g(z) [S] in nats.
        origin: z⁰ [d].
        gates: index of the gate to move, by the name of its panel.
        width: z_j runs over origin_j ± width.

    Returns:
        Columns direction, z, loss, bound (nats).

    Raises:
        InvalidInputError: origin of the wrong shape, no gate, or an index outside the bound.
    """
    import pandas as pd

    centre = as_array("origin", origin, (bound.d,))
    if not gates or not all(0 <= j < bound.d for j in gates.values()):
        reject("gates", gates, f"indices in 0 … {bound.d - 1}", "name at least one gate of the bound")
    steps = np.linspace(-width, width, 41)
    tables = []
    for name, j in gates.items():
        points = np.repeat(centre[None], steps.size, axis=0)
        points[:, j] += steps
        tables.append(
            pd.DataFrame({"direction": name, "z": points[:, j], "loss": loss(points), "bound": bound.value(points)})
        )
    return pd.concat(tables, ignore_index=True)


def plot_bound_sections(table: DataFrame) -> Figure:
    """One panel per direction: the loss g and its quadratic bound ḡ over z_j, in nats, on a common scale.

    Args:
        table: from `sections`.
    """
    names = list(dict.fromkeys(table["direction"]))
    with style():
        figure, panels = plt.subplots(1, len(names), figsize=(4 * len(names), 2.9), sharey=True, squeeze=False)
        for axes, name in zip(panels[0], names, strict=True):
            rows = table[table["direction"] == name]
            axes.plot(rows["z"], rows["loss"], color=COLORS["sky"], lw=3.2, label="g, the network's mean loss")
            axes.plot(rows["z"], rows["bound"], color=COLORS["red"], lw=1.4, label="ḡ, the bound")
            axes.set(xlabel="gate value z_j (others fixed)", title=name)
            axes.set_ylim(bottom=0)
        panels[0, 0].set_ylabel("nats per example")
        panels[0, 0].legend(loc="upper center")
    return figure


def plot_bound_counts(table: DataFrame) -> Figure:
    """Per layer: gates, rank, both soft ranks, certified survivors and the trained network's open gates.

    Args:
        table: columns layer, d, rank, soft_rank, soft_rank_sharp, nonzeros, trained_nonzeros.
    """
    bars = (
        ("d", "gates d", "black"),
        ("rank", "rank[A]", "grey"),
        ("soft_rank", "soft rank", "orange"),
        ("soft_rank_sharp", "sharp soft rank", "red"),
        ("nonzeros", "survivors ‖α*‖₀ of ḡ's minimum", "blue"),
        ("trained_nonzeros", "open in the trained net (not judged)", "sky"),
    )
    with style():
        figure, axes = plt.subplots(figsize=(7.4, 3.1))
        place = np.arange(len(table))
        for index, (column, label, color) in enumerate(bars):
            at = place + (index - 2.5) * 0.14
            axes.bar(at, table[column], width=0.13, color=COLORS[color], label=label)
            for x, count in zip(at, table[column], strict=True):
                axes.text(x, count, f"{count:.0f}", ha="center", va="bottom", fontsize=7)
        axes.set_xticks(place, list(table["layer"]))
        axes.set(xlabel="gated layer", ylabel="number of gates")
        axes.grid(axis="x", visible=False)
        axes.legend()
    return figure
