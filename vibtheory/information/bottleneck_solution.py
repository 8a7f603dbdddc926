"""One encoder of the discrete information bottleneck, its place in the plane, and the checks that all solvers share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr, rel_entr

from vibtheory.errors import as_array, as_scalar, reject, resolution
from vibtheory.information.result import Rounded

__all__ = ["BottleneckSolution"]

Array = NDArray[np.float64]
_DEAREST = 1e200  # β beyond which its products with logarithms overflow


@dataclass(frozen=True)
class BottleneckSolution(Rounded):
    """One encoder and where it lies in the information plane (Tishby, Pereira & Bialek 1999); all information in nats.

    Attributes:
        encoder: [nx, nt], p(t|x); rows sum to 1. Clusters of no mass are removed, and those that say the same of y
            (to 1e-11 nats of the objective) are one.
        beta: the price β of the objective.
        i_tx: I(T;X). i_ty: I(T;Y). h_t: H(T).
        objective: I(T;X) − β I(T;Y) (method "blahut-arimoto"), H(T) − β I(T;Y) (method "deterministic").
        method: the algorithm.
        status: "converged", or what went wrong and the remedy.
        iterations: fixed-point steps taken.
        gap: how far the objective can lie above its minimum, as far as the search for a better cluster found; ∞ where
            nothing is known (deterministic, or fewer clusters allowed than are of use).
    """

    encoder: Array
    beta: float
    i_tx: float
    i_ty: float
    h_t: float
    objective: float
    method: str
    status: str
    iterations: int
    gap: float = np.inf

    @property
    def clusters(self) -> int:
        """Number of clusters with mass, each with a p(y|t) of its own."""
        return int(self.encoder.shape[1])

    def __str__(self) -> str:
        return (
            f"{self.method} at β = {self.beta:g}: I(T;X) = {self.i_tx:.6f} nats, I(T;Y) = {self.i_ty:.6f} nats, "
            f"{self.clusters} cluster{'s' if self.clusters > 1 else ''}; {self.status}"
        )


def information_plane(p_xy: Array, encoder: Array) -> tuple[float, float, float]:
    """I(T;X), I(T;Y) and H(T) of one encoder [nx, nt]."""
    p_x = p_xy.sum(1)
    p_t = p_x @ encoder
    p_yt = p_xy.T @ encoder
    i_tx = float((p_x[:, None] * rel_entr(encoder, p_t[None, :])).sum())
    i_ty = float(rel_entr(p_yt, np.outer(p_yt.sum(1), p_t)).sum())
    return max(i_tx, 0.0), max(i_ty, 0.0), float(entr(p_t).sum())


def check_joint(joint: ArrayLike) -> Array:
    """`joint` as a distribution [nx, ny], of sum 1 to float64; raises InvalidInputError otherwise.

    A softmax in float32 sums to 1 to 1e-6 only, and half precision to 1e-2: the tolerance is that of the entries.
    """
    p_xy = as_array("joint", joint, (None, None), "pass p(x, y) with one row per x")
    if p_xy.size == 0:
        reject("joint", f"shape {list(p_xy.shape)}", "at least one x and one y", "pass p(x, y)")
    if (p_xy < 0).any():
        reject("joint", f"smallest entry {p_xy.min():g}", "probabilities >= 0", "pass p(x, y)")
    if abs(p_xy.sum() - 1) > 1e-6 + 1e3 * resolution(joint):
        reject("joint", f"sum {p_xy.sum():.12g}", "sum 1", "divide by the sum")
    if (p_xy.sum(1) <= 0).any():
        reject("joint", "an x of probability 0", "p(x) > 0 for every row", "remove the empty rows")
    return np.asarray(p_xy / p_xy.sum(), dtype=np.float64)


def check_beta(beta: float) -> float:
    price = as_scalar("beta", beta)
    if not 0 <= price <= _DEAREST:
        reject("beta", price, f"a number from 0 to {_DEAREST:g}", "the objective is I(T;X) - beta I(T;Y)")
    return price
