"""Figure 1: the VIBNet layer as a vector drawing, h_i = f_i(h_{i−1}) ⊙ z_i with z_i = μ_i + σ_i ⊙ ε_i."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["gate_block"]


def gate_block() -> Figure:
    """The block structure of one gated layer (poster, Figure 1): deterministic path, noisy gate, product.

    Below the drawing stand the law of h_i given h_{i−1} and the gate's price, as the poster has them.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyBboxPatch

    with style():
        figure, axes = plt.subplots(figsize=(6.6, 3.3))
        axes.set(xlim=(0, 13.2), ylim=(0, 6.6), aspect="equal")
        axes.axis("off")
        axes.add_patch(
            FancyBboxPatch(
                (2.35, 1.25),
                7.75,
                4.75,
                boxstyle="round,pad=0.1,rounding_size=0.25",
                facecolor="#F5F5F5",
                edgecolor=COLORS["grey"],
                linestyle="--",
                linewidth=1,
            )
        )
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

        axes.text(
            6.6,
            0.78,
            r"$h_i = f_i(h_{i-1}) \odot z_i,\quad z_i = \mu_i + \sigma_i \odot \epsilon_i$"
            r"$\quad\Rightarrow\quad p(h_i\,|\,h_{i-1}) = \mathcal{N}\left(f_i \odot \mu_i,\ "
            r"\mathrm{diag}\left[f_i^2 \odot \sigma_i^2\right]\right)$",
            ha="center",
            va="center",
            fontsize=9,
        )
        axes.text(
            6.6,
            0.28,
            r"price: $\gamma_i \sum_j \log\left(1 + \alpha_{ij}\right),\quad \alpha_{ij} = \mu_{ij}^2 / \sigma_{ij}^2;$"
            r"$\quad$ a unit with $\alpha_{ij} = 0$ is cut out",
            ha="center",
            va="center",
            fontsize=9,
        )
    return figure


def _node(axes: Axes, x: float, y: float, text: str, color: str, size: float = 12) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle((x, y), 0.5, facecolor="white", edgecolor=color, linewidth=1.6))
    axes.text(x, y, text, ha="center", va="center", fontsize=size)


def _box(axes: Axes, x: float, y: float, width: float, text: str, color: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2 + 0.1, y - 0.4),
            width - 0.2,
            0.8,
            boxstyle="round,pad=0.1,rounding_size=0.15",
            facecolor="white",
            edgecolor=color,
            linewidth=1.6,
        )
    )
    axes.text(x, y, text, ha="center", va="center", fontsize=11)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "", end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    )
