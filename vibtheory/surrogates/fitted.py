"""The fitted bound: the tightest quadratic above samples of g, by a semidefinite program (THEORY.md T5).

In units u = (z − z⁰)/σ and with g centred and scaled by its spread on the sample,

    minimise mean_k ḡ(u_k)  over Q ⪰ ridge·I, b, c  subject to ḡ(u_k) ≥ g(u_k),  u_k ~ N(0, I), k = 1 … N.

Only the constraints that bind matter: they are added in rounds, the worst violated first, until none is violated. Past
`full` gates Q is diagonal plus low rank, diag(q) + UΛUᵀ, with U the leading directions of the Gauss–Newton curvature.
With D unknowns the expected violation rate on fresh z is at most D/(N + 1) (Calafiore & Campi 2006).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import SolverError, reject
from vibtheory.surrogates.activations import GatedLayer
from vibtheory.surrogates.quadratic import Quadratic, about
from vibtheory.surrogates.tangent import gauss_newton

__all__ = ["fitted_bound", "unknowns"]

Array = NDArray[np.float64]
_RIDGE = 1e-6
_TIGHT = 1e-7  # a violation, in units of g's spread, that ends the rounds; then c is raised by what is left
_ROUNDS = 60


def unknowns(d: int, rank: int | None) -> int:
    """D: entries of Q, b and c; `rank` None means the full matrix."""
    return (d * (d + 1) // 2 if rank is None else d + rank * (rank + 1) // 2) + d + 1


def fitted_bound(
    layer: GatedLayer,
    anchor: Array,
    sigma: Array,
    samples: int | None,
    generator: np.random.Generator,
    full: int = 30,
    rank: int = 10,
) -> Quadratic:
    """ḡ above g at every sampled z ~ N(anchor, σ²); the level is measured afterwards on fresh samples by the bridge.

    Args:
        layer: any gated layer.
        anchor, sigma: the distribution of z [d] that the bound is for; only this one.
        samples: N; None takes 10 D.
        generator: of the samples.
        full: most gates for which Q is a full matrix. One core needs about 2, 6 and 51 s for 10, 20 and 30 gates.
        rank: rank of the low-rank part beyond.

    Raises:
        InvalidInputError: N is not above D. SolverError: every solver failed.
    """
    live = np.flatnonzero(sigma > 0)
    if live.size == 0:
        reject("sigma", "all zero", "a spread to sample z from", "pass sigma= with positive entries")
    size = live.size
    low = None if size <= full else min(rank, size)
    needed = unknowns(size, low)
    count = 10 * needed if samples is None else samples
    if count <= needed:
        reject("samples", count, f"more than the {needed} unknowns of the fit", f"pass at least {10 * needed}")
    layer.keep_in_memory()
    u = generator.standard_normal((count, size))
    z = np.tile(anchor, (count, 1))
    z[:, live] += sigma[live] * u
    g = layer.mean_loss(z) * (1 + layer.rounding)
    centre, spread = float(g.mean()), float(g.std())
    spread = spread if spread > 0 else 1.0
    directions = None
    if low is not None:
        scaled = gauss_newton(layer, anchor)[0][np.ix_(live, live)] * np.outer(sigma[live], sigma[live])
        directions = np.linalg.eigh(scaled)[1][:, -low:]
    gram_u, b_u, c_u = _solve(u, (g - centre) / spread, directions, generator)
    gram, gradient = np.zeros((layer.d, layer.d)), np.zeros(layer.d)
    gram[np.ix_(live, live)] = spread * gram_u / np.outer(sigma[live], sigma[live])
    gradient[live] = spread * b_u / sigma[live]
    form = "full Q" if low is None else f"diagonal plus rank {low}"
    note = f"{form}, D = {needed} unknowns, N = {count} samples: expected violation rate ≤ {needed / (count + 1):.3g}"
    return about(gram, gradient, centre + spread * c_u, anchor, note)


def _solve(u: Array, g: Array, directions: Array | None, generator: np.random.Generator) -> tuple[Array, Array, float]:
    """Q [d, d], b [d], c of the program in unit-free variables; rounds of constraints."""
    import cvxpy

    cp: Any = cvxpy  # its stubs miss the atoms

    count, d = u.shape
    second = u.T @ u / count
    b: Any = cp.Variable(d)
    c: Any = cp.Variable()
    constraints: list[Any] = []
    if directions is None:
        gram = cp.Variable((d, d), PSD=True)
        shifted: Any = gram + _RIDGE * np.eye(d)
        mean: Any = cp.sum(cp.multiply(gram, second))
        upper = np.triu_indices(d)
        entries: Any = gram[upper]  # the quadratic form is linear in these: u_iu_j, twice off the diagonal

        def features(rows: Array) -> Array:
            return np.asarray(np.where(upper[0] == upper[1], 1.0, 2.0) * rows[:, upper[0]] * rows[:, upper[1]])
    else:
        diagonal, core = cp.Variable(d, nonneg=True), cp.Variable((directions.shape[1],) * 2, PSD=True)
        shifted = cp.diag(diagonal) + directions @ core @ directions.T + _RIDGE * np.eye(d)
        projected = directions.T @ second @ directions
        mean = diagonal @ np.diag(second) + cp.sum(cp.multiply(core, projected))
        upper = np.triu_indices(directions.shape[1])
        entries = cp.hstack([diagonal, core[upper]])

        def features(rows: Array) -> Array:
            inner = rows @ directions
            pairs = np.where(upper[0] == upper[1], 1.0, 2.0) * inner[:, upper[0]] * inner[:, upper[1]]
            return np.hstack([rows**2, pairs])

    objective = cp.Minimize(mean + u.mean(0) @ b + c)
    # First the points far out and those with large g, which bound Q, b and c; then the worst violated ones.
    size = min(count, 2 * unknowns(d, None if directions is None else directions.shape[1]) + 50)
    extreme = np.argsort(-g)[: size // 4]
    active = np.unique(np.concatenate([extreme, generator.permutation(count)[: size - extreme.size]]))
    for _ in range(_ROUNDS):
        rows = u[active]
        ridge = _RIDGE * (rows**2).sum(1)
        constraints = [features(rows) @ entries + rows @ b + c + ridge >= g[active]]
        _run(cp.Problem(objective, constraints))
        q = np.asarray(shifted.value, dtype=np.float64)
        values = np.einsum("si,ij,sj->s", u, q, u, optimize=True) + u @ b.value + float(c.value)
        short = g - values
        if short.max() <= _TIGHT or active.size == count:
            break
        worst = np.argsort(-short)[: max(size // 2, 20)]
        active = np.unique(np.concatenate([active, worst[short[worst] > 0]]))
    q = _above(q)
    values = np.einsum("si,ij,sj->s", u, q, u, optimize=True) + u @ b.value
    return q, np.asarray(b.value, dtype=np.float64), float(np.max(g - values))  # least c that is above every sample


def _run(problem: Any) -> None:
    """Solve with Clarabel, then SCS; raise SolverError with each status."""
    import cvxpy

    cp: Any = cvxpy
    tried = []
    for solver in (cp.CLARABEL, cp.SCS):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "may be inaccurate": c is corrected on the samples afterwards
                problem.solve(solver=solver)
        except cp.error.SolverError as error:
            tried.append(f"{solver}: {error}")
            continue
        if problem.status in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            return
        tried.append(f"{solver}: {problem.status}")
    raise SolverError(
        "the semidefinite program of the fitted bound failed (" + "; ".join(tried) + "). "
        "Remedy: pass more samples, or use kind='tangent'"
    )


def _above(q: Array) -> Array:
    """Q with its eigenvalues raised to the ridge where the solver left them below."""
    values, vectors = np.linalg.eigh((q + q.T) / 2)
    return np.asarray((vectors * np.maximum(values, _RIDGE)) @ vectors.T)
