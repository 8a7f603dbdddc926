"""The bridge: prices, anchors, streaming, bad input, and networks of other styles."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.small_net import small_data, small_net
from vibtheory.bridge import BoundOptions
from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.checking import check_network, quadratic_bound, theory_gamma, verify_bound
from vibtheory.bridge.frozen import FrozenNetwork
from vibtheory.bridge.surrogate import about
from vibtheory.bridge.verification import own_losses
from vibtheory.datasets import from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.lenet import lenet_5_caffe, mlp
from vibtheory.theory.quadratic import QuadraticBound


class Residual(nn.Module):
    """A skip connection after the gate, and a softmax: no chain, no certificate."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.enter, self.gate, self.inner, self.leave = nn.Linear(6, 5), Gate(5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.gate.log_var.data.fill_(-2.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gate(torch.relu(self.enter(x)))
        return self.leave(h + torch.softmax(self.inner(h), 1))


def test_price_is_gamma_times_multiplier_over_two() -> None:
    net = lenet_5_caffe()
    assert theory_gamma(net, "conv1", 3e-4) == pytest.approx(3e-4 * 576 / 2)
    assert theory_gamma(net, "fc1", {"fc1": 0.02}) == pytest.approx(0.01)
    net.vib_config = {"gamma": {"conv2": 0.5}}  # type: ignore[assignment]
    assert theory_gamma(net, "conv2") == pytest.approx(0.5 * 64 / 2)


def test_the_price_makes_the_bound_objective_the_training_objective() -> None:
    # mean loss + γ s ½ Σ log(1+α) of a one-gate network must equal g + γ_theory Σ log(1+α)
    net, data = small_net(), small_data()
    bound = quadratic_bound(net, data, "h2", gamma={"h2": 0.07})
    gate = named_gates(net)["h2"]
    alpha = gate.alpha.detach().double().numpy()
    assert bound.gamma[0] * np.log1p(alpha).sum() == pytest.approx(0.07 * gate.information().item(), rel=1e-5)


def test_anchor_is_the_trained_masked_mean_and_the_net_is_untouched() -> None:
    net, data = small_net(), small_data()
    named_gates(net)["h2"].mu.data[1] = 1e-6
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    bound = quadratic_bound(net, data, "h2", gamma=0.1)
    assert net.training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert bound.trained_mu is not None
    np.testing.assert_allclose(bound.trained_mu, named_gates(net)["h2"].mean().detach().numpy())
    assert bound.trained_mu[1] == 0
    assert bound.layer == "h2"


def test_auto_takes_the_strongest_kind_that_applies() -> None:
    kinds = {
        name: quadratic_bound(small_net(), small_data(), name, gamma=0.1).guarantee.kind
        for name in ("input", "h1", "h2")
    }
    assert kinds == {"input": "lipschitz", "h1": "lipschitz", "h2": "bohning"}
    assert quadratic_bound(small_net(), small_data(likelihood="gaussian"), "h2", gamma=0.1).guarantee.kind == "exact"


def test_a_network_without_a_certificate_gets_the_tangent() -> None:
    net, data = Residual(), small_data()
    bound = quadratic_bound(net, data, "gate", gamma=0.1)
    assert bound.guarantee.kind == "tangent"
    check = verify_bound(bound, net, data, samples=300, seed=8)
    assert check.violations <= 15
    # value and gradient at the anchor against finite differences through the gate itself
    z = np.linspace(0.5, 1.5, 5)
    at = quadratic_bound(net, data, "gate", "tangent", 0.1, anchor=z, samples=20, level_samples=20)
    layer = GatedLayer(net.double(), "gate", data.x_train, data.y_train, "multinomial")
    h = 1e-5
    slope = [(layer.mean_loss(z + h * e) - layer.mean_loss(z - h * e))[0] / (2 * h) for e in np.eye(5)]
    np.testing.assert_allclose(at.smooth_gradient(z), slope, atol=1e-5)


