"""The sparsity-bound checker: ‖α*‖₀ ≤ rank[A] + 1, and our tighter forms, at a certified local minimum (T2, T3, T4a).

The bounds speak of exact local minima with exact zeros, so nothing is judged before `find_local_minimum` has certified
its point. The trained network's own ‖α‖₀ is shown beside and never judged: it is no minimum of ḡ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from vibtheory.errors import reject
from vibtheory.theory.certificate import CERTIFIED, Certificate
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.network_report import NetworkReport
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.rank import numerical_rank
from vibtheory.theory.redundancy import CollinearityReport, check_collinearity
from vibtheory.theory.soft_rank import soft_rank_of
from vibtheory.theory.sparsity_report import SparsityReport, Statement, Verdict

__all__ = ["NetworkReport", "SparsityReport", "Statement", "check_sparsity_bound"]

_HUGE = 1e150  # stands for an α that overflowed


def check_sparsity_bound(bound: QuadraticBound, start: ArrayLike | None = None, solver: str = "fast") -> SparsityReport:
    """Go to a certified local minimum of Φ and decide T2, T3 and T4a there.

    Args:
        bound: ḡ with d gates and its prices.
        start: μ [d] to descend from; default the trained μ that ḡ carries, else the solver's own start.
        solver: "fast" or "cvxpy".

    Returns:
        SparsityReport; verdict "not applicable" where nothing could be certified.

    Raises:
        InvalidInputError: not a QuadraticBound, Φ unbounded below (direction named), bad start or solver.
        SolverError: cvxpy and its fallbacks failed.

    Source: poster, theorem on ‖α*‖₀; docs/theory.md T2, T3, T4a, T6.
    """
    if not isinstance(bound, QuadraticBound):
        reject(
            "bound", type(bound).__name__, "a QuadraticBound", "build one from A, b, c, gamma, or by quadratic_bound"
        )
    minimum = find_local_minimum(bound, bound.trained_mu if start is None else start, solver)
    rank = numerical_rank(bound)
    # A point that ran away to α = inf is reported ("not applicable"), not raised: a numerical failure is a status.
    finite = bool(np.isfinite(minimum.alpha).all())
    soft = soft_rank_of(bound, minimum.alpha if finite else np.nan_to_num(minimum.alpha, nan=_HUGE, posinf=_HUGE))
    pairs = check_collinearity(bound, minimum) if finite else None
    statements = _statements(minimum.nonzeros, rank.rank, soft.plain, soft.sharp, bound.live.size, pairs)
    unresolved = minimum.nonzeros > rank.rank and soft.threshold <= max(rank.resolution, rank.tolerance) ** 2
    verdict, reason = _judge(statements, minimum.certificate, unresolved)
    trained = None
    if bound.trained_mu is not None and bound.trained_sigma is not None:
        trained = int((np.abs(bound.trained_mu) > bound.trained_sigma).sum())  # α > 1
    return SparsityReport(
        verdict, reason, statements, minimum, rank, soft, pairs, bound.d, bound.live.size, trained, bound.guarantee,
        bound.layer, rank.singular_values**2,
    )  # fmt: skip


def _statements(
    nonzeros: int, rank: int, soft: int, sharp: int, live: int, pairs: CollinearityReport | None
) -> tuple[Statement, ...]:
    counts = [
        ("T2 (poster): nonzeros <= rank[A] + 1", rank + 1),
        ("T2 (tight): nonzeros <= rank[A]", rank),
        ("T3: nonzeros <= soft rank", soft),
        ("T3 (sharp): nonzeros <= sharp soft rank", sharp),
    ]
    found = [Statement(name, nonzeros, limit, limit >= live) for name, limit in counts]
    name = "T4a: cos² <= its limit for every pair of survivors"
    if pairs is None or pairs.worst_pair is None:
        return (*found, Statement(f"{name} ({'no pair' if pairs else 'not computed'})", 0.0, 1.0, True))
    at = int(np.argmin(pairs.limits - pairs.squared_cosines))
    return (*found, Statement(name, float(pairs.squared_cosines[at]), float(pairs.limits[at])))


def _judge(statements: tuple[Statement, ...], certificate: Certificate, unresolved: bool) -> tuple[Verdict, str]:
    """The verdict from the numbers; the only place where it is decided.

    `unresolved`: survivors exceed the numerical rank, but so large an α* that survivors may live in directions which
    the rank's tolerance calls zero: then the rank is unknown, and nothing is violated.
    """
    if certificate.status != CERTIFIED:
        return (
            "not applicable",
            f"The bounds speak of local minima; this point is {certificate.status}: {certificate.reason}.",
        )
    broken = [s.name for s in statements if not s.holds]
    if broken and unresolved:
        return "not applicable", (
            "Survivors exceed the numerical rank, but 1/(2+α_max) is below what it resolves: the rank is not known. "
            "Remedy: build the bound from A instead of Q, or raise γ."
        )
    if broken:
        return "violated", (
            "At a certified local minimum, broken: "
            + "; ".join(broken)
            + ". This contradicts a proof: please report it "
            "with to_json()."
        )
    return "holds", "Every statement holds at a certified local minimum."
