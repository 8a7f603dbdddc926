"""Deciders of T5, whether each kind of ḡ is what it promises to be, and of the rank bound on trained networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from vibtheory.bridge.checking import bound_with_level, check_network, checked, verify_bound
from vibtheory.bridge.kinds import BoundOptions
from vibtheory.bridge.verification import BoundCheck, clopper_pearson_upper
from vibtheory.claims.claim import Finding, Outcome, Tally
from vibtheory.claims.instances import Effort
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.networks.gates import vib_gates
from vibtheory.networks.lenet import mlp
from vibtheory.networks.streams import random_state_kept
from vibtheory.theory.certificate import CERTIFIED
from vibtheory.theory.quadratic import QuadraticBound

__all__ = ["guarantee", "random_network", "trained_networks"]

Likelihood = Literal["multinomial", "gaussian"]
_RECORDED = ("check_lenet_300_100.csv", "check_lenet_5_caffe.csv")
_COLUMNS = ("layer", "kind", "level", "certificate", "nonzeros", "rank", "soft_rank_sharp", "vacuous", "violations",
            "points", "rate_limit")  # fmt: skip


def _recorded(effort: Effort) -> list[dict[str, Any]]:
    """The checker's rows on the networks of Tables 1 and 2, with the table's name; those that have a bound.

    A kind that does not apply to a layer has a row too, with most of its cells empty.
    """
    found = [{**row, "table": name} for name in _RECORDED for row in effort.rows(name, _COLUMNS, _COLUMNS[2:])]
    return [row for row in found if row["level"] == row["level"] and row["rank"] == row["rank"]]


def random_network(rng: np.random.Generator, likelihood: Likelihood) -> tuple[nn.Sequential, Dataset]:
    """A small gated network 6-5-4-3 with gates of both signs, and data for it."""
    with random_state_kept():
        torch.default_generator.manual_seed(int(rng.integers(2**31)))
        net = mlp((6, 5, 4, 3)).double()
    for gate in vib_gates(net).values():
        gate.mu.data.copy_(torch.tensor(rng.normal(scale=1.5, size=gate.features)))
        gate.log_var.data.copy_(torch.tensor(rng.normal(-1.5, 0.5, gate.features)))
    x = rng.standard_normal((120, 6))
    y = rng.standard_normal((120, 3)) if likelihood == "gaussian" else rng.integers(3, size=120)
    return net, from_arrays(x[:80], y[:80], x[80:], y[80:], likelihood=likelihood)


def _kept(kind: str, check: BoundCheck, stated: BoundCheck | None) -> bool:
    """Whether fresh z agree with the promise: ḡ = g; ḡ ≥ g everywhere; or violations no oftener than stated."""
    if kind == "exact":
        return check.violations == 0 and check.mean_gap <= check.tolerance
    if stated is None:
        return check.violations == 0
    return _least(check.violations, check.samples, 0.95) <= stated.rate_limit


def _least(count: int, of: int, confidence: float) -> float:
    """The smallest rate that is consistent with a count (Clopper–Pearson)."""
    return 1 - clopper_pearson_upper(of - count, of, confidence)


def guarantee(
    effort: Effort, kind: str, layer: str, changed: Callable[[QuadraticBound], QuadraticBound] = lambda bound: bound
) -> Finding:
    """T5, one kind: on random networks, ḡ against the true loss on z that building it has not seen.

    A rigorous kind is decided network by network, recorded ones included. A statistical kind states a limit at 95 %,
    which one network in twenty may exceed: the one question is whether more do (at 99.9 %).
    """
    rng = effort.rng(f"T5 {kind}")
    outcomes: list[Outcome] = []
    gaps, limits, points, violations = [], [], 0, 0
    for index in range(effort.size(15, 150) if kind == "fitted" else effort.size(60, 600)):
        net, data = random_network(rng, "gaussian" if kind == "exact" else "multinomial")
        bound, stated = bound_with_level(checked(net, data, [layer], 0.03), layer, kind, BoundOptions(seed=index))
        check = verify_bound(changed(bound), net, data, samples=2000, seed=index + 1)
        points, violations = points + check.samples, violations + check.violations
        gaps.append(check.mean_gap)
        limits += [stated.rate_limit] if stated else []
        outcomes.append((_kept(kind, check, stated), f"network {index}: {check}"))
    evidence: dict[str, Any] = {
        "points z": points, "violations": violations, "median of the mean gap (nats)": float(np.median(gaps)),
    }  # fmt: skip
    tally = Tally.of(outcomes, independent=True)
    rows = [row for row in _recorded(effort) if row["kind"] == kind and row["violations"] == row["violations"]]
    evidence |= {
        f"{row['table']} {row['layer']}": f"{row['violations']:g} violations of {row['points']:g}" for row in rows
    }
    if not limits:
        recorded = [(row["violations"] == 0, f"{row['table']} {row['layer']}: {row['violations']:g}") for row in rows]
        return Finding(tally + Tally.of(recorded), evidence=evidence)
    words = f"{tally.broken} of {tally.checked} networks exceed their own limit"
    evidence |= {"exceeding": words, "stated limits of the violation rate": [min(limits), max(limits)]}
    kept = _least(tally.broken, tally.checked, 0.999) <= 0.05
    return Finding(Tally.of([(kept, f"{words}; first: {tally.example}")]), evidence=evidence)


def trained_networks(effort: Effort, limit: Callable[[int], int] = lambda rank: rank + 1) -> Finding:
    """The rank bound at certified minima of the ḡ that are built on trained networks, layer by layer.

    A LeNet-300-100 trained here, and the recorded networks of Tables 1 and 2 (without `fitted`, whose ḡ has the open
    gates only). Bare: it says something there, rank[A] + 1 is below the number of live gates. Corrected: it holds.
    """
    reports = list(check_network(effort.network, effort.images, batch=1000))
    evidence: dict[str, Any] = {
        f"{report.layer} ({report.guarantee})": {
            "open gates at the minimum": report.nonzeros, "rank": report.rank, "soft rank": report.soft_rank_sharp,
            "live": report.live, "open in the trained network": report.trained_nonzeros, "vacuous": report.vacuous,
            "certificate": report.certificate.status,
        }
        for report in reports
    }  # fmt: skip
    bare: list[Outcome] = []
    corrected: list[Outcome] = []
    below: list[bool] = []

    def judge(name: str, nonzeros: int, rank: int, soft: int, vacuous: bool) -> None:
        words = f"{name}: {nonzeros} open, rank {rank}, sharp soft rank {soft}{', vacuous' if vacuous else ''}"
        bare.append((not vacuous, words))
        corrected.append((nonzeros <= limit(rank), words))
        below.append(soft < rank or not vacuous)  # the live gates are rank[A] where the rank bound is vacuous (T3c)

    for report in reports:
        if report.certificate.certified:
            judge(report.layer or "", report.nonzeros, report.rank, report.soft_rank_sharp, report.vacuous)
    recorded = [row for row in _recorded(effort) if row["certificate"] == CERTIFIED and row["kind"] != "fitted"]
    for row in recorded:
        name = f"{row['table']} {row['layer']} {row['kind']}"
        judge(name, int(row["nonzeros"]), int(row["rank"]), int(row["soft_rank_sharp"]), bool(row["vacuous"]))
        evidence[name] = corrected[-1][1].split(": ", 1)[1]
    evidence = {"sharp soft rank below the live gates": f"{sum(below)} of {len(below)}", **evidence}
    return Finding(Tally.of(bare), Tally.of(corrected), evidence, "check_lenet_300_100.png" if recorded else "")
