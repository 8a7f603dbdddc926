"""Local minima of Φ, found and certified (docs/theory.md T2, T6): the entry point to both solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_array, as_whole, check_choice, reject, shown
from vibtheory.storage.report import Report
from vibtheory.theory.certificate import Certificate
from vibtheory.theory.coordinate_descent import continued_start, descend, ridge_start
from vibtheory.theory.majorise_minimise import CVXPY_SOLVERS, majorise_minimise
from vibtheory.theory.normalised import NormalisedProblem, normalise
from vibtheory.theory.quadratic import QuadraticBound, check_bound

__all__ = ["LocalMinimum", "find_local_minimum"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LocalMinimum(Report):
    """A point of Φ and what is proved about it.

    Attributes:
        mu: [d] gate means, exact zeros where closed.
        sigma: [d] best standard deviations (T1): 0 where μ_j = 0, inf where w_j = 0.
        alpha: [d] signal-to-noise ratios μ²/σ², 0 where closed or w_j = 0.
        value: Φ in nats.
        certificate: the verdict (T6); bounds such as T2 may be asserted only where it is certified.
        solver: "fast", "cvxpy" or "enumeration".
        iterations: sweeps, programs and Newton steps together.
        nonzeros: ‖α‖₀.
    """

    mu: Array
    sigma: Array
    alpha: Array
    value: float
    certificate: Certificate
    solver: str
    iterations: int
    nonzeros: int

    @property
    def status(self) -> str:
        """The certificate's verdict."""
        return self.certificate.status

    def __str__(self) -> str:
        return (
            f"{self.nonzeros} of {len(self.mu)} gates open, Phi = {self.value:.10g} nats "
            f"({self.solver}, {self.iterations} iterations); {self.certificate}"
        )


@np.errstate(under="ignore")
def find_local_minimum(
    bound: QuadraticBound,
    start: ArrayLike | str = "continuation",
    solver: str = "fast",
    *,
    max_iterations: int = 10_000,
    cvxpy_solvers: Sequence[str] = CVXPY_SOLVERS,
) -> LocalMinimum:
    """Descend from `start` to a local minimum of Φ and certify it.

    Args:
        bound: ḡ with its prices.
        start: [d] gate means μ₀, or "continuation": the minimum 0 of a high price, carried down in twelve rough steps
            (as "ridge" where 0 is a minimum at these prices too); or "ridge": the ridge solution, every gate open.
        solver: "fast" (coordinate descent and Newton) or "cvxpy" (majorise–minimise, then the same polish).
        max_iterations: ≥ 0; a run cut short comes back "not converged" or "stationary, not certified".
        cvxpy_solvers: chain of cvxpy solver names, for solver="cvxpy".

    Returns:
        LocalMinimum, with Φ no higher than at `start`.

    Raises:
        InvalidInputError: Φ unbounded below, wrong `start`, unknown solver, max_iterations < 0.
        SolverError: every cvxpy solver failed.

    Source: docs/theory.md T1, T2, T6.
    """
    check_bound(bound)
    check_choice("solver", solver, ("fast", "cvxpy"))
    max_iterations = as_whole("max_iterations", max_iterations, 0, remedy="omit it, or pass a larger budget")
    named = isinstance(cvxpy_solvers, list | tuple) and all(isinstance(name, str) for name in cvxpy_solvers)
    if not named or not cvxpy_solvers:
        reject("cvxpy_solvers", shown(cvxpy_solvers), "a non-empty sequence of names", 'pass ("CLARABEL",)')
    if isinstance(start, str):
        check_choice("start", start, ("continuation", "ridge"))
    else:
        start = as_array("start", start, (bound.d,), 'pass one μ per gate, or "continuation"')
    bound.require_bounded()
    problem = normalise(bound)
    if isinstance(start, str):
        x = continued_start(problem) if start == "continuation" else ridge_start(problem)
    else:
        x = problem.coordinates(start)
    if solver == "fast":
        x, certificate, iterations = descend(problem, x, max_iterations)
    else:
        x, certificate, iterations = majorise_minimise(problem, x, max_iterations, cvxpy_solvers)
    return as_local_minimum(bound, problem, x, certificate, solver, iterations)


def as_local_minimum(
    bound: QuadraticBound, problem: NormalisedProblem, x: Array, certificate: Certificate, solver: str, iterations: int
) -> LocalMinimum:
    """The record of the point x [k] with its certificate."""
    mu = problem.means(x)
    profile = bound._profile(mu)
    alpha = profile.alpha
    return LocalMinimum(
        mu=mu,
        sigma=profile.deviation,
        alpha=alpha,
        value=float(bound._value(mu)) + float(np.sum(profile.value)),
        certificate=certificate,
        solver=solver,
        iterations=iterations,
        nonzeros=int(np.count_nonzero(alpha)),
    )
