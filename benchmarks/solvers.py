"""The fast solver against the cvxpy loop, and its cost against d and rank: a CSV and a plot.

Times are CPU seconds of one run, from A, b, γ to the certified minimum: the test that Φ is bounded below is counted in
for both solvers. Set OMP_NUM_THREADS=1, so that they are those of one core.

python benchmarks/solvers.py            # everything, about ten minutes
python benchmarks/solvers.py --quick    # small sizes only
python benchmarks/solvers.py --full-rank  # d = 1000, 2000, 5000 of full rank: Q alone from 2d rows, and a square A
python benchmarks/solvers.py --convex   # one minimum (G ⪰ ½I): supports and Φ agree; results/solvers_convex.csv
python benchmarks/solvers.py --plot     # redraw figures/solver_cost from results/solvers.csv
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vibtheory.theory.coordinate_descent import default_start
from vibtheory.theory.landscape import check_convexity
from vibtheory.theory.minima import LocalMinimum, find_local_minimum
from vibtheory.theory.normalised import normalise
from vibtheory.theory.quadratic import QuadraticBound

Array = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"


def instance(d: int, rank: int, seed: int = 0) -> tuple[Array, Array]:
    """Gaussian A [rank, d] with rows of unit scale and b = −2Aᵀβ, β standard normal."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((rank, d)) / np.sqrt(d)
    return factor, -2 * factor.T @ rng.standard_normal(rank)


def convex_instance(d: int, seed: int = 0) -> tuple[Array, Array]:
    """Nearly orthogonal A [d, d], so that G ⪰ ½I and Φ is convex (T7), and b = −2Aᵀβ, β standard normal."""
    rng = np.random.default_rng(seed)
    factor = np.linalg.qr(rng.standard_normal((d, d)))[0] + 0.1 * rng.standard_normal((d, d)) / np.sqrt(d)
    b = -2 * factor.T @ rng.standard_normal(d)
    assert check_convexity(QuadraticBound(factor, b, 0.0, 1.0)).verdict == "convex"
    return factor, b


def timed(call: Callable[[], LocalMinimum], repeats: int = 1) -> tuple[float, LocalMinimum]:
    """The least of `repeats` CPU times in seconds, and the result."""
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        result = call()
        best = min(best, time.process_time() - begin)
    return best, result


def row(d: int, rank: int, gamma: float, with_cvxpy: bool, *, convex: bool = False) -> dict[str, object]:
    factor, b = convex_instance(d) if convex else instance(d, rank)
    problem = normalise(QuadraticBound(factor, b, 0.0, gamma))
    start = problem.means(default_start(problem))  # the same for both solvers: every gate open

    def solve(solver: str) -> LocalMinimum:
        return find_local_minimum(QuadraticBound(factor, b, 0.0, gamma), start, solver)

    seconds, fast = timed(lambda: solve("fast"), 3 if d <= 800 else 1)
    line: dict[str, object] = {
        "d": d, "rank": rank, "gamma": gamma, "fast_s": round(seconds, 4), "fast_status": fast.status,
        "fast_nonzeros": fast.nonzeros, "fast_phi": fast.value,
    }  # fmt: skip
    if with_cvxpy:
        slow_seconds, slow = timed(lambda: solve("cvxpy"))
        line |= {
            "cvxpy_s": round(slow_seconds, 3), "cvxpy_status": slow.status, "cvxpy_nonzeros": slow.nonzeros,
            "cvxpy_phi": slow.value, "ratio": round(slow_seconds / seconds, 1),
            "same_support": bool((np.sign(fast.mu) == np.sign(slow.mu)).all()),
            "phi_difference": abs(fast.value / slow.value - 1),
        }  # fmt: skip
    print(line, flush=True)
    return line


def full_rank_row(d: int, given: str, gamma: float = 0.1) -> dict[str, object]:
    """Full rank: "Q", the Gram matrix alone of A with 2d rows, or "A", square. CPU seconds of one core, with checks.

    A square Gaussian A is the hard one: its least singular values are near 0.
    """
    if given == "A":
        factor, b = instance(d, d)
    else:
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((2 * d, d)) / np.sqrt(d)
        factor, b = rows.T @ rows, -2 * rows.T @ rng.standard_normal(2 * d)
        del rows
    build = QuadraticBound if given == "A" else QuadraticBound.from_gram
    clock = [time.process_time()]
    bound = build(factor, b, 0.0, gamma)  # checks that Q is semidefinite
    clock.append(time.process_time())
    bound.require_bounded()
    clock.append(time.process_time())
    minimum = find_local_minimum(bound)
    clock.append(time.process_time())
    built, bounded, solved = np.diff(clock).round(2).tolist()
    line: dict[str, object] = {
        "d": d, "given": given, "gamma": gamma, "built_cpu_s": built, "bounded_cpu_s": bounded,
        "solve_cpu_s": solved, "total_cpu_s": round(built + bounded + solved, 2), "status": minimum.status,
        "nonzeros": minimum.nonzeros, "phi": minimum.value,
    }  # fmt: skip
    print(line, flush=True)
    return line


def plot(table: pd.DataFrame) -> None:
    """figures/solver_cost.png and .csv."""
    from vibtheory.figures import plot_solver_cost, save

    target = Path(__file__).resolve().parents[1] / "figures" / "solver_cost"
    save(plot_solver_cost(table), target, ("png",))
    table.to_csv(target.with_suffix(".csv"), index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plot", action="store_true", help="redraw figures/solver_cost from the table, run nothing")
    parser.add_argument("--full-rank", type=int, nargs="*", help="full rank at these d, nothing else")
    parser.add_argument("--convex", action="store_true", help="instances with one minimum, nothing else")
    parser.add_argument("--out", type=Path, default=RESULTS / "solvers")
    arguments = parser.parse_args()
    if arguments.plot:
        plot(pd.read_csv(arguments.out.with_suffix(".csv")))
        return
    if arguments.full_rank is not None:
        sizes = arguments.full_rank or (1000, 2000, 5000)
        table = pd.DataFrame([full_rank_row(d, given) for d in sizes for given in ("Q", "A")])
        table.to_csv(arguments.out.with_name("solvers_full_rank.csv"), index=False)
        return
    find_local_minimum(QuadraticBound(np.eye(2), [-6.0, 1.0], 0.0, 1.0), solver="cvxpy")  # imports, not timed
    if arguments.convex:
        table = pd.DataFrame([row(d, d, g, True, convex=True) for d in (50, 150, 400) for g in (0.5, 0.05)])
        table.to_csv(arguments.out.with_name("solvers_convex.csv"), index=False)
        return
    cases = [(150, 100, g, True) for g in (0.1, 0.01)]
    if not arguments.quick:
        cases += [(784, 100, g, True) for g in (0.1, 0.01)] + [(784, r, 0.1, False) for r in (25, 50, 200, 400)]
        cases += [(2000, 100, g, False) for g in (0.1, 0.01)] + [(5000, 100, g, False) for g in (0.1, 0.01)]
        cases += [(5000, 300, 0.1, False), (5000, 1000, 0.1, False)]
    table = pd.DataFrame([row(*case) for case in cases])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out.with_suffix(".csv"), index=False)
    if not arguments.quick:
        plot(table)


if __name__ == "__main__":
    main()
