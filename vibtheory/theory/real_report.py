"""T2, T3 and T4a asserted at a local minimum of the real loss J (docs/theory.md T7): no surrogate stands in between.

On the support 0 ⪯ ∇²J = ∇²g + ρ'' ⪯ 2AᵀA + ρ'' with Böhning's A, so every second-order bound that holds at the local
minima of Φ holds at those of J, with the same A, w and α.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vibtheory.theory.certificate import CERTIFIED
from vibtheory.theory.rank import numerical_rank
from vibtheory.theory.real_loss import RealLossMinimum
from vibtheory.theory.redundancy import CollinearityReport, check_collinearity
from vibtheory.theory.soft_rank import soft_rank_of

__all__ = ["RealLossReport", "check_real_loss"]


@dataclass(frozen=True, eq=False)
class RealLossReport:
    """The theorem for the real loss, decided at one certified local minimum of J.

    Attributes:
        verdict: holds | violated | not applicable.
        reason: in words; names the remedy where the check does not apply.
        d: gates. nonzeros: ‖α‖₀ at the minimum.
        rank: rank[A] of Böhning's A; the poster's bound is rank + 1, T2's is rank. Vacuous where rank = d (T3c).
        soft_rank: T3's sharper form.
        collinearity: T4a at the minimum.
    """

    verdict: Literal["holds", "violated", "not applicable"]
    reason: str
    d: int
    nonzeros: int
    rank: int
    soft_rank: int
    collinearity: CollinearityReport

    def __str__(self) -> str:
        return (
            f"J: {self.verdict}: {self.nonzeros} of {self.d} gates open, soft rank {self.soft_rank}, rank {self.rank}"
            f"{' (vacuous: full)' if self.rank == self.d else ''}. {self.reason} {self.collinearity}"
        )


def check_real_loss(minimum: RealLossMinimum) -> RealLossReport:
    """Assert ‖α‖₀ ≤ soft rank ≤ …, ‖α‖₀ ≤ rank[A] and T4a at a local minimum of J.

    Args:
        minimum: from `minimise_real_loss`; judged only if its certificate is.
    """
    bound = minimum.bound
    collinearity = check_collinearity(bound, minimum)
    rank = numerical_rank(bound).rank
    soft = soft_rank_of(bound, minimum.alpha).sharp
    verdict: Literal["holds", "violated", "not applicable"]
    broken = [
        name
        for name, fails in (
            ("T2", minimum.nonzeros > rank),
            ("T3", minimum.nonzeros > soft),
            ("T4a", collinearity.verdict == "violated"),
        )
        if fails
    ]
    if minimum.certificate.status != CERTIFIED:
        verdict = "not applicable"
        reason = f"J's point is {minimum.certificate.status!r}. Remedy: more rounds in minimise_real_loss."
    elif broken:
        verdict, reason = "violated", f"{', '.join(broken)} broken at a certified local minimum of J."
    else:
        verdict, reason = "holds", "T2, T3 and T4a hold at a certified local minimum of J."
    return RealLossReport(verdict, reason, bound.d, minimum.nonzeros, rank, soft, collinearity)
