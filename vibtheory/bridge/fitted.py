"""The fitted bound: the tightest quadratic above samples of g, by a semidefinite program (docs/theory.md T5).

In units u = (z − z⁰)/σ and with g centred and scaled by its spread on the sample,

    minimise mean_k ḡ(u_k)  over Q ⪰ ridge·I, b, c  subject to ḡ(u_k) ≥ g(u_k),  u_k ~ N(0, I), k = 1 … N.

Past `full` gates Q is diagonal plus low rank, diag(q) + UCUᵀ, with U the leading directions of the Gauss–Newton
curvature. With D unknowns the expected violation rate on fresh z is at most D/(N + 1) (Calafiore & Campi 2006).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.fitted_interior_point import least_mean_by_interior_point
from vibtheory.bridge.fitted_program import QuadraticFamily, least_mean_by_cvxpy
from vibtheory.bridge.surrogate import Quadratic, about
from vibtheory.bridge.tangent import gauss_newton
from vibtheory.errors import reject

__all__ = ["fitted_bound", "unknowns"]

Array = NDArray[np.float64]
_RIDGE = 1e-6
RANK = 10  # of the low-rank part


def unknowns(d: int, full: int, rank: int = RANK) -> int:
    """D, the entries of Q, b and c for d gates that move; Q is full up to d = `full`."""
    return QuadraticFamily(d, None if d <= full else np.zeros((d, min(rank, d)))).unknowns


def fitted_bound(
    layer: GatedLayer,
    anchor: Array,
    sigma: Array,
    samples: int | None,
    generator: np.random.Generator,
    full: int = 60,
    rank: int = RANK,
    solver: str = "fast",
) -> Quadratic:
    """ḡ above g at every sampled z ~ N(anchor, σ²); the level is measured afterwards on fresh samples by the bridge.

    Args:
        layer: any gated layer.
        anchor, sigma: the distribution of z [d] that the bound is for; only this one.
        samples: N; None takes 10 D.
        generator: of the samples.
        full: most gates for which Q is a full matrix. rank: rank of the low-rank part beyond.
        solver: "fast" (a dense interior-point method) or "cvxpy" (the reference).

    Raises:
        InvalidInputError: N is not above D. SolverError: the solver failed.
    """
    live = np.flatnonzero(sigma > 0)
    if live.size == 0:
        reject("sigma", "all zero", "a spread to sample z from", "pass sigma= with positive entries")
    needed = unknowns(live.size, full, rank)
    count = 10 * needed if samples is None else samples
    if count <= needed:
        reject("samples", count, f"more than the {needed} unknowns of the fit", f"pass at least {10 * needed}")
    layer.keep_in_memory()
    u = generator.standard_normal((count, live.size))
    z = np.tile(anchor, (count, 1))
    z[:, live] += sigma[live] * u
    g = layer.mean_loss(z) * (1 + layer.rounding)
    centre, spread = float(g.mean()), float(g.std())
    spread = spread if spread > 0 else 1.0
    directions = None
    if live.size > full:
        scaled = gauss_newton(layer, anchor)[0][np.ix_(live, live)] * np.outer(sigma[live], sigma[live])
        directions = np.linalg.eigh(scaled)[1][:, -min(rank, live.size) :]
    gram_u, b_u, c_u = _fit(u, (g - centre) / spread, QuadraticFamily(live.size, directions), solver)
    gram, gradient = np.zeros((layer.d, layer.d)), np.zeros(layer.d)
    gram[np.ix_(live, live)] = spread * gram_u / np.outer(sigma[live], sigma[live])
    gradient[live] = spread * b_u / sigma[live]
    form = "full Q" if directions is None else f"diagonal plus rank {directions.shape[1]}"
    note = f"{form}, D = {needed} unknowns, N = {count} samples: expected violation rate ≤ {needed / (count + 1):.3g}"
    return about(gram, gradient, centre + spread * c_u, anchor, note)


def _fit(u: Array, g: Array, family: QuadraticFamily, solver: str) -> tuple[Array, Array, float]:
    """Q ⪰ ridge·I [d, d], b [d] and the least c for which ḡ is above g [N] at every u [N, d]."""
    method = least_mean_by_interior_point if solver == "fast" else least_mean_by_cvxpy
    features = family.features(u)
    q, b, _ = family.quadratic(method(family, features, g - _RIDGE * (u**2).sum(1)))
    q = _above(q + _RIDGE * np.eye(family.d))
    values = np.einsum("si,ij,sj->s", u, q, u, optimize=True) + u @ b
    return q, b, float(np.max(g - values))


def _above(q: Array) -> Array:
    """Q with its eigenvalues raised to the ridge where the solver left them below."""
    values, vectors = np.linalg.eigh((q + q.T) / 2)
    return np.asarray((vectors * np.maximum(values, _RIDGE)) @ vectors.T)
