"""`vibtheory data list|fetch|verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vibtheory.cli.exit_codes import BAD_INPUT

__all__ = ["data"]

data = typer.Typer(no_args_is_help=True, help="The data sets: where they lie, whether they are intact, the download.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="mnist, fashion-mnist, cifar10 or cifar100.")]
Root = Annotated[Path | None, typer.Option(help="Look in this folder only.")]


@data.command("list")
def list_all(root: Root = None) -> None:
    """Every data set known, where it was found, and its source and terms; nothing is read or downloaded."""
    from vibtheory.datasets import available

    for entry in available(root):
        where = f" in {entry.folder}" if entry.folder else f"; `vibtheory data fetch {entry.name}` downloads it"
        typer.echo(f"{entry.name:<14} {entry.status}{where}\n{'':<14} {entry.title}: {entry.source}")


@data.command()
def fetch(name: Name) -> None:
    """Download the canonical files into the user cache, checksums verified; what is intact is kept."""
    from vibtheory.datasets import fetch

    _tell(fetch(name))


@data.command()
def verify(name: Name, root: Root = None) -> None:
    """Check every file against its canonical checksum; exit code 2 if one is missing or damaged."""
    from vibtheory.datasets import verify

    _tell(verify(name, root))


def _tell(found: object) -> None:
    typer.echo(str(found))
    if getattr(found, "status", "") in ("missing", "damaged"):
        raise typer.Exit(BAD_INPUT)