def test_averaging_over_samples_of_the_gates_before() -> None:
    net, data = small_net(), small_data()
    bound = quadratic_bound(net, data, "h2", gamma=0.1, others=8, seed=3)
    again = quadratic_bound(net, data, "h2", gamma=0.1, others=8, seed=3)
    means = quadratic_bound(net, data, "h2", gamma=0.1)
    np.testing.assert_array_equal(bound.gram, again.gram)
    assert not np.allclose(bound.gram, means.gram, rtol=1e-3)
    assert "8 samples" in bound.guarantee.detail
    assert verify_bound(bound, net, data, samples=60, seed=3, others=8).violations == 0
    assert bound.trained_mu is not None
    at = verify_bound(bound, net, data, seed=3, others=8, points=bound.trained_mu[None])
    assert abs(at.worst) <= at.tolerance  # they touch there, for the same noise alone
    # E f² with noise: by brute force over many samples of the upstream gates
    caught: list[Tensor] = []
    watch = named_gates(net)["h2"].register_forward_pre_hook(lambda m, inputs: caught.append(inputs[0]))
    torch.manual_seed(0)
    for gate in named_gates(net).values():
        gate.sample_in_eval = True
    with torch.no_grad():
        net.eval()(torch.as_tensor(data.x_train).repeat(400, 1))
    watch.remove()
    brute = (caught[0].double() ** 2).mean(0).numpy()
    many = quadratic_bound(net, data, "h2", gamma=0.1, others=2000)
    v = net.get_submodule("linear3").weight.detach().double().numpy()
    np.testing.assert_allclose(many.w, 0.25 * ((v - v.mean(0)) ** 2).sum(0) * brute, rtol=0.05)


def test_batches_do_not_matter() -> None:
    one, two = (quadratic_bound(small_net(), small_data(), "h1", gamma=0.1, batch=size) for size in (7, 1000))
    np.testing.assert_allclose(one.gram, two.gram, rtol=1e-5)  # f is float32: its rounding depends on the batch
    assert one.c == pytest.approx(two.c)


def test_streaming_does_not_hold_the_activations() -> None:
    # 40,000 × 300 activations are 96 MB in float64; torch's memory is outside tracemalloc, so numpy's and torch's
    # peaks are both bounded through the largest batch that the gate ever sees
    net = mlp((20, 300, 3))
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((40_000, 20)), generator.integers(0, 3, 40_000)
    data = from_arrays(x, y, x[:2], y[:2], classes=3)
    layer = GatedLayer(net, "h1", data.x_train, data.y_train, "multinomial")
    tracemalloc.start()
    sizes = [batch.f.numel() * 8 for batch in layer.batches()]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(sizes) == 40_000 * 300 * 8
    assert max(sizes) == 2000 * 300 * 8
    assert peak < 5e6
    assert layer._cache is None
    layer.memory = 10**8
    layer.keep_in_memory()
    assert layer._cache is None


def _with(**changes: Any) -> SimpleNamespace:
    data = small_data()
    fields = {"x_train": data.x_train, "y_train": data.y_train, "likelihood": "multinomial"} | changes
    return SimpleNamespace(**fields)


def _bound() -> QuadraticBound:
    return quadratic_bound(small_net(), small_data(), "h2", gamma=0.1)


def _recorded(**config: Any) -> nn.Module:
    net = small_net()
    net.vib_config = config  # type: ignore[assignment]
    return net


def _shared() -> nn.Module:
    gate = Gate(6)
    return nn.Sequential(gate, nn.ReLU(), gate, nn.Linear(6, 3))


