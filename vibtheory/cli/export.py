"""`vibtheory export`: a trained run, compressed, as ONNX or as C."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vibtheory.cli.options import State
from vibtheory.errors import reject

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["export"]

_MOST = 2**26  # numbers in one example: 256 MiB
_SHAPES = {"idx": "1,28,28", "cifar": "3,32,32"}


def export(
    model: Annotated[str, typer.Argument(help="Folder of a saved run, or module:factory.")],
    out: Annotated[Path, typer.Argument(help="File to write: .onnx, or .c.")],
    state: State = None,
    shape: Annotated[str | None, typer.Option(help="Of one example, such as 1,28,28; default: the data's.")] = None,
) -> None:
    """Cut the closed gates out of a trained network and write it as ONNX, checked against onnxruntime, or as plain C.

    A C file (chains only) needs nothing but a compiler; it is checked compiled.
    """
    import torch

    from vibtheory.cli import inputs
    from vibtheory.compression.cut import compress
    from vibtheory.compression.export import export_onnx
    from vibtheory.compression.export_c import export_c
    from vibtheory.datasets.catalogue import CATALOGUE
    from vibtheory.networks.gates import named_gates

    if out.suffix not in (".onnx", ".c") and not out.is_dir():
        reject("OUT", str(out), "a file ending in .onnx or .c", "name it such as small.onnx or net.c")
    net, trained_on = inputs.trained_model(model, state)
    if shape is None and trained_on in CATALOGUE:
        shape = _SHAPES[CATALOGUE[trained_on].form]
    if shape is None:
        reject("--shape", "none", "the shape of one example", "pass it, such as --shape 1,28,28")
    sizes = [int(size) if size.strip().isdecimal() and len(size) < 10 else 0 for size in shape.split(",")]
    if min(sizes) < 1 or math.prod(sizes) > _MOST:
        expected = f"whole numbers >= 1 with commas between, and a product of at most {_MOST}"
        reject("--shape", shape, expected, "pass it like --shape 1,28,28")
    example = torch.zeros((2, *sizes))
    _tried(net, example, shape)
    plain = compress(net, example) if named_gates(net) else net
    typer.echo(str((export_c if out.suffix == ".c" else export_onnx)(plain, example, out)))


def _tried(net: nn.Module, example: Tensor, shape: str) -> None:
    """One forward pass: whether the network takes inputs of that shape and returns one tensor."""
    import torch

    try:
        with torch.no_grad():
            output = net(example)
    except Exception as error:  # the code may be the caller's; `--debug` shows where
        detail = f"{shape} ({type(error).__name__}: {' '.join(str(error).split())[:300]})"
        reject("--shape", detail, "the shape of one example that the model takes", "pass that of its training data")
    if not isinstance(output, torch.Tensor):
        got = f"one that returns {type(output).__name__}"
        reject("MODEL", got, "one that returns a tensor", "export a factory that wraps it so")
