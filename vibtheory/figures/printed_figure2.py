"""The printed Figure 2 as read off the paper, and how ours lies to it: one affine map of the axes, and ratios."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vibtheory.errors import reject
from vibtheory.storage.report import Report

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["PRINTED_READING", "PrintedFit", "printed_curves", "printed_fit"]

PRINTED_READING = ("gaussian", 0.01)
"""Method and τ of the right-hand printed panel: ½ log det(I + Cov/τ²) is ½ log det(τ²I + Cov) plus a constant, the
likeliest reading of the printed axis (docs/theory.md F (ii))."""

NETS = {"VIBNet": "vibnet", "regular": "regular"}
"""Net of a table, and its columns' ending in `printed_curves`."""


def printed_curves() -> DataFrame:
    """The printed figure, read off by eye (about ± 2 nats, ± 0.01).

    Returns:
        Columns epoch, r_w_vibnet, r_w_regular (fractions), mi_vibnet, mi_regular (nats, plus an unknown constant).
    """
    with resources.files("vibtheory").joinpath("studies/published/figure2_poster.csv").open(encoding="utf-8") as stream:
        return pd.read_csv(stream, comment="#")


@dataclass(frozen=True)
class PrintedFit(Report):
    """printed ≈ constant + slope · ours, by least squares over both nets and all recorded epochs; and two ratios.

    A slope of 1 would make the constant the whole difference. The ratios do not depend on the axis: `rise_over_fall`,
    of VIBNet, (top − start) / (top − end); `gap_over_rise`, the distance of the two nets at the end over what the
    regular net rises in all. Each as (ours, printed).

    Attributes:
        slope: printed nats for one of ours.
        constant: nats.
        residual: root mean square of what the map leaves, printed nats.
        rise_over_fall, gap_over_rise: (ours, printed).
    """

    slope: float
    constant: float
    residual: float
    rise_over_fall: tuple[float, float]
    gap_over_rise: tuple[float, float]

    def __str__(self) -> str:
        """Two sentences."""
        return (
            f"printed = {self.constant:.0f} + {self.slope:.2f} × ours, within {self.residual:.0f} nats (r.m.s.). "
            "VIBNet's rise over its fall: ours {:.2f}, printed {:.2f}; the nets' distance at the end over the regular "
            "net's rise: ours {:.2f}, printed {:.2f}.".format(*self.rise_over_fall, *self.gap_over_rise)
        )


def printed_fit(table: DataFrame, gamma: float) -> PrintedFit:
    """Compare the mean curves of I(h₁; x) by `PRINTED_READING` with the printed ones.

    Args:
        table: from `vibtheory.sweep`, VIBNets of price `gamma` and regular nets.
        gamma: price of the VIBNet.

    Raises:
        InvalidInputError: a net has fewer than two recorded epochs by that reading, or ours do not move.
    """
    method, tau = PRINTED_READING
    rows = table[(table["method"] == method) & (table["tau"] == tau)]
    rows = rows[rows["n"] == rows["n"].min()]  # larger ones are of last epochs only
    printed = printed_curves()
    ours, theirs = {}, {}
    for net, part in (("VIBNet", rows[rows["gated"] & (rows["gamma"] == gamma)]), ("regular", rows[~rows["gated"]])):
        mean = part.groupby("epoch")["nats"].mean()
        if len(mean) < 2 or mean.min() == mean.max():
            got = f"{len(mean)} recorded epochs of the {net} by {method}, τ = {tau:g}"
            reject("table", got, "two that differ at least", "record more epochs (vibtheory figure 2)")
        ours[net] = mean.to_numpy(dtype=np.float64)
        theirs[net] = np.interp(mean.index, printed["epoch"], printed[f"mi_{NETS[net]}"])
    x, y = (np.concatenate([curves[net] for net in NETS]) for curves in (ours, theirs))
    slope, constant = np.polyfit(x, y, 1)
    residual = float(np.sqrt(np.mean((constant + slope * x - y) ** 2)))
    whole = {net: printed[f"mi_{column}"].to_numpy() for net, column in NETS.items()}
    ratios = [_ratios(curves["VIBNet"], curves["regular"]) for curves in (ours, whole)]
    rise, gap = zip(*ratios, strict=True)
    return PrintedFit(float(slope), float(constant), residual, rise, gap)


def _ratios(vibnet: np.ndarray, regular: np.ndarray) -> tuple[float, float]:
    top = vibnet.max()
    with np.errstate(divide="ignore", invalid="ignore"):  # no fall, or no rise
        return (
            float(np.float64(top - vibnet[0]) / (top - vibnet[-1])),
            float(np.float64(regular[-1] - vibnet[-1]) / (regular[-1] - regular[0])),
        )
