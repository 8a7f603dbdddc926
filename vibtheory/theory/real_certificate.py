"""Deciding "local minimum" for the real loss J = g + Σρ_j, as `theory.certificate` does for Φ (docs/theory.md T6, T7).

The same four conditions in the same coordinates x = μ√(w/γ₀), with F = J/γ₀ and the loss's own derivatives: gradient
0 on the support, ∇²F positive definite there, strict off-support slack, and Kantorovich's test, where the Hessian moves
by at most ℓ = (third derivative of log-sum-exp, bounded over the data) + (third derivative of the penalty). Off the
support |∂g_j| moves by at most ‖∇²g_jS‖·2η ≤ 2η·√(2w_j·2λ_max(Q_SS)), because 0 ⪯ ∇²g ⪯ 2Q.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array
from vibtheory.theory.certificate import CERTIFIED, NOT_CONVERGED, STATIONARY, STATIONARY_TOLERANCE, Certificate
from vibtheory.theory.normalised import EPS
from vibtheory.theory.penalty import root_noise
from vibtheory.theory.softmax_loss import SoftmaxLoss, check_loss

__all__ = ["certify_real_loss"]

Array = NDArray[np.float64]


def certify_real_loss(problem: SoftmaxLoss, mu: ArrayLike) -> Certificate:
    """Decide whether a local minimum of J with exactly the non-zeros of `mu` lies at `mu`.

    Args:
        problem: the loss g with its prices γ.
        mu: [d] gate means; a zero must be exactly 0. Gates with w_j = 0 are ignored: J does not depend on them.

    Returns:
        Certificate, in the units of `theory.certificate`. A tie off the support is never certified here.

    Raises:
        InvalidInputError: mu of the wrong shape or not finite.
    """
    check_loss(problem)
    point = as_array("mu", mu, (problem.d,), "pass one μ per gate")
    live = problem.w > 0
    point = np.where(live, point, 0.0)
    support = np.flatnonzero(point)
    found = tuple(int(j) for j in support)
    if not live.any():
        return Certificate(CERTIFIED, "no gate acts: J is constant", 0.0, np.inf, np.inf, 0.0, 0.0, 0.0, (), found)
    unit = float(problem.gamma[live].min())
    root = np.sqrt(problem.gamma / unit)  # √D
    scale = np.where(live, np.sqrt(unit) / np.sqrt(np.where(live, problem.w, 1.0)), 0.0)  # μ = scale·x
    response = scale * problem.loss_and_gradient(point)[1] / unit
    error_g, error_h = problem.rounding(point)
    error = scale * error_g / unit + 16 * EPS * root
    v = root_noise(np.abs(point) / np.where(live, scale, 1.0) / root)[support]
    gradient = response[support] + 2.0 * root[support] * v * np.sign(point[support])
    gradient_norm = float(np.linalg.norm(gradient) + np.linalg.norm(error[support]))
    closed = live.copy()
    closed[support] = False
    slack = 2.0 * root - np.abs(response)
    least_slack = float(slack[closed].min()) if closed.any() else np.inf

    def failed(
        status: str,
        reason: str,
        m: float,
        eta: float = np.inf,
        ratio: float = np.inf,
        ties: NDArray[np.intp] | None = None,
        escape: Array | None = None,
    ) -> Certificate:
        gates = () if ties is None else tuple(int(j) for j in ties)
        return Certificate(status, reason, gradient_norm, least_slack, m, eta, ratio, 2 * eta, gates, found, escape)

    if (np.abs(gradient) > STATIONARY_TOLERANCE * 2.0 * root[support] + 4.0 * error[support]).any():
        worst = float((np.abs(gradient) / root[support]).max())
        return failed(
            NOT_CONVERGED, f"gradient on the support is {worst:.2g} of the gate's unit; iterate longer", np.nan
        )

    m, eta, ratio, doubt = np.inf, 0.0, 0.0, error
    if support.size:
        s = scale[support]
        hessian = s[:, None] * problem.loss_hessian(point, support) * s / unit
        hessian[np.diag_indices(support.size)] -= 2.0 * v**2 / (1.0 + v**2)
        values, vectors = np.linalg.eigh(hessian)
        spread = float(np.sum((s * error_h[support]) ** 2)) / unit  # ‖r rᵀ‖
        m = float(values[0]) - spread - 10 * support.size * EPS * float(np.linalg.norm(hessian))
        eta = gradient_norm / m if m > 0 else np.inf
        gram = s[:, None] * problem.gram[np.ix_(support, support)] * s / unit
        doubt = error + (4.0 * eta * np.sqrt(np.linalg.norm(gram, 2)) if np.isfinite(eta) else 0.0)
    opening = closed & (slack < -doubt)
    if opening.any():
        gate = int(np.argmin(np.where(opening, slack, np.inf)))
        return failed(NOT_CONVERGED, f"J falls when gate {gate} opens; iterate longer", m)
    if m <= 0:
        escape = np.zeros(problem.d)
        escape[support] = scale[support] * vectors[:, 0]
        reason = f"the Hessian on the support is not positive definite (m = {m:.2g}): a saddle or a flat direction; "
        return failed(STATIONARY, reason + "follow the negative curvature (minimise_real_loss does)", m, escape=escape)
    if support.size:
        nearest = np.maximum(np.abs(point[support]) / scale[support] - 2.0 * eta, 0.0) / root[support]
        near_v = root_noise(nearest)
        penalty_part = float((4.0 * (near_v / (1.0 + near_v**2)) ** 3 / root[support]).max())
        ratio = eta * (penalty_part + problem.hessian_lipschitz(support, scale[support]) / unit) / m
        if ratio > 0.5 or 2.0 * eta >= (np.abs(point[support]) / scale[support]).min():
            reason = f"too near singular for Kantorovich's test (eta {eta:.2g}, eta·l/m {ratio:.2g}); change γ"
            return failed(STATIONARY, reason, m, eta, ratio)
    tied = np.flatnonzero(closed & (slack <= doubt))
    if tied.size:
        reason = f"tie at gates {tied[:5].tolist()}: first order does not decide; change γ a little"
        return failed(STATIONARY, reason, m, eta, ratio, ties=tied)
    how = f"within {2 * eta:.2g} of an exact strict local minimum of J with these signs"
    return Certificate(CERTIFIED, how, gradient_norm, least_slack, m, eta, ratio, 2 * eta, (), found)
