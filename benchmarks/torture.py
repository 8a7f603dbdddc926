"""Robustness: spoiled files of every kind that vibtheory reads, and runs killed at random steps.

    python benchmarks/torture.py --cases 2000 --kills 50 --seed 0

Each case must end in one line with a remedy (exit code 2, `VibTheoryError`) or in the right answer: no traceback, no
hang (20 s of computing), no more than 1 GiB of additional memory, no payload that ran. Each family runs in a process
of its own under those limits. A killed run, started again until it ends, must give the bits of an undisturbed one.
What was run, and what came of it, is written to benchmarks/results/torture.csv.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.robustness.families import FAMILIES, fresh, prepare
from tests.robustness.kills import RUNS, killed_until_done
from vibtheory.storage import write_text

MEMORY, SECONDS = 1 << 30, 20
RESULTS = Path(__file__).parent / "results" / "torture.csv"


def torture(cases: int, template: Path, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Run `cases` in equal parts from every family: counts of outcomes by family, and a line for each failure.

    `template` holds what `prepare` made.
    """
    counts: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "template").symlink_to(template)
        for number, name in enumerate(FAMILIES):
            todo = cases // len(FAMILIES) + (number < cases % len(FAMILIES))
            for outcome, case in _family(name, todo, seed, Path(folder)):
                counts[f"{name}: {outcome if outcome in ('right', 'refused') else 'FAILED'}"] += 1
                if outcome not in ("right", "refused"):
                    failures.append(f"{name} {seed} {case}: {outcome}")
    return counts, failures


def _family(name: str, cases: int, seed: int, folder: Path) -> list[tuple[str, int]]:
    """(outcome, case) of every case; a child that dies costs one case, and the next child goes on behind it."""
    outcomes: list[tuple[str, int]] = []
    log = folder / "log"
    while len(outcomes) < cases:
        log.write_text("")
        child = multiprocessing.get_context("fork").Process(
            target=_child, args=(name, range(len(outcomes), cases), seed, folder, log)
        )
        child.start()
        child.join()
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        outcomes += [(line["outcome"], line["case"]) for line in lines]
        if child.exitcode != 0 and len(outcomes) < cases:
            why = {-signal.SIGALRM: "a hang", -signal.SIGPROF: "a hang", -signal.SIGKILL: "killed"}.get(
                child.exitcode or 0, f"exit {child.exitcode}"
            )
            outcomes.append((why, len(outcomes)))
    return outcomes


def _child(name: str, cases: range, seed: int, folder: Path, log: Path) -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for kind in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(kind, signal.SIG_DFL)
    sys.settrace(None)  # a child writes no coverage
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    with log.open("a", encoding="utf-8") as stream:
        for case in cases:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of computing; waiting is limited by the alarm
            signal.alarm(30 * SECONDS)
            outcome = run_case(name, case, seed, folder)
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
            stream.write(json.dumps({"case": case, "outcome": outcome}) + "\n")
            stream.flush()
    os._exit(0)


def run_case(name: str, case: int, seed: int, folder: Path) -> str:
    """One case by its numbers, in a fresh copy of folder/template: "right", "refused", or what went wrong."""
    shutil.rmtree(folder / "case", ignore_errors=True)  # of a case that died
    place = fresh(folder / "template", folder / "case")
    try:
        outcome = FAMILIES[name](np.random.default_rng([seed, case, len(name)]), place)
        return "a payload ran" if (place / "payload-ran").exists() else outcome
    except BaseException as error:  # whatever it is, it is a finding
        return f"{type(error).__name__}: {error}"[:600]
    finally:
        os.chdir(folder)
        shutil.rmtree(place, ignore_errors=True)


def _write(path: Path, seed: int, rows: list[tuple[str, str, int]]) -> None:
    """The counts so far, as one small table."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("of", "what", "number"), ("all", "seed", seed), *rows])
    write_text(path, text.getvalue())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=50, help="of each kind of run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)  # a fork waits for ever for threads that its parent started
    started = time.monotonic()
    rows: list[tuple[str, str, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        counts, failures = torture(options.cases, Path(folder), options.seed)
    for line in sorted(f"{outcome:<24} {n}" for outcome, n in counts.items()):
        print(line)
    for outcome, n in sorted(counts.items()):
        family, _, what = outcome.partition(": ")
        rows.append((family, what, n))
    _write(options.out, options.seed, rows)
    for name in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            report = killed_until_done(name, options.kills, options.seed, Path(folder))
        print(f"{name}: killed {report.kills} times, {report.completed} runs completed, {report.differing} differ")
        failures += [f"{name}: {report.differing} resumed runs differ"] * bool(report.differing)
        for what, n in (("kills", report.kills), ("completed", report.completed), ("differing", report.differing)):
            rows.append((f"run of {name}", what, n))
        _write(options.out, options.seed, rows)
    print(f"{sum(counts.values())} cases, {len(failures)} failures, {time.monotonic() - started:.0f} s")
    print("\n".join(failures))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
