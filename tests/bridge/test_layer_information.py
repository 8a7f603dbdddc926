"""`information_of` against closed forms, a net reparametrised, dropout upstream, and its table, picture and words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vibtheory as vt
from vibtheory.bridge.layer_information import _averaged_infonce
from vibtheory.errors import InvalidInputError
from vibtheory.information.channel import GatedChannel

SPREAD, N = 3.0, 1200
X = SPREAD * torch.randn(N, 3, generator=torch.Generator().manual_seed(0))


def _identity(*between: nn.Module) -> nn.Sequential:
    first, last = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    for layer in (first, last):
        nn.init.eye_(layer.weight)
    return nn.Sequential(first, *between, last)


def _brackets(report, truth, slack=4.0):
    assert report.lower.nats <= truth + slack * report.lower.stderr
    assert report.upper.nats >= truth - slack * report.upper.stderr


@pytest.mark.parametrize("over", ["population", "rows"])
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_a_gaussian_layer(tau, over):
    """h = x + τn with x ~ N(0, S² I): 3/2 log(1 + S²/τ²), and at these noises far below log N."""
    report = vt.information_of(_identity(), X, layer="0", noise=tau, unit="h", over=over)
    truth = 1.5 * np.log1p((SPREAD / tau) ** 2)
    _brackets(report, truth)
    assert report.upper.nats < truth + 0.3 + 0.3 * truth * (over == "rows")
    assert report.scale == pytest.approx(SPREAD, rel=0.05)
    assert report.noise == pytest.approx(tau / report.scale)
    less, more = report.sensitivity[:2]
    assert less["lower"] > report.lower.nats > more["lower"]


@pytest.mark.parametrize(("rows", "width", "noise"), [(100, 2, 1e-3), (300, 20, 0.05)])
def test_what_is_fitted_to_the_rows_is_no_bound_for_the_population(rows, width, noise):
    """h = x + τn with x ~ N(0, I): d/2 log(1 + 1/τ²), which the rows' own bounds lie below by many standard errors."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net = nn.Sequential(nn.Identity(), nn.Linear(width, 2)).double()
    report = vt.information_of(net, x, layer="0", noise=noise, unit="h")
    truth = width / 2 * np.log1p(noise**-2)
    assert report.upper.method.startswith("leave_one_out")
    assert report.upper.nats > truth
    assert min(bound.nats + 5 * bound.stderr for bound in report.bounds if bound.method == "per_unit") < truth
    assert "per_unit, gaussian_tight bound I over these rows" in str(report)
    sampled = vt.information_of(net, x, layer="0", noise=noise, unit="h", over="rows")
    assert sampled.upper.nats <= np.log(rows) + 1e-9


