"""Units closed by rank after training: torch-pruning's importances over coupled weights, as users would today."""

from __future__ import annotations

import copy
import importlib
from typing import Any

from torch import Tensor, nn

from vibtheory.errors import MissingDependencyError, check_choice, reject
from vibtheory.networks.gates import GateLaw
from vibtheory.networks.sequential import ordered_modules

__all__ = ["RANKINGS", "close_ranked"]

RANKINGS = {"magnitude": "first", "group": "mean"}
"""torch-pruning's group reductions: the norm of a unit's own filter, or the mean over all weights coupled to it."""


def close_ranked(net: nn.Sequential, example_input: Tensor, share: float, by: str = "magnitude") -> None:
    """Close the units of `net` that torch-pruning ranks least; gates before any weights (inputs) stay open.

    Args:
        net: gated (law "open" for gates that do nothing else), a Sequential of known layers; changed.
        example_input: one batch [N, ...].
        share: 0 ≤ share < 1 of the hidden units and channels, ranked over all layers together; 0.98 of one at most.
        by: "magnitude" (norm of the unit's filter) or "group" (all weights coupled to it: DepGraph, Fang et al. 2023).

    Raises:
        InvalidInputError: a share out of range, an unknown ranking, not such a net.
        MissingDependencyError: torch-pruning is not installed.
    """
    check_choice("by", by, RANKINGS)
    if not 0 <= share < 1:
        reject("share", share, "a number from 0 to below 1", "pass the share of units to close")
    modules = ordered_modules(net)
    try:
        tp: Any = importlib.import_module("torch_pruning")
    except ImportError as error:
        raise MissingDependencyError(
            "close_ranked: torch-pruning is not installed, expected the extra `dev`. Remedy: pip install torch-pruning"
        ) from error
    plain = nn.Sequential(*(nn.Identity() if isinstance(m, GateLaw) else copy.deepcopy(m) for _, m in modules)).eval()
    weights = [m for m in plain if isinstance(m, nn.Linear | nn.Conv2d)]
    importance = tp.importance.GroupMagnitudeImportance(p=2, group_reduction=RANKINGS[by])
    pruner = tp.pruner.BasePruner(plain, example_input, importance, global_pruning=True, pruning_ratio=share,
                                  max_pruning_ratio=0.98, ignored_layers=weights[-1:])  # fmt: skip
    places = {id(m): place for place, m in enumerate(plain)}
    for group in pruner.step(interactive=True):
        dependency, units = group[0]
        gate = next((m for _, m in modules[places[id(dependency.target.module)] :] if isinstance(m, GateLaw)), None)
        if gate is not None:
            gate.close(list(units))
