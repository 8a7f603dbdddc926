"""The whole check of a LeNet on 60,000 images: a table per ḡ kind, time per layer, and the memory that it added.

    python benchmarks/check_network.py [--network lenet_300_100] [--run runs/a] [--kind auto] [--gamma 1e-4]

Without --run the network is trained for a few epochs first (not counted). Seconds are CPU seconds over all threads; the
memory is the rise of the peak resident set over the one before the check. Appends a line of totals to
results/check_network.csv.

Seen once on a busy machine: LeNet-300-100 after 3 epochs, 60,000 images, one thread: 7.7 s elapsed for all three layers
(auto: lipschitz, lipschitz, bohning), 0.16 GiB more than before the check, 0.81 GiB at the peak.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import pandas as pd
import torch

import vibtheory as vt
from vibtheory.bridge.checking import quadratic_bound
from vibtheory.networks.gates import named_gates
from vibtheory.theory.network_report import NetworkReport
from vibtheory.theory.sparsity import check_sparsity_bound

RESULTS = Path(__file__).parent / "results"


def peak_gib() -> float:
    """Peak resident set of this process in GiB (Linux reports KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="lenet_300_100", choices=["lenet_300_100", "lenet_5_caffe"])
    parser.add_argument("--run", help="folder of a saved run; its γ is used")
    parser.add_argument("--kind", default="auto")
    parser.add_argument("--gamma", type=float, default=1e-4, help="training's γ in nats where no run is given")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = vt.datasets.load("mnist")
    if arguments.run:
        net = vt.load(arguments.run).net
    else:
        net = getattr(vt.networks, arguments.network)()
        vt.train(net, data, gamma=arguments.gamma, epochs=arguments.epochs, seed=0)
    before, started = peak_gib(), time.process_time()
    reports = []
    for layer in named_gates(net):
        begun = time.process_time()
        bound = quadratic_bound(net, data, layer, arguments.kind)
        built = time.process_time()
        reports.append(check_sparsity_bound(bound))
        print(f"{layer}: bound {built - begun:.1f} s, check {time.process_time() - built:.1f} s", flush=True)
    total = time.process_time() - started
    report = NetworkReport(tuple(reports))
    print(report)
    for each in report:
        print(each)
    line = {
        "network": arguments.network, "kind": arguments.kind, "images": len(data.x_train), "layers": len(report),
        "verdict": report.verdict, "cpu_s": round(total, 1), "threads": arguments.threads,
        "added_gib": round(peak_gib() - before, 2), "peak_gib": round(peak_gib(), 2),
    }  # fmt: skip
    print(line)
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / "check_network.csv"
    pd.DataFrame([line]).to_csv(target, mode="a", header=not target.exists(), index=False)


if __name__ == "__main__":
    main()
