"""Decider of "VIBNet is smallest at equal error" over methods that were rerun: from a recorded table, else not run."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort, NotRecorded
from vibtheory.claims.printed_tables import SEEDS

__all__ = ["difference_interval", "smallest_at_equal_error"]

_TWINS = {"NS-Single": "VIBNet-BN", "NS-Best": "VIBNet-BN"}  # those whose net has BatchNorm


def difference_interval(a: Any, b: Any) -> tuple[float, float]:
    """95 % interval (Welch's t) of mean a − mean b, of independent samples `a` [n] and `b` [m], n, m ≥ 2."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    own = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    if not own.sum():
        return float(a.mean() - b.mean()), float(a.mean() - b.mean())
    freedom = own.sum() ** 2 / (own**2 / (len(a) - 1, len(b) - 1)).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(own.sum())
    return float(a.mean() - b.mean() - half), float(a.mean() - b.mean() + half)


def smallest_at_equal_error(effort: Effort, table: int) -> Finding:
    """Against each method that is not certainly worse than VIBNet: VIBNet's r_W is smaller. Fine-tuned, on test seeds.

    Network slimming, whose net has BatchNorm, is held against VIBNet on that net.

    Not certainly worse: the 95 % interval of the difference in error reaches 0. Where that of r_W holds 0, nothing is
    decided, and the evidence says so. From the full record of `table`'s net, else from the one of the reduced budget.
    """
    names = f"methods_table{table}.csv", f"methods_table{table}_reduced.csv"
    name = next((name for name in names if (effort.figures / name).exists()), names[0])
    rows = effort.table(name, ("method", "phase", "stage", "seed", "error_last", "r_w"))
    rows = rows[(rows["phase"] == "test") & (rows["stage"] == "finetuned")]
    nets = {str(method): own for method, own in rows.groupby("method", sort=False) if len(own) >= SEEDS}
    twins = {method: nets.get(_TWINS.get(method, "VIBNet")) for method in nets if not method.startswith("VIBNet")}
    pairs = [(method, nets[method], ours) for method, ours in twins.items() if ours is not None]
    if not pairs:
        raise NotRecorded(f"{name} lacks VIBNet or any other method on {SEEDS} seeds")
    evidence: dict[str, Any] = {"table": name}
    for method in nets:
        if method.startswith("VIBNet"):
            own = nets[method]
            evidence[method] = f"r_W {own['r_w'].mean():.3g} %, error {own['error_last'].mean():.3g} %"
    outcomes: list[Outcome] = []
    for method, own, ours in pairs:
        low, high = difference_interval(own["error_last"], ours["error_last"])
        smaller, larger = difference_interval(ours["r_w"], own["r_w"])
        words = f"r_W {smaller:+.3g} to {larger:+.3g} against it, its error {low:+.2g} to {high:+.2g}"
        if low > 0:
            words += ": certainly worse"
        elif smaller <= 0 <= larger:
            words += ": undecided"
        else:
            outcomes.append((larger < 0, f"{method}: {words}"))
        evidence[method] = words
    return Finding(Tally.of(outcomes), None, evidence, name.replace(".csv", ".png"))
