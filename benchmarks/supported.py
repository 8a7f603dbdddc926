"""docs/supported.md, the table of what is supported, from results/zoo.csv: python benchmarks/supported.py"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
STEPS = {"gates": "get gates", "trained": "train", "compress": "compress to the same outputs", "metrics": "are counted",
         "export": "export", "check": "are checked"}  # fmt: skip
HEAD = """# What is supported

`python benchmarks/supported.py` writes this page from `benchmarks/results/zoo.csv`; `benchmarks/zoo.py` says what each
step asks. The networks are others' (pytorchcv's, torch's own modules), or written here as tutorials write them, at
small sizes and without trained weights. Half of every gate was closed.

"""
TAIL = """
"left" is the share of parameters that the compressed network still has; "closed" the share whose gradient is 0 because
of closed gates; seconds are processor time of compression alone. Torch-Pruning at ratio 0.5, which does not keep the
outputs, stands beside. `cut_report` on a compressed network says what stays, and why.
"""


def page(table: pd.DataFrame) -> str:
    """The page: steps that work on all networks are said once, the others have a column."""
    found = table[list(STEPS)].fillna("-").map(lambda cell: cell.partition(":")[0].replace("works", "yes"))
    differ = [step for step in STEPS if (found[step] != "yes").any()]
    same = ", ".join(what for step, what in STEPS.items() if step not in differ)
    says = [f"- all {len(table)} {same}"]
    for step in differ:
        says.append(f"- {step}: " + ", ".join(f"{n} {what}" for what, n in found[step].value_counts().items()))
    measured = table.dropna(subset=["left_percent", "closed_percent"])
    half = (100 - measured["left_percent"] >= measured["closed_percent"] / 2).mean()
    says.append(f"- at least half of what closed gates weigh is gone in {half:.0%} of {len(measured)} networks")
    if differ:
        says.append('- "refused": one sentence says why and what to do')
    names = ["network", "parameters", *differ, "left %", "closed %", "seconds", "Torch-Pruning %"]
    lines = [f"| {' | '.join(names)} |", "|---|---:|" + "---|" * len(differ) + "---:|---:|---:|---:|"]
    for (_, row), steps in zip(table.fillna("-").astype(str).iterrows(), found[differ].to_numpy(), strict=True):
        pruning = row["torch_pruning"].partition(":")[0]
        counts = [row["left_percent"], row["closed_percent"], row["compress_s"], pruning]
        lines.append(f"| {row['name']} | {int(float(row['parameters'])):,} | {' | '.join([*steps, *counts])} |")
    return HEAD + "\n".join(says) + "\n\n" + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    (ROOT / "docs" / "supported.md").write_text(page(pd.read_csv(ROOT / "benchmarks" / "results" / "zoo.csv")))
