"""The information curve: the largest I(T;Y) at each I(T;X), by Blahut–Arimoto and, for small alphabets, exactly.

In nats. Source: Tishby, Pereira & Bialek, The information bottleneck method, 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.special import entr, rel_entr

from vibtheory.errors import SolverError, as_array, as_generator, as_numbers, as_positive, as_whole, reject
from vibtheory.information.bottleneck_solution import check_beta, check_joint
from vibtheory.information.fixed_point import Problem
from vibtheory.storage.report import Report

__all__ = ["IBCurve", "exact_ib_curve", "ib_curve"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class IBCurve(Report):
    """Points of an information curve, sorted by I(T;X); all information in nats. Its frame has one row per point.

    Attributes:
        betas: [k], the price β = dI(T;X)/dI(T;Y) of each point (NaN at rate 0 of the exact curve).
        i_tx: [k], I(T;X). i_ty: [k], I(T;Y).
        limit_x: H(X), ∞ for continuous x. limit_y: I(X;Y), the curve's ceiling.
        gap: [k], how far the true curve can lie above the point, as far as is known; ∞ where nothing is known.
        method: how the points were found.
        status: "solved", or which points are not, and the remedy.
    """

    betas: Array
    i_tx: Array
    i_ty: Array
    limit_x: float
    limit_y: float
    gap: Array
    method: str
    status: str

    def __str__(self) -> str:
        return (
            f"information curve ({self.method}): {self.i_tx.size} points, I(T;X) {self.i_tx.min():.4f} to "
            f"{self.i_tx.max():.4f} nats, I(T;Y) up to {self.i_ty.max():.4f} of {self.limit_y:.4f} nats, "
            f"largest gap {self.gap.max():.1e}; {self.status}"
        )

    def relevance(self, rate: ArrayLike) -> Array:
        """I(T;Y) in nats at `rate` = I(T;X): the upper concave hull of the points and (0, 0), flat past the last.

        Every value is achievable: mixing two encoders with a flag in T reaches any point between them.

        Raises:
            InvalidInputError: a negative rate.
        """
        wanted = as_numbers("rate", rate)
        if not (wanted >= 0).all():
            reject("rate", f"smallest entry {wanted.min():g}", "nats >= 0", "I(T;X) is never negative")
        x, y = self.hull()
        return np.asarray(np.interp(wanted, x, y), dtype=np.float64)

    def hull(self) -> tuple[Array, Array]:
        """Corners (I(T;X), I(T;Y)) of the upper concave hull, from (0, 0) to the first point of largest I(T;Y)."""
        points = sorted(zip([0.0, *self.i_tx], [0.0, *self.i_ty], strict=True))
        corners: list[tuple[float, float]] = []
        for x, y in points:
            if corners and y <= corners[-1][1]:
                continue
            while corners and (
                x == corners[-1][0]
                or (
                    len(corners) > 1
                    and (corners[-1][1] - corners[-2][1]) * (x - corners[-2][0])
                    <= (y - corners[-2][1]) * (corners[-1][0] - corners[-2][0])
                )
            ):
                corners.pop()
            corners.append((x, y))
        array = np.array(corners)
        return array[:, 0], array[:, 1]

    def _table(self) -> dict[str, Any]:
        return {"beta": self.betas, "i_tx": self.i_tx, "i_ty": self.i_ty, "gap": self.gap, "method": self.method}


@np.errstate(under="ignore")
def ib_curve(joint: ArrayLike, betas: ArrayLike, *, restarts: int = 4, seed: int = 0) -> IBCurve:
    """The information curve by Blahut–Arimoto at each β (see `bottleneck.blahut_arimoto`).

    Args:
        joint: [nx, ny], p(x, y).
        betas: [k], prices β ≥ 0, in any order.
        restarts: random mixtures of p(y|x) from which better clusters are searched, besides each p(y|x).
        seed: of these mixtures.

    Returns:
        IBCurve whose points are achievable, so never above the true curve; `gap` is how far below they can be, as far
        as that search found.

    Raises:
        InvalidInputError: as `blahut_arimoto`, or no β.
    """
    p_xy = check_joint(joint)
    prices = np.sort(as_array("betas", betas, (None,)))
    if prices.size == 0:
        reject("betas", "no entries", "at least one beta", "pass e.g. numpy.geomspace(1, 100, 30)")
    problem = Problem(p_xy, as_whole("restarts", restarts, 0), as_generator("seed", seed, "clusters to start from"))
    found = [problem.solve(check_beta(float(b)), None, 1e-12, 20_000) for b in prices]
    unsettled = [f"{s.beta:g}" for s in found if s.status != "converged"]
    status = "solved"
    if unsettled:
        status = (
            f"not converged at β = {', '.join(unsettled)}. Remedy: leave those β out, or call blahut_arimoto "
            "there with more max_iterations"
        )
    return _curve(
        p_xy,
        prices,
        np.array([s.i_tx for s in found]),
        np.array([s.i_ty for s in found]),
        np.array([s.gap for s in found]) / np.maximum(prices, 1),
        "blahut-arimoto",
        status,
    )


@np.errstate(under="ignore")
def exact_ib_curve(
    joint: ArrayLike,
    rates: ArrayLike,
    *,
    grid: int | None = None,
    tolerance: float = 1e-9,
    max_rounds: int = 60,
) -> IBCurve:
    """The exact curve for a small alphabet: max I(T;Y) subject to I(T;X) ≤ rate, as a linear program.

    A choice of T is a distribution over conditionals q = p(x|t) that average to p(x); I(T;X) and I(T;Y) are averages
    of H(q) and H(Y|q), so the curve is a concave hull (Witsenhausen & Wyner 1975). The program over a grid of q is
    solved (HiGHS) and refined by column generation: from every grid point and column, the fixed point
    q ∝ exp(βλ + β Σ_y p(y|x) log q(y)) descends the reduced cost of a new column. LP duality turns the least reduced
    cost into `gap`, a bound on what is missing, provided that the descent from the grid met the global minimum (a
    dense start, not a proof).

    Args:
        joint: [nx, ny], p(x, y), nx ≤ 6.
        rates: [k], I(T;X) ≥ 0 in nats.
        grid: intervals per edge of the starting grid on the simplex; default: as fine as 1000 points allow.
        tolerance: stop when the gap is below this, in nats.
        max_rounds: of column generation per rate.

    Raises:
        InvalidInputError: joint is not a distribution or nx > 6, a negative rate or none, a tolerance or a count
            out of range.
    """
    p_xy = check_joint(joint)
    nx = p_xy.shape[0]
    if nx > 6:
        reject("joint", f"{nx} values of x", "at most 6", "use ib_curve, whose gap comes from a search")
    wanted = np.sort(as_array("rates", rates, (None,)))
    if wanted.size == 0 or wanted[0] < 0:
        reject("rates", wanted.tolist(), "at least one rate, all >= 0", "pass nats between 0 and H(X)")
    steps = _default_grid(nx) if grid is None else as_whole("grid", grid, 1)
    max_rounds = as_whole("max_rounds", max_rounds, 1)
    tolerance = float(as_positive("tolerance", tolerance, (), "use the default 1e-9"))
    p_x = p_xy.sum(1)
    channel = p_xy / p_x[:, None]  # [nx, ny], p(y|x)
    grid_points = np.concatenate([_simplex_grid(nx, steps), p_x[None]])
    columns = grid_points
    betas, values, gaps = [], [], []
    for rate in wanted:
        if rate < 1e-9:  # data processing: the true value lies in [0, rate]; every β up to the first slope belongs here
            betas.append(np.nan)
            values.append(0.0)
            gaps.append(float(rate))
            continue
        for _ in range(max_rounds):
            conditional, slope, prices = _envelope(columns, p_x, channel, float(rate))
            fresh, gap = _price(np.concatenate([grid_points, columns[-200:]]), channel, slope, prices)
            if gap <= tolerance or fresh.size == 0:
                break
            columns = np.concatenate([columns, fresh])
        values.append(float(entr(p_xy.sum(0)).sum()) - conditional)
        betas.append(1 / slope if slope > 1e-12 else np.inf)
        gaps.append(gap)
    bad = [f"{r:g}" for r, g in zip(wanted, gaps, strict=True) if g > 100 * tolerance]
    status = "solved" if not bad else f"gap above {100 * tolerance:g} at rates {', '.join(bad)}. Remedy: a finer grid"
    return _curve(p_xy, np.array(betas), wanted, np.maximum(values, 0), np.array(gaps), "exact (LP)", status)


def _curve(p_xy: Array, betas: Array, i_tx: Array, i_ty: Array, gap: Array, method: str, status: str) -> IBCurve:
    order = np.lexsort((i_ty, i_tx))
    ceiling = float(rel_entr(p_xy, np.outer(p_xy.sum(1), p_xy.sum(0))).sum())
    entropy = float(entr(p_xy.sum(1)).sum())
    return IBCurve(betas[order], i_tx[order], i_ty[order], entropy, ceiling, gap[order], method, status)


def _default_grid(nx: int) -> int:
    """Largest n with C(n + nx − 1, nx − 1) ≤ 1000 points, at most 400."""
    n, points = 1, nx
    while n < 400 and points * (n + nx) // (n + 1) <= 1000:
        points = points * (n + nx) // (n + 1)
        n += 1
    return n


def _simplex_grid(nx: int, steps: int) -> Array:
    """All points of the simplex [·, nx] with coordinates in multiples of 1/steps."""
    rows = np.zeros((1, 0), dtype=np.int64)
    for _ in range(nx - 1):
        left = steps - rows.sum(1)
        rows = np.concatenate(
            [
                np.column_stack([np.repeat(r[None], m + 1, axis=0), np.arange(m + 1)])
                for r, m in zip(rows, left, strict=True)
            ]
        )
    return np.column_stack([rows, steps - rows.sum(1)]) / steps


def _envelope(columns: Array, p_x: Array, channel: Array, rate: float) -> tuple[float, float, Array]:
    """min Σ_k w_k H(Y|q_k) with Σ w_k q_k = p(x), Σ w_k H(q_k) ≥ H(X) − rate: value, −dvalue/drate, prices λ [nx]."""
    cost = entr(columns @ channel).sum(1)
    entropy = entr(columns).sum(1)
    messages = []
    for feasibility in (1e-10, 1e-9, 1e-7):  # HiGHS's default, 1e-7, only where the tight ones fail
        solved = linprog(
            cost,
            A_ub=-entropy[None],
            b_ub=[rate - entr(p_x).sum()],
            A_eq=columns.T,
            b_eq=p_x,
            method="highs",
            options={"primal_feasibility_tolerance": feasibility, "dual_feasibility_tolerance": feasibility},
        )
        if solved.status == 0:
            break
        messages.append(str(solved.message))
    else:
        raise SolverError(f"the linear program at rate {rate:g} failed: {messages}. Remedy: a coarser grid")
    return float(np.asarray(solved.fun)), float(-solved.ineqlin.marginals[0]), np.asarray(solved.eqlin.marginals)


def _price(starts: Array, channel: Array, slope: float, prices: Array) -> tuple[Array, float]:
    """Columns q of negative reduced cost H(Y|q) − slope·H(q) − λ·q, and minus the least one found (≥ 0)."""
    q = starts
    if slope > 1e-12:
        for _ in range(40):  # majorise H(Y|·), concave, by its tangent: the reduced cost never rises
            with np.errstate(divide="ignore"):
                log_y = np.maximum(np.log(q @ channel), -1e100)
            score = (prices[None] + log_y @ channel.T) / slope
            q = np.exp(score - score.max(1, keepdims=True))
            q /= q.sum(1, keepdims=True)
        q = np.where(q < 1e-14, 0.0, q)  # the linear program is ill-conditioned otherwise
        q /= q.sum(1, keepdims=True)
    reduced = entr(q @ channel).sum(1) - slope * entr(q).sum(1) - q @ prices
    order = np.argsort(reduced)[:200]
    keep = order[reduced[order] < 0]
    _, distinct = np.unique(np.round(q[keep], 7), axis=0, return_index=True)
    return q[keep][np.sort(distinct)[:40]], max(0.0, -float(reduced.min()))
