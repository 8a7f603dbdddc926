"""Every gate law by one table: penalty and moments by numerical integration, limits, extremes, cutting, training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from torch import nn

import vibtheory as vt
from tests.networks.test_weight_laws import WEIGHT_LAWS
from tests.small_net import small_data
from vibtheory.compression.metrics import compression
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import LAWS, GateLaw, make_gate, named_gates
from vibtheory.networks.gates.bc import log_uniform_divergence
from vibtheory.networks.lenet import mlp

Point = dict[str, float]
Array = NDArray[np.float64]
Function = Callable[[Array], Array]


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(60)


def _integral(f: Function, low: float, high: float, *breaks: float) -> float:
    """∫ f by Gauss–Legendre on each piece between the breaks."""
    edges = [low, *sorted(b for b in breaks if low < b < high), high]
    halves = [(0.5 * (b - a), 0.5 * (a + b)) for a, b in itertools.pairwise(edges)]
    return float(sum(h * (_WEIGHTS * f(middle + h * _NODES)).sum() for h, middle in halves))


def _normal(f: Function, *breaks: float) -> float:
    """E f(ε), ε ~ N(0, 1)."""
    return _integral(lambda e: np.exp(_log_normal(e, 0, 1)) * f(e), -12, 12, -6, -3, 0, 3, 6, *breaks)


def _log_normal(x: Array, m: float, s: float) -> Array:
    return -0.5 * ((x - m) / s) ** 2 - math.log(s * math.sqrt(2 * math.pi))


# ---- VIB: the law of f z against the Gaussian prior of equal second moment, at f = 1 ---------------------------------


def _vib_penalty(p: Point) -> float:
    m, s = p["mu"], math.exp(0.5 * p["log_var"])
    return _normal(lambda e: _log_normal(m + s * e, m, s) - _log_normal(m + s * e, 0, math.hypot(m, s)))


# ---- L0: z as a function of u ----------------------------------------------------------------------------------------


def _l0_stretched(p: Point, u: Array) -> Array:
    return 1.2 / (1 + ((1 - u) / u * math.exp(-p["logit"])) ** 1.5) - 0.1


def _l0_edge(p: Point, height: float) -> float:
    return float(optimize.brentq(lambda u: _l0_stretched(p, u) - height, 1e-12, 1 - 1e-12, xtol=1e-14))


def _l0_moment(p: Point, k: int) -> float:
    return _integral(lambda u: _l0_stretched(p, u).clip(0, 1) ** k, 0, 1, _l0_edge(p, 0.0), _l0_edge(p, 1.0))


# ---- SBP: x = log z, normal where it lies in [-20, 0] ----------------------------------------------------------------


def _sbp_expectation(p: Point, f: Callable[[Array, Array], Array]) -> float:
    """E f(x, log density of x)."""
    m, s = -math.log1p(math.exp(-p["location"])), math.exp(p["log_scale"])
    pieces = (-20, 0, *(m + k * s for k in (-8, -4, -2, 0, 2)), -8, -4, -2, -1)
    mass = _integral(lambda x: np.exp(_log_normal(x, m, s)), *pieces)

    def inside(x: Array) -> Array:
        log_density = _log_normal(x, m, s) - math.log(mass)
        return np.exp(log_density) * f(x, log_density)

    return _integral(inside, *pieces)


# ---- GNJ and GHS -----------------------------------------------------------------------------------------------------


def _gnj_penalty(p: Point) -> float:
    """E log|ε| + ½ log α + ½(Euler's constant + log 2), ε ~ N(1, 1/α)."""
    alpha = p["mu"] ** 2 * math.exp(-p["log_var"])
    zero = -math.sqrt(alpha)  # the logarithm's pole
    near = [zero + sign * 10.0**-k for k in range(7) for sign in (1, -1)]
    logarithm = _normal(lambda e: np.log(np.abs(1 - e / zero)), zero, *near)
    return logarithm + 0.5 * math.log(alpha) + 0.5 * (np.euler_gamma + math.log(2))


def _ghs_penalty(p: Point, prefix: str = "") -> float:
    """KL of both log-normal factors, as densities of x = log s, to Γ(½, 1) and its inverse."""
    total = 0.0
    for name, sign in (("gamma", 1.0), ("inverse", -1.0)):
        m, s = p[f"{prefix}{name}_location"], math.exp(0.5 * p[f"{prefix}{name}_log_var"])

        def difference(e: Array, m: float = m, s: float = s, sign: float = sign) -> Array:
            x = m + s * e
            return _log_normal(x, m, s) - stats.gamma(0.5).logpdf(np.exp(sign * x)) - sign * x

        total += _normal(difference)
    return total


def _ghs_moment(p: Point, k: int) -> float:
    names = [f"{prefix}{n}" for prefix in ("", "layer_") for n in ("gamma", "inverse")]
    m = 0.5 * sum(p[f"{n}_location"] for n in names)
    s = 0.5 * math.sqrt(sum(math.exp(p[f"{n}_log_var"]) for n in names))
    return _normal(lambda e: np.exp(k * (m + s * e)))


_GHS_LAYER = {"layer_gamma_location": 0.3, "layer_gamma_log_var": -2.0,
              "layer_inverse_location": -0.4, "layer_inverse_log_var": -1.5}  # fmt: skip


def _ghs_point(a: float, v: float, b: float, w: float) -> Point:
    return {"gamma_location": a, "gamma_log_var": v, "inverse_location": b, "inverse_log_var": w, **_GHS_LAYER}


@dataclass(frozen=True)
class Case:
    """A law: points (parameters of one unit), its penalty and moments there by integration, and its limit when shut."""

    points: list[Point]
    penalty: Callable[[Point], float]
    moment: Callable[[Point, int], float]
    shut: Point
    shut_penalty: float
    tolerance: float = 2e-4  # of the penalty: 2e-4 is float32 and quadrature; more where the law says "approximated"
    layer: Callable[[Point], float] = lambda p: 0.0
    ceilings: Point = field(default_factory=dict)  # above which float32 itself overflows


NORMAL = [{"mu": 1.3, "log_var": -2.0}, {"mu": -0.7, "log_var": 0.4}, {"mu": 0.2, "log_var": 1.0}]
LOGITS: list[Point] = [{"logit": v} for v in (2.5, 0.1, -1.4)]


def _normal_moment(p: Point, k: int) -> float:
    return _normal(lambda e: np.power(p["mu"] + math.exp(0.5 * p["log_var"]) * e, k))


CASES = {
    "vib": Case(NORMAL, _vib_penalty, _normal_moment, {"mu": 0.0}, 0.0, ceilings={"log_var": 80.0}),
    "l0": Case(LOGITS, lambda p: 1 - _l0_edge(p, 0.0), _l0_moment, {"logit": -40.0}, 0.0),
    "sbp": Case(
        [{"location": 1.5, "log_scale": -1.5}, {"location": -3.0, "log_scale": 0.8}, {"location": -9, "log_scale": 2}],
        lambda p: _sbp_expectation(p, lambda x, log_density: log_density + math.log(20)),
        lambda p, k: _sbp_expectation(p, lambda x, _: np.exp(k * x)),
        {"location": -10.0, "log_scale": 40.0}, 0.0,
    ),
    "gd": Case(
        LOGITS, lambda p: -float(stats.beta.logpdf(1 / (1 + math.exp(-p["logit"])), 0.1, 1.0)),
        lambda p, k: 1 / (1 + math.exp(-p["logit"])), {"logit": -50.0}, -0.9 * 50 + math.log(10),
    ),
    "bc-gnj": Case(NORMAL, _gnj_penalty, _normal_moment, {"log_var": 60.0}, 0.0, 0.0095, ceilings={"log_var": 80.0}),
    "bc-ghs": Case(
        [_ghs_point(0.2, -3.0, -0.3, -1.0), _ghs_point(-2.0, -0.5, 0.5, 0.2), _ghs_point(-5.0, -6.0, -3.0, 0.4)],
        _ghs_penalty, _ghs_moment, {"gamma_location": -40.0, "layer_gamma_log_var": math.log(2), **{
            f"{p}{n}_log_var": math.log(2) for p in ("", "layer_") for n in ("gamma", "inverse")}}, 40 / 2 + math.e - 1,
        layer=lambda p: _ghs_penalty(p, "layer_"),
    ),
}  # fmt: skip


def _gate(law: str, points: list[Point]) -> GateLaw:
    gate = make_gate(law, len(points))
    for name, parameter in gate.named_parameters():
        values = [p.get(name, float(parameter.detach().flatten()[0])) for p in points]
        parameter.data.copy_(torch.tensor(values if parameter.ndim else values[0]))
    return gate


def test_each_law_has_a_case() -> None:
    assert {*CASES, *WEIGHT_LAWS, "vd", "open", "rnp"} == set(LAWS)  # test_vd.py and test_rnp.py have those three


@pytest.mark.parametrize("law", CASES)
def test_penalty_and_its_gradient_by_integration(law: str) -> None:
    case = CASES[law]
    gate = _gate(law, case.points)
    truth = [case.penalty(p) for p in case.points]
    layer = case.layer(case.points[0])
    assert gate.penalty().item() == pytest.approx(sum(truth) + layer, abs=3 * case.tolerance, rel=2e-5)
    gate.penalty().backward()
    step = 1e-2
    for name, parameter in gate.named_parameters():
        if not parameter.ndim:
            continue
        assert parameter.grad is not None
        for j, p in enumerate(case.points):
            up, down = (case.penalty({**p, name: p[name] + sign * step}) for sign in (1, -1))
            wanted = (up - down) / (2 * step)
            assert float(parameter.grad[j]) == pytest.approx(wanted, abs=5e-4 + 3 * case.tolerance, rel=2e-3)
    gate.close(torch.tensor([1]))
    assert gate.penalty().item() == pytest.approx(truth[0] + truth[2] + layer, abs=3 * case.tolerance, rel=2e-5)


def test_the_stated_error_of_the_log_uniform_divergence() -> None:
    logs = np.linspace(-12, 12, 49)
    truth = np.array([_gnj_penalty({"mu": 1.0, "log_var": -log}) for log in logs])
    error = np.abs(log_uniform_divergence(torch.from_numpy(logs)).numpy() - truth)
    assert logs[error.argmax()] == 3.5
    assert error.max() == pytest.approx(0.0094, abs=1e-4)


@pytest.mark.parametrize("law", CASES)
def test_samples_have_the_moments_of_the_law(law: str) -> None:
    case, n = CASES[law], 40_000
    gate = _gate(law, case.points)
    torch.manual_seed(3)
    drawn = gate.sample(n).detach().double()
    for j, p in enumerate(case.points):
        first, second, fourth = (case.moment(p, k) for k in (1, 2, 4))
        assert float(drawn[:, j].mean()) == pytest.approx(first, abs=5 * math.sqrt((second - first**2) / n) + 1e-6)
        spread = 5 * math.sqrt(max(fourth - second**2, 0) / n)
        assert float(drawn[:, j].square().mean()) == pytest.approx(second, abs=spread + 1e-6)
    if law == "l0":
        assert (drawn > 0).double().mean(0).tolist() == pytest.approx(
            [case.penalty(p) for p in case.points], abs=5 * 0.5 / math.sqrt(n)
        )
    torch.manual_seed(3)
    assert torch.equal(gate.sample(n, slice(7, 9)).double(), drawn[7:9])  # what a process of several draws
    torch.manual_seed(3)
    gate(torch.ones(n, 3)).sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in gate.parameters())


