"""Printed rows stay as printed; ours are means and deviations that can be worked out by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from vibtheory.compression import metrics
from vibtheory.errors import InvalidInputError
from vibtheory.figures import tradeoff
from vibtheory.studies import tables


def _results() -> pd.DataFrame:
    common = {"table": 1, "network": "lenet_300_100", "gamma": 3e-4, "stage": "pruned", "epochs": 60}
    runs = [(0, 1.4, 1.2, 3.0, 15.0, 8000, "90-70-30"), (1, 1.8, 1.3, 5.0, 19.0, 12000, "99-80-35")]
    columns = ("seed", "error_last", "error_best", "r_w", "r_n", "flop", "architecture")
    return pd.DataFrame([{**common, **dict(zip(columns, run, strict=True))} for run in runs])


@pytest.mark.parametrize(("table", "rows"), [(1, 7), (2, 9), (3, 10), (4, 5)])
def test_published_rows(table: int, rows: int) -> None:
    frame = tables.published(table)
    assert len(frame) == rows
    assert frame["source"].ne("").all()
    assert frame["method"].str.contains("VIBNet").any()


def test_every_printed_architecture_gives_its_row_or_has_a_note() -> None:
    for table in (1, 2, 3):
        for row in tables.published(table).to_dict("records"):
            if not row["architecture"]:
                continue
            kept = [int(k) for k in row["architecture"].split("-")]
            count = {
                1: lambda k: metrics.fully_connected((784, 300, 100, 10), k),
                2: lambda k: metrics.lenet_5_caffe(*k),
                3: metrics.vgg16,
            }[table](kept)
            same = abs(count.r_w - row["r_w"]) < 0.00501 and abs(count.r_n - row["r_n"]) < 0.00501
            if table == 2:
                same &= abs(count.flop / 1e6 - row["flop_mil"]) < 0.000501
            assert same or row["note"], (table, row["method"])


def test_known_contradictions_are_noted_and_not_mended() -> None:
    dn = tables.published(1).set_index("method").loc["DN"]
    assert dn["r_w"] == 23.05
    assert "19.03" in dn["note"]
    assert "25.7" in tables.published(4).iloc[-1]["note"]
    assert tables.published(4).iloc[-1]["error_finetuned"] == 25.1


def test_summary_by_hand() -> None:
    (row,) = tables.summarise(_results(), 1).to_dict("records")
    assert row["r_w"] == 4.0
    assert row["r_w_std"] == pytest.approx(2**0.5)
    assert row["error_last"] == pytest.approx(1.6)
    assert row["error_last_std"] == pytest.approx(0.08**0.5)
    assert (row["seeds"], row["architecture"]) == (2, "90-70-30")


def test_collapsed_runs_are_no_part_of_the_mean() -> None:
    """They have r_W 0, and an error that says nothing about the others."""
    gone = _results().assign(status="collapsed", seed=[2, 3], r_w=0.0, error_last=88.7, architecture="0-0-0")
    mixed = pd.concat([gone, _results().assign(status="completed")])
    lost, kept = tables.summarise(mixed, 1).to_dict("records")
    assert (kept["r_w"], kept["seeds"], kept["architecture"]) == (4.0, 2, "90-70-30")
    assert kept["error_last"] == pytest.approx(1.6)
    assert (lost["r_w"], lost["seeds"], lost["architecture"]) == (0.0, 2, "0-0-0")
    names = list(tables.beside(1, mixed)["method"])[-2:]
    assert names == ["ours, γ = 0.0003, pruned, collapsed", "ours, γ = 0.0003, pruned"]
    (drawn,) = tradeoff(mixed, 1).axes[0].containers
    assert list(drawn.lines[0].get_xdata()) == [4.0]
    assert not tradeoff(gone, 1).axes[0].containers


def test_ours_stand_beside_the_printed_rows() -> None:
    frame = tables.beside(1, _results())
    assert list(frame["method"])[-2:] == ["VIBNet", "ours, γ = 0.0003, pruned"]
    assert frame.iloc[-1]["error (%)"] == "1.60 ± 0.28 (best epoch 1.25 ± 0.07)"
    assert frame.iloc[-2]["r_W (%)"] == "3.59"
    assert tables.beside(3).iloc[2]["error (%)"] == "8.8 (8.5)"
    text = tables.markdown(pd.DataFrame({"a|b": ["x|y"]}))
    assert text == "| a\\|b |\n| --- |\n| x\\|y |\n"
    assert tables.rendered(frame, "title").row_count == len(frame)


def test_tradeoff_shows_our_points_and_every_printed_one() -> None:
    axes = tradeoff(_results(), 1).axes[0]
    assert {text.get_text() for text in axes.texts} == set(tables.published(1)["method"])
    assert axes.get_xscale() == "log"
    assert axes.containers[0].lines[0].get_xdata() == pytest.approx([4.0])


def test_tradeoff_does_not_join_the_record_to_the_sweep() -> None:
    sweep = [_results().assign(mode="curve", gamma=price, r_w=size) for price, size in ((1e-4, 9.0), (3e-4, 5.0))]
    record = _results().assign(mode="full", epochs=99)
    drawn = tradeoff(pd.concat([*sweep, record]), 1).axes[0].containers
    assert [list(part.lines[0].get_xdata()) for part in drawn] == [[5.0, 9.0], [4.0]]
    assert [part.lines[0].get_linestyle() for part in drawn] == ["-", "None"]
    assert "99 epochs" in drawn[1].get_label()


def test_rows_of_decayed_gates_are_told_apart() -> None:
    both = pd.concat([_results(), _results().assign(network="lenet_300_100_decayed_gates", r_w=9.0)])
    assert list(tables.beside(1, both)["method"])[-2:] == [
        "ours, γ = 0.0003, pruned", "ours (gates decayed), γ = 0.0003, pruned",
    ]  # fmt: skip
    drawn = tradeoff(both, 1).axes[0].containers
    assert [list(part.lines[0].get_xdata()) for part in drawn] == [[4.0], [9.0]]
    assert ["gates decayed" in part.get_label() for part in drawn] == [False, True]


BAD = {
    "table": lambda: tables.published(5),
    "column": lambda: tables.summarise(_results().drop(columns="seed"), 1),
    "an empty number": lambda: tables.summarise(_results().assign(r_w=float("nan")), 1),
    "an infinite number": lambda: tables.summarise(_results().assign(flop=float("inf")), 1),
    "no rows": lambda: tables.summarise(_results(), 2),
    "error": lambda: tradeoff(_results(), 1, error="error"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()
