"""All gates priced at once against the gates one by one, and the order in which a graph is warmed up and replayed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vibtheory import networks
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import add_information_gradient, named_gates, objective, unit_prices
from vibtheory.training.hardware import GraphedStep, check_acceleration


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


def test_checks() -> None:
    check_acceleration("graph", torch.device("cuda"), 1)
    check_acceleration("none", torch.device("cpu"), 4)
    for name, device, processes, words in (
        ("fast", "cpu", 1, "one of none"), ("graph", "cpu", 1, "CUDA"), ("compile", "cpu", 2, "torchrun"),
    ):  # fmt: skip
        with pytest.raises(InvalidInputError, match=words):
            check_acceleration(name, torch.device(device), processes)
