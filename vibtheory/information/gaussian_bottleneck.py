"""The Gaussian information bottleneck in closed form (Chechik, Globerson, Tishby & Weiss 2005).

For jointly Gaussian x, y the optimal T is a noisy linear projection onto canonical directions of x, which enter one by
one as β passes the critical values 1/ρ_i². Same β as in `bottleneck`: minimise I(T;X) − β I(T;Y), in nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, solve_triangular

from vibtheory.errors import as_array, as_scalar, reject
from vibtheory.information.bottleneck_curve import IBCurve
from vibtheory.information.bottleneck_solution import check_beta
from vibtheory.information.closed_form import as_covariance

__all__ = ["GaussianBottleneck", "gaussian_bottleneck"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianBottleneck:
    """All optimal encoders of one Gaussian pair, one for each trade-off β = `beta`; information in nats.

    Attributes:
        correlations: [m], canonical correlations ρ_1 ≥ … ≥ ρ_m > 0 of x and y; λ_i = 1 − ρ_i² are Chechik's
            eigenvalues of Σ_{x|y} Σ_x⁻¹.
        directions: [m, dx], rows v_i with v_iᵀ Σ_x v_j = δ_ij: canonical directions of x (left eigenvectors of
            Σ_{x|y} Σ_x⁻¹), in units of 1/x.
        critical_betas: [m], β_i = 1/ρ_i² = 1/(1 − λ_i): component i is in use at β > β_i.
    """

    correlations: Array
    directions: Array
    critical_betas: Array

    def __str__(self) -> str:
        listed = ", ".join(f"{b:.4g}" for b in self.critical_betas)
        size = self.correlations.size
        return f"Gaussian bottleneck: {size} components, I(X;Y) = {self.i_xy:.6f} nats, critical β {listed}"

    @property
    def i_xy(self) -> float:
        """I(X;Y) = −½ Σ log(1 − ρ_i²) nats."""
        return float(-0.5 * np.log1p(-(self.correlations**2)).sum()) + 0.0  # 0, not −0, where nothing is shared

    def projection(self, beta: float) -> Array:
        """A [m, dx] of the optimal T = A x + ξ, ξ ~ N(0, I_m): row i is a_i v_i, a_i² = (β ρ_i² − 1)₊/(1 − ρ_i²).

        Raises:
            InvalidInputError: β < 0.
        """
        gain = np.sqrt(self._signal_to_noise(check_beta(beta)))
        return np.asarray(gain[:, None] * self.directions, dtype=np.float64)

    def point(self, beta: float) -> tuple[float, float]:
        """(I(T;X), I(T;Y)) in nats at β: sums over β > β_i of ½ log((β−1)ρ²/(1−ρ²)) and ½ log((β−1)/(β(1−ρ²))).

        Raises:
            InvalidInputError: β < 0.
        """
        i_tx = 0.5 * np.log1p(self._signal_to_noise(check_beta(beta)))
        return float(i_tx.sum()), self._relevance_of(i_tx)

    def curve(self, betas: ArrayLike) -> IBCurve:
        """The information curve at the prices `betas` [k], exact.

        Raises:
            InvalidInputError: no β, or one below 0.
        """
        prices = np.sort(as_array("betas", betas, (None,)))
        if prices.size == 0:
            reject("betas", "no entries", "at least one beta", "pass e.g. numpy.geomspace(1, 100, 30)")
        points = np.array([self.point(float(b)) for b in prices])
        gap = np.zeros(prices.size)
        return IBCurve(
            prices, points[:, 0], points[:, 1], float("inf"), self.i_xy, gap, "Gaussian (closed form)", "solved"
        )

    def relevance(self, rate: float) -> float:
        """The largest I(T;Y) in nats at I(T;X) ≤ rate nats, in closed form: water-filling over the components.

        Raises:
            InvalidInputError: rate < 0.
        """
        wanted = as_scalar("rate", rate)
        if wanted < 0:
            reject("rate", wanted, "nats >= 0", "I(T;X) is never negative")
        if wanted == 0 or self.correlations.size == 0:
            return 0.0
        # I(T;X) of component i is ½ log((β−1)ρ²/(1−ρ²)) where that is above 0: those in use share the rate so that
        # they differ by halves of the differences of log ρ²/(1−ρ²).
        square = self.correlations**2
        gains = np.log(square) - np.log1p(-square)
        for used in range(gains.size, 0, -1):
            rates = wanted / used + 0.5 * (gains[:used] - gains[:used].mean())
            if rates[-1] > 0 or used == 1:
                break
        return self._relevance_of(np.pad(rates, (0, gains.size - used)))

    def _relevance_of(self, rates: Array) -> float:
        """I(T;Y) in nats where I(T;X) of component i is rates_i [m]: T given Y keeps 1 − ρ² of its signal."""
        return float(-0.5 * np.log1p(self.correlations**2 * np.expm1(-2 * rates)).sum()) + 0.0

    def _signal_to_noise(self, beta: float) -> Array:
        """a_i² per component: the variance of (A x)_i against ξ's 1."""
        square = self.correlations**2
        return np.asarray(np.maximum(beta * square - 1, 0) / (1 - square), dtype=np.float64)


def gaussian_bottleneck(cov_x: ArrayLike, cov_y: ArrayLike, cov_xy: ArrayLike) -> GaussianBottleneck:
    """Solve the Gaussian bottleneck of (x, y) ~ N(0, [[Σ_x, Σ_xy], [Σ_xyᵀ, Σ_y]]) for all β at once.

    By the singular values of L_x⁻¹ Σ_xy L_y⁻ᵀ (Cholesky factors), without the squaring of an eigenproblem in
    Σ_{x|y} Σ_x⁻¹. Directions of correlation below 1e-12 never enter and are left out.

    Args:
        cov_x: [dx, dx], Σ_x ≻ 0. cov_y: [dy, dy], Σ_y ≻ 0. cov_xy: [dx, dy], Σ_xy.

    Raises:
        InvalidInputError: a covariance not symmetric positive definite, shapes that disagree, or a correlation of 1
            or more (the joint covariance must be positive definite; at 1, I(X;Y) is infinite).
    """
    factor_x = _factor("cov_x", cov_x)
    factor_y = _factor("cov_y", cov_y)
    cross = as_array("cov_xy", cov_xy, (factor_x.shape[0], factor_y.shape[0]), "pass one row per x, one column per y")
    whitened = solve_triangular(factor_y, solve_triangular(factor_x, cross, lower=True).T, lower=True).T
    left, rho, _ = np.linalg.svd(whitened, full_matrices=False)
    if rho.size and rho[0] >= 1 - 1e-12:
        reject(
            "cov_xy",
            f"a canonical correlation of {rho[0]:.12g}",
            "correlations < 1",
            "the joint covariance must be positive definite; add observation noise to y",
        )
    kept = rho > 1e-12
    directions = solve_triangular(factor_x, left[:, kept], lower=True, trans="T").T  # [m, dx]
    return GaussianBottleneck(rho[kept], directions, 1 / rho[kept] ** 2)


def _factor(name: str, covariance: ArrayLike) -> Array:
    try:
        return np.asarray(cholesky(as_covariance(name, covariance), lower=True), dtype=np.float64)
    except np.linalg.LinAlgError:
        return reject(name, "a matrix that is not positive definite", "positive definite", "drop redundant coordinates")