def test_what_a_layer_says_of_the_label_lies_between_its_head_and_the_label():
    """Trained briefly: H(y) − cross-entropy of the noisy head on fresh data ≤ I(h; y) ≤ H(y)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 60), nn.ReLU(), nn.Linear(60, 2))
    x, fresh = torch.randn(500, 6), torch.randn(5000, 6)
    y, label = ((part[:, 0] > 0).long() for part in (x, fresh))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    report = vt.information_of(net, x, y, layer="1", noise=0.1)
    with torch.no_grad():
        h = net[1](net[0](fresh))
        head = float(nn.functional.cross_entropy(net[2](h + report.tau * torch.randn_like(h)), label))
    assert report.relevance is not None
    assert 0.6 * (np.log(2) - head) < report.relevance.nats < np.log(2)
    assert "I(h; y) ≥" in str(report)


def test_scaling_a_layer_and_dividing_the_next_changes_nothing():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    scaled = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    scaled.load_state_dict(net.state_dict())
    with torch.no_grad():
        scaled[0].weight.mul_(64.0)
        scaled[0].bias.mul_(64.0)
        scaled[2].weight.div_(64.0)
    torch.testing.assert_close(net(X), scaled(X))
    one, other = (vt.information_of(part, X, layer="1", noise=0.2) for part in (net, scaled))
    assert other.tau == pytest.approx(64 * one.tau)
    assert other.noise == pytest.approx(one.noise)
    for a, b in zip(one.bounds, other.bounds, strict=True):
        assert a.nats == pytest.approx(b.nats, rel=1e-6)
    fixed = [vt.information_of(part, X, layer="1", noise=0.2, unit="h").lower.nats for part in (net, scaled)]
    assert fixed[1] > fixed[0] + 1  # in the unit of h it is another layer


def test_gates_are_their_own_noise_and_labels_are_informative():
    net = nn.Sequential(vt.Gate(3, mean=1.0, log_variance=-1.0), nn.Linear(3, 2))
    report = vt.information_of(net, X, (X[:, 0] > 0).long(), layer="0")
    assert report.tau == 0
    assert report.lower.nats < report.upper.nats
    assert report.relevance is not None
    # h_0 = x_0 z has the sign of x_0 unless the gate's is negative, with probability Φ(−1/σ)
    assert 0.5 * np.log(2) < report.relevance.nats < np.log(2) + 0.02
    independent = vt.information_of(net, X, torch.arange(N) % 2, layer="0").relevance
    assert abs(independent.nats) < 4 * independent.stderr + 0.02


@pytest.mark.parametrize("layer", ["1", "2"])
def test_dropout_upstream_or_the_layer_s_own_is_said_and_sampled(layer):
    """One Bernoulli mask before an identity, or the mask's own output: I(h; x) by quadrature of the mixture."""
    net, tau, keep = _identity(nn.Dropout(0.5)), 2.0, 0.5
    if layer == "2":
        assert "held at their means: 1" in str(vt.information_of(net, X, layer="2", noise=tau, unit="h"))
    report = vt.information_of(net, X, layer=layer, noise=tau, unit="h", upstream="sampled", draws=40)
    grid = np.linspace(-60, 60, 12_001)
    x = SPREAD * np.sqrt(2) * np.polynomial.hermite.hermgauss(80)[0]
    law = np.polynomial.hermite.hermgauss(80)[1] / np.sqrt(np.pi)
    normal = lambda m: np.exp(-0.5 * ((grid - m) / tau) ** 2) / (tau * np.sqrt(2 * np.pi))  # noqa: E731
    given = np.array([keep * normal(value / keep) + (1 - keep) * normal(0) for value in x])
    marginal = law @ given
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(given > 0, given * np.log(given / marginal), 0.0)
    truth = 3 * float(law @ np.trapezoid(terms, grid, axis=1))
    _brackets(report, truth)
    assert report.lower.nats > 0.7 * truth
    assert "noise upstream" in str(report)
    assert not net[1]._forward_pre_hooks
    assert net.training


def test_loaders_convolutions_and_calls():
    loader = DataLoader(TensorDataset(X, torch.zeros(N)), batch_size=100)
    net = _identity()
    batched = vt.information_of(net, loader, layer="0", noise=0.5)
    assert batched.lower == vt.information_of(net, X.double().numpy(), layer="0", noise=0.5).lower
    images = torch.randn(200, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    report = vt.information_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), images, layer="0", noise=3.0)
    assert report.units == 2 * 4 * 4

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.step(torch.relu(self.step(x)))

    twice = Twice()
    with torch.no_grad():
        expected = twice.step(torch.relu(twice.step(X)))
    np.testing.assert_array_equal(vt.layer_law(twice, X, "step", call=1).f, expected)
    for call, message in ((None, "called 2 times in one forward pass"), (2, r"call: got 2, expected 0 to 1")):
        with pytest.raises(InvalidInputError, match=message):
            vt.layer_law(twice, X, "step", call=call)


def test_table_picture_and_words():
    report = vt.information_of(_identity(), X, layer="0", noise=0.05)
    table = report.to_frame()
    over = dict(zip(table["method"], table["over"], strict=True))
    fitted = {"variational", "per_unit", "gaussian_tight"}
    assert over == dict.fromkeys(["infonce", "leave_one_out", "leave_one_out_per_unit"], "population") | dict.fromkeys(
        fitted, "rows"
    )
    assert table["best"].sum() == 2
    assert table["nats_per_unit"].tolist() == pytest.approx((table["nats"] / 3).tolist())
    assert report.lower.saturated
    assert "at its ceiling" in str(report)
    figure = report.plot()
    assert "log N" in figure.axes[0].get_legend_handles_labels()[1][0]
    assert '"sensitivity"' in report.to_json()


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x + torch.randn_like(x))


