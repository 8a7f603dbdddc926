"""The sparsity of gates, decided: quadratic bounds, certified local minima, rank and soft rank. Never imports torch.

Reading order (docs/theory.md numbers in parentheses):

1. `penalty` (T1): the profiled penalty ρ. `guarantee`, `quadratic`, `boundedness`: ḡ, Φ, why ḡ bounds the loss, and
   whether Φ is bounded below.
2. `rank`, `soft_rank` (T2, T3): the two limits on the number of open gates.
3. `certificate`, `minima`, `enumeration`, `path` (T6, T7): local minima with proofs, all of them for d ≤ 12, along γ.
4. `sparsity`, `sparsity_report`, `network_report`, `several_layers`: the checker and what it reports.
5. `redundancy` (T4), `budget`, `closure`, `landscape`, `real_loss`, `silent_gate`, `dead_gate` (T4, T7): the rest.

Names are loaded on first use. `penalty` and `soft_rank` are modules here: the functions are `penalty.penalty` and
`soft_rank.soft_rank`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vibtheory.theory.budget import BudgetReport, check_budget, survivor_limit
    from vibtheory.theory.certificate import Certificate, certify
    from vibtheory.theory.closure import ClosureReport, check_closure
    from vibtheory.theory.dead_gate import DeadGateFlow, dead_gate_flow
    from vibtheory.theory.enumeration import enumerate_local_minima
    from vibtheory.theory.guarantee import Guarantee
    from vibtheory.theory.landscape import ConvexityReport, ExistenceReport, check_convexity, check_existence
    from vibtheory.theory.minima import LocalMinimum, find_local_minimum
    from vibtheory.theory.network_report import NetworkReport
    from vibtheory.theory.path import PathEvent, SparsityPath, sparsity_path
    from vibtheory.theory.penalty import (
        noise_fraction,
        optimal_u,
        optimal_variance,
        penalty_curvature,
        penalty_slope,
        snr,
    )
    from vibtheory.theory.quadratic import QuadraticBound
    from vibtheory.theory.rank import RankReport, numerical_rank, rank_from_gram, rank_of_rows, spectrum
    from vibtheory.theory.real_certificate import certify_real_loss
    from vibtheory.theory.real_loss import RealLossMinimum, minimise_real_loss
    from vibtheory.theory.real_report import RealLossReport, check_real_loss
    from vibtheory.theory.redundancy import (
        BohningCosines,
        CollinearityReport,
        bohning_cosines,
        check_collinearity,
        collinearity_limit,
    )
    from vibtheory.theory.several_layers import JointSparsityReport, check_joint_sparsity
    from vibtheory.theory.silent_gate import ClosedMeanInformation, ConstantUnit, closed_mean_information, constant_unit
    from vibtheory.theory.soft_rank import SoftRank, soft_rank_of
    from vibtheory.theory.softmax_loss import SoftmaxLoss
    from vibtheory.theory.sparsity import check_sparsity_bound
    from vibtheory.theory.sparsity_report import SparsityReport, Statement

__all__ = [
    "BohningCosines",
    "BudgetReport",
    "Certificate",
    "ClosedMeanInformation",
    "ClosureReport",
    "CollinearityReport",
    "ConstantUnit",
    "ConvexityReport",
    "DeadGateFlow",
    "ExistenceReport",
    "Guarantee",
    "JointSparsityReport",
    "LocalMinimum",
    "NetworkReport",
    "PathEvent",
    "QuadraticBound",
    "RankReport",
    "RealLossMinimum",
    "RealLossReport",
    "SoftRank",
    "SoftmaxLoss",
    "SparsityPath",
    "SparsityReport",
    "Statement",
    "bohning_cosines",
    "certify",
    "certify_real_loss",
    "check_budget",
    "check_closure",
    "check_collinearity",
    "check_convexity",
    "check_existence",
    "check_joint_sparsity",
    "check_real_loss",
    "check_sparsity_bound",
    "closed_mean_information",
    "collinearity_limit",
    "constant_unit",
    "dead_gate_flow",
    "enumerate_local_minima",
    "find_local_minimum",
    "minimise_real_loss",
    "noise_fraction",
    "numerical_rank",
    "optimal_u",
    "optimal_variance",
    "penalty_curvature",
    "penalty_slope",
    "rank_from_gram",
    "rank_of_rows",
    "snr",
    "soft_rank_of",
    "sparsity_path",
    "spectrum",
    "survivor_limit",
]

_NAMES = {
    "penalty": ("noise_fraction", "optimal_u", "optimal_variance", "penalty_curvature", "penalty_slope", "snr"),
    "guarantee": ("Guarantee",),
    "quadratic": ("QuadraticBound",),
    "rank": ("RankReport", "numerical_rank", "rank_from_gram", "rank_of_rows", "spectrum"),
    "soft_rank": ("SoftRank", "soft_rank_of"),
    "certificate": ("Certificate", "certify"),
    "minima": ("LocalMinimum", "find_local_minimum"),
    "enumeration": ("enumerate_local_minima",),
    "path": ("PathEvent", "SparsityPath", "sparsity_path"),
    "sparsity_report": ("SparsityReport", "Statement"),
    "network_report": ("NetworkReport",),
    "sparsity": ("check_sparsity_bound",),
    "several_layers": ("JointSparsityReport", "check_joint_sparsity"),
    "redundancy": (
        "BohningCosines",
        "CollinearityReport",
        "bohning_cosines",
        "check_collinearity",
        "collinearity_limit",
    ),
    "budget": ("BudgetReport", "check_budget", "survivor_limit"),
    "closure": ("ClosureReport", "check_closure"),
    "landscape": ("ConvexityReport", "ExistenceReport", "check_convexity", "check_existence"),
    "softmax_loss": ("SoftmaxLoss",),
    "real_loss": ("RealLossMinimum", "minimise_real_loss"),
    "real_certificate": ("certify_real_loss",),
    "real_report": ("RealLossReport", "check_real_loss"),
    "dead_gate": ("DeadGateFlow", "dead_gate_flow"),
    "silent_gate": ("ClosedMeanInformation", "ConstantUnit", "closed_mean_information", "constant_unit"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"vibtheory.theory.{_HOME[name]}"), name)
    raise AttributeError(f"module 'vibtheory.theory' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
