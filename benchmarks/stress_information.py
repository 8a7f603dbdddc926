"""Upper and lower bounds of I(h; x) never cross: the smallest upper bound minus the largest lower bound.

    python benchmarks/stress_information.py [--channels 1000]

Random gated channels over many scales, with zeros, equal rows, closed and noiseless gates. Only bounds that hold for
x uniform on the rows take part (the sampled ones hold in expectation, and are tested that way).
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from vibtheory.information import GatedChannel, MutualInformation, estimate

RESULTS = Path(__file__).parent / "results" / "stress_information.csv"
UPPER = ("variational", "variational_factorised", "pairwise", "per_unit")
UPPER_NOISY = ("gaussian", "gaussian_tight")


def random_channel(seed: int) -> GatedChannel:
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(2, 60)), int(rng.integers(1, 6))
    f = rng.normal(size=(n, d)) * np.exp(2 * rng.normal(size=d)) + rng.normal(size=d)
    if rng.random() < 0.6:
        f = np.maximum(f, 0)
    if rng.random() < 0.3:
        f = f[rng.integers(0, n, size=n)]  # equal rows
    tau = 0.0 if rng.random() < 0.5 else float(np.exp(2 * rng.normal() - 1))
    mu = rng.normal(size=d) * (rng.random(d) < 0.8)
    sigma = np.exp(2 * rng.normal(size=d) - 1)
    if tau > 0 and rng.random() < 0.3:
        sigma = np.zeros(d)
    return GatedChannel(f, mu, sigma, tau)


def crossing(seed: int) -> dict[str, float | int | str]:
    """One channel's tightest bounds, and their slack upper − lower in nats (never below 0)."""
    channel = random_channel(seed)
    names = UPPER + (UPPER_NOISY if channel.tau > 0 else ())
    uppers: dict[str, MutualInformation] = {name: estimate(channel, name) for name in names}
    tightest = min(uppers, key=lambda name: uppers[name].nats)
    floor = estimate(channel, "pairwise_bhattacharyya").nats
    if channel.d == 1:  # then the quadrature is the truth
        floor = max(floor, uppers["per_unit"].nats)
    return {
        "seed": seed,
        "n": channel.n,
        "d": channel.d,
        "tau": round(channel.tau, 6),
        "tightest": tightest,
        "upper": round(uppers[tightest].nats, 9),
        "lower": round(floor, 9),
        "slack": uppers[tightest].nats - floor,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--channels", type=int, default=1000)
    rows = [crossing(seed) for seed in range(parser.parse_args().channels)]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "slack": f"{row['slack']:.3e}"} for row in rows)
    slack = np.array([float(row["slack"]) for row in rows])
    crossed = int((slack < -1e-8).sum())
    sys.stdout.write(f"{len(rows)} channels, {crossed} crossings, smallest slack {slack.min():.2e} nats\n")
    sys.exit(crossed > 0)


if __name__ == "__main__":
    main()
