"""The decider over rerun methods: tables made up so that the right verdict is known, a planted lie among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from vibtheory.claims import STATEMENTS, Effort, decide
from vibtheory.claims.methods import difference_interval

Nets = dict[str, tuple[float, float]]  # method: r_W and error, each ± 0.1 over three seeds


def _recorded(folder: Path, nets: Nets, name: str = "methods_table1.csv", seeds: int = 3) -> None:
    rows = [
        {"method": method, "phase": "test", "stage": stage, "seed": seed, "r_w": r_w + 0.1 * (seed - 1),
         "error_last": error + 0.1 * (seed - 1) + 5 * (stage == "pruned")}
        for method, (r_w, error) in nets.items() for stage in ("pruned", "finetuned") for seed in range(seeds)
    ]  # fmt: skip
    rows += [{**row, "phase": "choose", "r_w": 0.1, "error_last": 0.1} for row in rows]
    pd.DataFrame(rows).to_csv(folder / name, index=False)


@pytest.mark.parametrize(
    ("nets", "verdict"),
    [
        ({"VIBNet": (3.6, 1.6), "L0": (9.0, 1.6), "GL": (8.0, 1.5)}, "holds"),
        ({"VIBNet": (3.6, 1.6), "L0": (9.0, 1.6), "GL": (2.0, 1.6)}, "fails"),  # the planted lie
        ({"VIBNet": (3.6, 1.6), "L0": (9.0, 1.6), "GL": (2.0, 2.6)}, "holds"),  # smaller, and certainly worse
        ({"VIBNet": (3.6, 1.6), "L0": (9.0, 1.6), "NS-Best": (2.0, 1.6), "VIBNet-BN": (1.0, 1.5)}, "holds"),
        ({"VIBNet": (3.6, 1.6), "L0": (9.0, 1.6), "NS-Best": (4.0, 1.6), "VIBNet-BN": (5.0, 1.5)}, "fails"),
        ({"VIBNet": (3.6, 1.6), "NS-Best": (9.0, 1.6)}, "not run"),  # another net
        ({"VIBNet": (3.6, 1.6), "GL": (3.65, 1.6)}, "not run"),  # undecided
        ({"VIBNet": (3.6, 1.6)}, "not run"),
        ({"L0": (3.6, 1.6), "GL": (3.6, 1.6)}, "not run"),
    ],
)
def test_verdict_from_a_recorded_table(nets: Nets, verdict: str, tmp_path: Path) -> None:
    _recorded(tmp_path, nets)
    (claim,) = decide("quick", only=["Smallest rerun 1"], figures=tmp_path)
    assert claim.verdict == verdict
    if verdict == "fails":
        assert f"{'NS-Best' if 'NS-Best' in nets else 'GL'}: r_W" in str(claim.evidence["tried"])


def test_the_full_table_comes_first_and_quick_ones_never(tmp_path: Path) -> None:
    statement = next(each for each in STATEMENTS if each.number == "Smallest rerun 1")
    _recorded(tmp_path, {"VIBNet": (3.6, 1.6), "L0": (9.0, 1.6)}, "methods_table1_quick.csv")
    (claim,) = decide("quick", only=["Smallest rerun 1"], figures=tmp_path)
    assert claim.verdict == "not run"
    _recorded(tmp_path, {"VIBNet": (9.0, 1.6), "L0": (3.6, 1.6)}, "methods_table1_reduced.csv")
    assert statement.decide(Effort("quick", 0, tmp_path)).verdict == "fails"
    _recorded(tmp_path, {"VIBNet": (3.6, 1.6), "L0": (9.0, 1.6)})
    assert statement.decide(Effort("quick", 0, tmp_path)).verdict == "holds"
    _recorded(tmp_path, {"VIBNet": (9.0, 1.6), "L0": (3.6, 1.6)}, "methods_table2_reduced.csv")
    verdicts = [
        claim.verdict for claim in decide("quick", only=["Smallest rerun 1", "Smallest rerun 2"], figures=tmp_path)
    ]
    assert verdicts == ["holds", "fails"]  # each net by itself


def test_interval_of_a_difference_is_welchs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(2, 1, 5), rng.normal(0, 3, 8)
    wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert difference_interval(a, b) == pytest.approx(tuple(wanted))
    assert difference_interval([1.0, 1.0], [3.0, 3.0]) == (-2.0, -2.0)
