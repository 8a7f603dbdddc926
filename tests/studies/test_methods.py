"""The compared methods in one harness: what is held out, chosen, run once, kept, drawn and refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import Call, call, points  # noqa: F401 (a fixture)
from vibtheory import datasets, networks
from vibtheory.datasets import from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks import registry as building
from vibtheory.networks.gates import named_gates
from vibtheory.studies import methods
from vibtheory.studies.experiment_runs import run_experiment
from vibtheory.studies.experiments import Experiment
from vibtheory.studies.methods import METHODS, Method, chosen, method_table
from vibtheory.training import single as training


def _invented(plan: Experiment, mode: str, **options: object) -> pd.DataFrame:
    """Rows of runs that never took place: dearer nets are smaller and worse; nets at a price above 1 collapse."""
    rows = []
    for recipe, seed in plan.jobs(mode):
        gamma = float(recipe.gamma)  # type: ignore[arg-type]
        error, r_w = 1.0 + 100 * gamma + 0.01 * (seed % 2), 1e-2 / gamma
        row = {"table": 1, "network": "n", "gamma": gamma, "seed": seed, "stage": "pruned", "error_last": error + 1,
               "error_best": error, "r_w": r_w, "r_n": 1.0, "flop": 9, "architecture": f"{seed}", "epochs": 1,
               "status": "completed" if gamma < 1 else "collapsed", "seconds": 1.0, "mode": mode}  # fmt: skip
        rows += [row] if gamma > 1 else [row, {**row, "stage": "finetuned", "error_last": error}]
    return pd.DataFrame(rows)


def test_methods_are_chosen_on_held_out_images_and_run_once(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    plans = []

    def watched(plan: Experiment, mode: str, **options: object) -> pd.DataFrame:
        plans.append((plan, mode))
        return _invented(plan, mode, **options)

    monkeypatch.setattr(methods, "run_experiment", watched)
    monkeypatch.setitem(METHODS, "doomed", Method("doomed", "vib", 1e4, 1e5))
    answer = call("methods", "--only", "VIBNet,L0-sep,doomed")
    assert answer.code == 0, answer.err
    assert "doomed: collapsed at every price" in answer.err
    assert [(plan.held_out, mode) for plan, mode in plans] == [(5000, "choose")] * 3 + [(0, "test")] * 2
    assert all(len(plan.jobs("choose")) == 8 for plan, mode in plans if mode == "choose")
    assert len({(plan.finetune, plan.recipe.epochs, plan.dataset) for plan, _ in plans}) == 1  # the same for all
    rows = pd.read_csv("figures/methods_table1.csv")
    assert Path("figures/methods_table1.png").read_bytes().startswith(b"\x89PNG")
    # Errors rise by 100 γ: within 0.3 of the best (at γ = 1e-4) is the largest price below 3.1e-3.
    assert chosen(rows) == {"VIBNet": 2e-3, "L0-sep": pytest.approx(3e-4 * (1e-2 / 3e-4) ** (4 / 7), rel=1e-3)}
    test = rows[rows["phase"] == "test"].groupby("method")
    assert {name: tuple(sorted(set(mine["seed"]))) for name, mine in test} == dict.fromkeys(
        ("L0-sep", "VIBNet"), (31, 32, 33)
    )
    assert "| VIBNet | 0.002 | 5.00 ± 0.00 | 1.21 ± 0.01 | 31 | 3 | 3.59 | 1.6 |" in answer.out
    assert "| BC-GNJ |  | not run |" in answer.out
    again = call("methods", "--only", "VIBNet")  # the others' rows stay
    assert again.out == answer.out
    assert len(pd.read_csv("figures/methods_table1.csv")) == len(rows)


def test_a_plan_trains_on_what_is_not_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load", lambda name, root: from_arrays(**points(), name="mnist"))
    monkeypatch.setitem(building._BUILDERS, "lenet_300_100", lambda law: networks.mlp((4, 5, 2), law=law))
    seen, in_turns = [], training.in_turns

    def watched(net, data, recipe, settings):  # type: ignore[no-untyped-def]
        seen.append((named_gates(net) != {}, len(data.x_train), len(data.x_test)))
        return in_turns(net, data, recipe, settings)

    monkeypatch.setattr(training, "in_turns", watched)
    plan = METHODS["GL"].plan(1, "choose", [1e-4], [30], True)
    plan = replace(plan, held_out=10, examples=20, recipe=replace(plan.recipe, epochs=1, pretrain_epochs=0))
    first = run_experiment(plan, "choose", runs=tmp_path)
    assert seen == [(True, 20, 10), (False, 20, 10)]  # with gates, and the small net that is fine-tuned
    run_experiment(plan, "choose", runs=tmp_path)
    assert len(seen) == 2  # read back
    run_experiment(replace(plan, held_out=0, examples=0), "choose", runs=tmp_path)
    assert seen[2:] == [(True, 40, 20), (False, 40, 20)]  # another run, of the true test set
    assert list(first["stage"]) == ["pruned", "finetuned"]


def _rows(*rows: tuple[str, str, float, float, float]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["method", "phase", "gamma", "r_w", "error_last"])
    return table.assign(stage="finetuned", architecture=[f"net{i}" for i in range(len(table))], flop=100)


def test_the_smallest_within_the_bar_is_chosen_or_else_the_best() -> None:
    rows = _rows(
        ("A", "choose", 1.0, 9.0, 1.5), ("A", "choose", 2.0, 5.0, 1.75), ("A", "choose", 3.0, 2.0, 1.9),
        ("B", "choose", 1.0, 8.0, 2.4), ("B", "choose", 2.0, 7.0, 2.2), ("B", "choose", 3.0, 1.0, 9.0),
    )  # fmt: skip
    assert chosen(rows) == {"A": 2.0, "B": 2.0}
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
    leaving = {"conv1": 25 * 50, "conv2": 16 * 500, "flat": 500, "fc1": 10}
    for spread, sizes in (("unit", dict.fromkeys(leaving, 1.0)), ("weights", leaving)):
        recipe = Method("x", "l0", 1e-4, 1e-3, spread).plan(2, "test", [1e-3], [1], False).recipe
        assert recipe.layer_weights is not None
        prices = {name: recipe.layer_weights[name] * gates[name].multiplier for name in sizes}
        total = sum(prices[name] * gates[name].features for name in sizes)
        assert total / sum(gate.features for gate in gates.values()) == pytest.approx(1)  # the mean unit's is the price
        ratios = [prices[name] / size for name, size in sizes.items()]
        assert np.ptp(ratios) < 1e-9 * ratios[0]
    recorded = METHODS["VIBNet"].plan(2, "test", [1e-3], [1], False)
    assert recorded.recipe.layer_weights == {"conv1": 0.048, "conv2": 0.11, "flat": 1.1, "fc1": 1.1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"table": 3}, "table: got 3, expected 1 or 2"), ({"table": 1, "methods": ["vd"]}, "methods: got 'vd'")],
)
def test_bad_input(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        methods.compare_methods(out=tmp_path, **arguments)  # type: ignore[arg-type]
