"""`vibtheory doctor`: versions, devices, data, folders, and what is missing with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vibtheory.cli.exit_codes import BAD_INPUT

__all__ = ["doctor"]


def doctor(
    folder: Annotated[Path, typer.Option(help="Where runs and figures are to be written.")] = Path(),
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what this machine offers, and what is missing with its remedy. Exit code 2: vibtheory cannot work like this.

    Nothing is downloaded and no file stays behind.
    """
    from vibtheory.studies.environment import doctor

    found = doctor(folder)
    typer.echo(found.to_json(indent=1) if json else str(found))
    if found.status == "broken":
        raise typer.Exit(BAD_INPUT)