@pytest.mark.parametrize("law", CASES)
def test_evaluation_multiplies_by_the_mean_of_what_is_kept(law: str) -> None:
    case = CASES[law]
    gate = _gate(law, [*case.points, case.shut]).eval()
    h = torch.full((2, 4), 1.7)
    wanted = [case.moment(p, 1) for p in case.points]
    if law == "l0":  # its evaluation leaves noise and temperature out (as in the paper)
        wanted = [min(1.0, max(0.0, 1.2 / (1 + math.exp(-p["logit"])) - 0.1)) for p in case.points]
    keep = gate.keep.tolist()
    assert keep[0]
    assert not keep[3]
    for j, value in enumerate(wanted):
        assert gate(h)[1, j].item() == pytest.approx(1.7 * value if keep[j] else 0.0, rel=2e-5, abs=1e-6)
    if law in ("sbp", "bc-ghs"):
        moments = [(case.moment(p, 1), case.moment(p, 2)) for p in case.points]
        assert keep[:3] == [m / math.sqrt(s - m * m) > 1 for m, s in moments]
    assert gate(h)[:, 3].tolist() == [0.0, 0.0]
    gate.sample_in_eval = True
    assert gate(h)[0, 3].item() == 0.0


@pytest.mark.parametrize("law", CASES)
def test_limit_of_a_shut_unit(law: str) -> None:
    case = CASES[law]
    found = _gate(law, [case.shut]).penalty().item()
    if law == "bc-ghs":  # against its own layer's factors, which have another value here
        rest = {"gamma_location": 0.0, "inverse_location": 0.0}
        shut = {**dict.fromkeys(_GHS_LAYER, 0.0), **rest, **case.shut}
        wanted = _ghs_penalty({**shut, "gamma_location": -10.0}) + 30 / 2 + math.exp(-40 + 1) - math.exp(-10 + 1)
        assert found == pytest.approx(wanted + _ghs_penalty(shut, "layer_"), rel=1e-4)
    else:
        assert found == pytest.approx(case.shut_penalty, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("law", CASES)
def test_nothing_overflows_anywhere(law: str, dtype: torch.dtype) -> None:
    names = [name for name, p in make_gate(law, 1).named_parameters() if p.ndim]
    scalars = [name for name, p in make_gate(law, 1).named_parameters() if not p.ndim]
    grid = [-1e3, -30.0, -0.5, 0.0, 30.0, 1e3]
    chosen = itertools.product(grid, repeat=len(names)) if len(names) < 3 else [
        tuple(np.roll(grid, shift)[: len(names)]) for shift in range(6)]  # fmt: skip
    points = [
        {name: min(v, CASES[law].ceilings.get(name, v)) for name, v in zip(names, values, strict=True)}
        for values in chosen
    ]
    for value in (-1e3, 0.0, 1e3):
        gate = _gate(law, [p | dict.fromkeys(scalars, value) for p in points]).to(dtype)
        h = torch.ones(3, len(points), dtype=dtype)
        torch.manual_seed(0)
        out, penalty = gate(h), gate.penalty()
        (1e-9 * out.float().clamp(-1e9, 1e9).sum() + penalty).backward()
        found = [out, penalty, gate.eval()(h), *(p.grad for p in gate.parameters())]
        assert all(bool(t.isfinite().all()) for t in found if t is not None)
        if not scalars:
            break


def _spread_out(net: nn.Module, law: str) -> nn.Module:
    """Gates of every kind of point, a third of each layer's shut."""
    case = CASES[law]
    for gate in named_gates(net).values():
        points = [case.shut if j % 3 == 2 else case.points[j % 2] for j in range(gate.features)]
        gate.load_state_dict(_gate(law, points).state_dict())
    return net.eval()


@pytest.mark.parametrize("law", CASES)
def test_a_compressed_net_computes_what_the_gated_one_does(law: str) -> None:
    torch.manual_seed(1)
    image = torch.randn(3, 1, 8, 8)
    plain = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 7, 3),
                          nn.ReLU(), nn.Flatten(), nn.Linear(7, 5), nn.Sigmoid(), nn.Linear(5, 3))  # fmt: skip
    for net, x in ((mlp((6, 9, 7, 3), law=law), torch.randn(4, 6)), (vt.insert_gates(plain, image, law=law), image)):
        _spread_out(net, law)
        small = vt.compress(net, x)
        torch.testing.assert_close(small(x), net(x), rtol=1e-4, atol=1e-5)
        assert not named_gates(small)
        weights = sum(p.numel() for p in small.parameters() if p.ndim > 1)
        assert (
            weights
            == compression(net, example_input=x).weights
            < sum(p.numel() for p in net.parameters() if p.ndim > 1)
        )


