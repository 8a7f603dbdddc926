"""The pairwise mixture bounds: against a direct NumPy broadcast, their cost against N and d, and float32.

    python benchmarks/pairwise.py [--n 2000] [--d 100] [--full]

Times are of one run on a shared machine: read the ratios. --full adds the all-pairs KL bound at N = 60,000, d = 300.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vibtheory.information import GatedChannel, MutualInformation, pairwise, pairwise_bhattacharyya

RESULTS = Path(__file__).parent / "results" / "pairwise.csv"
TAU = 4.0


def channel(n: int, d: int, seed: int = 0) -> GatedChannel:
    """A layer of `d` ReLU units driven by 10 factors, with gates of α about 4 and added noise."""
    rng = np.random.default_rng(seed)
    f = np.maximum(rng.normal(size=(n, 10)) @ rng.normal(size=(10, d)) / math.sqrt(10), 0)
    return GatedChannel(f, rng.normal(1.0, 0.2, d), rng.uniform(0.3, 0.7, d), TAU)


def clusters(alpha: float) -> GatedChannel:
    """2,000 rows in 20 clusters as wide as the gates' noise: unsaturated at any α, where float32 has to subtract."""
    rng = np.random.default_rng(1)
    centre = np.exp(0.5 * rng.normal(size=(20, 100)))
    f = np.repeat(centre, 100, axis=0) * (1 + 0.1 * rng.normal(size=(2000, 100)) / math.sqrt(alpha))
    return GatedChannel(f, 1.0, 1 / math.sqrt(alpha))


def broadcast(law: GatedChannel, bhattacharyya: bool) -> float:
    """The same bound with NumPy broadcasting over [B, N, d], B as large as 256 MiB allows."""
    mean, variance, n = law.mean, law.variance, law.n
    size = max(1, 2**25 // mean.size)
    logs = []
    for start in range(0, n, size):
        m, v = mean[start : start + size, None], variance[start : start + size, None]  # [B, 1, d]
        if bhattacharyya:
            total = v + variance
            terms = 0.25 * (m - mean) ** 2 / total + 0.5 * np.log(total / (2 * np.sqrt(v * variance)))
        else:
            terms = 0.5 * (v / variance + (m - mean) ** 2 / variance - 1 + np.log(variance / v))
        logs.append(np.log(np.exp(-terms.sum(axis=2)).mean(axis=1)))
    return -float(np.concatenate(logs).mean())


def timed(call: Callable[[], float]) -> tuple[float, float]:
    """(value, process CPU seconds, all threads): other programs on a shared machine do not count."""
    start = time.process_time()
    value = call()
    return value, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--d", type=int, default=100)
    parser.add_argument("--full", action="store_true", help="also N = 60,000, d = 300")
    options = parser.parse_args()
    bounds: dict[str, Callable[[GatedChannel], MutualInformation]] = {
        "kl": pairwise,
        "kl float32": lambda law: pairwise(law, precision="float32"),
        "bhattacharyya": pairwise_bhattacharyya,
    }
    rows: list[dict[str, object]] = []

    def record(bound: str, law: GatedChannel, value: float, seconds: float, ratio: float | None = None) -> None:
        row = {"bound": bound, "n": law.n, "d": law.d, "nats": round(value, 6), "cpu_seconds": round(seconds, 4)}
        rows.append({**row, "broadcast_ratio": "" if ratio is None else round(ratio, 1), "threads": threads})
        sys.stdout.write(" ".join(f"{name}={cell}" for name, cell in rows[-1].items()) + "\n")

    threads = torch.get_num_threads()
    pairwise(channel(50, 5))  # loads torch
    law = channel(options.n, options.d)
    direct = {"kl": timed(lambda: broadcast(law, False)), "bhattacharyya": timed(lambda: broadcast(law, True))}
    for name, bound in bounds.items():
        value, seconds = timed(lambda bound=bound: bound(law).nats)  # type: ignore[misc]
        expected, slow = direct[name.split()[0]]
        if abs(value - expected) > (1e-3 if "32" in name else 1e-8):
            sys.exit(f"{name}: {value} nats, the broadcast {expected}")
        record(name, law, value, seconds, slow / seconds)
    for n, d in ((500, 50), (1000, 50), (2000, 50), (4000, 50), (2000, 25), (2000, 100), (2000, 200)):
        for name, bound in bounds.items():
            if name == "bhattacharyya" and n * n * d > 1e9:
                continue
            small = channel(n, d)
            record(name, small, *timed(lambda bound=bound, small=small: bound(small).nats))  # type: ignore[misc]
    for alpha in (1.0, 100.0, 10000.0):
        sharp = clusters(alpha)
        single, double = pairwise(sharp, precision="float32").nats, pairwise(sharp).nats
        sys.stdout.write(f"float32 at alpha = {alpha:g}: off by {abs(single - double):.1e} of {double:.4f} nats\n")
    if options.full:
        full = channel(60_000, 300)
        record("kl", full, *timed(lambda: pairwise(full).nats))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sys.stdout.write(f"peak memory {peak:.2f} GiB\n")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
