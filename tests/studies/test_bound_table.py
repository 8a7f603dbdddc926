"""All kinds of ḡ side by side: which apply, what was verified, the files and the figure, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from torch import nn

from tests.small_net import small_data, small_net
from vibtheory.bridge.verification import clopper_pearson_upper
from vibtheory.errors import InvalidInputError, SolverError
from vibtheory.figures import plot_budget
from vibtheory.networks.gates import named_gates
from vibtheory.networks.lenet import mlp
from vibtheory.studies import bound_table
from vibtheory.studies.bound_table import BoundTable, compare_bounds


def _net() -> nn.Sequential:
    """Two of h1's gates are closed."""
    net = small_net()
    named_gates(net)["h1"].mu.data[:2] = 1e-6
    return net


def test_a_fit_that_fails_costs_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bound_table.bound_with_level

    def failing(network: Any, layer: str, kind: str, options: Any) -> Any:
        if kind == "fitted":
            raise SolverError("no convergence. Remedy: more samples")
        return real(network, layer, kind, options)

    monkeypatch.setattr(bound_table, "bound_with_level", failing)
    found = {row.kind: row for row in compare_bounds(_net(), small_data(), 0.02, ["h2"], points=20, fresh=50)}
    assert found["fitted"].report is None
    assert found["fitted"].reason == "failed: no convergence. Remedy: more samples"
    assert found["tangent"].report is not None


@pytest.fixture(scope="module")
def table() -> BoundTable:
    return compare_bounds(_net(), small_data(), 0.02, ["h1", "h2"], points=2000, fresh=200)


def test_every_kind_has_a_row_and_says_why_it_has_no_bound(table: BoundTable) -> None:
    found = {(row.layer, row.kind): row for row in table}
    assert len(table) == len(found) == 10
    assert table.layers == ("h1", "h2")
    assert {key for key, row in found.items() if row.report is None} == {
        ("h1", "exact"), ("h1", "bohning"), ("h2", "exact"),
    }  # fmt: skip
    assert "likelihood 'multinomial'" in found["h2", "exact"].reason
    assert "not affine" in found["h1", "bohning"].reason


def test_rigorous_kinds_are_verified_and_statistical_ones_have_a_level(table: BoundTable) -> None:
    for row in table:
        if row.report is None:
            continue
        assert row.check is not None
        if row.report.guarantee.level == "rigorous":
            assert (row.check.samples, row.check.violations, row.checked_on, row.examples) == (2000, 0, 10, 60)
        else:
            assert (row.check.samples, row.checked_on) == (200, 60)
            assert row.check.rate_limit == clopper_pearson_upper(row.check.violations, 200)
            assert f"{row.check.violations} of 200 fresh z" in row.report.guarantee.detail


def test_fitted_holds_closed_gates_at_zero(table: BoundTable) -> None:
    (row,) = (row for row in table if (row.layer, row.kind) == ("h1", "fitted"))
    assert row.report is not None
    assert (row.report.d, row.report.live) == (5, 3)


def test_the_budget_is_not_below_the_survivors(table: BoundTable) -> None:
    for row in table:
        if row.report is not None and row.report.certificate.status == "certified local minimum":
            assert row.budget is not None
            assert (row.report.minimum.alpha >= 1).sum() <= row.budget


def test_text_frame_and_json_hold_the_same_rows(table: BoundTable) -> None:
    assert str(table).startswith("holds: 2 gated layers")
    assert "Remark: the network predicts no better than a constant" in str(table)  # nobody trained it
    assert len(str(table).splitlines()) == 13
    frame = table.to_frame()
    assert list(frame["kind"][:5]) == ["exact", "bohning", "lipschitz", "fitted", "tangent"]
    content = json.loads(table.to_json())
    assert [row.get("violations", None) for row in content["rows"]] == [
        None if pd.isna(v) else v for v in frame["violations"]
    ]
    assert content["rows"][2]["report"]["guarantee"]["kind"] == "lipschitz"


