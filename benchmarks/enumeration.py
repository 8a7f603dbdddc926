"""What listing every local minimum costs against d and rank (T6), and how well random starts do beside it.

    python benchmarks/enumeration.py        # writes results/enumeration.csv; a minute or two

Gaussian A with unit-variance entries, b = −2Aᵀβ, β ~ N(0, 9 I), γ = 0.5; CPU seconds of one core, because cores are
shared. `multistart` counts the distinct certified minima that 200 random starts of the fast solver reach (d ≤ 10), each
of which must be in the list: `missed` counts those that are not.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.theory.strategies import random_start
from vibtheory.theory.enumeration import enumerate_local_minima
from vibtheory.theory.minima import find_local_minimum
from vibtheory.theory.quadratic import QuadraticBound

RESULTS = Path(__file__).parent / "results"
STARTS = 200


def row(d: int, rank: int, seed: int) -> dict[str, object]:
    """One instance: cost, number of minima, and what multistart finds."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((rank, d))
    bound = QuadraticBound(factor, -2 * factor.T @ (3 * rng.standard_normal(rank)), 0.0, 0.5)
    begin = time.process_time()
    minima = enumerate_local_minima(bound)
    line: dict[str, object] = {
        "d": d, "rank": rank, "seed": seed, "cpu_s": round(time.process_time() - begin, 3), "minima": len(minima),
        "most_open": max(minimum.nonzeros for minimum in minima), "global_phi": minima[0].value,
    }  # fmt: skip
    if d <= 10:
        listed = {tuple(np.sign(minimum.mu)) for minimum in minima}
        found = [find_local_minimum(bound, random_start(rng, bound)) for _ in range(STARTS)]
        signs = {tuple(np.sign(minimum.mu)) for minimum in found if minimum.certificate.certified}
        line |= {"multistart": len(signs), "missed": len(signs - listed)}
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "enumeration.csv")
    arguments = parser.parse_args()
    cases = [(d, rank) for d in (8, 10, 12) for rank in (d // 4, d // 2, d)]
    lines = [row(d, rank, seed) for d, rank in cases for seed in range(arguments.seeds)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(lines)
    table.to_csv(arguments.out, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
