"""`vibtheory export`: a trained run, compressed, as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vibtheory.errors import reject

__all__ = ["export"]

_SHAPES = {"idx": "1,28,28", "cifar": "3,32,32"}


def export(
    model: Annotated[str, typer.Argument(help="Folder of a saved run, or module:factory.")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write.")],
    state: Annotated[
        Path | None, typer.Option(help="Weights for a factory: a .safetensors file, or the folder of a run.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Of one example, such as 1,28,28; default: the data's.")] = None,
) -> None:
    """Cut the closed gates out of a trained network and write it as ONNX, checked against onnxruntime."""
    import torch

    from vibtheory.cli import inputs
    from vibtheory.compression import compress
    from vibtheory.datasets.catalogue import CATALOGUE
    from vibtheory.export import export_onnx
    from vibtheory.gates import named_gates

    net, trained_on = inputs.trained_model(model, state)
    if shape is None and trained_on in CATALOGUE:
        shape = _SHAPES[CATALOGUE[trained_on].form]
    if shape is None:
        reject("--shape", "none", "the shape of one example", "pass it, such as --shape 1,28,28")
    sizes = [int(size) if size.strip().isdecimal() and len(size) < 10 else 0 for size in shape.split(",")]
    if min(sizes) < 1:
        reject("--shape", shape, "whole numbers >= 1 with commas between", "pass it like --shape 1,28,28")
    example = torch.zeros((2, *sizes))
    plain = compress(net, example) if named_gates(net) else net
    typer.echo(str(export_onnx(plain, example, out)))
