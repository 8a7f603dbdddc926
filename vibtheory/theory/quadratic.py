"""The quadratic bound ḡ(z) = zᵀAᵀAz + bᵀz + c on a layer's loss, with its price γ and its guarantee (T1, T5).

For z = μ + σ⊙ε the expectation is E ḡ = ‖Aμ‖² + bᵀμ + c + Σ_j w_jσ_j², w_j = ‖a_j‖². With the best σ the problem is

    Φ(μ) = ‖Aμ‖² + bᵀμ + c + Σ_j ρ_j(|μ_j|),

whose local minima are those of the objective in (μ, σ) (T2). Units: ḡ, c, γ, Φ in nats of the data-set mean loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_numbers, as_positive, as_scalar, check_choice, check_type, reject
from vibtheory.theory.gram import checked_gram, falling_direction, few, least_norm_beta, reject_unbounded
from vibtheory.theory.penalty import Profile

__all__ = ["Guarantee", "QuadraticBound", "check_bound"]

Array = NDArray[np.float64]
KINDS = ("given", "exact", "bohning", "lipschitz", "fitted", "tangent")
LEVELS = ("exact", "rigorous", "statistical")


@dataclass(frozen=True)
class Guarantee:
    """On what grounds ḡ bounds the loss; carried into every report and figure (docs/theory.md T5).

    Attributes:
        kind: how ḡ was built: given | exact | bohning | lipschitz | fitted | tangent.
        level: exact (ḡ is the loss), rigorous (ḡ ≥ loss everywhere, proved) or statistical (with a stated level).
        detail: one sentence for a reader, e.g. the Clopper–Pearson limit of the violation rate.

    Raises:
        InvalidInputError: an unknown kind or level.
    """

    kind: str
    level: str
    detail: str = ""

    def __post_init__(self) -> None:
        check_choice("guarantee.kind", self.kind, KINDS)
        check_choice("guarantee.level", self.level, LEVELS)

    def __str__(self) -> str:
        return f"{self.kind} ({self.level})" + (f": {self.detail}" if self.detail else "")


_GIVEN = Guarantee("given", "exact", "ḡ was given as it stands; nothing is claimed about a network")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class QuadraticBound:
    """ḡ(z) = zᵀAᵀAz + bᵀz + c with the prices γ of its d gates. Immutable; arrays are copied and read-only.

    Its methods take gates mu and sigma of shape [d].

    Args:
        A: factor [m, d], real, finite, not empty; float32 and integers are converted to float64.
        b: linear term [d].
        c: constant in nats.
        gamma: price γ > 0 in nats per log(1+α), against the data-set mean loss: scalar or [d].
        guarantee: on what grounds ḡ bounds the loss.
        layer: the gated layer's name, for reports.
        trained_mu, trained_sigma: the trained network's gates [d], shown beside α* and used as start; both or neither.

    Attributes:
        A: [m, d], or None if built `from_gram`.
        gram: Q = AᵀA [d, d]; formed on first use.
        b, c, gamma [d], guarantee, layer, trained_mu, trained_sigma: as above.
        w: squared column norms diag Q [d].
        d: number of gates.

    Raises:
        InvalidInputError: wrong shapes, NaN or infinity, γ ≤ 0, σ < 0, empty A, or entries that overflow when squared.

    Source: paper, "quadratic upper bound"; docs/theory.md T1.
    """

    A: Array | None
    b: Array
    c: float
    gamma: Array
    w: Array
    guarantee: Guarantee
    layer: str | None
    trained_mu: Array | None
    trained_sigma: Array | None

    def __init__(
        self,
        A: ArrayLike,
        b: ArrayLike,
        c: float = 0.0,
        gamma: ArrayLike = 1.0,
        *,
        guarantee: Guarantee = _GIVEN,
        layer: str | None = None,
        trained_mu: ArrayLike | None = None,
        trained_sigma: ArrayLike | None = None,
    ) -> None:
        factor = as_array("A", A, (None, None), "pass a matrix with one column per gate; a vector v as v[None, :]")
        if factor.size == 0:
            reject("A", f"shape {list(factor.shape)}", "at least one row and one column", "give the layer's factor")
        with np.errstate(over="ignore", under="ignore"):
            w = np.einsum("ij,ij->j", factor, factor)
        lost = np.flatnonzero(~np.isfinite(w) | ((w < np.finfo(np.float64).tiny) & factor.any(axis=0)))
        if lost.size:
            reject("A", f"entries whose squares leave float64 in columns {few(lost)}", "1e-150 < |entries| < 1e150",
                   "rescale A, b and gamma to common units")  # fmt: skip
        self._fill(_frozen(factor), w, b, c, gamma, guarantee, layer, trained_mu, trained_sigma)

    @classmethod
    def from_gram(
        cls,
        gram: ArrayLike,
        b: ArrayLike,
        c: float = 0.0,
        gamma: ArrayLike = 1.0,
        *,
        guarantee: Guarantee = _GIVEN,
        layer: str | None = None,
        trained_mu: ArrayLike | None = None,
        trained_sigma: ArrayLike | None = None,
        check: bool = True,
    ) -> QuadraticBound:
        """The same bound from Q = AᵀA [d, d] alone: all that Φ depends on.

        Args:
            gram: Q, symmetric positive semidefinite. Both are tested on the unit-diagonal Q_ij/√(Q_iiQ_jj), with
                tolerance max(1e-10, d·eps) and the eps of the dtype that was passed, so that units do not matter.
            check: False skips the test of semidefiniteness (one Cholesky factorisation, d³/3) where Q is known to be
                semidefinite by construction.
            b, c, gamma, guarantee, layer, trained_mu, trained_sigma: as in the class.

        Raises:
            InvalidInputError: as the class, and Q not square, not symmetric, or indefinite (the eigenvalue is named).
        """
        matrix = checked_gram(gram, check)
        bound = cls.__new__(cls)
        bound.__dict__["gram"] = _frozen(matrix)
        bound._fill(None, np.diag(matrix), b, c, gamma, guarantee, layer, trained_mu, trained_sigma)
        return bound

    def with_gamma(self, gamma: ArrayLike) -> QuadraticBound:
        """The same bound at another price γ > 0 (scalar or [d], nats); arrays are shared, nothing is recomputed."""
        return self._at_prices(_prices(gamma, self.d))

    def _at_prices(self, gamma: Array) -> QuadraticBound:
        other = object.__new__(type(self))
        other.__dict__.update({**self.__dict__, "gamma": gamma})
        return other

    @property
    def d(self) -> int:
        """Number of gates."""
        return int(self.b.size)

    @cached_property
    def gram(self) -> Array:
        """Q = AᵀA [d, d]."""
        assert self.A is not None
        gram = self.A.T @ self.A
        gram[np.diag_indices(self.d)] = self.w
        return _frozen(gram, copy=False)

    @cached_property
    def live(self) -> NDArray[np.intp]:
        """Indices of the columns with w_j > 0; the others are free and never count (T2)."""
        return np.flatnonzero(self.w > 0)

    def value(self, z: ArrayLike) -> Array:
        """ḡ(z) in nats; z [..., d] → [...]."""
        z = as_array("z", z)
        if z.ndim == 0 or z.shape[-1] != self.d:
            reject("z", f"shape {list(z.shape)}", f"shape [..., {self.d}]", "pass one value per gate")
        return self._value(z)

    def expectation(self, mu: ArrayLike, sigma: ArrayLike) -> float:
        """E ḡ(μ + σ⊙ε) = ḡ(μ) + Σ_j w_jσ_j² in nats (T1); σ [d] ≥ 0, infinite only where w_j = 0 (adds nothing)."""
        return self._expectation(self._mean(mu), self._deviation(sigma))

    def objective(self, mu: ArrayLike, sigma: ArrayLike) -> float:
        """E ḡ + Σ_j γ_j log(1 + μ_j²/σ_j²) in nats; α = 0 where μ = 0, inf where σ = 0 ≠ μ (T1)."""
        mean, deviation = self._mean(mu), self._deviation(sigma)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            root = np.where(mean == 0, 0.0, np.abs(mean) / deviation)
        # log(1 + r²) = 2 log hypot(1, r) for large r, log1p for small: r² may overflow
        information = np.where(root > 1e8, 2 * np.log(np.maximum(root, 1.0)), np.log1p(np.minimum(root, 1e8) ** 2))
        return self._expectation(mean, deviation) + float(self.gamma @ information)

    def phi(self, mu: ArrayLike) -> float:
        """Φ(μ) = ḡ(μ) + Σ_j ρ_j(|μ_j|) in nats: the objective at the best σ (T1); μ [d]."""
        mean = self._mean(mu)
        return float(self._value(mean)) + float(np.sum(self._profile(mean).value))

    def smooth_gradient(self, mu: ArrayLike) -> Array:
        """2AᵀAμ + b [d]: the gradient of the quadratic part alone."""
        return self._smooth_gradient(self._mean(mu))

    def gradient(self, mu: ArrayLike) -> Array:
        """∇Φ(μ) [d] where μ_j ≠ 0; at μ_j = 0 the smooth part 2(AᵀAμ)_j + b_j, to compare with ±2√(γ_jw_j)."""
        mean = self._mean(mu)
        return self._smooth_gradient(mean) + np.sign(mean) * self._profile(mean).slope

    def hessian(self, mu: ArrayLike) -> Array:
        """∇²Φ(μ) = 2Q − diag(2w/(2+α)) [d, d]; at μ_j = 0 the one-sided curvature −w_j of the penalty (T2)."""
        hessian = 2 * self.gram
        hessian[np.diag_indices(self.d)] += self._profile(self._mean(mu)).curvature
        return hessian

    def beta(self) -> Array:
        """β ∈ range A with b = −2Aᵀβ (T7).

        Returns:
            β [m]; from a Gram matrix alone, β [d] for the symmetric factor (Q/√(w wᵀ))^½ diag(√w) on the live columns.
        """
        return self._beta[0].copy()

    def beta_norm(self) -> float:
        """‖β‖, the same for every factor of Q: ‖β‖² = ¼ bᵀQ⁺b, in √nats (T7)."""
        return float(np.linalg.norm(self._beta[0]))

    @cached_property
    def _beta(self) -> tuple[Array, float]:
        """β, and the relative error that the condition of A allows in it."""
        A = None if self.A is None else self.A[:, self.live]
        gram = self.gram[np.ix_(self.live, self.live)] if self.A is None else None
        beta, doubt = np.zeros(self.d if self.A is None else self.A.shape[0]), 0.0
        if self.live.size:
            solved, doubt = least_norm_beta(A, gram, self.w[self.live], self.b[self.live])
            beta[self.live if self.A is None else slice(None)] = solved
        return beta, doubt

    @property
    def _beta_squared_above(self) -> float:
        """A number ≥ ‖β‖², rounding included."""
        return (self.beta_norm() * (1 + self._beta[1])) ** 2

    @cached_property
    def _unbounded(self) -> Array | None:
        direction = falling_direction(self)
        return None if direction is None else _frozen(direction, copy=False)

    def unbounded_direction(self) -> Array | None:
        """A unit vector n [d] along which Φ falls for ever (Qn = 0, bᵀn < 0), or None if Φ is bounded below.

        The penalty grows like 2γ log along n, so any linear fall wins. Tolerances: `theory.gram.null_component`.
        """
        return self._unbounded

    def require_bounded(self) -> None:
        """Raise InvalidInputError, naming the direction and the remedy, if Φ is unbounded below."""
        if self._unbounded is not None:
            reject_unbounded(self, self._unbounded)

    def __repr__(self) -> str:
        size = f"A [{self.A.shape[0]}, {self.d}]" if self.A is not None else f"Q [{self.d}, {self.d}]"
        prices = f"{self.gamma.min():.4g}" + (f"…{self.gamma.max():.4g}" if np.ptp(self.gamma) > 0 else "")
        where = f", layer {self.layer}" if self.layer else ""
        return f"QuadraticBound({size}, gamma {prices} nats, {self.guarantee.kind}/{self.guarantee.level}{where})"

    def _fill(
        self,
        A: Array | None,
        w: Array,
        b: ArrayLike,
        c: float,
        gamma: ArrayLike,
        guarantee: Guarantee,
        layer: str | None,
        trained_mu: ArrayLike | None,
        trained_sigma: ArrayLike | None,
    ) -> None:
        d = w.size
        linear = _frozen(as_array("b", b, (d,), "pass one linear coefficient per column of A"))
        constant, prices = as_scalar("c", c), _prices(gamma, d)
        check_type("guarantee", guarantee, Guarantee, "build one, or omit it")
        if layer is not None:
            check_type("layer", layer, str, "pass the gated layer's name, or omit it")
        if (trained_mu is None) != (trained_sigma is None):
            reject("trained_mu, trained_sigma", "only one of them", "both or neither", "pass the gate's μ and its σ")
        mean = deviation = None
        if trained_mu is not None and trained_sigma is not None:
            mean = _frozen(as_array("trained_mu", trained_mu, (d,), "pass one μ per gate"))
            deviation = _frozen(as_array("trained_sigma", trained_sigma, (d,), "pass one σ (not σ²) per gate"))
            if (deviation < 0).any():
                reject("trained_sigma", f"smallest entry {deviation.min():g}", "entries >= 0", "pass σ, not log σ²")
        self.__dict__.update(
            A=A, w=_frozen(w), b=linear, c=constant, gamma=prices, guarantee=guarantee, layer=layer, trained_mu=mean,
            trained_sigma=deviation,
        )  # fmt: skip

    # Below, unchecked: z [..., d], μ [d] and σ [d] are finite float64 arrays of that shape.

    def _value(self, z: Array) -> Array:
        if self.A is not None and self.A.shape[0] <= self.d:
            square = np.sum((z @ self.A.T) ** 2, axis=-1)
        else:
            square = np.einsum("...i,...i->...", z @ self.gram, z)
        return np.asarray(square + z @ self.b + self.c)[()]

    def _expectation(self, mu: Array, sigma: Array) -> float:
        noise = np.where(self.w > 0, np.where(np.isinf(sigma), 0.0, sigma) ** 2, 0.0)
        return float(self._value(mu)) + float(self.w @ noise)

    def _profile(self, mu: Array) -> Profile:
        return Profile(mu, self.w, self.gamma)

    def _smooth_gradient(self, mu: Array) -> Array:
        if self.A is not None and 2 * self.A.shape[0] <= self.d:
            product = self.A.T @ (self.A @ mu)
        else:
            product = self.gram @ mu
        return np.asarray(2 * product + self.b)

    def _alpha_within(self, mu: Array, radius: float) -> Array:
        """The largest α [d] on the support of μ within `radius` of it in x = μ√(w/γ₀), γ₀ = min γ (`Certificate`)."""
        live = (mu != 0) & (self.w > 0)
        if not live.any():
            return np.zeros(self.d)
        unit = float(self.gamma[self.live].min())
        reach = radius * np.sqrt(unit / np.where(live, self.w, 1.0)) if np.isfinite(radius) else 0.0
        return self._profile(np.where(live, np.abs(mu) + reach, 0.0)).alpha

    def _summed(self, mu: Array) -> Array:
        """(|A|ᵀ|A||μ|)_j, or (|Q||μ|)_j without A [d]: rounding in (Qμ)_j is at most `_ulps` of it."""
        if self.A is None:
            return np.asarray(np.abs(self.gram) @ np.abs(mu))
        size = np.abs(self.A)
        return np.asarray(size.T @ (size @ np.abs(mu)))

    @property
    def _ulps(self) -> float:
        """n·eps for the n terms of a sum over A's rows and the gates, four times over."""
        rows = 0 if self.A is None else self.A.shape[0]
        return 4 * (rows + self.d + 16) * float(np.finfo(np.float64).eps)

    def _mean(self, mu: ArrayLike) -> Array:
        return as_array("mu", mu, (self.d,), "pass one μ per gate")

    def _deviation(self, sigma: ArrayLike) -> Array:
        raw = as_numbers("sigma", sigma)
        infinite = np.isinf(raw)
        deviation = as_array("sigma", np.where(infinite, 0.0, raw), (self.d,), "pass one σ per gate")
        if (deviation < 0).any() or (infinite & ((self.w > 0) | (raw < 0))).any():
            reject("sigma", f"entries from {raw.min():g} to {raw.max():g}", "σ >= 0, infinite only where w = 0",
                   "pass standard deviations, not log variances")  # fmt: skip
        return raw


def check_bound(bound: object) -> None:
    """Raise InvalidInputError about `bound` unless it is a `QuadraticBound`."""
    check_type("bound", bound, QuadraticBound, "build one from A, b, c, gamma, or by quadratic_bound")


def _frozen(array: Array, copy: bool = True) -> Array:
    array = np.array(array) if copy else array
    array.setflags(write=False)
    return array


def _prices(gamma: ArrayLike, d: int) -> Array:
    prices = as_positive("gamma", gamma, remedy="pass one price γ > 0 in nats, or one per gate")
    if prices.ndim and prices.shape != (d,):
        reject("gamma", f"shape {list(prices.shape)}", f"a scalar or shape [{d}]", "pass one price γ, or one per gate")
    return _frozen(np.broadcast_to(prices, (d,)))
