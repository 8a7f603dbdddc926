"""Deciders that read recorded tables: tables made up so that the right verdict is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vibtheory.claims import Effort
from vibtheory.claims.records import figure2_regular, figure2_size, figure2_vibnet, metrics, state_of_the_art, table_row
from vibtheory.claims.width import interpolated, larger_base, low_rank, survivors
from vibtheory.errors import DataError
from vibtheory.figures.figure2_runs import GAMMA
from vibtheory.figures.width import width_figure


def _effort(folder: Path, name: str, rows: list[dict[str, Any]]) -> Effort:
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return Effort("quick", 0, folder)


def _row(seed: int, **change: Any) -> dict[str, Any]:
    row = {"mode": "full", "stage": "pruned", "seed": seed, "r_w": 3.59, "r_n": 16.98, "flop": 9558, "error_last": 1.6}
    return row | change


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        ([_row(0), _row(1)], "holds"),
        ([_row(0, error_last=1.64)], "holds"),  # rounds to the printed digit
        ([_row(0, error_last=1.66)], "fails"),
        ([_row(seed, error_last=1.7 + 0.01 * seed) for seed in range(5)], "fails"),
        ([_row(seed, error_last=1.7 + 0.2 * (seed % 2)) for seed in range(4)], "holds"),  # within its interval
        ([_row(0, r_w=3.7)], "fails"),
        ([_row(0, r_n=17.2)], "fails"),
        ([_row(0, mode="quick")], "not run"),
    ],
)
def test_a_row_of_ours(rows: list[dict[str, Any]], verdict: str, tmp_path: Path) -> None:
    assert table_row(_effort(tmp_path, "table1.csv", rows), 1).verdict == verdict


def test_rows_of_table_3_are_held_against_their_own(tmp_path: Path) -> None:
    rows = [_row(0, row=3.2, r_w=5.45, r_n=57.86, flop=86.82e6, error_last=6.5),
            _row(0, row=3.2, stage="finetuned", r_w=5.45, r_n=57.86, flop=86.82e6, error_last=6.3)]  # fmt: skip
    effort = _effort(tmp_path, "table3.csv", rows)
    assert table_row(effort, 3, "3.2").verdict == "fails"  # fine-tuned: 6.1 is printed
    assert "finetuned" in table_row(effort, 3, "3.2").bare.example
    assert table_row(effort, 3, "3.1").verdict == "not run"
    rows[1]["error_last"] = 6.14
    assert table_row(_effort(tmp_path, "table3.csv", rows), 3, "3.2").verdict == "holds"
    assert effort.recorded == {"table3.csv": 2}


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "table1.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"table1\.csv.*Remedy"):
        table_row(Effort("quick", 0, tmp_path), 1)


def test_printed_rows() -> None:
    found = metrics(Effort())
    assert found.verdict == "holds with a correction"
    assert found.bare.broken == 1
    assert "DN 542-83-61" in found.bare.example
    assert found.bare.checked - 1 == found.corrected.checked
    best = state_of_the_art(Effort())
    assert best.verdict == "holds with a correction"
    assert "BC-GHS has r_w 0.64" in best.bare.example


def _curve(gated: bool, seed: int, method: str, nats: list[float], r_w: list[float], tau: float = 0.1) -> list[Any]:
    return [
        {"gated": gated, "gamma": GAMMA if gated else 0.0, "seed": seed, "epoch": epoch, "r_w": size, "method": method,
         "tau": tau, "n": 100, "nats": value + 0.01 * seed, "stderr": 0.01, "kind": "upper", "saturated": False,
         "ceiling": 99.0}
        for epoch, (value, size) in enumerate(zip(nats, r_w, strict=True))
    ]  # fmt: skip


FALLING, STILL = [100.0, 60.0, 20.0], [100.0, 100.0, 100.0]


def _figure2(method: str, vib: list[float], regular: list[float], sizes: list[float] = FALLING) -> list[Any]:
    rows: list[Any] = []
    for seed in (0, 1):
        rows += _curve(True, seed, method, vib, sizes) + _curve(False, seed, method, regular, STILL)
    return rows


def test_figure_2(tmp_path: Path) -> None:
    good = _figure2("gaussian", [5.0, 9.0, 2.0], [5.0, 7.0, 9.0])
    falls = _figure2("variational", [5.0, 3.0, 2.0], [5.0, 7.0, 9.0])
    assert figure2_size(_effort(tmp_path, "figure2.csv", good)).verdict == "holds"
    assert figure2_vibnet(_effort(tmp_path, "figure2.csv", good)).verdict == "holds"
    assert figure2_regular(_effort(tmp_path, "figure2.csv", good)).verdict == "holds"
    assert figure2_vibnet(_effort(tmp_path, "figure2.csv", good + falls)).verdict == "holds with a correction"
    flat = _figure2("gaussian", [5.0, 9.0, 6.0], [5.0, 7.0, 9.0])
    assert figure2_vibnet(_effort(tmp_path, "figure2.csv", flat)).verdict == "fails"
    sinking = _figure2("gaussian", [5.0, 9.0, 2.0], [5.0, 4.0, 3.0])
    assert figure2_regular(_effort(tmp_path, "figure2.csv", sinking)).verdict == "fails"
    _effort(tmp_path, "figure2_decay.csv", sinking)
    assert figure2_regular(_effort(tmp_path, "figure2.csv", sinking)).verdict == "fails"
    _effort(tmp_path, "figure2_decay.csv", good)
    assert figure2_regular(_effort(tmp_path, "figure2.csv", sinking)).verdict == "holds with a correction"
    rising = _figure2("gaussian", [5.0, 9.0, 2.0], [5.0, 7.0, 9.0], [100.0, 60.0, 70.0])
    assert figure2_size(_effort(tmp_path, "figure2.csv", rising)).verdict == "fails"


def _study(rank: dict[int, float], soft: dict[int, float], error: dict[int, float]) -> list[dict[str, Any]]:
    return [
        {"width": width, "seed": seed, "gamma": gamma, "layer": layer, "d": 100 * width, "rank": share * 100 * width,
         "soft_rank_sharp": soft[width] * 100 * width, "nonzeros": 10, "kept": 20,
         "certificate": "certified local minimum", "error": error[width] + 0.1 * place, "weights": 10_000 * 2**-place,
         "r_w_of_narrowest": 4 * 2.0**-place}
        for width, share in rank.items() for seed in (0, 1) for place, gamma in enumerate((1e-4, 1e-3, 1e-2))
        for layer in ("h1", "h2")
    ]  # fmt: skip


ONE = {1: 1.0, 4: 1.0}


@pytest.mark.parametrize(
    ("rank", "soft", "verdict"),
    [
        ({1: 0.9, 4: 0.5}, {1: 0.5, 4: 0.2}, "holds"),
        (ONE, {1: 0.5, 4: 0.2}, "holds with a correction"),
        ({1: 0.98, 4: 0.82}, {1: 0.5, 4: 0.2}, "holds with a correction"),  # falling is not low
        (ONE, {1: 0.5, 4: 0.5}, "fails"),
        (ONE, {1: 0.2, 4: 0.5}, "fails"),
    ],
)
def test_low_rank(rank: dict[int, float], soft: dict[int, float], verdict: str, tmp_path: Path) -> None:
    effort = _effort(tmp_path, "width_study.csv", _study(rank, soft, {1: 2.0, 4: 1.8}))
    assert low_rank(effort).verdict == verdict


@pytest.mark.parametrize(("kept", "verdict"), [(1.0, "holds"), (0.5, "holds"), (1.2, "fails")])
def test_survivors_at_equal_error(kept: float, verdict: str, tmp_path: Path) -> None:
    rows = _study(ONE, {1: 0.5, 4: 0.2}, {1: 2.0, 4: 2.0})
    for row in rows:  # more survivors at a lower error, as everywhere
        row["nonzeros"] = (kept if row["width"] == 4 else 1.0) * 100 / row["error"]
    finding = survivors(_effort(tmp_path, "width_study.csv", rows))
    assert finding.verdict == verdict
    assert finding.evidence["h1, width ×4: survivors at equal error, ratio"] == pytest.approx([kept, kept])
    assert survivors(Effort("quick", 0, tmp_path / "nowhere")).verdict == "not run"


def test_a_larger_base(tmp_path: Path) -> None:
    better = _study(ONE, ONE, {1: 2.0, 4: 1.8})
    assert larger_base(_effort(tmp_path, "width_study.csv", better)).verdict == "holds"
    worse = _study(ONE, ONE, {1: 2.0, 4: 2.3})
    assert larger_base(_effort(tmp_path, "width_study.csv", worse)).verdict == "fails"
    either = [{**row, "error": row["error"] + (0.2 * row["seed"] - 0.1) * (row["width"] == 4)}
              for row in _study(ONE, ONE, {1: 2.0, 4: 2.0})]  # fmt: skip
    assert larger_base(_effort(tmp_path, "width_study.csv", either)).verdict == "holds with a correction"
    table = pd.DataFrame(better)
    middle = interpolated(table, "weights", "error")
    assert middle["value"].tolist() == pytest.approx([2.1, 2.1, 1.9, 1.9])
    table.loc[table["width"] == 4, "weights"] *= 100  # beyond what the others have: no value, not an extrapolated one
    assert interpolated(table, "weights", "error")["value"].isna().all()


def test_the_figure_of_the_width_study() -> None:
    figure = width_figure(pd.DataFrame(_study(ONE, {1: 0.5, 4: 0.2}, {1: 2.0, 4: 1.8})))
    assert len(figure.axes) == 3
    assert len(figure.axes[0].lines) == 6
    with pytest.raises(Exception, match="Remedy: python benchmarks/width_study"):
        width_figure(pd.DataFrame({"width": [1]}))
