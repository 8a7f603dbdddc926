"""A recipe's schedules against their formulas, its round trip, and every refusal."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from vibtheory.errors import InvalidInputError, as_seed, shown
from vibtheory.studies.experiments import experiment
from vibtheory.training.recipe import Recipe


def test_step_schedule() -> None:
    recipe = Recipe(epochs=10, milestones=(0.5, 0.8), decay=0.2)
    factors = [recipe.learning_rate_factor(e) for e in range(10)]
    np.testing.assert_allclose(factors, [1] * 5 + [0.2] * 3 + [0.04] * 2, rtol=1e-12)


def test_cosine_and_constant_schedules() -> None:
    cosine = Recipe(epochs=7, schedule="cosine")
    expected = [math.cos(math.pi * e / 14) ** 2 for e in range(7)]  # half-angle form
    np.testing.assert_allclose([cosine.learning_rate_factor(e) for e in range(7)], expected, rtol=1e-12)
    assert {Recipe(epochs=7, schedule="constant").learning_rate_factor(e) for e in range(7)} == {1.0}


def test_pretraining_schedules() -> None:
    recipe = Recipe(epochs=7, pretrain_epochs=5, pretrain_schedule="cosine", milestones=(0.0,))
    expected = [math.cos(math.pi * e / 10) ** 2 for e in range(5)]
    np.testing.assert_allclose([recipe.learning_rate_factor(e, True) for e in range(5)], expected, rtol=1e-12)
    constant = Recipe(epochs=7, pretrain_epochs=5, milestones=(0.0,))
    assert {constant.learning_rate_factor(e, True) for e in range(5)} == {1.0}


def test_saved_runs_are_still_found() -> None:
    """The keys of the first saved runs, at their defaults: a new one would change every fingerprint."""
    first = {
        "gamma", "layer_weights", "epochs", "pretrain_epochs", "batch_size", "learning_rate", "gate_learning_rate",
        "weight_decay", "gate_weight_decay", "schedule", "milestones", "decay", "warmup_epochs", "relax_at",
        "relax_factor", "prune_every", "prune_from", "distill", "temperature", "shift", "initial_log_variance",
    }  # fmt: skip
    assert set(Recipe().to_dict()) == first
    later = {"augment": "none", "initial_spread": 0.1, "pretrain_schedule": "cosine", "label_smoothing": 0.1,
             "prune_at": [2, 5], "weight_optimizer": "sgd"}  # fmt: skip
    assert {k: v for k, v in Recipe(**later).to_dict().items() if k not in first} == later


def test_price_warms_up_then_relaxes() -> None:
    recipe = Recipe(gamma=0.6, epochs=10, warmup_epochs=4, relax_at=0.75, relax_factor=0.5)
    expected = [0.15, 0.3, 0.45, 0.6, 0.6, 0.6, 0.6, 0.6, 0.3, 0.3]
    np.testing.assert_allclose([recipe.price(e) for e in range(10)], expected, rtol=1e-12)  # type: ignore[arg-type]


def test_layer_weights_and_layer_prices() -> None:
    weighted = Recipe(gamma=0.3, layer_weights={"a": 2.0, "b": 0.5}, warmup_epochs=2)
    assert weighted.layer_gamma == {"a": pytest.approx(0.6), "b": pytest.approx(0.15)}
    assert weighted.price(0) == {"a": pytest.approx(0.3), "b": pytest.approx(0.075)}
    by_layer = Recipe(gamma=MappingProxyType({"a": 0.1, "b": 0}))
    assert by_layer.layer_gamma == {"a": 0.1, "b": 0}
    assert Recipe(gamma=0.3).price(5) == 0.3


def test_prunes_after() -> None:
    recipe = Recipe(prune_every=3, prune_from=5)
    assert [e + 1 for e in range(13) if recipe.prunes_after(e)] == [6, 9, 12]
    assert not any(Recipe().prunes_after(e) for e in range(60))
    few = Recipe(prune_at=[2, 5, 10])
    assert [e + 1 for e in range(60) if few.prunes_after(e)] == [2, 5, 10]
    assert few.prunes
    assert not Recipe().prunes


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(),
        Recipe(gamma={"a": 0.1, "b": 0.25}, milestones=(), relax_at=0.5, initial_log_variance=-4.5),
        Recipe(gamma=MappingProxyType({"a": 0.1})),
        Recipe(augment="crop+flip", initial_spread=0.02, pretrain_schedule="cosine"),
        Recipe(label_smoothing=0.1, prune_at=(1, 7)),
        Recipe(gamma=3e-4, layer_weights={"a": 2.0}, pretrain_epochs=2, distill=0.5, schedule="cosine", shift=2),
    ],
)
def test_round_trip_through_json(recipe: Recipe) -> None:
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert again.to_dict() == recipe.to_dict()


WHOLE = ("epochs", "pretrain_epochs", "warmup_epochs", "prune_every", "prune_from", "shift", "batch_size")
POSITIVE = ("learning_rate", "gate_learning_rate", "decay", "relax_factor", "temperature")
BAD: list[dict[str, Any]] = [
    {"gamma": -1e-4},
    {"gamma": math.nan},
    {"gamma": "1e-4"},
    {"gamma": {"a": 0.1, "b": -0.1}},
    {"layer_weights": {"a": 1.0}, "gamma": {"a": 0.1}},
    {"layer_weights": {"a": -1.0}},
    {"layer_weights": {"a": math.inf}},
    *({name: -1} for name in WHOLE),
    *({name: 1.5} for name in WHOLE),
    *({name: True} for name in WHOLE),
    {"batch_size": 0},
    *({name: 0.0} for name in POSITIVE),
    *({name: math.inf} for name in POSITIVE),
    *({name: None} for name in POSITIVE),
    *({name: -1e-9} for name in ("weight_decay", "gate_weight_decay", "initial_spread")),
    *({name: math.nan} for name in ("weight_decay", "gate_weight_decay")),
    {"schedule": "linear"},
    {"pretrain_schedule": "step"},
    {"augment": "mirror"},
    {"augment": "flip", "shift": 1},
    {"milestones": (0.5, 1.5)},
    {"milestones": (0.5, None)},
    {"milestones": 0.5},
    {"milestones": "ab"},
    {"relax_at": -0.1},
    {"distill": 1.1, "pretrain_epochs": 1},
    *({name: 10**21} for name in WHOLE),
    *({name: 1 << 20_000} for name in WHOLE),  # too long to print
    *({name: 1e39} for name in ("gamma", *POSITIVE, "weight_decay", "gate_weight_decay")),
    {"layer_weights": {"a": 1 << 20_000}},
    {"milestones": (1 << 20_000,)},
    {"milestones": 1 << 20_000},
    {"schedule": 1 << 20_000},
    {"decay": 1e20, "milestones": (0.1, 0.2)},
    {"initial_spread": 11.0},
    {"initial_log_variance": 1e308},
    {"initial_log_variance": -80.5},
    {"initial_log_variance": math.nan},
    {"initial_log_variance": "low"},
    {"label_smoothing": 1.5},
    {"prune_at": (0,)},
    {"prune_at": 5},
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: f"{next(iter(bad))}-{str(type(bad[next(iter(bad))]))[8:-2]}")
def test_bad_values(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        Recipe(**bad)


@pytest.mark.parametrize("seeds", ["-1", "9223372036854775808", "true", "1.5", "0x" + "f" * 9000], ids=lambda s: s[:20])
def test_bad_seeds_of_a_mode(seeds: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    text = 'table = 1\nnetwork = "mlp"\ndataset = "mnist"\n[recipe]\nepochs = 1\n[quick]\nseeds = [0, {}]\n'
    path.write_text(text.format(9223372036854775807), encoding="utf-8")
    assert experiment(path).modes["quick"]["seeds"] == [0, 2**63 - 1]
    path.write_text(text.format(seeds), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="recipe.*Remedy"):
        experiment(path)


@pytest.mark.parametrize("value", [7, np.int64(7), 2**63 - 1])
def test_seeds(value: Any) -> None:
    assert type(as_seed("seed", value)) is int
    assert as_seed("seed", value) == value


def test_a_number_too_long_to_print_is_shown_in_words() -> None:
    assert shown([1 << 20_000]) == "list with a whole number of thousands of digits"
    assert shown("x" * 300) == "'" + "x" * 199


def test_unknown_key_is_named() -> None:
    with pytest.raises(InvalidInputError, match="unknown learning_rat, expected keys among gamma"):
        Recipe.from_dict({"learning_rat": 1e-3})
