"""The variational bound in closed form (docs/theory.md P2), nats: valid with ReLU zeros, beside training's sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.result import SATURATION_MARGIN, MutualInformation, sampling_error

__all__ = ["UnitTerms", "log1p_alpha", "plain", "unit_terms", "variational", "variational_factorised"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class UnitTerms:
    """What each open gate adds to the variational bound, in nats.

    Attributes:
        log1p_alpha: [d] log(1 + α_j).
        psi: [d] ψ_j⁺ = log E[f_j²|f_j≠0] − E[log f_j²|f_j≠0] ≥ 0; 0 for a unit that is never active.
        zero_share: [d] 1 − π_j, the share of inputs on which the unit is exactly 0.
        xi: [d] the best prior variance, (μ_j²+σ_j²) E[f_j²|f_j≠0].
    """

    log1p_alpha: Array
    psi: Array
    zero_share: Array
    xi: Array

    def __str__(self) -> str:
        if not len(self.psi):
            return "no open gates"
        return (
            f"{len(self.psi)} open gates: ψ⁺ median {np.median(self.psi):.3g}, largest {self.psi.max():.3g} nats; "
            f"zero on {100 * self.zero_share.mean():.1f} % of inputs on average, "
            f"{100 * self.zero_share.max():.1f} % at most"
        )


def log1p_alpha(channel: GatedChannel) -> Array:
    """log(1 + μ²/σ²) [d] in nats for the open gates; inf where σ = 0."""
    with np.errstate(divide="ignore"):
        result: Array = np.logaddexp(0.0, 2 * (np.log(np.abs(channel.mu)) - np.log(channel.sigma)))
    return result


def unit_terms(channel: GatedChannel) -> UnitTerms:
    """ψ⁺, 1 − π and the best ξ of each open gate (docs/theory.md P2); τ plays no part here."""
    check_channel(channel)
    nonzero = channel.active if channel.tau == 0 else channel.f != 0
    count = np.maximum(nonzero.sum(axis=0), 1)
    live = nonzero.any(axis=0)
    scale = np.where(live, np.abs(channel.f).max(axis=0), 1.0)  # ψ does not depend on it; f² might underflow
    f = np.where(nonzero, channel.f, 0.0) / scale
    square = (f**2).sum(axis=0) / count
    log_square = 2 * np.log(np.abs(np.where(nonzero, f, 1.0))).sum(axis=0) / count
    psi = np.where(live, np.log(np.where(live, square, 1.0)) - log_square, 0.0)
    return UnitTerms(
        log1p_alpha=log1p_alpha(channel),
        psi=np.maximum(psi, 0.0),  # Jensen; rounding can take it 1e-16 below
        zero_share=1.0 - nonzero.mean(axis=0),
        xi=(channel.mu**2 + channel.sigma**2) * square * scale**2,
    )


def variational(channel: GatedChannel) -> MutualInformation:
    """Upper bound min over q of E KL(p(h|x) ‖ q(h)), q = P(pattern) ∏_{f_j≠0} N(0, ξ_j) (docs/theory.md P2).

    τ = 0: H(pattern) + Σ_j (π_j/2)[log(1+α_j) + ψ_j⁺]. τ > 0: no atoms, Σ_j ½[log ξ_j − E log(f_j²σ_j²+τ²)] with
    ξ_j = (μ_j²+σ_j²)E[f_j²] + τ².

    Direction: upper. Assumes: nothing. Cost: Nd. Ceiling: none, but H(pattern) ≤ log N, and at log N it is flagged.
    """
    check_channel(channel)
    if channel.tau > 0:
        return _without_atoms(channel, "variational")
    return _with_atoms(channel, factorised=False)


def variational_factorised(channel: GatedChannel) -> MutualInformation:
    """`variational` with Σ_j H_b(π_j) ≥ H(pattern) in its place, which does not saturate at log N (F (i)).

    Direction: upper. Assumes: nothing. Cost: Nd. Ceiling: none. With τ > 0 it is `variational`.
    """
    check_channel(channel)
    if channel.tau > 0:
        return _without_atoms(channel, "variational_factorised")
    return _with_atoms(channel, factorised=True)


def plain(channel: GatedChannel) -> MutualInformation:
    """½ Σ_j log(1+α_j), the sum that training uses (paper, eq. (*)): it drops ψ and the zero pattern.

    Direction: none: it is neither above nor below I(h; x) in general. Assumes: σ > 0. Cost: d. Ceiling: none.
    """
    check_channel(channel)
    return MutualInformation(
        nats=float(0.5 * log1p_alpha(channel).sum()),
        kind="estimate",
        method="plain",
        stderr=0.0,
        assumes=("drops ψ ≥ 0 and the entropy of the zero pattern: a regulariser, not a bound (docs/theory.md P2)",),
    )


def _with_atoms(channel: GatedChannel, factorised: bool) -> MutualInformation:
    nonzero = channel.active
    share = nonzero.mean(axis=0)  # π
    terms = unit_terms(channel)
    binary = entr(share) + entr(1 - share)
    entropy = channel.pattern_entropy()
    discrete = float(binary.sum()) if factorised else entropy
    gates = float(0.5 * (share * terms.log1p_alpha).sum())
    psi = float(0.5 * (share * terms.psi).sum())
    # influence of one row on Σ_j ½[π log(1+α) + π log(E f²/π) − E 1 log f²], plus that on the pattern's entropy
    typical = np.where(share > 0, terms.xi / (channel.mu**2 + channel.sigma**2), 1.0)  # E[f²|f≠0] = E f²/π
    relative = np.where(nonzero, channel.f**2 / typical, 1.0)
    row = 0.5 * (nonzero * (terms.log1p_alpha - np.log(relative) + relative - 1)).sum(axis=1)
    row += _pattern_influence(channel, nonzero, share, factorised)
    full = not factorised and entropy >= math.log(channel.n) - SATURATION_MARGIN
    return MutualInformation(
        nats=discrete + gates + psi,
        kind="upper",
        method="variational_factorised" if factorised else "variational",
        **sampling_error(row),
        assumes=("holds for every channel",),
        parts={
            "pattern entropy": entropy,
            "factorised pattern entropy": float(binary.sum()),
            "gates": gates,
            "psi": psi,
            "plain": float(0.5 * terms.log1p_alpha.sum()),
        },
        saturated_part="pattern entropy" if full else "",
    )


def _pattern_influence(channel: GatedChannel, nonzero: NDArray[np.bool_], share: Array, factorised: bool) -> Array:
    if factorised:
        with np.errstate(divide="ignore"):
            surprise: Array = np.where(nonzero, -np.log(share), -np.log1p(-share)).sum(axis=1)
        return surprise
    frequency = np.bincount(channel.pattern) / channel.n
    own: Array = -np.log(frequency)[channel.pattern]
    return own


def _without_atoms(channel: GatedChannel, method: str) -> MutualInformation:
    variance = channel.variance
    second = variance + channel.mean**2
    xi = second.mean(axis=0)
    log_variance = np.log(variance)
    return MutualInformation(
        nats=float(0.5 * (np.log(xi) - log_variance.mean(axis=0)).sum()),
        kind="upper",
        method=method,
        **sampling_error(0.5 * (second / xi - log_variance).sum(axis=1)),
        assumes=("holds for every channel with tau > 0",),
    )
