"""Which start a short VGG recipe should have: dense nets of a quarter of the channels, judged on held-out images.

    python benchmarks/vgg_recipes.py --root CIFAR [--epochs 6]    # about two minutes a trial and core, in bfloat16

Table 3.1's net on CIFAR-10, crops and flips, cosine schedule, one seed; 5,000 training images are the test set.
A trial that the results hold already is not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from vibtheory.datasets import load
from vibtheory.networks.vgg import _VGG16, _vgg
from vibtheory.storage import write_text
from vibtheory.training.single import train

RESULTS = Path(__file__).parent / "results" / "vgg_recipes.csv"
TRIALS = [
    (1e-3, 5e-5, 0.0),
    (1e-3, 5e-4, 0.0),
    (2e-3, 5e-4, 0.0),
    (3e-3, 5e-5, 0.0),
    (5e-4, 5e-4, 0.0),
    (5e-4, 5e-4, 0.1),
]
COLUMNS = ["learning_rate", "weight_decay", "label_smoothing", "epochs", "error", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with CIFAR's files")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    data = load("cifar10", options.root).split(5000)
    rows = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=COLUMNS)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for trial in TRIALS:
        key = (*trial, options.epochs)
        if (rows[COLUMNS[:4]] == list(key)).all(axis=1).any():
            continue
        rate, decay, smoothing = trial
        torch.manual_seed(0)
        net = _vgg(tuple((width // 4, repeats) for width, repeats in _VGG16), 10, 2, nn.MaxPool2d(2), gated=False)
        run = train(net, data, seed=0, amp=True, gamma=0.0, epochs=options.epochs, learning_rate=rate, batch_size=128,
                    weight_decay=decay, label_smoothing=smoothing, schedule="cosine", augment="crop+flip",
                    evaluate_every=2)  # fmt: skip
        spent = sum(row["seconds"] for row in run.rows)
        rows.loc[len(rows)] = [*key, run.rows[-1]["error"], round(spent)]
        write_text(options.out, rows.to_csv(index=False, float_format="%.6g"))
        print(rows.iloc[-1].to_dict(), flush=True)


if __name__ == "__main__":
    main()
