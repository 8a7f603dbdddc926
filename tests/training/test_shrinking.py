"""Cutting closed units out while training changes nothing but the cost."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory import networks
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.training import shrinking
from vibtheory.training.shrinking import Shrinker, check_shrinkable, close_dead


def _batchnorm_net() -> nn.Sequential:
    relu = nn.ReLU()  # one object, used three times
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), relu, Gate(6), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3, bias=False)),
        *(nn.BatchNorm2d(5), relu, Gate(5), nn.Flatten(), Gate(20), nn.Linear(20, 7), relu, Gate(7), nn.Linear(7, 3)),
    )


CASES: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = {
    "mlp": (lambda: networks.mlp((11, 9, 8, 3)), (11,)),
    "lenet_5_caffe": (networks.lenet_5_caffe, (1, 28, 28)),
    "BatchNorm": (_batchnorm_net, (2, 10, 10)),
}


def _prepared(case: str) -> tuple[nn.Sequential, torch.optim.Optimizer, Tensor]:
    """A net with a random share of its gates closed and two steps of Adam behind it."""
    build, shape = CASES[case]
    torch.manual_seed(5)
    net = build()
    x = torch.randn(16, *shape) * 2.5
    for gate in named_gates(net).values():
        nn.init.normal_(gate.mu, std=1.7)
        gate.close(torch.rand(gate.features) < 0.4)
        assert 0 < int(gate.active.sum()) < gate.features
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(2):
        optimizer.zero_grad()
        net.train()(x).square().mean().backward()
        optimizer.step()
    close_dead(net)
    return net, optimizer, x


def _state(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        tensors |= {f"{name}:{key}": value.clone() for key, value in optimizer.state[parameter].items()}
    return tensors


def _input(x: Tensor, shrinker: Shrinker) -> Tensor:
    kept = shrinker.kept_inputs()
    return x if kept is None else x.flatten(1)[:, kept]


@pytest.mark.parametrize("case", CASES)
def test_expand_undoes_shrink(case: str) -> None:
    net, optimizer, _ = _prepared(case)
    before, count = _state(net, optimizer), sum(p.numel() for p in net.parameters())
    shrinker = Shrinker(net, optimizer)
    for _ in range(2):
        shrinker.shrink()
        assert sum(p.numel() for p in net.parameters()) < 0.7 * count
        shrinker.expand()
        after = _state(net, optimizer)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
        sizes = [m.out_features for m in net if isinstance(m, nn.Linear)]
        assert sizes == [len(m.weight) for m in net if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("case", CASES)
def test_what_is_cut_again_goes_back_to_its_place_in_memory(case: str) -> None:
    """A captured step reads and writes addresses: values that changed meanwhile must be found at the same ones."""
    net, optimizer, _ = _prepared(case)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    shrinker = Shrinker(net, optimizer)
    shrinker.shrink()
    before = {name: tensor.data_ptr() for name, tensor in net.state_dict().items()}
    layout = [m.weight.is_contiguous(memory_format=torch.channels_last) for m in net if isinstance(m, nn.Conv2d)]
    assert all(layout)
    moments = [value.data_ptr() for state in optimizer.state.values() for value in state.values()]
    small = _state(net, optimizer)
    shrinker.expand()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.5
    shrinker.shrink()
    assert before == {name: tensor.data_ptr() for name, tensor in net.state_dict().items()}
    assert moments == [value.data_ptr() for state in optimizer.state.values() for value in state.values()]
    for name, p in net.named_parameters():
        torch.testing.assert_close(p.detach(), small[name] + 0.5)


def test_widths_filled_up_with_closed_units() -> None:
    net, optimizer, x = _prepared("BatchNorm")
    full = net.eval()(x).detach()
    gates = [gate for gate in named_gates(net).values() if gate.features != 20]  # the flat one follows its channels
    opened = [int(gate.active.sum()) for gate in gates]
    shrinker = Shrinker(net, optimizer, 4)
    shrinker.shrink()
    sizes = [gate.features for gate in gates]
    assert sizes == [min(-(-n // 4) * 4, width) for n, width in zip(opened, (6, 5, 7), strict=True)]
    assert sizes != opened
    assert [int(gate.active.sum()) for gate in gates] == opened
    torch.testing.assert_close(net.eval()(x).detach(), full, rtol=1e-5, atol=1e-5)
    shrinker.expand()
    torch.testing.assert_close(net.eval()(x).detach(), full, rtol=0, atol=0)


def _interrupted(call: Callable[[], None], line: int) -> bool:
    """Make a call with Ctrl-C at the `line`-th line of `training.shrinking` that it executes; False: fewer lines."""
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != shrinking.__file__:
            return None
        left -= event == "line"
        if left == 0:
            left = -1  # once
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("step", ["shrink", "expand"])
def test_interrupted_at_any_line_it_still_comes_back(step: str) -> None:
    """Ctrl-C in the middle of cutting or pasting: `expand` afterwards gives the full net, bit by bit."""
    net, optimizer, _ = _prepared("mlp")
    before = _state(net, optimizer)
    shrinker = Shrinker(net, optimizer)
    line = 0
    struck = True
    while struck:
        line += 1
        if step == "expand":
            shrinker.shrink()
        struck = _interrupted(getattr(shrinker, step), line)
        shrinker.expand()
        after = _state(net, optimizer)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), line
        assert [m.in_features for m in net if isinstance(m, nn.Linear)] == [11, 9, 8]
    assert line > 100


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_the_same(case: str) -> None:
    net, optimizer, x = _prepared(case)
    full = net.eval()(x).detach()
    shrinker = Shrinker(net, optimizer)
    shrinker.shrink()
    torch.testing.assert_close(net.eval()(_input(x, shrinker)).detach(), full, rtol=1e-5, atol=1e-5)
    assert full.abs().max() > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_rows_of_the_full_ones(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise for the units that survive: gradients, and one step of Adam, agree where nothing was cut."""
    net, optimizer, x = _prepared(case)
    y = torch.arange(16) % 3
    gates = list(named_gates(net).values())
    noise = [torch.randn(16, gate.features) for gate in gates]
    left = [torch.arange(gate.features) for gate in gates]  # which of a gate's units the net still has
    calls = 0

    def fixed(rows: int, features: int, **_: Any) -> Tensor:
        nonlocal calls
        place, calls = calls % len(gates), calls + 1
        return noise[place][:rows, left[place]]

    monkeypatch.setattr(torch, "randn", fixed)

    def step(inputs: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        loss = functional.cross_entropy(net.train()(inputs), y)
        for gate in gates:
            loss = loss + 3e-3 * gate.information()
        loss.backward()
        return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}

    buffers = {name: b.clone() for name, b in net.named_buffers()}
    full = step(x)
    for name, buffer in net.named_buffers():
        buffer.copy_(buffers[name])
    count = sum(p.numel() for p in net.parameters())
    shrinker = Shrinker(net, optimizer)
    shrinker.shrink()
    for place, name in enumerate(named_gates(net)):
        cut = shrinker._cuts.get(f"{name}.mu", [None])[0]
        left[place] = left[place] if cut is None else cut
    small = step(_input(x, shrinker))
    compared = 0
    for name, gradient in small.items():
        wanted, axes = full[name], shrinker._cuts.get(name, [])
        for axis, index in enumerate(axes):
            wanted = wanted if index is None else wanted.index_select(axis, index)
        torch.testing.assert_close(gradient, wanted, rtol=2e-4, atol=2e-6)
        compared += gradient.numel()
    assert 0 < compared < count


