"""Runs that take turns against one after the other: `train_many` for K nets, K calls of `train`; LeNet-300-100, MNIST.

    python benchmarks/train_many.py --device cuda --networks 64 --threads 1 --examples 60000 --repeats 1   # a GPU
    python benchmarks/train_many.py [--examples 600] [--repeats 3]     # a CPU: what taking turns costs, about nothing

Only the ratio is meant. Both take turns; the times are medians, on a CPU those of the process.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vibtheory.datasets import load
from vibtheory.networks.lenet import lenet_300_100
from vibtheory.training.many import train_many
from vibtheory.training.recipe import Recipe
from vibtheory.training.single import train

RESULTS = Path(__file__).parent / "results" / "train_many.csv"
ON_GPU = RESULTS.with_stem("train_many_gpu")


def seconds(call: Callable[[], object], cuda: bool) -> float:
    clock = time.perf_counter if cuda else time.process_time
    started = clock()
    call()  # ends with the GPU's work
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=600, help="training examples per epoch (one epoch is timed)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--networks", type=int, nargs="+", default=[4, 8], help="K")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    cuda = options.device.startswith("cuda")
    device = torch.cuda.get_device_name(options.device) if cuda else options.device
    data = load("mnist").subset(options.examples, 10)
    recipe = Recipe(gamma=1e-4, epochs=1)
    rows: list[dict[str, object]] = []
    how: dict[str, Any] = {"device": options.device, "accelerate": "graph" if cuda else "none"}
    print(f"{'K':>3} {'threads':>7} {'sequential / together':>21}")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for count in options.networks:
            pairs = [(1e-4 * (k + 1), k) for k in range(count)]

            def one_by_one(pairs: list[tuple[float, int]] = pairs) -> None:
                for gamma, seed in pairs:
                    torch.manual_seed(seed)
                    train(lenet_300_100(), data, recipe, gamma=gamma, seed=seed, **how)

            def together(pairs: list[tuple[float, int]] = pairs) -> None:
                train_many(lenet_300_100, data, pairs, recipe, **how)

            together()  # warm up
            times = [(seconds(one_by_one, cuda), seconds(together, cuda)) for _ in range(options.repeats)]
            ratio = statistics.median(a / b for a, b in times)
            row: dict[str, object] = {"device": device, "K": count, "threads": threads, "ratio": round(ratio, 2)}
            if cuda:
                single, together_seconds = (statistics.median(column) for column in zip(*times, strict=True))
                row |= {"seconds_one_by_one": round(single, 2), "seconds_together": round(together_seconds, 2),
                        "images_per_second_together": round(count * options.examples / together_seconds),
                        "peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1)}  # fmt: skip
            rows.append(row)
            print(f"{count:>3} {threads:>7} {ratio:>21.2f}", flush=True)
            write(options.out or (ON_GPU if cuda else RESULTS), rows)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
