"""Seconds and memory of `check_network` on small networks that nobody here designed, beside another checkout's.

    python benchmarks/check_speed.py [--against FOLDER] [--only NAME ...] [--examples 40] [--seconds 300]

Every network of zoo.py that is written there (and the residual ones by others, where pytorchcv is installed), gates
inserted at random means, all layers checked on 40 examples, each in a process of its own with one thread. --against is
a checkout of another commit, run in turn with this one: its columns begin with `before_`, and `ratio` is its seconds
over ours. Seconds are CPU seconds of the check alone, added_mib the rise of the peak resident set over the one before
it. Writes results/check_speed.csv, a row as each network ends.

Seen on a busy machine, in several calls: 1.5 to 4.5 s for the networks that are written in zoo.py, about 2 s of it
imports and compiled code read from disk, once a process. ResNet-20 (41 million multiply-adds, 19 gated layers) takes
9 s, and took 42 s when each layer copied, traced and ran the network for itself (before_cpu_s; PreResNet-20 was not run
so). By profile about 3 s are every channel's own share in the next layer, which the bound is made of, 2 s certified
norms of the kernels behind it, 1.5 s tries of each layer's trace, and half a second the one float64 pass over the data.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

RESULTS = Path(__file__).parent / "results" / "check_speed.csv"
SMALL = ["TextCNN", "bag of words", "LSTM", "GRU", "ViT", "GPT, tied head", "tabular ResNet",
         "MLP-Mixer", "ConvNeXt", "GroupNorm", "switches", "decoder", "weight norm", "siamese", "U-Net", "shuffle",
         "ResNet-20", "PreResNet-20"]  # fmt: skip


class _Whole(nn.Module):
    """Tokens from the float32 numbers that a data set holds."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.net(x.long())
        return h


def check(name: str, examples: int) -> dict[str, Any]:
    from zoo import ZOO

    import vibtheory as vt
    from vibtheory.networks.gates import named_gates

    torch.set_num_threads(1)
    torch.manual_seed(7)
    build, draw = ZOO[name]
    x, fresh = draw(examples), draw(2)
    net = build().eval()
    net = net if x.is_floating_point() else _Whole(net)
    with torch.no_grad():
        classes = net(fresh).shape[1]
    y = torch.arange(examples) % classes
    gated = vt.insert_gates(net, fresh).eval()
    for gate in named_gates(gated).values():
        gate.mu.data.uniform_(0.5, 1.5)
        gate.log_var.data.fill_(-4.0)
    data = vt.datasets.from_arrays(x.numpy(), y.numpy(), x[:2].numpy(), y[:2].numpy(), classes=classes)
    peak, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    report = vt.check_network(gated, data, gamma=1e-3)
    seconds = time.process_time() - started
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    return {
        "layers": len(report), "gates": sum(each.d for each in report),
        "kinds": " ".join(each.guarantee.kind for each in report), "verdict": report.verdict,
        "cpu_s": round(seconds, 2), "added_mib": round(added),
    }  # fmt: skip


def _measured(name: str, checkout: Path, examples: int, seconds: float) -> dict[str, Any]:
    path = os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])
    place = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", name, "--examples", str(examples)]
    try:
        done = subprocess.run(command, env=place, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"verdict": f"more than {seconds:g} s"}
    if done.returncode:
        return {"verdict": (done.stderr.strip().splitlines() or ["killed"])[-1][:160]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", nargs="*", default=SMALL)
    parser.add_argument("--examples", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(check(given.one, given.examples)))
        return
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in given.only:
        row = {"name": name, **_measured(name, Path(__file__).parents[1], given.examples, given.seconds)}
        if given.against:
            old = _measured(name, given.against.resolve(), given.examples, given.seconds)
            row |= {f"before_{key}": old.get(key) for key in ("kinds", "verdict", "cpu_s", "added_mib")}
            if "cpu_s" in old and "cpu_s" in row:
                row["ratio"] = round(old["cpu_s"] / row["cpu_s"], 1)
        rows.append(row)
        pd.DataFrame(rows).to_csv(given.out, index=False)
        print(row, flush=True)


if __name__ == "__main__":
    main()
