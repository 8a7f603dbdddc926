"""`vibtheory …` on the command line. Each command is a file; torch and its kin are imported inside the commands.

Exit codes of every command: 0 done (check: holds), 1 violated, 2 bad input or damaged data, 3 not applicable (train,
sweep, table: a run collapsed), 70 a defect of ours, 130 interrupted. Errors are one line on stderr; `--debug` shows the
trace.
"""

from __future__ import annotations

import io
import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from vibtheory.cli.check import check
from vibtheory.cli.claims import claims
from vibtheory.cli.compress import compress
from vibtheory.cli.data import data
from vibtheory.cli.doctor import doctor
from vibtheory.cli.exit_codes import Commands
from vibtheory.cli.export import export
from vibtheory.cli.figure import figure
from vibtheory.cli.methods import methods
from vibtheory.cli.sweep import sweep
from vibtheory.cli.table import table
from vibtheory.cli.train import train

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False) -> None:
    """Compress networks with the variational information bottleneck, and decide why it worked."""


for command in (table, methods, figure, train, compress, sweep, check, claims, export, doctor):
    app.command()(command)
app.add_typer(data, name="data")


@app.command()
def version() -> None:
    """Print the versions of vibtheory and of what its numbers rest on."""
    import platform

    import vibtheory

    typer.echo(f"vibtheory {vibtheory.__version__}")
    typer.echo(f"python {platform.python_version()}")
    for name in ("numpy", "scipy", "torch", "cvxpy"):
        typer.echo(f"{name} {metadata.version(name)}")


def main() -> None:
    """The console script. What the terminal's encoding lacks is escaped; a closed stream is none to fail on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    finally:
        _flush()


def _flush() -> None:
    """Write what is left, or let go of it: Python would try again at its end and replace the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
