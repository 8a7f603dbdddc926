"""Figure of a γ path: which gates carry information at which price, and where they open, close or jump."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vibtheory.theory.path import SparsityPath

__all__ = ["plot_path"]

_MARKS = {"opens": ("^", COLORS["green"]), "closes": ("v", COLORS["red"]), "jumps": ("D", COLORS["purple"])}


def plot_path(path: SparsityPath) -> Figure:
    """Signal share u = α/(1+α) of every gate, and survivors, over γ (docs/theory.md T7).

    Args:
        path: from `sparsity_path`.
    """
    with style():
        figure, (shares, counts) = plt.subplots(
            2, 1, figsize=(5.2, 4.4), sharex=True, gridspec_kw={"height_ratios": [2, 1]}
        )
        alpha = path.alpha
        shares.semilogx(path.gammas, alpha / (1 + alpha), lw=0.9, alpha=0.8)
        shares.set(ylabel="signal share u = α/(1+α)", ylim=(-0.02, 1.04))
        counts.step(path.gammas, path.nonzeros, where="mid", color=COLORS["black"], lw=1.2)
        for kind, (marker, color) in _MARKS.items():
            at = np.array([e.gamma for e in path.events if e.kind == kind])
            if at.size:
                counts.plot(
                    at, np.zeros(at.size), marker, color=color, ms=4, label=f"{at.size} × {kind}", clip_on=False
                )
        if path.events:
            counts.legend(loc="best", ncols=3)
        counts.set(xlabel="price γ (nats)", ylabel="survivors ‖α*‖₀")
        counts.set_ylim(bottom=0)
        counts.yaxis.set_major_locator(MaxNLocator(integer=True))
        shares.set_title(f"{path.nonzeros[0]} to {path.nonzeros[-1]} survivors; {path.status}", loc="left")
    return figure
