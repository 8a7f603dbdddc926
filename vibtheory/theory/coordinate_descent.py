"""The fast solver: coordinate descent on a working set, then Newton on the support, until the certificate holds.

One coordinate of Φ has a closed-form minimiser, the garrote of `theory.normalised`: x_j = β̂_j(1 − D_j/β̂_j²)₊. Sweeps
run, compiled, on the Gram matrix of a small working set: the open gates and those whose gradient asks to open
(|2G_jᵀx + p_j| > 2√D_j). The others cost one product with A each time the set is settled, and nothing else: with rank
m and s gates in the set, O(dm + s²m) all told. Newton (`theory.polish`) finishes on the support, drops what a flat or
negatively curved direction can drop, and the loop repeats until nothing opens and nothing falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from vibtheory.theory.certificate import NOT_CONVERGED, Certificate, certify_normalised
from vibtheory.theory.normalised import EPS, NormalisedProblem
from vibtheory.theory.polish import certified_end, newton_on_support, step_along

__all__ = ["continued_start", "descend", "ridge_start", "sweep"]

Array = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
_PRICES = 12
_SWEEPS = 50
_SETTLED = 1e-3  # a sweep that moves no gate by more than this share of itself plus its unit ends the round
_NEWTON_STEPS = 30
_LARGE = 1500  # gates from which the working set's Gram matrix costs too much: closed first, block by block
_RIDGE = 0.1
_TIE = 16 * EPS  # a gate that would open by rounding alone stays closed: a tie, which the certificate decides
_STALLS = 10


def ridge_start(problem: NormalisedProblem) -> Array:
    """All gates open: the ridge solution of (G + 0.1 I)x = −p/2 [k], by a few conjugate-gradient steps."""
    if not problem.size:
        return np.zeros(0)

    def apply(vector: Array) -> Array:
        return np.asarray(0.5 * (problem.response(vector) - problem.linear) + _RIDGE * vector)

    operator = LinearOperator((problem.size, problem.size), matvec=apply, dtype=np.float64)
    solution, _ = cg(operator, -0.5 * problem.linear, rtol=1e-3, maxiter=30)
    return np.asarray(solution, dtype=np.float64)


def continued_start(problem: NormalisedProblem) -> Array:
    """Where the minimum that is 0 at a high price is carried to, roughly, as all prices fall by twelve equal factors.

    At each price sweeps run on the gates that have asked to open so far; those that ask meanwhile join at the next one.
    """
    x, working = np.zeros(problem.size), _WorkingSet(problem)
    root = np.sqrt(problem.price)
    highest = float(np.max(np.abs(problem.linear) / (2.0 * root), initial=0.0))  # √ of the factor at which 0 opens
    if not highest > 1.0:  # 0 is a minimum at these prices too: no path leads to others
        return ridge_start(problem)
    response = problem.linear
    for corner in np.geomspace(highest, 1.0, _PRICES + 1)[1:]:
        places = working.cover(np.abs(response) > 2.0 * root * corner)
        local, here = response[places].copy(), x[places]
        compiled()(working.gram, local, here, corner**2 * problem.price[places], _SWEEPS, 1e-2)
        x[places] = here
        response = problem.response(x)
    return x


def descend(problem: NormalisedProblem, x: Array, max_iterations: int) -> tuple[Array, Certificate, int]:
    """Monotone descent of Φ from x to a certified local minimum.

    Args:
        problem: Φ in normalised coordinates.
        x: [k] the start.
        max_iterations: sweeps plus Newton steps; a run cut short returns where it stands, certified as such.

    Returns:
        x [k], its certificate, and the iterations used.
    """
    x = np.array(x, dtype=np.float64)
    response = problem.response(x)
    working, thresholds = _WorkingSet(problem), 2.0 * np.sqrt(problem.price)
    used, previous, stalls = 0, math.inf, 0
    while True:
        wanted = (x != 0) | (np.abs(response) > thresholds)
        before = problem.size + 1.0
        while _LARGE < (count := int(wanted.sum())) < 0.97 * before and used < max_iterations:
            before = count
            used += _in_blocks(problem, x, np.flatnonzero(wanted))
            response = problem.response(x)
            wanted = (x != 0) | (np.abs(response) > thresholds)
        while used < max_iterations:
            places = working.cover(wanted)
            local, here = response[places].copy(), x[places]
            swept = min(_SWEEPS, max_iterations - used)
            used += compiled()(working.gram, local, here, problem.price[places], swept, _SETTLED)
            x[places] = here
            x, stepped = _newton(problem, working, x, min(_NEWTON_STEPS, max_iterations - used))
            used += stepped
            response = problem.response(x)
            wanted = (x == 0) & (np.abs(response) > thresholds)
            if not (wanted & ~working.inside).any():
                break
        certificate = certify_normalised(problem, x, response)
        if certificate.certified or used >= max_iterations:
            return x, certificate, used
        if certificate.escape is not None:
            moved = step_along(problem, x, problem.coordinates(certificate.escape))
            if moved is not None:
                x, response = moved, problem.response(moved)
                used += 1
                continue
        value = problem.value(x, response)
        stalls = 0 if value < previous else stalls + 1
        if stalls > (_STALLS if certificate.status == NOT_CONVERGED else 0):
            return (*certified_end(problem, x, response), used)
        previous = min(value, previous)


def _newton(problem: NormalisedProblem, working: _WorkingSet, x: Array, steps: int) -> tuple[Array, int]:
    """`newton_on_support` on the open gates' own problem; x [k] and the steps taken."""
    inside = np.flatnonzero(x[working.places])
    support = working.places[inside]
    part = problem.part(support, working.gram[np.ix_(inside, inside)], problem.linear[support])
    here, stepped = newton_on_support(part, x[support], steps)
    x[support] = np.where(np.abs(here) > _TIE * np.sqrt(part.price), here, 0.0)
    return x, stepped


