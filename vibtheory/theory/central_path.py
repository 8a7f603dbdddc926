"""Minimise F on one sign region where its Hessian is positive definite, for many regions of one order at once (T6).

In y = s∘x_S > 0 the region is {y > 0, M(y) ≻ 0}, M = G − diag(c(y)), c = 1/(2+α) = v²/(1+v²): convex because c is
convex, and F is strictly convex on it. Arrays are [n, k] or [n, k, k]: n regions, k = |S|, signs already applied.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vibtheory.theory.normalised import root_noise

__all__ = ["SINGULAR", "centre", "gradient_at", "multipliers", "pure_newton", "smallest_eigenvalue"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
SINGULAR = 1e-12  # a Hessian this near singular could not be certified


def smallest_eigenvalue(gram: Array, y: Array, price: Array) -> Array:
    """λ_min(M(y)) [n]; M grows with y."""
    return np.asarray(np.linalg.eigvalsh(_matrix(gram, y, price))[:, 0])


def gradient_at(gram: Array, linear: Array, price: Array, y: Array) -> Array:
    """∇F [n, k] = 2Gy + p + 2√D v."""
    root = np.sqrt(price)
    return np.asarray(2 * np.einsum("nij,nj->ni", gram, y) + linear + 2 * root * root_noise(y / root))


def centre(gram: Array, linear: Array, price: Array, start: Array, barrier: Array, steps: int = 30) -> Array:
    """Damped Newton steps on F − τ(log det M + Σ log y) from an interior start [n, k], until roughly central."""
    y = start.copy()
    moving = np.arange(len(y))
    for _ in range(steps):
        y[moving], far = _barrier_step(gram[moving], linear[moving], price[moving], y[moving], barrier[moving])
        moving = moving[far]
        if not len(moving):
            break
    return y


def multipliers(gram: Array, price: Array, y: Array, barrier: Array) -> tuple[Array, Array]:
    """tr Z [n] and ζ_j = −Z_jj dc_j/dy_j ≥ 0 [n, k] for Z = τM(y)⁻¹, the multiplier of M ≻ 0."""
    root = np.sqrt(price)
    v = root_noise(y / root)
    diagonal = barrier[:, None] * np.einsum("nii->ni", np.linalg.inv(_matrix(gram, y, price)))
    return np.asarray(diagonal.sum(axis=1)), np.asarray(diagonal * 2 * (v / (1 + v**2)) ** 3 / root)


def pure_newton(gram: Array, linear: Array, price: Array, y: Array) -> tuple[Array, Mask]:
    """Ten undamped Newton steps on F; True where they end at a stationary point inside the region."""
    y = y.copy()
    good = np.ones(len(y), dtype=bool)
    for _ in range(10):
        live = np.flatnonzero(good)
        hessian = 2 * _matrix(gram[live], y[live], price[live])
        regular = np.abs(np.linalg.det(hessian)) > 1e-250
        good[live[~regular]] = False
        live, hessian = live[regular], hessian[regular]
        gradient = gradient_at(gram[live], linear[live], price[live], y[live])
        y[live] -= np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        good &= (y > 0).all(axis=1) & np.isfinite(y).all(axis=1)
    y[~good] = 1.0
    gradient = gradient_at(gram, linear, price, y)
    scale = np.sqrt(price) + np.einsum("nij,nj->ni", np.abs(gram), y) + np.abs(linear)
    good &= (np.abs(gradient) <= 1e-10 * scale).all(axis=1)
    good &= smallest_eigenvalue(gram, y, price) > 0
    return y, good


def _barrier_step(gram: Array, linear: Array, price: Array, y: Array, barrier: Array) -> tuple[Array, Mask]:
    """One damped Newton step, each region on its own; True where it is still far off centre."""
    root = np.sqrt(price)
    v = root_noise(y / root)
    first = -2 * (v / (1 + v**2)) ** 3 / root  # dc/dy
    second = 6 * v**4 * (1 - v**2) / (1 + v**2) ** 5 / price  # d²c/dy²
    inverse = np.linalg.inv(_matrix(gram, y, price))
    diagonal = np.einsum("nii->ni", inverse)
    gradient = gradient_at(gram, linear, price, y) + barrier[:, None] * (diagonal * first - 1 / y)
    hessian = 2 * gram + barrier[:, None, None] * inverse**2 * first[:, :, None] * first[:, None, :]
    k = np.arange(y.shape[1])
    hessian[:, k, k] += barrier[:, None] * (diagonal * second + 1 / y**2) - 2 * v**2 / (1 + v**2)
    step = -np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
    slope = np.einsum("ni,ni->n", gradient, step)
    here = _barrier_value(gram, linear, price, y, barrier)
    far = -slope > np.maximum(1e-2 * barrier, 1e-11 * (1.0 + np.abs(here)))
    result, size = y.copy(), np.ones(len(y))
    waiting = np.flatnonzero(far)
    for _ in range(12):
        if not len(waiting):
            break
        trial = y[waiting] + size[waiting, None] * step[waiting]
        value = _barrier_value(gram[waiting], linear[waiting], price[waiting], trial, barrier[waiting])
        good = value <= here[waiting] + 0.1 * size[waiting] * slope[waiting]
        result[waiting[good]] = trial[good]
        waiting = waiting[~good]
        size[waiting] *= 0.3
    far[waiting] = False  # no step is accepted any more: rounding
    return result, far


def _barrier_value(gram: Array, linear: Array, price: Array, y: Array, barrier: Array) -> Array:
    """F − τ(log det M + Σ log y) [n]; inf outside the region."""
    inside: Mask = np.asarray((y > 0).all(axis=1))
    safe = np.where(inside[:, None], y, 1.0)
    eigenvalues = np.linalg.eigvalsh(_matrix(gram, safe, price))
    inside &= eigenvalues[:, 0] > 0.1 * SINGULAR
    t = safe / np.sqrt(price)
    v = root_noise(t)
    smooth = np.einsum("ni,ni->n", np.einsum("nij,nj->ni", gram, safe) + linear, safe)
    value = smooth + np.einsum("ni,ni->n", price, t * v - 2 * np.log(v))
    value -= barrier * (np.log(np.maximum(eigenvalues, 1e-300)).sum(axis=1) + np.log(safe).sum(axis=1))
    return np.where(inside, value, np.inf)


def _matrix(gram: Array, y: Array, price: Array) -> Array:
    """M(y) [n, k, k]: half the Hessian of F."""
    v = root_noise(np.abs(y) / np.sqrt(price))
    matrix = gram.copy()
    k = np.arange(y.shape[1])
    matrix[:, k, k] -= v**2 / (1 + v**2)
    return matrix
