"""Decider of T1: the closed forms of the profiled penalty against numerical minimisation and differentiation."""

from __future__ import annotations

import numpy as np
import scipy.differentiate
import scipy.optimize

from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.effort import Effort
from vibtheory.theory.penalty import optimal_variance, penalty, penalty_curvature, penalty_slope, snr
from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["profiled_penalty"]


def profiled_penalty(effort: Effort) -> Finding:
    """σ², α, ρ, its slope and curvature at random (μ, w, γ) over nine decades; ρ is strictly concave in |μ|."""
    rng = effort.rng("T1")
    outcomes, worst = [], 0.0
    for _ in range(effort.size(1000, 10000)):
        w, gamma = 10.0 ** rng.uniform(-4, 4), 10.0 ** rng.uniform(-4, 1)
        mu = np.sqrt(gamma / w) * 10.0 ** rng.uniform(-2, 2)
        bound = QuadraticBound([[np.sqrt(w)]], [0.0], 0.0, gamma)
        variance, rho = float(optimal_variance(mu, w, gamma)), float(penalty(mu, w, gamma))
        best = scipy.optimize.minimize_scalar(
            lambda s, g=bound, m=mu: (g.objective([m], [np.exp(s / 2)]) - g.value([m])) / g.gamma[0],
            bracket=(np.log(variance) - 1, np.log(variance) + 1), options={"xtol": 1e-12},
        )  # fmt: skip
        slope, curvature = (
            float(scipy.differentiate.derivative(function, mu, initial_step=mu / 4, args=(w, gamma)).df)
            for function in (penalty, penalty_slope)
        )
        errors = {
            "penalty": abs(best.fun * gamma / rho - 1),
            "variance": abs(np.exp(best.x) / variance - 1) / 1e3,  # a minimiser is known to half the digits
            "snr": abs(float(snr(mu, w, gamma)) / (mu**2 / variance) - 1),
            "slope": abs(slope / float(penalty_slope(mu, w, gamma)) - 1),
            "curvature": abs(curvature / float(penalty_curvature(mu, w, gamma)) - 1),
        }
        name = max(errors, key=errors.__getitem__)
        worst = max(worst, errors[name])
        held = errors[name] < 1e-8 and float(penalty_curvature(mu, w, gamma)) < 0
        outcomes.append((held, f"{name} at μ = {mu:.3g}, w = {w:.3g}, γ = {gamma:.3g}: {errors[name]:.2g}"))
    evidence = {"largest relative error": worst}
    return Finding(Tally.of(outcomes, independent=True), evidence=evidence, figure="penalty_comparison.png")
