"""The same seed: the same bits with the same number of threads, and how far off with another.

    python benchmarks/determinism.py

LeNet-300-100 on 2,000 MNIST images at γ = 1e-3, with one thread and with two, each twice, for one epoch and for three.
Writes benchmarks/results/determinism.csv: the largest difference of any parameter, and both test errors in percent.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

import vibtheory as vt
from vibtheory.compression.evaluation import error
from vibtheory.storage import write_text

RESULTS = Path(__file__).parent / "results" / "determinism.csv"


def trained(threads: int, epochs: int, data: vt.datasets.Dataset) -> tuple[dict[str, Tensor], float]:
    """Every tensor of a net of seed 0, and its test error in percent."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = vt.networks.lenet_300_100()
    vt.train(net, data, gamma=1e-3, epochs=epochs, seed=0, device="cpu", progress=False)
    return net.state_dict(), error(net, data.x_test, data.y_test)


def main() -> None:
    data = vt.datasets.load("mnist").subset(2000, 1000)
    rows = []
    for epochs in (1, 3):
        for first, second in ((1, 1), (2, 2), (1, 2)):
            (one, error_one), (two, error_two) = trained(first, epochs, data), trained(second, epochs, data)
            rows.append({
                "epochs": epochs, "threads": first, "against_threads": second,
                "same_bits": all(torch.equal(one[name], two[name]) for name in one),
                "largest_difference": max(float((one[name].double() - two[name].double()).abs().max()) for name in one),
                "error_percent": error_one, "against_error_percent": error_two,
            })  # fmt: skip
            print(rows[-1], flush=True)
    write_text(RESULTS, pd.DataFrame(rows).to_csv(index=False, float_format="%.4g"))


if __name__ == "__main__":
    main()
