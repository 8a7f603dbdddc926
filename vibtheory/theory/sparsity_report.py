"""What the sparsity-bound checker found for one layer: inequalities with both sides, and what they rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vibtheory.storage.report import Report
from vibtheory.theory.certificate import Certificate
from vibtheory.theory.guarantee import Guarantee
from vibtheory.theory.minima import LocalMinimum
from vibtheory.theory.rank import RankReport
from vibtheory.theory.redundancy import CollinearityReport
from vibtheory.theory.soft_rank import SoftRank

__all__ = ["SparsityReport", "Statement", "Verdict"]

Array = NDArray[np.float64]
Verdict = Literal["holds", "violated", "not applicable"]

_JSON_VERSION = 1


@dataclass(frozen=True)
class Statement:
    """One inequality of docs/theory.md, as numbers: it holds where `slack` ≥ 0.

    Attributes:
        name: e.g. "T2 (poster): nonzeros <= rank[A] + 1".
        value, limit: its two sides.
        vacuous: it would hold for any α, because the limit is at least the number of live gates.
    """

    name: str
    value: float
    limit: float
    vacuous: bool = False

    @property
    def slack(self) -> float:
        """limit − value."""
        return self.limit - self.value

    @property
    def holds(self) -> bool:
        """slack ≥ 0; T4a's cosines are computed to a few ulp and may exceed by 1e-12."""
        return self.slack >= -1e-12

    def __str__(self) -> str:
        mark = "holds" if self.holds else "BROKEN"
        return f"{mark}: {self.name}: {self.value:g} <= {self.limit:g}" + (" (vacuous)" if self.vacuous else "")


@dataclass(frozen=True, eq=False)
class SparsityReport(Report):
    """The poster's theorem and ours, decided for one layer's ḡ. Counts have no unit; Φ is in nats.

    Attributes:
        verdict: holds | violated | not applicable (the point is not certified, or the rank is beyond float64).
        reason: in words, with the remedy.
        statements: T2 (poster), T2 (tight), T3, T3 (sharp), T4a, each with both sides.
        minimum: the local minimum of Φ that was judged, with its certificate.
        rank_report, soft_rank_report: how rank and soft rank were found, and how far to trust them.
        collinearity: T4a in full; None where α overflowed.
        d, live: gates, and gates whose column is not zero.
        trained_nonzeros: gates of the trained network with α > 1; None if ḡ carries no trained gates. Never judged.
        guarantee: on what grounds ḡ bounds the loss. layer: its name or None.
        spectrum: eigenvalues of G (unit columns), descending.
    """

    verdict: Verdict
    reason: str
    statements: tuple[Statement, ...]
    minimum: LocalMinimum
    rank_report: RankReport
    soft_rank_report: SoftRank
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
        """The poster's bound on ‖α*‖₀."""
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
        """rank[A] + 1 − ‖α*‖₀ (poster)."""
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
        best = min(self.soft_rank, self.soft_rank_sharp)
        if best < self.live:
            return f"{words} The soft-rank bound is not: at most {best} gates may survive."
        return f"{words} So is the soft-rank bound ({best})."

    def __str__(self) -> str:
        trained = (
            "" if self.trained_nonzeros is None else f"; trained network {self.trained_nonzeros} (shown, not judged)"
        )
        lines = [
            f"{self.layer or 'bound'}: {self.verdict}. {self.reason}",
            f"  survivors {self.nonzeros} of {self.d}{trained}",
            f"  rank[A] + 1 = {self.rank_plus_one}, rank[A] = {self.rank}, soft rank {self.soft_rank}, "
            f"sharp {self.soft_rank_sharp}; slack {self.slack}, tight slack {self.tight_slack}",
            f"  {self.information}",
            *(f"  {statement}" for statement in self.statements),
            f"  ḡ: {self.guarantee}",
            f"  {self.minimum}",
            f"  {self.rank_report}",
            f"  {self.soft_rank_report}",
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
        certificate, soft, rank = self.certificate, self.soft_rank_report, self.rank_report
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
            "certificate": {
                k: getattr(certificate, k)
                for k in (
                    "status",
                    "reason",
                    "gradient_norm",
                    "off_support_slack",
                    "min_eigenvalue",
                    "newton_bound",
                    "kantorovich",
                    "radius",
                    "ties",
                    "support",
                )
            },
            "rank_report": {
                k: getattr(rank, k)
                for k in ("rank", "tolerance", "gap", "sensitivity", "resolution", "remainder", "source", "status")
            },
            "soft_rank_report": {
                k: getattr(soft, k)
                for k in ("plain", "sharp", "threshold", "alpha_max", "tolerance", "margin", "margin_sharp", "status")
            },
            "mu": self.minimum.mu,
            "alpha": self.minimum.alpha,
            "spectrum": self.spectrum,
        }
