"""P2: the best Gaussian prior of a gated layer, the term ψ that the paper drops, and the bound that ReLU leaves valid.

Everything needs only a few averages of the activations f [N, d], gathered batch by batch. Logarithms in nats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr

from vibtheory.errors import as_array, as_positive, reject

__all__ = ["ActivationStatistics", "activation_statistics", "expected_kl", "psi", "zero_share"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ActivationStatistics:
    """What P2 needs to know about a layer's activations f, per unit j; logarithms in nats.

    Its methods take gates mu, sigma [d].

    Attributes:
        count: N, inputs seen.
        zero_share: [d], 1 − π_j, the share of inputs with f_j = 0 exactly.
        mean_square: [d], E f_j² over all inputs, in units of f².
        psi_plus: [d], ψ_j⁺ = log E[f²|f≠0] − E[log f²|f≠0] ≥ 0 nats; 0 for a unit that is always 0.
        patterns: number of distinct zero patterns among the N inputs.
        pattern_entropy: H(pattern) of the N inputs in nats; at most log N, and equal to it when all are distinct.
    """

    count: int
    zero_share: Array
    mean_square: Array
    psi_plus: Array
    patterns: int
    pattern_entropy: float

    @property
    def psi(self) -> Array:
        """[d], ψ_j = log E f_j² − E log f_j² in nats: +∞ as soon as one input gives f_j = 0 (0 if all of them do)."""
        dead = self.zero_share == 1
        return np.where(dead, 0.0, np.where(self.zero_share > 0, np.inf, self.psi_plus))

    @property
    def pattern_entropy_bound(self) -> float:
        """Σ_j H_b(π_j) ≥ H(pattern) in nats: not capped at log N, exact if the units' zeros were independent."""
        return float((entr(self.zero_share) + entr(1 - self.zero_share)).sum())

    def __str__(self) -> str:
        return (
            f"{self.count} inputs, {self.zero_share.size} units: share at zero {self.zero_share.mean():.3f} on average "
            f"({self.zero_share.min():.3f} to {self.zero_share.max():.3f}), ψ⁺ {self.psi_plus.mean():.3f} nats; "
            f"{self.patterns} zero patterns, H(pattern) = {self.pattern_entropy:.3f} nats "
            f"(log N = {np.log(self.count):.3f}, factorised {self.pattern_entropy_bound:.3f}); "
            f"ψ is infinite for {int(np.isinf(self.psi).sum())} units: (*) is no bound there"
        )

    def best_variance(self, mu: ArrayLike, sigma: ArrayLike) -> Array:
        """[d], the best ξ_j = (μ_j² + σ_j²) E f_j² of q = N(0, diag ξ) (P2), in units of h²."""
        means, deviations = self._gates(mu, sigma)
        return (means**2 + deviations**2) * self.mean_square

    def minimum_kl(self, mu: ArrayLike, sigma: ArrayLike) -> float:
        """min_ξ E KL(p(h|x) ‖ N(0, diag ξ)) = Σ_j ½[log(1+α_j) + ψ_j] nats (P2): ∞ where a ReLU is ever 0.

        Gates with μ = σ = 0 are constants and cost nothing; σ = 0 with μ ≠ 0 costs ∞.
        """
        terms = self._log_snr(mu, sigma)
        live = self._open(mu, sigma)
        return float(0.5 * (terms[live] + self.psi[live]).sum())

    def relu_bound(self, mu: ArrayLike, sigma: ArrayLike, *, factorised: bool = False) -> float:
        """H(pattern) + Σ_j (π_j/2)[log(1+α_j) + ψ_j⁺] ≥ I(h; x) in nats (P2, valid with zeros).

        Args:
            mu, sigma: [d], the gates, σ ≥ 0.
            factorised: use Σ_j H_b(π_j) over the open gates in place of H(pattern): weaker, but not capped at log N.
        """
        terms = self._log_snr(mu, sigma)
        live = self._open(mu, sigma)
        active = 1 - self.zero_share
        entropy = self.pattern_entropy
        if factorised:
            entropy = float((entr(active) + entr(1 - active))[live].sum())
        weighted = np.where(active > 0, terms + self.psi_plus, 0.0) * np.maximum(active, 0)
        return entropy + float(0.5 * weighted[live].sum())

    def _gates(self, mu: ArrayLike, sigma: ArrayLike) -> tuple[Array, Array]:
        return _check_gates(mu, sigma, self.zero_share.size)

    def _open(self, mu: ArrayLike, sigma: ArrayLike) -> NDArray[np.bool_]:
        means, deviations = self._gates(mu, sigma)
        return np.asarray((means != 0) | (deviations > 0), dtype=np.bool_)

    def _log_snr(self, mu: ArrayLike, sigma: ArrayLike) -> Array:
        """log(1 + α) [d], α = μ²/σ²; 0 at μ = 0."""
        means, deviations = self._gates(mu, sigma)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            alpha = np.where(means == 0, 0.0, (means / deviations) ** 2)
        return np.asarray(np.log1p(alpha), dtype=np.float64)


