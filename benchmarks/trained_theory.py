"""T8 on trained networks: table, and figure of the spectra against the threshold 1, before and after polishing.

    python benchmarks/trained_theory.py RUN [RUN …] [--examples 10000] [--draws 4] [--polish 40] [--out figures]

Appends one row per run and part to OUT/check_trained.csv (finished runs are not repeated) and draws
OUT/check_trained.png from the last one. RUN is the folder of a saved run, as `vibtheory train lenet_300_100 --recipe
lenet_300_100 --seed 5 --out RUN` makes it. Training moved its images by a pixel; the check takes them as they are:
one reason why a run does not rest before its gates are polished.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import pandas as pd
import torch

import vibtheory as vt
from vibtheory.figures import save
from vibtheory.storage import write_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--polish", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = vt.datasets.load("mnist").subset(arguments.examples, seed=0)
    target = arguments.out / "check_trained.csv"
    done = set(pd.read_csv(target)["network"]) if target.exists() else set()
    for run in arguments.runs:
        if run.name in done:
            continue
        started = time.process_time()
        report = vt.check_trained(vt.load(run).net, data, draws=arguments.draws, polish=arguments.polish)
        print(report, flush=True)
        frame = report.to_frame().assign(
            network=run.name, examples=len(data.x_train), iterations=arguments.polish,
            cpu_s=round(time.process_time() - started, 1),
        )  # fmt: skip
        before = target.read_text(encoding="utf-8") if target.exists() else ""
        write_text(target, before + frame.to_csv(index=False, header=not before))
        save(report.plot(), arguments.out / "check_trained", ("png", "pdf"))


if __name__ == "__main__":
    main()
