"""The sparsity reports (T2, T3) of all gated layers of a network, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vibtheory.errors import reject
from vibtheory.storage.report import Report

if TYPE_CHECKING:
    from vibtheory.theory.sparsity_report import SparsityReport

__all__ = ["NetworkReport"]


@dataclass(frozen=True, eq=False)
class NetworkReport(Report):
    """A sequence of `SparsityReport`s, one per gated layer; `report["h1"]` and `report[0]` both work.

    Attributes:
        reports: in the order of the layers.

    Raises:
        InvalidInputError: no report.
    """

    reports: tuple[SparsityReport, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "reports", tuple(self.reports))
        if not self.reports:
            reject("reports", "none", "at least one SparsityReport", "check a network with gates")

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
        if layer in self.layers:
            return self.reports[self.layers.index(str(layer))]
        return reject("layer", repr(layer), "one of " + ", ".join(self.layers), "choose one of those layers")

    def __str__(self) -> str:
        head = f"{'layer':<10} {'d':>5} {'trained':>7} {'alpha*':>6} {'rank+1':>6} {'rank':>5} {'soft':>5} {'sharp':>5}"
        lines = [f"{self.verdict}: {len(self)} gated layers", f"{head}  ḡ, verdict"]
        for name, r in zip(self.layers, self.reports, strict=True):
            trained = "-" if r.trained_nonzeros is None else str(r.trained_nonzeros)
            lines.append(
                f"{name:<10} {r.d:>5} {trained:>7} {r.nonzeros:>6} {r.rank_plus_one:>6} {r.rank:>5} {r.soft_rank:>5} "
                f"{r.soft_rank_sharp:>5}  {r.guarantee.kind} ({r.guarantee.level}), {r.verdict}"
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
        return {"version": 1, "verdict": self.verdict, "layers": self.reports}