BAD = {
    "no noise": ({"layer": "0"}, "noise: got None, expected noise > 0, as '0' has none"),
    "negative noise": ({"layer": "0", "noise": -1.0}, "noise: got -1"),
    "no such layer": ({"layer": "h9", "noise": 1.0}, "layer: got 'h9'"),
    "a unit of its own": ({"layer": "0", "noise": 1.0, "unit": "volts"}, "unit: got 'volts'"),
    "labels of other rows": ({"layer": "0", "noise": 1.0, "y": [0, 1]}, "y: got shape"),
    "rows with noise upstream": ({"layer": "0", "noise": 1.0, "over": "rows", "upstream": "sampled"}, "over: got"),
    "one row's population": ({"x": X[:1], "layer": "0", "noise": 1.0}, "x: got 1 row"),
    "labels beside a loader that shuffles": (
        {
            "x": DataLoader(TensorDataset(X), batch_size=400, shuffle=True),
            "y": np.arange(N) % 2,
            "layer": "0",
            "noise": 1.0,
        },
        "x: got a DataLoader that draws its rows",
    ),
    "masked values": ({"x": np.ma.masked_greater(X.numpy(), 1), "layer": "0", "noise": 1.0}, "x: got a masked array"),
    "tensors with gradients": ({"x": [X[0].clone().requires_grad_()], "layer": "0", "noise": 1.0}, "x: got list"),
    "values that are no numbers": ({"x": X / 0, "layer": "0", "noise": 1.0}, "x: got inputs at which '0' is NaN or"),
    "rows that are all alike": (
        {"x": X[:1].repeat(9, 1), "layer": "0", "noise": 0.1},
        "noise: got 0.1 of a scale of 0",
    ),
    "a generator": (
        {"layer": "0", "noise": 1.0, "seed": np.random.default_rng(0), "upstream": "sampled"},
        "seed: got Generator",
    ),
    "no draws": ({"layer": "0", "noise": 1.0, "draws": 0}, "draws: got 0"),
    "text": ({"x": "many", "layer": "0", "noise": 1.0}, "x: got"),
    "a number": ({"x": 3, "layer": "0", "noise": 1.0}, "x: got int"),
    "no inputs": ({"x": X[:0], "layer": "0", "noise": 1.0}, "x: got no inputs"),
    "inputs of another width": ({"x": X[:, :2], "layer": "0", "noise": 1.0}, "x: got inputs"),
    "an LSTM": ({"model": nn.Sequential(nn.LSTM(3, 3)), "layer": "0", "noise": 1.0}, "gives a tuple"),
    "a dropout at its mean": (
        {"model": _identity(nn.Dropout(0.5)), "layer": "1", "noise": 1.0},
        "layer: got '1', a dropout, whose output given x is a mixture",
    ),
    "a random forward pass": (
        {"model": Random(), "layer": "last", "noise": 1.0},
        "net: got a forward pass that is random",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_in_a_sentence(name):
    given, message = BAD[name]
    options = {"model": _identity(), "x": X, **given}
    with pytest.raises(InvalidInputError, match=message) as caught:
        vt.information_of(options.pop("model"), options.pop("x"), **options)
    assert "Remedy: " in str(caught.value)


def test_a_random_forward_pass_is_sampled_and_no_parameters_are_needed():
    report = vt.information_of(Random(), X, layer="last", noise=1.0, upstream="sampled")
    assert report.lower.nats < report.upper.nats
    assert vt.information_of(nn.Sequential(nn.ReLU()), X, layer="0", noise=1.0).units == 3


def test_a_dropout_inside_the_layer_is_said() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.ReLU()), nn.Linear(4, 2))
    report = vt.information_of(net, torch.randn(60, 3), layer="0", noise=0.5)
    assert any("held at their means: 0.1" in note for note in report.notes)


