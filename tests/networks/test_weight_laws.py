"""Regularisers of the weights as gates: penalties and what is kept, against NumPy on the weights themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import vibtheory as vt
from tests.small_net import small_data
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import make_gate, named_gates
from vibtheory.networks.lenet import lenet_5_caffe, lenet_300_100, mlp

Array = np.ndarray


def _norm(rows: Array) -> Array:
    return np.array([np.sqrt((row**2).sum()) for row in rows])


def _size(rows: Array) -> Array:
    return np.array([np.abs(row).sum() for row in rows])


# Of one gate, from the weights into it (rows [d, …]), those out of it, and the scales of its BatchNorm.
WEIGHT_LAWS: dict[str, Callable[[Array, Array, Array], float]] = {
    "gl": lambda into, out, scale: (_norm(into) + _norm(out)).sum(),
    "dn": lambda into, out, scale: (_norm(into) + _norm(out) + 0.1 * _size(out)).sum(),
    "ns": lambda into, out, scale: np.abs(scale).sum(),
    "pf": lambda into, out, scale: 0.0,
}
IMAGE = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _convolutional(law: str, **options: float) -> nn.Module:
    """conv1 [6] and conv2 [4]; the second's units leave through a Flatten of 4 positions each."""
    torch.manual_seed(6)
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 2),
                        nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.2, 1.0)
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
    return vt.insert_gates(net, IMAGE, law=law, **options)


def _weights(net: nn.Module) -> list[tuple[Array, Array, Array]]:
    """(into, out, scale) of both gates."""
    state = {name: value.double().numpy() for name, value in net.state_dict().items()}
    first, second, last = state["0.weight"], state["4.weight"], state["8.weight"]
    return [
        (first.reshape(6, -1), second.transpose(1, 0, 2, 3).reshape(6, -1), state["1.weight"]),
        (second.reshape(4, -1), np.array([last[:, 4 * j : 4 * j + 4].ravel() for j in range(4)]), state["5.weight"]),
    ]


@pytest.mark.parametrize("law", WEIGHT_LAWS)
def test_penalty_is_that_of_the_weights(law: str) -> None:
    net = _convolutional(law)
    gates = list(named_gates(net).values())
    wanted = [WEIGHT_LAWS[law](*around) for around in _weights(net)]
    assert [gate.penalty().item() for gate in gates] == pytest.approx(wanted, rel=1e-6)
    torch.testing.assert_close(net.train()(IMAGE), net(IMAGE))  # nothing is random
    if law == "pf":
        return
    weight = net.get_parameter("1.weight" if law == "ns" else "0.weight")
    sum(gate.penalty() for gate in gates).backward()
    assert weight.grad is not None
    slope, step = weight.grad.flatten()[0].item(), 1e-3
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.flatten()[0] += sign * step
            values.append(sum(WEIGHT_LAWS[law](*around) for around in _weights(net)))
            weight.flatten()[0] -= sign * step
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-3)


