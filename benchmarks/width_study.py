"""Does A become low-rank if the network is over-parameterised? LeNet-300-100 widened ×1, ×2, ×4, ×8 on MNIST.

    python benchmarks/width_study.py [--widths 1 2 4 8] [--epochs 30] [--seeds 3] [--images 2000] [--out figures]

Table 1's recipe with shorter training, at three prices each; the widest net with one seed. Every trained net gives two
rows: h2 with Böhning's bound and h1 with the Lipschitz bound, on `--images` training images, each with its live units
(column of A not 0), rank, soft rank (T3) and the open gates at its certified minimum, and the net's test error and
remaining weights. Rows go to OUT/width_study.csv run by run; a second call keeps finished runs and continues a stopped
one. About an hour of one CPU core.
Draws OUT/width_study.png; `vibtheory claims` decides "Width" and "Larger base" from the table.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import vibtheory as vt
from vibtheory.bridge.checking import quadratic_bound
from vibtheory.compression.evaluation import error
from vibtheory.datasets import Dataset
from vibtheory.figures import save, width_figure
from vibtheory.networks.gates import named_gates
from vibtheory.storage import write_text
from vibtheory.studies.experiments import experiment
from vibtheory.theory.sparsity import check_sparsity_bound
from vibtheory.training.recipe import Recipe

GAMMAS = (2e-4, 5.5e-4, 1.5e-3)
LAYERS = (("h2", "bohning"), ("h1", "lipschitz"))
FULL = 266_200  # weights of the narrowest net
KEYS = ["width", "seed", "gamma", "epochs", "images"]


def measured(width: int, seed: int, recipe: Recipe, data: Dataset, images: int, runs: Path) -> list[dict[str, Any]]:
    """Train one net and decide its bounds: one row per layer."""
    begin = time.process_time()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = vt.networks.mlp((784, 300 * width, 100 * width, 10))
    folder = runs / f"width{width}-seed{seed}-gamma{recipe.gamma:g}-epochs{recipe.epochs}"
    vt.train(net, data, recipe, seed=seed, checkpoint=folder, checkpoint_seconds=30, evaluate_every=recipe.epochs)
    trained = time.process_time() - begin
    size, wrong = vt.metrics.compression(net), error(net, data.x_test, data.y_test)
    rows = []
    for layer, kind in LAYERS:
        begin = time.process_time()
        report = check_sparsity_bound(quadratic_bound(net, data.subset(images, seed=seed), layer, kind, recipe.gamma))
        rows.append({
            "width": width, "seed": seed, "gamma": recipe.gamma, "epochs": recipe.epochs, "images": images,
            "layer": layer, "kind": kind, "d": report.d, "live": report.live, "rank": report.rank,
            "soft_rank": report.soft_rank, "soft_rank_sharp": report.soft_rank_sharp, "nonzeros": report.nonzeros,
            "certificate": report.certificate.status, "kept": int(named_gates(net)[layer].keep.sum()),
            "error": wrong, "weights": size.weights, "r_w": size.r_w, "r_w_of_narrowest": 100 * size.weights / FULL,
            "train_s": round(trained, 1), "check_s": round(time.process_time() - begin, 1),
        })  # fmt: skip
    return rows


def study(
    widths: list[int], seeds: int, epochs: int, data: Dataset, images: int, out: Path, runs: Path
) -> pd.DataFrame:
    """The table, written after every run; runs that are in it already are not repeated."""
    path = out / "width_study.csv"
    table = pd.read_csv(path, converters={"gamma": float}) if path.exists() else pd.DataFrame()
    base = replace(experiment("lenet_300_100").recipe, epochs=epochs, pretrain_epochs=min(6, epochs // 5))
    for seed in range(seeds):  # outermost: a stopped study has all widths at fewer seeds
        for width in widths if seed == 0 else [width for width in widths if width < 8]:
            for gamma in GAMMAS:
                key = [width, seed, gamma, epochs, images]
                if len(table) and (table[KEYS] == key).all(axis=1).any():
                    continue
                rows = pd.DataFrame(measured(width, seed, replace(base, gamma=gamma), data, images, runs))
                table = pd.concat([table, rows], ignore_index=True)
                write_text(path, table.to_csv(index=False))
                print(rows.to_string(index=False), flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, default=3, help="of each width; the eightfold net has one")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--images", type=int, default=2000, help="training images in each bound")
    parser.add_argument("--train-images", type=int, default=60_000, help="fewer for a trial; write it elsewhere then")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--runs", type=Path, default=Path("runs") / "width")
    options = parser.parse_args()
    data = vt.datasets.load("mnist").subset(options.train_images, seed=0)
    options.out.mkdir(parents=True, exist_ok=True)
    table = study(options.widths, options.seeds, options.epochs, data, options.images, options.out, options.runs)
    save(width_figure(table), options.out / "width_study", ("png",))


if __name__ == "__main__":
    main()
