"""Every estimator of I(x; y) on truths not written here: the tasks of bmi (Czyż et al. 2023), bias, coverage, cost.

bmi needs numpy < 2 and an old jax, so that it lives in an environment of its own, which only draws the samples
(`pip install benchmark-mi==0.1.3 jax==0.4.30 jaxlib==0.4.30`, Python 3.11):

    OTHER/bin/python benchmarks/information_bench.py --draw samples.npz [--rows 1000] [--repeats 6]
    python benchmarks/information_bench.py samples.npz

The second call writes results/information_bench.csv and .png, one row per task and method: bias and its spread in nats
over the repeats, share of the repeats whose interval ± 1.96 standard errors holds the truth (empty without a standard
error), share that errs by more than that on the side which a bound excludes, and seconds of the processor per estimate.
Methods of a known channel run where bmi's law is a multivariate normal: y given x, whitened, is f(x) + n, n ~ N(0, 1);
with a direction that holds for these rows only, they may miss the population's truth on either side.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = Path(__file__).parent / "results" / "information_bench.csv"
TASKS = (
    "1v1-normal-0.75",
    "1v1-additive-0.1",
    "swissroll_x-normal_cdf-1v1-normal-0.75",
    "student-identity-1-1-1",
    "asinh-student-identity-2-2-1",
    "multinormal-dense-2-2-0.5",
    "multinormal-sparse-5-5-2-2.0",
    "half_cube-multinormal-sparse-5-5-2-2.0",
    "spiral-multinormal-sparse-3-3-2-2.0",
    "multinormal-dense-25-25-0.5",
)


def draw(target: Path, rows: int, repeats: int) -> None:
    """Samples, truths and covariances of the tasks, by bmi, into one file."""
    import bmi  # type: ignore[import-not-found]

    found: dict[str, Any] = {}
    for name in TASKS:
        task = bmi.benchmark.BENCHMARK_TASKS[name]
        found[f"{name}/truth"] = task.mutual_information
        for seed in range(repeats):
            x, y = task.sample(rows, seed)
            found[f"{name}/x{seed}"], found[f"{name}/y{seed}"] = np.asarray(x), np.asarray(y)
        if name.startswith("multinormal"):
            found[f"{name}/covariance"] = np.asarray(task.sampler._covariance)
    np.savez_compressed(target, **found)


def channel_of(x: np.ndarray, covariance: np.ndarray) -> Any:
    """y given x as a channel: E[y|x] in the metric of Cov(y|x), plus standard normal noise; I stays what it is."""
    from vibtheory.information import GatedChannel

    p = x.shape[1]
    slope = np.linalg.solve(covariance[:p, :p], covariance[:p, p:])  # [p, q]
    left = np.linalg.cholesky(covariance[p:, p:] - covariance[p:, :p] @ slope)
    return GatedChannel.regular(np.linalg.solve(left, (x @ slope).T).T, tau=1.0)


def estimates(samples: Any, name: str, repeats: int) -> Iterator[tuple[str, Any, float]]:
    """(method, result, seconds) of every method that applies, on every repeat."""
    from vibtheory.information import METHODS, estimate
    from vibtheory.information.from_samples import SAMPLE_METHODS, from_samples

    for seed in range(repeats):
        x, y = (np.asarray(samples[f"{name}/{side}{seed}"], dtype=np.float64) for side in "xy")
        for method in SAMPLE_METHODS:
            start = time.process_time()
            result = from_samples(x, y, method, seed=seed)
            yield f"samples: {method}", result, time.process_time() - start
        if f"{name}/covariance" in samples:
            law = channel_of(x, samples[f"{name}/covariance"])
            for method in METHODS:
                start = time.process_time()
                result = estimate(law, method)
                yield f"channel: {method}", result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=6)
    given = parser.parse_args()
    if given.draw:
        draw(given.samples, given.rows, given.repeats)
        return
    import pandas as pd
    import torch

    torch.ones(2).requires_grad_().sum().backward()  # loaded before the first method is timed
    samples = np.load(given.samples)
    rows = []
    for name in TASKS:
        if f"{name}/truth" not in samples:
            continue
        truth = float(samples[f"{name}/truth"])
        repeats = sum(key.startswith(f"{name}/x") for key in samples)
        for method, result, seconds in estimates(samples, name, repeats):
            rows.append((name, method, result.kind, truth, result.nats, result.stderr, result.saturated, seconds))
        print(name, flush=True)
    table = pd.DataFrame(rows, columns=["task", "method", "kind", "truth", "nats", "stderr", "saturated", "seconds"])
    table["wrong"] = (table["nats"] - table["truth"]).where(table["kind"] == "lower", table["truth"] - table["nats"])
    table["wrong"] = (table["wrong"] > 1.96 * table["stderr"].fillna(0)).where(table["kind"] != "estimate")
    table["inside"] = ((table["nats"] - table["truth"]).abs() <= 1.96 * table["stderr"]).where(table["stderr"].notna())
    short = table.groupby(["task", "method"], sort=False).agg(
        kind=("kind", "first"), truth=("truth", "first"), repeats=("nats", "size"), nats=("nats", "mean"),
        spread=("nats", "std"), stderr=("stderr", "mean"), coverage=("inside", "mean"), wrong_side=("wrong", "mean"),
        saturated=("saturated", "mean"), seconds=("seconds", "mean"),
    )  # fmt: skip
    short.insert(4, "bias", short["nats"] - short["truth"])
    short.to_csv(RESULTS, float_format="%.4g")
    plot(RESULTS)


def plot(file: Path) -> None:
    """The bias of each method on each task, in nats, as a table in colour; beside the task its truth."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import pandas as pd

    table = pd.read_csv(file)
    bias = (
        table.pivot(index="method", columns="task", values="bias")
        .reindex(index=table["method"].unique(), columns=table["task"].unique())
        .replace([np.inf, -np.inf], np.nan)
        .dropna(how="all")
    )  # without gates, or above a few units, some have no number
    truth = table.groupby("task")["truth"].first()
    figure, axes = plt.subplots(figsize=(8.5, 6.5), layout="constrained")
    image = axes.imshow(bias, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(bias.to_numpy()):
        if np.isfinite(value):
            axes.text(column, row, f"{value:+.2f}", ha="center", va="center", fontsize=7,
                      color="white" if abs(value) > 0.6 else "black")  # fmt: skip
    axes.set_xticks(
        range(bias.shape[1]), [f"{t}\nI = {truth[t]:.2f}" for t in bias], rotation=40, ha="right", fontsize=7
    )
    names = [f"{name} (is not I, but at most I)" if "sliced" in name else name for name in bias.index]
    axes.set_yticks(range(bias.shape[0]), names, fontsize=7)
    axes.set_title("Mean error (nats): red too large, blue too small, empty: no number", loc="left", fontsize=9)
    figure.colorbar(image, label="bias (nats), beyond ±1 in the same colour", extend="both")
    figure.savefig(file.with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
