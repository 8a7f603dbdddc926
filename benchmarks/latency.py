"""Dense against physically compressed LeNets: what part of the FLOP ratio is realised as time, and the memory.

    MALLOC_MMAP_THRESHOLD_=500000000 MALLOC_TRIM_THRESHOLD_=2000000000 python benchmarks/latency.py [--threads 1]

The two variables keep glibc from returning large outputs to the system after each layer: without them page faults, not
arithmetic, decide (LeNet-5's dense net takes 160 or 250 ms, its small one 23 or 43 ms, from run to run).
The compressed nets are made from the kept counts of Tables 1 and 2, so nothing is trained here. Dense and compressed
take turns, so that other load on the machine hits both and each finds its caches warm; the times are CPU times of this
process, the fastest of all turns (what `timeit` advises: load only ever adds), and only their ratio is meant.
"realised" = (dense time / compressed time) / (dense FLOP / compressed FLOP); 1 would be a perfect conversion. It is
given three times: for torch as it is, and for `export_onnx` and onnxruntime (one thread too) and `export_c` against the
fastest of the dense net's three times. At batch 1 the C file's time is that of one of 200 images in one call that goes
through them one after the other (EXAMPLES = 1), for a program in C makes no call from Python. Measured, and slower than
one of these: channels-last memory, torch.jit's freezing, torch.compile, AOTInductor, OpenVINO, batches in parts.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from vibtheory.compression import metrics
from vibtheory.compression.cut import compress
from vibtheory.compression.export import export_onnx
from vibtheory.compression.export_c import compiled, export_c
from vibtheory.networks.gates import Gate, named_gates
from vibtheory.networks.lenet import lenet_5_caffe, lenet_300_100

RESULTS = Path(__file__).parent / "results" / "latency.csv"


def close_all_but(gate: Gate, open_units: Tensor) -> None:
    with torch.no_grad():
        gate.log_var.fill_(9.0)
        gate.log_var[open_units] = -9.0


def gated_nets() -> dict[str, nn.Sequential]:
    """LeNets whose open gates are the printed counts, spread at random (pixels) or over the kept channels (flat)."""
    generator = torch.Generator().manual_seed(0)
    dense_like = lenet_300_100()
    for name, kept in zip(("input", "h1", "h2"), (97, 71, 33), strict=True):
        gate = named_gates(dense_like)[name]
        close_all_but(gate, torch.randperm(gate.features, generator=generator)[:kept])
    convolutional = lenet_5_caffe()
    gates = named_gates(convolutional)
    for name, kept in (("conv1", 3), ("conv2", 10), ("fc1", 35)):
        close_all_but(gates[name], torch.arange(kept))
    positions = torch.cat([16 * c + torch.randperm(16, generator=generator)[:7] for c in range(10)])
    close_all_but(gates["flat"], positions[:68])
    return {"LeNet-300-100": dense_like, "LeNet-5-Caffe": convolutional}


def served(net: nn.Module, x: Tensor, threads: int) -> Callable[[Tensor], Any]:
    """`net` as an ONNX file in onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    with tempfile.TemporaryDirectory() as folder:
        file = export_onnx(net, x[:2], Path(folder) / "net.onnx").path
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, {"input": inputs.numpy()})


def in_c(net: nn.Module, x: Tensor, single: bool) -> Callable[[Tensor], Any]:
    """`net` as a C file, compiled; for a `single` image at a time."""
    with tempfile.TemporaryDirectory() as folder:
        file = export_c(net, x[:2], Path(folder) / "net.c").path
        if single:
            file.write_text("#define EXAMPLES 1\n" + file.read_text())
        run = compiled(file)
    return lambda inputs: run(inputs.numpy())


def fastest_times(nets: Sequence[Callable[[Tensor], Any]], x: Tensor, seconds: float) -> list[float]:
    """Least CPU seconds per forward pass of each net, in turns of some passes, so that each finds its caches warm."""
    passes = 5 if len(x) > 1 else 200
    best = [float("inf") for _ in nets]
    with torch.inference_mode():
        stop = time.process_time() + seconds
        turns = 0
        while time.process_time() < stop or turns < 3:
            for place, net in enumerate(nets):
                start = time.process_time()
                for _ in range(passes):
                    net(x)
                best[place] = min(best[place], (time.process_time() - start) / passes)
            turns += 1
    return best


def activation_bytes(net: nn.Module, x: Tensor) -> int:
    """Bytes of the largest (input, output) pair of one layer: what inference must hold at once beside the weights."""
    largest = 0

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, inputs[0].nbytes + output.nbytes)

    handles = [m.register_forward_hook(hook) for m in net.modules() if not isinstance(m, nn.Sequential)]
    with torch.inference_mode():
        net(x)
    for handle in handles:
        handle.remove()
    return largest


def weight_bytes(net: nn.Module) -> int:
    return sum(t.nbytes for t in (*net.parameters(), *net.buffers()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--seconds", type=float, default=1.0, help="measuring time per row")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, object]] = []
    for (name, gated), make in zip(gated_nets().items(), (lenet_300_100, lenet_5_caffe), strict=True):
        dense, small = make(gated=False).eval(), compress(gated)
        size = metrics.compression(gated)
        for batch in (1000, 1):
            x = torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(1))
            onnx = [served(net, x, options.threads) for net in (dense, small)]
            slow, fast, slow_onnx, fast_onnx = fastest_times((dense, small, *onnx), x, options.seconds)
            many = x if batch > 1 else x.repeat(200, 1, 1, 1)
            slow_c, fast_c = (
                time * batch / len(many)
                for time in fastest_times([in_c(net, x, batch == 1) for net in (dense, small)], many, options.seconds)
            )
            best = min(slow, slow_onnx, slow_c)
            flop_ratio = 100 / size.flop_ratio
            rows.append(
                {
                    "network": name,
                    "kept": size.architecture,
                    "batch": batch,
                    "threads": options.threads,
                    "dense_us": round(1e6 * slow, 1),
                    "small_us": round(1e6 * fast, 1),
                    "speedup": round(slow / fast, 2),
                    "flop_ratio": round(flop_ratio, 2),
                    "realised": round(slow / fast / flop_ratio, 3),
                    "dense_onnx_us": round(1e6 * slow_onnx, 1),
                    "small_onnx_us": round(1e6 * fast_onnx, 1),
                    "realised_onnx": round(best / fast_onnx / flop_ratio, 3),
                    "dense_c_us": round(1e6 * slow_c, 2),
                    "small_c_us": round(1e6 * fast_c, 2),
                    "realised_c": round(best / fast_c / flop_ratio, 3),
                    "dense_weight_kib": round(weight_bytes(dense) / 1024, 1),
                    "small_weight_kib": round(weight_bytes(small) / 1024, 1),
                    "dense_activation_kib": round(activation_bytes(dense, x) / 1024, 1),
                    "small_activation_kib": round(activation_bytes(small, x) / 1024, 1),
                }
            )
    columns = list(rows[0])
    widths = [max(len(c), *(len(str(row[c])) for row in rows)) for c in columns]
    header: dict[str, object] = {column: column for column in columns}
    for line in [header, *rows]:
        sys.stdout.write("  ".join(str(line[c]).rjust(w) for c, w in zip(columns, widths, strict=True)) + "\n")
    options.out.parent.mkdir(exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
