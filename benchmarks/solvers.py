"""The fast solver against skglm and the cvxpy loop, and its cost against d and rank: a CSV and a plot.

Times are CPU seconds of one run, from A, b, γ to the certified minimum: the test that Φ is bounded below is counted in
for our solvers. Medians over several seeds; `over_skglm` and `over_ridge` (the start that was the default before
continuation) are medians of ratios within one run; `certified` is the share of the seeds. skglm's accelerated
coordinate descent (Bertrand et al. 2022), with the penalty written for it, is timed from its own layout of A, compiled,
to the point where it stops (tol 1e-8), which nothing certifies. Set OMP_NUM_THREADS=1, so that they are those of one
core.

python benchmarks/solvers.py            # everything, about ten minutes
python benchmarks/solvers.py --quick    # small sizes only
python benchmarks/solvers.py --full-rank  # d = 1000, 2000, 5000 of full rank: Q alone from 2d rows, and a square A
python benchmarks/solvers.py --starts   # how far above the best known minimum each start ends; results/starts.csv
python benchmarks/solvers.py --convex   # one minimum (G ⪰ ½I): supports and Φ agree; results/solvers_convex.csv
python benchmarks/solvers.py --plot     # redraw figures/solver_cost from results/solvers.csv
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vibtheory.errors import SolverError
from vibtheory.theory.certificate import certify
from vibtheory.theory.enumeration import enumerate_local_minima
from vibtheory.theory.landscape import check_convexity
from vibtheory.theory.minima import LocalMinimum, find_local_minimum
from vibtheory.theory.quadratic import QuadraticBound

Array = NDArray[np.float64]
T = TypeVar("T")
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


def skglm_solver(factor: Array, beta: Array, gamma: float) -> Callable[[], Array]:
    """Minimises ‖Aμ − β‖² + Σρ_j from 0 by skglm: its quadratic is ‖y − Xμ‖²/(2m), so X = √(2m)A, y = √(2m)β."""
    from numba import float64
    from skglm.datafits import Quadratic
    from skglm.penalties.base import BasePenalty
    from skglm.solvers import AndersonCD
    from skglm.utils.jit_compilation import compiled_clone

    warnings.filterwarnings("ignore", "Passing in a compiled")

    class Profiled(BasePenalty):
        """ρ of docs/theory.md T1, with its closed-form proximal step at the step size 1/(2w)."""

        def __init__(self, gamma: float, w: Array) -> None:
            self.gamma, self.w = gamma, w

        def get_spec(self):
            return (("gamma", float64), ("w", float64[:]))

        def params_to_dict(self):
            return {"gamma": self.gamma, "w": self.w}

        def value(self, mu):
            t = np.abs(mu) * np.sqrt(self.w / self.gamma)
            v = 2 / (t + np.sqrt(t * t + 4))
            return self.gamma * np.sum(t * v - 2 * np.log(v))

        def prox_1d(self, value, stepsize, j):
            unit = self.gamma / self.w[j]
            return value * (1 - unit / (value * value)) if value * value > unit else 0.0

        def subdiff_distance(self, mu, gradient, places):
            distance = np.zeros_like(gradient)
            for i, j in enumerate(places):
                t = abs(mu[j]) * np.sqrt(self.w[j] / self.gamma)
                slope = 4 * np.sqrt(self.gamma * self.w[j]) / (t + np.sqrt(t * t + 4))
                off = gradient[i] + np.sign(mu[j]) * slope
                distance[i] = max(0.0, abs(gradient[i]) - slope) if t == 0 else abs(off)
            return distance

        def is_penalized(self, count):
            return np.ones(count, dtype=np.bool_)

        def generalized_support(self, mu):
            return mu != 0

    size = np.sqrt(2 * len(factor))
    penalty = compiled_clone(Profiled(gamma, np.einsum("ij,ij->j", factor, factor)))
    data, fit = (np.asfortranarray(size * factor), size * beta), compiled_clone(Quadratic())
    solver = AndersonCD(max_iter=200, max_epochs=100_000, tol=1e-8, fit_intercept=False)
    return lambda: solver.solve(*data, fit, penalty, run_checks=False)[0]


def timed(call: Callable[[], T], repeats: int = 1) -> tuple[float, T]:
    """The least of `repeats` CPU times in seconds, and the result."""
    best = np.inf
    for _ in range(repeats):
        begin = time.process_time()
        result = call()
        best = min(best, time.process_time() - begin)
    return best, result


def row(d: int, rank: int, gamma: float, with_cvxpy: bool, *, convex: bool = False) -> dict[str, object]:
    """Medians over three seeds; Φ, open gates and the cvxpy loop are those of the first."""
    first: dict[str, object] = {}
    times = []
    for seed in range(3):
        factor, b = convex_instance(d, seed) if convex else instance(d, rank, seed)

        def solve(start: str = "continuation", solver: str = "fast") -> LocalMinimum:
            return find_local_minimum(QuadraticBound(factor, b, 0.0, gamma), start, solver)  # noqa: B023

        repeats = 7 if d <= 800 else 3
        seconds, fast = timed(solve, repeats)
        line: dict[str, object] = {
            "d": d, "rank": rank, "gamma": gamma, "fast_s": 0.0, "fast_status": fast.status,
            "fast_nonzeros": fast.nonzeros, "fast_phi": fast.value,
        }  # fmt: skip
        sample = {"fast_s": seconds, "certified": float(fast.certificate.certified)}
        if not convex:
            bound = QuadraticBound(factor, b, 0.0, gamma)
            peer, mu = timed(skglm_solver(factor, bound.beta(), gamma), repeats)
            sample |= {"skglm_s": peer, "over_skglm": seconds / peer}
            line |= {
                "skglm_s": 0.0, "skglm_nonzeros": int(np.count_nonzero(mu)), "skglm_phi": bound.phi(mu),
                "skglm_status": certify(bound, mu).status,
            }  # fmt: skip
            if d <= 5000:
                ridge, _ = timed(lambda: solve("ridge"), 1 + (d <= 800))
                sample |= {"ridge_s": ridge, "over_ridge": seconds / ridge}
        times.append(sample)
        if with_cvxpy and not seed:
            slow_seconds, slow = timed(lambda: solve(solver="cvxpy"))
            line |= {
                "cvxpy_s": round(slow_seconds, 3), "cvxpy_status": slow.status, "cvxpy_nonzeros": slow.nonzeros,
                "cvxpy_phi": slow.value, "ratio": round(slow_seconds / seconds, 1),
                "same_support": bool((np.sign(fast.mu) == np.sign(slow.mu)).all()),
                "phi_difference": abs(fast.value / slow.value - 1),
            }  # fmt: skip
        first = first or line
    table = pd.DataFrame(times)
    first |= table.median().round(4).to_dict() | {"certified": table["certified"].mean()}
    print(first, flush=True)
    return first


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


def start_rows() -> list[dict[str, object]]:
    """Per size: how far Φ ends above the best known minimum (nats, mean and worst), how often at it, open gates.

    Up to d = 12 the best is enumeration's; past it the lowest from both starts, zero and 20 random starts.
    """
    rows = []
    for d, rank, gamma in ((8, 8, 0.3), (10, 6, 0.1), (12, 12, 0.03), (100, 30, 0.1), (100, 30, 0.01), (784, 100, 0.1),
                           (784, 100, 0.01)):  # fmt: skip
        ends: dict[str, list[tuple[float, int]]] = {}
        for seed in range(24 if d <= 12 else 8 if d == 100 else 4):
            factor, b = instance(d, rank, seed)
            bound, rng = QuadraticBound(factor, b, 0.0, gamma), np.random.default_rng(seed)
            found = {name: find_local_minimum(bound, name) for name in ("continuation", "ridge")}
            found["zero"] = find_local_minimum(bound, np.zeros(d))
            if d <= 12:
                try:
                    best = enumerate_local_minima(bound)[0].value
                except SolverError:
                    continue
            else:
                unit = np.sqrt(bound.gamma / bound.w)
                random = (unit * rng.standard_normal(d) * 10 ** rng.uniform(-1, 1.5) for _ in range(20))
                found["best of 20 random"] = min((find_local_minimum(bound, x) for x in random), key=lambda m: m.value)
                best = min(minimum.value for minimum in found.values())
            for name, minimum in found.items():
                ends.setdefault(name, []).append((minimum.value - best, minimum.nonzeros))
        for name, values in ends.items():
            gap, count = np.array(values).T
            rows.append({
                "d": d, "rank": rank, "gamma": gamma, "start": name, "instances": len(gap), "mean_gap": gap.mean(),
                "worst_gap": gap.max(), "at_best": (gap < 1e-9 * (1 + abs(best))).mean(), "nonzeros": count.mean(),
            })  # fmt: skip
            print(rows[-1], flush=True)
    return rows


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
    parser.add_argument("--starts", action="store_true", help="where each start ends, nothing else")
    parser.add_argument("--convex", action="store_true", help="instances with one minimum, nothing else")
    parser.add_argument("--out", type=Path, default=RESULTS / "solvers")
    arguments = parser.parse_args()
    if arguments.plot:
        plot(pd.read_csv(arguments.out.with_suffix(".csv")))
        return
    if arguments.starts:
        pd.DataFrame(start_rows()).to_csv(arguments.out.with_name("starts.csv"), index=False, float_format="%.6g")
        return
    if arguments.full_rank is not None:
        sizes = arguments.full_rank or (1000, 2000, 5000)
        table = pd.DataFrame([full_rank_row(d, given) for d in sizes for given in ("Q", "A")])
        table.to_csv(arguments.out.with_name("solvers_full_rank.csv"), index=False)
        return
    find_local_minimum(QuadraticBound(np.eye(2), [-6.0, 1.0], 0.0, 1.0), solver="cvxpy")  # imports, not timed
    skglm_solver(*instance(30, 10)[:1], np.ones(10), 0.1)()  # compiles
    if arguments.convex:
        table = pd.DataFrame([row(d, d, g, True, convex=True) for d in (50, 150, 400) for g in (0.5, 0.05)])
        table.to_csv(arguments.out.with_name("solvers_convex.csv"), index=False)
        return
    cases = [(150, 100, g, True) for g in (0.1, 0.01)]
    if not arguments.quick:
        cases += [(784, 100, g, True) for g in (0.1, 0.01)] + [(784, r, 0.1, False) for r in (25, 50, 200, 400)]
        cases += [(2000, 100, g, False) for g in (0.1, 0.01)] + [(5000, 100, g, False) for g in (0.1, 0.01)]
        cases += [(5000, 300, 0.1, False), (5000, 500, 0.1, False), (5000, 500, 0.01, False), (5000, 1000, 0.1, False)]
        cases += [(50_000, 200, g, False) for g in (0.1, 0.01)]
    table = pd.DataFrame([row(*case) for case in cases])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out.with_suffix(".csv"), index=False)
    if not arguments.quick:
        plot(table)


if __name__ == "__main__":
    main()
