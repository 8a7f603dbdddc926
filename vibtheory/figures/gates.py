"""Pictures of gates: the VIBNet layer (Figure 1), one gate's noise and price, α splitting in two, surviving pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyBboxPatch

from vibtheory.errors import as_positive, as_scalar, reject
from vibtheory.figures.style import COLORS, facets, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["gate_block", "plot_alpha_histogram", "plot_one_gate", "plot_surviving_pixels"]


@style()
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
    ends = min(-3.0, mean - 4 * deviation), max(4.0, mean + 4 * deviation)
    z = np.union1d(np.linspace(*ends, 400), mean + deviation * np.linspace(-7, 7, 401))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9))
    density = np.exp(-0.5 * ((z - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    left.fill_between(z, density, color=COLORS["sky"], alpha=0.5)
    left.plot(z, density, color=COLORS["blue"])
    left.axvline(0, color=COLORS["black"], lw=1)
    left.axvline(mean, color=COLORS["red"], lw=1.4, label="mean μ")
    left.set(xlabel="gate value z", ylabel="density", ylim=(0, max(1.0, 1.08 * density.max())))
    left.set_title("kept: signal above noise" if alpha > 1 else "cut: noise drowns the signal", loc="left")
    left.legend()
    most = float(np.clip(alpha, 1e4, 1e300))
    grid = np.geomspace(1e-4, most, 200)
    right.semilogx(grid, 0.5 * np.log1p(grid), color=COLORS["blue"])
    right.axvline(1, color=COLORS["grey"], ls=":", label="threshold α = 1")
    shown = float(np.clip(alpha, 1e-4, most))
    right.plot(shown, 0.5 * np.log1p(shown), "o", ms=8, color=COLORS["red"], clip_on=False, zorder=3)
    right.set(xlabel="signal-to-noise ratio α = μ²/σ²", ylabel="½ log(1+α) (nats)")
    right.set_title(f"α = {alpha:.3g} costs {0.5 * np.log1p(alpha):.3g} nats", loc="left")
    right.legend(loc="upper left")
    return figure


@style()
def plot_alpha_histogram(table: DataFrame, epoch: int) -> Figure:
    """log₁₀ α of every gate after one epoch, one panel per layer.

    Args:
        table: columns epoch, layer, log10_alpha (bin centre), gates (count).
        epoch: one of the table's.

    Raises:
        InvalidInputError: an epoch that was not recorded.
    """
    if not (table["epoch"] == epoch).any():
        reject("epoch", epoch, f"one of {sorted(set(table['epoch']))}", "pass a recorded epoch")
    figure, panels = facets(table, "layer", figsize=(8, 2.6), of_all=True)
    for axes, layer, every in panels:
        rows = every[every["epoch"] == epoch]
        centres, counts = rows["log10_alpha"].to_numpy(), rows["gates"].to_numpy()
        width = 0.9 * (centres[1] - centres[0])
        colors = [COLORS["blue"] if c > 0 else COLORS["orange"] for c in centres]
        axes.bar(centres, counts, width=width, color=colors)
        axes.axvline(0, color=COLORS["black"], lw=1, ls=":")
        top = every.groupby("epoch")["gates"].max().iloc[3:].max()
        axes.set(xlabel="log₁₀ α", xlim=(-6.2, 6.2), ylim=(0, 1.1 * top))
        axes.set_title(f"{layer}: {counts[centres > 0].sum()} of {counts.sum()} open", loc="left")
    panels[0][0].set_ylabel("gates")
    figure.suptitle(f"epoch {epoch}", x=0.99, ha="right", fontsize=10)
    return figure


@style()
def plot_surviving_pixels(table: DataFrame) -> Figure:
    """The 28 × 28 input gates: log₁₀ α of each (left), and which pixels the compressed network reads (right).

    Args:
        table: columns row, column, log10_alpha, alive (0 or 1).
    """
    size = int(table["row"].max()) + 1, int(table["column"].max()) + 1
    order = table.sort_values(["row", "column"])
    alpha = order["log10_alpha"].to_numpy().reshape(size)
    alive = order["alive"].to_numpy().reshape(size)
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


@style()
def gate_block() -> Figure:
    """The block structure of one gated layer (paper, Figure 1): deterministic path, noisy gate, product.

    Below the drawing stand the law of h_i given h_{i−1} and the gate's price,
    with γ per nat as in training (the paper puts the ½ into its γ).
    """
    figure, axes = plt.subplots(figsize=(6.6, 3.3))
    axes.set(xlim=(0, 13.2), ylim=(0, 6.6), aspect="equal")
    axes.axis("off")
    _frame(axes, (2.35, 1.25), 7.75, 4.75, 0.25, facecolor="#F5F5F5", edgecolor=COLORS["grey"], ls="--", lw=1)
    axes.text(2.55, 5.95, r"layer $i$", va="top", color="#555555", fontsize=10)

    # The deterministic path, at height 4.4.
    _node(axes, 1.1, 4.4, r"$h_{i-1}$", COLORS["grey"])
    _box(axes, 4.3, 4.4, 2.5, r"$f_i(h_{i-1})$", COLORS["blue"])
    axes.text(4.3, 5.2, "weights and activation", ha="center", fontsize=8, color=COLORS["blue"])
    _node(axes, 8.9, 4.4, r"$\odot$", COLORS["black"], size=15)
    _node(axes, 11.7, 4.4, r"$h_i$", COLORS["grey"])
    _arrow(axes, (1.6, 4.4), (3.05, 4.4))
    _arrow(axes, (5.55, 4.4), (8.4, 4.4))
    _arrow(axes, (9.4, 4.4), (11.2, 4.4))

    # The gate: ε is scaled by σ, shifted by μ, and multiplies the activation.
    _node(axes, 3.3, 2.05, r"$\epsilon_i$", COLORS["orange"])
    axes.text(3.3, 2.72, r"$\mathcal{N}(0, I)$", ha="center", fontsize=8, color="#8A5F00")
    _box(axes, 5.1, 2.05, 1.25, r"$\odot\,\sigma_i$", COLORS["red"])
    _box(axes, 7.0, 2.05, 1.25, r"$+\,\mu_i$", COLORS["red"])
    _node(axes, 8.9, 2.05, r"$z_i$", COLORS["red"])
    axes.text(6.05, 2.72, "learned gate", ha="center", fontsize=8, color=COLORS["red"])
    _arrow(axes, (3.8, 2.05), (4.47, 2.05))
    _arrow(axes, (5.73, 2.05), (6.37, 2.05))
    _arrow(axes, (7.63, 2.05), (8.4, 2.05))
    _arrow(axes, (8.9, 2.55), (8.9, 3.9))

    law = (
        r"$h_i = f_i(h_{i-1}) \odot z_i,\quad z_i = \mu_i + \sigma_i \odot \epsilon_i$"
        r"$\quad\Rightarrow\quad p(h_i\,|\,h_{i-1}) = \mathcal{N}\left(f_i \odot \mu_i,\ "
        r"\mathrm{diag}\left[f_i^2 \odot \sigma_i^2\right]\right)$"
    )
    price = (
        r"price: $\gamma_i \sum_j \frac{1}{2}\log\left(1 + \alpha_{ij}\right),\quad "
        r"\alpha_{ij} = \mu_{ij}^2 / \sigma_{ij}^2;$"
        r"$\quad$ a unit with $\alpha_{ij} \leq 1$ is cut out"
    )
    for height, words in ((0.82, law), (0.22, price)):
        axes.text(6.6, height, words, ha="center", va="center", fontsize=9)
    return figure


def _node(axes: Axes, x: float, y: float, text: str, color: str, size: float = 12) -> None:
    axes.add_patch(Circle((x, y), 0.5, facecolor="white", edgecolor=color, linewidth=1.6))
    axes.text(x, y, text, ha="center", va="center", fontsize=size)


def _box(axes: Axes, x: float, y: float, width: float, text: str, color: str) -> None:
    _frame(axes, (x - width / 2 + 0.1, y - 0.4), width - 0.2, 0.8, 0.15, facecolor="white", edgecolor=color, lw=1.6)
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def _frame(axes: Axes, corner: tuple[float, float], width: float, height: float, rounding: float, **look: Any) -> None:
    style = f"round,pad=0.1,rounding_size={rounding}"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, **look))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    )
