"""Is ḡ(z) ≥ g(z)? Violations on fresh samples of z, with their exact Clopper–Pearson limit (docs/theory.md T5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import NDArray

__all__ = ["BoundCheck", "clopper_pearson_upper", "compare", "sample_points"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BoundCheck:
    """What a sample says about "ḡ ≥ g"; a count on z, never a proof.

    Attributes:
        samples: number of points z.
        violations: points with g(z) > ḡ(z) + tolerance.
        rate_limit: one-sided 95 % Clopper–Pearson upper limit of the violation rate under the sampled distribution.
        worst: largest g(z) − ḡ(z) in nats (negative: ḡ was above everywhere). mean_gap: mean of ḡ(z) − g(z) in nats.
        tolerance: what counts as rounding, in nats.
        guarantee: the bound's own guarantee, as text. status: what to conclude, and the remedy.
    """

    samples: int
    violations: int
    rate_limit: float
    worst: float
    mean_gap: float
    tolerance: float
    guarantee: str
    status: str

    def __str__(self) -> str:
        return (
            f"{self.violations} of {self.samples} points above ḡ (rate ≤ {self.rate_limit:.3g} at 95 %), "
            f"worst g − ḡ = {self.worst:.3g} nats, mean gap {self.mean_gap:.3g} nats: {self.status}"
        )


def clopper_pearson_upper(violations: int, samples: int, confidence: float = 0.95) -> float:
    """Exact one-sided upper limit, at level `confidence`, of a rate after `violations` in `samples` independent trials.

    Source: Clopper and Pearson, 1934.
    """
    if violations >= samples:
        return 1.0
    return float(scipy.stats.beta.ppf(confidence, violations + 1, samples - violations))


def compare(
    surrogate: Callable[[Array], Array],
    truth: Callable[[Array], Array],
    points: Array,
    level: str,
    guarantee: str,
    relative: float = 1e-10,
) -> BoundCheck:
    """Count where `truth` exceeds `surrogate` on `points` [S, d] by more than `relative` of their size.

    Both map [S, d] to [S] values in nats; a size below 1 nat counts as 1. `level` ("statistical", or of a bound that
    admits no violation) decides the status; `guarantee` is passed on.
    """
    above, true = surrogate(points), truth(points)
    excess = true - above
    tolerance = relative * np.maximum(1.0, np.maximum(np.abs(true), np.abs(above)))
    violations = int((excess > tolerance).sum())
    if violations == 0:
        status = "no violation found"
    elif level == "statistical":
        status = "a statistical bound; rebuild it with more samples, or at the (μ, σ) where you use it"
    else:
        status = f"a {level} bound is violated: the network or the data changed since it was built; rebuild it"
    return BoundCheck(
        len(points), violations, clopper_pearson_upper(violations, len(points)), float(excess.max()),
        float(-excess.mean()), float(tolerance.max()), guarantee, status,
    )  # fmt: skip


def sample_points(mu: Array, sigma: Array, samples: int, generator: np.random.Generator, wide: bool) -> Array:
    """z [samples, d] ~ N(μ, σ²); `wide` takes every fourth so, and the rest around μ, around 0, and 0/1 (gates cut).

    `mu` and `sigma` are [d]; the noise comes from `generator`.
    """
    noise = generator.standard_normal((samples, mu.size))
    z = np.asarray(mu + sigma * noise)
    if wide:
        scale = max(1.0, float(np.abs(mu).max()))
        for start, block in ((1, mu + scale * noise), (2, 5 * scale * noise), (3, (noise > 0).astype(np.float64))):
            z[start::4] = block[start::4]
    return z
