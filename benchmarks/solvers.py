"""The fast solver against the cvxpy loop, and its cost against d and rank. Ratios within one run; a CSV and a plot.

python benchmarks/solvers.py            # everything, some minutes
python benchmarks/solvers.py --quick    # small sizes only
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
from vibtheory.theory.minima import LocalMinimum, find_local_minimum
from vibtheory.theory.normalised import normalise
from vibtheory.theory.quadratic import QuadraticBound

RESULTS = Path(__file__).parent / "results"


def instance(d: int, rank: int, gamma: float, seed: int = 0) -> tuple[QuadraticBound, NDArray[np.float64]]:
    """Gaussian A with rows of unit scale, β standard normal; the start is the default one (every gate open)."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((rank, d)) / np.sqrt(d)
    bound = QuadraticBound(factor, -2 * factor.T @ rng.standard_normal(rank), 0.0, gamma)
    bound.require_bounded()  # cached: both solvers begin from the same place
    problem = normalise(bound)
    return bound, problem.means(default_start(problem))


def timed(call: Callable[[], LocalMinimum], repeats: int = 1) -> tuple[float, LocalMinimum]:
    """The least of `repeats` wall times in seconds, and the result."""
    best = np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - begin)
    return best, result


def row(d: int, rank: int, gamma: float, with_cvxpy: bool) -> dict[str, object]:
    bound, start = instance(d, rank, gamma)
    repeats = 3 if d <= 800 else 1
    seconds, fast = timed(lambda: find_local_minimum(bound, start), repeats)
    line: dict[str, object] = {
        "d": d, "rank": rank, "gamma": gamma, "fast_s": round(seconds, 4), "fast_status": fast.status,
        "fast_nonzeros": fast.nonzeros, "fast_phi": fast.value,
    }  # fmt: skip
    if with_cvxpy:
        slow_seconds, slow = timed(lambda: find_local_minimum(bound, start, "cvxpy"))
        line |= {
            "cvxpy_s": round(slow_seconds, 3), "cvxpy_status": slow.status, "cvxpy_nonzeros": slow.nonzeros,
            "cvxpy_phi": slow.value, "ratio": round(slow_seconds / seconds, 1),
            "same_support": bool((np.sign(fast.mu) == np.sign(slow.mu)).all()),
        }  # fmt: skip
    print(line, flush=True)
    return line


def plot(table: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt

    from vibtheory.figures.style import save, style

    with style():
        figure, axes = plt.subplots(1, 2, figsize=(7.0, 2.8), sharey=True)
        by_size = table[table["rank"] == 100].drop_duplicates(["d", "gamma"])
        for gamma, part in by_size.groupby("gamma"):
            part = part.sort_values("d")
            axes[0].loglog(part["d"], part["fast_s"], "o-", label=f"fast, γ = {gamma:g}")
            if part["cvxpy_s"].notna().any():
                axes[0].loglog(part["d"], part["cvxpy_s"], "s--", label=f"cvxpy, γ = {gamma:g}")
        axes[0].set(xlabel="gates d (rank 100)", ylabel="seconds to a certified minimum")
        axes[0].legend()
        for size, part in table[(table["d"].isin([784, 5000])) & (table["gamma"] == 0.1)].groupby("d"):
            part = part.sort_values("rank")
            if len(part) > 1:
                axes[1].loglog(part["rank"], part["fast_s"], "o-", label=f"fast, d = {size}, γ = 0.1")
        axes[1].set(xlabel="rank of A")
        axes[1].legend()
        for axis, ticks in ((axes[0], by_size["d"]), (axes[1], table["rank"])):
            axis.set_xticks(sorted(set(ticks)), [str(tick) for tick in sorted(set(ticks))])
            axis.minorticks_off()
        save(figure, path, ("png",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "solvers")
    arguments = parser.parse_args()
    find_local_minimum(QuadraticBound(np.eye(2), [-6.0, 1.0], 0.0, 1.0), solver="cvxpy")  # imports, not timed
    cases = [(150, 100, g, True) for g in (0.1, 0.01)]
    if not arguments.quick:
        cases += [(784, 100, g, True) for g in (0.1, 0.01)] + [(784, r, 0.1, False) for r in (25, 50, 200, 400)]
        cases += [(2000, 100, g, False) for g in (0.1, 0.01)] + [(5000, 100, g, False) for g in (0.1, 0.01)]
        cases += [(5000, 300, 0.1, False), (5000, 1000, 0.1, False)]
    table = pd.DataFrame([row(*case) for case in cases])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.out.with_suffix(".csv"), index=False)
    plot(table, arguments.out)


if __name__ == "__main__":
    main()
