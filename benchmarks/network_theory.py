"""T4 and T7 on a trained network: the real loss's minimum, dead units, and the rank-free budget against γ.

    python benchmarks/network_theory.py RUN --name lenet_300_100 [--data mnist] [--examples 2000] [--out figures]

Writes OUT/real_loss_NAME.{csv,png} (J minimised over the last hidden layer's gates from the trained ones, T2, T3 and
T4a asserted at its certified minimum), OUT/dead_units_NAME.{csv,png} (Props 1 and 2: in each layer the open unit of
median α is killed and the gates go on training) and OUT/budget_NAME.{csv,png}. Everything is computed on `--examples`
random training images; the count stands in the tables. `--parts` picks some.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

import vibtheory as vt
from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.affine import matrix_of
from vibtheory.bridge.checking import quadratic_bound, theory_gamma
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import InvalidInputError
from vibtheory.figures import plot_budget, plot_dead_units, plot_descent, save
from vibtheory.networks.gates import named_gates
from vibtheory.studies.propositions import check_dead_unit
from vibtheory.theory.a_priori import at_rank
from vibtheory.theory.landscape import survivor_limit
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.rank import numerical_rank
from vibtheory.theory.real_loss import check_real_loss, minimise_real_loss
from vibtheory.theory.softmax_loss import SoftmaxLoss

FACTORS = (0.1, 1.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)  # far up: the budget is loose at trained prices


def real_loss(net: nn.Module, data: Dataset, out: Path, name: str, steps: int) -> None:
    layer = list(named_gates(net))[-1]
    view = GatedLayer(net, layer, np.asarray(data.x_train), np.asarray(data.y_train), data.likelihood)
    assert view.prefix is not None
    weights, offset = matrix_of(view.prefix, view.shape)
    f = np.concatenate([batch.f.numpy() for batch in view.batches()])
    problem = SoftmaxLoss(weights.numpy(), offset.numpy(), f, data.y_train, theory_gamma(net, layer), layer=layer)
    minimum = minimise_real_loss(problem, view.anchor)
    report = check_real_loss(minimum)
    print(minimum, report, sep="\n")
    assert report.verdict != "violated", report
    assert max(np.diff(minimum.history), default=0.0) <= 1e-12 * abs(minimum.value), "J rose"
    silent = int((np.abs(f).max(0) == 0).sum())
    deaf = int((np.abs(problem.V).max(0) == 0).sum())
    unit = int(np.argmin(np.where(view.anchor != 0, np.abs(view.anchor), np.inf)))
    dead = check_dead_unit(net, data, layer, unit, steps=steps)
    print(dead)
    row = {
        "layer": layer, "examples": len(f), "verdict": report.verdict, "d": problem.d,
        "trained_open": int((view.anchor != 0).sum()), "open_at_minimum": minimum.nonzeros, "rank": report.rank,
        "soft_rank_sharp": report.soft_rank, "T4a": report.collinearity and report.collinearity.verdict,
        "J_start": minimum.history[0],
        "J_end": minimum.value, "loss": minimum.loss, "steps": len(minimum.steps),
        "largest_rise": float(max(np.diff(minimum.history), default=0.0)), "certificate": minimum.certificate.status,
        "kantorovich": minimum.certificate.kantorovich, "always_zero_units": silent, "unheard_units": deaf,
        "prop2_unit": unit, "prop2_verdict": dead.verdict, "prop2_alpha_start": dead.alpha[0],
        "prop2_alpha_end": dead.alpha[-1], "prop2_steps": steps, "prop2_data_gradient": dead.data_gradient,
    }  # fmt: skip
    pd.DataFrame([row]).to_csv(out / f"real_loss_{name}.csv", index=False)
    save(plot_descent(minimum, f"{name}, {layer}"), out / f"real_loss_{name}", ("png",))


def dead_units(net: nn.Module, data: Dataset, out: Path, name: str, steps: int) -> None:
    rows = []
    for layer, gate in named_gates(net).items():
        alpha = gate.alpha.detach().cpu().numpy()
        among = np.flatnonzero(gate.keep.cpu().numpy())
        unit = int(among[np.argsort(alpha[among])[len(among) // 2]])
        for proposition in (1, 2):
            try:
                report = check_dead_unit(net, data, layer, unit, steps=steps, proposition=proposition)
            except InvalidInputError as error:  # no ReLU before the gate whose unit could fall silent
                print(f"{layer}, Prop {proposition}: {error}")
                continue
            print(report, flush=True)
            for step in range(0, steps + 1, 5):
                rows.append({
                    "layer": layer, "unit": unit, "proposition": proposition, "examples": len(data.x_train),
                    "step": step, "alpha": report.alpha[step], "data_gradient": report.data_gradient,
                    "verdict": report.verdict,
                })  # fmt: skip
    table = pd.DataFrame(rows)
    table.to_csv(out / f"dead_units_{name}.csv", index=False)
    save(plot_dead_units(table, name), out / f"dead_units_{name}", ("png",))


def budget(net: nn.Module, data: Dataset, out: Path, name: str) -> None:
    rows = []
    for layer in named_gates(net):
        bound = quadratic_bound(net, data, layer)
        ranks = numerical_rank(bound)
        start = bound.trained_mu
        for factor in FACTORS:
            priced = bound.with_gamma(bound.gamma * factor)
            minimum, known = find_local_minimum(priced, start), at_rank(priced, ranks)
            rows.append({
                "layer": layer, "kind": bound.guarantee.kind, "d": bound.d, "examples": len(data.x_train),
                "factor": factor, "gamma": float(priced.gamma[0]), "beta_squared": bound.beta_norm() ** 2,
                "budget": survivor_limit(priced), "survivors": int((minimum.alpha >= 1).sum()), "rank": ranks.rank,
                "a_priori": known.limit, "a_priori_from_gamma": known.from_gamma, "open": minimum.nonzeros,
                "certificate": minimum.certificate.status,
            })  # fmt: skip
            within = rows[-1]["survivors"] <= rows[-1]["budget"] and minimum.nonzeros <= known.limit
            assert within or not minimum.certificate.certified
    table = pd.DataFrame(rows)
    print(table.to_string())
    table.to_csv(out / f"budget_{name}.csv", index=False)
    save(plot_budget(table), out / f"budget_{name}", ("png",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a saved run")
    parser.add_argument("--name", required=True, help="ends the files' names")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=150, help="of the gates' training beside a dead unit")
    parser.add_argument("--parts", nargs="+", default=["real_loss", "dead_units", "budget"])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    arguments = parser.parse_args()
    data = vt.datasets.load(arguments.data).subset(arguments.examples, seed=0)
    net = vt.load(arguments.run).net
    arguments.out.mkdir(parents=True, exist_ok=True)
    if "real_loss" in arguments.parts:
        real_loss(net, data, arguments.out, arguments.name, arguments.steps)
    if "dead_units" in arguments.parts:
        dead_units(net, data, arguments.out, arguments.name, arguments.steps)
    if "budget" in arguments.parts:
        budget(net, data, arguments.out, arguments.name)


if __name__ == "__main__":
    main()