FREE = nn.Sequential(nn.Linear(6, 4), Gate(4, multiplier=0), nn.Linear(4, 3))
PLAIN = mlp((6, 4, 3), gated=False)
GIVEN: dict[Any, dict[str, Any]] = {
    quadratic_bound: {"layer": "h2", "gamma": 0.1},
    check_network: {"gamma": 0.1},
    verify_bound: {"bound": _bound()},
}
BAD: list[tuple[Any, dict[str, Any], str]] = [
    (quadratic_bound, {"data": _with(x_train=np.zeros((60, 7), np.float32))}, r"data\.x_train.*\[60, 7\]"),
    (quadratic_bound, {"data": _with(x_train=np.zeros((60, 1, 9), np.float32))}, r"data\.x_train"),
    (quadratic_bound, {"data": _with(y_train=np.zeros(59, np.int64))}, "59 labels for 60 inputs"),
    (quadratic_bound, {"data": _with(y_train=np.full(60, 3))}, "between 0 and 2"),
    (quadratic_bound, {"data": _with(y_train=np.full(60, -1))}, "between 0 and 2"),
    (quadratic_bound, {"data": _with(y_train=np.zeros(60))}, "integer labels"),
    (quadratic_bound, {"data": _with(y_train=np.zeros((60, 3), np.float32))}, "integer labels"),
    (quadratic_bound, {"data": _with(y_train=np.zeros((60, 2)), likelihood="gaussian")}, r"expected \[N, 3\]"),
    (quadratic_bound, {"data": _with(x_train=np.zeros((0, 6)), y_train=np.zeros(0, np.int64))}, "at least one"),
    (quadratic_bound, {"data": _with(likelihood="poisson")}, "multinomial, gaussian"),
    (quadratic_bound, {"data": _with(likelihood=None)}, r"without \.likelihood"),
    (quadratic_bound, {"data": (np.zeros((3, 6)), np.zeros(3))}, r"without \.x_train"),
    (quadratic_bound, {"layer": "h9"}, "one of input, h1, h2"),
    (quadratic_bound, {"kind": "best"}, "auto, exact, bohning"),
    (quadratic_bound, {"gamma": None}, "or train with"),
    (quadratic_bound, {"gamma": 0.0}, "entries > 0"),
    (quadratic_bound, {"gamma": float("nan")}, "finite"),
    (quadratic_bound, {"gamma": {"h1": 0.1}}, "entry for layer 'h2'"),
    (quadratic_bound, {"gamma": [0.1, 0.2]}, "shape"),
    (quadratic_bound, {"kind": "exact"}, 'likelihood "gaussian"'),
    (quadratic_bound, {"layer": "h1", "kind": "bohning"}, "affine map from the layer"),
    (quadratic_bound, {"anchor": [1.0]}, "anchor: got .*Remedy"),
    (quadratic_bound, {"sigma": [1.0]}, "sigma: got .*Remedy"),
    (quadratic_bound, {"sigma": [-1.0, 1, 1, 1]}, "sigma.*entries >= 0"),
    (quadratic_bound, {"batch": 0}, "batch: got 0"),
    (quadratic_bound, {"memory": 0}, "memory: got 0"),
    (quadratic_bound, {"others": -1}, "others: got -1"),
    (quadratic_bound, {"samples": 0}, "samples: got 0"),
    (quadratic_bound, {"sample": 3}, "sample: got an unknown option.*level_samples"),
    (quadratic_bound, {"solver": "newton"}, r"solver.*fast.*cvxpy"),
    (quadratic_bound, {"layer": "h1", "kind": "fitted", "samples": 21}, "more than the 21 unknowns"),
    (quadratic_bound, {"kind": "fitted", "sigma": np.zeros(4)}, "spread to sample z from"),
    (quadratic_bound, {"net": PLAIN}, "insert_gates"),
    (quadratic_bound, {"net": FREE, "layer": "1"}, "no sparsity bound"),
    (quadratic_bound, {"net": Residual(), "layer": "gate", "kind": "lipschitz"}, "'softmax' after the gate"),
    (quadratic_bound, {"net": Residual(), "layer": "gate", "others": 2}, "hold the other gates at their means"),
    (quadratic_bound, {"net": _shared(), "layer": "0"}, "called 2 times"),
    (quadratic_bound, {"net": _recorded(gamma=0.1, likelihood="gaussian")}, "which the network was trained with"),
    (check_network, {"net": PLAIN, "gamma": None}, "no gates"),
    (check_network, {"net": nn.Sequential(nn.Linear(6, 3))}, "activation"),
    (check_network, {"net": PLAIN, "data": _with(x_train=np.zeros((60, 7), np.float32))}, "example_input|x_train"),
    (check_network, {"layers": ["h1", "h7"]}, "one of input, h1, h2"),
    (check_network, {"kind": "any"}, "auto, exact"),
    (check_network, {"gamma": None}, "gamma"),
    (verify_bound, {"bound": QuadraticBound(np.eye(4), np.zeros(4))}, "without a layer"),
    (verify_bound, {"samples": 0}, "at least one z"),
    (verify_bound, {"points": np.zeros((3, 5))}, "points"),
    (verify_bound, {"net": mlp((6, 5, 7, 3))}, "4 gates"),
]


