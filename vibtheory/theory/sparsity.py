"""The sparsity-bound checker: ‖α*‖₀ ≤ rank[A] + 1, and our tighter forms, at a certified local minimum (T2–T4a, T9).

The bounds speak of exact local minima with exact zeros, so nothing is judged before `find_local_minimum` has certified
its point. The trained network's own ‖α‖₀ is shown beside and never judged: it is no minimum of ḡ.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.storage.report import Report
from vibtheory.theory.a_priori import APriori, at_rank
from vibtheory.theory.certificate import CERTIFIED, Certificate
from vibtheory.theory.minima import LocalMinimum, find_local_minimum
from vibtheory.theory.quadratic import Guarantee, QuadraticBound, check_bound
from vibtheory.theory.rank import RankReport, numerical_rank
from vibtheory.theory.redundancy import CertifiedPoint, CollinearityReport, check_collinearity
from vibtheory.theory.soft_rank import SoftRank, of_alpha

__all__ = ["Inequality", "SparsityReport", "Verdict", "check_sparsity_bound"]

Array = NDArray[np.float64]
Verdict = Literal["holds", "violated", "not applicable"]

_JSON_VERSION = 1
_HUGE = 1e150  # stands for an α that overflowed


@dataclass(frozen=True)
class Inequality(Report):
    """One inequality of docs/theory.md, as numbers: it holds where `slack` ≥ 0.

    Attributes:
        name: e.g. "T2 (paper): nonzeros <= rank[A] + 1".
        value, limit: its two sides.
        vacuous: it would hold for any α, because the limit is at least the number of live gates.
        rounding: what rounding can do to the slack, 0 for counts.
    """

    name: str
    value: float
    limit: float
    vacuous: bool = False
    rounding: float = 0.0

    @property
    def slack(self) -> float:
        """limit − value."""
        return self.limit - self.value

    @property
    def holds(self) -> bool:
        """slack ≥ 0, up to `rounding`."""
        return self.slack >= -self.rounding

    def __str__(self) -> str:
        mark = "holds" if self.holds else "BROKEN"
        return f"{mark}: {self.name}: {self.value:g} <= {self.limit:g}" + (" (vacuous)" if self.vacuous else "")


@dataclass(frozen=True, eq=False)
class SparsityReport(Report):
    """The paper's theorem and ours, decided for one layer's ḡ. Counts have no unit; Φ is in nats.

    Attributes:
        verdict: holds | violated | not applicable (the point is not certified, or the rank is beyond float64).
        reason: in words, with the remedy.
        statements: T2 (paper), T2 (tight), T3, T3 (sharp), T9, T4a, each with both sides.
        minimum: the local minimum of Φ that was judged, with its certificate.
        rank_report, soft_rank_report: how rank and soft rank were found, and how far to trust them.
        a_priori: T9, the limit that needs no α*: both parts, and the prices at which it informs.
        collinearity: T4a in full; None where α overflowed.
        d, live: gates, and gates whose column is not zero.
        trained_nonzeros: gates of the trained network with α > 1; None if ḡ carries no trained gates. Never judged.
        guarantee: on what grounds ḡ bounds the loss. layer: its name or None.
        spectrum: eigenvalues of G (unit columns), descending.
    """

    verdict: Verdict
    reason: str
    statements: tuple[Inequality, ...]
    minimum: LocalMinimum
    rank_report: RankReport
    soft_rank_report: SoftRank
    a_priori: APriori
    collinearity: CollinearityReport | None
    d: int
    live: int
    trained_nonzeros: int | None
    guarantee: Guarantee
    layer: str | None
    spectrum: Array = field(repr=False)

    @property
    def nonzeros(self) -> int:
        """‖α*‖₀: exact non-zeros at the minimum."""
        return self.minimum.nonzeros

    @property
    def certificate(self) -> Certificate:
        """What is proved about the minimum (T6)."""
        return self.minimum.certificate

    @property
    def rank(self) -> int:
        """Numerical rank[A]."""
        return self.rank_report.rank

    @property
    def rank_plus_one(self) -> int:
        """The paper's bound on ‖α*‖₀."""
        return self.rank + 1

    @property
    def soft_rank(self) -> int:
        """T3: #{λ_i(G) ≥ 1/(2+α_max)}."""
        return self.soft_rank_report.plain

    @property
    def soft_rank_sharp(self) -> int:
        """T3, sharper: #{λ_i(D^½GD^½) ≥ 1}."""
        return self.soft_rank_report.sharp

    @property
    def slack(self) -> int:
        """rank[A] + 1 − ‖α*‖₀ (paper)."""
        return self.rank_plus_one - self.nonzeros

    @property
    def tight_slack(self) -> int:
        """rank[A] − ‖α*‖₀ (T2)."""
        return self.rank - self.nonzeros

    @property
    def vacuous(self) -> bool:
        """A has full column rank, so that no α could break the rank bound (T3c)."""
        return self.rank_report.full

    @property
    def information(self) -> str:
        """Which of the bounds say anything here, in words."""
        if not self.vacuous:
            return f"The rank bound is informative: rank[A] = {self.rank} < {self.live} live gates."
        words = f"The rank bound is vacuous: A has full rank, {self.rank} for {self.live} live gates (T3c)."
        if self.a_priori.informative:
            words += f" A priori, at most {self.a_priori.limit} (T9)."
        best = min(self.soft_rank, self.soft_rank_sharp)
        if best < self.live:
            return f"{words} The soft-rank bound is not: at most {best} gates may survive."
        return f"{words} So is the soft-rank bound ({best})."

    def __str__(self) -> str:
        shown = f"; trained network {self.trained_nonzeros} (shown, not judged)"
        trained = "" if self.trained_nonzeros is None else shown
        lines = [
            f"{self.layer or 'bound'}: {self.verdict}. {self.reason}",
            f"  survivors {self.nonzeros} of {self.d}{trained}",
            f"  rank[A] + 1 = {self.rank_plus_one}, rank[A] = {self.rank}, soft rank {self.soft_rank}, "
            f"sharp {self.soft_rank_sharp}, a priori {self.a_priori.limit}; slack {self.slack}, "
            f"tight slack {self.tight_slack}",
            f"  {self.information}",
            *(f"  {statement}" for statement in self.statements),
            f"  ḡ: {self.guarantee}",
            f"  {self.minimum}",
            f"  {self.rank_report}",
            f"  {self.soft_rank_report}",
            f"  {self.a_priori}",
        ]
        return "\n".join(lines)

    def row(self) -> dict[str, Any]:
        """The report as one flat row of numbers and words."""
        return {
            "layer": self.layer,
            "verdict": self.verdict,
            "d": self.d,
            "trained_nonzeros": self.trained_nonzeros,
            "nonzeros": self.nonzeros,
            "rank_plus_one": self.rank_plus_one,
            "rank": self.rank,
            "soft_rank": self.soft_rank,
            "soft_rank_sharp": self.soft_rank_sharp,
            "a_priori": self.a_priori.limit,
            "a_priori_level": self.a_priori.level,
            "a_priori_small": self.a_priori.small,
            "a_priori_large": self.a_priori.large,
            "a_priori_from_gamma": self.a_priori.from_gamma,
            "slack": self.slack,
            "tight_slack": self.tight_slack,
            "vacuous": self.vacuous,
            "guarantee": self.guarantee.kind,
            "level": self.guarantee.level,
            "certificate": self.certificate.status,
            "value": self.minimum.value,
            "reason": self.reason,
        }

    def _content(self) -> dict[str, Any]:
        return {
            "version": _JSON_VERSION,
            **self.row(),
            "live": self.live,
            "information": self.information,
            "statements": [
                {"name": s.name, "value": s.value, "limit": s.limit, "holds": s.holds, "vacuous": s.vacuous}
                for s in self.statements
            ],
            "guarantee": self.guarantee,
            "certificate": _fields(self.certificate, "escape"),
            "rank_report": _fields(self.rank_report, "singular_values", "d", "live")
            | {"status": self.rank_report.status},
            "soft_rank_report": _fields(self.soft_rank_report, "ties", "ties_sharp")
            | {"status": self.soft_rank_report.status},
            "mu": self.minimum.mu,
            "alpha": self.minimum.alpha,
            "spectrum": self.spectrum,
        }