@np.errstate(under="ignore")
def activation_statistics(f: ArrayLike | Iterable[ArrayLike]) -> ActivationStatistics:
    """Gather P2's averages from activations, in one pass and with memory for one batch.

    Args:
        f: [N, d] activations after the non-linearity, or an iterable of batches [n, d]. A list of lists of numbers is
            read as one array; pass batches as arrays, or as a generator.

    Raises:
        InvalidInputError: no input, no unit, batches of different widths, NaN or infinity, squares that leave float64.
    """
    batches: Iterable[ArrayLike]
    if hasattr(f, "__array__"):
        batches = [f]  # type: ignore[list-item]
    elif isinstance(f, (list, tuple)) and not any(hasattr(item, "__array__") for item in f):
        batches = [f]
    elif isinstance(f, Iterable):
        batches = f
    else:
        reject("f", type(f).__name__, "activations [N, d] or batches of them", "pass an array or a generator of arrays")
    count, width = 0, None
    square = logs = active = np.zeros(0)
    patterns: Counter[bytes] = Counter()
    for batch in batches:
        values = as_array("f", batch, (None, width), "pass activations [n, d], every batch with the same d")
        if width is None:
            width = values.shape[1]
            square, logs, active = np.zeros(width), np.zeros(width), np.zeros(width)
        on = values != 0
        with np.errstate(divide="ignore", over="ignore"):
            squared = values**2
            logs = logs + np.where(on, 2 * np.log(abs(values)), 0).sum(0)
        square = square + squared.sum(0)
        active = active + on.sum(0)
        count += values.shape[0]
        patterns.update(row.tobytes() for row in np.packbits(on, axis=1))
    if count == 0 or not width:
        reject("f", f"{count} inputs, {width or 0} units", "at least one of each", "pass activations [N, d]")
    sizes = np.sqrt(square[active > 0])
    if ((sizes < 1e-150) | ~np.isfinite(sizes)).any():
        reject(
            "f", f"units of size {sizes.min():.3g} to {sizes.max():.3g}", "squares that a float64 holds", "rescale f"
        )
    some = np.maximum(active, 1)
    with np.errstate(divide="ignore"):
        spread = np.log(square / some) - logs / some
    frequencies = np.array(list(patterns.values())) / count
    return ActivationStatistics(
        count=count,
        zero_share=1 - active / count,
        mean_square=square / count,
        psi_plus=np.where(active > 0, np.maximum(spread, 0), 0.0),
        patterns=len(patterns),
        pattern_entropy=float(entr(frequencies).sum()),
    )


def psi(f: ArrayLike | Iterable[ArrayLike]) -> Array:
    """ψ_j⁺ [d] in nats from activations f [N, d] or batches of them: Jensen's loss on f_j ≠ 0 (P2)."""
    return activation_statistics(f).psi_plus


def zero_share(f: ArrayLike | Iterable[ArrayLike]) -> Array:
    """1 − π_j [d], the share of inputs at which unit j is exactly 0, from activations f [N, d] or batches (P2)."""
    return activation_statistics(f).zero_share


def expected_kl(f: ArrayLike, mu: ArrayLike, sigma: ArrayLike, xi: ArrayLike) -> float:
    """E_n KL( N(f_n μ, diag f_n² σ²) ‖ N(0, diag ξ) ) in nats, the regulariser of the paper before it is minimised.

    Args:
        f: [N, d] activations. mu: [d]. sigma: [d], ≥ 0. xi: [d], prior variances > 0 in units of h².

    Returns:
        The mean over the N inputs; +∞ where a variance f²σ² is 0.

    Raises:
        InvalidInputError: shapes that disagree, σ < 0, ξ ≤ 0.
    """
    values = as_array("f", f, (None, None))
    means, deviations = _check_gates(mu, sigma, values.shape[1])
    scaled = values / np.sqrt(as_positive("xi", xi, (values.shape[1],)))  # squares of f itself may leave float64
    deviation = np.abs(scaled * deviations)
    with np.errstate(divide="ignore"):
        terms = deviation**2 + (scaled * means) ** 2 - 1 - 2 * np.log(deviation)
    return float(0.5 * terms.sum(1).mean())


def _check_gates(mu: ArrayLike, sigma: ArrayLike, width: int) -> tuple[Array, Array]:
    means = as_array("mu", mu, (width,), "pass one mean per unit of f")
    deviations = as_array("sigma", sigma, (width,), "pass one standard deviation per unit of f")
    if (deviations < 0).any():
        reject(
            "sigma", f"smallest entry {deviations.min():g}", "standard deviations >= 0", "pass sigma, not log sigma^2"
        )
    return means, deviations