class _WorkingSet:
    """Gates that may be open, `places` [s], and their G, the leading [s, s] of `gram`; grows, never shrinks."""

    def __init__(self, problem: NormalisedProblem) -> None:
        self.problem, self.places = problem, np.zeros(0, dtype=np.intp)
        self.inside = np.zeros(problem.size, dtype=bool)
        self.gram: Array = np.zeros((0, 0))
        self.columns: Array = np.zeros((0, 0))  # of Ã, one a row

    def cover(self, wanted: Mask) -> Index:
        """`places` after the `wanted` gates [k] were added."""
        problem, size = self.problem, len(self.places)
        new = np.flatnonzero(wanted & ~self.inside)
        total = size + len(new)
        if not len(new):
            return self.places
        self.inside[new] = True
        if problem.gram is not None and 2 * total > problem.size:
            self.places, self.gram = np.arange(problem.size), problem.gram
            self.inside[:] = True
            return self.places
        self.places = np.concatenate([self.places, new])
        if total > len(self.gram):
            self.gram = _room(self.gram, 2 * total, 2 * total)
        if problem.factor is not None:
            if total > len(self.columns):
                self.columns = _room(self.columns, 2 * total, len(problem.factor))
            self.columns[size:total] = (problem.factor[:, new] / problem.root[new]).T
            across = self.columns[size:total] @ self.columns[:total].T
        else:
            across = problem.block(new, self.places)
        self.gram[size:total, :total] = across
        self.gram[:size, size:total] = across[:, :size].T
        return self.places


def _room(array: Array, rows: int, columns: int) -> Array:
    larger = np.empty((rows, columns))
    larger[: array.shape[0], : array.shape[1]] = array
    return larger


def _in_blocks(problem: NormalisedProblem, x: Array, wanted: Index) -> int:
    """Sweeps and Newton steps on 1,000 gates at a time, the others held, in place; the iterations used."""
    used = 0
    for places in np.array_split(wanted, -(-len(wanted) // 1000)):
        gram, here = problem.block(places, places), x[places]
        local = problem.response(x)[places]
        part = problem.part(places, gram, local - 2.0 * (gram @ here))
        used += compiled()(gram, local, here, part.price, 6, _SETTLED)
        x[places], steps = newton_on_support(part, here, 6)
        used += steps
    return used


def sweep(gram: Array, response: Array, x: Array, price: Array, sweeps: int, tolerance: float) -> int:
    """Rounds of exact coordinate minimisation, in place; stops early once nothing moves by more than `tolerance`.

    Args:
        gram: G [s, s].
        response: 2Gx + p [s], kept up to date.
        x: [s] where to start.
        price: D [s].
        sweeps: at most so many rounds.
        tolerance: a gate's move over its size plus its unit √D.

    Returns:
        The rounds used.
    """
    for used in range(sweeps):
        largest = 0.0
        for j in range(len(x)):
            old = x[j]
            q = response[j] - 2.0 * old
            new = -0.5 * q * (1.0 - 4.0 * price[j] / (q * q)) if q * q > (4.0 + _TIE) * price[j] else 0.0
            if new != old:
                step = 2.0 * (new - old)
                for i in range(len(x)):
                    response[i] += step * gram[j, i]
                x[j] = new
                largest = max(largest, abs(new - old) / (math.sqrt(price[j]) + abs(new)))
        if largest < tolerance:
            return used + 1
    return sweeps


@cache
def compiled() -> Callable[[Array, Array, Array, Array, int, float], int]:
    """`sweep`, compiled on first use and kept on disk: nothing that does not solve pays for numba.

    Where numba is absent, as in a browser, `sweep` itself: the same numbers, slowly.
    """
    try:
        import numba
    except ImportError:
        return sweep

    fast: Callable[[Array, Array, Array, Array, int, float], int] = numba.njit(cache=True)(sweep)
    return fast
