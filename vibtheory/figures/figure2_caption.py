"""Figure 2's caption: which estimates reproduce the printed rise, turn and fall, from the shape table alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vibtheory.figures.figure2_shape import SHAPES

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["NAMES", "caption"]

NAMES = {
    "plain": "½ Σ log(1+α), as trained",
    "variational": "variational (P2)",
    "variational_factorised": "variational, factorised",
    "gaussian": "Gaussian",
    "gaussian_tight": "Gaussian, tight",
    "logdet": "½ log det(τ²I + Cov)",
    "leave_one_out": "leave-one-out",
    "infonce": "InfoNCE",
    "pairwise": "pairwise KL",
    "pairwise_bhattacharyya": "pairwise Bhattacharyya",
    "per_unit": "Σ units, quadrature",
    "ksg": "KSG",
    "binning": "binning",
}


def caption(shape: DataFrame, gamma: float) -> str:
    """One sentence per shape with the estimates that have it, for the VIBNet at `gamma` and for the regular net.

    Args:
        shape: from `shape_table`.
        gamma: price of the VIBNet.

    Returns:
        The sentences, a line each. A turn comes with its epoch, the median over seeds.
    """
    vibnet = shape[(shape["net"] == "VIBNet") & (shape["gamma"] == gamma)]
    regular = shape[shape["net"] == "regular"]
    lines = []
    for name, rows in ((f"VIBNet, γ = {gamma:g}", vibnet), ("Regular net", regular)):
        if not len(rows):
            continue
        size = f"{int(rows['seeds'].max())} seeds, {int(rows['epochs'].max())} epochs"
        lines.append(f"{name} ({size}), by estimate [τ, or τ@epoch of the turn]:")
        for words in SHAPES:
            part = rows[rows["shape"] == words]
            if len(part):
                lines.append(f"{words}: {_listed(part, turn='turns' in words)}.")
    return "\n".join(lines)


def _listed(rows: DataFrame, turn: bool) -> str:
    """Methods in the order of `NAMES`, each with its τ's; τ = 0 is the gates' own noise."""
    noise: dict[str, list[str]] = {}
    present = set(rows["method"])
    for method in [*(name for name in NAMES if name in present), *sorted(present - set(NAMES))]:
        own = rows[rows["method"] == method].sort_values("tau")
        noise[NAMES.get(method, method)] = [
            (f"{tau:g}" if tau else "own noise") + (f"@{epoch:g}" if turn else "")
            for tau, epoch in zip(own["tau"], own["turn"], strict=True)
        ]
    return "; ".join(f"{name} [{', '.join(taus)}]" for name, taus in noise.items())
