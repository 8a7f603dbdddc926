"""Several layers at once (docs/theory.md T7): Σ_i ‖α_i‖₀ ≤ Σ_i rank A_i(θ_{−i}).

A local minimum of one joint bound is a local minimum in each layer's gates with the others held, so T2 applies to
every layer with the A_i that the others leave it; summing gives the statement. It is no theorem about minima of
separate bounds that were anchored at different networks: build every report at the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from vibtheory.errors import reject

__all__ = ["JointSparsityReport", "check_joint_sparsity"]


class _LayerReport(Protocol):
    """What is needed of a `SparsityReport`."""

    @property
    def verdict(self) -> str: ...
    @property
    def nonzeros(self) -> int: ...
    @property
    def rank(self) -> int: ...


@dataclass(frozen=True)
class JointSparsityReport:
    """The sum over layers.

    Attributes:
        verdict: holds | violated | not applicable (some layer has no certified minimum).
        nonzeros: Σ_i ‖α_i‖₀.
        rank: Σ_i rank A_i.
        layers: how many reports were summed.
    """

    verdict: Literal["holds", "violated", "not applicable"]
    nonzeros: int
    rank: int
    layers: int

    @property
    def slack(self) -> int:
        """rank − nonzeros."""
        return self.rank - self.nonzeros

    def __str__(self) -> str:
        text = f"{self.layers} layers {self.verdict}: {self.nonzeros} open gates against a total rank of {self.rank}"
        return text + (". Remedy: certify every layer's minimum first" if self.verdict == "not applicable" else "")


def check_joint_sparsity(reports: Iterable[_LayerReport]) -> JointSparsityReport:
    """Sum T2 over layers.

    Args:
        reports: one `SparsityReport` per gated layer, all at the same joint point.

    Raises:
        InvalidInputError: no report.
    """
    rows = list(reports)
    if not rows:
        reject("reports", "none", "at least one SparsityReport", "pass the reports of check_network")
    nonzeros, rank = sum(r.nonzeros for r in rows), sum(r.rank for r in rows)
    verdict: Literal["holds", "violated", "not applicable"]
    if any(r.verdict == "not applicable" for r in rows):
        verdict = "not applicable"
    else:
        verdict = "holds" if nonzeros <= rank else "violated"
    return JointSparsityReport(verdict, nonzeros, rank, len(rows))
