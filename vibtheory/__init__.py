"""vibtheory: compress a network with the variational information bottleneck, and decide why it worked.

Reading order (data flow one way: network → bridge → theory → report):

1. `gates`, `networks`, `vgg`, `insertion`: the gate z = μ + σ⊙ε, the paper's networks, gates for any torch model.
2. `recipe`, `training`, `training_many`, `run`: the training loop, its checkpoints, and what it returns.
3. `liveness`, `compression`, `metrics`, `export`: cut the closed gates out, count what is left, hand it on.
4. `theory`: penalty, quadratic bound, rank, certified local minima, the sparsity bound. It never imports torch.
5. `bridge`: a trained network and data become quadratic bounds and reports.
6. `information`: channels, bounds and estimators of mutual information, the information-bottleneck principle.
7. `tables`, `figures`, `claims`, `cli`: published rows beside ours, plots from result tables, every claim decided, the
   command line.

Everything below is loaded on first use: `import vibtheory` pulls in neither torch nor cvxpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vibtheory import (
        bridge,
        claims,
        compression,
        datasets,
        figures,
        gates,
        information,
        metrics,
        networks,
        tables,
        theory,
    )
    from vibtheory.bridge import check_network, quadratic_bound, verify_bound
    from vibtheory.compression import compress
    from vibtheory.errors import VibTheoryError
    from vibtheory.gamma_sweep import sweep
    from vibtheory.gates import Gate
    from vibtheory.health import doctor
    from vibtheory.insertion import insert_gates
    from vibtheory.layer_channel import layer_law
    from vibtheory.merging import merge_redundant
    from vibtheory.recipe import Recipe
    from vibtheory.run import Run, load
    from vibtheory.sweep_estimators import Estimator
    from vibtheory.theory.enumeration import enumerate_local_minima
    from vibtheory.theory.minima import find_local_minimum
    from vibtheory.theory.path import sparsity_path
    from vibtheory.theory.quadratic import QuadraticBound
    from vibtheory.theory.sparsity import check_sparsity_bound
    from vibtheory.training import train
    from vibtheory.training_many import train_many

__version__ = "0.1.0"

_HOME = {
    "Gate": "gates",
    "insert_gates": "insertion",
    "Recipe": "recipe",
    "train": "training",
    "train_many": "training_many",
    "Run": "run",
    "load": "run",
    "compress": "compression",
    "QuadraticBound": "theory.quadratic",
    "find_local_minimum": "theory.minima",
    "enumerate_local_minima": "theory.enumeration",
    "check_sparsity_bound": "theory.sparsity",
    "sparsity_path": "theory.path",
    "layer_law": "layer_channel",
    "quadratic_bound": "bridge",
    "check_network": "bridge",
    "verify_bound": "bridge",
    "merge_redundant": "merging",
    "sweep": "gamma_sweep",
    "Estimator": "sweep_estimators",
    "VibTheoryError": "errors",
    "doctor": "health",
}
_MODULES = (
    "bridge",
    "claims",
    "compression",
    "datasets",
    "figures",
    "gates",
    "information",
    "metrics",
    "networks",
    "tables",
    "theory",
)

__all__ = [
    "Estimator",
    "Gate",
    "QuadraticBound",
    "Recipe",
    "Run",
    "VibTheoryError",
    "bridge",
    "check_network",
    "check_sparsity_bound",
    "claims",
    "compress",
    "compression",
    "datasets",
    "doctor",
    "enumerate_local_minima",
    "figures",
    "find_local_minimum",
    "gates",
    "information",
    "insert_gates",
    "layer_law",
    "load",
    "merge_redundant",
    "metrics",
    "networks",
    "quadratic_bound",
    "sparsity_path",
    "sweep",
    "tables",
    "theory",
    "train",
    "train_many",
    "verify_bound",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"vibtheory.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"vibtheory.{name}")
    raise AttributeError(f"module 'vibtheory' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
