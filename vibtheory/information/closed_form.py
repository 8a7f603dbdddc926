"""Laws whose mutual information is known: the ground truth that every bound and estimator is tested against, in nats.

Source: textbook laws (Cover & Thomas, Elements of Information Theory, 2006) and, for the gated ones, docs/theory.md P3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr

from vibtheory.errors import as_array, as_positive, as_scalar, as_whole, reject, resolution

__all__ = [
    "as_covariance",
    "discrete_memoryless",
    "gaussian_channel",
    "multivariate_gaussian",
    "scalar_gated_channel",
    "uniform_additive_noise",
]

Array = NDArray[np.float64]

_EDGES = np.array([-11.0, -8.0, -6.0, -4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.0, 8.0, 11.0])  # panels, in std
_RESOLVED = 1e-8  # noise over |f μ| from which nodes and differences are exact enough for the stated error


def gaussian_channel(signal_variance: ArrayLike, noise_variance: ArrayLike) -> float:
    """I(X; X+N) = Σ ½ log(1 + S/N) for independent Gaussian signals and noises (Shannon 1948).

    Args:
        signal_variance: scalar or [d], S ≥ 0. noise_variance: scalar or [d], N > 0, in the same unit.

    Raises:
        InvalidInputError: negative signal variance, noise variance ≤ 0, shapes that do not go together.
    """
    signal, noise = as_array("signal_variance", signal_variance), as_positive("noise_variance", noise_variance)
    if (signal < 0).any():
        reject("signal_variance", f"smallest entry {signal.min():g}", "entries >= 0", "pass variances")
    if signal.shape != noise.shape and signal.ndim and noise.ndim:
        reject("noise_variance", f"shape {list(noise.shape)}", f"a scalar or {list(signal.shape)}", "one per signal")
    with np.errstate(over="ignore", divide="ignore"):
        ratio = signal / noise
        logs = np.where(np.isfinite(ratio), np.log1p(ratio), np.log(signal) - np.log(noise))  # S/N may overflow
    return float(0.5 * logs.sum())


def multivariate_gaussian(covariance: ArrayLike, split: int) -> float:
    """I(X; Y) = −½ Σ log(1 − ρ_i²), ρ_i the canonical correlations of a jointly Gaussian pair (Gelfand & Yaglom 1957).

    Args:
        covariance: [p+q, p+q], positive definite, of (X, Y).
        split: p, the number of components of X, 0 < p < p+q.

    Raises:
        InvalidInputError: not square, not symmetric, not positive definite, or a split outside the matrix.
    """
    matrix = as_covariance("covariance", covariance)
    split = as_whole("split", split, 1, len(matrix) - 1, "pass the number of components of X")
    scale = np.sqrt(np.maximum(np.diag(matrix), np.finfo(np.float64).tiny))
    correlation = matrix / np.outer(scale, scale)
    try:
        np.linalg.cholesky(correlation)
        left = np.linalg.cholesky(correlation[:split, :split])
        right = np.linalg.cholesky(correlation[split:, split:])
    except np.linalg.LinAlgError:
        reject("covariance", "a matrix that is not positive definite", "a positive definite one", "add noise to it")
    cross = np.linalg.solve(right, np.linalg.solve(left, correlation[:split, split:]).T)
    rho = np.minimum(np.linalg.svd(cross, compute_uv=False), 1.0)
    return float(-0.5 * np.log1p(-(rho**2)).sum()) + 0.0  # 0, not −0, of independent parts


def uniform_additive_noise(signal_width: float, noise_width: float) -> float:
    """I(X; X+N), X and N uniform on intervals of these widths (any position), in nats: log(M/n) + m/2M.

    m, M: the smaller and the larger of signal_width and n = noise_width. X + N has a trapezoidal density with entropy
    log M + m/2M; N has log n.

    Raises:
        InvalidInputError: a width ≤ 0.
    """
    signal = float(as_positive("signal_width", signal_width, ()))
    noise = float(as_positive("noise_width", noise_width, ()))
    small, large = min(signal, noise), max(signal, noise)
    return float(np.log(large) - np.log(noise) + small / large / 2)  # large/noise may overflow


def discrete_memoryless(transition: ArrayLike, p_x: ArrayLike | None = None) -> float:
    """I(X; Y) of a finite channel by its definition, Σ p(x) p(y|x) log p(y|x)/p(y).

    Args:
        transition: [nx, ny], rows p(y|x).
        p_x: [nx], the input law; uniform by default.

    Raises:
        InvalidInputError: negative entries, rows or p_x that do not sum to 1, shapes that disagree.
    """
    rows = _distributions("transition", transition, (None, None))
    law = np.full(len(rows), 1 / len(rows)) if p_x is None else _distributions("p_x", p_x, (len(rows),))
    rows, law = rows[law > 0], law[law > 0]  # an input that never occurs may have outputs that never do
    return float(law @ rel_entr(rows, law @ rows).sum(axis=1))


@np.errstate(under="ignore")
def scalar_gated_channel(
    f: ArrayLike, mu: float, sigma: float, tau: float = 0.0, p_x: ArrayLike | None = None, order: int = 24
) -> float:
    """I(h; x) of one gated unit, h = f(x) z + τn, by composite Gauss–Legendre quadrature, to 1e-8 (docs/theory.md P3).

    With τ = 0 the inputs with f = 0 share an atom at 0, and the rest has a density.

    Args:
        f: [N], the activation at each input. mu, sigma: the gate. tau: standard deviation of added noise, in the unit
            of h; √((f σ)² + τ²) ≥ 1e-8 |f μ| wherever f ≠ 0, or a float64 does not resolve the noise at f μ.
        p_x: [N], the law of x; uniform by default.
        order: nodes per panel.

    Raises:
        InvalidInputError: wrong shapes, σ or τ < 0, no noise or too little where f ≠ 0, p_x no distribution, order < 2.
    """
    values = as_array("f", f, (None,))
    mean, deviation, noise = as_scalar("mu", mu), as_scalar("sigma", sigma), as_scalar("tau", tau)
    for name, value in (("sigma", deviation), ("tau", noise)):
        if value < 0:
            reject(name, value, "a number >= 0", "pass a standard deviation")
    if len(values) == 0:
        reject("f", "no inputs", "at least one", "pass the activation at each input")
    order = as_whole("order", order, 2, remedy="use the default 24")
    law = np.full(len(values), 1 / len(values)) if p_x is None else _distributions("p_x", p_x, (len(values),))
    values, law = values[law > 0], law[law > 0]
    if mean == 0 and deviation == 0:
        return 0.0
    scale = np.hypot(values * deviation, noise)
    live = scale > 0
    if (values[~live] != 0).any():
        reject("sigma", "a noiseless gate", "noise wherever f != 0", "pass sigma > 0 or tau > 0")
    atom = float(law[~live].sum())
    information = float(entr(atom))  # the share −P(atom) log P(atom) of an h = 0
    if not live.any():
        return 0.0
    centre, scale, law = values[live] * mean, scale[live], law[live]
    if (scale < _RESOLVED * np.abs(centre)).any():
        least = float((scale / np.maximum(np.abs(centre), np.finfo(np.float64).tiny)).min())
        reject("sigma", f"noise of {least:.3g} |f mu| at an input", "at least 1e-8 |f mu|", "use more noise")
    nodes, weights = np.polynomial.legendre.leggauss(order)
    edges = np.unique(centre[:, None] + scale[:, None] * _EDGES)
    for start in range(0, len(edges) - 1, 256):
        part = edges[start : start + 257]
        half = np.diff(part)[:, None] / 2
        h = (part[:-1, None] + half * (nodes + 1)).reshape(-1, 1)  # [Q, 1]
        log_own = -0.5 * ((h - centre) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)  # [Q, N]
        top = log_own.max(axis=1, keepdims=True)
        log_mixture = top + np.log(np.exp(log_own - top) @ law)[:, None]
        integrand = (np.exp(log_own) * (log_own - log_mixture)) @ law
        information += float((half * weights).reshape(-1) @ integrand)
    return information


def as_covariance(argument: str, value: ArrayLike) -> Array:
    """`value` as a matrix [d, d], symmetric to float64; within the precision that it was passed in.

    Raises:
        InvalidInputError: about `argument`: not square, not symmetric, no numbers.
    """
    matrix = as_array(argument, value, (None, None), "pass a covariance matrix")
    if matrix.shape[0] != matrix.shape[1]:
        reject(argument, f"shape {list(matrix.shape)}", "a square symmetric matrix", "pass a covariance matrix")
    size = np.sqrt(np.abs(np.diag(matrix)))
    if (np.abs(matrix - matrix.T) > (1e-10 + 1e2 * resolution(value)) * np.outer(size, size)).any():
        reject(
            argument, f"shape {list(matrix.shape)}, asymmetric", "a square symmetric matrix", "pass a covariance matrix"
        )
    return np.asarray(matrix / 2 + matrix.T / 2)


def _distributions(name: str, value: ArrayLike, shape: tuple[int | None, ...]) -> Array:
    """`value`, probabilities along the last axis, of sum 1 to float64; within the precision that it was passed in."""
    law = as_array(name, value, shape)
    if (law < 0).any():
        reject(name, f"smallest entry {law.min():g}", "probabilities >= 0", "pass a distribution")
    sums = law.sum(axis=-1, keepdims=True)
    if law.size == 0 or np.abs(sums - 1).max() > 1e-9 + law.shape[-1] * resolution(value):
        reject(name, f"sums {np.round(sums[..., 0], 6)}", "entries that sum to 1", "divide by the sums")
    return np.asarray(law / sums)
