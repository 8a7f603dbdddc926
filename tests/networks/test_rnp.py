"""RNP: its penalty by NumPy, what it computes and what that costs against nets that are cut by hand for each input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import vibtheory as vt
from vibtheory.compression.metrics import average_flop, compression
from vibtheory.datasets import from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import RNPGate, make_gate, named_gates
from vibtheory.networks.lenet import lenet_5_caffe

IMAGES = torch.randn(12, 1, 9, 9, generator=torch.Generator().manual_seed(0))
IMAGES += torch.linspace(-2, 2, 12).view(-1, 1, 1, 1)
SIZES = [2, 4, 5], [2, 3, 4]  # channels that each choice computes: 5 and 4 in 3 groups


def _net(spread: float = 3.0) -> nn.Sequential:
    """conv1 [5] and conv2 [4], whose units leave through a Flatten; policies that differ from input to input."""
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Conv2d(1, 5, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 4, 3), nn.ReLU(),
                          nn.Flatten(), nn.Linear(16, 3))  # fmt: skip
    net = vt.insert_gates(plain, IMAGES, law="rnp", groups=3)
    assert isinstance(net, nn.Sequential)
    for gate in _gates(net):  # a third of the inputs each: below, between and above two quantiles of what enters
        net.eval()(IMAGES)
        assert gate.policy is not None
        assert gate._seen is not None
        low, high = gate._seen.sum(1).quantile(torch.tensor([0.35, 0.65]))
        gate.policy.weight.data = spread * torch.tensor([-1.0, 0.0, 1.0])[:, None].expand(3, gate._seen.shape[1])
        gate.policy.bias.data = spread * torch.stack([low, torch.tensor(0.0), -high])
    return net


def _gates(net: nn.Module) -> list[RNPGate]:
    return [gate for gate in named_gates(net).values() if isinstance(gate, RNPGate)]


def _probabilities(gate: RNPGate, entering: torch.Tensor) -> np.ndarray:
    assert gate.policy is not None
    weight, bias = (p.detach().double().numpy() for p in (gate.policy.weight, gate.policy.bias))
    logits = entering.detach().double().numpy().mean((2, 3)) @ weight.T + bias
    logits = 4 * np.tanh(logits / 4)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(odds / odds.sum(1, keepdims=True))


def test_penalty_is_the_expected_number_of_computed_channels() -> None:
    net = _net(0.3).train()
    net(IMAGES)
    gate, sizes = _gates(net)[0], np.array(SIZES[0])
    assert gate.policy is not None
    truth = (_probabilities(gate, IMAGES) @ sizes).mean()
    assert gate.penalty().item() == pytest.approx(truth, rel=1e-6)
    for image in IMAGES.split(1):  # a score gets the slope of the mean without the factor of its probability
        gate._look(net[0], (image,))
        gate.zero_grad()
        gate.penalty().backward()
        assert gate.policy.bias.grad is not None
        for j, probability in enumerate(_probabilities(gate, image)[0]):
            values = []
            for step in (1e-2, -2e-2):
                gate.policy.bias.data[j] += step
                values.append((_probabilities(gate, image) @ sizes).item())
            gate.policy.bias.data[j] += 1e-2
            slope = (values[0] - values[1]) / 2e-2
            assert float(gate.policy.bias.grad[j]) * probability == pytest.approx(slope, rel=1e-3, abs=1e-5)
    gate._look(net[0], (IMAGES,))
    torch.manual_seed(2)
    draws = torch.stack([gate.sample(12).detach() for _ in range(2000)]).double()
    assert {tuple(row) for row in draws[:50].reshape(-1, 5).int().tolist()} <= {
        (1, 1, 0, 0, 0), (1, 1, 1, 1, 0), (1, 1, 1, 1, 1),
    }  # fmt: skip
    assert draws.mean().item() * 5 == pytest.approx(truth, abs=5 * 1.5 / np.sqrt(24_000))
    torch.manual_seed(2)
    gate._look(net[0], (IMAGES[3:5],))
    assert torch.equal(gate.sample(12, slice(3, 5)).double(), draws[0, 3:5])  # what a process of several draws


def _cut(net: nn.Sequential, first: int, second: int) -> nn.Sequential:
    """The plain net of `first` and `second` channels."""
    state = net.state_dict()
    small = nn.Sequential(nn.Conv2d(1, first, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(first, second, 3), nn.ReLU(),
                          nn.Flatten(), nn.Linear(4 * second, 3))  # fmt: skip
    small.load_state_dict({
        "0.weight": state["0.weight"][:first], "0.bias": state["0.bias"][:first],
        "3.weight": state["3.weight"][:second, :first], "3.bias": state["3.bias"][:second],
        "6.weight": state["6.weight"][:, : 4 * second], "6.bias": state["6.bias"],
    })  # fmt: skip
    return small


def test_each_input_is_computed_and_counted_as_by_a_net_cut_for_it() -> None:
    net = _net().eval()
    out, costs, seen = net(IMAGES), [], set()
    for n in range(12):
        x = IMAGES[n : n + 1]
        first = int(_probabilities(_gates(net)[0], x)[0].argmax())
        small = _cut(net, SIZES[0][first], 4)
        entering = nn.functional.pad(small[:3](x), (0, 0, 0, 0, 0, 5 - SIZES[0][first]))  # what is not computed is 0
        second = int(_probabilities(_gates(net)[1], entering)[0].argmax())
        small = _cut(net, SIZES[0][first], SIZES[1][second])
        torch.testing.assert_close(small(x)[0], out[n])
        with FlopCounterMode(display=False) as counter:
            small(x)
        costs.append(counter.get_total_flops() / 2 + 3 * 1 + 3 * 5)  # and both policies
        seen.add((first, second))
    assert len(seen) > 2
    assert average_flop(net, IMAGES) == pytest.approx(np.mean(costs), rel=1e-12)
    gate = _gates(net)[0]
    gate.close([0])
    assert net(IMAGES).isfinite().all()
    decided = gate.decide()
    assert decided is not None
    assert not decided[:, 0].any()


@pytest.mark.parametrize("law", ["l0", "pf"])
def test_gates_of_other_laws_cost_what_the_tables_count(law: str) -> None:
    net = lenet_5_caffe(law=law).eval()
    gates = named_gates(net)
    gates["conv2"].close(range(7, 30))
    gates["flat"].close(torch.arange(800) % 5 == 0)
    assert average_flop(net, torch.zeros(2, 1, 28, 28)) == compression(net).flop


def test_limits_and_extremes() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for size in (-1e30, -1e3, 0.0, 1e3, 1e30):
            net = _net().to(dtype)
            for gate in _gates(net):
                assert gate.policy is not None
                gate.policy.weight.data.fill_(0.1 * size)
                gate.policy.bias.data = torch.tensor([0, 0, size], dtype=dtype)
            (1e-9 * net(IMAGES.to(dtype)).float().sum() + sum(gate.penalty() for gate in _gates(net))).backward()
            assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
            assert bool(net.eval()(IMAGES.to(dtype)).isfinite().all())
    net, x = _net(), IMAGES
    for choice in range(3):
        for gate in _gates(net):
            assert gate.policy is not None
            gate.policy.weight.data.zero_()
            gate.policy.bias.data = 100.0 * torch.eye(3)[choice]
        net(x)
        odds = np.exp(4.0 * np.eye(3)[choice])  # no score is beyond 4
        truth = [odds @ sizes / odds.sum() for sizes in SIZES]
        assert [gate.penalty().item() for gate in _gates(net)] == pytest.approx(truth, rel=1e-6)


def test_training_pays_for_channels_and_a_saved_run_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((40, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, 40)
    data = from_arrays(x, y, x, y, classes=10, name="noise")
    costs = {}
    for gamma in (0.0, 3e-3):
        torch.manual_seed(4)
        run = vt.train(lenet_5_caffe(law="rnp"), data, gamma=gamma, seed=1, epochs=3, pretrain_epochs=0, batch_size=10,
                       gate_learning_rate=0.3)  # fmt: skip
        costs[gamma] = average_flop(run.net, torch.from_numpy(x))
    assert costs[3e-3] < 0.5 * costs[0.0]
    assert run.history["architecture"].iloc[-1] == "20-50-800-500"  # no weight goes
    back = vt.load(run.save(tmp_path / "run"))
    images = torch.from_numpy(x)
    assert torch.equal(back.net.eval()(images), run.net.eval()(images))


def test_policies_spend_channels_on_the_inputs_that_need_them() -> None:
    """Half the images are told from the others by their brightness alone, half show one of 16 patterns."""
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((16, 5, 5))
    patterns -= patterns.mean((1, 2), keepdims=True)

    def images(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        bright, shown = rng.random(n) < 0.5, rng.integers(0, 16, n)
        x = 0.6 * rng.standard_normal((n, 5, 5)) + np.where(bright[:, None, None], 1.5, patterns[shown])
        return x[:, None].astype(np.float32), np.where(bright, 16, shown), bright

    x, y, _ = images(3000)
    x_test, y_test, bright = images(1000)
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.Flatten(), nn.Linear(16, 17))
    net = vt.insert_gates(plain, torch.from_numpy(x[:2]), law="rnp")
    data = from_arrays(x, y, x_test, y_test, classes=17, name="patterns")
    run = vt.train(net, data, gamma=1e-2, seed=1, epochs=15, pretrain_epochs=3, batch_size=50, learning_rate=1e-2,
                   gate_learning_rate=5e-2)  # fmt: skip
    run.net.eval()(torch.from_numpy(x_test))
    decided = _gates(run.net)[0].decide()
    assert decided is not None
    channels = decided.sum(1).numpy()
    assert channels[bright].mean() <= 5
    assert channels[~bright].mean() >= 15
    assert run.history["error"].iloc[-1] < 1


def test_bad_input() -> None:
    for groups in (0, 6, 2.5):
        with pytest.raises(InvalidInputError, match=f"groups: got {groups}, expected from 1 to 5"):
            make_gate("rnp", 5, groups=groups)
    with pytest.raises(InvalidInputError, match="gates that decide per input: 0_gate, 3_gate"):
        vt.compress(_net(), IMAGES)
