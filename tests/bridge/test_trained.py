"""T8 on networks: estimates against quadrature, the training objective against training's own, polishing, controls."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.small_net import small_data, small_net
from vibtheory.bridge import trained as trained_module
from vibtheory.bridge.checking import checked
from vibtheory.bridge.kinds import BoundOptions
from vibtheory.bridge.trained import _Curvature, check_trained
from vibtheory.datasets import Dataset, from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates, objective
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.lenet import mlp
from vibtheory.networks.likelihood import likelihood_loss
from vibtheory.theory.trained_objective import TrainedNetworkReport


def _objective(net: nn.Module, data: Dataset, gamma: float = 0.01, **options: int) -> _Curvature:
    return _Curvature(checked(net, data, None, gamma), BoundOptions(**options))  # type: ignore[arg-type]


def test_gradient_and_curvature_against_quadrature_kinks_included() -> None:
    # two gates before a ReLU layer: E g is an integral over the plane, and Stein's identity needs g alone
    torch.manual_seed(1)
    gate, first, last = Gate(2), nn.Linear(2, 5), nn.Linear(5, 3)
    net = nn.Sequential(gate, first, nn.ReLU(), last).double()
    mu, sigma = np.array([0.8, -0.6]), np.array([0.5, 0.9])
    gate.mu.data, gate.log_var.data = torch.tensor(mu), torch.tensor(2 * np.log(sigma))
    x, y = np.array([[1.5, -1.0], [-0.7, 2.0]]), np.array([0, 2])
    w, c, v, e = (p.detach().numpy() for p in (first.weight, first.bias, last.weight, last.bias))
    line = np.linspace(-6, 6, 201)
    eps = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    weight = np.exp(-0.5 * (eps**2).sum(1))
    weight /= weight.sum()
    slope, truth, smooth = np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2))
    for f, label in zip(x, y, strict=True):
        pre = (f * (mu + sigma * eps)) @ w.T + c
        logits = np.maximum(pre, 0) @ v.T + e
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        g = -np.log(p[:, label])
        slope += (weight * g) @ eps / sigma / 2
        truth += (
            (np.einsum("s,si,sj->ij", weight * g, eps, eps) - (weight @ g) * np.eye(2)) / np.outer(sigma, sigma) / 2
        )
        jacobian = np.einsum("kh,sh,hd->skd", v, pre > 0, w) * f
        centred = jacobian - np.einsum("sk,skd->sd", p, jacobian)[:, None]
        smooth += np.einsum("s,sk,ski,skj->ij", weight, p, centred, centred) / 2
    repeated = from_arrays(np.tile(x, (800, 1)), np.tile(y, 800), x, y, classes=3)
    mine = _objective(net, repeated)
    assert mine.ways == {"0": "relu"}
    slopes, _, by_kernel = mine.estimates(12)
    mine.ways = {"0": "stein"}
    by_stein = mine.estimates(12)[2]
    for estimates, exact in ((slopes, slope), (by_kernel["0"][0], truth), (by_stein["0"][0], truth)):
        error = estimates.std(0, ddof=1) / np.sqrt(12)
        assert (np.abs(estimates.mean(0) - exact) < 4 * error + 0.02 * np.abs(exact).max()).all()
        assert error.max() < 0.06 * np.abs(exact).max()
    gauss = by_kernel["0"][1]
    assert np.abs(gauss - smooth).max() < 0.03 * np.abs(smooth).max()
    assert np.abs(truth - smooth).max() > 0.2 * np.abs(truth).max()  # without the kinks it would be wrong


@pytest.fixture(scope="module")
def two_layers() -> tuple[nn.Sequential, Dataset, np.ndarray, np.ndarray]:
    """Two gates, ReLU, one gate; with E ∇g [3] and E ∇²g [3, 3] by Stein's identity on a grid of the three noises."""
    torch.manual_seed(1)
    gates, first, last = (Gate(2), Gate(1)), nn.Linear(2, 1), nn.Linear(1, 3)
    net = nn.Sequential(gates[0], first, nn.ReLU(), gates[1], last).double()
    mu, sigma = np.array([0.8, -0.6, 1.1]), np.array([0.5, 0.9, 0.4])
    for gate, own in zip(gates, (slice(0, 2), slice(2, 3)), strict=True):
        gate.mu.data, gate.log_var.data = torch.tensor(mu[own]), torch.tensor(2 * np.log(sigma[own]))
    x, y = np.array([[1.5, -1.0], [-0.7, 2.0], [0.1, 0.2]]), np.array([0, 2, 1])
    last.weight.data *= 3
    w, c, v, e = (p.detach().numpy() for p in (first.weight, first.bias, last.weight, last.bias))
    line = np.linspace(-5.5, 5.5, 91)
    eps = np.stack(np.meshgrid(line, line, line), -1).reshape(-1, 3)
    weight = np.exp(-0.5 * (eps**2).sum(1))
    weight /= weight.sum()
    z = mu + sigma * eps
    slope, truth = np.zeros(3), np.zeros((3, 3))
    for f, label in zip(x, y, strict=True):
        logits = z[:, 2:] * np.maximum((f * z[:, :2]) @ w.T + c, 0) @ v.T + e
        g = np.log(np.exp(logits - logits[:, [label]]).sum(1))
        slope += (weight * g) @ eps / sigma / 3
        truth += ((weight * g * eps.T) @ eps - (weight @ g) * np.eye(3)) / np.outer(sigma, sigma) / 3
    return net, from_arrays(np.tile(x, (1500, 1)), np.tile(y, 1500), x, y, classes=3), slope, truth


