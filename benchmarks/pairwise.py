"""The pairwise mixture bounds: against a direct NumPy broadcast, their cost against N and d, and float32.

    python benchmarks/pairwise.py [--n 2000] [--d 100] [--full [--rows 60000]]
    python benchmarks/pairwise.py --full --device cuda      # every pair, and Bhattacharyya's bound at N = 60,000 too
    python benchmarks/pairwise.py --call                    # one call of `pairwise` on N = 60,000, d = 300

Times are of one run on a shared machine: read the ratios. --full adds the KL bound against all N = 60,000 inputs at
d = 300, in both precisions, and Bhattacharyya's at N = 5,000. With --rows only so many rows are summed (all N
columns), and the seconds are scaled to all of them. Seconds are CPU seconds of all threads; on a GPU, the clock's.
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
from typing import TypeVar

import numpy as np
import torch

from vibtheory.information import GatedChannel, MutualInformation, pairwise, pairwise_bhattacharyya
from vibtheory.information.pairwise import _kl_exponents as kl_blocks

RESULTS = Path(__file__).parent / "results" / "pairwise.csv"
ALL_PAIRS = Path(__file__).parent / "results" / "pairwise_all_pairs.csv"
CALL = Path(__file__).parent / "results" / "pairwise_call.csv"
TAU = 4.0
T = TypeVar("T")


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


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """(value, process CPU seconds, all threads): other programs on a shared machine do not count."""
    start = time.process_time()
    value = call()
    return value, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--d", type=int, default=100)
    parser.add_argument("--full", action="store_true", help="only N = 60,000, d = 300, and Bhattacharyya's N = 5,000")
    parser.add_argument("--rows", type=int, default=60_000, help="with --full: rows to sum")
    parser.add_argument("--inputs", type=int, default=60_000, help="with --full: N")
    parser.add_argument("--device", default="cpu", help="with --full: cpu or cuda")
    parser.add_argument("--out", type=Path, help="with --full: the CSV")
    parser.add_argument("--call", action="store_true", help="only one call of the KL bound, N = 60,000, d = 300")
    options = parser.parse_args()
    if options.call:
        one_call()
        return
    if options.full:
        all_pairs(options.inputs, options.rows, options.device, options.out)
        return
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
    write(RESULTS, rows)
    draw(rows)


def one_call() -> None:
    """`pairwise` on all N = 60,000 rows at d = 300, precision "auto", as a user calls it, standard error included."""
    law = channel(60_000, 300)
    result, seconds = timed(lambda: pairwise(law, precision="auto"))
    row: dict[str, object] = {
        "n": law.n,
        "d": law.d,
        "precision": "auto",
        "nats": round(result.nats, 7),
        "stderr": round(result.stderr, 4),
        "cpu_seconds": round(seconds, 1),
        "peak_gib": round(peak_gib(False), 2),
        "threads": torch.get_num_threads(),
    }
    sys.stdout.write(f"{row}\n")
    write(CALL, [row])


def all_pairs(n: int, limit: int, device: str, out: Path | None) -> None:
    """The KL bound at N = n, d = 300, float32 first (peak memory only grows); then Bhattacharyya's."""
    cuda = device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    file = out or (ALL_PAIRS.with_stem(f"{ALL_PAIRS.stem}_gpu") if cuda else ALL_PAIRS)
    law, rows = channel(n, 300), []
    terms: dict[str, np.ndarray] = {}

    def record(bound: str, law: GatedChannel, done: int, nats: float, seconds: float) -> None:
        rows.append({"bound": bound, "n": law.n, "d": law.d, "rows_summed": done, "nats": round(nats, 7),
                     "seconds": round(seconds, 1), "peak_gib": round(peak_gib(cuda), 2),
                     "threads": torch.get_num_threads(), "device": name})  # fmt: skip
        sys.stdout.write(f"{rows[-1]}\n")
        write(file, rows)

    for precision in ("float32", "float64"):
        start = clock()
        block_of = kl_blocks(law.mean, law.variance, device, precision)
        built = clock() - start
        size, totals = 2**24 // law.n, []
        for first in range(0, min(limit, law.n), size):
            last = min(first + size, limit, law.n)
            weight = block_of(first, last, 0)
            weight[np.arange(last - first), np.arange(first, last)] = 1.0
            totals.append(weight.sum(axis=1, dtype=np.float64))
            _ = (1 / totals[-1]).astype(weight.dtype) @ weight  # for the standard error
        del block_of, weight
        terms[precision] = math.log(law.n) - np.log(np.concatenate(totals))
        done = len(terms[precision])
        seconds = built + (clock() - start - built) * law.n / done
        record(f"kl {precision}", law, done, float(terms[precision].mean()), seconds)
    error = terms["float32"] - terms["float64"]
    sys.stdout.write(f"float32: off by {error.mean():.1e} nats, {np.abs(error).max():.1e} in the worst row\n")
    few = law if cuda or n < 5000 else channel(5000, 300)
    start = clock()
    nats = pairwise_bhattacharyya(few, device).nats
    record("bhattacharyya", few, few.n, nats, clock() - start)


def peak_gib(cuda: bool) -> float:
    """The most memory so far: of the GPU, or of this process."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def write(path: Path, rows: list[dict[str, object]]) -> None:
    """The rows as a CSV with the first one's columns."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict[str, object]]) -> None:
    """Seconds against N and d, from the table's rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from vibtheory.figures.style import save, style

    with style():
        figure, panels = plt.subplots(1, 2, figsize=(6.6, 2.8), sharey=True)
        for axes, moving, fixed, value, slope in zip(panels, "nd", "dn", ("50", "2000"), (2, 1), strict=True):
            for bound in dict.fromkeys(str(row["bound"]) for row in rows):
                part = [row for row in rows if row["bound"] == bound and str(row[fixed]) == value]
                points = sorted({int(str(row[moving])): float(str(row["cpu_seconds"])) for row in part}.items())
                axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=bound)
            first, last = points[0], points[-1]
            axes.plot([first[0], last[0]], [first[1], first[1] * (last[0] / first[0]) ** slope], color="grey", ls=":",
                      label=f"∝ {moving.upper() if moving == 'n' else moving}{'²' if slope == 2 else ''}")  # fmt: skip
            axes.set(xscale="log", yscale="log", xlabel={"n": "inputs N (d = 50)", "d": "units d (N = 2,000)"}[moving])
            axes.set_xticks([place for place, _ in points], [f"{place:,}" for place, _ in points])
            axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
            axes.legend()
        panels[0].set_ylabel("CPU seconds, all threads")
    save(figure, RESULTS.with_suffix(""), ("png",))
    plt.close(figure)


if __name__ == "__main__":
    main()
