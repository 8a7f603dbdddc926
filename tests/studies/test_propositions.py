"""Props 1 and 2: closed forms against optimisers, ODE solvers and other quadrature; killed units on a network."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.integrate
import scipy.optimize
import torch

from vibtheory.errors import InvalidInputError
from vibtheory.figures import plot_dead_units
from vibtheory.networks.lenet import mlp
from vibtheory.studies.propositions import absorb_constant_unit, check_dead_unit
from vibtheory.theory.dead_gate import dead_gate_flow
from vibtheory.theory.silent_gate import closed_mean_information, constant_unit


def test_prop_1_counter_example() -> None:
    found = constant_unit(5.0, 0.1)
    assert found.refutes
    assert found.open_value == pytest.approx(0.652, abs=5e-4)
    assert found.open_alpha == pytest.approx(249)

    def loss(p: np.ndarray) -> float:
        return float((5 - p[0]) ** 2 + np.exp(p[1]) + 0.1 * np.log1p(p[0] ** 2 * np.exp(-p[1])))

    best = scipy.optimize.minimize(loss, [4.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    assert best.fun == pytest.approx(found.open_value, abs=1e-9)
    assert not constant_unit(0.3, 0.1).refutes
    with pytest.raises(InvalidInputError, match="gamma"):
        constant_unit(5.0, 0.0)


def test_prop_1_converse() -> None:
    assert closed_mean_information([1.0, 2.0], sigma=1.0).nats == pytest.approx(0.0927, abs=5e-5)
    far = closed_mean_information([1.0, 2.0, -3.0, 0.0], [1, 2, 3, 4], sigma=7.0)
    assert far.nats == pytest.approx(closed_mean_information([1.0, 2.0, -3.0, 0.0], [1, 2, 3, 4]).nats, abs=1e-9)
    assert far.nats <= far.bound
    assert closed_mean_information([2.0, -2.0]).nats == pytest.approx(0, abs=1e-10)
    assert closed_mean_information([0.0]).nats == 0
    for base in (1e100, 1e200):  # three scales apart: h tells which
        assert closed_mean_information([1 / base, 1.0, base]).nats == pytest.approx(np.log(3))
    for change in ({"values": []}, {"probabilities": [1.0, 0.0]}, {"sigma": 0.0}):
        with pytest.raises(InvalidInputError, match=next(iter(change))):
            closed_mean_information(**({"values": [1.0, 2.0]} | change))


@pytest.mark.parametrize(
    ("coordinates", "mu", "sigma", "end"),
    [("sigma", 1.3, 0.2, 3), ("log_variance", 1.3, 0.2, 3), ("log_variance", -60.0, 1.0, 30)],
    ids=["sigma", "log variance", "a large mean"],  # e^{μ²/4} is no number
)
def test_dead_gate_flow_against_an_ode_solver(coordinates: str, mu: float, sigma: float, end: float) -> None:
    gamma = 0.7

    def velocity(_: float, s: np.ndarray) -> list[float]:
        variance = s[1] ** 2 if coordinates == "sigma" else np.exp(s[1])
        total = s[0] ** 2 + variance
        return [
            -2 * gamma * s[0] / total,
            gamma * s[0] ** 2 / total * (2 / s[1] if coordinates == "sigma" else 1.0),
        ]

    times = np.linspace(0, end, 9)
    flow = dead_gate_flow(mu, sigma, gamma, times, coordinates)
    start = [mu, sigma if coordinates == "sigma" else 2 * np.log(sigma)]
    truth = scipy.integrate.solve_ivp(velocity, (0, end), start, t_eval=times, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(flow.mu, truth.y[0], atol=1e-8)
    kept = flow.mu**2 + (flow.sigma**2 if coordinates == "sigma" else 8 * np.log(flow.sigma))
    np.testing.assert_allclose(kept, flow.invariant, rtol=1e-10)
    assert (np.diff(flow.alpha) < 0).all()


@pytest.mark.parametrize("mu", [0.3, 2.3, 5.0])
@pytest.mark.parametrize("coordinates", ["sigma", "log_variance"])
def test_the_flow_begins_as_the_gradient_says(mu: float, coordinates: str) -> None:
    """However early: rounding may show no motion at all, or of dμ/dt = −2γμ/(μ²+σ²)."""
    times = np.array([1e-300, 1e-18, 1e-17, 1e-6])
    flow = dead_gate_flow(mu, 1.0, 0.7, times, coordinates)
    np.testing.assert_allclose(flow.mu, mu - 1.4 * mu / (mu**2 + 1) * times, rtol=1e-11)
    np.testing.assert_allclose(flow.sigma, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"gamma": -1.0}, "gamma"),
        ({"time": [-1.0]}, "time"),
        ({"coordinates": "x"}, "coord"),
    ],
)
def test_flow_bad_input(change: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        dead_gate_flow(**({"mu": 1.0, "sigma": 1.0, "gamma": 1.0, "time": [0.0, 1.0]} | change))  # type: ignore[arg-type]


def network() -> tuple[torch.nn.Sequential, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(1)
    x = torch.randn(300, 6)
    return mlp((6, 10, 3)), (x, (x[:, 0] > 0).long() + (x[:, 1] > 1).long())


@pytest.mark.parametrize("proposition", [1, 2])
def test_a_killed_unit_closes(proposition: int) -> None:
    net, data = network()
    report = check_dead_unit(
        net,
        data,
        "h1",
        4,
        gamma=0.05,
        steps=400,
        learning_rate=0.05,
        proposition=proposition,  # type: ignore[arg-type]
    )
    assert report.verdict == "α falls"
    assert report.alpha[-1] < 1 < report.alpha[0]
    assert report.data_gradient == 0
    assert net.linear2.weight[:, 4].abs().max() > 0  # a copy was killed
    figure = report.plot()
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), np.maximum(report.alpha, 1e-12))  # log axis
    plt.close(figure)


def test_the_figure_of_killed_units_reads_a_table_only() -> None:
    table = pd.DataFrame({
        "layer": ["h1", "h1", "h2", "h2", "h2", "h2"], "unit": [3, 3, 0, 0, 0, 0], "proposition": [2, 2, 1, 1, 2, 2],
        "step": [0, 5] * 3, "alpha": [9.0, 2.0, 8.0, 0.5, 7.0, 0.0],
    })  # fmt: skip
    figure = plot_dead_units(table)
    drawn = [[list(line.get_ydata()) for line in axes.lines[:-1]] for axes in figure.axes]
    assert drawn == [[[8.0, 0.5]], [[9.0, 2.0], [7.0, 1e-12]]]  # a logarithmic axis has no 0
    assert figure.axes[0].lines[0].get_color() == figure.axes[1].lines[1].get_color()  # one colour per layer
    plt.close(figure)
    with pytest.raises(InvalidInputError, match="no column step"):
        plot_dead_units(table.drop(columns="step"))
    with pytest.raises(InvalidInputError, match="0 rows"):
        plot_dead_units(table[:0])


def test_small_steps_conserve_the_invariant_of_log_variance_coordinates() -> None:
    net, data = network()
    with torch.no_grad():
        net.h1.log_var.fill_(-2.0)
    report = check_dead_unit(net, data, "h1", 2, gamma=1.0, steps=300, learning_rate=1e-3, optimizer="sgd")
    assert report.drift < 1e-3
    flow = dead_gate_flow(1.0, np.exp(-1.0), 0.5, [0.3], "log_variance")
    assert report.alpha[-1] == pytest.approx(flow.alpha[0], rel=1e-3)


def test_a_constant_unit_moves_into_the_bias() -> None:
    net, data = network()
    with torch.no_grad():
        net.linear1.weight[5], net.linear1.bias[5] = 0.0, 1.5
        net.h1.log_var[5] = -1.0
    absorbed, report = absorb_constant_unit(net, data, "h1", 5)
    assert report.status == "absorbed"
    assert report.loss_after <= report.loss_before
    assert not absorbed.h1.active[5]
    shifted = torch.nn.functional.cross_entropy(absorbed.eval()(data[0]), data[1])
    assert shifted.item() == pytest.approx(report.loss_after, rel=1e-5)
    with pytest.raises(InvalidInputError, match="unit"):
        absorb_constant_unit(net, data, "h1", 0)
    with pytest.raises(InvalidInputError, match="unit"):
        absorb_constant_unit(net, data, "h1", 99)
    net.linear2.bias = None
    with pytest.raises(InvalidInputError, match="layer"):
        absorb_constant_unit(net, data, "h1", 5)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"unit": 99}, "unit"),
        ({"layer": "h7"}, "layer"),
        ({"gamma": None}, "gamma"),
        ({"gamma": 0.0}, "gamma"),
        ({"steps": 0}, "steps"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"optimizer": "lion"}, "optimizer"),
        ({"proposition": 3}, "proposition"),
        ({"proposition": 1, "layer": "input"}, "proposition"),
        ({"data": torch.zeros(3)}, "data"),
        ({"data": (torch.zeros(3, 6), torch.zeros(2))}, "data"),
    ],
)
def test_bad_input(change: dict[str, object], name: str) -> None:
    net, data = network()
    with pytest.raises(InvalidInputError, match=f"^{name}"):
        check_dead_unit(**({"net": net, "data": data, "layer": "h1", "unit": 1, "gamma": 0.1} | change))  # type: ignore[arg-type]


def test_a_closed_unit_is_refused() -> None:
    net, data = network()
    net.h1.close(torch.tensor([1]))
    with pytest.raises(InvalidInputError, match="unit"):
        check_dead_unit(net, data, "h1", 1, gamma=0.1)
