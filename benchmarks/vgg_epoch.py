"""One epoch of Table 3.1's recipe on real CIFAR-10, from fresh weights: does it learn, and how long does it take?

    python benchmarks/vgg_epoch.py                               # all 50,000 images: about 20 minutes of one CPU core
    python benchmarks/vgg_epoch.py --bfloat16                    # half of that where the CPU has the instructions
    python benchmarks/vgg_epoch.py --examples 2000 --test 1000   # a minute or two

Net, batch size, learning rate, augmentation, noise and price of information are those of `vgg_3_1`'s gated epochs; the
dense pretraining before them is left out, so that one epoch shows learning. Each row of the CSV is written when it is
measured and the state is kept in --runs, so that the same command goes on where it was stopped. Its seconds are CPU
seconds of this process on a CPU (other programs hardly touch them), the clock's on a GPU; evaluation is not in them.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Any

import torch

from vibtheory.compression.evaluation import evaluate
from vibtheory.datasets import load
from vibtheory.datasets.dataset import Dataset
from vibtheory.errors import DataError
from vibtheory.networks.gates import gate_information
from vibtheory.networks.registry import build
from vibtheory.studies.experiments import Experiment, experiment
from vibtheory.training.checkpoint import restore, snapshot
from vibtheory.training.loop import Loop, Settings

RESULTS = Path(__file__).parent / "results" / "vgg_epoch.csv"
STEPS = 39  # between rows: ten rows and the last one in an epoch of 50,000 images


def fresh(plan: Experiment, data: Dataset, device: torch.device, amp: bool) -> Loop:
    """The run at the start of its first gated epoch, as `vibtheory.train` makes it."""
    torch.manual_seed(0)
    net = build({"builder": plan.network, "arguments": plan.arguments}).to(device)
    loop = Loop(net, data, plan.recipe, Settings(device=device, amp=amp))
    loop.set_learning_rates(1.0)
    return loop


def advance(loop: Loop, batches: list[torch.Tensor], price: float) -> tuple[float, float]:
    """Steps on some batches; mean loss in nats, and seconds."""
    clock = time.process_time if loop.device.type == "cpu" else time.perf_counter
    loop.net.train()
    loop.enter_phase(False, price)
    started = clock()
    losses = [loop.step(batch, price) for batch in batches]
    return float(torch.stack(losses).mean()), clock() - started  # float waits for the GPU


def measure(loop: Loop, images: int) -> dict[str, Any]:
    """Test loss and error on so many images, nats of information, kept units."""
    result = evaluate(loop.net, *(part[:images] for part in loop.test), batch=500)
    assert result.error is not None
    return {"test_images": images, "test_loss": round(result.loss, 4), "test_error_percent": round(result.error, 2),
            "information_nats": round(sum(gate_information(loop.net).values()), 1),
            "kept_units": sum(int(gate.keep.sum()) for gate in loop.gates.values())}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--test", type=int, default=10_000, help="test images of the last row")
    parser.add_argument("--bfloat16", action="store_true", help="autocast, as `train` does on a GPU by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/vgg_epoch"), help="folder of the state to go on from")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    plan = experiment("vgg_3_1")
    try:
        data = load(plan.dataset, options.root).subset(options.examples, options.test)
    except DataError as error:
        print(f"not run: {error}")
        return
    device = torch.device(options.device)
    amp = options.bfloat16 or device.type == "cuda"
    loop = fresh(plan, data, device, amp)
    order = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(0)).to(device)
    batches = list(torch.split(order, plan.recipe.batch_size))
    parts = [batches[start : start + STEPS] for start in range(0, len(batches), STEPS)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {options.threads} threads"
    identity = loop.identity()
    restore(options.runs, identity, loop.load_state)
    for done in range(len(loop.rows), len(parts) + 1):
        before = loop.rows[-1]["row"] if loop.rows else {"seen": 0, "seconds": 0.0}
        loss, seconds, seen = "", 0.0, 0
        if done:
            mean, seconds = advance(loop, parts[done - 1], plan.recipe.gamma)
            loss, seen = f"{mean:.4f}", sum(map(len, parts[done - 1]))
        last = done == len(parts)
        row = {"recipe": plan.name, "device": name, "precision": "bfloat16" if amp else "float32",
               "seen": before["seen"] + seen, "training_loss": loss,
               **measure(loop, min(options.test, options.test if last else 1000)),
               "seconds": round(before["seconds"] + seconds, 1),
               "images_per_second": round(seen / seconds, 1) if done else ""}  # fmt: skip
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        kept = {f"kept_{gate}": int(module.keep.sum()) for gate, module in loop.gates.items()}
        loop.rows.append({"row": row, "status": "completed", **kept})
        snapshot(options.runs, identity, loop.state())
        write(options.out, [finished["row"] for finished in loop.rows])
    write(options.out, [finished["row"] for finished in loop.rows])


if __name__ == "__main__":
    main()