def _kept(law: str, into: Array, out: Array, scale: Array) -> list[bool]:
    if law == "ns":
        return [bool(s > 0.5) for s in np.abs(scale)]
    if law == "pf":
        return [bool(r >= len(into) // 2) for r in _size(into).argsort().argsort()]
    both = _norm(into) * _norm(out)
    return [bool(b > 0.8 * both.max()) for b in both]


@pytest.mark.parametrize("law", WEIGHT_LAWS)
def test_what_is_kept_is_what_compression_leaves(law: str) -> None:
    net = _convolutional(law, threshold=0.8 if law in ("gl", "dn") else 0.5).eval()
    kept = [_kept(law, *around) for around in _weights(net)]
    assert [gate.keep.tolist() for gate in named_gates(net).values()] == kept
    assert all(any(mask) and not all(mask) for mask in kept)
    small = vt.compress(net, IMAGE)
    torch.testing.assert_close(small(IMAGE), net(IMAGE), rtol=1e-4, atol=1e-5)
    a, b = map(sum, kept)
    assert sum(p.numel() for p in small.parameters() if p.ndim > 1) == 9 * a + 4 * a * b + 4 * b * 3
    gate = named_gates(net)["0_gate"]
    before = gate.penalty().item()
    gate.close(torch.arange(6))
    assert gate.penalty().item() == 0
    assert not gate.keep.any()
    assert before >= 0


@pytest.mark.parametrize("law", ["gl", "dn"])
def test_training_pays_the_price(law: str) -> None:
    data = small_data(40)
    found = {}
    for gamma in (0.0, 1.0):
        torch.manual_seed(4)
        run = vt.train(mlp((6, 12, 8, 3), law=law), data, gamma=gamma, seed=1, epochs=8, batch_size=10,
                       learning_rate=1e-2, prune_every=5)  # fmt: skip
        found[gamma] = run.history["information"].iloc[-1]
    assert found[1.0] < 0.7 * found[0.0]


def test_weights_between_two_gates_count_once() -> None:
    """LeNet-5: the flattened map has a gate of its own, so conv2's units have no outgoing weights of theirs."""
    net = lenet_5_caffe(law="gl")
    state = {name: value.double().numpy() for name, value in net.state_dict().items()}
    wanted = {
        "conv1": _norm(state["convolution1.weight"]).sum() + _norm(state["convolution2.weight"].swapaxes(0, 1)).sum(),
        "conv2": _norm(state["convolution2.weight"]).sum(),
        "flat": _norm(state["linear1.weight"].T).sum(),
        "fc1": _norm(state["linear1.weight"]).sum() + _norm(state["linear2.weight"].T).sum(),
    }
    assert {name: gate.penalty().item() for name, gate in named_gates(net).items()} == pytest.approx(wanted, rel=1e-5)
    kept = {name: int(gate.keep.sum()) for name, gate in named_gates(lenet_5_caffe(law="pf")).items()}
    assert kept == {"conv1": 10, "conv2": 25, "flat": 800, "fc1": 500}  # filters alone are ranked


def test_slimmed_lenets_have_a_norm_before_each_hidden_gate() -> None:
    for net, x, inputs in ((lenet_300_100(law="ns"), torch.rand(4, 784), "input"),
                           (lenet_5_caffe(law="ns"), torch.rand(4, 1, 28, 28), "flat")):  # fmt: skip
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        assert {s for norm in norms for s in norm.weight.tolist()} == {0.5}
        for norm in norms:
            norm.weight.data[::3] = 0.009
            norm.bias.data.uniform_(-0.5, 0.5)
        net.train()(x)
        gates = {name: gate for name, gate in named_gates(net.eval()).items() if name != inputs}
        assert [gate.learned()[0] for gate in gates.values()] == [norm.weight for norm in norms]
        assert all(gate.keep.tolist() == [j % 3 != 0 for j in range(gate.features)] for gate in gates.values())
        small = vt.compress(net, x)
        torch.testing.assert_close(small(x), net(x), rtol=1e-4, atol=1e-5)
        assert {m.num_features for m in small.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)} == {
            gate.features - -(-gate.features // 3) for gate in gates.values()
        }


def test_half_precision_and_zero_weights_stay_finite() -> None:
    for law in ("gl", "dn"):
        for dtype in (torch.float32, torch.bfloat16):
            net = mlp((4, 5, 3), law=law).to(dtype)
            for parameter in net.parameters():
                parameter.data.zero_()
            total = sum(gate.penalty() for gate in named_gates(net).values())
            assert isinstance(total, torch.Tensor)
            total.backward()
            assert total.item() == 0
            assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
            assert not any(bool(gate.keep.any()) for gate in named_gates(net).values())


class Residual(nn.Module):
    """No Sequential."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)) + x)  # type: ignore[no-any-return]


BAD = {
    "'ns' with no BatchNorm before the gate '0_gate'": lambda: vt.insert_gates(
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.ones(2, 4), law="ns"
    ),
    "'pf' without a convolution": lambda: lenet_300_100(law="pf"),
    "expected a torch.nn.Sequential": lambda: vt.insert_gates(Residual(), torch.ones(2, 4), law="gl"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        BAD[message]()


@pytest.mark.parametrize("law", ["vd", "gl", "dn", "pf"])
def test_a_gate_put_in_by_hand_says_that_it_knows_no_weights(law: str) -> None:
    """VD raised torch's error of an empty list, and the others cost nothing and kept all, whatever the price."""
    with pytest.raises(InvalidInputError, match=f"'{law}' that knows no weights"):
        make_gate(law, 4).eval()(torch.ones(2, 4))


@pytest.mark.parametrize("law", ["vd", "gl", "ns"])
def test_other_networks_are_told_of_other_laws(law: str) -> None:
    net = nn.Sequential(nn.Conv1d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(9, 2))
    with pytest.raises(InvalidInputError, match=f"law: got '{law}'.*Conv1d.*law=\"vib\""):
        vt.insert_gates(net, torch.ones(2, 2, 4), law=law)
