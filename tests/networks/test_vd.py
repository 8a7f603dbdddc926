"""VD: its penalty by quadrature, its noise by moments, what is cut, and torch-pruning's ranks by NumPy."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vibtheory as vt
from tests.networks.test_gate_laws import _gnj_penalty
from tests.small_net import small_data
from vibtheory.compression.ranking import close_ranked
from vibtheory.errors import InvalidInputError, MissingDependencyError
from vibtheory.networks.gates import named_gates
from vibtheory.networks.gates.vd import VDGate
from vibtheory.networks.lenet import mlp

IMAGE = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _gates(net: nn.Module) -> dict[str, VDGate]:
    return {name: gate for name, gate in named_gates(net).items() if isinstance(gate, VDGate)}


def _net() -> nn.Module:
    """conv1 [4] and conv2 [3]; the second's units leave through a Flatten of 4 positions each."""
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.ReLU(),
                          nn.Flatten(), nn.Linear(12, 2))  # fmt: skip
    return vt.insert_gates(plain, IMAGE, law="vd")


def test_penalty_is_the_divergence_of_every_weight_once() -> None:
    torch.manual_seed(0)
    net = mlp((2, 3, 2), law="vd")
    gates = _gates(net)
    assert [[*dict(gate.named_parameters())] for gate in gates.values()] == [["out"], ["out"]]
    for gate in gates.values():
        gate.out.data.uniform_(-6, 1)
    weights = [net.get_parameter(f"linear{i}.weight").flatten().tolist() for i in (1, 2)]
    noise = [gate.out.flatten().tolist() for gate in gates.values()]
    truth = [[_gnj_penalty({"mu": w, "log_var": v}) for w, v in zip(*pair, strict=True)]
             for pair in zip(weights, noise, strict=True)]  # fmt: skip
    for gate, values in zip(gates.values(), truth, strict=True):
        assert gate.penalty().item() == pytest.approx(sum(values), abs=0.0095 * len(values))
    slope = torch.autograd.grad(gates["h1"].penalty(), gates["h1"].out)[0][0, 0].item()
    found = []
    for step in (1e-2, -2e-2):
        gates["h1"].out.data[0, 0] += step
        found.append(gates["h1"].penalty().item())
    assert slope == pytest.approx((found[0] - found[1]) / 2e-2, rel=2e-2, abs=1e-3)
    before = gates["h1"].penalty().item()
    gates["h1"].close([0, 1, 2])
    assert gates["h1"].penalty().item() == 0 < before
    first, second = _gates(_net()).values()
    assert [[*dict(gate.named_parameters())] for gate in (first, second)] == [["into", "out"], ["out"]]


def test_local_reparametrisation_has_the_moments_of_noisy_weights() -> None:
    net, n = _net(), 20_000
    gate = _gates(net)["0_gate"]
    gate.into.data.uniform_(-3, 0)
    layer = net[0]
    x = IMAGE[:1].expand(n, 1, 8, 8)
    torch.manual_seed(5)
    drawn = layer(x)[:, :, 1, 2].double()
    patch = IMAGE[0, 0, 1:4, 2:5].double().numpy()
    for j in range(4):
        weight, variance = layer.weight[j, 0].detach().numpy(), np.exp(gate.into[j, 0].detach().numpy())
        mean, spread = (weight * patch).sum() + layer.bias[j].item(), (variance * patch**2).sum()
        assert drawn[:, j].mean().item() == pytest.approx(mean, abs=5 * np.sqrt(spread / n))
        assert drawn[:, j].var().item() == pytest.approx(spread, rel=5 * np.sqrt(2 / n))
    gate.eval()
    assert torch.equal(layer(x[:2]), layer(x[:2]))
    twin = copy.deepcopy(net)
    _gates(twin)["0_gate"].into.data.fill_(-40.0)  # a copy's noise is its own
    torch.testing.assert_close(twin.train()[0](x[:1]), layer(x[:1]), rtol=1e-4, atol=1e-5)


def test_a_unit_goes_with_the_last_weight_into_or_out_of_it() -> None:
    net = _net().eval()
    first, second = _gates(net).values()
    assert first.keep.all() and second.keep.all()  # noqa: PT018
    first.into.data[0] = 5.0  # no weight into conv1's first unit is left
    first.out.data[:, 1] = 5.0  # nor any out of its second
    first.out.data[0, 2] = 5.0  # a single one of its third
    second.out.data[:, 8:12] = 5.0  # all positions of conv2's last channel
    assert first.keep.tolist() == [False, False, True, True]
    assert second.keep.tolist() == [True, True, False]
    small = vt.compress(net, IMAGE)
    torch.testing.assert_close(small(IMAGE), net(IMAGE), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in small.parameters() if p.ndim > 1) == 2 * 9 + 2 * 2 * 4 + 2 * 4 * 2
    assert not any(module._forward_hooks for module in small.modules())


