"""`vibtheory claims`: every claim of the paper decided, as a terminal table, JSON and a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vibtheory.cli.exit_codes import BAD_INPUT, VIOLATED
from vibtheory.errors import reject

if TYPE_CHECKING:
    from vibtheory.claims import Claim

__all__ = ["claims"]


def claims(
    quick: Annotated[bool, typer.Option("--quick", help="Small fresh instances: minutes. The default.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Ten times larger, and the recorded runs beside.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this claim, such as T2; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random instance.")] = 0,
    figures: Annotated[Path, typer.Option(help="Folder with the recorded tables and figures.")] = Path("figures"),
    out: Annotated[Path, typer.Option(help="Folder for claims.json and claims.html.")] = Path("figures"),
    details: Annotated[bool, typer.Option("--details", help="Print the evidence of every claim.")] = False,
) -> None:
    """Decide every claim of the paper: holds, fails, holds with a correction, or not run.

    Writes claims.json and claims.html (with --only: to claims_only.*). Exit code: 0 no claim fails, 1 one does, 2 bad
    input, such as a damaged table: its claims are "not run" and the others decided all the same.
    """
    if quick and full:
        reject("--full", "together with --quick", "one of them", "leave one out")
    from vibtheory.claims import decide
    from vibtheory.storage import locked, write_text

    with locked(out, wait=10):
        pass  # can it be written? Now, not after minutes of deciding

    def told(claim: Claim) -> None:
        if sys.stderr.isatty():
            typer.echo(f"{claim.number}: {claim.verdict} ({claim.seconds:.1f} s)", err=True)

    ledger = decide("full" if full else "quick", only or None, seed=seed, figures=figures, progress=told)
    target = out / ("claims_only" if only else "claims")
    write_text(target.with_suffix(".json"), ledger.to_json(indent=1) + "\n")
    write_text(target.with_suffix(".html"), ledger.to_html())
    if sys.stdout.isatty() and not details:
        from vibtheory.storage.terminal import Console

        Console().print(ledger)
    elif details:
        typer.echo(str(ledger))
    else:
        for claim in ledger:
            typer.echo(f"{claim.number:<16} {claim.verdict:<24} {claim.statement}")
    counts = ", ".join(f"{number} {verdict}" for verdict, number in ledger.counts.items())
    typer.echo(f"{len(ledger)} claims: {counts}", err=False)
    typer.echo(f"wrote {target}.json and {target}.html", err=True)
    for number, message in ledger.errors.items():
        typer.echo(f"error: {number}: {message}", err=True)
    if ledger.errors:
        raise typer.Exit(BAD_INPUT)
    if ledger.verdict == "fails":
        raise typer.Exit(VIOLATED)