@pytest.mark.parametrize("law", CASES)
def test_training_pays_the_price_and_a_saved_run_comes_back(law: str, tmp_path: Path) -> None:
    data = small_data(40)
    options = {"epochs": 3, "batch_size": 20, "prune_every": 1, "pretrain_epochs": 1, "gate_learning_rate": 0.1}
    runs = {}
    for gamma in (0.0, 0.3):
        torch.manual_seed(4)
        runs[gamma] = vt.train(mlp((6, 5, 4, 3), law=law), data, gamma=gamma, seed=1, **options)
    free, run = runs.values()
    assert run.history["information"].iloc[-1] < free.history["information"].iloc[-1]
    x = torch.randn(5, 6)
    back = vt.load(run.save(tmp_path / "run"))
    assert torch.equal(back.net(x), run.net(x))
    assert {gate.law for gate in named_gates(back.net).values()} == {law}
    total = sum(gate.penalty().item() for gate in named_gates(back.net).values())
    assert run.history["information"].iloc[-1] == pytest.approx(total, rel=1e-6)


BAD = {
    "one of vib, l0, sbp, gd": lambda: mlp((4, 3), law="lo"),
    "of multiplier, threshold, axis, logit": lambda: vt.insert_gates(
        nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), torch.ones(1, 2), law="l0", mean=1.0
    ),
    "gate of the law 'l0'": lambda: vt.check_network(mlp((6, 5, 3), law="l0"), small_data(), gamma=1e-3),
    "'h1', a gate of the law 'gd'": lambda: vt.layer_law(mlp((6, 5, 3), law="gd"), torch.ones(2, 6), "h1"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        BAD[message]()
