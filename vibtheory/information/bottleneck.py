"""The discrete information bottleneck: Blahut–Arimoto with annealing, and the deterministic bottleneck.

Convention for β, here and in `bottleneck_curve` and `gaussian_bottleneck`: minimise I(T;X) − β I(T;Y) over encoders
p(t|x), T – X – Y a Markov chain (Tishby, Pereira & Bialek 1999). β is a price: nats of I(T;X) paid per nat of I(T;Y),
the slope dI(T;X)/dI(T;Y) of the curve. By data processing nothing is worth keeping at β ≤ 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from vibtheory.errors import as_array, as_generator, as_positive, as_whole, reject, resolution
from vibtheory.information.bottleneck_solution import (
    BottleneckSolution,
    check_beta,
    check_joint,
    information_plane,
)
from vibtheory.information.fixed_point import NEVER, Problem, merged

__all__ = ["blahut_arimoto", "deterministic_bottleneck", "stability_beta"]

Array = NDArray[np.float64]


@np.errstate(under="ignore")
def blahut_arimoto(
    joint: ArrayLike,
    beta: float,
    *,
    clusters: int | None = None,
    restarts: int = 6,
    start: ArrayLike | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 20_000,
    seed: int = 0,
) -> BottleneckSolution:
    """The information bottleneck at one β: min over p(t|x) of I(T;X) − β I(T;Y).

    Blahut–Arimoto's fixed point p(t|x) ∝ p(t) exp(−β KL(p(y|x)‖p(y|t))) never raises the objective; Anderson's
    extrapolation (Walker & Ni 2011) speeds it up where that holds too. Its local minima are left by what the problem
    is, a convex one over distributions of clusters r = p(y|t): with Z_x the fixed point's normaliser, mass on r lowers
    the objective if and only if c(r) = Σ_x p(x) exp(β Σ_y p(y|x) log r(y)) / Z_x > 1, and no encoder lies lower by
    more than max_r log c(r) (the dual bound of rate–distortion, Blahut 1972). That maximum is searched from every
    p(y|x) and from random mixtures of them; what is found above 1 joins the clusters, and the fixed point goes on.

    Args:
        joint: [nx, ny], p(x, y) ≥ 0 with sum 1; every x must have mass.
        beta: β ≥ 0.
        clusters: nt, at most this many values of T; nx of them suffice and are the default. With fewer than are of
            use the problem is not convex, and the best of 2 + `restarts` starts is returned.
        restarts: number of random mixtures (with few clusters: of random encoders), ≥ 0.
        start: [nx, nt], the encoder to begin from (to continue along β); T = X by default.
        tolerance: stop when no entry of p(y, t) moves by more in one step.
        max_iterations: fixed-point steps, of each start.
        seed: of the random starts.

    Returns:
        BottleneckSolution.

    Raises:
        InvalidInputError: joint is not a distribution, β < 0, a count or the tolerance out of range, start no encoder.
    """
    p_xy = check_joint(joint)
    price = check_beta(beta)
    nx = p_xy.shape[0]
    nt = nx if clusters is None else as_whole("clusters", clusters, 1)
    as_whole("restarts", restarts, 0)
    as_whole("max_iterations", max_iterations, 1)
    tolerance = float(as_positive("tolerance", tolerance, (), "use the default 1e-12"))
    first = None if start is None else p_xy.T @ _check_encoder(start, nx, nt)
    rng = as_generator("seed", seed, "clusters to start from")
    problem = Problem(p_xy, restarts, rng)
    found = problem.solve(price, first, tolerance, max_iterations)
    if found.clusters <= nt:
        return found
    steps = found.iterations
    starts = [first, _agglomerated(found, p_xy, nt)]
    starts += [p_xy.T @ rng.dirichlet(np.full(nt, 0.5), size=nx) for _ in range(restarts)]
    for p_yt in (p for p in starts if p is not None):
        other = problem.solve(price, p_yt, tolerance, max_iterations, grow=False)
        steps += other.iterations
        if found.clusters > nt or other.objective < found.objective:
            found = other
    return replace(found, iterations=steps)


def deterministic_bottleneck(
    joint: ArrayLike,
    beta: float,
    *,
    restarts: int = 30,
    max_iterations: int = 1000,
    seed: int = 0,
) -> BottleneckSolution:
    """The deterministic bottleneck: min over maps t = t(x) of H(T) − β I(T;Y) (Strouse & Schwab 2017).

    Their fixed point t(x) = argmax_t [log p(t) − β KL(p(y|x)‖p(y|t))], then single moves and merges of clusters while
    they lower the objective (the fixed point alone stops at partitions that a merge improves); best of the restarts.

    Args:
        joint: [nx, ny], p(x, y) ≥ 0 with sum 1; every x must have mass.
        beta: β ≥ 0.
        restarts: number of random partitions besides T = X and T constant, ≥ 0.
        max_iterations: rounds per start.
        seed: of the random partitions.

    Raises:
        InvalidInputError: joint is not a distribution, β < 0, or a count out of range.
    """
    p_xy = check_joint(joint)
    price = check_beta(beta)
    as_whole("restarts", restarts, 0)
    as_whole("max_iterations", max_iterations, 1)
    nx = p_xy.shape[0]
    rng = as_generator("seed", seed, "partitions to start from")
    starts: list[NDArray[np.intp]] = [np.arange(nx, dtype=np.intp), np.zeros(nx, dtype=np.intp)]
    starts += [np.asarray(rng.integers(0, nx, size=nx), dtype=np.intp) for _ in range(restarts)]
    iterations, best, best_value, settled = 0, starts[0], np.inf, True
    for labels in starts:
        done = False
        for _ in range(max_iterations):
            iterations += 1
            after = _improve_partition(p_xy, price, labels)
            done = bool((after == labels).all())
            labels = after
            if done:
                break
        value = _partition_value(p_xy, price, labels)
        if value < best_value - 1e-15:
            best, best_value, settled = labels, value, done
    encoder = _without_empty(p_xy, np.eye(nx)[best])
    i_tx, i_ty, h_t = information_plane(p_xy, encoder)
    status = "converged" if settled else f"not converged. Remedy: raise max_iterations above {max_iterations}"
    return BottleneckSolution(encoder, price, i_tx, i_ty, h_t, best_value, "deterministic", status, iterations)


def stability_beta(joint: ArrayLike) -> float:
    """β at which the trivial encoder stops being a local minimum: 1/s₂², ∞ for independent x and y.

    s₂ is the second singular value of p(x,y)/√(p(x)p(y)), the maximal correlation; Gaussian analogue: 1/ρ₁². A
    non-trivial global minimum can exist at smaller β already (a first-order jump), never at β ≤ 1.

    Args:
        joint: [nx, ny], p(x, y).
    """
    p_xy = check_joint(joint)
    p_y = p_xy.sum(0)
    seen = p_y > 0
    scaled = p_xy[:, seen] / np.sqrt(np.outer(p_xy.sum(1), p_y[seen]))
    values = np.linalg.svd(scaled, compute_uv=False)
    second = float(values[1]) if values.size > 1 else 0.0
    return 1 / second**2 if second > 1e-12 else float("inf")


def _check_encoder(start: ArrayLike, nx: int, nt: int) -> Array:
    encoder = as_array("start", start, (nx, None), "pass p(t|x), one row per x")
    sums = encoder.sum(1, keepdims=True)
    if (encoder < 0).any() or (abs(sums - 1) > 1e-6 + encoder.shape[1] * resolution(start)).any():
        reject(
            "start", "rows that are no distributions", "p(t|x) >= 0 with rows of sum 1", "divide each row by its sum"
        )
    if encoder.shape[1] > nt:
        reject("start", f"{encoder.shape[1]} clusters", f"at most clusters = {nt}", "raise clusters")
    return np.pad(encoder / sums, ((0, 0), (0, nt - encoder.shape[1])))


def _agglomerated(found: BottleneckSolution, p_xy: Array, clusters: int) -> Array:
    """p(y, t) of `found` with the pairs merged, one after another, that lose least I(T;Y) (Slonim & Tishby 2000)."""
    p_yt = p_xy.T @ found.encoder
    while p_yt.shape[1] > clusters:
        p_yt = merged(p_yt)[0]
    return p_yt


def _without_empty(p_xy: Array, encoder: Array) -> Array:
    kept = encoder[:, p_xy.sum(1) @ encoder > 1e-14]
    return np.asarray(kept / kept.sum(1, keepdims=True), dtype=np.float64)


def _partition_value(p_xy: Array, beta: float, labels: NDArray[np.intp]) -> float:
    """H(T) − β I(T;Y) of the map x → labels[x]."""
    _, i_ty, h_t = information_plane(p_xy, np.eye(p_xy.shape[0])[labels])
    return h_t - beta * i_ty


def _improve_partition(p_xy: Array, beta: float, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """One round: the fixed-point step if it helps, else the best single move or merge, else `labels` unchanged."""
    nx = p_xy.shape[0]
    p_x = p_xy.sum(1)
    indicator = np.eye(nx)[labels]
    p_t, p_ty = p_x @ indicator, indicator.T @ p_xy
    y_given_x = p_xy / p_x[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        y_given_t = np.where(p_t[:, None] > 0, p_ty / p_t[:, None], 0)
        divergence = rel_entr(y_given_x[:, None, :], y_given_t[None, :, :]).sum(-1)  # [nx, nt]
        penalised = np.where(np.isinf(divergence), -NEVER, divergence)
        score = np.where(p_t > 0, np.log(p_t), NEVER)[None, :] - beta * penalised
    candidates: list[NDArray[np.intp]] = [np.asarray(np.argmax(score, axis=1), dtype=np.intp)]
    used = np.unique(labels)
    free = np.setdiff1d(np.arange(nx), used)[:1]
    for x in range(nx):
        for t in np.concatenate([used, free]):
            moved = labels.copy()
            moved[x] = t
            candidates.append(moved)
    candidates += [np.where(labels == a, b, labels) for a in used for b in used if a < b]
    now = _partition_value(p_xy, beta, labels)
    values = [_partition_value(p_xy, beta, c) for c in candidates]
    if values[0] < now - 1e-14:
        return candidates[0]
    best = int(np.argmin(values))
    return candidates[best] if values[best] < now - 1e-14 else labels
