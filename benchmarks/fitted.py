"""The fitted bound by our interior-point method and by cvxpy: CPU seconds, the mean of ḡ of each, fresh violations.

    OMP_NUM_THREADS=1 python benchmarks/fitted.py [--d 10 20 30 60] [--cvxpy-up-to 30]

The loss is that of a softmax layer on 200 random examples, d gates moving by N(0, 1) units. Means are in units of the
loss's spread over the samples, and above its mean. Writes results/fitted.csv (there
cvxpy ran up to d = 20).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vibtheory.bridge.fitted import _fit
from vibtheory.bridge.fitted_program import QuadraticFamily

Array = NDArray[np.float64]
EXAMPLES, CLASSES = 200, 10


def losses(u: Array) -> Array:
    """Mean cross-entropy of random logits that are affine in u [N, d]."""
    rng = np.random.default_rng(0)
    total = np.zeros(len(u))
    for label in rng.integers(0, CLASSES, EXAMPLES):
        slopes = rng.standard_normal((CLASSES, u.shape[1])) / np.sqrt(u.shape[1])
        logits = u @ slopes.T + 2 * rng.standard_normal(CLASSES)
        logits -= logits.max(1, keepdims=True)
        total += np.log(np.exp(logits).sum(1)) - logits[:, label]
    return total / EXAMPLES


def row(d: int, both: bool) -> dict[str, float]:
    rng = np.random.default_rng(1)
    family = QuadraticFamily(d)
    u, fresh = rng.standard_normal((10 * family.unknowns, d)), rng.standard_normal((20_000, d))
    g, truth = losses(u), losses(fresh)
    centre, spread = g.mean(), g.std()
    g, truth = (g - centre) / spread, (truth - centre) / spread
    line: dict[str, float] = {"d": d, "unknowns": family.unknowns, "samples": len(u)}
    for solver in ("fast", "cvxpy") if both else ("fast",):
        begin = time.process_time()
        q, b, c = _fit(u, g, family, solver)
        line[f"{solver}_cpu_s"] = round(time.process_time() - begin, 2)
        line[f"{solver}_mean"] = round(float(((u @ q) * u).sum(1).mean() + u.mean(0) @ b + c), 6)
        line[f"{solver}_violations"] = float((truth > ((fresh @ q) * fresh).sum(1) + fresh @ b + c).mean())
    line["expected_violations_at_most"] = round(family.unknowns / (len(u) + 1), 4)
    if both:
        line["ratio"] = round(line["cvxpy_cpu_s"] / line["fast_cpu_s"], 1)
    print(line, flush=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--d", type=int, nargs="+", default=[10, 20, 30, 60])
    parser.add_argument("--cvxpy-up-to", type=int, default=30)
    arguments = parser.parse_args()
    table = pd.DataFrame([row(d, d <= arguments.cvxpy_up_to) for d in arguments.d])
    out = Path(__file__).parent / "results" / "fitted.csv"
    out.parent.mkdir(exist_ok=True)
    table.to_csv(out, index=False)


if __name__ == "__main__":
    main()
