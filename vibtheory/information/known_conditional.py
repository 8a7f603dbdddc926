"""Sample bounds with a known conditional p(h|x): InfoNCE from below, leave-one-out from above (Poole et al. 2019).

These alone hold for the population behind the rows, in expectation: every other upper bound fits a prior to the rows.

In nats; `seed`, or a generator, decides the draws of h.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import as_generator, as_whole, reject
from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.result import SATURATION_MARGIN, MutualInformation, sampling_error

__all__ = ["infonce", "leave_one_out", "leave_one_out_per_unit"]

Array = NDArray[np.float64]
_BLOCK_ENTRIES = 2**23  # 64 MiB of float64 per block of log densities
_DRAWS = 1000  # of h in all, at least


@np.errstate(under="ignore")
def infonce(channel: GatedChannel, seed: int | np.random.Generator = 0, draws: int | None = None) -> MutualInformation:
    """Lower bound E log p(h|x) − log(1/N Σ_n p(h|x_n)), with draws of h by `seed` (Poole et al. 2019, eq. 12).

    Direction: lower, in expectation, for the population behind the rows; for x uniform on the rows themselves its
    expectation is I(h; x) exactly. Assumes: rows drawn independently. Cost: 4N²d operations a draw. Ceiling: log N.

    Args:
        channel: the gated layer's law.
        seed: of the draws.
        draws: of h per row; None: one, or as many as make 1000 in all. With several, the part "error of the draws" is
            their own standard error in nats: that of the value as I(h; x) for x uniform on these very rows.

    Raises:
        InvalidInputError: no seed, draws < 1.
    """
    check_channel(channel)
    terms, absence, parts = _ratios(channel, as_generator("seed", seed, "infonce"), draws, leave_out=False)
    return MutualInformation(
        nats=float(terms.mean()),
        kind="lower",
        method="infonce",
        ceiling=math.log(channel.n),
        assumes=(
            "rows drawn independently: a lower bound, in expectation, on the population's I",
            "unbiased for x uniform on these rows",
        ),
        parts=parts,
        saturated_share=float((terms >= math.log(channel.n) - SATURATION_MARGIN).mean()),
        **sampling_error(terms - absence),
    )


@np.errstate(under="ignore")
def leave_one_out(
    channel: GatedChannel, seed: int | np.random.Generator = 0, draws: int | None = None
) -> MutualInformation:
    """Upper bound E log p(h|x) − log(1/(N−1) Σ_{n≠i} p(h|x_n)), h drawn by `seed` (Poole et al. 2019, eq. 13).

    Direction: upper, in expectation, for the rows and for the population. Assumes: rows drawn independently. Cost:
    4N²d operations a draw. Ceiling: log N in use; itself unbounded, +inf as soon as one zero pattern is unique (P3).

    Args:
        channel, seed, draws: as in `infonce`.

    Raises:
        InvalidInputError: fewer than two rows, no seed, draws < 1.
    """
    _check_two(channel)
    terms, absence, parts = _ratios(channel, as_generator("seed", seed, "leave_one_out"), draws, leave_out=True)
    unique = int((np.bincount(channel.pattern) == 1).sum()) if channel.tau == 0 else 0
    far = int((terms > math.log(channel.n)).sum())
    return MutualInformation(
        nats=float(terms.mean()),
        kind="upper",
        method="leave_one_out",
        ceiling=math.log(channel.n),
        assumes=("rows drawn independently; upper in expectation", f"{unique} of {channel.n} zero patterns are unique"),
        parts=parts,
        **_error(terms - absence, f"{far} rows are too far from all others" if far else None),
    )


@np.errstate(under="ignore")
def leave_one_out_per_unit(
    channel: GatedChannel, seed: int | np.random.Generator = 0, draws: int | None = None
) -> MutualInformation:
    """Upper bound Σ_j (leave-one-out of unit j alone) ≥ Σ_j I(h_j; x) ≥ I(h; x): rows meet in one unit, not in many.

    Direction: upper, in expectation, for the rows and for the population. Assumes: rows drawn independently, nothing
    upstream is noisy (true of every `GatedChannel`). Cost: about 10 N²d operations a draw. Ceiling: d log N in use;
    itself unbounded, +inf where only one row has a unit that is not 0 (τ = 0).

    Args:
        channel, seed, draws: as in `infonce`.

    Raises:
        InvalidInputError: fewer than two rows, no seed, draws < 1.
    """
    _check_two(channel)
    generator = as_generator("seed", seed, "leave_one_out_per_unit")
    values, absences, far = np.zeros(channel.n), np.zeros(channel.n), 0
    for j in range(channel.d):
        unit = GatedChannel(channel.f[:, [j]], channel.mu[j], channel.sigma[j], channel.tau)
        terms, absence, _ = _ratios(unit, generator, draws, leave_out=True)
        values, absences = values + terms, absences + absence
        far += int((terms > math.log(channel.n)).sum())
    cases = f"in {far} of {channel.n * channel.d} cases a row's unit is too far from all others'" if far else None
    return MutualInformation(
        nats=float(values.mean()),
        kind="upper",
        method="leave_one_out_per_unit",
        ceiling=max(channel.d, 1) * math.log(channel.n),
        assumes=("rows drawn independently; upper in expectation", "units independent given x"),
        **_error(values - absences, cases),
    )


def _check_two(channel: GatedChannel) -> None:
    check_channel(channel)
    if channel.n < 2:
        reject("channel", f"{channel.n} row", "at least two rows", "leaving one out must leave one in")


def _error(pseudo_values: Array, far: str | None) -> dict[str, Any]:
    """The standard error of their mean, NaN where that is infinite, and a warning where rows are `far` from others."""
    if not np.isfinite(pseudo_values).all():
        return {"stderr": math.nan}
    error: dict[str, Any] = sampling_error(pseudo_values)
    if far:
        remedy = "for a standard error. Remedy: more rows, or more noise"
        error["warnings"] = (*error.get("warnings", ()), f"{far} {remedy}")
    return error


def _ratios(
    channel: GatedChannel, generator: np.random.Generator, draws: int | None, leave_out: bool
) -> tuple[Array, Array, dict[str, float]]:
    """Each row's log density ratio [N], what the other rows' would lose without it [N], and the draws' own error.

    A row enters the statistic through its own term and through every denominator; with a term a_i and
    Σ_{k≠i} −log(1 − its share of k's denominator) = g_i, the statistic's pseudo-values are a_i − g_i.
    """
    n = channel.n
    repeats = max(1, -(-_DRAWS // n)) if draws is None else as_whole("draws", draws, 1)
    size, others = max(1, _BLOCK_ENTRIES // n), n - leave_out
    terms, absence = np.empty((repeats, n)), np.zeros(n)
    flat = terms.reshape(-1)
    together = max(1, size // n)  # draws of every row in one block
    for first in range(0, repeats, together):
        count = min(together, repeats - first)
        h, rows = channel._draws(generator, channel.f, count), np.tile(np.arange(n), count)
        for start in range(0, count * n, size):
            own = rows[start : start + size]
            block, place = np.arange(len(own)), slice(first * n + start, first * n + start + len(own))
            density = channel._log_density(h[start : start + size], channel.pattern[own])  # [B, N]
            flat[place] = density[block, own] + math.log(others)
            if leave_out:
                density[block, own] = -np.inf
            top = density.max(axis=1)
            alone = np.isneginf(top)  # a unique zero pattern: nobody else could have made this h
            np.exp(density - np.where(alone, 0.0, top)[:, None], out=density)
            mass = np.where(alone, 1.0, density.sum(axis=1))
            flat[place] -= np.where(alone, -np.inf, top + np.log(mass))
            density *= (~alone / mass)[:, None]
            density[block, own] = 0.0
            # leave-one-out's denominator may hold nothing else, and the statistic would be infinite without that row
            absence -= np.log1p(-np.minimum(density, 0.999, out=density), out=density).sum(axis=0)
    parts = {}
    if repeats > 1 and np.isfinite(terms).all():
        parts["error of the draws"] = math.sqrt(terms.var(axis=0, ddof=1).sum() / repeats) / n
    return terms.mean(axis=0), absence / repeats, parts