def _fields(found: Any, *hidden: str) -> dict[str, Any]:
    return {each.name: getattr(found, each.name) for each in fields(found) if each.name not in hidden}


def check_sparsity_bound(
    bound: QuadraticBound, start: ArrayLike | str | None = None, solver: str = "fast"
) -> SparsityReport:
    """Go to a certified local minimum of Φ and decide T2, T3, T4a and T9 there.

    Args:
        bound: ḡ with d gates and its prices.
        start: μ [d] to descend from, or a name as in `find_local_minimum`; default the trained μ that ḡ carries, else
            "continuation".
        solver: "fast" or "cvxpy".

    Returns:
        SparsityReport; verdict "not applicable" where nothing could be certified.

    Raises:
        InvalidInputError: not a QuadraticBound, Φ unbounded below (direction named), bad start or solver.
        SolverError: cvxpy and its fallbacks failed.

    Source: paper, theorem on ‖α*‖₀; docs/theory.md T2, T3, T4a, T6, T9.
    """
    check_bound(bound)
    if start is None:
        start = "continuation" if bound.trained_mu is None else bound.trained_mu
    minimum = find_local_minimum(bound, start, solver)
    rank = numerical_rank(bound)
    known = at_rank(bound, rank)
    before = Inequality("T9: nonzeros <= a-priori limit", minimum.nonzeros, known.limit, known.limit >= bound.live.size)
    verdict, reason, statements, soft, pairs = decide(bound, minimum, rank, before)
    trained = None
    if bound.trained_mu is not None and bound.trained_sigma is not None:
        trained = int((np.abs(bound.trained_mu) > bound.trained_sigma).sum())  # α > 1
    return SparsityReport(
        verdict, reason, statements, minimum, rank, soft, known, pairs, bound.d, bound.live.size, trained,
        bound.guarantee, bound.layer, rank.singular_values**2,
    )  # fmt: skip


