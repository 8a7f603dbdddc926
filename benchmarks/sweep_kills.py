"""Twenty SIGKILLs at random moments of a sweep; the resumed table must be that of an undisturbed one, bit for bit.

Usage: python benchmarks/sweep_kills.py [--kills 20] [--jobs 1] [--batched] [--seed 0]. Prints one line per kill, and
exits with 1 if a table differs. The sweep is small (15 runs of an MLP): what counts is where the kills fall.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import vibtheory as vt


def sweep(out: Path, jobs: int, batched: bool) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    x = rng.normal(scale=2.0, size=(300, 25))
    y = (x[:, 12] > x[:, 17]).astype(int)
    return vt.sweep(
        gammas=[1e-3, 3e-3, 1e-2, 3e-2], seeds=3, out=out, epochs=15, record=3, jobs=jobs, batched=batched,
        dataset=vt.datasets.from_arrays(x[:200], y[:200], x[200:], y[200:]), gated=(True, False), n=100, device="cpu",
        network={"builder": "mlp", "arguments": {"sizes": [25, 12, 2]}},
        estimators=[("variational",), ("gaussian", 0.5), vt.Estimator("pairwise", 0.5, full=True), ("infonce", 0.5)],
        recipe={"batch_size": 25, "gate_learning_rate": 0.1, "prune_every": 1, "pretrain_epochs": 1},
    ).table  # fmt: skip


def child(out: Path, jobs: int, batched: bool) -> None:
    torch.set_num_threads(1)
    sweep(out, jobs, batched)
    os._exit(0)


def epochs_done(out: Path) -> int:
    done = 0
    for path in out.glob("runs/**/checkpoint.json"):
        plain = json.loads(path.read_text(encoding="utf-8"))
        done += len(plain["history"]) if "history" in plain else sum(len(rows) for rows in plain["histories"])
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--batched", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        outs, killed, total = [Path(folder) / "killed0"], 0, 15 * 16  # 15 runs of 16 epochs
        while killed < given.kills:
            out = outs[-1]
            before = epochs_done(out)
            wanted = before + int(rng.integers(0, max(2, 2 * (total - before) // (given.kills - killed + 1))))
            process = multiprocessing.get_context("fork").Process(target=child, args=(out, given.jobs, given.batched))
            process.start()
            while epochs_done(out) < wanted and process.is_alive():
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.15))  # anywhere in an epoch, a measurement or a writing
            process.kill()
            process.join()
            if process.exitcode == 0:  # it was faster: the other kills fall on a new sweep
                outs.append(Path(folder) / f"killed{len(outs)}")
                continue
            if process.exitcode != -signal.SIGKILL:
                sys.exit(f"the sweep ended with {process.exitcode}")
            killed += 1
            print(f"kill {killed}: {before} epochs before, {epochs_done(out)} after", flush=True)
        resumed = [sweep(out, given.jobs, given.batched).drop(columns="seconds") for out in outs]
        undisturbed = sweep(Path(folder) / "undisturbed", given.jobs, given.batched).drop(columns="seconds")
    same = all(table.equals(undisturbed) for table in resumed)
    print(f"{killed} kills in {len(outs)} sweeps; {len(undisturbed)} rows; tables {'identical' if same else 'DIFFER'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
