"""Redundancy (docs/theory.md T4a): gates whose columns are nearly collinear never both survive at a local minimum.

On the support the Hessian of Φ is positive semidefinite. Its 2×2 minor for gates i, j, with unit columns, is

    [[1 − 1/(2+α_i), cos], [cos, 1 − 1/(2+α_j)]] ⪰ 0,

whose determinant gives cos²∠(a_i, a_j) ≤ (1+α_i)(1+α_j)/((2+α_i)(2+α_j)) < 1. Angles and α are without unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, reject
from vibtheory.storage.report import Report
from vibtheory.theory.certificate import CERTIFIED, Certificate
from vibtheory.theory.quadratic import QuadraticBound, check_bound
from vibtheory.theory.softmax_loss import without_class_mean

__all__ = ["BohningCosines", "CollinearityReport", "bohning_cosines", "check_collinearity", "collinearity_limit"]

Array = NDArray[np.float64]


class CertifiedPoint(Protocol):
    """A point with a verdict on whether it is a local minimum: `LocalMinimum` and `RealLossMinimum` are such."""

    @property
    def mu(self) -> Array: ...

    @property
    def alpha(self) -> Array: ...

    @property
    def nonzeros(self) -> int: ...

    @property
    def certificate(self) -> Certificate: ...


@dataclass(frozen=True, eq=False)
class CollinearityReport(Report):
    """T4a decided at one point: cos²∠(a_i, a_j) against its limit for every pair of surviving gates.

    Attributes:
        verdict: holds | violated | not applicable.
        reason: in words; names the remedy where the check does not apply.
        support: indices of the surviving gates (μ ≠ 0, w > 0) [s].
        worst_pair: the pair (i, j) of least slack, None with fewer than two survivors.
        slack: min over pairs of limit − cos²; inf with fewer than two survivors.
        squared_cosines, limits: cos² and its limit for each pair i < j of `support` [s(s−1)/2], the limit at the
            largest α within the certificate's radius.
        rounding: what summation can do to cos²; a violation must exceed it.
    """

    verdict: Literal["holds", "violated", "not applicable"]
    reason: str
    support: NDArray[np.intp]
    worst_pair: tuple[int, int] | None
    slack: float
    squared_cosines: Array
    limits: Array
    rounding: float

    def __str__(self) -> str:
        pair = "no pair" if self.worst_pair is None else f"worst pair {self.worst_pair}, slack {self.slack:.3g}"
        return f"T4a {self.verdict}: {self.support.size} survivors, {pair}. {self.reason}"


@dataclass(frozen=True, eq=False)
class BohningCosines:
    """For Böhning's A the cosine between columns is a product (T4a): cos∠(a_i, a_j) = weights · activations.

    Attributes:
        weights: cos_B(v_i, v_j) [d, d], the cosine of outgoing weights in the inner product B (class means removed).
        activations: cos(f_i, f_j) [d, d] over the data, not centred.
    """

    weights: Array
    activations: Array

    @property
    def columns(self) -> Array:
        """cos∠(a_i, a_j) [d, d]."""
        return self.weights * self.activations

    def __str__(self) -> str:
        off = np.abs(self.columns[~np.eye(len(self.columns), dtype=bool)])
        return f"Böhning cosines of {len(self.columns)} gates: off the diagonal |cos| <= {off.max(initial=0.0):.4g}"


def collinearity_limit(alpha_i: ArrayLike, alpha_j: ArrayLike) -> Array:
    """(1+α_i)(1+α_j)/((2+α_i)(2+α_j)): what cos² between two survivors cannot exceed (T4a); broadcasts, in [¼, 1).

    Args:
        alpha_i, alpha_j: signal-to-noise ratios ≥ 0.

    Raises:
        InvalidInputError: negative, not finite, or shapes that do not broadcast.
    """
    shares = []
    for name, value in (("alpha_i", alpha_i), ("alpha_j", alpha_j)):
        alpha = as_array(name, value)
        if (alpha < 0).any():
            reject(name, f"smallest entry {alpha.min():g}", "entries >= 0", "pass α = μ²/σ²")
        shares.append(_share(alpha))
    try:
        return np.asarray(shares[0] * shares[1])
    except ValueError:
        shapes = f"shapes {list(shares[0].shape)} and {list(shares[1].shape)}"
        reject("alpha_i, alpha_j", shapes, "shapes that broadcast", "pass two numbers, or arrays of one shape")


def check_collinearity(bound: QuadraticBound, minimum: CertifiedPoint) -> CollinearityReport:
    """Decide T4a for all pairs of survivors at a certified local minimum.

    Also right for a local minimum of the real loss J with Böhning's bound, since ∇²J ⪯ ∇²Φ on the support (T7).

    Args:
        bound: ḡ with d gates.
        minimum: its local minimum; only "certified local minimum" is judged.

    Raises:
        InvalidInputError: μ does not have d entries.
    """
    check_bound(bound)
    mu = getattr(minimum, "mu", None)
    if not isinstance(mu, np.ndarray) or not isinstance(getattr(minimum, "certificate", None), Certificate):
        reject(
            "minimum", type(minimum).__name__, "a point with its certificate", "pass what find_local_minimum returns"
        )
    if mu.shape != (bound.d,):
        reject("minimum.mu", f"shape {list(mu.shape)}", f"shape [{bound.d}]", "pass a minimum of this very bound")
    support = np.flatnonzero((mu != 0) & (bound.w > 0))
    share = _share(bound._alpha_within(mu, minimum.certificate.radius)[support])
    rows, columns = np.triu_indices(support.size, k=1)
    root = np.sqrt(bound.w[support])
    if bound.A is not None:
        unit = bound.A[:, support] / root
        cosines = (unit.T @ unit)[rows, columns]
    else:
        cosines = (bound.gram[np.ix_(support, support)] / np.outer(root, root))[rows, columns]
    squared = cosines**2
    limits = share[rows] * share[columns]
    rounding = max(1e-12, bound._ulps)
    slacks = limits - squared
    slack, worst = np.inf, None
    if slacks.size:
        at = int(np.argmin(slacks))
        slack, worst = float(slacks[at]), (int(support[rows[at]]), int(support[columns[at]]))

    verdict: Literal["holds", "violated", "not applicable"]
    if minimum.certificate.status != CERTIFIED:
        verdict = "not applicable"
        reason = (
            f"The point is {minimum.certificate.status!r} and T4a speaks of local minima. "
            "Remedy: continue with find_local_minimum(bound, start=mu)."
        )
    elif worst is None:
        verdict, reason = "holds", "Fewer than two gates survive, so no pair can be redundant."
    elif slack >= -rounding:
        verdict, reason = "holds", f"cos² stays below its limit for all {slacks.size} pairs."
    else:
        verdict, reason = "violated", "A certified minimum keeps two gates that T4a forbids to keep together."
    return CollinearityReport(verdict, reason, support, worst, slack, squared, limits, rounding)


def _share(alpha: Array) -> Array:
    return (1 + alpha) / (2 + alpha)


def bohning_cosines(V: ArrayLike, f: ArrayLike) -> BohningCosines:
    """The two factors of cos∠(a_i, a_j) for Böhning's A (T4a, T5): outgoing weights and activations.

    Args:
        V: weights [K, d] from the gated layer to the logits.
        f: activations [N, d] of the gated layer.

    Raises:
        InvalidInputError: shapes that do not fit; a unit that is never active or whose weights are equal for all
            classes (its column is zero and has no angle).
    """
    weights = as_array("V", V, (None, None), "pass V [K, d]")
    activations = as_array("f", f, (None, weights.shape[1]), "pass activations [N, d], one column per gate of V")
    # V'BV = ½ Vc'Vc: softmax ignores a constant added to all logits
    return BohningCosines(_cosines("V", without_class_mean(weights)), _cosines("f", activations))


def _cosines(name: str, vectors: Array) -> Array:
    norms = np.linalg.norm(vectors, axis=0)
    if (norms == 0).any():
        reject(name, f"zero columns {np.flatnonzero(norms == 0)[:10].tolist()}", "a direction for every gate",
               "drop gates that never act: they have w = 0 and never count")  # fmt: skip
    unit = vectors / norms
    return np.asarray(unit.T @ unit)
