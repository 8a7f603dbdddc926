"""Figure 2: its numbers against values by hand, its drawing against the table, the command from training to files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from vibtheory import datasets
from vibtheory.cli import app
from vibtheory.datasets import from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.figures import caption, figure2, figure2_estimates, printed_curves, printed_fit, verdicts
from vibtheory.figures.figure2_shape import SHAPES, estimates, mean_interval, shape_table
from vibtheory.studies import figure2 as figure2_runs
from vibtheory.studies.estimators import Estimator
from vibtheory.studies.figure2 import ESTIMATORS, GAMMA, SWEEPS, figure2_table
from vibtheory.studies.sweep import COLUMNS

OTHER = 4 * GAMMA
EPOCHS = (0, 1, 2, 5)
CURVES = {  # method: nats of seed 0 at each epoch, and the shape in words
    "gaussian": ([490.0, 680.0, 600.0, 200.0], "rises, turns, falls below its start"),
    "infonce": ([1.0, 6.0, 5.0, 2.0], "rises, turns, falls"),
    "plain": ([1350.0, 1200.0, 800.0, 90.0], "falls from the start"),
    "variational": ([10.0, 20.0, 30.0, 40.0], "rises"),
    "gaussian_tight": ([10.0, 10.0, 10.0, 10.0], "undecided"),
    "pairwise": ([7.55, 7.6, 7.58, 7.57], "saturated"),
}


def _rows(method: str, values: list[float], *, gated: bool, gamma: float, seeds: int, n: int = 2000) -> list[dict]:
    ceiling = math.log(n) if method in ("infonce", "pairwise") else math.inf
    return [
        {
            **dict.fromkeys(COLUMNS, 0), "gated": gated, "gamma": gamma, "seed": seed, "epoch": epoch,
            "r_w": 100.0 if not gated else 100.0 / (1 + epoch * gamma / GAMMA), "layer": "h1", "method": method,
            "tau": 0.01, "n": n, "nats": value * (1 + 0.001 * seed), "stderr": 0.002 * value, "kind": "upper",
            "saturated": value >= ceiling - 0.1, "ceiling": ceiling,
        }
        for seed in range(seeds)
        for epoch, value in zip(EPOCHS, values, strict=True)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rows = []
    for method, (values, _) in CURVES.items():
        rows += _rows(method, values, gated=True, gamma=GAMMA, seeds=3)
        rows += _rows(method, [0.9 * value for value in values], gated=True, gamma=OTHER, seeds=3)
        rows += _rows(method, sorted(values), gated=False, gamma=0.0, seeds=3)
    late = [
        row for row in _rows("infonce", [1, 1, 1, 2.5], gated=True, gamma=GAMMA, seeds=3, n=9000) if row["epoch"] == 5
    ]
    return pd.DataFrame(rows + late)


@pytest.fixture(scope="module")
def shape(table) -> pd.DataFrame:
    return shape_table(table)


@pytest.fixture(scope="module")
def drawn(table, shape):
    figure = figure2(table, GAMMA, shape)
    yield figure
    plt.close(figure)


@pytest.fixture(scope="module")
def panels(table, shape):
    figure = figure2_estimates(table, GAMMA, shape)
    yield figure
    plt.close(figure)


@pytest.mark.parametrize("method", CURVES)
def test_shape_in_words_and_numbers(shape, method):
    row = shape[(shape["method"] == method) & (shape["gamma"] == GAMMA)].iloc[0]
    values, words = CURVES[method]
    assert row["shape"] == words
    assert (row["seeds"], row["epochs"]) == (3, 5)
    seeds = np.array([1.0, 1.001, 1.002])
    rise = (max(values) - values[0]) * seeds
    expected = stats.t.interval(0.95, 2, rise.mean(), stats.sem(rise)) if max(values) > values[0] else (0.0, 0.0)
    assert row["rise"] == pytest.approx(rise.mean())
    np.testing.assert_allclose([row["rise_low"], row["rise_high"]], expected, rtol=1e-9)
    assert row["turn"] == EPOCHS[int(np.argmax(values))]
    assert row["start"] == pytest.approx(values[0] * 1.001)
    assert row["end"] == pytest.approx(values[-1] * 1.001)


def test_a_fall_that_the_seeds_do_not_decide_is_said():
    one, two = (_rows("gaussian", [10.0, 20.0, 40.0, end], gated=True, gamma=GAMMA, seeds=1) for end in (38.0, 41.0))
    row = shape_table(pd.DataFrame([*one, *({**row, "seed": 1} for row in two)])).iloc[0]
    assert row["fall"] == pytest.approx(0.5)
    assert row["shape"] == "rises, then undecided"


def test_the_caption_is_computed_from_the_shapes(shape):
    shape = shape.copy()
    text = caption(shape, GAMMA).split("\n")
    assert text[0] == f"VIBNet, γ = {GAMMA:g} (3 seeds, 5 epochs), by estimate [τ, or τ@epoch of the turn]:"
    assert "rises, turns, falls below its start: Gaussian [0.01@1]." in text
    assert "falls from the start: ½ Σ log(1+α), as trained [0.01]." in text
    regular = text[text.index("Regular net (3 seeds, 5 epochs), by estimate [τ, or τ@epoch of the turn]:") :]
    assert any(line.startswith("rises: ") and "Gaussian [0.01]" in line for line in regular)
    shape.loc[(shape["method"] == "gaussian") & (shape["gamma"] == GAMMA), "shape"] = "falls from the start"
    assert not any(line.startswith("rises, turns, falls below") for line in caption(shape, GAMMA).split("\n"))
    other = shape[(shape["net"] == "VIBNet") & (shape["method"] == "infonce") & (shape["gamma"] == GAMMA)]
    both = pd.concat([other, other.assign(tau=0.0, turn=3.5)])
    assert caption(both, GAMMA).endswith("\nrises, turns, falls: InfoNCE [own noise@3.5, 0.01@1].")


def test_regular_nets_rise(shape):
    regular = shape[(shape["net"] == "regular") & (shape["method"] == "gaussian")].iloc[0]
    assert regular["shape"] == "rises"
    assert regular["turn"] == 5
    assert math.isnan(regular["spearman"])


def test_rank_correlation_is_scipys(table, shape):
    numbers = shape.set_index(["method", "net", "gamma"])
    part = table[(table["method"] == "gaussian") & table["gated"] & (table["epoch"] > 0)]
    one = part[part["gamma"] == GAMMA]
    expected = stats.spearmanr(one["nats"], one["r_w"]).statistic
    assert numbers.loc[("gaussian", "VIBNet", GAMMA), "spearman"] == pytest.approx(expected)
    together = numbers.xs("all VIBNets", level="net").loc["gaussian"].iloc[0]
    assert together["spearman"] == pytest.approx(stats.spearmanr(part["nats"], part["r_w"]).statistic)
    last = part[part["epoch"] == 5]
    assert together["spearman_last"] == pytest.approx(stats.spearmanr(last["nats"], last["r_w"]).statistic)
    assert together["spearman_low"] <= together["spearman"] <= together["spearman_high"]
    flat = numbers.loc[("gaussian_tight", "VIBNet", GAMMA), "spearman"]
    assert abs(flat) < 1e-12  # seeds alone decide its ranks


def test_one_seed_takes_the_estimates_own_errors(table):
    one = shape_table(table[table["seed"] == 0])
    row = one[(one["method"] == "gaussian") & (one["gamma"] == GAMMA)].iloc[0]
    half = 1.96 * math.sqrt(2) * 0.002 * 680
    assert row["rise_high"] - row["rise"] == pytest.approx(half)
    assert math.isnan(row["spearman_low"])
    assert row["spearman"] == pytest.approx(1.0)


def test_intervals_are_students():
    values = np.array([3.0, 5.0, 10.0])
    low, high = stats.t.interval(0.95, 2, 6.0, stats.sem(values))
    assert mean_interval(values) == pytest.approx((6.0, low, high))
    assert mean_interval(np.array([2.0]), 0.5) == pytest.approx((2.0, 1.02, 2.98))


def test_curves_use_the_smallest_sample(table):
    assert ("infonce", 0.01, 2000) in estimates(table)
    assert ("infonce", 0.01, 9000) not in estimates(table)


@pytest.mark.parametrize("check", [estimates, shape_table, lambda table: figure2(table, GAMMA)])
def test_what_is_no_table_is_refused(table, check):
    with pytest.raises(InvalidInputError, match="table: got no nats"):
        check(table.drop(columns="nats"))
    with pytest.raises(InvalidInputError, match="table: got no row"):
        check(table.iloc[:0])


def test_the_printed_curves_have_the_printed_shape():
    printed = printed_curves()
    assert printed["epoch"].iloc[[0, -1]].tolist() == [0, 198]
    vibnet = printed["mi_vibnet"]
    assert printed["epoch"][vibnet.idxmax()] == 14
    assert (round(vibnet.iloc[0]), round(vibnet.max()), round(vibnet.iloc[-1])) == (629, 699, 549)
    assert printed["mi_regular"].is_monotonic_increasing
    assert (printed["r_w_regular"] == 1).all()


def test_the_two_panels_say_what_ours_do_beside_what_is_printed(table, drawn):
    assert len(drawn.axes) == 2 + 1  # and the second axis
    lines = drawn.get_supxlabel().split("\n")
    assert lines[:4] == [
        "r_W, VIBNet: ours 1 → 0.17; printed: 1 → 0.18. The printed shape.",
        "r_W, regular: ours 1 → 1; printed: 1 → 1. The printed shape.",
        f"I, VIBNet: ours {SHAPES[0]} (turns at epoch 1); printed: {SHAPES[0]}. The printed shape.",
        "I, regular: ours rises; printed: rises. The printed shape.",
    ]
    assert " ".join(lines[4:]) == f"Right: {printed_fit(table, GAMMA)}"
    sinking = table.assign(nats=np.where(table["gated"], table["nats"], 1000 - table["nats"]), r_w=100.0)
    size, _, _, information, *_ = (line.split("; ")[-1] for line in verdicts(sinking, GAMMA))
    assert size == "printed: 1 → 0.18. NOT the printed shape."
    assert information == "printed: rises. NOT the printed shape."


def test_the_drawing_shows_the_table(drawn, panels):
    assert len(panels.axes) == len(CURVES)
    size = drawn.axes[0]
    ours = next(line for line in size.lines if line.get_label() == "VIBNet, ours")
    np.testing.assert_allclose(ours.get_xydata(), [(e, 1 / (1 + e)) for e in EPOCHS])
    panel = next(axes for axes in panels.axes if axes.get_title().startswith("InfoNCE"))
    mean = 1.001 * np.array(CURVES["infonce"][0])
    assert any(np.allclose(line.get_ydata(), mean) for line in panel.lines if len(line.get_ydata()) == len(EPOCHS))
    levels = [line.get_ydata()[0] for line in panel.lines if line.get_linestyle() == ":"]
    assert levels == [math.log(2000)]
    assert any(line.get_marker() == "s" and line.get_ydata() == pytest.approx(2.5 * 1.001) for line in panel.lines)
    full = next(axes for axes in panels.axes if axes.get_title().startswith("pairwise KL"))
    crosses = [line for line in full.lines if line.get_marker() == "x" and len(line.get_ydata())]
    assert {len(line.get_ydata()) for line in crosses} >= {4}


def test_both_axes_are_one_affine_map_the_best_one(table, drawn):
    """Slope and constant by the normal equations; the drawn axes agree at both ends; the ratios by hand."""
    printed, fit = printed_curves(), printed_fit(table, GAMMA)
    vibnet = 1.001 * np.array(CURVES["gaussian"][0])
    ours = np.r_[vibnet, np.sort(vibnet)]
    theirs = np.r_[np.interp(EPOCHS, printed["epoch"], printed["mi_vibnet"]),
                   np.interp(EPOCHS, printed["epoch"], printed["mi_regular"])]  # fmt: skip
    design = np.c_[np.ones(8), ours]
    constant, slope = np.linalg.solve(design.T @ design, design.T @ theirs)
    left = theirs - constant - slope * ours
    assert (fit.constant, fit.slope) == pytest.approx((constant, slope), rel=1e-9)
    assert fit.residual == pytest.approx(math.sqrt(left @ left / 8), rel=1e-9)
    assert fit.rise_over_fall == pytest.approx(((680 - 490) / (680 - 200), (699.3 - 628.6) / (699.3 - 548.6)))
    assert fit.gap_over_rise == pytest.approx(((680 - 200) / (680 - 200), (769.6 - 548.6) / (769.6 - 639.4)))
    shown, second = (axes for axes in drawn.axes if axes.get_ylabel().startswith(("ours (", "printed (")))
    np.testing.assert_allclose(second.get_ylim(), constant + slope * np.array(shown.get_ylim()), rtol=1e-9)
    assert shown.get_ylim()[0] <= min(vibnet)
    assert second.get_ylim()[1] >= 769.6
    assert shown.get_xlabel() == "epoch (square-root scale)"
    figure = figure2(table.assign(epoch=table["epoch"] * 40), GAMMA)
    assert figure.axes[0].get_xlabel() == "epoch"
    plt.close(figure)


def test_curves_that_cannot_be_compared_are_refused(table):
    for part, got in ((table[table["gated"]], "0 recorded epochs of the regular"),
                      (table[table["epoch"] == 0], "1 recorded epochs of the VIBNet")):  # fmt: skip
        with pytest.raises(InvalidInputError, match=f"table: got {got} by gaussian, τ = 0.01"):
            printed_fit(part, GAMMA)


def test_a_price_that_is_not_there_is_refused(table):
    for draw in (figure2, figure2_estimates):
        with pytest.raises(InvalidInputError, match="gamma: got 0.1"):
            draw(table, 0.1)


def test_the_plan_is_that_of_the_issue():
    main, regular, others = SWEEPS["full"]
    assert (main["gammas"], main["seeds"], main["epochs"], len(main["record"])) == ((GAMMA,), 5, 200, 25)
    assert (regular["gated"], regular["seeds"], regular["epochs"]) == (False, 5, 200)
    assert (others["seeds"], others["epochs"]) == (5, 60)
    assert len(set(others["gammas"]) - {GAMMA}) >= 3
    noises = {estimator.tau for estimator in ESTIMATORS}
    assert noises >= {0.0, 0.01, 0.1, 1.0}


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="mode: got 'slow'"):
        figure2_table("slow", tmp_path)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 images, two epochs, two estimators."""
    rng = np.random.default_rng(0)
    x = rng.random((60, 1, 28, 28)).astype(np.float32)
    data = from_arrays(x[:40], np.arange(40) % 10, x[40:], np.arange(20) % 10, name="mnist")
    monkeypatch.setattr(datasets, "load", lambda name: data)
    own = {"gammas": (GAMMA,), "seeds": 1, "epochs": 2, "record": (0, 1, 2), "n": 30}
    plans = tuple({**own, "gated": gated} for gated in (True, False))
    monkeypatch.setattr(figure2_runs, "SWEEPS", {"quick": plans, "full": plans})
    chosen = (Estimator("plain"), Estimator("gaussian", 0.01))
    monkeypatch.setattr(figure2_runs, "QUICK_ESTIMATORS", chosen)
    monkeypatch.setattr(figure2_runs, "ESTIMATORS", chosen)
    monkeypatch.setattr(figure2_runs, "PANELS", plans)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_training_to_files_and_again_from_the_table(tiny):
    first = CliRunner().invoke(app, ["figure", "2", "--quick", "--jobs", "1"])
    assert first.exit_code == 0, first.output
    assert "| gaussian | 0.01 | regular |" in first.stdout
    names = {path.name for path in Path("figures").iterdir()}
    ends = (".csv", ".png", ".pdf", "_estimates.png", "_estimates.pdf", "_shape.csv")
    assert names == {f"figure2_quick{end}" for end in ends}
    table = pd.read_csv("figures/figure2_quick.csv")
    assert list(table.columns) == list(COLUMNS)
    assert set(zip(table["gated"], table["epoch"], strict=True)) == {(g, e) for g in (True, False) for e in (0, 1, 2)}
    Path("figures/figure2_quick.csv").rename("figures/figure2.csv")
    again = CliRunner().invoke(app, ["figure", "2"])
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout
    assert Path("figures/figure2.pdf").read_bytes().startswith(b"%PDF")


