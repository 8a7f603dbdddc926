"""`vibtheory train`: one run, saved where `check` and `export` find it, and resumed if it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vibtheory.cli.exit_codes import NOT_APPLICABLE
from vibtheory.cli.inputs import NETWORKS

__all__ = ["train"]


def train(
    network: Annotated[str, typer.Argument(help=f"{', '.join(NETWORKS)}, or module:factory.")],
    out: Annotated[Path, typer.Option(help="Folder of the run and its checkpoint.")],
    data: Annotated[
        str, typer.Option(help="Data set, or an .npz file with x_train, y_train, x_test, y_test.")
    ] = "mnist",
    gamma: Annotated[float | None, typer.Option(help="Price of information γ, instead of the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs with noisy gates, instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights, batches and noise.")] = 0,
    recipe: Annotated[str | None, typer.Option(help="Packaged recipe, or a TOML file with its settings.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    root: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    examples: Annotated[int | None, typer.Option(help="Train on so many random training examples.")] = None,
) -> None:
    """Train a network and save the run. Stopped however you like, the same command goes on from the last epoch.

    Exit code 3: a layer lost all its units, and training stopped.
    """
    import sys

    import torch

    from vibtheory.cli import inputs
    from vibtheory.metrics import compression
    from vibtheory.recipe import Recipe
    from vibtheory.training import train

    settings = inputs.recipe(recipe)
    given = {key: value for key, value in (("gamma", gamma), ("epochs", epochs)) if value is not None}
    settings = Recipe.from_dict({**settings.to_dict(), **given})
    torch.manual_seed(seed)
    net = inputs.network(network)
    loaded = inputs.dataset(data, root, examples, seed)
    checkpoint, progress = out / "checkpoint", sys.stderr.isatty()
    run = train(net, loaded, settings, seed=seed, device=device, checkpoint=checkpoint, progress=progress)
    run.save(out)
    typer.echo(str(run))
    if run.status != "completed":
        raise typer.Exit(NOT_APPLICABLE)
    if network in NETWORKS:
        typer.echo(str(compression(run.net)))
    typer.echo(f"saved in {out}")