def test_updates_while_shrunken_survive_and_the_cut_stays_frozen() -> None:
    net, optimizer, x = _prepared("mlp")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    shrinker = Shrinker(net, optimizer)
    shrinker.shrink()
    cuts = dict(shrinker._cuts)
    optimizer.zero_grad()
    net.train()(_input(x, shrinker)).square().mean().backward()
    optimizer.step()
    small = {name: p.detach().clone() for name, p in net.named_parameters()}
    shrinker.expand()
    for name, p in net.named_parameters():
        inside = np.ix_(
            *[
                np.arange(n) if i is None else i.numpy()
                for n, i in zip(p.shape, cuts.get(name, [None] * p.ndim), strict=True)
            ]
        )
        outside = torch.ones(p.shape, dtype=torch.bool)
        outside[inside] = False
        assert torch.equal(p.detach()[inside], small[name])
        assert torch.equal(p.detach()[outside], before[name][outside])
    assert any(not torch.equal(before[name], p.detach()) for name, p in net.named_parameters())


def test_close_dead_closes_in_both_directions_and_never_empties_a_layer() -> None:
    net = CASES["BatchNorm"][0]()
    channels, flat = net[8], net[10]
    with torch.no_grad():
        channels.mu[1] = 0.0  # its four positions are dead
        flat.mu[8:12] = 0.0  # so channel 2 is dead
    assert close_dead(net) == {"3": 6, "8": 3, "10": 12, "13": 7}
    assert channels.active.tolist() == [True, False, False, True, True]
    assert flat.active.view(5, 4).all(dim=1).tolist() == [True, False, False, True, True]
    with torch.no_grad():
        net[13].mu.fill_(0.0)
    active = {name: gate.active.clone() for name, gate in named_gates(net).items()}
    assert set(close_dead(net).values()) == {0}
    assert all(torch.equal(active[name], gate.active) for name, gate in named_gates(net).items())


def test_a_gate_before_flatten_is_no_gate_of_flat_inputs() -> None:
    """Channels gated, then flattened: the inputs cannot be cut by channel index."""
    net = nn.Sequential(Gate(3), nn.Flatten(), nn.Linear(12, 2))
    net[0].close(torch.tensor([1]))
    x = torch.randn(5, 3, 2, 2)
    expected = net.eval()(x)
    shrinker = Shrinker(net, torch.optim.Adam(net.parameters()))
    shrinker.shrink()
    assert shrinker.kept_inputs() is None
    assert torch.equal(net(x), expected)


SHARED = nn.Linear(4, 4)
BAD: dict[str, nn.Module] = {
    "sigmoid after a gate": nn.Sequential(nn.Linear(4, 4), Gate(4), nn.Sigmoid(), nn.Linear(4, 2)),
    "BatchNorm1d after a gate": nn.Sequential(nn.Linear(4, 4), Gate(4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
    "BatchNorm2d after a gate": nn.Sequential(nn.Conv2d(1, 4, 3), Gate(4), nn.ReLU(), nn.BatchNorm2d(4)),
    "one layer twice": nn.Sequential(SHARED, Gate(4), SHARED, nn.ReLU()),
    "no chain": nn.Linear(4, 2),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize(
    "what", [check_shrinkable, close_dead, lambda net: Shrinker(net, torch.optim.Adam(net.parameters()))]
)
def test_nets_that_cannot_be_cut(case: str, what: Any) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        what(BAD[case])
