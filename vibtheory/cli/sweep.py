"""`vibtheory sweep`: γ × seeds × recorded epochs, to one table; stopped however you like, it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from vibtheory.cli.exit_codes import NOT_APPLICABLE
from vibtheory.cli.options import Cluster, Data, Device, Jobs, Recipe, refuse_given
from vibtheory.errors import as_seed, check_choice, reject

__all__ = ["sweep"]

_MOST_SEEDS = 10_000
Number = TypeVar("Number", int, float)


def sweep(
    context: typer.Context,
    gammas: Annotated[str, typer.Option(help="Prices of information, with commas: 1e-4,5e-4.")],
    out: Annotated[Path, typer.Option(help="Folder of table.csv and of the runs; later sweeps add to it.")],
    seeds: Annotated[str, typer.Option(help="How many, or which ones with commas: 5 or 3,4,5.")] = "5",
    epochs: Annotated[int | None, typer.Option(help="Noisy epochs, instead of the recipe's.")] = None,
    record: Annotated[str, typer.Option(help="Record every so many epochs, or those listed with commas.")] = "5",
    network: Annotated[str, typer.Option(help="A network of vibtheory.networks.")] = "lenet_300_100",
    data: Data = "mnist",
    layer: Annotated[str, typer.Option(help="Gate of the dense layer whose information is recorded.")] = "h1",
    recipe: Recipe = None,
    regular: Annotated[bool, typer.Option("--regular", help="The regular net as well, without gates.")] = False,
    n: Annotated[int, typer.Option("-n", help="Training inputs for the estimates.")] = 5000,
    batched: Annotated[bool, typer.Option("--batched", help="All runs take turns in one process: for GPUs.")] = False,
    jobs: Jobs = 1,
    cluster: Cluster = None,
    device: Device = "auto",
) -> None:
    """Train a network for each price and seed; record size, error and I(h; x) of one layer.

    A later sweep with the same --out adds its rows to table.csv: those of its own runs (regular or not, price, seed)
    and layer replace the old ones, all others stay. Another network, data set or recipe needs another --out.

    Exit code 3: in some run a layer lost all its units.
    """
    if cluster is not None:
        refuse_given(context, ("jobs",), "none with --cluster, whose workers are taken")
    from vibtheory.cli import inputs
    from vibtheory.datasets.catalogue import CATALOGUE
    from vibtheory.studies.sweep import sweep as run

    arguments = inputs.arguments(recipe, network, data, "--network")
    if not data.endswith(".npz"):
        check_choice("--data", data, [*CATALOGUE, "an .npz file"])
    result = run(
        gammas=_numbers("--gammas", gammas, float),
        seeds=_seeds(seeds),
        dataset=inputs.dataset(data) if data.endswith(".npz") else data,
        network={"builder": network, "arguments": arguments} if arguments else network,
        out=out,
        epochs=epochs,
        record=_one_or_many("--record", record),
        layer=layer,
        gated=(True, False) if regular else True,
        recipe=None if recipe is None else inputs.recipe(recipe),
        n=n,
        batched=batched,
        jobs=jobs,
        cluster=cluster,
        device=device,
    )
    typer.echo(str(result))
    if result.status != "completed":
        raise typer.Exit(NOT_APPLICABLE)


def _seeds(text: str) -> int | list[int]:
    """How many seeds, or which, within what random generators and memory take."""
    seeds = _one_or_many("--seeds", text)
    if isinstance(seeds, list):
        return [as_seed("--seeds", seed) for seed in seeds]
    if seeds > _MOST_SEEDS:
        reject("--seeds", seeds, f"at most {_MOST_SEEDS} runs for each price", "ask for fewer, or list the seeds")
    return seeds


def _one_or_many(option: str, text: str) -> int | list[int]:
    """One number, or a list where there is a comma ("3," is a list of one)."""
    values = _numbers(option, text, int)
    return values if "," in text else values[0]


def _numbers(option: str, text: str, kind: type[Number]) -> list[Number]:
    try:
        values = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values:
        reject(option, repr(text), "numbers with commas between them", "write 1e-4,5e-4 or 3,4,5")
    return values
