"""The modules after a gate, read off networks written in several styles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from vibtheory.bridge.downstream import modules_after, traced
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.insertion import insert_gates
from vibtheory.networks.lenet import lenet_5_caffe


class Functional(nn.Module):
    """A network with functions and methods instead of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3)
        self.gate = Gate(3)
        self.linear = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gate(functional.relu(self.convolution(x)))
        h = functional.max_pool2d(functional.leaky_relu(h, 0.2), 2, stride=2)
        h = functional.avg_pool2d(torch.tanh(h), 1)
        h = functional.dropout(h.relu(), training=self.training)
        return self.linear(h.view(h.size(0), -1))


class Residual(Functional):
    def forward(self, x: Tensor) -> Tensor:
        h = self.gate(self.convolution(x))
        return self.linear(functional.max_pool2d(h + torch.relu(h), 2).flatten(1))


class Twice(Functional):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(functional.max_pool2d(self.gate(self.gate(self.convolution(x))), 2).flatten(1))


class Branching(Functional):
    def forward(self, x: Tensor) -> Tensor:
        h = self.gate(self.convolution(x))
        return h if h.sum() > 0 else -h


class Odd(Functional):
    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.sort(functional.max_pool2d(self.gate(self.convolution(x)), 2).flatten(1))[0])


class Pair(Functional):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:  # type: ignore[override]
        return self.gate(self.convolution(x)), 1


@pytest.mark.parametrize("layer", ["conv1", "conv2", "flat", "fc1"])
def test_chain_of_a_sequential_is_its_tail(layer: str) -> None:
    net = lenet_5_caffe()
    chain = modules_after(net.eval(), layer, traced(net))
    names = list(dict(net.named_children()))
    assert chain.modules is not None
    assert [id(m) for m in chain.modules] == [id(m) for m in list(net)[names.index(layer) + 1 :]]


def test_functions_and_methods_become_modules_that_compute_the_same() -> None:
    torch.manual_seed(0)
    net = Functional().eval()
    chain = modules_after(net, "gate", traced(net))
    assert chain.modules is not None
    x = torch.randn(5, 1, 6, 6)
    with torch.no_grad():
        gated = net.gate(torch.relu(net.convolution(x)))
        assert torch.allclose(nn.Sequential(*chain.modules)(gated), net(x), atol=1e-6)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Residual(), "2 operations"),
        (Twice(), "2 times"),
        (Branching(), "cannot be traced"),
        (Odd(), "no certified form"),
        (Pair(), "more than one tensor"),
        (Functional().train(), "no certified form"),  # dropout left on
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else v,
)
def test_networks_that_are_no_chain_say_why(net: nn.Module, words: str) -> None:
    chain = modules_after(net, "gate", traced(net))
    assert chain.modules is None
    assert words in chain.reason


def test_the_hook_by_which_embeddings_take_tokens_as_floats_hides_no_chain() -> None:
    tokens = torch.randint(0, 20, (4, 5), generator=torch.Generator().manual_seed(0))
    words = nn.Sequential(nn.EmbeddingBag(20, 8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    net = insert_gates(words, tokens).eval()
    (name,) = named_gates(net)
    chain = modules_after(net, name, traced(net))
    assert chain.modules is not None, chain.reason
    assert [type(module) for module in chain.modules] == [nn.Linear]
    words[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    hooked = insert_gates(words, tokens).eval()
    assert modules_after(hooked, name, traced(hooked)).modules is None
