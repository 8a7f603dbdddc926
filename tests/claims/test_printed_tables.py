"""Deciders that read recorded tables: tables made up so that the right verdict is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vibtheory.claims import STATEMENTS, Effort, Tally, decide, figure2
from vibtheory.claims.instances import NotRecorded
from vibtheory.claims.printed_tables import metrics, state_of_the_art, table_row
from vibtheory.claims.width import interpolated, larger_base, low_rank, survivors
from vibtheory.errors import DataError
from vibtheory.figures import width_figure
from vibtheory.studies.figure2 import GAMMA


def _effort(folder: Path, name: str, rows: list[dict[str, Any]]) -> Effort:
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return Effort("quick", 0, folder)


def _row(seed: int, **change: Any) -> dict[str, Any]:
    row = {"network": "lenet_300_100", "mode": "full", "stage": "pruned", "seed": seed, "r_w": 3.59, "r_n": 16.98,
           "flop": 9558, "error_last": 1.6}  # fmt: skip
    return row | change


def _rows(*errors: float, seeds: int = 3, **change: Any) -> list[dict[str, Any]]:
    """Some seeds pruned, with the first error; fine-tuned with the second."""
    stages = zip(("pruned", "finetuned"), errors, strict=False)
    return [_row(seed, stage=stage, error_last=error, **change) for stage, error in stages for seed in range(seeds)]


def _spread(*errors: float) -> list[dict[str, Any]]:
    return [_row(seed, error_last=error) for seed, error in enumerate(errors)]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        (_rows(1.6), "holds"),
        (_rows(1.64), "holds"),  # rounds to the printed digit
        (_rows(1.66), "fails"),
        (_spread(1.2, 1.6, 2.2), "fails"),  # noise is no excuse
        (_spread(1.2, 1.6, 1.9), "holds"),
        (_rows(1.6, r_w=3.7), "fails"),
        (_rows(1.6, r_n=17.2), "fails"),
        (_rows(1.66, 1.6), "holds with a correction"),  # after fine-tuning
        (_rows(1.66, 1.7), "fails"),
        (_rows(1.6, 1.7), "fails"),
        (_rows(1.66, 1.6, r_w=3.7), "fails"),
        (_rows(1.6, seeds=2), "not run"),
        (_rows(1.6, mode="quick"), "not run"),
        ([*_rows(1.6), *_rows(9.0, network="lenet_300_100_decayed_gates")], "holds"),  # those are another recipe's
        ([*_rows(1.6), *_rows(9.0, network="mine")], "holds"),
        ([*_rows(1.6, 1.5), _row(0, r_w=0.0, r_n=0.0)], "fails"),  # a collapsed run makes no net smaller
        (_rows(1.6, network="lenet_300_100_decayed_gates"), "not run"),
    ],
)
def test_a_row_of_ours(rows: list[dict[str, Any]], verdict: str, tmp_path: Path) -> None:
    statement = next(each for each in STATEMENTS if each.number == "Table 1")
    effort = _effort(tmp_path, "table1.csv", rows)
    claim = decide(statements=[statement], figures=effort.figures)["Table 1"]
    assert claim.verdict == verdict
    assert ("3 are needed" in claim.evidence.get("why", "")) == (verdict == "not run")
    assert verdict == "not run" or claim.evidence["seeds"] == [0, 1, 2]


def test_rows_of_table_3_are_held_against_their_own(tmp_path: Path) -> None:
    size = {"network": "vgg_3_2", "row": 3.2, "r_w": 5.45, "r_n": 57.86, "flop": 86.82e6}
    effort = _effort(tmp_path, "table3.csv", _rows(6.5, 6.3, **size))
    assert table_row(effort, 3, "3.2").verdict == "fails"  # fine-tuned: 6.1 is printed
    assert "fine-tuned" in table_row(effort, 3, "3.2").bare.example
    with pytest.raises(NotRecorded, match=r"0 full runs of row 3\.1; 3 are needed"):
        table_row(effort, 3, "3.1")
    assert table_row(_effort(tmp_path, "table3.csv", _rows(6.5, 6.14, **size)), 3, "3.2").verdict == "holds"
    assert effort.recorded["table3.csv"].rows == 6
    with pytest.raises(DataError, match=r"table3\.csv.*no row.*Remedy"):
        table_row(_effort(tmp_path, "table3.csv", _rows(1.0)), 3, "3.2")


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
GOOD, UP, DOWN = [5.0, 9.0, 2.0], [5.0, 7.0, 9.0], [5.0, 4.0, 3.0]


def _figure2(method: str, vib: list[float], regular: list[float], sizes: list[float] = FALLING) -> list[Any]:
    rows: list[Any] = []
    for seed in (0, 1):
        rows += _curve(True, seed, method, vib, sizes) + _curve(False, seed, method, regular, STILL)
    return rows


@pytest.mark.parametrize(
    ("sizes", "verdict"),
    [
        (FALLING, "holds"),
        ([100.0, 60.0, 70.0], "fails"),
        ([60.0, 40.0, 20.0], "fails"),  # begins pruned
        ([100.0, 80.0, 60.0], "fails"),  # not below a half
    ],
)
def test_figure_2_left(sizes: list[float], verdict: str, tmp_path: Path) -> None:
    assert figure2.size(_effort(tmp_path, "figure2.csv", _figure2("gaussian", GOOD, UP, sizes))).verdict == verdict


@pytest.mark.parametrize("gated", [True, False])
def test_figure_2_needs_both_nets(gated: bool, tmp_path: Path) -> None:
    half = [row for row in _figure2("gaussian", GOOD, UP) if row["gated"] == gated]
    with pytest.raises(NotRecorded, match="no VIBNets, or no regular nets"):
        figure2.size(_effort(tmp_path, "figure2.csv", half))


def test_a_regular_net_that_shrinks(tmp_path: Path) -> None:
    rows = [row | ({} if row["gated"] else {"r_w": 100 - row["epoch"]}) for row in _figure2("gaussian", GOOD, UP)]
    assert figure2.size(_effort(tmp_path, "figure2.csv", rows)).verdict == "fails"


def test_the_short_figure_2_serves_in_quick_mode_only(tmp_path: Path) -> None:
    effort = _effort(tmp_path, "figure2_quick.csv", _figure2("gaussian", GOOD, UP))
    assert figure2.size(effort).verdict == "holds"
    with pytest.raises(NotRecorded):
        figure2.size(Effort("full", 0, tmp_path))


def test_figure_2_right(tmp_path: Path) -> None:
    good = _figure2("gaussian", GOOD, UP)
    found = figure2.vibnet(_effort(tmp_path, "figure2.csv", good))
    assert found.verdict == "holds"
    assert found.corrected == Tally(2)  # one outcome per seed
    _effort(tmp_path, "figure2_panels.csv", _figure2("gaussian", UP, UP))
    assert figure2.vibnet(_effort(tmp_path, "figure2.csv", good)).verdict == "fails"  # those without decay count too
    (tmp_path / "figure2_panels.csv").unlink()
    assert found.evidence["regular nets beside them, weights decayed, of that shape too"] == "0 of 2"
    too = figure2.vibnet(_effort(tmp_path, "figure2.csv", _figure2("gaussian", GOOD, GOOD)))
    assert too.evidence["regular nets beside them, weights decayed, of that shape too"] == "2 of 2"
    other = good + _figure2("variational", DOWN, UP)
    assert figure2.vibnet(_effort(tmp_path, "figure2.csv", other)).verdict == "holds with a correction"
    flat = _figure2("gaussian", [5.0, 9.0, 6.0], UP)
    assert figure2.vibnet(_effort(tmp_path, "figure2.csv", flat)).verdict == "fails"
    one_seed = [row | ({"nats": 9.5} if row["gated"] and row["seed"] and row["epoch"] == 2 else {}) for row in good]
    assert figure2.vibnet(_effort(tmp_path, "figure2.csv", one_seed)).verdict == "fails"
    noisy = [row | {"stderr": 1.0} for row in good]  # 3 nats are less than four standard errors
    assert figure2.vibnet(_effort(tmp_path, "figure2.csv", noisy)).verdict == "fails"
    full = [row | {"saturated": True} for row in good]
    assert figure2.vibnet(_effort(tmp_path, "figure2.csv", full)).verdict == "fails"


def test_figure_2_regular(tmp_path: Path) -> None:
    good, sinking = _figure2("gaussian", GOOD, UP), _figure2("gaussian", GOOD, DOWN)
    alone = figure2.regular(_effort(tmp_path, "figure2.csv", good))
    assert alone.verdict == "not run"
    assert alone.evidence["why"] == "no figure2_panels.csv is recorded; the command makes it"
    _effort(tmp_path, "figure2_panels.csv", good)
    assert figure2.regular(_effort(tmp_path, "figure2.csv", good)).verdict == "holds"
    _effort(tmp_path, "figure2_panels.csv", sinking)
    assert figure2.regular(_effort(tmp_path, "figure2.csv", sinking)).verdict == "fails"
    _effort(tmp_path, "figure2_panels.csv", good)
    assert figure2.regular(_effort(tmp_path, "figure2.csv", sinking)).verdict == "holds with a correction"
    for end, verdict in ((8.9, "holds with a correction"), (8.7, "fails")):  # 5 % of a rise from 5 to 9: 0.2
        _effort(tmp_path, "figure2_panels.csv", _figure2("gaussian", GOOD, [5.0, 9.0, end]))
        found = figure2.regular(_effort(tmp_path, "figure2.csv", sinking))
        assert found.verdict == verdict
        assert found.evidence["without decay: largest dip on the way, nats"] == pytest.approx(2 * [9 - end])


def _over_prices(ends: list[float], method: str = "gaussian", **change: Any) -> list[dict[str, Any]]:
    """VIBNets at three prices, r_W 60, 40, 20, and their last I; three seeds."""
    return [
        row | {"gamma": price} | change
        for price, size, last in zip((1e-4, 3e-4, 1e-3), (60.0, 40.0, 20.0), ends, strict=True)
        for seed in range(3)
        for row in _curve(True, seed, method, [5.0, last], [100.0, size])
    ]


def test_size_and_information(tmp_path: Path) -> None:
    more = _over_prices([9.0, 7.0, 4.0])
    assert figure2.size_and_information(_effort(tmp_path, "figure2.csv", more)).verdict == "holds"
    less = _over_prices([4.0, 7.0, 9.0])
    assert figure2.size_and_information(_effort(tmp_path, "figure2.csv", less)).verdict == "fails"
    full = more + _over_prices([9.0, 9.0, 9.0], "infonce", saturated=True, nats=9.0)
    found = figure2.size_and_information(_effort(tmp_path, "figure2.csv", full))
    assert found.verdict == "holds"
    assert found.evidence["infonce, τ = 0.1: ρ"] == "not defined: at its ceiling"
    one_price = [row for row in more if row["gamma"] == 1e-4]
    with pytest.raises(NotRecorded, match="fewer than two prices"):
        figure2.size_and_information(_effort(tmp_path, "figure2.csv", one_price))


def _study(rank: dict[int, float], soft: dict[int, float], error: dict[int, float]) -> list[dict[str, Any]]:
    return [
        {"width": width, "seed": seed, "gamma": gamma, "layer": layer, "d": 110 * width, "live": 100 * width,
         "rank": share * 100 * width,
         "soft_rank_sharp": soft[width] * 100 * width, "nonzeros": 10, "kept": 20,
         "certificate": "certified local minimum", "error": error[width] + 0.1 * place, "weights": 10_000 * 2**-place,
         "r_w_of_narrowest": 4 * 2.0**-place}
        for width, share in rank.items() for seed in (0, 1, 2) for place, gamma in enumerate((1e-4, 1e-3, 1e-2))
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
        ({1: 0.9, 4: 0.52}, {1: 0.5, 4: 0.2}, "holds with a correction"),  # half of the live units, not of all d
    ],
)
def test_low_rank(rank: dict[int, float], soft: dict[int, float], verdict: str, tmp_path: Path) -> None:
    effort = _effort(tmp_path, "width_study.csv", _study(rank, soft, {1: 2.0, 4: 1.8}))
    assert low_rank(effort).verdict == verdict


def test_widths_of_few_seeds_are_shown_and_not_judged(tmp_path: Path) -> None:
    rows = _study({1: 1.0, 4: 1.0, 8: 0.2}, {1: 0.5, 4: 0.2, 8: 0.9}, {1: 2.0, 4: 1.8, 8: 9.0})
    few = [row for row in rows if row["width"] < 8 or row["seed"] == 0]
    effort = _effort(tmp_path, "width_study.csv", few)
    found = low_rank(effort)
    assert found.verdict == "holds with a correction"
    assert found.evidence["judged at"] == "×4 against ×1"
    assert found.evidence["h1, seed 0: rank/live"][8] == 0.2
    assert larger_base(effort).bare.checked == 1
    assert larger_base(effort).evidence["width ×8: error at equal weights, points"] == pytest.approx([7.0])
    with pytest.raises(NotRecorded, match="1 widths with 3 seeds"):
        low_rank(_effort(tmp_path, "width_study.csv", [row for row in few if row["width"] in (1, 8)]))


@pytest.mark.parametrize(("kept", "verdict"), [(1.0, "not run"), (0.5, "holds"), (1.2, "fails")])
def test_survivors_at_equal_error(kept: float, verdict: str, tmp_path: Path) -> None:
    rows = _study(ONE, {1: 0.5, 4: 0.2}, {1: 2.0, 4: 2.0})
    for row in rows:  # more survivors at a lower error, as everywhere
        row["nonzeros"] = (kept if row["width"] == 4 else 1.0) * 100 / row["error"]
    finding = survivors(_effort(tmp_path, "width_study.csv", rows))
    assert finding.verdict == verdict
    assert finding.evidence["h1, width ×4: survivors at equal error, ratio"] == pytest.approx(3 * [kept])
    with pytest.raises(NotRecorded, match=r"no width_study\.csv"):
        survivors(Effort("quick", 0, tmp_path / "nowhere"))


def test_a_larger_base(tmp_path: Path) -> None:
    better = _study(ONE, ONE, {1: 2.0, 4: 1.8})
    assert larger_base(_effort(tmp_path, "width_study.csv", better)).verdict == "holds"
    worse = _study(ONE, ONE, {1: 2.0, 4: 2.3})
    assert larger_base(_effort(tmp_path, "width_study.csv", worse)).verdict == "fails"
    either = [{**row, "error": row["error"] + (0.1 * row["seed"] - 0.1) * (row["width"] == 4)}
              for row in _study(ONE, ONE, {1: 2.0, 4: 2.0})]  # fmt: skip
    unresolved = larger_base(_effort(tmp_path, "width_study.csv", either))
    assert unresolved.verdict == "not run"
    assert "3 seeds do not resolve it" in unresolved.evidence["why"]
    assert unresolved.evidence["width ×4: change of the error, points"].startswith("0.000 [-0.2")
    table = pd.DataFrame(better)
    middle = interpolated(table, "weights", "error")
    assert middle["value"].tolist() == pytest.approx([2.1, 2.1, 2.1, 1.9, 1.9, 1.9])
    table.loc[table["width"] == 4, "weights"] *= 100  # beyond what the others have: no value, not an extrapolated one
    assert interpolated(table, "weights", "error")["value"].isna().all()


def test_the_figure_of_the_width_study() -> None:
    figure = width_figure(pd.DataFrame(_study(ONE, {1: 0.5, 4: 0.2}, {1: 2.0, 4: 1.8})))
    assert len(figure.axes) == 3
    assert len(figure.axes[0].containers) == 6  # curves with error bars
    with pytest.raises(Exception, match="Remedy: python benchmarks/width_study"):
        width_figure(pd.DataFrame({"width": [1]}))