@pytest.mark.parametrize(("function", "change", "words"), BAD)
def test_bad_arguments_are_named(function: Callable[..., Any], change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        function(**({"net": small_net(), "data": small_data()} | GIVEN[function] | change))


def test_a_changed_network_breaks_the_bound_and_is_found() -> None:
    net, data = small_net(), small_data()
    bound = quadratic_bound(net, data, "h2", gamma=0.1)
    net.get_submodule("linear3").weight.data.mul_(-3)
    check = verify_bound(bound, net, data, samples=400)
    assert check.violations > 0
    assert "changed" in check.status


class Tokens(nn.Module):
    """Units on the last axis, [N, T, d], as in token models."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.enter, self.gate, self.leave = nn.Linear(2, 4), Gate(4, axis=-1, threshold=0), nn.Linear(4, 3)
        self.gate.log_var.data.fill_(-2.0)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.leave(self.gate(torch.relu(self.enter(x.reshape(-1, 3, 2))))).mean(1)
        return h


def test_gates_on_the_last_axis_get_the_tangent() -> None:
    net, data = Tokens(), small_data()
    bound = quadratic_bound(net, data, "gate", gamma=0.1)
    assert bound.guarantee.kind == "tangent"
    net.gate.mu.data.copy_(torch.tensor([0.5, -1.0, 2.0, 1.5]))
    with torch.no_grad():
        truth = nn.functional.cross_entropy(net.eval()(torch.as_tensor(data.x_train)), torch.as_tensor(data.y_train))
    layer = GatedLayer(net, "gate", data.x_train, data.y_train, "multinomial")
    assert layer.mean_loss(np.array([0.5, -1.0, 2.0, 1.5]))[0] == pytest.approx(truth.item(), rel=1e-5)


def test_check_network_reports_every_layer_with_its_guarantee() -> None:
    net, data = small_net(), small_data(200)
    named_gates(net)["h1"].mu.data[:2] = 1e-6
    report = check_network(net, data, 0.02)
    assert report.layers == ("input", "h1", "h2")
    assert [r.guarantee.kind for r in report] == ["lipschitz", "lipschitz", "bohning"]
    for name, each in zip(report.layers, report, strict=True):
        assert each.certificate.status == "certified local minimum"
        assert each.verdict == "holds"
        assert each.nonzeros <= each.rank
        assert each.trained_nonzeros == int(named_gates(net)[name].keep.sum())
    assert report["h1"].trained_nonzeros == 3


def test_check_network_takes_the_recorded_price_and_some_layers() -> None:
    net, data = small_net(), small_data()
    net.vib_config = {"gamma": {"h1": 0.2, "h2": 0.01, "input": 1.0}, "likelihood": "multinomial"}  # type: ignore[assignment]
    recorded = check_network(net, data, layers=["h2"])
    assert recorded.layers == ("h2",)
    assert recorded[0].minimum.value == pytest.approx(check_network(net, data, 0.01, layers=["h2"])[0].minimum.value)


def test_check_network_of_a_regression_is_exact_at_the_last_layer() -> None:
    report = check_network(small_net(), small_data(200, "gaussian"), 0.05, layers=["h2"])
    assert str(report[0].guarantee).startswith("exact (exact)")
    assert report[0].verdict == "holds"


class Theirs(nn.Module):
    """A model written by someone else: no Sequential, activations as functions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
        return h


def test_five_lines_on_someone_elses_model() -> None:
    generator = np.random.default_rng(5)
    x, y = generator.standard_normal((80, 6)), generator.integers(0, 3, 80)
    model = Theirs()
    before = [id(module) for module in model.modules()]

    data = from_arrays(x, y, x[:9], y[:9])
    report = check_network(model, data, gamma=1e-2)
    text = str(report)

    assert text.startswith("holds: 2 gated layers")
    assert [r.guarantee.kind for r in report] == ["lipschitz", "bohning"]
    assert [r.d for r in report] == [r.trained_nonzeros for r in report] == [8, 5]
    assert [id(module) for module in model.modules()] == before
    figure = report.plot()
    assert len(figure.axes) == 6
    plt.close(figure)


def test_options_are_one_object_or_keywords() -> None:
    net, data = small_net(), small_data()
    options = BoundOptions(samples=30, level_samples=20, seed=4)
    one = quadratic_bound(net, data, "h1", "tangent", 0.1, options)
    two = quadratic_bound(net, data, "h1", "tangent", 0.1, samples=30, level_samples=20, seed=4)
    three = quadratic_bound(
        net, data, "h1", "tangent", 0.1, BoundOptions(samples=7, seed=4, level_samples=20), samples=30
    )
    for other in (two, three):
        np.testing.assert_array_equal(one.gram, other.gram)
        assert one.guarantee == other.guarantee


class Optional(nn.Module):
    """An option whose default takes another way than a value would."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.enter, self.gate, self.leave = nn.Linear(6, 4), Gate(4, threshold=0), nn.Linear(4, 3)

    def forward(self, x: Tensor, temperature: float | None = None) -> Tensor:
        h: Tensor = self.leave(self.gate(torch.relu(self.enter(x))))
        return h if temperature is None else h / temperature


def test_options_of_the_forward_pass_stand_at_their_defaults() -> None:
    bound = quadratic_bound(Optional(), small_data(), "gate", gamma=0.1)
    assert bound.guarantee.kind == "bohning"
    assert verify_bound(bound, Optional(), small_data(), samples=200).violations == 0


class Untold(nn.Module):
    """A forward pass that a trace gets wrong: it asks for the type of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.gate, self.leave = Gate(6, threshold=0), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.leave(self.gate(x))
        return 3 * h - 1 if isinstance(x, Tensor) else h


def test_a_trace_that_computes_something_else_certifies_nothing() -> None:
    with pytest.raises(InvalidInputError, match="trace does not compute what the network does"):
        quadratic_bound(Untold(), small_data(), "gate", "bohning", gamma=0.1)
    bound = quadratic_bound(Untold(), small_data(), "gate", gamma=0.1)
    assert bound.guarantee.kind == "tangent"
    assert verify_bound(bound, Untold(), small_data(), samples=100, seed=4).violations <= 10


def test_a_net_without_a_chain_resumes_at_the_gate() -> None:
    net, data = Residual(), small_data()
    layer = GatedLayer(net, "gate", data.x_train, data.y_train, "multinomial")
    assert layer.after.graph is not None
    calls: list[int] = []
    enter = layer.net.get_submodule("enter")
    enter.register_forward_hook(lambda *_: calls.append(1))
    z = np.random.default_rng(1).standard_normal((6, 5))
    losses = layer.mean_loss(z)
    assert len(calls) == 1  # what is before the gate ran once, not for each z
    truth = own_losses(net, data.x_train, data.y_train, "multinomial", "gate", z)[0]
    np.testing.assert_allclose(losses, truth, rtol=1e-12)


def _softmaxed() -> nn.Sequential:
    return nn.Sequential(*small_net(), nn.Softmax(dim=1))


def _constant() -> nn.Sequential:
    net = small_net()
    net.get_submodule("linear3").weight.data.zero_()
    return net


@pytest.mark.parametrize(
    ("net", "words"),
    [(_softmaxed(), "likelihood applies softmax again"), (_constant(), "no better than a constant")],
    ids=["ends in softmax", "constant"],
)
def test_what_a_verdict_does_not_say_is_remarked(net: nn.Module, words: str) -> None:
    report = check_network(net, small_data(), 0.1, "tangent", options=BoundOptions(samples=20, level_samples=20))
    assert words in " ".join(report.remarks)
    assert str(report).splitlines()[1].startswith("Remark: ")
    assert words in report.to_json()


@pytest.mark.parametrize(("logit", "words"), [(9.0, None), (0.02, "hardly better"), (-0.02, "no better")])
def test_a_network_that_predicts_needs_no_remark(logit: float, words: str | None) -> None:
    """With `logit` on the right one of three classes the loss is log(1 + 2e^−logit); the best constant's is log 3."""
    x = np.repeat(np.eye(3), 20, axis=0)
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Gate(3), nn.Linear(3, 3))
    gate = net[2]
    assert isinstance(gate, Gate)
    gate.mu.data.fill_(1.0)
    for linear, scale in ((net[0], 1.0), (net[3], logit)):
        linear.weight.data, linear.bias.data = scale * torch.eye(3), torch.zeros(3)
    data = from_arrays(x, x.argmax(1), x[:2], [0, 0], classes=3)
    remarks = check_network(net, data, 0.1).remarks
    if words is None:
        assert remarks == ()
    else:
        loss = np.log1p(2 * np.exp(-logit))
        assert f"predicts {words} than a constant: mean loss {loss:.3g} nats" in remarks[0]


