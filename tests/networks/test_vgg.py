"""VGG: shapes, multipliers, names, and multiply-adds against torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vibtheory.compression import metrics
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import named_gates
from vibtheory.networks.vgg import vgg16_cifar, vgg19_cifar

CASES: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "two hidden": (lambda: vgg16_cifar(10, 2), 15, 313.7),
    "one hidden": (lambda: vgg16_cifar(10, 1), 14, 313.5),
    "sixteen convolutions": (lambda: vgg19_cifar(10), 16, 398.1),
}


@pytest.mark.parametrize("name", CASES)
def test_multiply_adds_gates_and_output(name: str) -> None:
    make, gates, millions = CASES[name]
    net = make().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = net(torch.zeros(1, 3, 32, 32))
    assert logits.shape == (1, 10)
    multiply_adds = counter.get_total_flops() / 2
    assert multiply_adds / 1e6 == pytest.approx(millions, abs=0.06)
    assert len(named_gates(net)) == gates
    result = metrics.compression(net)
    assert result.flop == multiply_adds
    assert (result.r_w, result.r_n) == (100, 100)


def test_names_and_prices_follow_the_blocks() -> None:
    prices = {name: gate.multiplier for name, gate in named_gates(vgg16_cifar(100)).items()}
    assert list(prices)[:3] == ["conv1_1", "conv1_2", "conv2_1"]
    assert list(prices)[-3:] == ["conv5_3", "fc1", "fc2"]
    assert [prices[f"conv{block}_1"] for block in range(1, 6)] == [32.0, 16.0, 8.0, 4.0, 2.0]  # mult · H · W
    assert prices["fc1"] == 1.0
    assert list(named_gates(vgg19_cifar()))[-1] == "conv5_4"


def test_the_dense_net_has_the_same_weights_and_no_gates() -> None:
    dense = vgg16_cifar(10, 1, gated=False)
    assert not named_gates(dense)
    missing = vgg16_cifar(10, 1).load_state_dict(dense.state_dict(), strict=False)
    assert missing.unexpected_keys == []
    assert all(key.endswith(("mu", "log_var", "active")) for key in missing.missing_keys)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vgg16_cifar(hidden=0), "hidden"),
        (lambda: vgg16_cifar(hidden=3), "hidden"),
        (lambda: vgg16_cifar(0), "classes"),
        (lambda: vgg16_cifar(10.0), "classes"),  # type: ignore[arg-type]
        (lambda: vgg16_cifar(hidden=2.0), "hidden"),  # type: ignore[arg-type]
        (lambda: vgg19_cifar(-1), "classes"),
    ],
)
def test_bad_input_is_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()
