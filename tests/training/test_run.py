"""Save and load: the same bits, the same table; another architecture or damaged text is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory import networks
from vibtheory.bridge.checking import theory_gamma
from vibtheory.datasets.dataset import from_arrays
from vibtheory.errors import CheckpointError, InvalidInputError
from vibtheory.networks.gates import Gate
from vibtheory.training.run import Run, load
from vibtheory.training.single import train

RNG = np.random.default_rng(8)
DATA = from_arrays(RNG.normal(scale=2, size=(40, 5)), RNG.integers(0, 3, 40), RNG.normal(size=(9, 5)), [0, 1, 2] * 3)


def _own() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), Gate(4), nn.Linear(4, 3))


def _run(net: nn.Module | None = None) -> Run:
    torch.manual_seed(1)
    net = networks.mlp((5, 6, 3)) if net is None else net
    return train(net, DATA, device="cpu", seed=4, epochs=2, batch_size=10, gamma=2.5e-3)


def _equal(a: Run, b: Run) -> bool:
    first, second = a.net.state_dict(), b.net.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_round_trip(tmp_path: Path) -> None:
    run = _run()
    run.net.get_submodule("h1").close(torch.tensor([2]))
    assert run.save(tmp_path / "a") == tmp_path / "a"
    again = load(tmp_path / "a")
    assert _equal(run, again)
    assert (again.seed, again.status, again.message, again.data) == (4, "completed", "completed", "arrays")
    assert again.recipe == run.recipe
    assert again.rows == run.rows
    assert again.history.equals(run.history)
    assert again.net.vib_config == run.net.vib_config == {"gamma": 2.5e-3, "likelihood": "multinomial"}
    assert not again.net.training
    assert str(again) == str(run)
    again.save(tmp_path / "b")  # what was loaded can be saved and loaded again
    assert _equal(run, load(tmp_path / "b"))


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"epochs": 4, "relax_at": 0.5, "relax_factor": 0.1}, 0.1),
        ({"epochs": 2, "warmup_epochs": 8}, 0.25),
        ({"epochs": 3, "warmup_epochs": 2, "pretrain_epochs": 1}, 1.0),
        ({"epochs": 0, "pretrain_epochs": 1}, 1.0),
    ],
)
@pytest.mark.parametrize("layers", [False, True])
def test_the_price_noted_is_that_of_the_last_epoch(
    changes: dict[str, Any], last: float, layers: bool, tmp_path: Path
) -> None:
    """By hand: a tenth after relaxing, a quarter of a warm-up; γ_theory is half of it."""
    weights = {"input": 1.0, "h1": 2.0} if layers else None
    run = train(networks.mlp((5, 4, 3)), DATA, device="cpu", gamma=0.01, layer_weights=weights, **changes)
    run.save(tmp_path)
    for net in (run.net, load(tmp_path).net):
        assert theory_gamma(net, "h1") == pytest.approx(0.01 * last * (2 if layers else 1) / 2)


def test_a_net_built_from_numpy_s_numbers(tmp_path: Path) -> None:
    """Its run could not be saved: JSON knows none of them."""
    net = networks.mlp(np.array([5, 4, 3]), gated=np.bool_(False))  # type: ignore[arg-type]
    run = train(net, DATA, device="cpu", epochs=1)
    assert _equal(run, load(run.save(tmp_path)))


def test_a_regression_run_prints_without_an_error_in_percent() -> None:
    data = from_arrays(DATA.x_train, DATA.x_train[:, :2], DATA.x_test, DATA.x_test[:, :2], likelihood="gaussian")
    text = str(train(networks.mlp((5, 2)), data, device="cpu", epochs=1, batch_size=10))
    assert "error" not in text
    assert "cross_entropy" in text


def test_a_net_of_ones_own_must_be_passed(tmp_path: Path) -> None:
    run = _run(_own())
    run.save(tmp_path)
    with pytest.raises(CheckpointError, match="pass it as net"):
        load(tmp_path)
    assert _equal(run, load(tmp_path, net=_own()))
    with pytest.raises(CheckpointError, match="Remedy: pass net="):
        load(tmp_path, net=networks.mlp((5, 6, 3)))
    with pytest.raises(CheckpointError, match="Remedy: pass net="):
        load(tmp_path, net=nn.Sequential(nn.Linear(5, 9), nn.ReLU(), Gate(9), nn.Linear(9, 3)))


def test_what_no_tensor_shows_is_compared(tmp_path: Path) -> None:
    """A net of a builder, changed afterwards, is not the one that its name builds; neither is another one passed."""
    changed = networks.mlp((5, 6, 3))
    changed.relu1 = nn.Tanh()
    run = _run(changed)
    run.save(tmp_path)
    with pytest.raises(CheckpointError, match="its layers.*Remedy: pass net="):
        load(tmp_path)
    again = networks.mlp((5, 6, 3))
    again.relu1 = nn.Tanh()
    x = torch.as_tensor(DATA.x_test)
    assert torch.equal(load(tmp_path, net=again).net(x), run.net(x))
    _run(_own()).save(tmp_path)
    other, closed = _own(), _own()
    other[1], closed[2].threshold = nn.Tanh(), 3.0
    for net in (other, closed):
        with pytest.raises(CheckpointError, match="its layers.*Remedy: pass net="):
            load(tmp_path, net=net)


@pytest.mark.parametrize("folder", [None, 3, "a\0b", b"run"])
def test_what_is_no_path(folder: Any) -> None:
    run = _run()
    for call in (run.save, load, lambda f: train(run.net, DATA, epochs=1, checkpoint=f or 0)):
        with pytest.raises(InvalidInputError, match="expected a path.*Remedy"):
            call(folder)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run\.json.*Remedy"):
        load(tmp_path / "nowhere")


def _without(key: str) -> Any:
    return lambda plain: {k: v for k, v in plain.items() if k != key}


DAMAGE: dict[str, Any] = {
    **{f"no {key}": _without(key) for key in ("recipe", "seed", "status", "message", "history", "data", "tensors")},
    "unknown builder": lambda plain: plain | {"network": {"builder": "resnet"}},
    "arguments it does not take": lambda plain: plain | {"network": {"builder": "mlp", "arguments": {"depth": 3}}},
    "another size": lambda plain: plain | {"network": {"builder": "mlp", "arguments": {"sizes": [5, 7, 3]}}},
    "not a description": lambda plain: plain | {"network": "mlp"},
    "a recipe out of range": lambda plain: plain | {"recipe": plain["recipe"] | {"epochs": -1}},
    "a recipe that is none": lambda plain: plain | {"recipe": 3},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_descriptions(kind: str, tmp_path: Path) -> None:
    _run().save(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(DAMAGE[kind](json.loads(path.read_text()))))
    with pytest.raises(CheckpointError, match="Remedy"):
        load(tmp_path)


def test_corrupted_json(tmp_path: Path) -> None:
    _run().save(tmp_path)
    path = tmp_path / "run.json"
    path.write_text(path.read_text()[:-30])
    with pytest.raises(CheckpointError, match=r"not a readable checkpoint.*Remedy"):
        load(tmp_path)
