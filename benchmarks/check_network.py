"""The whole check of a LeNet on 60,000 images: a table per ḡ kind, time per layer, and the memory that it added.

    python benchmarks/check_network.py [--network lenet_300_100] [--run runs/a] [--kind auto] [--gamma 1e-4]

Without --run the network is trained for a few epochs first (not counted). Times depend on the machine and are printed
beside its number of threads; the memory is the rise of the peak resident set over the one before the check.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import torch

import vibtheory as vt
from vibtheory.bridge import quadratic_bound
from vibtheory.gates import named_gates
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
    before, started = peak_gib(), time.perf_counter()
    reports = []
    for layer in named_gates(net):
        begun = time.perf_counter()
        bound = quadratic_bound(net, data, layer, arguments.kind)
        built = time.perf_counter()
        reports.append(check_sparsity_bound(bound))
        print(f"{layer}: bound {built - begun:.1f} s, check {time.perf_counter() - built:.1f} s", flush=True)
    total = time.perf_counter() - started
    report = NetworkReport(tuple(reports))
    print(report)
    for each in report:
        print(each)
    print(
        f"{total:.1f} s on {arguments.threads} threads, {len(data.x_train)} images; {peak_gib() - before:.2f} GiB more"
    )
    RESULTS.mkdir(exist_ok=True)
    report.to_frame().to_csv(RESULTS / f"check_network_{arguments.network}_{arguments.kind}.csv", index=False)


if __name__ == "__main__":
    main()
