"""Everything that waits for one GPU, in order, within a time limit; call it again and it goes on where it stood.

    make gpu                                             # or: python benchmarks/gpu_plan.py --minutes 9 --out runs/gpu
    python benchmarks/gpu_plan.py --rehearse --out DIR   # the same path on a CPU: tiny nets, packaged data, a minute

The parts: how fast a step is (which decides how the tables' steps are accelerated), Tables 3.1 to 3.3 together and 4.1
and 4.2 together with one seed, both with three, 64 LeNets at once, all pairs of N = 60,000, the compared methods on
Table 3.1's net, Figure 2. After each part the plan's state (plan.csv: "done", "stopped", "failed", or "no time"), the
tables and the histories of all runs, also of those in progress, are written to --out, each file as a whole.
Checkpoints are in --runs, at most a minute old; at the time limit the tables' runs write theirs at the end of their
epoch. Nothing of a part that is done is run again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vibtheory.storage import write_text
from vibtheory.studies.experiments import experiment
from vibtheory.studies.table_runs import record

ROOT = Path(__file__).resolve().parents[1]
ENDING = 25.0  # seconds for the last epochs' ends, checkpoints and files

TINY = """
table = {table}
row = "{row}"
network = "mlp"
arguments = {{ sizes = [784, {width}, 10] }}
dataset = "mnist"
held_out = 200
examples = 300
[recipe]
gamma = 3e-3
epochs = 4
pretrain_epochs = 2
batch_size = 60
gate_learning_rate = 0.1
initial_log_variance = -1.0
augment = "flip"
prune_at = [1, 3]
[finetune]
epochs = 2
batch_size = 100
augment = "flip"
[full]
seeds = [0]
"""


@dataclass(frozen=True)
class Plan:
    """What the parts share: where they write, on which device, and until when (of `time.monotonic`)."""

    out: Path
    runs: Path
    device: str
    root: Path | None
    rehearsal: bool
    deadline: float

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def accelerate(self) -> str:
        """The way that takes a whole row of Table 3 the least time, its compiling and capturing included."""
        if self.device == "cpu":
            return "none"
        try:
            steps = pd.read_csv(self.out / "train_step.csv")
        except OSError:
            return "graph"
        return fastest(steps, experiment("vgg_3_1").recipe.prune_at)


def fastest(steps: pd.DataFrame, prune_at: Any) -> str:
    """The `accelerate` of a step benchmark's rows with the shortest projected row of a table.

    A row is 140 dense epochs of 50,000 images (pretraining, fine-tuning), begun twice, and 300 gated ones, begun once
    and after each cut; its nets are counted at full size.
    """
    dense = steps[steps["net"] == "dense"].set_index("accelerate")
    gated = steps[steps["net"] == "vib"].set_index("accelerate")
    epochs = 140 * 50_000 / dense["images_per_second"] + 300 * 50_000 / gated["images_per_second"]
    total = epochs + 2 * dense["start_seconds"] + (1 + len(prune_at)) * gated["start_seconds"]
    return str(total.idxmin())


def command(plan: Plan, *words: str, tiny: tuple[str, ...]) -> bool:
    """Run a program of ours to its end or the plan's; whether it came to its own. `tiny` is its rehearsal."""
    words = tiny if plan.rehearsal else words
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    try:
        subprocess.run([sys.executable, *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=True,
                       timeout=plan.left())  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return True


def table(plan: Plan, number: int, seeds: list[int]) -> bool:
    """All rows of a table at once, one seed after the other in each; whether all are recorded."""
    networks = None
    if plan.rehearsal:
        networks = []
        for row in {3: ("3.1", "3.2", "3.3"), 4: ("4.1", "4.2")}[number]:
            networks.append(str(plan.out / f"tiny_{row.replace('.', '_')}.toml"))
            write_text(Path(networks[-1]), TINY.format(table=number, row=row, width=10 + int(row[-1])))
    found = record(number, ["full"], network=networks, seeds=seeds, together=True, out=plan.out, runs=plan.runs,
                   device=plan.device, root=plan.root, accelerate=plan.accelerate(),
                   stop=lambda: plan.left() < 0)  # fmt: skip
    histories(plan)
    rows = 3 if number == 3 else 2
    return found is not None and len(found[["network", "seed"]].drop_duplicates()) >= rows * len(seeds)


def histories(plan: Plan) -> None:
    """A CSV for each run's epochs so far, from its record or its last checkpoint."""
    for folder in sorted(path for path in plan.runs.glob("*") if path.is_dir()):
        for name, stage in (("", ""), ("checkpoint", ""), *((p.name, "-finetune") for p in folder.glob("finetune-*"))):
            file = folder / name / ("run.json" if not name else "checkpoint.json")
            target = plan.out / "histories" / f"{folder.name}{stage}.csv"
            if file.exists() and not (name == "checkpoint" and (folder / "run.json").exists()):
                rows = json.loads(file.read_text(encoding="utf-8"))["history"]
                target.parent.mkdir(parents=True, exist_ok=True)
                write_text(target, pd.DataFrame(rows).to_csv(index=False, float_format="%.7g"))


BENCH = str(ROOT / "benchmarks")
PARTS: dict[str, tuple[float, Callable[[Plan], bool]]] = {
    "step": (60, lambda plan: command(
        plan, f"{BENCH}/train_step.py", "--device", "cuda", "--accelerate", "graph", "blocks+graph", "compile+graph",
        "--out", f"{plan.out}/train_step.csv",
        tiny=(f"{BENCH}/train_step.py", "--thinner", "32", "--batch", "4", "--repeats", "1", "--out",
              f"{plan.out}/train_step.csv"))),
    "table 3, seed 0": (60, lambda plan: table(plan, 3, [0])),
    "table 4, seed 0": (60, lambda plan: table(plan, 4, [0])),
    "table 3, three seeds": (60, lambda plan: table(plan, 3, [0, 1, 2])),
    "table 4, three seeds": (60, lambda plan: table(plan, 4, [0, 1, 2])),
    "64 LeNets": (120, lambda plan: command(
        plan, f"{BENCH}/train_many.py", "--device", "cuda", "--networks", "64", "--threads", "1", "--examples", "60000",
        "--repeats", "1", "--out", f"{plan.out}/train_many.csv",
        tiny=(f"{BENCH}/train_many.py", "--networks", "2", "--threads", "1", "--examples", "100", "--repeats", "1",
              "--out", f"{plan.out}/train_many.csv"))),
    "all pairs": (120, lambda plan: command(
        plan, f"{BENCH}/pairwise.py", "--full", "--device", "cuda", "--out", f"{plan.out}/pairwise.csv",
        tiny=(f"{BENCH}/pairwise.py", "--full", "--inputs", "100", "--out", f"{plan.out}/pairwise.csv"))),
    "methods, table 3": (120, lambda plan: command(
        plan, "-m", "vibtheory", "methods", "--table", "3", "--budget", "gpu", "--device", "cuda", "--accelerate",
        plan.accelerate(), "--out", f"{plan.out}", "--runs", f"{plan.runs}/methods",
        *(("--root", str(plan.root)) if plan.root else ()),
        tiny=("-m", "vibtheory", "methods", "--table", "3", "--budget", "gpu", "--plan", "--methods", "PF"))),
    "figure 2": (60, lambda plan: command(
        plan, "-m", "vibtheory", "figure", "2", "--full", "--jobs", "4", "--out", f"{plan.out}", "--runs",
        f"{plan.runs}/figure2", tiny=("-m", "vibtheory", "figure", "1", "--out", f"{plan.out}"))),
}  # fmt: skip
"""By name, in order: the least seconds worth beginning with, and the part: whether it came to its end."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="ends before")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of tables, histories and plan.csv")
    parser.add_argument("--runs", type=Path, help="folder of the checkpoints; OUT/runs if not given")
    parser.add_argument("--root", type=Path, help="folder with CIFAR's files")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="these parts")
    parser.add_argument("--rehearse", action="store_true", help="tiny nets on the CPU")
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        sys.exit("not run: no GPU. Remedy: --rehearse goes through the same parts on the CPU, with tiny nets")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan(out, (options.runs or out / "runs").resolve(), "cpu" if options.rehearse else "cuda", options.root,
                options.rehearse, time.monotonic() + 60 * options.minutes - ENDING)  # fmt: skip
    state = out / "plan.csv"
    rows = pd.read_csv(state).set_index("part").to_dict("index") if state.exists() else {}
    for name, (least, part) in PARTS.items():
        row = rows.setdefault(name, {"status": "", "seconds": 0.0, "device": ""})
        if row["status"] == "done" or (options.only and name not in options.only):
            continue
        begun = time.monotonic()
        if plan.left() < (0 if options.rehearse else least):
            row["status"] = row["status"] if row["status"] == "stopped" else "no time"
        else:
            try:
                row["status"] = "done" if part(plan) else "stopped"
            except subprocess.CalledProcessError:
                row["status"] = "failed"  # its message stands above; the other parts need not wait
            row["seconds"] = round(float(row["seconds"]) + time.monotonic() - begun, 1)
            row["device"] = torch.cuda.get_device_name() if plan.device == "cuda" else "cpu, a rehearsal"
        write_text(state, pd.DataFrame.from_dict(rows, "index").rename_axis("part").to_csv())
        print(f"{name}: {row['status']}", flush=True)


if __name__ == "__main__":
    main()
