"""The penalty ρ(μ; w, γ) at one curvature and price (docs/theory.md T1): on its surface, and beside ℓ1, log, ℓ0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from vibtheory.figures.penalty import classical_penalties
from vibtheory.figures.style import COLORS, style
from vibtheory.theory.penalty import penalty, snr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_penalty_section"]

_WIDTH = 3.0


def plot_penalty_section(w: float, gamma: float) -> Figure:
    """Left: ρ/γ over μ and w at price γ, the chosen w as a line. Right: that section beside the classical penalties.

    Args:
        w: squared column norm (half the data term's curvature), in nats per μ².
        gamma: price γ in nats.

    Raises:
        InvalidInputError: w < 0 or γ ≤ 0.
    """
    mu = np.linspace(-_WIDTH, _WIDTH, 301)
    section = penalty(mu, w, gamma) / gamma
    norms = np.geomspace(0.03, 30, 80)
    looks = {"ℓ1": ("orange", "--"), "log": ("green", "-."), "ℓ0": ("black", ":")}
    with style():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.1))
        surface = penalty(mu[None, :], norms[:, None], gamma) / gamma
        filled = left.contourf(mu, norms, surface, levels=np.linspace(0, 10, 21), cmap="cividis", extend="max")
        left.set_yscale("log")
        left.axhline(w, color="white", lw=2)
        left.set(xlabel="gate mean μ", ylabel="curvature w (nats/μ²)", title=f"ρ/γ at γ = {gamma:g} nats")
        left.grid(visible=False)
        figure.colorbar(filled, ax=left, label="ρ/γ (nats per nat)", ticks=[0, 2, 4, 6, 8, 10])
        right.plot(mu, section, color=COLORS["blue"], lw=2.4, label="ρ/γ")
        for name, values in classical_penalties(mu * np.sqrt(w / gamma)).items():
            right.plot(mu, values, color=COLORS[looks[name][0]], ls=looks[name][1], label=name)
        alpha = float(snr(1.0, w, gamma))
        right.set(xlabel="gate mean μ", ylabel="penalty / γ", ylim=(0, 12))
        right.set_title(f"w = {w:g}: a gate with μ = 1 has α = {alpha:.3g}")
        right.legend(loc="upper center", ncols=4)
    return figure
