"""A training run with gates: cross-entropy and information apart, and the units that stay open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from vibtheory.errors import reject
from vibtheory.figures.style import COLORS, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["plot_training"]


def plot_training(history: DataFrame) -> Figure:
    """Left: mean cross-entropy and Σ ½ log(1+α) in nats over epochs. Right: open gates per layer, in percent.

    Args:
        history: `Run.history` of a gated network.

    Raises:
        InvalidInputError: no kept_… column: the network has no gates.
    """
    layers = [name.removeprefix("kept_") for name in history.columns if name.startswith("kept_")]
    if not layers:
        reject("history", "no kept_ columns", "the history of a gated network", "train a net with gates")
    with style():
        figure, (loss, kept) = plt.subplots(1, 2, figsize=(8, 3.0))
        epoch = history["epoch"]
        loss.semilogy(epoch, history["cross_entropy"], color=COLORS["red"])
        loss.set(xlabel="epoch", ylabel="cross-entropy (nats)")
        loss.yaxis.label.set_color(COLORS["red"])
        right = loss.twinx()
        right.semilogy(epoch, history["information"], color=COLORS["blue"], ls="--")
        right.set_ylabel("information Σ ½ log(1+α) (nats)", color=COLORS["blue"])
        right.spines["right"].set_visible(True)
        right.grid(visible=False)
        loss.set_title("what is paid for, and what it costs", loc="left")
        for layer, dash in zip(layers, ("-", "--", ":", "-.", *["-"] * len(layers)), strict=False):
            units = history[f"kept_{layer}"]
            kept.plot(epoch, 100 * units / units.iloc[0], ls=dash, label=f"{layer}: {units.iloc[-1]} open")
        kept.set(xlabel="epoch", ylabel="gates open (% of the first epoch's)", ylim=(0, 105))
        kept.set_title("the gates close", loc="left")
        kept.legend()
    return figure
