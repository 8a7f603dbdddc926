"""docs/supported.md, the table of what is supported, from results/zoo.csv: python benchmarks/supported.py"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
STEPS = ("gates", "trained", "compress", "metrics", "export", "check")
HEAD = """# What is supported

`python benchmarks/supported.py` writes this page from `benchmarks/results/zoo.csv`; `benchmarks/zoo.py` says what each
step asks. The networks are others' (pytorchcv's, torch's own modules), or written here as tutorials write them, at
small sizes and without trained weights. Half of every gate was closed.

"""
TAIL = """
"yes": it works. "refused": one sentence says why and what to do. "left" is the share of parameters that the compressed
network still has; "closed" the share whose gradient is 0 because of closed gates; seconds are processor time of
compression alone. Torch-Pruning at ratio 0.5, which does not keep the outputs, stands beside.
`cut_report` on a compressed network says what stays, and why.
"""


def page(table: pd.DataFrame) -> str:
    lines = ["| network | parameters | " + " | ".join(STEPS) + " | left % | closed % | seconds | Torch-Pruning % |",
             "|---|---:|" + "---|" * len(STEPS) + "---:|---:|---:|---:|"]  # fmt: skip
    for row in table.fillna("-").astype(str).to_dict("records"):
        cells = [row[step].partition(":")[0].replace("works", "yes") for step in STEPS]
        pruning = row["torch_pruning"].partition(":")[0]
        counts = [row["left_percent"], row["closed_percent"], row["compress_s"], pruning]
        lines.append(f"| {row['name']} | {int(float(row['parameters'])):,} | {' | '.join([*cells, *counts])} |")
    found = {step: table[step].dropna().str.partition(":")[0].value_counts().to_dict() for step in STEPS}
    counted = [f"- {step}: " + ", ".join(f"{n} {what}" for what, n in found[step].items()) for step in STEPS]
    measured = table.dropna(subset=["left_percent", "closed_percent"])
    half = (100 - measured["left_percent"] >= measured["closed_percent"] / 2).mean()
    counted.append(f"- at least half of what closed gates weigh is gone in {half:.0%} of {len(measured)} networks")
    return HEAD + "\n".join(counted) + "\n\n" + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    (ROOT / "docs" / "supported.md").write_text(page(pd.read_csv(ROOT / "benchmarks" / "results" / "zoo.csv")))
