"""T4b on networks: the outputs, a Monte-Carlo covariance and the information, against merge_redundant's claims."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from vibtheory.compression.merging import merge_redundant
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.lenet import lenet_5_caffe, mlp


def redundant(dtype: torch.dtype = torch.float64) -> tuple[nn.Sequential, torch.Tensor]:
    torch.manual_seed(3)
    net = mlp((9, 12, 8, 4)).to(dtype)
    with torch.no_grad():
        for gate in named_gates(net).values():
            gate.mu.copy_(torch.randn_like(gate.mu) + 2)
            gate.log_var.copy_(torch.randn_like(gate.mu) - 4)
        for unit, c in ((3, 2.5), (7, 0.01)):
            net.h1.mu[[1, unit]] = torch.tensor([1.7, -0.8], dtype=dtype)
            net.linear1.weight[unit] = c * net.linear1.weight[1]
            net.linear1.bias[unit] = c * net.linear1.bias[1]
    return net, torch.randn(700, 9, dtype=dtype)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_a_group_of_three_becomes_one(dtype: torch.dtype, close: float) -> None:
    net, x = redundant(dtype)
    merged, report = merge_redundant(net, x)
    assert report.status == "proved"
    (group,) = report.groups
    assert (group.layer, group.kept, group.closed) == ("h1", 1, (3, 7))
    assert group.ratios == pytest.approx((2.5, 0.01), rel=1e-4)
    alpha = (net.h1.mu**2 / net.h1.log_var.exp()).detach().double()[[1, 3, 7]]
    assert group.alpha_after == pytest.approx(float(alpha.sum()), rel=1e-5)
    fell = 0.5 * float(torch.log1p(alpha).sum() - torch.log1p(alpha.sum()))
    assert report.information_before - report.information_after == pytest.approx(fell, rel=1e-4)
    assert torch.allclose(net.eval()(x), merged.eval()(x), atol=close * 10)
    assert not merged.h1.active[[3, 7]].any()
    assert net.h1.active.all()  # the original is left alone
    # covariance of the next pre-activation for one input, from the gates' laws directly
    with torch.no_grad():
        f = torch.relu(net.linear1(x * net.input.mean())).double()
        f = f[f[:, 1].argmax()]  # an input on which the group is active

        def covariance(n: nn.Sequential) -> torch.Tensor:
            w = n.linear2.weight.double() * f
            return (w * (n.h1.log_var.double().exp() * n.h1.active)) @ w.T

        difference = covariance(net) - covariance(merged)
    assert float(torch.linalg.eigvalsh(difference)[0]) >= -close * float(difference.trace().abs() + 1)
    assert float(difference.trace()) > 0
    assert merge_redundant(merged, x)[1].status == "nothing to merge"


def test_convolutional_channels() -> None:
    torch.manual_seed(0)
    net = lenet_5_caffe()
    with torch.no_grad():
        net.convolution1.weight[3] = 2 * net.convolution1.weight[1]
        net.convolution1.bias[3] = 2 * net.convolution1.bias[1]
    x = torch.rand(40, 1, 28, 28)
    merged, report = merge_redundant(net, x, layer="conv1")
    assert report.status == "proved"
    assert [g.closed for g in report.groups] == [(3,)]
    assert torch.allclose(net.eval()(x), merged.eval()(x), atol=1e-5)
    assert "conv2" in merge_redundant(net, x[:8])[1].skipped


def _tied(net: nn.Sequential) -> None:
    net.second.weight = net.first.weight


def _used_twice(net: nn.Sequential) -> None:
    net.second = net.first


def _one_gate(net: nn.Sequential) -> None:
    net.gate2 = net.gate


def _hooked(net: nn.Sequential) -> None:
    net.second.register_forward_pre_hook(lambda module, given: (given[0].roll(1, 1),))


@pytest.mark.parametrize(
    "sharing",
    [
        _tied,
        _used_twice,
        _one_gate,
        _hooked,
        lambda net: nn.utils.parametrizations.weight_norm(net.second),
        lambda net: nn.utils.spectral_norm(net.second),
        lambda net: prune.l1_unstructured(net.second, "weight", 0.3),
    ],
)
def test_weights_that_are_not_the_layers_alone_are_left_alone(sharing: Callable[[nn.Sequential], object]) -> None:
    """Merging would change what else reads them, or would be overwritten; the proof looks at one layer only."""
    torch.manual_seed(1)
    gates = {name: Gate(4) for name in ("gate", "gate2")}
    net = nn.Sequential(OrderedDict(
        first=nn.Linear(4, 4), relu=nn.ReLU(), gate=gates["gate"], second=nn.Linear(4, 4), relu2=nn.ReLU(),
        gate2=gates["gate2"], last=nn.Linear(4, 2),
    ))  # fmt: skip
    with torch.no_grad():
        for gate in gates.values():
            gate.mu.uniform_(0.5, 1.5)
            gate.log_var.fill_(-4.0)
        net.first.weight[1], net.first.bias[1] = 2 * net.first.weight[0], 2 * net.first.bias[0]
    x = torch.randn(60, 4)
    assert [g.layer for g in merge_redundant(net, x)[1].groups] == ["gate"]  # as it is, there is something to merge
    sharing(net)
    net.eval()(x)
    merged, report = merge_redundant(net, x)
    assert "gate" not in [group.layer for group in report.groups]
    assert "used elsewhere" in report.skipped["gate"]
    torch.testing.assert_close(merged.eval()(x), net(x))
    with pytest.raises(InvalidInputError, match="layer: .*used elsewhere"):
        merge_redundant(net, x, layer="gate")


def test_correlation_is_not_proportionality() -> None:
    net, x = redundant()
    with torch.no_grad():
        net.linear1.bias[3] += 1e-3
        net.linear1.bias[7] += 1e-3
    assert merge_redundant(net, x)[1].status == "nothing to merge"


def test_units_below_the_threshold_are_left_alone() -> None:
    net, x = redundant()
    with torch.no_grad():
        net.h1.log_var[[3, 7]] = 9.0
    assert merge_redundant(net, x)[1].closed == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"layer": "h9"}, "layer"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"tolerance": np.nan}, "tolerance"),
        ({"batch_size": 0}, "batch_size"),
        ({"data": torch.zeros(0, 9)}, "data"),
        ({"data": torch.full((3, 9), torch.nan)}, "data"),
        ({"data": [1.0]}, "data"),
        ({"net": mlp((9, 3), gated=False)}, "net"),
        ({"net": nn.Linear(9, 2)}, "net"),
        ({"net": lenet_5_caffe(), "layer": "conv2"}, "layer"),
    ],
)
def test_bad_input(options: dict[str, object], name: str) -> None:
    net, x = redundant()
    with pytest.raises(InvalidInputError, match=f"^{name}:"):
        merge_redundant(**({"net": net, "data": x} | options))  # type: ignore[arg-type]
