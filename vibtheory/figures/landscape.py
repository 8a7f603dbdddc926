"""Φ over two gates, with every local minimum (docs/theory.md T2, T6) and any other point that is worth a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike

from vibtheory.errors import as_array, reject
from vibtheory.figures.style import COLORS, style
from vibtheory.theory.penalty import penalty

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vibtheory.theory.minima import LocalMinimum
    from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["plot_landscape"]


def plot_landscape(
    bound: QuadraticBound,
    minima: Sequence[LocalMinimum],
    points: Mapping[str, ArrayLike] | None = None,
    title: str = "",
) -> Figure:
    """Contours of Φ(μ₁, μ₂) in nats; the global minimum a star, the others circles, `points` as crosses.

    Args:
        bound: ḡ with d = 2 gates.
        minima: its local minima, the lowest first, as `enumerate_local_minima` returns them.
        points: further points [2] by label.
        title: above the picture; by default the count of minima.

    Raises:
        InvalidInputError: the bound has not two gates, or a point is not [2].
    """
    if bound.d != 2:
        reject("bound", f"{bound.d} gates", "2 gates", "use SparsityReport.plot for more")
    others = {name: as_array("points", value, (2,)) for name, value in (points or {}).items()}
    seen = np.array([np.zeros(2), *(m.mu for m in minima), *others.values()])
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.35 * max(float((high - low).max()), 1.0)
    x, y = (np.linspace(low[i] - margin, high[i] + margin, 161) for i in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1)  # [161, 161, 2]
    height = bound.value(grid) + penalty(grid, bound.w, bound.gamma).sum(axis=-1)
    bottom = float(height.min())
    # Square-root spacing: narrow bands near the minima, wide ones on the slopes.
    levels = bottom + (np.linspace(0, 1, 22) ** 2) * (float(np.quantile(height, 0.9)) - bottom)
    with style():
        figure, axes = plt.subplots(figsize=(4.9, 3.9))
        filled = axes.contourf(x, y, height, levels=levels, cmap="cividis", extend="max")
        figure.colorbar(filled, ax=axes, label="Φ (nats)", format="%.2g")
        axes.grid(visible=False)
        axes.axhline(0, color="white", lw=0.7)
        axes.axvline(0, color="white", lw=0.7)
        named: set[str] = set()
        for minimum in minima:
            lowest = minimum.value <= minima[0].value + 1e-9 * max(1.0, abs(minima[0].value))
            name = "global minimum" if lowest else "local minimum"
            axes.plot(*minimum.mu, marker="*" if lowest else "o", ms=14 if lowest else 8, ls="", mec="white", zorder=3,
                      color=COLORS["red"], label=None if name in named else name, clip_on=False)  # fmt: skip
            named.add(name)
        for name, point in others.items():
            axes.plot(*point, marker="X", ms=9, ls="", color="white", mec="black", label=name, zorder=4)
        axes.set(xlabel="gate mean μ₁", ylabel="gate mean μ₂")
        count = f"{len(minima)} local minim{'um' if len(minima) == 1 else 'a'}"
        axes.set_title(title or count, loc="left")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return figure
