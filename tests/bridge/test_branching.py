"""Lipschitz bounds through sums, concatenations and branches: closed forms, attacks on g − ḡ, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from tests.attack import worst_gap
from vibtheory.bridge import branching
from vibtheory.bridge.activations import GatedLayer
from vibtheory.bridge.checking import check_network, quadratic_bound, verify_bound
from vibtheory.bridge.downstream import Downstream
from vibtheory.bridge.trained import check_trained
from vibtheory.datasets import Dataset, from_arrays
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import Gate
from vibtheory.theory.quadratic import QuadraticBound


def _gate(width: int) -> Gate:
    gate = Gate(width, threshold=0)
    gate.mu.data.copy_(torch.linspace(-1.3, 1.9, width))
    gate.log_var.data.fill_(-2.0)
    return gate


class Dense(nn.Module):
    """A net on vectors [n, 6], of five gates, that `after` follows."""

    def __init__(self, after: Callable[[Dense, Tensor], Tensor], joined: int = 5) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.enter, self.gate = nn.Linear(6, 5), _gate(5)
        self.a, self.b, self.leave = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(joined, 3)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        first = torch.tanh(self.enter(x))
        self.skipped = first
        return self.after(self, self.gate(first))


class ResNet(nn.Module):
    """Two blocks on images [n, 2, 6, 6], the second with a projection, BatchNorm with odd statistics; gates inside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.outer = nn.Conv2d(2, 4, 3, padding=1), _gate(4)
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm1, self.norm2, self.inner = nn.BatchNorm2d(4), nn.BatchNorm2d(4), _gate(4)
        self.down, self.short = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 1, 2)
        self.relu, self.last = nn.ReLU(inplace=True), nn.Linear(6, 3)
        for norm in (self.norm1, self.norm2):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.3, 2.0)
            norm.weight.data.uniform_(-1.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.outer(self.relu(self.stem(x)))
        h = self.relu(h + self.norm2(self.two(self.inner(self.relu(self.norm1(self.one(h)))))))
        out = self.short(h)
        out += self.down(torch.sigmoid(h))
        logits: Tensor = self.last(functional.adaptive_avg_pool2d(self.relu(out), 1).flatten(1))
        return logits


class UNet(ResNet):
    """The gate's result goes down, comes up again by a transposed convolution, and is concatenated with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mix = nn.ConvTranspose2d(6, 3, 2, 2), nn.Conv2d(7, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.outer(self.relu(self.stem(x)))
        up = self.up(self.relu(self.down(functional.max_pool2d(h, 1))))
        logits: Tensor = self.last(torch.relu(self.mix(torch.cat([up, h], 1))).amax((2, 3)))
        return logits


class Pooled(ResNet):
    """The gate's result goes into a pool, as a ResNet's stem does, and then around."""

    def forward(self, x: Tensor) -> Tensor:
        h = functional.max_pool2d(self.outer(self.relu(self.stem(x))), 3, 2, 1)
        logits: Tensor = self.last(torch.relu(self.down(h) + self.short(h)).mean((2, 3)))
        return logits


def _in_place(net: Dense, h: Tensor) -> Tensor:
    x = torch.relu(net.b(net.skipped))
    x += net.a(h)  # writes into what was there before the gate
    logits: Tensor = net.leave(torch.relu(x))
    return logits


DENSE: dict[str, tuple[Callable[[Dense, Tensor], Tensor], int]] = {
    "residual": (lambda n, h: n.leave(h + torch.relu(n.a(h))), 5),
    "behind a skip": (lambda n, h: n.leave(torch.relu(n.skipped + n.a(h))), 5),
    "concatenated": (lambda n, h: n.leave(torch.cat([torch.relu(n.a(h)), n.skipped, 0.5 * h], 1).abs()), 15),
    "in place": (_in_place, 5),
    "twice": (lambda n, h: n.leave(torch.relu(h + h) - torch.sigmoid(n.b(h)).chunk(5, 1)[0]), 5),
    "shuffled": (lambda n, h: n.leave(h + n.a(h).relu().view(-1, h.size(1) // 5, 5).transpose(1, 2).flatten(1)), 5),
    "shape alone": (lambda n, h: n.leave(n.a(h).relu() + functional.pad(n.skipped, (0, h.shape[-1:][0] - 5))), 5),
    "beside what is not returned": (lambda n, h: (h.softmax(1), n.leave(n.a(h).relu()))[1], 5),
    "affine": (lambda n, h: n.leave(n.skipped - n.a(h) / 3 + h[:, :5]), 5),
}
VECTORS, IMAGES = np.random.default_rng(2).normal(0.3, 2, (20, 6)), np.random.default_rng(3).normal(0, 2, (6, 2, 6, 6))


def _data(x: np.ndarray) -> Dataset:
    return from_arrays(x, np.arange(len(x)) % 3, x[:2], [0, 1], classes=3)


CASES = {name: (lambda after=after, k=k: Dense(after, joined=k), _data(VECTORS), "gate") for name, (after, k) in
         DENSE.items()} | {
    "ResNet, outer": (ResNet, _data(IMAGES), "outer"),
    "ResNet, inner": (ResNet, _data(IMAGES), "inner"),
    "U-Net": (UNet, _data(IMAGES), "outer"),
    "pooled": (Pooled, _data(IMAGES), "outer"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_no_attack_finds_the_loss_above_the_bound(case: str) -> None:
    build, data, layer = CASES[case]
    net = build().eval()
    bound = quadratic_bound(net, data, layer, gamma=0.1)
    assert (bound.guarantee.kind, bound.guarantee.level) == ("bohning" if case == "affine" else "lipschitz", "rigorous")
    assert worst_gap(net, data, bound, attacks=12, steps=40) <= 1e-10
    assert verify_bound(bound, net, data, samples=100, seed=4).violations == 0


def test_channels_that_enter_a_pool_are_told_apart() -> None:
    """They are orthogonal there, so Q is diagonal, and far along z_j = −z_k the loss is not above it."""
    net, data = Pooled().eval(), _data(IMAGES)
    bound = quadratic_bound(net, data, "outer", gamma=0.1)
    assert bound.trained_mu is not None
    np.testing.assert_allclose(bound.gram, np.diag(bound.w), atol=1e-12)
    points = bound.trained_mu + 1e3 * (np.eye(4) - np.eye(4)[::-1])
    assert verify_bound(bound, net, data, points=points).violations == 0


def test_an_attack_finds_a_bound_that_is_none() -> None:
    net, data = Dense(DENSE["residual"][0]).eval(), _data(VECTORS)
    bound = quadratic_bound(net, data, "gate", gamma=0.1)
    assert bound.trained_mu is not None
    flat = 0.02 * bound.gram
    false = QuadraticBound.from_gram(
        flat, -2 * flat @ bound.trained_mu, float(bound.value(bound.trained_mu[None])[0]) - 0.5, 0.1,
        layer="gate", trained_mu=bound.trained_mu, trained_sigma=bound.trained_sigma,
    )  # fmt: skip
    assert worst_gap(net, data, false, attacks=12, steps=40) > 0.1


def _certified(after: Callable[[Dense, Tensor], Tensor], joined: int = 5) -> tuple[Dense, float]:
    """The net in float64, and κ‖V‖: at most how far the output moves for a step of 1 at the gate, f = 1."""
    net = Dense(after, joined=joined).double().eval()
    layer = GatedLayer(net, "gate", VECTORS, np.arange(20) % 3, "multinomial")
    assert layer.obstacle == ""
    assert layer.affine_map is not None
    return net, layer.constant * float(torch.linalg.matrix_norm(layer.affine_map.v, 2))


def _norm(matrix: Tensor, centred: bool = True) -> float:
    return float(torch.linalg.matrix_norm(matrix - matrix.mean(0) if centred else matrix, 2))


def _halved(net: Dense, h: Tensor) -> Tensor:
    r = torch.relu(h)
    logits: Tensor = net.leave(r - net.a(r) / 2)
    return logits


def _joined(net: Dense, h: Tensor) -> Tensor:
    r = torch.relu(h)
    logits: Tensor = net.leave(torch.cat([r, net.a(r), net.skipped], 1))
    return logits


def _matrices(net: Dense) -> tuple[Tensor, Tensor, Tensor]:
    return net.a.weight.detach(), net.leave.weight.detach(), torch.eye(5).double()


def test_linear_residual_parts_have_their_spectral_norm() -> None:
    net, found = _certified(lambda n, h: n.leave(torch.relu(h + n.a(h))))
    a, leave, one = _matrices(net)
    assert found == pytest.approx(_norm(leave) * _norm(one + a, False), rel=1e-8)  # before the ReLU
    net, found = _certified(_halved)
    assert found == pytest.approx(_norm(leave @ (one - a / 2)), rel=1e-8)  # after it
    net, found = _certified(_joined, 15)
    a, leave, one = _matrices(net)
    assert found == pytest.approx(_norm(leave @ torch.cat([one, a, 0 * one])), rel=1e-8)


def test_norms_add_over_a_sum_and_combine_over_a_concatenation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branching, "_FORMED", 0)
    net, found = _certified(_halved)
    a, leave, _ = _matrices(net)
    assert found == pytest.approx(_norm(leave, False) * (1 + _norm(a, False) / 2), rel=1e-8)
    net, found = _certified(_joined, 15)
    a, leave, _ = _matrices(net)
    assert found == pytest.approx(_norm(leave, False) * math.hypot(1, _norm(a, False)), rel=1e-8)
    # two ways from the gate, each with a constant of its own: κ‖V‖ is at least the norm of their sum, and little more
    net, found = _certified(lambda n, h: n.leave(torch.relu(h) + n.b(torch.tanh(n.a(h)))))
    a, leave, _ = _matrices(net)
    straight, around = _norm(leave, False), _norm(leave, False) * _norm(net.b.weight.detach(), False)
    assert straight + around * _norm(a, False) <= found * (1 + 1e-9)
    assert found <= math.sqrt(2) * (straight + around * _norm(a, False))


@pytest.mark.parametrize("case", ["ResNet, outer", "ResNet, inner", "U-Net"])
def test_norms_by_factors_hold_too(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, data, layer = CASES[case]
    net = build().eval()
    formed = quadratic_bound(net, data, layer, gamma=0.1, memory=20_000)  # V channel by channel
    monkeypatch.setattr(branching, "_FORMED", 0)
    bound = quadratic_bound(net, data, layer, gamma=0.1)
    assert worst_gap(net, data, bound, attacks=6, steps=20) <= 1e-10
    assert 1 <= bound.w.sum() / formed.w.sum() < 30


def test_a_small_budget_gives_the_same_bound() -> None:
    build, data, layer = CASES["ResNet, outer"]
    whole, small = (quadratic_bound(build().eval(), data, layer, gamma=0.1, memory=m) for m in (1 << 28, 1))
    np.testing.assert_allclose(small.gram, whole.gram, rtol=1e-9)


def test_channels_that_only_closed_gates_hear_cost_nothing() -> None:
    open_, closed = ResNet().eval(), ResNet().eval()
    closed.inner.close(torch.tensor([0, 1, 3]))
    one, two = (quadratic_bound(net, _data(IMAGES), "outer", gamma=0.1, anchor=np.ones(4)) for net in (open_, closed))
    assert two.w.sum() < 0.8 * one.w.sum()
    assert worst_gap(closed, _data(IMAGES), two, attacks=12, steps=30) <= 1e-10


REFUSED: dict[str, tuple[Callable[[Dense, Tensor], Tensor], str]] = {
    "softmax": (lambda n, h: n.leave(h + torch.softmax(n.a(h), 1)), "'softmax' after the gate: softmax has no"),
    "normalised": (lambda n, h: n.leave(h + functional.layer_norm(h, (5,))), "'layer_norm' after the gate"),
    "product": (lambda n, h: n.leave(h * torch.sigmoid(n.a(h))), "'mul' after the gate: mul of several results"),
    "square": (lambda n, h: n.leave(h + h * h), "'mul' after the gate"),
    "by the example": (lambda n, h: n.leave(h + h * n.skipped), "'mul' after the gate: mul by another result"),
    "across examples": (lambda n, h: n.leave(h - h.mean(0, keepdim=True)), "'mean' after the gate: it mixes examples"),
    "over everything": (lambda n, h: n.leave(h + h.mean()), "'mean' after the gate: it mixes examples"),
    "a mask": (lambda n, h: n.leave(torch.where(h > 0, h, n.skipped)), "'gt' after the gate: gt has no certified"),
    "limits that nn.Hardtanh has not": (lambda n, h: n.leave(functional.hardtanh(h, 1.0, 1.0)), "'hardtanh' after the"),
    "an entry twice": (lambda n, h: n.leave(h + h[:, [0, 0, 1, 2, 3]]), "'getitem' after the gate"),
    "a strange sum": (lambda n, h: n.leave(torch.add(h, torch.relu(h), alpha=9)), "'add' after the gate"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_operations_without_a_certificate_are_named(what: str) -> None:
    after, words = REFUSED[what]
    net = Dense(after)
    with pytest.raises(InvalidInputError, match=f"{words}.*Remedy"):
        quadratic_bound(net, _data(VECTORS), "gate", "lipschitz", gamma=0.1)
    if "mixes" in words:  # nor is there a tangent in z of one example
        with pytest.raises(InvalidInputError, match="depends on the others of its batch"):
            quadratic_bound(net, _data(VECTORS), "gate", gamma=0.1, samples=5)
        return
    assert quadratic_bound(net, _data(VECTORS), "gate", gamma=0.1, samples=5).guarantee.kind == "tangent"


def test_results_that_are_nan_are_refused_in_words() -> None:
    net = Dense(lambda n, h: n.leave(h + (n.a(h) - 9).sqrt())).eval()
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        quadratic_bound(net, _data(VECTORS), "gate", gamma=0.1, samples=5)


@pytest.mark.parametrize("kind", ["auto", "lipschitz", "tangent"])
def test_a_gate_that_no_path_joins_to_the_output_has_no_say(kind: str) -> None:
    """As of a head that training alone returns: g is constant."""
    net, data = Dense(lambda n, h: (torch.relu(n.a(h)), n.leave(n.skipped))[1]).eval(), _data(VECTORS)
    bound = quadratic_bound(net, data, "gate", kind, gamma=0.1, samples=5)
    with torch.no_grad():
        loss = functional.cross_entropy(net(torch.as_tensor(data.x_train)), torch.as_tensor(data.y_train))
    assert bound.w.tolist() == [0] * 5
    assert bound.value(np.eye(5)) == pytest.approx(np.full(5, float(loss)), rel=1e-6)
    assert check_network(net, data, gamma=0.1, kind=kind)[0].nonzeros == 0
    assert check_trained(net, data, gamma=0.1, draws=3)[0].rank == 0


class _Asked(TorchFunctionMode):
    """Entries of what torch's functions return, all examples of a vmapped one counted."""

    total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in pytree.tree_leaves(result):
            while isinstance(value, Tensor) and torch._C._functorch.is_batchedtensor(value):
                value = torch._C._functorch.get_unwrapped(value)
            self.total += value.numel() if isinstance(value, Tensor) else 0
        return result


class Scaled(nn.Module):
    """Many operations without a module on maps [n, 4, 8, 8] after a gate, then a branch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.enter, self.gate = nn.Conv2d(2, 4, 3, padding=1), _gate(4)
        self.next, self.leave = nn.Conv2d(8, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gate(torch.tanh(self.enter(x)))
        for k in range(12):
            h = h * (1.0 + 0.01 * k)
        return self.leave(functional.relu(self.next(torch.cat([h, -h], 1))).mean((2, 3)))


@pytest.mark.parametrize("examples", [60, 200], ids=["by channel", "V formed"])
def test_no_more_is_asked_for_at_once_than_the_budget(examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            with _Asked() as mode:
                result = original(*args)
            asked.append(mode.total)
            return result

        return run

    monkeypatch.setattr(branching._Map, "forward", watched(branching._Map.forward))
    monkeypatch.setattr(branching._Map, "by_channel", watched(branching._Map.by_channel))
    monkeypatch.setattr(Downstream, "finish", watched(Downstream.finish))
    generator, net = np.random.default_rng(4), Scaled()
    x, y = generator.standard_normal((examples, 2, 8, 8)), np.arange(examples) % 3
    memory = 1 << 19
    bound = quadratic_bound(net, from_arrays(x, y, x[:2], y[:2], classes=3), "gate", "lipschitz", 0.1, memory=memory)
    assert 0.2 * memory < 8 * max(asked) <= memory
    assert bound.guarantee.kind == "lipschitz"
