"""One training step of VGG-16 on 32×32 images: images/s, multiply-add utilisation, the share of each stage.

    python benchmarks/train_step.py --net lenet              # LeNet-300-100 against the reference code's layer; below

    python benchmarks/train_step.py                          # CPU: a VGG with a quarter of the channels, and the whole
    python benchmarks/train_step.py --device cuda            # GPU: the whole net, every way to accelerate a step
    python benchmarks/train_step.py --thinner 4 --laws vib l0 sbp … open --out …/train_step_laws.csv   # each law

Gated and dense nets take turns, so that other load on the machine hits both: the ratio is what is meant. Utilisation is
three times the forward multiply-adds (forward, and backward to inputs and to weights) against the rate of one large
matrix product in the same precision, measured in the same run. The images are random bytes. On a CPU all times are CPU
times of this process, which other load on the machine touches little; on a GPU they are those of the clock.

`--net lenet`: batch 128 on the CPU, against the dense net (both by `train`'s step, with its fused Adam) and against
the reference code's layer (rewritten here) in a plain loop with Adam as it comes; then Table 1's quick recipe on MNIST,
6 + 30 epochs: `train`, which shrinks the net, against as many epochs of the plain loop (three of each kind are run).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vibtheory.compression.metrics import compression
from vibtheory.datasets import load
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.networks.gates import LAWS, add_information_gradient, objective
from vibtheory.networks.lenet import lenet_300_100
from vibtheory.networks.likelihood import likelihood_loss
from vibtheory.networks.vgg import _VGG16, _vgg
from vibtheory.studies.experiments import experiment
from vibtheory.training.examples import Examples
from vibtheory.training.hardware import ACCELERATIONS
from vibtheory.training.loop import Loop, Settings
from vibtheory.training.recipe import Recipe
from vibtheory.training.single import train

RESULTS = Path(__file__).parent / "results" / "train_step.csv"


class ReferenceGate(nn.Module):
    """The layer of Dai et al.'s published code: z = μ + ε⊙σ per example, its information computed as it passes."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.ones(features))
        self.log_var = nn.Parameter(torch.full((features,), -9.0))
        self.information = torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x * self.mu.view(1, -1)
        sigma = self.log_var.mul(0.5).exp_()
        noise = torch.FloatTensor(len(x), len(sigma)).normal_()
        z = self.mu.view(1, -1) + noise * sigma.view(1, -1)
        variance, mean = torch.exp(self.log_var.view(1, -1)), self.mu.view(1, -1)
        self.information = 0.5 * torch.sum(torch.log(1 + mean.pow(2) / (variance + 1e-8)))
        return x * z


