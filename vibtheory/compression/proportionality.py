"""Which units are proportional on all data, f_k = c·f_j with c ≠ 0 (docs/theory.md T4b): decided, not estimated.

Two passes over the data: second moments name the candidates and their c; then the largest deviation over all examples
decides. High correlation is not enough: one example that breaks proportionality separates two units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Proportional", "ProportionalGroup", "proportional_groups"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Proportional:
    """Unit `unit` is `ratio` times another one; `error` is max_n |f_unit − ratio·f_other| / max_n |f_unit|."""

    unit: int
    ratio: float
    error: float


@dataclass(frozen=True)
class ProportionalGroup:
    """`members` are all proportional to unit `kept`, the one of lowest index."""

    kept: int
    members: tuple[Proportional, ...]

    @property
    def units(self) -> list[int]:
        """Kept unit first."""
        return [self.kept, *(m.unit for m in self.members)]

    @property
    def ratios(self) -> Array:
        """c of every unit of `units`; 1 for the kept one."""
        return np.array([1.0, *(m.ratio for m in self.members)])


def proportional_groups(
    activations: Callable[[], Iterable[Array]], considered: NDArray[np.bool_], tolerance: float
) -> list[ProportionalGroup]:
    """Groups of two or more units that are proportional on every batch; each unit is in one group at most.

    Args:
        activations: called twice; each time gives the same batches f [n, d] in float64.
        considered: boolean [d], the units to look at. Units with f ≡ 0 are never proportional to anything.
        tolerance: ≥ 0; max_n |f_k − c·f_j| ≤ tolerance · max_n |f_k|.
    """
    d = considered.size
    moments, largest, rows = np.zeros((d, d)), np.zeros(d), 0
    for f in activations():
        moments += f.T @ f
        largest = np.maximum(largest, np.abs(f).max(axis=0))
        rows += len(f)
    power = np.diag(moments)
    usable = considered & (power > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = moments / power[:, None]  # c of f_k ≈ c f_j, at [j, k]
        residual = power[None, :] - ratios * moments  # Σ_n (f_k − c f_j)²
    # Never miss a pair: rounding of the moments, and the largest sum that the tolerance allows.
    allowed = rows * (tolerance * largest) ** 2 + 1e-9 * power
    near = np.triu(usable[:, None] & usable[None, :] & (moments != 0) & (residual <= allowed), k=1)
    first, second = np.nonzero(near)
    if first.size == 0:
        return []
    c = ratios[first, second]
    error = np.zeros(first.size)
    for f in activations():
        for pair, (j, k) in enumerate(zip(first, second, strict=True)):
            error[pair] = max(error[pair], np.abs(f[:, k] - c[pair] * f[:, j]).max())
    error /= largest[second]

    groups: list[ProportionalGroup] = []
    taken: set[int] = set()
    for j in np.unique(first).tolist():
        if j in taken:
            continue
        pairs = np.flatnonzero((first == j) & (error <= tolerance))
        members = tuple(Proportional(int(second[p]), float(c[p]), float(error[p])) for p in pairs)
        members = tuple(m for m in members if m.unit not in taken)
        if members:
            groups.append(ProportionalGroup(j, members))
            taken |= {j, *(m.unit for m in members)}
    return groups