class _StraightThrough(nn.Module):
    """The sign, with the backward pass of the identity."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (x.sign() - x).detach()


class _Rounded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.round()


@pytest.mark.parametrize(
    ("bent", "function", "slope"),
    [
        (nn.Hardshrink(0.6), lambda t: t * (abs(t) > 0.6), lambda t: abs(t) > 0.6),
        (_StraightThrough(), np.sign, np.ones_like),
        (_Rounded(), np.round, np.zeros_like),
        (nn.Softshrink(0.3), lambda t: np.sign(t) * np.maximum(abs(t) - 0.3, 0), lambda t: abs(t) > 0.3),
        (nn.ELU(), lambda t: np.where(t > 0, t, np.expm1(t)), lambda t: np.where(t > 0, 1, np.exp(t))),
    ],
)  # fmt: skip
def test_a_network_whose_slopes_are_not_its_objectives_is_not_judged(
    bent: nn.Module, function: Callable[[np.ndarray], np.ndarray], slope: Callable[[np.ndarray], np.ndarray]
) -> None:
    # two gates before a function and a sum: integrals over each gate alone, ½(Σ a_j − y)² by its mean and variance
    gate, last = Gate(2), nn.Linear(2, 1, bias=False)
    nn.init.ones_(last.weight)
    net = nn.Sequential(gate, bent, last).double()
    mu, sigma = np.array([0.8, -0.5]), np.array([0.4, 0.7])
    gate.mu.data, gate.log_var.data = torch.tensor(mu), torch.tensor(2 * np.log(sigma))
    x, y = np.array([[1.5, -1.0], [-0.7, 2.0]]), np.array([[1.0], [-0.5]])
    eps = np.linspace(-8, 8, 400_001)
    weight = np.exp(-0.5 * eps**2) / np.exp(-0.5 * eps**2).sum()
    truth, by_slopes = np.zeros(2), np.zeros(2)
    for f, target in zip(x, y[:, 0], strict=True):
        entering = [f[j] * (mu[j] + sigma[j] * eps) for j in (0, 1)]
        own = [(function(t), f[j] * slope(t)) for j, t in enumerate(entering)]
        means = [weight @ a for a, _ in own]
        for j, (a, inner) in enumerate(own):
            off = a + means[1 - j] - target  # the other gate's variance does not depend on this one
            truth[j] += (weight * eps) @ (off**2 / 2) / sigma[j] / 2
            by_slopes[j] += weight @ (off * inner) / 2
    data = from_arrays(np.tile(x, (1000, 1)), np.tile(y, (1000, 1)), x, y, likelihood="gaussian")
    slopes, missed, _ = _objective(net, data).estimates(8)
    for estimates, exact in ((slopes, by_slopes), (missed, truth - by_slopes)):
        error = estimates.std(0, ddof=1) / np.sqrt(8)
        assert (np.abs(estimates.mean(0) - exact) < 5 * error + 1e-4).all()
        assert error.max() < 0.06
    (report,) = check_trained(net, data, gamma=0.05)
    jumps = bool(np.abs(truth - by_slopes).max() > 1e-3)
    assert jumps == (not isinstance(bent, nn.Softshrink | nn.ELU))
    assert jumps == ("jumps" in report.reason)
    assert report.verdict == ("not resolved" if jumps else "not at a minimum")
    assert report.missed is not None
    assert report.row()["missed"] == report.missed.value


@pytest.mark.parametrize("shared", [False, True])
def test_all_layers_at_once_against_quadrature(
    two_layers: tuple[nn.Sequential, Dataset, np.ndarray, np.ndarray], shared: bool
) -> None:
    net, data, slope, truth = two_layers
    mine = _objective(net, data)
    assert mine.ways["all layers"] == "chain"
    if shared:
        mine.share()
        times = np.bincount(mine.index).reshape(-1, 3).mean(0)
        assert 1 <= times[2] < 0.7 * min(times[:2])  # the third example's inputs are small
    slopes, _, found = mine.estimates(10)
    hessians, gauss = found["all layers"]
    for estimates, exact in ((slopes, slope), (hessians, truth)):
        error = estimates.std(0, ddof=1) / np.sqrt(10)
        assert (np.abs(estimates.mean(0) - exact) < 4 * error + 0.02 * np.abs(exact).max()).all()
        assert error.max() < 0.08 * np.abs(exact).max()
    assert np.abs(truth - gauss)[:2, 2].max() > 0.2 * np.abs(truth).max()  # without the products it would be wrong


def test_the_kinks_of_a_pool_against_quadrature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained_module, "_WIDTH", 0.2)  # much noise on two gates: the kernel's own error would show
    torch.manual_seed(3)
    gate, first, last = Gate(2), nn.Conv2d(2, 1, (1, 1)), nn.Linear(1, 3)
    net = nn.Sequential(gate, first, nn.ReLU(), nn.MaxPool2d((1, 3)), nn.Flatten(), last).double()
    mu, sigma = np.array([0.9, -0.7]), np.array([0.6, 0.8])
    gate.mu.data, gate.log_var.data = torch.tensor(mu), torch.tensor(2 * np.log(sigma))
    nn.init.constant_(first.bias, -0.5)  # type: ignore[arg-type]
    last.weight.data *= 4
    x, y = (
        np.array([[[[1.5, -1.0, 0.2]], [[0.4, 1.2, -2.0]]], [[[-0.7, 2.0, 0.8]], [[1.0, 0.1, -0.6]]]]),
        np.array([0, 2]),
    )
    w, v, e = first.weight.detach().numpy()[0, :, 0, 0], last.weight.detach().numpy()[:, 0], last.bias.detach().numpy()
    line = np.linspace(-6, 6, 401)
    eps = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    weight = np.exp(-0.5 * (eps**2).sum(1))
    weight /= weight.sum()
    truth = np.zeros((2, 2))
    for f, label in zip(x[:, :, 0], y, strict=True):
        largest = np.maximum((((mu + sigma * eps) * w) @ f - 0.5).max(1), 0)
        logits = largest[:, None] * v + e
        g = np.log(np.exp(logits - logits[:, [label]]).sum(1))
        truth += ((weight * g * eps.T) @ eps - (weight @ g) * np.eye(2)) / np.outer(sigma, sigma) / 2
    mine = _objective(net, from_arrays(np.tile(x, (800, 1, 1, 1)), np.tile(y, 800), x, y, classes=3))
    assert mine.ways == {"0": "relu"}
    estimates, _ = mine.estimates(10)[2]["0"]
    error = estimates.std(0, ddof=1) / np.sqrt(10)
    assert (np.abs(estimates.mean(0) - truth) < 4 * error + 0.02 * np.abs(truth).max()).all()
    assert error.max() < 0.08 * np.abs(truth).max()
    mine.pools = []
    without = mine.estimates(10)[2]["0"][0].mean(0)
    assert np.abs(without - truth).max() > 0.1 * np.abs(truth).max()  # a pool's kinks are not those of its ReLU


def test_it_is_the_objective_that_training_minimises_and_its_gradient() -> None:
    net, data = small_net(), small_data(20)
    named_gates(net)["h1"].close(torch.tensor([2]))
    gamma = {"input": 0.02, "h1": 0.05, "h2": 0.1}
    mine = _Curvature(checked(net, data, None, gamma), BoundOptions())
    assert len(mine.mu) == 6 + 4 + 4
    kept, unit = np.arange(14) % 2 == 0, mine.sigma.copy()
    point = np.concatenate([mine.mu / np.where(kept, unit, mine.sigma), 2 * np.log(mine.sigma)])
    sides = mine.sides(50)
    value, slope = mine.value(point, kept, unit, sides)
    net.train()
    x, y = (torch.as_tensor(part).repeat(50, *(1,) * (part.ndim - 1)) for part in (data.x_train, data.y_train))
    torch.manual_seed(0)
    with torch.no_grad():
        losses = [
            float(objective(likelihood_loss(net(x), y, "multinomial"), named_gates(net), gamma)) for _ in range(20)
        ]
    assert value == pytest.approx(np.mean(losses), abs=5 * np.std(losses) / np.sqrt(10))
    assert np.std(losses) < 0.02 * value
    for j in (0, 9, 14, 23):
        step = np.zeros(28)
        step[j] = 1e-5
        ends = [mine.value(point + sign * step, kept, unit, sides)[0] for sign in (1, -1)]
        assert slope[j] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-5)


def test_batches_do_not_matter_and_layers_are_blocks_of_the_whole() -> None:
    net, data = small_net(), small_data(20)
    whole, small = (_objective(net, data, batch=batch).estimates(3) for batch in (2000, 7))
    np.testing.assert_allclose(whole[0], small[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(whole[2]["all layers"][0], small[2]["all layers"][0], rtol=1e-9, atol=1e-12)
    alone = _Curvature(checked(net, data, ["h1"], 0.01), BoundOptions()).estimates(3)
    np.testing.assert_allclose(alone[0], whole[0][:, 6:11], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(alone[2]["h1"][1], whole[2]["h1"][1], rtol=1e-9, atol=1e-12)


def test_the_bend_is_what_the_curvature_says() -> None:
    data = small_data(30, "gaussian")
    net = small_net()
    for name in ("input", "h1"):
        named_gates(net)[name].log_var.data.fill_(-60.0)
    mine = _Curvature(checked(net, data, ["h2"], 0.05), BoundOptions())
    _, _, found = mine.estimates(3)
    alpha, delta = (mine.mu / mine.sigma) ** 2, 1e-3 * np.array([1.0, -2.0, 0.5, 1.0])
    price = 2 * 0.025 * (1 - alpha) / (mine.sigma**2 * (1 + alpha) ** 2)
    expected = delta @ found["h2"][0].mean(0) @ delta + price @ delta**2
    np.testing.assert_allclose(mine.bend(slice(0, 4), 3, delta), expected, rtol=1e-3)  # no noise: the loss is quadratic


@pytest.fixture(scope="module")
def fitted() -> tuple[nn.Sequential, Dataset]:
    """A network that has learned something, with the gates as they were made; three classes behind a hidden layer."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 4))
    y = np.argmax(np.maximum(x @ rng.standard_normal((4, 6)), 0) @ rng.standard_normal((6, 3)), axis=1)
    torch.manual_seed(0)
    net = mlp((4, 6, 3))
    last = net.get_submodule("linear2")
    assert isinstance(last, nn.Linear)
    h = torch.relu(net.get_submodule("linear1")(torch.tensor(x).float())).detach()
    last.weight.data = 6 * torch.linalg.lstsq(h, torch.eye(3)[y] - 1 / 3).solution.T
    last.bias.data.zero_()
    for gate in named_gates(net).values():
        gate.log_var.data.fill_(-3.0)
    return net, from_arrays(x, y, x[:5], y[:5])


