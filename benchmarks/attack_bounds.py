"""Gradient ascent on g − ḡ in float64 for rigorous bounds of random networks, residual and branching ones first.

    python benchmarks/attack_bounds.py [--seeds 16] [--attacks 16] [--steps 80]

Each seed draws a network of every family with weights, scales and gates (of both signs, some closed) of its own, and
data of another scale; from every start, near the trained gates and up to ten times as far as they are, the gates climb.
Writes results/attack_bounds.csv, a row per network: the largest g − ḡ found, in nats, and by how much ḡ lies above g at
the trained gates. A row with worst > 1e-10 would be a bound that is none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.attack import worst_gap
from vibtheory.bridge.checking import quadratic_bound, verify_bound
from vibtheory.datasets import from_arrays
from vibtheory.networks.gates import Gate, named_gates

RESULTS = Path(__file__).parent / "results" / "attack_bounds.csv"


class Drawn(nn.Module):
    """Modules a, b, c and an output, one gate, and a forward pass that joins them."""

    def __init__(self, way: Callable[[Drawn, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.way = way
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.way(self, x)


def _dense(way: Callable[[Any, Tensor], Tensor], joined: int = 8) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return Drawn(way, enter=nn.Linear(6, 8), gate=Gate(8), a=nn.Linear(8, 8), b=nn.Linear(8, 8),
                     norm=nn.BatchNorm1d(8), inner=Gate(8), leave=nn.Linear(joined, 4))  # fmt: skip

    return build


def _image(way: Callable[[Any, Tensor], Tensor]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return Drawn(way, enter=nn.Conv2d(2, 4, 3, padding=1), gate=Gate(4), a=nn.Conv2d(4, 4, 3, padding=1),
                     b=nn.Conv2d(4, 4, 3, padding=1), norm=nn.BatchNorm2d(4), inner=Gate(4),
                     down=nn.Conv2d(4, 6, 3, 2, 1), short=nn.Conv2d(4, 6, 1, 2), up=nn.ConvTranspose2d(6, 4, 2, 2),
                     mix=nn.Conv2d(8, 6, 3), leave=nn.Linear(6, 4))  # fmt: skip

    return build


def _unet(n: Any, x: Tensor) -> Tensor:
    h = n.gate(F.relu(n.enter(x)))
    up = n.up(F.relu(n.down(F.max_pool2d(h, 1))))
    return n.leave(F.relu(n.mix(torch.cat([up, h], 1))).amax((2, 3)))


def _resnet(n: Any, x: Tensor) -> Tensor:
    h = n.gate(F.relu(n.enter(x)))
    h = F.relu(h + n.norm(n.b(n.inner(F.relu(n.a(h))))))
    return n.leave(F.relu(n.short(h) + n.down(F.relu(h))).mean((2, 3)))


def _inside(n: Any, x: Tensor) -> Tensor:
    h = F.relu(n.enter(x))
    h = F.relu(h + n.b(n.gate(F.relu(n.norm(n.a(h))))))
    return n.leave(F.adaptive_avg_pool2d(F.relu(n.short(h) + n.down(h)), 1).flatten(1))


def _preact(n: Any, x: Tensor) -> Tensor:
    h = n.gate(torch.tanh(n.enter(x)))
    h = h + n.a(n.inner(F.relu(n.norm(h))))
    return n.leave(F.relu(h + n.b(F.relu(h))))


def _dense_block(n: Any, x: Tensor) -> Tensor:
    h = n.gate(F.relu(n.enter(x)))
    one = F.relu(n.a(h))
    return n.leave(torch.cat([h, one, torch.sigmoid(n.b(one))], 1))


def _two_towers(n: Any, x: Tensor) -> Tensor:
    first = F.relu(n.enter(x))
    return n.leave((n.a(n.gate(first)) - F.relu(n.b(first))).abs())


def _last_block(n: Any, x: Tensor) -> Tensor:
    first = F.relu(n.enter(x))
    return n.leave(n.norm(first + n.a(n.gate(F.relu(n.b(first))))))


def _plain(n: Any, x: Tensor) -> Tensor:
    return n.leave(F.relu(n.b(n.inner(F.relu(n.norm(n.a(n.gate(F.relu(n.enter(x))))))))))


FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pre-activation residual": (_dense(_preact), (6,)),
    "concatenated": (_dense(_dense_block, 24), (6,)),
    "two towers": (_dense(_two_towers), (6,)),
    "last residual block": (_dense(_last_block), (6,)),
    "ResNet": (_image(_resnet), (2, 6, 6)),
    "ResNet, inside a block": (_image(_inside), (2, 6, 6)),
    "U-Net": (_image(_unet), (2, 6, 6)),
    "plain": (_dense(_plain), (6,)),
}


def attacked(family: str, seed: int, attacks: int, steps: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    build, shape = FAMILIES[family]
    net = build().eval()
    for parameter in net.parameters():
        parameter.data.mul_(float(generator.uniform(0.5, 2.5)))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.2, 3.0)
            module.weight.data.uniform_(-1.5, 1.5)
    for gate in named_gates(net).values():
        gate.mu.data.normal_(0.5, 1.0)
        gate.log_var.data.uniform_(-5.0, -1.0)
    x = generator.uniform(0.3, 3.0) * generator.standard_normal((16, *shape))
    y = generator.integers(0, 4, 16)
    data = from_arrays(x, y, x[:2], y[:2], classes=4)
    bound = quadratic_bound(net, data, "gate", gamma=0.1)
    assert bound.trained_mu is not None
    at = verify_bound(bound, net, data, points=bound.trained_mu[None])
    worst = worst_gap(net, data, bound, attacks, steps)
    return {"family": family, "seed": seed, "kind": bound.guarantee.kind, "attacks": attacks, "steps": steps,
            "worst_nats": worst, "violated": worst > 1e-10 * max(1.0, abs(bound.c)),
            "above_at_trained_nats": at.mean_gap}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--attacks", type=int, default=16)
    parser.add_argument("--steps", type=int, default=80)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        rows += [attacked(family, seed, given.attacks, given.steps) for family in FAMILIES]
        pd.DataFrame(rows).to_csv(RESULTS, index=False)
    table = pd.DataFrame(rows)
    print(table.groupby(["family", "kind"])[["attacks", "violated"]].sum(), table["worst_nats"].max())


if __name__ == "__main__":
    main()
