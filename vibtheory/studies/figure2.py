"""What Figure 2 trains and measures: the recipe, the prices, the recorded epochs and the estimators, as plain data.

The table that comes out is all that the plot and the numbers beside it read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vibtheory.errors import check_choice
from vibtheory.studies.estimators import Estimator
from vibtheory.training.recipe import Recipe

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "ESTIMATORS",
    "GAMMA",
    "PANELS",
    "PANELS_RECIPE",
    "QUICK_ESTIMATORS",
    "QUICK_RECIPE",
    "RECIPE",
    "SWEEPS",
    "figure2_panels",
    "figure2_table",
]  # fmt: skip

GAMMA = 1e-4
"""The price of the printed panels' VIBNet of ours: at epoch 40 the printed r_W is 0.48, one seed of ours had 0.49; in
batches of 100 it had 0.31 at 1.5e-4 and 0.15 at Table 1's 5.5e-4."""

RECIPE = Recipe(
    gamma=GAMMA, pretrain_epochs=0, batch_size=500, gate_learning_rate=5e-4, schedule="constant", prune_every=1
)
"""From random weights (the printed rise is learning itself), without shifts, with constant rates (a step in the rate
would show as a bend). Adam moves the μ of a gate that nothing holds open by its learning rate per step: at 5e-4 and 120
steps an epoch it needs about 16 epochs from 1 to 0, which is when the printed r_W leaves 1. Closed units are cut out
after each epoch, which saves most of the time."""

PANELS_RECIPE = replace(RECIPE, weight_decay=0.0)
"""Only without weight decay does the regular net's information rise to the end, as the two panels print it."""

QUICK_RECIPE = replace(PANELS_RECIPE, batch_size=100, gate_learning_rate=1e-3)
"""Ten times faster gates per epoch, for ten epochs."""

ESTIMATORS = (
    # The gates' own noise: what training prices, the valid bounds of P2, and what sticks to log N.
    Estimator("plain"),
    Estimator("variational"),
    Estimator("variational_factorised"),
    Estimator("per_unit", n=1000),
    Estimator("pairwise"),
    Estimator("infonce", n=2000),
    # The same additive noise for both nets. Small: only bounds without a ceiling say anything.
    *(Estimator(method, tau) for tau in (0.01, 0.1, 1.0) for method in ("variational", "gaussian", "gaussian_tight")),
    # Large: sample estimates come below log N.
    Estimator("per_unit", 1.0, n=1000),
    *(Estimator(method, tau, n=2000) for tau in (1.0, 3.0) for method in ("leave_one_out", "infonce")),
    *(Estimator("pairwise", tau, full=True, options={"precision": "auto"}) for tau in (1.0, 3.0)),
    Estimator("pairwise_bhattacharyya", 3.0, n=1000),
)
"""Seconds of one core at N = 5,000 and 300 open units: pairwise 1.2 each, infonce and leave_one_out (N = 2,000) 0.3,
per_unit (N = 1,000) about 2, pairwise_bhattacharyya (N = 1,000) 0.9, the others 0.1 or less."""

QUICK_ESTIMATORS = tuple(
    Estimator(estimator.method, estimator.tau)
    for estimator in ESTIMATORS
    if estimator.method not in ("per_unit", "pairwise_bhattacharyya")
)


_LONG = (0, 1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 25, 30, 40, 50, 60, 80, 100, 120, 140, 160, 180, 190, 200)
_SHORT = (0, 1, 2, 4, 8, 12, 16, 25, 40, 60)
_QUICK = (0, 1, 2, 3, 4, 6, 8, 10)

SWEEPS: dict[str, tuple[dict[str, Any], ...]] = {
    "full": (
        {"gated": True, "gammas": (GAMMA,), "seeds": 5, "epochs": 200, "record": _LONG},
        {"gated": False, "gammas": (GAMMA,), "seeds": 5, "epochs": 200, "record": _LONG},
        {"gated": True, "gammas": (2.5e-4, 5.5e-4, 1.5e-3), "seeds": 5, "epochs": 60, "record": _SHORT},
    ),
    "quick": (
        {"gated": True, "gammas": (GAMMA, 1.5e-3), "seeds": 2, "epochs": 10, "record": _QUICK, "n": 2000},
        {"gated": False, "gammas": (GAMMA,), "seeds": 2, "epochs": 10, "record": _QUICK, "n": 2000},
    ),
}
"""By mode, the settings (of `vibtheory.studies.sweep_plan.SweepPlan`) of the sweeps whose tables make Figure 2's."""


PANELS = SWEEPS["full"][:2]
"""The sweeps of the two printed panels."""


def figure2_panels(runs: str | Path, jobs: int = 1) -> DataFrame:
    """Train and measure the two printed panels: no weight decay, and only the Gaussian bound at τ = 0.01.

    Args, returns, raises:
        as `figure2_table`. About 10 core-minutes for each of 5 seeds.
    """
    return _tables(PANELS, jobs, out=Path(runs) / "figure2-panels", recipe=PANELS_RECIPE, full_at_last=False,
                   estimators=(Estimator("gaussian", 0.01),))  # fmt: skip


def figure2_table(mode: str, runs: str | Path, jobs: int = 1) -> DataFrame:
    """Train and measure everything of a mode; finished runs are read back, stopped ones resumed.

    Args:
        mode: "quick" or "full".
        runs: folder of the runs.
        jobs: processes side by side.

    Returns:
        One row per net (gated, gamma, seed), recorded epoch and estimate (method, tau, n); `vibtheory.sweep` says what
        the columns hold.

    Raises:
        InvalidInputError: an unknown mode, jobs < 1.
        CheckpointError, DataError, DivergedError: from the runs.
    """
    check_choice("mode", mode, SWEEPS)
    common: dict[str, Any] = {"out": Path(runs) / f"figure2-{mode}", "recipe": RECIPE, "estimators": ESTIMATORS}
    if mode == "quick":
        common |= {"recipe": QUICK_RECIPE, "estimators": QUICK_ESTIMATORS, "full_at_last": False}
    return _tables(SWEEPS[mode], jobs, **common)


def _tables(sweeps: tuple[dict[str, Any], ...], jobs: int, **common: Any) -> DataFrame:
    import pandas as pd

    from vibtheory.studies.sweep import sweep

    return pd.concat([sweep(**common, **own, jobs=jobs).table for own in sweeps], ignore_index=True)
