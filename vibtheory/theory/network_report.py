"""The sparsity reports (T2, T3) of all gated layers of a network, in order, and the sum over them.

Several layers at once (docs/theory.md T7): Σ_i ‖α_i‖₀ ≤ Σ_i rank A_i(θ_{−i}). A local minimum of one joint bound is a
local minimum in each layer's gates with the others held, so T2 applies to every layer with the A_i that the others
leave it; summing gives the statement. It is no theorem about minima of separate bounds that were anchored at different
networks: build every report at the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vibtheory.errors import check_type, reject, shown
from vibtheory.storage.report import Report
from vibtheory.theory.sparsity import SparsityReport, Verdict

__all__ = ["JointSparsityReport", "NetworkReport", "check_joint_sparsity"]


@dataclass(frozen=True, eq=False)
class NetworkReport(Report):
    """A sequence of `SparsityReport`s, one per gated layer; `report["h1"]` and `report[0]` both work.

    Attributes:
        reports: in the order of the layers.
        remarks: what a reader of the verdict should know of the network; shown, never judged.

    Raises:
        InvalidInputError: no report.
    """

    reports: tuple[SparsityReport, ...]
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "reports", _reports(self.reports, "check a network with gates"))

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names; an unnamed one by its place."""
        return tuple(r.layer if r.layer is not None else str(i) for i, r in enumerate(self.reports))

    @property
    def verdict(self) -> str:
        """violated if any layer is, else not applicable if any layer is, else holds."""
        verdicts = {r.verdict for r in self.reports}
        return next(v for v in ("violated", "not applicable", "holds") if v in verdicts)

    def __iter__(self) -> Iterator[SparsityReport]:
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)

    def __getitem__(self, layer: str | int) -> SparsityReport:
        """The report of a layer by name or place; InvalidInputError lists those that exist."""
        if isinstance(layer, int) and -len(self) <= layer < len(self):
            return self.reports[layer]
        if isinstance(layer, str) and layer in self.layers:
            return self.reports[self.layers.index(layer)]
        return reject("layer", shown(layer), "one of " + ", ".join(self.layers), "choose one of those layers")

    def __str__(self) -> str:
        head = f"{'layer':<10} {'d':>5} {'trained':>7} {'alpha*':>6} {'rank+1':>6} {'rank':>5} {'soft':>5} {'sharp':>5}"
        head += f" {'T9':>5}"
        lines = [f"{self.verdict}: {len(self)} gated layers", *(f"Remark: {each}" for each in self.remarks)]
        lines.append(f"{head}  ḡ, verdict")
        for name, r in zip(self.layers, self.reports, strict=True):
            trained = "-" if r.trained_nonzeros is None else str(r.trained_nonzeros)
            lines.append(
                f"{name:<10} {r.d:>5} {trained:>7} {r.nonzeros:>6} {r.rank_plus_one:>6} {r.rank:>5} {r.soft_rank:>5} "
                f"{r.soft_rank_sharp:>5} {r.a_priori.limit:>5}  {r.guarantee.kind} ({r.guarantee.level}), {r.verdict}"
            )
        lines += [f"{name}: {r.information}" for name, r in zip(self.layers, self.reports, strict=True)]
        lines += [
            f"{name}: {r.reason}" for name, r in zip(self.layers, self.reports, strict=True) if r.verdict != "holds"
        ]
        return "\n".join(lines)

    def row(self) -> dict[str, Any]:
        """Verdict and number of layers; `to_frame` has one row per layer."""
        return {"verdict": self.verdict, "layers": len(self)}

    def _table(self) -> list[dict[str, Any]]:
        return [{**r.row(), "layer": name} for name, r in zip(self.layers, self.reports, strict=True)]

    def _content(self) -> dict[str, Any]:
        return {"version": 1, "verdict": self.verdict, "remarks": self.remarks, "layers": self.reports}


@dataclass(frozen=True)
class JointSparsityReport(Report):
    """The sum over layers.

    Attributes:
        verdict: holds | violated | not applicable (some layer has no certified minimum).
        nonzeros: Σ_i ‖α_i‖₀.
        rank: Σ_i rank A_i.
        layers: how many reports were summed.
    """

    verdict: Verdict
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


def check_joint_sparsity(reports: Iterable[SparsityReport]) -> JointSparsityReport:
    """Sum T2 over layers.

    Args:
        reports: one `SparsityReport` per gated layer, all at the same joint point.

    Raises:
        InvalidInputError: no report.
    """
    rows = _reports(reports, "pass the reports of check_network")
    nonzeros, rank = sum(r.nonzeros for r in rows), sum(r.rank for r in rows)
    verdict: Verdict
    if any(r.verdict == "not applicable" for r in rows):
        verdict = "not applicable"
    else:
        verdict = "holds" if nonzeros <= rank else "violated"
    return JointSparsityReport(verdict, nonzeros, rank, len(rows))


def _reports(reports: Iterable[SparsityReport], remedy: str) -> tuple[SparsityReport, ...]:
    check_type("reports", reports, Iterable, remedy)
    rows = tuple(reports)
    if not rows:
        reject("reports", "none", "at least one SparsityReport", remedy)
    for number, row in enumerate(rows):
        check_type(f"reports[{number}]", row, SparsityReport, remedy)
    return rows
