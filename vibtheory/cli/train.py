"""`vibtheory train`: one run, saved where `check` and `export` find it, and resumed if it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vibtheory.cli.exit_codes import NOT_APPLICABLE
from vibtheory.cli.inputs import NETWORKS
from vibtheory.cli.options import Accelerate, Amp, Data, Device, Recipe, Root

__all__ = ["train"]


def train(
    network: Annotated[str, typer.Argument(help=f"{', '.join(NETWORKS)}, or module:factory.")],
    out: Annotated[Path, typer.Option(help="Folder of the run and its checkpoint.")],
    data: Data = "mnist",
    gamma: Annotated[float | None, typer.Option(help="Price of information γ, instead of the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs with noisy gates, instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights, batches and noise.")] = 0,
    recipe: Recipe = None,
    device: Device = "auto",
    root: Root = None,
    examples: Annotated[int | None, typer.Option(help="Train on so many random training examples.")] = None,
    accelerate: Accelerate = "none",
    amp: Amp = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Least time between checkpoints; 0: each epoch.")] = 0.0,
) -> None:
    """Train a network and save the run. Stopped however you like, the same command goes on from the last checkpoint.

    A packaged recipe of a network, or a file like it, brings that network's arguments along. Under torchrun the
    processes share each batch (docs/several_machines.md). Exit code 3: a layer lost all its units; training stopped.
    """
    import sys

    from vibtheory.cli import inputs
    from vibtheory.compression.metrics import compression
    from vibtheory.networks.streams import INITIAL_WEIGHTS, random_stream
    from vibtheory.training.distributed import process_group, world
    from vibtheory.training.single import train

    settings, arguments = inputs.recipe(recipe), inputs.arguments(recipe, network, data)
    given: dict[str, Any] = {key: v for key, v in (("gamma", gamma), ("epochs", epochs)) if v is not None}
    loaded = inputs.dataset(data, root, examples, seed)
    with random_stream(seed, INITIAL_WEIGHTS):
        net = inputs.network(network, arguments)
    with process_group(device) as place:
        first = world().rank == 0
        run = train(net, loaded, settings, seed=seed, device=place, checkpoint=out / "checkpoint",
                    checkpoint_seconds=checkpoint_seconds, accelerate=accelerate, amp=amp,
                    progress=first and sys.stderr.isatty(), **given)  # fmt: skip
        if first:
            run.save(out)
    if first:
        typer.echo(str(run))
    if run.status != "completed":
        raise typer.Exit(NOT_APPLICABLE)
    if first:
        if network in NETWORKS:
            typer.echo(str(compression(run.net)))
        typer.echo(f"saved in {out}")