def test_progress_is_shown_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    net, data = small_net(), small_data()
    check_network(net, data, 0.1, layers=["h2"])
    assert capsys.readouterr().err == ""
    check_network(net, data, 0.1, layers=["h2"], progress=True)
    assert "checking" in capsys.readouterr().err


def test_one_pass_over_the_data_serves_all_layers_and_the_remarks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((50, 6)), generator.integers(0, 3, 50)
    data, net, examples = from_arrays(x, y, x[:2], y[:2], classes=3), mlp((6, 8, 7, 5, 3)).double(), []
    entered, outputs = FrozenNetwork._entered, FrozenNetwork.outputs

    def watched(self: FrozenNetwork, part: Tensor) -> Any:
        examples.append(len(part))
        return entered(self, part)

    monkeypatch.setattr(FrozenNetwork, "_entered", watched)
    report = check_network(net, data, gamma=1e-3)
    assert len(report) == len(named_gates(net)) == 4
    assert sum(examples) == 2 + 50  # two on which it is tried
    small = check_network(net, data, gamma=1e-3, memory=1)  # nothing is kept: each layer has passes of its own
    assert sum(examples) == 52 + 2
    assert [r.nonzeros for r in small] == [r.nonzeros for r in report]
    monkeypatch.setattr(FrozenNetwork, "outputs", lambda self: outputs(self) * 0)
    assert any("no better than a constant" in each for each in check_network(net, data, gamma=1e-3).remarks)


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1.0, 1e4])
def test_slopes_that_cancel_are_zero(scale: float) -> None:
    """Each example once with either label and gates at 0: b is 0 by symmetry, not "outside the row space of A"."""
    for seed in range(10):
        torch.manual_seed(seed)
        net = nn.Sequential(Gate(6, threshold=0), nn.Linear(6, 2, bias=False)).eval()
        net[1].weight.data *= scale
        net[0].mu.data.zero_()
        x, y = torch.randn(5, 6).repeat(2, 1).numpy(), np.arange(10) // 5
        data = from_arrays(x, y, x, y)
        assert quadratic_bound(net, data, "0", gamma=0.1).b.tolist() == [0] * 6
        assert check_network(net, data, gamma=0.1)[0].nonzeros == 0


@pytest.mark.parametrize(("share", "left"), [(1e-9, True), (1e-11, True), (1e-14, False)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_small_slopes_are_slopes(share: float, left: bool, scale: float) -> None:
    """Only what is rounding of zero, against √w_j times the loss' √, is taken for it; in every unit of z."""
    w = np.diag([1.0, 4.0]) * scale**2
    gradient = np.array([share, -share]) * scale
    b = about(w, gradient, 1.0, np.zeros(2)).b
    assert np.array_equal(b, gradient if left else np.zeros(2))
