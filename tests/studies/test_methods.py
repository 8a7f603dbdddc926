"""The compared methods in one harness: what is held out, chosen, run once, kept, drawn and refused."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import Call, call, points  # noqa: F401 (a fixture)
from vibtheory import datasets, networks
from vibtheory.datasets import from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.figures import method_information
from vibtheory.networks import registry as building
from vibtheory.networks import vgg
from vibtheory.networks.gates import named_gates
from vibtheory.studies import method_nets, methods
from vibtheory.studies.experiment_runs import run_experiment, run_together
from vibtheory.studies.experiments import Experiment
from vibtheory.studies.methods import BUDGETS, METHODS, Budget, Method, chosen, method_table
from vibtheory.training import single as training
from vibtheory.training.recipe import Recipe


def _invented(plan: Experiment, mode: str, recipe: Recipe, seed: int) -> pd.DataFrame:
    """Rows of a run that never took place: dearer nets are smaller and worse; nets at a price above 1 collapse."""
    gamma = float(recipe.gamma) or plan.share / 1e3  # type: ignore[arg-type]
    error, r_w = 1.0 + 100 * gamma + 0.01 * (seed % 2), 1e-2 / gamma
    row = {"table": 1, "network": "n", "gamma": gamma, "seed": seed, "stage": "pruned", "error_last": error + 1,
           "error_best": error, "r_w": r_w, "r_n": 1.0, "flop": 9, "architecture": f"{seed}", "epochs": 1,
           "status": "completed" if gamma < 1 else "collapsed", "seconds": 1.0, "mode": mode}  # fmt: skip
    return pd.DataFrame([row] if gamma > 1 else [row, {**row, "stage": "finetuned", "error_last": error}])


def test_methods_are_chosen_on_held_out_images_and_run_once(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    plans = []

    def watched(planned: list[tuple[Experiment, str, Recipe, int]], **options: object) -> pd.DataFrame:
        ((plan, mode, recipe, seed),) = planned
        plans.append((plan, mode, seed))
        return _invented(plan, mode, recipe, seed)

    monkeypatch.setattr(methods, "run_together", watched)
    monkeypatch.setitem(METHODS, "doomed", Method("doomed", "vib", 1e4, 1e5))
    answer = call("methods", "--methods", "VIBNet,L0-sep,doomed,magnitude")
    assert answer.code == 3, answer.err  # as table and sweep
    assert "doomed: collapsed at every price" in answer.err
    assert "| doomed |  | collapsed |" in answer.out
    assert [(p.held_out, m) for p, m, _ in plans] == [(5000, "choose")] * 4 * 8 + [(0, "test")] * 3 * 3
    assert len({(plan.finetune, plan.recipe.epochs, plan.dataset) for plan, *_ in plans}) == 1  # the same for all
    ranked = [plan for plan, mode, _ in plans if plan.ranking and mode == "choose"]
    assert [plan.share for plan in ranked] == pytest.approx(list(np.linspace(0.3, 0.93, 8)))
    assert {plan.jobs("choose")[0][0].gamma for plan in ranked} == {0.0}
    rows = pd.read_csv("figures/methods_table1.csv")
    assert Path("figures/methods_table1.png").read_bytes().startswith(b"\x89PNG")
    # Errors rise by 100 γ: within 0.3 of the best (at γ = 1e-4) is the largest price below 3.1e-3.
    assert chosen(rows) == {
        "VIBNet": 2e-3, "L0-sep": pytest.approx(3e-4 * (1e-2 / 3e-4) ** (4 / 7), rel=1e-3), "magnitude": 0.93,
    }  # fmt: skip
    test = rows[rows["phase"] == "test"].groupby("method")
    assert {name: tuple(sorted(set(mine["seed"]))) for name, mine in test} == dict.fromkeys(
        ("L0-sep", "VIBNet", "magnitude"), (31, 32, 33)
    )
    assert "| VIBNet | 0.002 | 5.00 ± 0.00 | 1.21 ± 0.01 | 31 | 3 | 3.59 | 1.6 |" in answer.out
    assert "| BC-GNJ |  | not run |" in answer.out
    again = call("methods", "--methods", "VIBNet")  # the others' rows stay
    assert again.code == 0
    assert again.out == answer.out
    assert len(pd.read_csv("figures/methods_table1.csv")) == len(rows)


def test_seeds_that_collapsed_are_said(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    def one_lost(planned: list[tuple[Experiment, str, Recipe, int]], **options: object) -> pd.DataFrame:
        rows = _invented(*planned[0])
        return rows[:1].assign(status="collapsed") if planned[0][3] == 32 else rows  # a test seed

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(methods, "run_together", one_lost)
    answer = call("methods", "--methods", "VIBNet")
    assert answer.code == 3
    assert "| VIBNet | 0.002 | 5.00 ± 0.00 | 1.21 ± 0.00 | 31 | 2, 1 collapsed | 3.59 | 1.6 |" in answer.out
    monkeypatch.setitem(METHODS, "doomed", Method("doomed", "vib", 1e4, 1e5))
    answer = call("methods", "--quick", "--methods", "doomed", "--out", "other")  # nothing is left to draw
    assert answer.code == 3, answer.err
    assert Path("other/methods_table1_quick.png").exists()
    one = method_table(1, _rows(("L0", "test", 1e-3, 4.0, 1.5))).set_index("method").loc["L0"]
    assert one.tolist() == ["0.001", "4.00", "1.50", "net0", "1", "26.02", "1.4"]  # one seed has no spread
    stopped = method_table(1, _rows(("L0", "choose", 1e-3, 4.0, 1.5))).set_index("method")
    assert stopped.loc["L0", "r_W (%)"] == "not run"  # no price collapsed


def test_stopped_and_side_by_side_it_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, most = [], [5]

    def run(planned: list[tuple[Experiment, str, Recipe, int]], **options: object) -> pd.DataFrame:
        if len(ran) == most[0]:
            raise KeyboardInterrupt
        ran.append(planned)
        return _invented(*planned[0])

    def backwards(function, items, jobs, cluster):  # type: ignore[no-untyped-def]
        yield from ((place, function(items[place])) for place in reversed(range(len(items))))

    monkeypatch.setattr(methods, "run_together", run)
    options = {"budget": "quick", "methods": ["L0", "VIBNet", "GL"]}
    with pytest.raises(KeyboardInterrupt):
        methods.compare_methods(1, out=tmp_path / "a", **options)
    kept = methods.methods_table(1, "quick", tmp_path / "a").read()
    assert kept is not None
    assert set(kept["method"]) == {"VIBNet"}  # in the methods' own order; what is whole is kept
    most[0] = 1000
    methods.compare_methods(1, out=tmp_path / "a", **options)
    monkeypatch.setattr(methods, "side_by_side", backwards)
    methods.compare_methods(1, out=tmp_path / "b", **options)
    whole = (tmp_path / "b/methods_table1_quick.csv").read_bytes()
    assert (tmp_path / "a/methods_table1_quick.csv").read_bytes() == whole
    assert len(ran) == 5 + 2 * (3 * 3 + 3 * 2)


def test_the_plan_says_what_it_would_cost(call: Call) -> None:  # noqa: F811
    answer = call("methods", "--quick", "--plan", "--methods", "GL,magnitude")
    assert answer.code == 0, answer.err
    assert "| GL | 5 | 3600 |" in answer.out  # 3 prices and 2 seeds of 2 + 8 + 2 epochs of 60 batches
    assert "10 runs, at most" in answer.out


def test_units_cut_by_rank_are_measured_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load", lambda name, root: from_arrays(**points(), name="mnist"))
    monkeypatch.setitem(building._BUILDERS, "lenet_300_100", lambda law: networks.mlp((4, 6, 2), law=law))
    plan = METHODS["magnitude"].plan(1, "test", 0.5, BUDGETS["quick"])
    plan = replace(plan, examples=0, recipe=replace(plan.recipe, epochs=1, pretrain_epochs=0, prune_every=0))
    rows = run_experiment(plan, "test", runs=tmp_path)
    assert set(rows["architecture"]) == {"4-3"}
    assert rows["r_w"].tolist() == [50.0] * 4


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_filters_are_cut_by_the_share_asked_for_alone(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 1, 28, 28), dtype=np.float32), np.arange(40) % 10
    monkeypatch.setattr(datasets, "load", lambda name, root: from_arrays(x, y, x, y, name="mnist", classes=10))
    plan = METHODS["PF"].plan(2, "test", share, replace(BUDGETS["quick"], examples=0, seeds=(31,)))
    rows = run_experiment(plan, "test", runs=tmp_path)  # whose recipe closes units after epochs, too
    assert set(rows["architecture"]) == {"16-40-640-500" if share == 0.2 else "2-5-80-500"}
    for table, budget in ((2, "full"), (3, "gpu")):
        once = [
            name
            for name in ("PF", "NS-Single")
            if METHODS[name].plan(table, "test", 0.5, BUDGETS[budget]).recipe.prunes
        ]
        assert once == []


def test_nets_are_measured_at_each_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((80, 6), dtype=np.float32), rng.integers(0, 2, 80)
    monkeypatch.setattr(datasets, "load", lambda name, root: from_arrays(x, y, x[:20], y[:20], name="mnist"))
    monkeypatch.setitem(building._BUILDERS, "lenet_300_100", lambda law: networks.mlp((6, 5, 4, 2), law=law))
    small = Budget(
        1, (31,), 40, {"epochs": 1, "pretrain_epochs": 0, "shift": 0, "prune_every": 0}, {"epochs": 1, "shift": 0}
    )
    monkeypatch.setitem(BUDGETS, "quick", small)
    monkeypatch.setattr(method_nets, "HELD_OUT", 20)
    monkeypatch.setattr(methods, "HELD_OUT", 20)
    options = {"budget": "quick", "methods": ["VIBNet", "magnitude"], "runs": tmp_path / "runs", "out": tmp_path}
    with pytest.raises(InvalidInputError, match="runs: got"):
        method_nets.measure_nets(1, n=30, **options)
    methods.compare_methods(1, **options)
    nets = method_nets.measure_nets(1, n=30, **options)
    assert nets["method"].tolist() == ["VIBNet", "magnitude"]
    assert (nets["soft_rank"] <= nets["rank"]).all()
    assert (nets["rank"] <= nets["units"]).all()
    assert (nets["lower"] <= nets["upper"]).all()
    assert "at most" in nets["t8"][0]
    assert nets["t8"][1] == ""
    assert nets["units"][1] < 5 == nets["units"][0]  # 30 % of 9 units are cut
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "methods_nets_table1_quick.csv").fillna(""), nets)
    assert len(method_information(nets).axes) == 2


def test_table_3_runs_its_methods_on_one_vgg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((24, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, 24)
    small = from_arrays(x, y, x[:8], y[:8], classes=10, name="cifar10")
    monkeypatch.setattr(datasets, "load", lambda name, root: small)
    monkeypatch.setattr(vgg, "_VGG16", ((3, 1),) * 5)
    monkeypatch.setattr(vgg, "_HIDDEN", 4)
    monkeypatch.setattr(methods, "HELD_OUT", 8)
    once = {"epochs": 1, "pretrain_epochs": 1}
    monkeypatch.setitem(BUDGETS, "gpu", Budget(1, (31,), 0, once, {"epochs": 1}))
    printed = ["VIBNet", "SBP", "SBPa", "BC-GNJ", "BC-GHS", "NS-Single", "NS-Best", "PF"]
    monkeypatch.setattr(methods, "_step_seconds", functools.partial(methods._step_seconds, repeats=1))
    assert methods.expected_cost(3, "gpu")["method"].tolist() == printed  # each takes steps on it
    rows = methods.compare_methods(3, budget="gpu", methods=["VIBNet", "PF"], out=tmp_path, runs=tmp_path / "runs")
    assert rows["method"].unique().tolist() == ["VIBNet", "PF"]
    assert set(rows["row"]) == {"3.1"}
    assert set(rows["status"]) == {"completed"}
    assert rows.loc[rows["method"] == "VIBNet", "gamma"].unique() == pytest.approx([0.025 * 1e-4])
    table = method_table(3, rows).set_index("method")
    assert set(printed) == set(table.index)
    assert table.loc[["VIBNet", "PF"], "seeds"].tolist() == ["1", "1"]
    with pytest.raises(InvalidInputError, match="table: got 3, expected 1 or 2"):
        method_nets.measure_nets(3, budget="gpu", out=tmp_path, runs=tmp_path / "runs")


def test_a_plan_trains_on_what_is_not_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load", lambda name, root: from_arrays(**points(), name="mnist"))
    monkeypatch.setitem(building._BUILDERS, "lenet_300_100", lambda law: networks.mlp((4, 5, 2), law=law))
    seen, in_turns = [], training.in_turns

    def watched(net, data, recipe, settings):  # type: ignore[no-untyped-def]
        seen.append((named_gates(net) != {}, len(data.x_train), len(data.x_test)))
        return in_turns(net, data, recipe, settings)

    monkeypatch.setattr(training, "in_turns", watched)
    plan = METHODS["GL"].plan(1, "choose", 1e-4, BUDGETS["quick"])
    plan = replace(plan, held_out=10, examples=20, recipe=replace(plan.recipe, epochs=1, pretrain_epochs=0))
    first = run_experiment(plan, "choose", runs=tmp_path)
    assert seen == [(True, 20, 10), (False, 20, 10)]  # with gates, and the small net that is fine-tuned
    run_experiment(plan, "choose", runs=tmp_path)
    assert len(seen) == 2  # read back
    run_experiment(replace(plan, held_out=0, examples=0), "choose", runs=tmp_path)
    assert seen[2:] == [(True, 40, 20), (False, 40, 20)]  # another run, of the true test set
    assert list(first["stage"]) == ["pruned", "finetuned"]
    ((recipe, _),), loaded = plan.jobs("choose"), {}
    for seed in (1, 2):
        run_together([(plan, "choose", recipe, seed)], runs=tmp_path, loaded=loaded)
        monkeypatch.delattr(datasets, "load", raising=False)  # the second finds what the first left


def _rows(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["method", "phase", "gamma", "r_w", "error_last"])
    return table.assign(table=1, stage="finetuned", architecture=[f"net{i}" for i in range(len(table))], flop=100)


def test_the_smallest_within_the_bar_is_chosen_or_else_the_best() -> None:
    rows = _rows(
        ("A", "choose", 1.0, 9.0, 1.5), ("A", "choose", 2.0, 5.0, 1.75), ("A", "choose", 3.0, 2.0, 1.9),
        ("B", "choose", 1.0, 8.0, 2.4), ("B", "choose", 2.0, 7.0, 2.2), ("B", "choose", 3.0, 1.0, 9.0),
    )  # fmt: skip
    assert chosen(rows) == {"A": 2.0, "B": 2.0}
    normed = rows.assign(method="NS-Best", error_last=rows["error_last"] - 0.5)  # another net: it sets no bar
    assert chosen(pd.concat([rows, normed], ignore_index=True)) == {"A": 2.0, "B": 2.0, "NS-Best": 3.0}
    assert chosen(normed)["NS-Best"] == 2.0
    pruned = rows.assign(stage="pruned", error_last=0.0)  # the error before fine-tuning does not count
    assert chosen(pd.concat([rows, pruned], ignore_index=True)) == {"A": 2.0, "B": 2.0}


def test_the_table_has_the_printed_row_beside_ours() -> None:
    rows = _rows(("L0", "test", 1e-3, 4.0, 1.5), ("L0", "test", 1e-3, 6.0, 1.7), ("L0", "choose", 1e-3, 90.0, 50.0))
    table = method_table(1, rows).set_index("method")
    assert table.loc["L0"].tolist() == ["0.001", "5.00 ± 1.41", "1.60 ± 0.14", "net0", "2", "26.02", "1.4"]
    assert table.loc["VD"].tolist() == ["", "not run", "", "", "", "25.28", "1.8"]
    assert table.loc["SBP", "printed r_W (%)"] == "-"


def test_a_price_is_spread_over_units_or_weights() -> None:
    net = networks.lenet_5_caffe()
    gates = named_gates(net)
    quick = {"conv1": 10.0, "conv2": 5.0, "flat": 1.0, "fc1": 1.0}  # the authors' factors of their first two blocks
    leaving = {"conv1": 25 * 50, "conv2": 16 * 500, "flat": 500, "fc1": 10}
    for spread, sizes in (("unit", dict.fromkeys(leaving, 1.0)), ("weights", leaving), ("acceleration", quick)):
        recipe = Method("x", "l0", 1e-4, 1e-3, spread).plan(2, "test", 1e-3, BUDGETS["full"]).recipe
        assert recipe.layer_weights is not None
        prices = {name: recipe.layer_weights[name] * gates[name].multiplier for name in sizes}
        total = sum(prices[name] * gates[name].features for name in sizes)
        assert total / sum(gate.features for gate in gates.values()) == pytest.approx(1)  # the mean unit's is the price
        ratios = [prices[name] / size for name, size in sizes.items()]
        assert np.ptp(ratios) < 1e-9 * ratios[0]
    price = METHODS["SBPa"].plan(3, "test", 1e-4, BUDGETS["gpu"]).recipe.layer_weights
    assert price is not None
    own = {name: price[name] * gate.multiplier for name, gate in named_gates(networks.vgg16_cifar()).items()}
    blocks = [("conv1_1", 10.0), ("conv1_2", 10.0), ("conv2_1", 5.0), ("conv2_2", 5.0), ("conv3_1", 1.0), ("fc2", 1.0)]
    assert [own[name] / own["fc1"] for name, _ in blocks] == pytest.approx([times for _, times in blocks])
    recorded = METHODS["VIBNet"].plan(2, "test", 1e-3, BUDGETS["full"])
    assert recorded.recipe.layer_weights == {"conv1": 0.048, "conv2": 0.11, "flat": 1.1, "fc1": 1.1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": 4}, "table: got 4, expected 1, 2 or 3"),
        ({"table": 2.0}, "table: got 2.0, expected 1, 2 or 3"),
        ({"table": True}, "table: got True, expected 1, 2 or 3"),
        ({"table": 3, "methods": ["VD"]}, "VD on Table 3, expected Table 1 or 2"),
        ({"table": 1, "methods": ["vd"]}, "methods: got 'vd'"),
        ({"table": 1, "methods": ["PF"]}, "PF on Table 1, expected Table 2 or 3"),
        ({"table": 1, "budget": "none"}, "budget: got 'none'"),
        ({"table": 1, "jobs": 0}, "jobs: got 0"),
    ],
)
def test_bad_input(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        methods.compare_methods(out=tmp_path, **arguments)  # type: ignore[arg-type]