def decide(
    bound: QuadraticBound, minimum: CertifiedPoint, rank: RankReport, *more: Inequality
) -> tuple[Verdict, str, tuple[Inequality, ...], SoftRank, CollinearityReport | None]:
    """T2, T3, T4a and `more` at a point: verdict, reason, both sides of each, soft rank, pairs. Nothing is checked."""
    # The exact minimum lies within the certificate's radius: the limits are taken at the largest α there.
    alpha = np.maximum(minimum.alpha, bound._alpha_within(minimum.mu, minimum.certificate.radius))
    # A point that ran away to α = inf is reported ("not applicable"), not raised: a numerical failure is a status.
    finite = bool(np.isfinite(alpha).all())
    soft = of_alpha(bound, alpha if finite else np.nan_to_num(alpha, nan=_HUGE, posinf=_HUGE))
    pairs = check_collinearity(bound, minimum) if finite else None
    statements = _statements(minimum.nonzeros, rank.rank, soft, bound.live.size, more, pairs)
    unresolved = minimum.nonzeros > rank.rank and soft.threshold <= max(rank.resolution, rank.tolerance) ** 2
    return (*_judge(statements, minimum.certificate, unresolved), statements, soft, pairs)


def _statements(
    nonzeros: int, rank: int, soft: SoftRank, live: int, more: tuple[Inequality, ...], pairs: CollinearityReport | None
) -> tuple[Inequality, ...]:
    counts = [
        ("T2 (paper): nonzeros <= rank[A] + 1", rank + 1),
        ("T2 (tight): nonzeros <= rank[A]", rank),
        ("T3: nonzeros <= soft rank", soft.plain),
        ("T3 (sharp): nonzeros <= sharp soft rank", soft.sharp),
    ]
    found = [*(Inequality(name, nonzeros, limit, limit >= live) for name, limit in counts), *more]
    name = "T4a: cos² <= its limit for every pair of survivors"
    if pairs is None or pairs.worst_pair is None:
        return (*found, Inequality(f"{name} ({'no pair' if pairs else 'not computed'})", 0.0, 1.0, True))
    at = int(np.argmin(pairs.limits - pairs.squared_cosines))
    sides = float(pairs.squared_cosines[at]), float(pairs.limits[at])
    return (*found, Inequality(name, *sides, rounding=pairs.rounding))


def _judge(statements: tuple[Inequality, ...], certificate: Certificate, unresolved: bool) -> tuple[Verdict, str]:
    """The verdict from the numbers; the only place where it is decided.

    `unresolved`: survivors exceed the numerical rank, but so large an α* that survivors may live in directions which
    the rank's tolerance calls zero: then the rank is unknown, and nothing is violated.
    """
    if certificate.status != CERTIFIED:
        words = f"The bounds speak of local minima; this point is {certificate.status}: {certificate.reason}."
        return "not applicable", words
    broken = [s.name for s in statements if not s.holds]
    if broken and unresolved:
        return "not applicable", (
            "Survivors exceed the numerical rank, but 1/(2+α_max) is below what it resolves: the rank is not known. "
            "Remedy: build the bound from A instead of Q, or raise γ."
        )
    if broken:
        return "violated", (
            f"At a certified local minimum, broken: {'; '.join(broken)}. This contradicts a proof: please report it "
            "with to_json()."
        )
    ties = f" Ties at gates {list(certificate.ties)[:5]} are resolved to rounding only." if certificate.ties else ""
    return "holds", f"Every statement holds at a certified local minimum.{ties}"
