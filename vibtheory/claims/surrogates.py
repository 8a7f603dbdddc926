"""Deciders of T5, whether each kind of ḡ is what it promises to be, and of the rank bound on trained networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from vibtheory.bridge import bound_with_level, check_network, verify_bound
from vibtheory.claims.claim import Finding, Tally
from vibtheory.claims.effort import Effort
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.gates import named_gates
from vibtheory.networks import mlp
from vibtheory.surrogates.verification import BoundCheck, clopper_pearson_upper
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.several_layers import check_joint_sparsity

__all__ = ["guarantee", "several_layers", "trained_networks"]

Likelihood = Literal["multinomial", "gaussian"]
_RECORDED = ("check_lenet_300_100.csv", "check_lenet_5_caffe.csv")


def _example(rng: np.random.Generator, likelihood: Likelihood) -> tuple[nn.Sequential, Dataset]:
    """A small gated network 6-5-4-3 with gates of both signs, and data for it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        net = mlp((6, 5, 4, 3)).double()
    for gate in named_gates(net).values():
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

    A statistical kind states a limit at 95 %, so one network in twenty may exceed its own: exceeding counts as broken
    where more do (at 99.9 %).
    """
    rng = effort.rng(f"T5 {kind}")
    outcomes, gaps, limits, points, violations = [], [], [], 0, 0
    for index in range(effort.size(15, 150) if kind == "fitted" else effort.size(60, 600)):
        net, data = _example(rng, "gaussian" if kind == "exact" else "multinomial")
        bound, stated = bound_with_level(net, data, layer, kind, 0.03, seed=index)
        check = verify_bound(changed(bound), net, data, samples=2000, seed=index + 1)
        points, violations = points + check.samples, violations + check.violations
        gaps.append(check.mean_gap)
        limits += [stated.rate_limit] if stated else []
        outcomes.append((_kept(kind, check, stated), f"network {index}: {check}"))
    evidence: dict[str, Any] = {
        "points z": points, "violations": violations, "median of the mean gap (nats)": float(np.median(gaps)),
    }  # fmt: skip
    if limits:
        exceeded = sum(not kept for kept, _ in outcomes)
        evidence["stated limits of the violation rate"] = [min(limits), max(limits)]
        evidence["networks that exceed their own limit"] = f"{exceeded} of {len(limits)}"
        if _least(exceeded, len(limits), 0.999) <= 0.05:
            outcomes = [(True, words) for _, words in outcomes]
    for name in _RECORDED if effort.mode == "full" else ():
        table = effort.table(name)
        if table is not None:
            for row in table[(table["kind"] == kind) & table["violations"].notna()].to_dict("records"):
                rigorous = row["level"] != "statistical"
                words = f"{name} {row['layer']}: {row['violations']:g} violations of {row['points']:g}"
                outcomes.append((not rigorous or row["violations"] == 0, words))
                evidence[f"{name} {row['layer']}"] = words.split(": ")[1]
    return Finding(Tally.of(outcomes), evidence=evidence)


def trained_networks(effort: Effort, limit: Callable[[int], int] = lambda rank: rank + 1) -> Finding:
    """The rank bound on a trained LeNet-300-100, layer by layer, each at a certified minimum of its ḡ."""
    reports = list(check_network(effort.network, effort.images, batch=1000))
    outcomes = [
        (report.nonzeros <= limit(report.rank), f"{report.layer}: {report.nonzeros} open gates, rank {report.rank}")
        for report in reports
        if report.certificate.certified
    ]
    evidence: dict[str, Any] = {
        f"{report.layer} ({report.guarantee})": {
            "open gates at the minimum": report.nonzeros, "rank": report.rank, "soft rank": report.soft_rank_sharp,
            "d": report.d, "open in the trained network": report.trained_nonzeros, "vacuous": report.vacuous,
            "certificate": report.certificate.status,
        }
        for report in reports
    }  # fmt: skip
    for name in _RECORDED if effort.mode == "full" else ():
        table = effort.table(name)
        rows = [] if table is None else table[table["certificate"] == "certified local minimum"].to_dict("records")
        for row in rows:
            words = f"{row['layer']} {row['kind']}: {row['nonzeros']:g} open gates, rank {row['rank']:g}"
            outcomes.append((row["nonzeros"] <= limit(int(row["rank"])), f"{name}: {words}"))
            evidence[f"{name} {row['layer']} {row['kind']}"] = words.split(": ")[1]
    return Finding(Tally.of(outcomes), evidence=evidence, figure="check_lenet_300_100.png")


def several_layers(effort: Effort) -> Finding:
    """T7, several layers: Σ_i ‖α_i‖₀ ≤ Σ_i rank A_i over all layers of one network, small ones and the trained one."""
    rng = effort.rng("T7 layers")
    outcomes = []
    for _ in range(effort.size(60, 600)):
        net, data = _example(rng, "multinomial")
        found = check_joint_sparsity(check_network(net, data, gamma=float(np.exp(rng.normal() - 3))))
        if found.verdict != "not applicable":
            outcomes.append((found.verdict == "holds", str(found)))
    trained = check_joint_sparsity(check_network(effort.network, effort.images, batch=1000))
    if trained.verdict != "not applicable":
        outcomes.append((trained.verdict == "holds", str(trained)))
    return Finding(Tally.of(outcomes), evidence={"trained LeNet-300-100": str(trained)})
