"""What a short VGG recipe should be: nets of a quarter of the channels, judged on 5,000 held-out training images.

    python benchmarks/vgg_recipes.py --root CIFAR           # dense starts: two minutes a trial and core, in bfloat16
    python benchmarks/vgg_recipes.py --root CIFAR --gated   # 4 dense, 8 gated, 4 fine-tuning epochs: six minutes

Table 3.1's net on CIFAR-10, crops and flips, one seed; each gated trial changes one thing of the first. A trial that
the results hold already is not repeated.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vibtheory.compression.cut import compress
from vibtheory.compression.evaluation import error
from vibtheory.datasets import load
from vibtheory.networks.gates import named_gates
from vibtheory.networks.vgg import _VGG16, _vgg
from vibtheory.storage import write_text
from vibtheory.training.single import train

RESULTS = Path(__file__).parent / "results"
ALWAYS: dict[str, Any] = {"seed": 0, "amp": True, "batch_size": 128, "augment": "crop+flip", "evaluate_every": 100}
SETTINGS = "weight_optimizer", "learning_rate", "weight_decay", "label_smoothing", "average"
STARTS: list[dict[str, Any]] = [
    dict(zip(SETTINGS, values, strict=True))
    for values in [
        ("adam", 1e-3, 5e-5, 0, 0), ("adam", 1e-3, 5e-4, 0, 0), ("adam", 2e-3, 5e-4, 0, 0), ("adam", 3e-3, 5e-5, 0, 0),
        ("adam", 5e-4, 5e-4, 0, 0), ("adam", 5e-4, 5e-4, 0.1, 0), ("sgd", 0.05, 5e-4, 0, 0), ("sgd", 0.1, 5e-4, 0, 0),
        ("sgd", 0.05, 5e-4, 0.1, 0), ("sgd", 0.05, 5e-4, 0, 0.995),
    ]
]  # fmt: skip
GATED: dict[str, Any] = {
    "gamma": 1e-4, "pretrain_epochs": 4, "pretrain_schedule": "cosine", "epochs": 8, "learning_rate": 1e-3,
    "gate_learning_rate": 6e-3, "weight_decay": 5e-4, "schedule": "cosine", "prune_every": 1,
    "initial_log_variance": -9.0, "initial_spread": 0.01,
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "first two blocks twice the price, last two half": {"layer_weights": (2.0, 2.0, 1.0, 0.5, 0.5)},
    "a seventh of the price, as Table 3.1 has it": {"gamma": 1.4e-5},
    "two sevenths of the price": {"gamma": 2.8e-5},
    "weight decay 5e-5": {"weight_decay": 5e-5},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "half of the labels the dense net's": {"distill": 0.5},
    "price rises over 4 epochs": {"warmup_epochs": 4},
    "gates learn at 2e-3": {"gate_learning_rate": 2e-3},
    "half of what enters a hidden layer dropped": {"dropout": 0.5},
    "weights learn by SGD": {"weight_optimizer": "sgd", "learning_rate": 0.05},
}


def net(gated: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return _vgg(tuple((width // 4, repeats) for width, repeats in _VGG16), 10, 2, nn.MaxPool2d(2), gated)


def start(trial: dict[str, Any], root: Path | None) -> dict[str, Any]:
    """`average` is the share that a moving average of the weights keeps in each step; judged is then the average."""
    torch.set_num_threads(1)
    built, data, settings = net(False), load("cifar10", root).split(5000), dict(trial)
    judged, share = built, settings.pop("average")
    with ExitStack() as held:
        if share:
            judged = AveragedModel(built, multi_avg_fn=get_ema_multi_avg_fn(share), use_buffers=True)
            each = register_optimizer_step_post_hook(lambda *_: judged.update_parameters(built))
            held.callback(each.remove)
        run = train(built, data, gamma=0.0, epochs=6, schedule="cosine", **ALWAYS, **settings)
    wrong = error(judged, data.x_test, data.y_test)
    return {**trial, "error": wrong, "seconds": round(sum(row["seconds"] for row in run.rows))}


def gated(name: str, root: Path | None) -> dict[str, Any]:
    torch.set_num_threads(1)
    data, built, changes = load("cifar10", root).split(5000), net(True), dict(CHANGES[name])
    if share := changes.pop("dropout", 0.0):  # elementwise, so before the gate fc1 is as after it
        for before in ("flatten", "relu1"):
            setattr(built, before, nn.Sequential(getattr(built, before), nn.Dropout(share)))
    if weights := changes.pop("layer_weights", None):  # by block; hidden layers as they are
        blocks = {gate: gate.removeprefix("conv")[0] for gate in named_gates(built)}
        changes["layer_weights"] = {
            gate: weights[int(block) - 1] if block.isdigit() else 1.0 for gate, block in blocks.items()
        }
    run = train(built, data, **ALWAYS, **{**GATED, **changes})
    rule = changes.get("weight_optimizer", "adam")
    tuned = train(compress(built), data, gamma=0.0, epochs=4, weight_optimizer=rule, weight_decay=5e-4,
                  learning_rate={"adam": 1e-3, "sgd": 0.02}[rule], schedule="cosine", **ALWAYS)  # fmt: skip
    last, spent = run.rows[-1], sum(row["seconds"] for row in (*run.rows, *tuned.rows))
    sizes = {key: round(last[key], 2) for key in ("r_w", "r_n")} | {"flop": last["flop"]}
    return {"change": name, **sizes, "error": last["error"], "error_tuned": tuned.rows[-1]["error"],
            "architecture": last["architecture"], "seconds": round(spent)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder with CIFAR's files")
    parser.add_argument("--gated", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials side by side")
    parser.add_argument("--out", type=Path, help="the CSV file")
    options = parser.parse_args()
    out = options.out or RESULTS / ("vgg_recipes_gated.csv" if options.gated else "vgg_recipes.csv")
    rows = pd.read_csv(out).to_dict("records") if out.exists() else []
    out.parent.mkdir(parents=True, exist_ok=True)
    if options.gated:
        have = {row["change"] for row in rows}
        tasks = [delayed(gated)(name, options.root) for name in CHANGES if name not in have]
    else:
        known = [{key: row[key] for key in SETTINGS} for row in rows]
        tasks = [delayed(start)(trial, options.root) for trial in STARTS if trial not in known]
    for row in Parallel(n_jobs=options.jobs, return_as="generator_unordered")(tasks):
        rows.append(row)
        write_text(out, pd.DataFrame(rows).to_csv(index=False, float_format="%.6g"))
        print(row, flush=True)


if __name__ == "__main__":
    main()