GAMMA = 0.03


@pytest.fixture(scope="module")
def polished(fitted: tuple[nn.Sequential, Dataset]) -> TrainedNetworkReport:
    return check_trained(*fitted, "h1", gamma=GAMMA, tolerance=0.3, draws=24, polish=60)


def _moved(net: nn.Sequential, mu: np.ndarray, sigma: np.ndarray) -> nn.Sequential:
    net = copy.deepcopy(net)
    gate = named_gates(net)["h1"]
    gate.mu.data, gate.log_var.data = torch.tensor(mu).float(), torch.tensor(2 * np.log(sigma)).float()
    return net


def test_polishing_reaches_a_point_where_it_holds(
    fitted: tuple[nn.Sequential, Dataset], polished: TrainedNetworkReport
) -> None:
    net, data = fitted
    assert polished.before[0].verdict == "not at a minimum"
    assert polished.verdict == "holds", str(polished)
    report = polished["h1"]
    assert 0 < report.kept <= report.above_one <= report.d
    assert report.least.value > 1
    assert report.curvature.startswith("Gauss–Newton, exact")
    assert named_gates(net)["h1"].log_var[0].item() == -3  # the net is not changed
    again = check_trained(_moved(net, report.mu, report.sigma), data, "h1", gamma=GAMMA, tolerance=0.3, draws=24)
    assert again.verdict == "holds"
    assert again["h1"].least.value == pytest.approx(report.least.value, rel=1e-3)