def test_the_record_has_panels_without_weight_decay_beside_those_with(tiny):
    answer = CliRunner().invoke(app, ["figure", "2", "--full", "--jobs", "1"])
    assert answer.exit_code == 0, answer.output
    names = {path.name for path in Path("figures").iterdir()}
    assert names == {f"figure2{end}" for end in (".csv", "_panels.csv", "_shape.csv", *(f"{name}.{kind}"
        for name in ("", "_decayed", "_estimates") for kind in ("png", "pdf")))}  # fmt: skip
    panels, decayed = (pd.read_csv(f"figures/figure2{end}.csv") for end in ("_panels", ""))
    assert set(panels["method"]) == {"gaussian"}
    assert set(decayed["method"]) == {"gaussian", "plain"}
    last, other = (rows[(rows["method"] == "gaussian") & (rows["epoch"] == 2)] for rows in (panels, decayed))
    assert (last["nats"].to_numpy() != other["nats"].to_numpy()).all()  # the decay is the only difference
    assert replace(figure2_runs.RECIPE, weight_decay=0.0) == figure2_runs.PANELS_RECIPE


def test_figure_1_is_a_drawing(tmp_path):
    answer = CliRunner().invoke(app, ["figure", "1", "--out", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert (tmp_path / "figure1.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figure1.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["3"], "N: got 3"),
        (["1", "--quick"], "--quick: got True, expected none with Figure 1"),
        (["2", "--quick", "--full"], "--full: got together with --quick"),
        (["2"], "--out: got no"),
    ],
)
def test_what_the_command_refuses(tmp_path, arguments, message):
    answer = CliRunner().invoke(app, ["figure", *arguments, "--out", str(tmp_path)])
    assert answer.exit_code == 2
    assert message in answer.stderr


def test_a_file_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "figure2.csv").write_bytes(b"\xff\xfe\x00")
    answer = CliRunner().invoke(app, ["figure", "2", "--out", str(tmp_path)])
    assert answer.exit_code == 2
    assert "a table that this command wrote" in answer.stderr
