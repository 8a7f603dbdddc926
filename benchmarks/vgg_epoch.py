"""One epoch of Table 3.1's recipe on real CIFAR-10, from fresh weights: does it learn, and how long does it take?

    python benchmarks/vgg_epoch.py                                  # 2,000 images: minutes on a CPU
    python benchmarks/vgg_epoch.py --examples 50000 --test 10000    # all of them

The net, batch size, learning rate, augmentation and gates are those of `vgg_3_1`; the dense pretraining is left out and
the epoch has its noise and price. With fewer examples the epoch is shorter, and the row says so.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import torch

from vibtheory.building import build
from vibtheory.datasets import load
from vibtheory.errors import DataError
from vibtheory.evaluation import evaluate
from vibtheory.experiments import experiment
from vibtheory.training import train

RESULTS = Path(__file__).parent / "results" / "vgg_epoch.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    plan = experiment("vgg_3_1")
    try:
        data = load(plan.dataset, options.root).subset(options.examples, options.test)
    except DataError as error:
        print(f"not run: {error}")
        return
    torch.manual_seed(0)
    net = build({"builder": plan.network, "arguments": plan.arguments})
    before = evaluate(net, data.x_test[:500], data.y_test[:500])
    started = time.perf_counter()
    run = train(net, data, plan.recipe, device=options.device, pretrain_epochs=0, epochs=1)
    seconds = time.perf_counter() - started
    row = {
        "recipe": plan.name, "device": options.device, "threads": torch.get_num_threads(),
        "training_images": len(data.x_train), "test_images": len(data.x_test), "epochs": 1,
        "loss_before_500_test_images": round(before.loss, 4), "training_loss": round(run.rows[0]["cross_entropy"], 4),
        "test_loss": round(run.rows[0]["test_loss"], 4), "test_error_percent": round(run.rows[0]["error"], 2),
        "images_per_second": round(run.rows[0]["images_per_second"], 1), "seconds_with_evaluation": round(seconds, 1),
    }  # fmt: skip
    print("\n".join(f"{key:>28}  {value}" for key, value in row.items()))
    options.out.parent.mkdir(exist_ok=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