def test_negative_controls_never_hold(fitted: tuple[nn.Sequential, Dataset], polished: TrainedNetworkReport) -> None:
    net, data = fitted
    untrained = check_trained(net, data, gamma=GAMMA, tolerance=0.3)
    assert untrained.verdict == "not at a minimum"
    assert "holds" not in {report.verdict for report in untrained}
    assert [report.layer for report in untrained] == ["input", "h1", "all layers"]
    early = check_trained(net, data, "h1", gamma=GAMMA, tolerance=0.3, draws=24, polish=4)
    assert early.verdict == "not at a minimum"
    at = _moved(net, polished[0].mu, polished[0].sigma)
    for factor in (0.5, 2.0):
        wrong = check_trained(at, data, "h1", gamma=factor * GAMMA, tolerance=0.3)
        assert wrong.verdict == "not at a minimum"
        assert wrong[0].spread.value > 0.1


def test_what_it_refuses() -> None:
    net, data = small_net(), small_data()
    with pytest.raises(InvalidInputError, match="draws"):
        check_trained(net, data, gamma=0.1, draws=2)
    with pytest.raises(InvalidInputError, match="polish"):
        check_trained(net, data, gamma=0.1, polish=-1)
    with pytest.raises(InvalidInputError, match="gamma"):
        check_trained(net, data)
    named_gates(net)["h1"].close(torch.arange(5))
    with pytest.raises(InvalidInputError, match="0 open gates"):
        check_trained(net, data, "h1", gamma=0.1)


def test_a_network_without_gates_gets_them() -> None:
    """As `check_network` does: what training has not seen is not at a minimum, unless it is polished."""
    torch.manual_seed(3)
    plain, data = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), small_data()
    with pytest.raises(InvalidInputError, match="gamma"):
        check_trained(plain, data)
    found = check_trained(plain, data, gamma=0.1, draws=3)
    assert [part.verdict for part in found] == ["not at a minimum"]
    same = check_trained(insert_gates(plain, torch.zeros(2, 6)), data, gamma=0.1, draws=3)
    assert str(found) == str(same)
    assert not named_gates(plain)


def test_maps_and_batch_norm(convolutional: nn.Module, image_data: Dataset) -> None:
    report = check_trained(convolutional, image_data, gamma=1e-3, draws=3)
    assert [part.layer for part in report] == ["conv1", "conv2", "all layers"]
    assert report["conv1"].gamma[0] == pytest.approx(1e-3 * 36 / 2)
    assert not report["conv1"].curvature.startswith("Gauss–Newton, exact")
