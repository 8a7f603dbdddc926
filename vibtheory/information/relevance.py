"""I(h; y): what a layer tells about the label, the second coordinate of the information plane (docs/theory.md P1)."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_generator, check_choice
from vibtheory.information.channel import GatedChannel
from vibtheory.information.result import MutualInformation, sampling_error

__all__ = ["relevance"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**23  # 64 MiB of float64 per block of log densities


def relevance(
    channel: GatedChannel,
    y: ArrayLike,
    *,
    over: Literal["rows", "population"] = "population",
    seed: int | np.random.Generator = 0,
) -> MutualInformation:
    """I(h; y) ≈ E log p(h|y)/p(h) in nats, with one draw of h per row and both densities as mixtures over the rows.

    Direction: none. Over the rows (x uniform on them, y its label) the expectation is I(h; y) exactly; for the
    population behind them the draw's own row is left out of both mixtures, whose errors partly cancel. Assumes: y a
    function of x. Cost: 4N²d operations. Ceiling: none of the method (I(h; y) ≤ H(y) itself, which is a part).

    Args:
        channel: the layer's law given x, N rows.
        y: [N] labels.
        over: "rows" or "population".
        seed: of the draws of h.

    Raises:
        InvalidInputError: labels of another length or no numbers, no seed.
    """
    check_choice("over", over, ("rows", "population"))
    values = as_array("y", y, (channel.n,), "pass one label per row of the channel")
    labels = np.unique(values, return_inverse=True)[1].reshape(-1)
    share = np.bincount(labels) / channel.n
    left_out = int(over == "population")
    h = channel.sample(as_generator("seed", seed, "relevance"))
    terms = np.empty(channel.n)
    size = max(1, _BLOCK_ENTRIES // channel.n)
    for start in range(0, channel.n, size):
        own = np.arange(start, min(start + size, channel.n))
        density = channel._log_density(h[own], channel.pattern[own])  # [B, N]
        if left_out:
            density[np.arange(len(own)), own] = -np.inf
        top = density.max(axis=1)
        weight = np.exp(density - np.where(np.isfinite(top), top, 0.0)[:, None])
        same = labels[own, None] == labels
        with np.errstate(divide="ignore", invalid="ignore"):  # no other row of the class, or none near enough
            inside = (weight * same).sum(axis=1) / (same.sum(axis=1) - left_out)
            terms[own] = np.log(inside) - np.log(weight.sum(axis=1) / (channel.n - left_out))
    good = np.isfinite(terms)
    lost = f"{100 * (1 - good.mean()):.0f} % of the draws meet no other row of their class. Remedy: more rows or noise"
    error: dict[str, Any] = sampling_error(terms[good]) if good.any() else {"stderr": math.nan}
    error["warnings"] = (*error.get("warnings", ()), *(() if good.mean() > 0.95 else (lost,)))
    return MutualInformation(
        nats=float(terms[good].mean()) if good.any() else math.nan,
        kind="estimate",
        method="mixtures of rows by class",
        parts={"H(y)": float(-(share * np.log(share)).sum())},
        assumes=(f"y a function of x, over the {over}",),
        **error,
    )
