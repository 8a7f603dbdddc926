"""Recorded runs beside the fresh instances of a full ledger: one that contradicts the claim breaks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vibtheory.claims import Effort, Finding, landscape, redundancy, sparsity, surrogates
from vibtheory.theory.certificate import CERTIFIED

CHECK: dict[str, Any] = {
    "layer": "h2", "kind": "bohning", "level": "rigorous", "certificate": CERTIFIED, "nonzeros": 9, "rank": 90,
    "soft_rank_sharp": 49,
    "vacuous": True, "violations": 0, "points": 1000, "rate_limit": None,
}  # fmt: skip
NO_BOUND = dict.fromkeys(CHECK) | {"layer": "input", "kind": "exact"}
BUDGET = {"layer": "h2", "gamma": 1e-3, "survivors": 9, "budget": 9, "certificate": CERTIFIED}
REAL = {"layer": "h2", "open_at_minimum": 9, "soft_rank_sharp": 20, "verdict": "holds"}
DEAD = {"layer": "h1", "unit": 3, "proposition": 1, "data_gradient": 0.0, "verdict": "α falls"}
LENET, DEAD_UNITS = "check_lenet_300_100.csv", "dead_units_lenet_300_100.csv"

CASES: dict[str, tuple[Callable[[Effort], Finding], str, dict[str, Any], dict[str, Any]]] = {
    "a violation of a rigorous bound": (
        lambda e: surrogates.guarantee(e, "bohning", "h2"), LENET, CHECK, {"violations": 1},
    ),
    "more open gates than the rank and one": (surrogates.trained_networks, LENET, CHECK, {"nonzeros": 92}),
    "a rank bound that says something": (sparsity.full_rank, LENET, CHECK, {"vacuous": False}),
    "survivors above the budget": (landscape.budget, "budget_lenet_300_100.csv", BUDGET, {"survivors": 10}),
    "the real loss violates": (landscape.real_loss, "real_loss_lenet_300_100.csv", REAL, {"verdict": "violated"}),
    "a silent unit whose α rises": (redundancy.silent_unit, DEAD_UNITS, DEAD, {"verdict": "α rises"}),
    "an unheard unit that the data move": (
        redundancy.unheard_unit, DEAD_UNITS, DEAD | {"proposition": 2}, {"data_gradient": 0.1},
    ),
}  # fmt: skip


@pytest.fixture
def full(tiny: Effort, tmp_path: Path) -> Effort:
    """Few fresh instances, and a folder for recorded tables."""
    effort = replace(tiny, mode="full", figures=tmp_path, recorded={})
    effort.__dict__["network"] = tiny.network  # trained once for all tests
    return effort


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_run_counts(case: str, full: Effort) -> None:
    decide, name, row, change = CASES[case]
    rows = [NO_BOUND, row] if name == LENET else [row]
    pd.DataFrame(rows).to_csv(full.figures / name, index=False)
    assert decide(full).verdict in ("holds", "holds with a correction")
    assert full.recorded[name].rows == len(rows)
    pd.DataFrame([*rows, row | change]).to_csv(full.figures / name, index=False)
    assert decide(full).verdict == "fails"
    assert decide(replace(full, mode="quick")).verdict != "fails"  # reads none


def test_the_recorded_count_of_a_statistical_bound_is_evidence_only(full: Effort) -> None:
    row = CHECK | {"kind": "tangent", "level": "statistical", "violations": 130, "rate_limit": 0.15}
    pd.DataFrame([row]).to_csv(full.figures / LENET, index=False)
    found = surrogates.guarantee(full, "tangent", "h2")
    assert found.evidence[f"{LENET} h2"] == "130 violations of 1000"
    assert found.bare.checked == 1
    assert found.verdict == "holds"
