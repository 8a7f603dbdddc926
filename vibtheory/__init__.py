"""vibtheory: compress a network with the variational information bottleneck, and decide why it worked.

Folders are concepts, and each imports only from those above it:

1. `errors`, `storage`: the error family and its checks; atomic files, and what all result objects share.
2. `theory`: penalty, quadratic bound, rank, certified local minima, the sparsity bound. It never imports torch.
3. `information`: channels, bounds and estimators of mutual information, the information-bottleneck principle.
4. `datasets`, `networks`: the data; the gate z = μ + σ⊙ε, the paper's networks, gates for any torch model.
5. `compression`: cut the closed gates out, count what is left, hand it on.
6. `training`: the loop, its checkpoints, and what it returns.
7. `bridge`: a trained network and data become quadratic bounds, channels and reports.
8. `studies`: many runs become one table: Tables 1–4, sweeps, Figure 2.
9. `figures`, `claims`, `teaching`, `cli`: plots, every claim decided, what notebooks stand on, the command line.

Docstrings cite docs/theory.md by its headings: T1–T9 (theorems), P1–P3 (the bound and its measure), M (metrics), F
(Figure 2).

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
        information,
        networks,
        studies,
        theory,
        training,
    )
    from vibtheory.bridge import check_network, layer_law, quadratic_bound, verify_bound
    from vibtheory.compression import compress, merge_redundant, metrics
    from vibtheory.errors import VibTheoryError
    from vibtheory.networks import Gate, gates, insert_gates
    from vibtheory.studies import tables
    from vibtheory.studies.environment import doctor
    from vibtheory.studies.estimators import Estimator
    from vibtheory.studies.gamma_sweep import sweep
    from vibtheory.theory.enumeration import enumerate_local_minima
    from vibtheory.theory.minima import find_local_minimum
    from vibtheory.theory.path import sparsity_path
    from vibtheory.theory.quadratic import QuadraticBound
    from vibtheory.theory.sparsity import check_sparsity_bound
    from vibtheory.training import Recipe, Run, load, train, train_many

__version__ = "0.1.0"

_HOME = {
    "Gate": "networks.gates",
    "insert_gates": "networks.insertion",
    "Recipe": "training.recipe",
    "train": "training.single",
    "train_many": "training.many",
    "Run": "training.run",
    "load": "training.run",
    "compress": "compression.cut",
    "QuadraticBound": "theory.quadratic",
    "find_local_minimum": "theory.minima",
    "enumerate_local_minima": "theory.enumeration",
    "check_sparsity_bound": "theory.sparsity",
    "sparsity_path": "theory.path",
    "layer_law": "bridge.channels",
    "quadratic_bound": "bridge.checking",
    "check_network": "bridge.checking",
    "verify_bound": "bridge.checking",
    "merge_redundant": "compression.merging",
    "sweep": "studies.gamma_sweep",
    "Estimator": "studies.estimators",
    "VibTheoryError": "errors",
    "doctor": "studies.environment",
}
_MODULES = {
    **{
        name: name
        for name in (
            "bridge",
            "claims",
            "compression",
            "datasets",
            "figures",
            "information",
            "networks",
            "studies",
            "theory",
            "training",
        )
    },
    "gates": "networks.gates",
    "metrics": "compression.metrics",
    "tables": "studies.tables",
}

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
    "studies",
    "sweep",
    "tables",
    "theory",
    "train",
    "train_many",
    "training",
    "verify_bound",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"vibtheory.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"vibtheory.{_MODULES[name]}")
    raise AttributeError(f"module 'vibtheory' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
