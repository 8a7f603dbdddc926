"""Options that several commands have, each said once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from vibtheory.errors import VibTheoryError, reject

__all__ = [
    "Accelerate", "Amp", "Cluster", "Data", "DataIfRecorded", "Device", "Jobs", "Recipe", "Root", "Runs", "State",
    "Where", "about", "refuse_all_but", "refuse_given",
]  # fmt: skip


def refuse_given(context: typer.Context, names: Iterable[str], expected: str) -> None:
    """Raise InvalidInputError about the first of the parameters `names` that the user gave: it would be dropped."""
    options = {parameter.name: parameter.opts[0] for parameter in context.command.params}
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            reject(options[name], context.params[name], expected, "leave it out")


def refuse_all_but(context: typer.Context, used: Iterable[str], expected: str) -> None:
    """Raise InvalidInputError about the first parameter not in `used` that the user gave: it would be dropped."""
    kept = set(used)
    refuse_given(context, (p.name for p in context.command.params if p.name and p.name not in kept), expected)


@contextmanager
def about(option: str) -> Iterator[None]:
    """Errors of ours inside are about `option`, whatever the Python function calls that argument."""
    try:
        yield
    except VibTheoryError as error:
        raise type(error)(f"{option}:{str(error).partition(':')[2]}") from error


_DATA = typer.Option(help="Data set, or an .npz file with x_train, y_train, x_test, y_test.")
Data = Annotated[str, _DATA]
DataIfRecorded = Annotated[str | None, _DATA]
State = Annotated[Path | None, typer.Option(help="Weights for a factory: a .safetensors file, or the folder of a run.")]
Root = Annotated[Path | None, typer.Option(help="Folder with the data set's files.")]
Recipe = Annotated[str | None, typer.Option(help="Packaged recipe, or a TOML file with its settings.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Accelerate = Annotated[str, typer.Option(help="none, compile, graph, blocks+graph or compile+graph.")]
Amp = Annotated[bool | None, typer.Option(help="Multiply in bfloat16. Left out: on CUDA only.")]
Jobs = Annotated[int, typer.Option(help="Runs side by side.")]
Cluster = Annotated[str | None, typer.Option(help="Address of a Dask scheduler (tcp://...) to use instead.")]
Runs = Annotated[Path, typer.Option(help="Folder for the runs; finished ones are not repeated.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        help="Where gates stand: mlp, channels, heads, or modules by name (with *), NAME=KIND, NAME,option=value; may "
        "be repeated. Without it: behind every activation."
    ),
]