def reference_net() -> tuple[nn.Sequential, Callable[[torch.Tensor, torch.Tensor], None]]:
    """A LeNet-300-100 with the reference's layers, and a step of a plain loop: inputs [n, 784], labels [n]."""
    torch.manual_seed(0)
    gates = [ReferenceGate(features) for features in (784, 300, 100)]
    net = nn.Sequential(
        gates[0], nn.Linear(784, 300), nn.ReLU(), gates[1], nn.Linear(300, 100), nn.ReLU(), gates[2], nn.Linear(100, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step(x: torch.Tensor, y: torch.Tensor) -> None:
        loss = nn.functional.cross_entropy(net(x), y)
        if net.training:
            for gate in gates:
                loss = loss + 5.5e-4 * gate.information
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return net, step


def lenet(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one step, and of the whole recipe of Table 1 (CPU seconds of this process)."""
    data, cpu = load("mnist"), torch.device("cpu")
    recipe = experiment("lenet_300_100").jobs("quick")[0][0]
    x, y = torch.from_numpy(data.x_train).flatten(1), torch.from_numpy(data.y_train)
    states = {}
    for gated in (False, True):
        torch.manual_seed(0)
        states[gated] = Loop(lenet_300_100(gated=gated), data, Recipe(gamma=5.5e-4), Settings(device=cpu))
        states[gated].net.train()
        states[gated].enter_phase(False, 5.5e-4 if gated else 0.0)
    (net, plain), batch = reference_net(), torch.randperm(len(y))[:128]
    steps = {
        "dense": lambda: states[False].take_step(batch), "vib": lambda: states[True].take_step(batch),
        "reference": lambda: plain(x[batch], y[batch]),
    }  # fmt: skip
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(60 * options.repeats):
        for name, step in steps.items():
            spent = seconds(step, cpu)
            if turn >= options.repeats:
                taken[name].append(spent)

    rows = [
        {"task": "step", "batch": 128, "net": name, "images_per_second": round(128 / statistics.median(own), 1),
         "over_dense": round(ratio(own, taken["dense"]), 3), "reference_over": round(ratio(taken["reference"], own), 3)}
        for name, own in taken.items()
    ]  # fmt: skip
    print(*rows, sep="\n", flush=True)
    shifted, epochs = Examples(data.x_train, recipe, cpu), {True: [], False: []}

    def one_epoch(training: bool) -> None:
        shifted.begin_epoch()
        net.train(training)
        for part in torch.split(torch.randperm(len(y)), recipe.batch_size):
            plain(shifted.take(part).flatten(1), y[part])
        with torch.no_grad():
            net.eval()(x_test).argmax(1)

    def beside(_: nn.Module, done: int) -> None:
        nonlocal others
        if done % 15 == 0:
            spent = {training: seconds(lambda t=training: one_epoch(t), cpu) for training in (True, False)}
            for training, value in spent.items():
                epochs[training].append(value)
            others += sum(spent.values())

    others, x_test = 0.0, torch.from_numpy(data.x_test).flatten(1)
    torch.manual_seed(0)
    gated = lenet_300_100()
    own = seconds(lambda: train(gated, data, recipe, device="cpu", on_epoch=beside), cpu) - others
    whole = recipe.epochs * statistics.mean(epochs[True]) + recipe.pretrain_epochs * statistics.mean(epochs[False])
    images = len(y) * (recipe.epochs + recipe.pretrain_epochs)
    rows += [
        {"task": "recipe", "batch": recipe.batch_size, "net": name, "images_per_second": round(images / spent, 1),
         "over_dense": "", "reference_over": round(whole / spent, 3)}
        for name, spent in (("vib", own), ("reference", whole))
    ]  # fmt: skip
    return rows


def ratio(a: list[float], b: list[float]) -> float:
    """Median of a/b, turn by turn."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def build(law: str | None, thinner: int) -> nn.Sequential:
    """VGG-16 with one hidden layer and gates of a law, or none; `thinner` divides the channels."""
    torch.manual_seed(0)
    blocks = tuple((width // thinner, repeats) for width, repeats in _VGG16)
    return _vgg(blocks, 10, 1, nn.MaxPool2d(2), law is not None, law or "vib")


def random_images(n: int) -> Dataset:
    rng = np.random.default_rng(0)
    x = (rng.integers(0, 256, size=(n, 3, 32, 32)).astype(np.uint8)).astype(np.float32) / np.float32(255)
    y = rng.integers(0, 10, size=n)
    return from_arrays(x, y, x[:10], y[:10], classes=10, name="random")


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], device: torch.device) -> float:
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    wait(device)
    started = clock()
    call()
    wait(device)
    return clock() - started


def loop(law: str | None, thinner: int, options: argparse.Namespace, data: Dataset, accelerate: str) -> Loop:
    """The state of a run in its gated phase, as `train` makes it."""
    recipe = Recipe(gamma=1e-5, augment="crop+flip", batch_size=options.batch)
    device = torch.device(options.device)
    settings = Settings(device=device, amp=options.amp, accelerate=accelerate)
    made = Loop(build(law, thinner).to(device), data, recipe, settings)
    made.net.train()
    made.set_learning_rates(1.0)
    made.enter_phase(False, recipe.gamma if law else 0.0)
    return made


def step_of(state: Loop, options: argparse.Namespace) -> Callable[[], object]:
    order = torch.randperm(len(state.examples), device=options.device)[: options.batch]
    return lambda: state.take_step(order)


def stages(state: Loop, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each stage of a plain step, each waited for."""
    device, batches = state.device, state.examples.moved
    assert batches is not None
    order = torch.randperm(len(state.examples), device=device)[: options.batch]
    times: dict[str, list[float]] = {}
    held: dict[str, Any] = {}

    def data() -> None:
        held["x"] = batches.take(order, batches.draw(len(order)))

    def forward() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.amp):
            held["out"] = state._model(held["x"])
        held["loss"] = likelihood_loss(held["out"].float(), state.y[order], "multinomial")

    def information() -> None:
        if state._prices is not None:
            add_information_gradient(state._vib, state._prices)
        else:
            held["loss"] = objective(held["loss"], state.gates, 1e-5)

    def backward() -> None:
        state.optimizer.zero_grad(set_to_none=True)
        held["loss"].backward()

    def update() -> None:
        state.optimizer.step()

    priced = (information, backward) if state._prices is None else (backward, information)  # or its gradient alone
    for _ in range(options.repeats + 1):
        for stage in (data, forward, *priced, update):
            times.setdefault(stage.__name__, []).append(seconds(stage, device))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def peak_rate(options: argparse.Namespace) -> float:
    """Multiply-adds per second of a large matrix product."""
    device = torch.device(options.device)
    size = 8192 if device.type == "cuda" else 1024
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if options.amp else torch.float32)
    for _ in range(2):
        a @ a
    return size**3 / min(seconds(lambda: a @ a, device) for _ in range(7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", choices=("vgg", "lenet"), default="vgg")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--thinner", type=int, nargs="+", help="divide the channels by so much (4 and 1; 1 on a GPU)")
    parser.add_argument("--accelerate", nargs="+", choices=ACCELERATIONS, help="all on a GPU, none on a CPU")
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=["vib"], help="of the gates")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    options.amp = cuda
    options.batch = options.batch or (128 if cuda else 32)
    options.thinner = options.thinner or ([1] if cuda else [4, 1])
    options.accelerate = options.accelerate or (ACCELERATIONS if cuda else ("none",))
    options.repeats = options.repeats or (30 if cuda else 7)
    torch.set_num_threads(options.threads)
    if options.net == "lenet":
        write(options.out or RESULTS.with_stem("train_step_lenet"), lenet(options))
        return
    device = torch.device(options.device)
    data = random_images(4 * options.batch)
    peak, rows = peak_rate(options), []
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    print(f"{name}, batch {options.batch}, matrix product {peak / 1e12:.3f} T MAC/s")
    print("channels     accelerate    net  images/s  utilisation  gated/dense  shares of a plain step")
    for thinner, accelerate in itertools.product(options.thinner, options.accelerate):
        states = {law: loop(law, thinner, options, data, accelerate) for law in (None, *options.laws)}
        steps = {law: step_of(state, options) for law, state in states.items()}
        start = {law: sum(seconds(step, device) for _ in range(6 if cuda else 2)) for law, step in steps.items()}
        taken: dict[str | None, list[float]] = {law: [] for law in steps}
        for _ in range(options.repeats):
            for law, step in steps.items():
                taken[law].append(seconds(step, device))
        macs = compression(build("vib", thinner)).flop
        for law, state in states.items():
            duration = statistics.median(taken[law])
            ratio = statistics.median(b / a for a, b in zip(taken[None], taken[law], strict=True))
            shares = stages(state, options) if accelerate == "none" else {}
            whole = sum(shares.values())
            row = {
                "device": name, "batch": options.batch, "thinner": thinner, "accelerate": accelerate,
                "net": law or "dense", "images_per_second": round(options.batch / duration, 1),
                "utilisation_percent": round(100 * 3 * macs * options.batch / duration / peak, 1),
                "gated_over_dense": round(ratio, 3) if law else "", "start_seconds": round(start[law], 2),
                "peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1) if cuda else "",
                **{f"{stage}_percent": round(100 * t / whole, 1) for stage, t in shares.items()},
            }  # fmt: skip
            rows.append(row)
            parts = ", ".join(f"{stage} {100 * t / whole:.0f} %" for stage, t in shares.items())
            print(f"{f'1/{thinner}':>8} {accelerate:>14} {row['net']:>6} {row['images_per_second']:>9} "
                  f"{row['utilisation_percent']:>10} % {row['gated_over_dense']:>12}  {parts}", flush=True)  # fmt: skip
            write(options.out or (RESULTS.with_stem("train_step_gpu") if cuda else RESULTS), rows)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows so far, with the columns of all of them."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        columns = dict.fromkeys(column for row in rows for column in row)
        writer = csv.DictWriter(file, fieldnames=list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