def test_the_figure_has_a_row_of_panels_per_layer(table: BoundTable) -> None:
    figure = table.plot()
    assert len(figure.axes) == 6
    assert "h2" in figure.axes[3].get_title(loc="left")
    key = [text.get_text() for text in figure.legends[0].get_texts()]  # outside of the panels: it covers nothing
    assert key[:3] == ["bohning", "lipschitz", "fitted"]
    assert not any(axes.get_legend() for axes in figure.axes)
    written = [text.get_text() for text in figure.axes[5].texts]
    report = next(row.report for row in table if (row.layer, row.kind) == ("h2", "bohning"))
    assert report is not None
    counts = (report.nonzeros, report.soft_rank_sharp, report.soft_rank, report.rank, report.a_priori.limit)
    assert written[:5] == [str(n) for n in counts]
    plt.close(figure)
    with pytest.raises(InvalidInputError, match="no bound in any row"):
        BoundTable(tuple(row for row in table if row.report is None)).plot()


def test_the_verdict_is_the_worst_of_the_rows(table: BoundTable) -> None:
    assert table.verdict == "holds"
    row = next(row for row in table if row.kind == "lipschitz")
    assert row.report is not None
    assert row.check is not None
    others = tuple(each for each in table if each is not row)
    below = replace(row, check=replace(row.check, violations=1))
    assert BoundTable((*others, below)).verdict == "violated"
    assert BoundTable((*others, replace(row, report=replace(row.report, verdict="violated")))).verdict == "violated"
    open_ = replace(row, report=replace(row.report, verdict="not applicable"))
    assert BoundTable((*others, open_)).verdict == "not applicable"
    assert BoundTable(tuple(each for each in table if each.report is None)).verdict == "not applicable"


def test_regression_has_the_exact_kind() -> None:
    table = compare_bounds(_net(), small_data(likelihood="gaussian"), 0.05, ["h2"], points=500, fresh=50)
    kinds = {row.kind: row for row in table}
    assert kinds["exact"].report is not None
    assert kinds["exact"].report.guarantee.level == "exact"
    assert kinds["exact"].check is not None
    assert kinds["exact"].check.violations == 0
    assert "likelihood 'gaussian'" in kinds["bohning"].reason


def test_what_is_too_large_to_fit_says_so() -> None:
    table = compare_bounds(_net(), small_data(), 0.02, ["h2"], points=100, fresh=20, largest=14)
    (row,) = (row for row in table if row.kind == "fitted")
    assert row.report is None
    assert "15 unknowns for 4 open gates" in row.reason
    net = _net()
    named_gates(net)["h2"].close(torch.arange(4))
    (row,) = (
        row for row in compare_bounds(net, small_data(), 0.02, ["h2"], points=50, fresh=9) if row.kind == "fitted"
    )
    assert row.reason == "no gate is open"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"points": 0}, "points"), ({"checked_on": 0}, "checked_on"), ({"fitted_on": 0}, "fitted_on"),
        ({"fresh": 0}, "fresh"), ({"layers": ["h9"]}, "one of input, h1, h2"), ({"gamma": None}, "or train with"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(change: dict[str, object], words: str) -> None:
    arguments = {"gamma": 0.02} | change
    with pytest.raises(InvalidInputError, match=words):
        compare_bounds(_net(), small_data(), **arguments)  # type: ignore[arg-type]
    if "gamma" in change:
        with pytest.raises(InvalidInputError, match="no gates"):
            compare_bounds(mlp((6, 4, 3), gated=False), small_data())


def test_the_budget_figure_reads_a_table_only() -> None:
    table = pd.DataFrame({
        "layer": ["h1", "h1", "h2", "h2"], "kind": "bohning", "d": [5, 5, 4, 4], "factor": [1.0, 10.0] * 2,
        "budget": [4, 1, 3, 0], "survivors": [2, 1, 1, 0], "rank": [5, 5, 3, 3],
        "a_priori": [5, 2, 4, 1], "open": [3, 2, 2, 1],
    })  # fmt: skip
    figure = plot_budget(table)
    assert [list(axis.lines[0].get_ydata()) for axis in figure.axes] == [[4, 1], [3, 0]]
    assert [[list(line.get_ydata()) for line in axis.lines[2:4]] for axis in figure.axes] == [
        [[5, 2], [3, 2]], [[4, 1], [2, 1]]
    ]  # fmt: skip
    plt.close(figure)
    with pytest.raises(InvalidInputError, match="budget"):
        plot_budget(table.drop(columns="budget"))
    with pytest.raises(InvalidInputError, match="0 rows"):
        plot_budget(table[:0])
