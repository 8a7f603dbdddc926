"""What the caller has set for numpy and torch changes no result, and no call moves the caller's random streams."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import vibtheory as vt
from tests.small_net import small_data, small_net
from vibtheory.networks.gates.by_name import make_gate


@contextmanager
def _default_dtype(kind: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _warnings_as_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "numpy raises": lambda: np.errstate(all="raise"),
    "no gradients": torch.no_grad,
    "inference": torch.inference_mode,
    "float64": lambda: _default_dtype(torch.float64),
    "bfloat16": lambda: _default_dtype(torch.bfloat16),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "warnings as errors": _warnings_as_errors,
}


@pytest.fixture(scope="module")
def calls() -> dict[str, Callable[[], object]]:
    net, data = small_net(), small_data(60)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = data.x_train
    f = np.maximum(np.random.default_rng(0).standard_normal((80, 3)), 0)
    channel = vt.information.GatedChannel(f, np.ones(3), np.full(3, 0.01))
    bound = vt.QuadraticBound(f[:2] + 1, -2 * (f[:2] + 1).T @ [3.0, -2.0], 0.0, 0.1)

    def trained() -> object:
        gated = vt.insert_gates(plain, torch.zeros(2, 6))
        vt.train(gated, data, gamma=0.01, epochs=1, batch_size=20, device="cpu")
        return {name: value.double().sum().item() for name, value in gated.state_dict().items()}

    methods = ("pairwise", "leave_one_out", "per_unit", "infonce")
    return {
        "check_network": lambda: str(vt.check_network(net, data, gamma=0.01)),
        "tangent": lambda: str(vt.check_network(net, data, gamma=0.01, kind="tangent", layers=["h1"])),
        "check_trained": lambda: str(vt.check_trained(net, data, gamma=0.01, draws=3, polish=2)),
        "information_of": lambda: str(vt.information_of(plain, x, data.y_train, layer="1", noise=0.01)),
        "estimate": lambda: [str(vt.information.estimate(channel, method)) for method in methods],
        "minima": lambda: [str(minimum.mu) for minimum in vt.enumerate_local_minima(bound)],
        "train": trained,
    }


def _streams() -> list[object]:
    return [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]  # noqa: NPY002


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_caller_change_nothing(setting: str, calls: dict[str, Callable[[], object]]) -> None:
    before = _streams()
    for name, call in calls.items():
        expected = call()
        with SETTINGS[setting]():
            found = call()
        assert found == expected, name
    assert _streams() == before


@pytest.mark.parametrize("law", ["vib", "l0", "sbp", "gd", "bc-ghs", "bc-gnj"])
def test_gates_draw_the_same_numbers_whatever_the_default_type(law: str) -> None:
    drawn = []
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        with _default_dtype(kind):
            torch.manual_seed(3)
            drawn.append(make_gate(law, 4)(torch.ones(5, 4, dtype=torch.float32)))
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])
