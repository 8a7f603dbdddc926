"""The same seed gives the same bits on one CPU with the same number of threads; with another number nearly so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from vibtheory import networks
from vibtheory.datasets import Dataset, from_arrays
from vibtheory.training.single import train


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(300, 784)), 0)
    y = np.argmax(x[:, :10], axis=1)
    return from_arrays(x[:200], y[:200], x[200:], y[200:])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _bits(data: Dataset, threads: int, seed: int = 5) -> dict[str, torch.Tensor]:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    net = networks.lenet_300_100()
    run = train(net, data, gamma=1e-3, epochs=2, pretrain_epochs=1, prune_every=1, seed=seed, device="cpu")
    assert run.status == "completed"
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("number", [1, 2])
def test_same_seed_same_bits(number: int, data: Dataset, threads: None) -> None:
    first, second, other = _bits(data, number), _bits(data, number), _bits(data, number, seed=6)
    assert all(torch.equal(first[name], tensor) for name, tensor in second.items())
    assert not all(torch.equal(first[name], tensor) for name, tensor in other.items())


def test_another_number_of_threads_is_close(data: Dataset, threads: None) -> None:
    """Sums over other partitions are rounded otherwise; three epochs in, they differ by far less than they moved."""
    one, two = _bits(data, 1), _bits(data, 2)
    for name, tensor in one.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(
                two[name], tensor, rtol=0, atol=0.005, msg=lambda text, name=name: f"{name}: {text}"
            )
