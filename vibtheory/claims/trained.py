"""Decider of T8: at minima of a trained objective, as many eigenvalues of its curvature as gates are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort
from vibtheory.theory.trained_objective import TrainedReport, check_trained_objective

__all__ = ["GatedLogisticRegression", "trained_objective"]

Array = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_SETTLED = 1e-6  # largest residual in μ, in units of σ, at which the statement is decided


@dataclass(frozen=True)
class GatedLogisticRegression:
    """log(1 + exp(−a_nᵀz − c)) averaged over n: with z Gaussian, every expectation is an integral over one margin.

    Attributes:
        a: inputs times labels ±1 [n, d]. c: offset. gamma: γ_theory in nats.
    """

    a: Array
    c: float
    gamma: float

    def derivatives(self, mu: Array, sigma: Array) -> tuple[float, Array, Array]:
        """E g in nats, its gradient [d] and its Hessian [d, d] in μ, by Gauss–Hermite quadrature."""
        spread = np.sqrt((self.a**2) @ sigma**2)
        margin = (self.a @ mu + self.c)[:, None] + spread[:, None] * _NODES
        wrong = scipy.special.expit(-margin)
        slope, curve = -wrong @ _WEIGHTS, (wrong * (1 - wrong)) @ _WEIGHTS
        n = len(self.a)
        value = float((np.logaddexp(0.0, -margin) @ _WEIGHTS).mean())
        return value, slope @ self.a / n, (self.a * curve[:, None]).T @ self.a / n

    def objective(self, point: Array) -> tuple[float, Array]:
        """F(μ, log σ²) in nats and its gradient, point [2d]."""
        mu, sigma = point[: len(point) // 2], np.exp(point[len(point) // 2 :] / 2)
        value, slope, hessian = self.derivatives(mu, sigma)
        alpha = (mu / sigma) ** 2
        in_mu = slope + 2 * self.gamma * mu / (sigma**2 + mu**2)
        in_log = sigma**2 * np.diag(hessian) / 2 - self.gamma * alpha / (1 + alpha)
        return value + self.gamma * float(np.log1p(alpha).sum()), np.concatenate([in_mu, in_log])

    def minimum(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """(μ, σ) [d]: L-BFGS from a random start, then Newton in μ with σ held, as T8 asks."""
        d = self.a.shape[1]
        start = np.concatenate([rng.normal(0, 1.5, d), rng.uniform(-4, 0, d)])
        found = scipy.optimize.minimize(
            self.objective, start, jac=True, method="L-BFGS-B", bounds=[(None, None)] * d + [(-25.0, 10.0)] * d,
            options={"maxiter": 3000, "maxfun": 6000, "ftol": 0.0, "gtol": 1e-10},
        )  # fmt: skip
        mu, sigma = found.x[:d], np.exp(found.x[d:] / 2)
        for _ in range(50):
            _, slope, hessian = self.derivatives(mu, sigma)
            alpha = (mu / sigma) ** 2
            price = 2 * self.gamma * (1 - alpha) / (sigma**2 * (1 + alpha) ** 2)
            scaled = (hessian + np.diag(price)) * sigma[:, None] * sigma
            values, vectors = np.linalg.eigh(scaled)
            gradient = sigma * (slope + 2 * self.gamma * mu / (sigma**2 + mu**2))
            step = vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-12))
            mu = mu - sigma * step * min(1.0, 0.5 / max(float(np.abs(step).max()), 1e-300))
        return mu, sigma


def random_regression(rng: np.random.Generator) -> GatedLogisticRegression:
    """2…7 gates on 2…40 examples, few of them half of the time, so that H has a low rank; a price of 1e-4…0.1 nats."""
    d = int(rng.integers(2, 8))
    n = int(rng.integers(2, d + 1)) if rng.random() < 0.5 else int(rng.integers(d, 41))
    x = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-0.5, 0.5, d)
    label = np.where(x @ rng.standard_normal(d) + rng.standard_normal(n) > 0, 1.0, -1.0)
    return GatedLogisticRegression(x * label[:, None], float(rng.normal()), 10.0 ** rng.uniform(-4, -1))


def trained_objective(
    effort: Effort, limit: Callable[[TrainedReport], int] = lambda report: report.above_one
) -> Finding:
    """#{α > 1} against the three counts of T8 on gated logistic regressions, with exact expectations.

    Decided where the residual in μ is below 1e-6 σ; (4) is written down here once more. Beside them, recorded checks of
    trained networks.
    """
    rng = effort.rng("T8")
    outcomes: list[Outcome] = []
    left = attained = equal = at_rest = 0
    least = np.inf
    for _ in range(effort.size(50, 1000)):
        problem = random_regression(rng)
        mu, sigma = problem.minimum(rng)
        _, slope, h = problem.derivatives(mu, sigma)
        alpha = (mu / sigma) ** 2
        off = sigma * slope / (2 * problem.gamma) + mu / (sigma * (1 + alpha))
        if np.abs(off).max() > _SETTLED:
            left += 1
            continue
        kept = np.flatnonzero(alpha > 1)
        demand = 2 * problem.gamma * (alpha - 1) / (sigma * (1 + alpha)) ** 2
        scaled = h[np.ix_(kept, kept)] / np.sqrt(np.outer(demand[kept], demand[kept]))
        smallest = float(np.linalg.eigvalsh(scaled)[0]) if len(kept) else np.inf
        report = check_trained_objective(mu, sigma, problem.gamma, slope[None], h[None])
        least = min(least, smallest)
        attained += len(kept) > 0 and len(kept) == report.rank
        equal += len(kept) > 0 and len(kept) == report.above_least
        within = len(kept) == report.kept <= min(limit(report), report.above_least, report.rank)
        pull = (sigma**2 * np.diag(h) * (1 + alpha) / (2 * problem.gamma * alpha) - 1)[kept]
        rests = not len(kept) or float(np.sqrt((pull**2).mean())) <= 0.2  # the stated tolerance, a root mean square
        at_rest += rests
        held = within and smallest >= 1 and report.verdict == ("holds" if rests else "not at a minimum")
        outcomes.append((held, f"{report}; λ_min written here {smallest:.9g}"))
    evidence = {
        "not settled in μ": left, "kept gates = rank of H": attained, "kept gates = #{λ_i(H) ≥ 1/max M}": equal,
        "settled in σ too": at_rest, "least λ_min": least,
    }  # fmt: skip
    recorded: list[Outcome] = []
    for row in effort.rows("check_trained.csv", ("network", "layer", "kept", "above_one", "verdict")):
        words = f"{row['network']} {row['layer']}: {row['kept']} kept, limit {row['above_one']}: {row['verdict']}"
        settled = row["verdict"] == "holds"
        recorded.append((row["verdict"] != "violated" and (not settled or row["kept"] <= row["above_one"]), words))
    evidence["recorded parts of trained networks"] = len(recorded)
    tally = Tally.of(outcomes, independent=True) + Tally.of(recorded)
    return Finding(tally, evidence=evidence, figure="check_trained.png" if recorded else "")
