"""Every kind of ḡ on every gated layer: built, compared with the true loss, and decided (docs/theory.md T2, T3, T5).

Rigorous kinds are built from all training examples. They bound the loss of every single example, so the comparison with
the truth uses the same construction on few examples, where 10⁵ values of z are affordable. Statistical kinds bound the
mean over a random part of the training set and are claimed for z ~ N(μ, σ²) only: their fresh samples give the level.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from vibtheory.bridge.checking import (
    Gamma,
    bound_with_level,
    checked,
    remarks,
    verify_bound,
    verify_by_chain,
)
from vibtheory.bridge.fitted import unknowns
from vibtheory.bridge.kinds import LEVEL, BoundOptions
from vibtheory.bridge.verification import BoundCheck
from vibtheory.errors import SolverError, as_whole
from vibtheory.networks.gates import vib_gates
from vibtheory.storage.report import Report
from vibtheory.theory.landscape import survivor_limit
from vibtheory.theory.sparsity import SparsityReport, check_sparsity_bound

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BoundRow", "BoundTable", "compare_bounds"]

_OWN = 1000  # z on which the network's own forward pass is compared as well


@dataclass(frozen=True, eq=False)
class BoundRow:
    """One layer and one kind of ḡ.

    Attributes:
        layer, kind: which.
        reason: why there is no such ḡ, in words; else the report's reason.
        report: the sparsity bounds at its certified minimum; None where there is no ḡ.
        check: ḡ against the true loss on fresh z; None where there is no ḡ.
        examples: training examples whose mean loss ḡ bounds. checked_on: examples in `check`.
        budget: T7's a-priori limit on gates with α ≥ 1, from ‖β‖²/γ.
        seconds: processor time of building and deciding (the comparison not included).
    """

    layer: str
    kind: str
    reason: str
    report: SparsityReport | None = None
    check: BoundCheck | None = None
    examples: int = 0
    checked_on: int = 0
    budget: int | None = None
    seconds: float = 0.0

    def row(self) -> dict[str, Any]:
        """One flat row of numbers and words; None where there is no ḡ."""
        found: dict[str, Any] = {"layer": self.layer, "kind": self.kind, "level": None, "verdict": "no bound"}
        if self.report is not None and self.check is not None:
            own, check = self.report.row(), self.check
            found |= {"level": own["level"], "verdict": own["verdict"]}
            keys = ("d", "trained_nonzeros", "nonzeros", "rank_plus_one", "rank", "soft_rank", "soft_rank_sharp",
                    "a_priori", "slack", "tight_slack", "vacuous", "certificate", "value")  # fmt: skip
            found |= {key: own[key] for key in keys}
            found |= {
                "budget": self.budget,
                "examples": self.examples,
                "points": check.samples,
                "checked_on": self.checked_on,
                "violations": check.violations,
                "rate_limit": check.rate_limit,
                "worst": check.worst,
                "mean_gap": check.mean_gap,
            }
        return found | {"reason": self.reason}


@dataclass(frozen=True, eq=False)
class BoundTable(Report):
    """All rows, layer by layer, and remarks on the network; `.to_frame()`, `.to_json()`, `.plot()`, `str()` a table."""

    rows: tuple[BoundRow, ...]
    remarks: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, in order."""
        return tuple(dict.fromkeys(row.layer for row in self.rows))

    @property
    def verdict(self) -> str:
        """violated if any ḡ's bounds are, or a rigorous ḡ fell below the loss; else not applicable if any is."""
        reports = [row.report for row in self.rows if row.report is not None]
        broken = any(
            row.check is not None and row.report is not None and row.check.violations
            and row.report.guarantee.level != "statistical"
            for row in self.rows
        )  # fmt: skip
        verdicts = {report.verdict for report in reports}
        if broken or "violated" in verdicts:
            return "violated"
        return "not applicable" if "not applicable" in verdicts or not reports else "holds"

    def __iter__(self) -> Iterator[BoundRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        head = (f"{'layer':<8} {'kind':<10} {'d':>4} {'trained':>7} {'alpha*':>6} {'rank':>5} {'soft':>5} {'sharp':>5} "
                f"{'T9':>5} {'budget':>6}  {'points':>7} {'above':>5} {'rate <=':>8}  verdict")  # fmt: skip
        lines = [
            f"{self.verdict}: {len(self.layers)} gated layers",
            *(f"Remark: {each}" for each in self.remarks),
            head,
        ]
        for row in self.rows:
            start = f"{row.layer:<8} {row.kind:<10} "
            if row.report is None or row.check is None:
                lines.append(f"{start}no bound: {row.reason}")
                continue
            r, check = row.report, row.check
            trained = "-" if r.trained_nonzeros is None else str(r.trained_nonzeros)
            lines.append(
                f"{start}{r.d:>4} {trained:>7} {r.nonzeros:>6} {r.rank:>5} {r.soft_rank:>5} {r.soft_rank_sharp:>5} "
                f"{r.a_priori.limit:>5} {row.budget:>6}  {check.samples:>7} {check.violations:>5} "
                f"{check.rate_limit:>8.2g}  "
                f"{r.verdict} ({r.guarantee.level}, {row.seconds:.1f} s)"
            )
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer and kind."""
        return super().to_frame().convert_dtypes()

    def _table(self) -> list[dict[str, Any]]:
        return [row.row() for row in self.rows]

    def _content(self) -> dict[str, Any]:
        rows = [row.row() | {"report": row.report} for row in self.rows]
        return {"version": 1, "verdict": self.verdict, "remarks": self.remarks, "rows": rows}


def compare_bounds(
    net: nn.Module,
    data: Any,
    gamma: Gamma | None = None,
    layers: Sequence[str] | None = None,
    *,
    points: int = 100_000,
    checked_on: int = 10,
    fitted_on: int = 1000,
    fresh: int = 1000,
    full: int = 60,
    largest: int = 2000,
    seed: int = 0,
) -> BoundTable:
    """Build, verify and decide every kind of ḡ on every gated layer.

    Args:
        net, data, gamma, layers: as in `check_network`.
        points: z on which a rigorous ḡ is compared with the loss (four scales, see `verify_bound`).
        checked_on: random training examples in that comparison.
        fitted_on: random training examples whose mean loss the statistical kinds bound.
        fresh: z ~ N(μ, σ²) that give a statistical kind its level. Closed gates are held at 0 for `fitted`.
        full: most open gates for which fitted's Q is a full matrix; past it, diagonal plus low rank.
        largest: most unknowns of a fit; past it the row says that it is too large.
        seed: of every sample.

    Raises:
        InvalidInputError: as `check_network`; points, checked_on, fitted_on or fresh below 1.
    """
    for name, value in (("points", points), ("checked_on", checked_on), ("fitted_on", fitted_on), ("fresh", fresh)):
        as_whole(name, value, 1)
    network = checked(net, data, layers, gamma, insert=True)
    net, gates = network.net, vib_gates(network.net)
    whole = BoundOptions(seed=seed)
    rows = []
    for name in network.prices:
        for kind, reason in network.reasons(name).items():
            if reason:
                rows.append(BoundRow(name, kind, f"does not apply: {reason}"))
                continue
            statistical = LEVEL[kind] == "statistical"
            options = replace(whole, level_samples=fresh if statistical else None)
            if kind == "fitted":
                keep = gates[name].keep.cpu().numpy()
                needed = unknowns(int(keep.sum()), full)
                if needed > largest or not keep.any():
                    why = (
                        f"too large: {needed} unknowns for {keep.sum()} open gates" if keep.any() else "no gate is open"
                    )
                    rows.append(BoundRow(name, kind, why))
                    continue
                sigma = np.where(keep, gates[name].sigma.detach().double().cpu().numpy(), 0.0)
                options = replace(options, sigma=sigma, full=full)
            own = _part(data, fitted_on, seed) if statistical else data
            begun = time.process_time()
            try:
                bound, check = bound_with_level(network.on(own), name, kind, options)
            except SolverError as error:  # one fit that fails must not cost the rest of the table
                rows.append(BoundRow(name, kind, f"failed: {error}"))
                continue
            report = check_sparsity_bound(bound)
            seconds = time.process_time() - begun
            size = len(own.x_train)
            if check is None:
                few = _part(data, checked_on, seed)
                size = len(few.x_train)
                same, _ = bound_with_level(network.on(few), name, kind, options)
                check = verify_bound(same, net, few, samples=min(points, _OWN), seed=seed + 1)
                if not check.violations and points > _OWN:
                    check = verify_by_chain(same, net, few, points, seed + 1)
            rows.append(BoundRow(name, kind, report.reason, report, check, len(own.x_train), size,
                                 survivor_limit(bound), seconds))  # fmt: skip
    return BoundTable(tuple(rows), remarks(network))


def _part(data: Any, examples: int, seed: int) -> Any:
    return data if examples >= len(data.x_train) else data.subset(examples, seed=seed)
