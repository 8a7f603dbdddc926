"""`vibtheory table N`: published rows beside ours; trains first if asked to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vibtheory.cli.exit_codes import NOT_APPLICABLE
from vibtheory.cli.options import Accelerate, Amp, Device, Root, Runs, refuse_all_but, refuse_given
from vibtheory.cli.output import draw

__all__ = ["table"]


def table(
    context: typer.Context,
    number: Annotated[int, typer.Argument(metavar="N", help="1 to 4, as in the paper.")],
    network: Annotated[str | None, typer.Option(help="Packaged recipe of that table, or a TOML file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Train the short version first (minutes).")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Train the record first: the recipe's epochs and seeds.")
    ] = False,
    curve: Annotated[bool, typer.Option("--curve", help="Train the γ sweep of the figure first.")] = False,
    row: Annotated[str | None, typer.Option(help="Tables 3, 4: train one comparison only, such as 3.1.")] = None,
    decay_gates: Annotated[
        bool, typer.Option("--decay-gates", help="Weight decay on the gates too, as in the authors' runs.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Runs side by side; one at a time for Tables 3 and 4.")] = 2,
    together: Annotated[
        bool, typer.Option("--together", help="All runs take turns in one process: for a GPU.")
    ] = False,
    device: Device = "auto",
    accelerate: Accelerate = "none",
    amp: Amp = None,
    root: Root = None,
    figure: Annotated[bool, typer.Option("--figure", help="Draw the figure even if nothing was trained.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for tableN.csv and tableN.png.")] = Path("figures"),
    runs: Runs = Path("runs"),
) -> None:
    """Print the published rows of a table with ours beside them, and draw the trade-off.

    Without --quick, --full or --curve nothing is trained: ours are those of the CSV in the output folder. New rows
    replace those of the same mode and recipe there; the others stay, also those that another command adds meanwhile.

    Exit code 3: one of the table's runs in these modes collapsed, a layer lost all its units.
    """
    from vibtheory.figures import tradeoff
    from vibtheory.studies.table_runs import comparison, record, recorded_table
    from vibtheory.studies.tables import TITLES, longest_runs, markdown, rendered

    modes = [mode for mode, wanted in (("quick", quick), ("full", full), ("curve", curve)) if wanted]
    if not modes:
        refuse_all_but(context, ("number", "figure", "out"), "--quick, --full or --curve beside it")
    if together:
        refuse_given(context, ("jobs",), "none with --together, which is one process")
    results = record(
        number, modes, network=network, row=row, decay_gates=decay_gates, out=out, runs=runs, jobs=jobs, device=device,
        root=root, accelerate=accelerate, amp=amp, progress=sys.stderr.isatty(), together=together,
        announce=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    shown = comparison(number, results)
    if sys.stdout.isatty():
        from vibtheory.storage.terminal import Console

        Console().print(rendered(shown, TITLES[number]))
    else:
        typer.echo(f"{TITLES[number]}\n\n{markdown(shown)}", nl=False)
    if figure or modes:
        store = recorded_table(number, out)
        picture = store.path.with_suffix(".png")
        with store.hold():  # the picture of what the CSV holds now, whoever wrote it last
            results = store.read()
            points = None if results is None else longest_runs(results)
            draw(lambda: tradeoff(points, number), picture)
        typer.echo(f"wrote {f'{store.path} and ' if modes else ''}{picture}", err=True)
        if results is not None and (results["mode"].isin(modes) & results["status"].eq("collapsed")).any():
            raise typer.Exit(NOT_APPLICABLE)