def test_the_scale_and_the_side_follow_the_rows() -> None:
    """A unit that never varies carries nothing and counts nowhere; over the rows, I(h; y) is the rows' own."""
    net = nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]]))
        net[0].bias.fill_(0.1)
    x = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [1.0, 1.0]])
    assert vt.layer_law(net, x, "0").scale == pytest.approx(np.sqrt((4 + 0.25) / 2))
    # four points, alone in their classes: I(h; y) = I(h; x) = log 4 over these rows; leaving one out would leave none
    report = vt.information_of(net, x, [0, 1, 2, 3], layer="0", noise=0.01, over="rows")
    assert report.relevance is not None
    assert report.relevance.nats == pytest.approx(np.log(4))
    assert not report.relevance.saturated
    assert report.relevance.parts["H(y)"] == pytest.approx(np.log(4))


@pytest.mark.parametrize("after", [nn.ReLU(inplace=True), nn.Hardtanh(inplace=True)])
def test_what_works_in_place_after_a_layer_leaves_what_the_layer_gave(after) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), after, nn.Linear(4, 2))
    np.testing.assert_array_equal(vt.layer_law(net, X, "0").f, net[0](X).detach())


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.steps(x.transpose(0, 1)).mean(0)


@pytest.mark.parametrize("steps", [7, 60])
def test_rows_are_inputs_not_steps_of_time(steps) -> None:
    """[T, N, d] has T rows, which the information was said to be about; T = N by chance included."""
    with pytest.raises(InvalidInputError, match=r"layer: got a module that gives .* inputs"):
        vt.layer_law(TimeFirst(), torch.randn(60, steps, 4), "steps")


def test_half_precision_and_float_tokens() -> None:
    net = _identity().bfloat16()
    report = vt.information_of(net, X, layer="0", noise=1.0)
    assert report.lower == vt.information_of(_identity(), X.bfloat16().float(), layer="0", noise=1.0).lower
    words = nn.Sequential(nn.Embedding(5, 3), nn.Flatten())
    tokens = torch.randint(0, 5, (20, 2), generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(vt.layer_law(words, tokens.float(), "1").f, vt.layer_law(words, tokens, "1").f)


@pytest.mark.parametrize("width", [4, 6])
def test_masks_that_say_nothing_of_x_are_no_information(width) -> None:
    """h = dropout's mask times x z, x nearly constant: I(h; x) ≤ I(h; x | mask) ≤ d/4 log(1 + (spread/σ)²)."""
    dropped = nn.Sequential(nn.Dropout(0.5), nn.ReLU(), nn.Linear(width, 2))
    net = vt.insert_gates(dropped, torch.ones(2, width))
    ((layer, gate),) = vt.gates.named_gates(net).items()
    x = 1 + 1e-3 * torch.randn(200, width, generator=torch.Generator().manual_seed(0))
    truth = width / 4 * np.log1p((1e-3 / gate.sigma.min().item()) ** 2)
    found = [vt.information_of(net, x, layer=layer, upstream="sampled", draws=8, seed=k).lower for k in range(3)]
    assert np.mean([each.nats for each in found]) - 3 * found[0].stderr < truth < 0.02


def test_the_upper_bound_is_not_the_luckier_of_two() -> None:
    """h = x + τn in two units: log(1 + 1/τ²), which the smaller of two bounds undercuts in the mean over draws."""
    truth, found = np.log1p(1 / 2.25), []
    for k in range(80):
        x = torch.from_numpy(np.random.default_rng(k).normal(size=(200, 2)))
        net = nn.Sequential(nn.Identity(), nn.Linear(2, 2)).double()
        found.append(vt.information_of(net, x, layer="0", noise=1.5, unit="h", seed=k).upper.nats)
    assert np.mean(found) > truth - 3 * np.std(found) / np.sqrt(len(found))


def test_infonce_of_rows_that_are_alike_is_zero() -> None:
    """Each row is as likely to have made h: the critic's posterior, mixed with the uniform one or not, is uniform."""
    alike = GatedChannel(np.ones((8, 3)), [1.0, -0.5, 2.0], [0.1, 0.2, 0.3])
    assert _averaged_infonce([alike] * 3, 0).nats == pytest.approx(0, abs=1e-12)
