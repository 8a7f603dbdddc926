"""All gates priced at once against the gates one by one, and the order in which a graph is warmed up and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tiny_cifar import seeded
from vibtheory import networks
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import add_information_gradient, named_gates, objective, unit_prices
from vibtheory.training.hardware import GraphedStep, check_acceleration, compiled_blocks, interleave


@pytest.mark.parametrize(
    "price", [0.03, {"conv1": 0.5, "conv2": 0.02, "flat": 1.5, "fc1": 0.0}], ids=["one", "by layer"]
)
def test_the_gradient_of_all_gates_at_once_is_that_of_the_sum_over_gates(price: Any) -> None:
    torch.manual_seed(0)
    gates = named_gates(networks.lenet_5_caffe())
    for gate in gates.values():
        torch.nn.init.normal_(gate.mu, 0.0, 2.0)
        torch.nn.init.normal_(gate.log_var, -1.0, 3.0)
    gates["conv1"].close(torch.tensor([3, 5]))
    with torch.no_grad():
        gates["fc1"].mu[7] = 0.0
    parameters = [p for gate in gates.values() for p in gate.parameters()]
    parameters[0].grad = torch.full_like(parameters[0], 0.25)  # what the loss has left there
    expected = torch.autograd.grad(objective(torch.zeros(()), gates, price), parameters)
    add_information_gradient(gates, unit_prices(gates, price))
    torch.testing.assert_close(parameters[0].grad, 0.25 + expected[0], rtol=1e-5, atol=1e-7)
    for ours, theirs in zip(parameters[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours.grad, theirs, rtol=1e-5, atol=1e-7)


def test_steps_before_and_beside_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: CUDA's parts replaced by a recorder that, as a capture does, runs the step at replay only."""
    events: list[str] = []

    class Graph:
        def replay(self) -> None:
            events.append("replay")

    class Context:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: Any) -> None: ...

    for name, value in (("CUDAGraph", Graph), ("graph", lambda _, stream: Context()), ("current_stream", Context)):
        monkeypatch.setattr(torch.cuda, name, value)
    seen: list[torch.Tensor] = []

    def step(batch: torch.Tensor) -> torch.Tensor:
        events.append(f"step of {len(batch)}")
        seen.append(batch)
        return batch.sum().float()

    graphed = GraphedStep(step)
    for k in range(5):
        graphed(torch.arange(4) + k)
    graphed(torch.arange(3))
    assert events == ["step of 4"] * 4 + ["replay", "replay", "step of 3"]
    assert seen[3].tolist() == [4, 5, 6, 7]  # the captured tensor holds the latest batch


class Device:
    """A stand-in for a GPU: streams by number, and a generator whose state several holders may share."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.streams = [0]  # the current one last
        self.made = 0
        self.state = [100]
        fakes = {"Stream": self._stream, "stream": self._on, "current_stream": lambda *_: self.streams[-1],
                 "synchronize": lambda *_: None, "default_generators": [self]}  # fmt: skip
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    def _stream(self, _: torch.device) -> Any:
        self.made += 1
        return SimpleNamespace(number=self.made, wait_stream=lambda _: None)

    @contextmanager
    def _on(self, stream: Any) -> Iterator[None]:
        self.streams.append(stream.number)
        yield
        self.streams.pop()

    def clone_state(self) -> list[int]:
        return list(self.state)

    def graphsafe_get_state(self) -> list[int]:
        return self.state

    def graphsafe_set_state(self, state: list[int]) -> None:
        self.state = state

    def draw(self) -> int:
        self.state[0] += 1
        return self.state[0]


def test_each_run_has_a_stream_and_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    device, seen = Device(monkeypatch), []

    def run(name: str, steps: int) -> Any:
        drawn = []
        for _ in range(steps):
            drawn.append((device.draw(), round(float(torch.rand(())), 6)))
            seen.append((name, device.streams[-1]))
            yield False
        return drawn

    torch.manual_seed(3)
    numbers = [(101 + k, round(float(torch.rand(())), 6)) for k in range(3)]
    torch.manual_seed(3)
    assert interleave([run("a", 3), run("b", 1), run("c", 2)], torch.device("cuda")) == [
        numbers, numbers[:1], numbers[:2],
    ]  # fmt: skip
    assert seen == [("a", 1), ("b", 2), ("c", 3), ("a", 1), ("c", 3), ("a", 1)]
    assert (device.state, device.streams) == ([100], [0])  # what was there before is there again
    assert interleave([run("alone", 2)], torch.device("cuda")) == [numbers[:2]]
    assert device.state == [102]  # alone it draws from the device's own


@pytest.mark.parametrize("gated", [True, False], ids=["gated epochs", "pretraining"])
def test_compiled_blocks_are_the_net(gated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not compiled here, which takes a while: the same outputs, gradients and statistics with the same noise."""
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    x, results = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), []
    for make in (compiled_blocks, lambda net: net):
        net = seeded(classes=3, size=8).train()
        for gate in named_gates(net).values():
            gate.close(torch.tensor([1, 4]))
            gate.train(gated)
        torch.manual_seed(1)
        out = make(net)(x)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in net.parameters() if p.grad is not None), *net.buffers()])
    assert len(results[0]) == len(results[1]) > 15
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_checks() -> None:
    check_acceleration("graph", torch.device("cuda"), 1)
    check_acceleration("none", torch.device("cpu"), 4)
    for name, device, processes, words in (
        ("fast", "cpu", 1, "one of none"), ("graph", "cpu", 1, "CUDA"), ("compile", "cpu", 2, "torchrun"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=words):
            check_acceleration(name, torch.device(device), processes)
