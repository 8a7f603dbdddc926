"""Every certified local minimum of Φ for d ≤ 12 (T6: enumeration is complete): ground truth for the solvers.

At a strict local minimum the columns of the support S are independent (T2), and for each sign vector s the part of the
orthant s∘x_S > 0 where the Hessian is positive definite is convex, because 1/(2+α) is convex in |x|: at most one strict
local minimum per (S, s), 3^d regions. `theory.branch_and_prune` searches them all, with intervals that enclose
rounding: a region is discarded only where it provably holds no stationary point with λ_min(M) > δ and |x_j| > δ, in
units in which gates look alike (`theory.normalised`), δ = `DEGENERATE` = 1e-8, M half the Hessian. So every local
minimum is listed except degenerate ones: a tie or a fold to within δ, of probability about δ for random data.

Every point found is polished and certified. Cost: one inverse per support, one interval step per region, and up to
some ten thousand boxes: d = 12 takes seconds, at low rank or full (benchmarks/results/enumeration.csv). Columns
that agree to 1e-3 pairwise are the hard case: regions with λ_min(G_S) of 1e-8 to 1e-6 may stay undecided (SolverError).
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from vibtheory.errors import reject
from vibtheory.theory.branch_and_prune import DEGENERATE, stationary_points
from vibtheory.theory.minima import LocalMinimum, as_local_minimum
from vibtheory.theory.normalised import normalise
from vibtheory.theory.polish import certified_end, newton_on_support
from vibtheory.theory.quadratic import QuadraticBound, check_bound

__all__ = ["MAX_ENUMERATED", "enumerate_local_minima"]

MAX_ENUMERATED = 12
_CHUNK = 2**15


def enumerate_local_minima(bound: QuadraticBound) -> tuple[LocalMinimum, ...]:
    """All certified local minima of Φ, the lowest (global) first.

    Args:
        bound: ḡ with at most 12 columns of w_j > 0 (the others are free and cost nothing). Φ need not be bounded below:
            where b leaves the row space the first entry is only the lowest local minimum, and where w_j = 0 ≠ b_j there
            is none.

    Returns:
        LocalMinimum records sorted by Φ; never empty for a bounded Φ, except where every minimum is degenerate (a tie
        or a singular Hessian), which cannot be certified.

    Raises:
        InvalidInputError: more than 12 columns with w_j > 0.
        SolverError: a region could not be decided, so that the list might be incomplete; the remedy is named.

    Source: docs/theory.md T2, T6.
    """
    check_bound(bound)
    problem = normalise(bound)
    if problem.size > MAX_ENUMERATED:
        reject("bound", f"{problem.size} columns with w > 0", f"at most {MAX_ENUMERATED}", "use find_local_minimum")
    if ((bound.w == 0) & (bound.b != 0)).any():
        return ()
    everything = np.arange(problem.size)
    gram = problem.block(everything, everything)
    found = [np.zeros(problem.size)]
    for order in range(1, problem.size + 1):
        supports = np.array(list(combinations(range(problem.size), order)))
        least = np.linalg.eigvalsh(gram[supports[:, :, None], supports[:, None, :]])[:, 0]
        kept, signs = supports[least > DEGENERATE], np.array(list(product((1.0, -1.0), repeat=order)))
        step = max(1, _CHUNK // len(signs))
        for first in range(0, len(kept), step):
            found.extend(stationary_points(problem, gram, kept[first : first + step], signs))
    minima = []
    for x in found:
        polished, steps = newton_on_support(problem, x, 20) if x.any() else (x, 0)
        polished, certificate = certified_end(problem, polished)
        if certificate.certified and (np.sign(polished) == np.sign(x)).all():
            minima.append(as_local_minimum(bound, problem, polished, certificate, "enumeration", steps))
    return tuple(sorted(minima, key=lambda minimum: minimum.value))
