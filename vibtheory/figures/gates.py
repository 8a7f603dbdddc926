"""Pictures of gates: one gate's noise and price, α splitting in two during training, the input pixels that survive."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.errors import as_positive, as_scalar, reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["plot_alpha_histogram", "plot_one_gate", "plot_surviving_pixels"]


def plot_one_gate(mu: float, sigma: float) -> Figure:
    """Left: the density of z = μ + σε. Right: the gate's price ½ log(1+α) over α, with this gate on it.

    Args:
        mu: mean.
        sigma: standard deviation > 0, same unit.

    Raises:
        InvalidInputError: not finite, or σ ≤ 0.
    """
    mean, deviation = as_scalar("mu", mu), float(as_positive("sigma", sigma, ()))
    alpha = mean**2 / deviation**2
    z = np.linspace(-3, 4, 400)
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9))
        density = np.exp(-0.5 * ((z - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
        left.fill_between(z, density, color=COLORS["sky"], alpha=0.5)
        left.plot(z, density, color=COLORS["blue"])
        left.axvline(0, color=COLORS["black"], lw=1)
        left.axvline(mean, color=COLORS["red"], lw=1.4, label="mean μ")
        left.set(xlabel="gate value z", ylabel="density", ylim=(0, max(1.0, 1.08 * density.max())))
        left.set_title("kept: signal above noise" if alpha > 1 else "cut: noise drowns the signal", loc="left")
        left.legend()
        grid = np.geomspace(1e-4, 1e4, 200)
        right.semilogx(grid, 0.5 * np.log1p(grid), color=COLORS["blue"])
        right.axvline(1, color=COLORS["grey"], ls=":", label="threshold α = 1")
        shown = float(np.clip(alpha, 1e-4, 1e4))
        right.plot(shown, 0.5 * np.log1p(shown), "o", ms=8, color=COLORS["red"], clip_on=False, zorder=3)
        right.set(xlabel="signal-to-noise ratio α = μ²/σ²", ylabel="½ log(1+α) (nats)")
        right.set_title(f"α = {alpha:.3g} costs {0.5 * np.log1p(alpha):.3g} nats", loc="left")
        right.legend(loc="upper left")
    return figure


def plot_alpha_histogram(table: DataFrame, epoch: int) -> Figure:
    """log₁₀ α of every gate after one epoch, one panel per layer.

    Args:
        table: columns epoch, layer, log10_alpha (bin centre), gates (count).
        epoch: one of the table's.

    Raises:
        InvalidInputError: an epoch that was not recorded.
    """
    now = table[table["epoch"] == epoch]
    if now.empty:
        reject("epoch", epoch, f"one of {sorted(set(table['epoch']))}", "pass a recorded epoch")
    layers = list(dict.fromkeys(table["layer"]))
    with style():
        figure, panels = plt.subplots(1, len(layers), figsize=(8, 2.6), squeeze=False)
        for axes, layer in zip(panels[0], layers, strict=True):
            rows = now[now["layer"] == layer]
            centres, counts = rows["log10_alpha"].to_numpy(), rows["gates"].to_numpy()
            width = 0.9 * (centres[1] - centres[0])
            colors = [COLORS["blue"] if c > 0 else COLORS["orange"] for c in centres]
            axes.bar(centres, counts, width=width, color=colors)
            axes.axvline(0, color=COLORS["black"], lw=1, ls=":")
            top = table[table["layer"] == layer].groupby("epoch")["gates"].max().iloc[3:].max()
            axes.set(xlabel="log₁₀ α", xlim=(-6.2, 6.2), ylim=(0, 1.1 * top))
            axes.set_title(f"{layer}: {counts[centres > 0].sum()} of {counts.sum()} open", loc="left")
        panels[0, 0].set_ylabel("gates")
        figure.suptitle(f"epoch {epoch}", x=0.99, ha="right", fontsize=10)
    return figure


def plot_surviving_pixels(table: DataFrame) -> Figure:
    """The 28 × 28 input gates: log₁₀ α of each (left), and which pixels the compressed network reads (right).

    Args:
        table: columns row, column, log10_alpha, alive (0 or 1).
    """
    size = int(table["row"].max()) + 1, int(table["column"].max()) + 1
    order = table.sort_values(["row", "column"])
    alpha = order["log10_alpha"].to_numpy().reshape(size)
    alive = order["alive"].to_numpy().reshape(size)
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(7, 3.2))
        image = left.imshow(alpha, cmap="cividis", vmin=-4, vmax=4)
        figure.colorbar(image, ax=left, label="log₁₀ α", extend="both", shrink=0.85)
        left.set_title("signal-to-noise ratio", loc="left")
        right.imshow(alive, cmap="Greys", vmin=0, vmax=1.3)
        right.set_title(f"{int(alive.sum())} of {alive.size} pixels survive", loc="left")
        for axes in (left, right):
            axes.set(xlabel="column (pixels)", ylabel="row (pixels)")
            axes.grid(visible=False)
    return figure