def test_what_training_cuts_is_put_back_and_a_saved_run_comes_back(tmp_path: Path) -> None:
    data, x = small_data(40), torch.randn(5, 6)
    torch.manual_seed(4)
    net = mlp((6, 9, 8, 3), law="vd")
    _gates(net)["input"].out.data[:, :2] = 5.0
    _gates(net)["h1"].out.data[:, 3:6] = 5.0
    run = vt.train(net, data, gamma=0.3, seed=1, epochs=3, pretrain_epochs=0, batch_size=10, gate_learning_rate=1e-2,
                   prune_every=1)  # fmt: skip
    assert list(run.history["architecture"]) == ["4-6-8"] * 3
    assert run.history["information"].is_monotonic_decreasing
    assert _gates(run.net)["h1"].out.shape == (8, 9)
    back = vt.load(run.save(tmp_path / "run"))
    assert torch.equal(back.net(x), run.net.eval()(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_overflows(dtype: torch.dtype) -> None:
    for weight in (0.0, 1e-30, 1e4):
        for log_var in (-1e3, 0.0, 40.0):
            net = mlp((3, 4, 2), law="vd").to(dtype)
            for name, parameter in net.named_parameters():
                parameter.data.fill_(log_var if name.endswith("out") else weight)
            out = net(torch.ones(2, 3, dtype=dtype))
            total = 1e-9 * out.float().sum() + sum(gate.penalty() for gate in _gates(net).values())
            total.backward()
            assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
            assert bool(out.isfinite().all() & total.isfinite())


def test_torch_pruning_closes_what_ranks_least() -> None:
    torch.manual_seed(3)
    net = mlp((5, 6, 4, 2), law="open")
    first = net.get_parameter("linear1.weight").detach().numpy()
    second = net.get_parameter("linear2.weight").detach().numpy()
    first *= np.array([3, 1, 0.1, 2, 0.2, 1.5], dtype=np.float32)[:, None]
    second *= np.array([3, 0.1, 2, 1], dtype=np.float32)[:, None]
    close_ranked(net, torch.ones(2, 5), 0.5, "magnitude")
    # Its ranks are relative to the mean of their layer; half of the 10 units go.
    ranks = [np.linalg.norm(w, axis=1) for w in (first, second)]
    ranks = [rank / rank.mean() for rank in ranks]
    limit = np.sort(np.concatenate(ranks))[4]
    gates = named_gates(net)
    assert gates["input"].keep.all()
    assert [gates[name].keep.tolist() for name in ("h1", "h2")] == [(rank > limit).tolist() for rank in ranks]
    small, x = vt.compress(net.eval()), torch.randn(4, 5)
    torch.testing.assert_close(small(x), net(x))
    other = mlp((5, 6, 4, 2), law="open")
    other.load_state_dict({k: v for k, v in net.state_dict().items() if "active" not in k}, strict=False)
    close_ranked(other, torch.ones(2, 5), 0.5, "group")
    assert sum(int(gate.keep.sum()) for name, gate in named_gates(other).items() if name != "input") == 5


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    net = mlp((5, 6, 2), law="open")
    with pytest.raises(InvalidInputError, match="share: got 1"):
        close_ranked(net, torch.ones(2, 5), 1)
    with pytest.raises(InvalidInputError, match="by: got 'taylor'"):
        close_ranked(net, torch.ones(2, 5), 0.5, "taylor")
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(MissingDependencyError, match="pip install torch-pruning"):
        close_ranked(net, torch.ones(2, 5), 0.5)


def test_a_gate_between_gates_keeps_its_units() -> None:
    """No weights touch the one behind Tanh: it costs nothing, and evaluation multiplies by 1."""
    plain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Tanh(), nn.ELU(), nn.Linear(4, 2))
    gate = list(_gates(vt.insert_gates(plain, torch.ones(2, 3), law="vd")).values())[1]
    assert float(gate.penalty()) == 0
    assert gate.mean().tolist() == [1.0] * 4


@pytest.mark.parametrize("mode", ["zeros", "circular", "reflect"])
def test_noise_sees_the_padding_of_its_layer(mode: str) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode=mode), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    x = IMAGE[:1, :, :4, :4]
    net = vt.insert_gates(plain, x, law="vd")
    (gate,) = _gates(net).values()
    gate.into.data.fill_(-2.0)
    spread = net.train()[0](x.expand(20_000, 1, 4, 4)).var(dim=0)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="constant" if mode == "zeros" else mode)[0, 0].square()
    truth = np.exp(-2) * padded.unfold(0, 3, 1).unfold(1, 3, 1).sum((2, 3))  # σ² Σ x² under the filter
    assert (spread / truth - 1).abs().max() < 0.06  # standard errors of 1 %
