"""`vibtheory compress`: a trained model of the user's own, within a budget, as ONNX and a report."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from vibtheory.cli.exit_codes import NOT_APPLICABLE
from vibtheory.cli.options import Data, Device, Recipe, Root, State, Where

__all__ = ["compress"]


def compress(
    model: Annotated[str, typer.Argument(help="Folder of a saved run, or module:factory.")],
    out: Annotated[Path, typer.Option(help="Folder for small.onnx, report.json and what a stopped call goes on from.")],
    data: Data = "mnist",
    r_w: Annotated[float | None, typer.Option("--r-w", help="Budget: percent of the weights.")] = None,
    flop: Annotated[float | None, typer.Option(help="Budget: percent of the multiply-adds.")] = None,
    error: Annotated[float | None, typer.Option(help="Budget: percent of the held-out examples.")] = None,
    epochs: Annotated[int, typer.Option(help="Of each trial, with gates.")] = 10,
    fine_tune_epochs: Annotated[int, typer.Option(help="Of the small model, in the end.")] = 3,
    trials: Annotated[int, typer.Option(help="Prices tried.")] = 7,
    seed: Annotated[int, typer.Option(help="Of the held-out examples, batches and noise.")] = 0,
    where: Where = None,
    recipe: Recipe = None,
    state: State = None,
    device: Device = "auto",
    root: Root = None,
    examples: Annotated[int | None, typer.Option(help="Train on so many random training examples.")] = None,
) -> None:
    """Find the price that meets a budget, cut, fine-tune, verify. Exit code 3: no price met it (the best is written).

    Stopped however you like, the same command goes on.
    """
    import sys

    import torch

    from vibtheory.cli import inputs
    from vibtheory.compression.export import export_onnx
    from vibtheory.errors import MissingDependencyError, reject
    from vibtheory.storage import write_text
    from vibtheory.training.budget import compress_to

    budgets = {"--r-w": r_w, "--flop": flop, "--error": error}
    given = [option for option, limit in budgets.items() if limit is not None]
    if len(given) != 1:
        reject("budget", ", ".join(given) or "none", f"exactly one of {', '.join(budgets)}", "pass --r-w 10.0, say")
    if importlib.util.find_spec("onnxruntime") is None:  # now, not after hours of training
        raise MissingDependencyError(
            "onnxruntime is not installed, expected the extra `export`. Remedy: pip install 'vibtheory[export]'"
        )
    net, _ = inputs.trained_model(model, state)
    loaded = inputs.dataset(data, root, examples, seed)
    found = compress_to(
        net, loaded, r_w=r_w, flop=flop, error=error, epochs=epochs, fine_tune_epochs=fine_tune_epochs, trials=trials,
        recipe=None if recipe is None else inputs.recipe(recipe), seed=seed, device=device,
        checkpoint=out / "checkpoint", progress=sys.stderr.isatty(), **inputs.places(net, where),
    )  # fmt: skip
    typer.echo(str(found))
    typer.echo(str(export_onnx(found.net.cpu(), torch.as_tensor(loaded.x_test[:2]), out / "small.onnx")))
    write_text(out / "report.json", found.to_json(indent=1) + "\n")
    if not found.met:
        raise typer.Exit(NOT_APPLICABLE)
