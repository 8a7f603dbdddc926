"""`vibtheory methods`: the compared methods rerun in one harness, their printed rows beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vibtheory.cli.options import Device, Jobs, Root, Runs

__all__ = ["methods"]


def methods(
    table: Annotated[int, typer.Option(help="1 (LeNet-300-100) or 2 (LeNet-5-Caffe).")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Few prices, epochs and seeds: a look (minutes).")] = False,
    only: Annotated[str, typer.Option(help="Methods with commas: VIBNet,L0,SBP; all if left out.")] = "",
    jobs: Jobs = 1,
    device: Device = "auto",
    root: Root = None,
    out: Annotated[Path, typer.Option(help="Folder for methods_tableN.csv and its figure.")] = Path("figures"),
    runs: Runs = Path("runs"),
) -> None:
    """Train every compared method on the same net, data and recipe; print its printed row beside ours.

    Each method's price is chosen on 5,000 held-out training images, then fresh seeds are read once on the test set.
    Finished runs are not repeated, stopped ones go on.
    """
    from vibtheory.cli.output import drawn
    from vibtheory.figures import method_curves
    from vibtheory.storage import write_bytes
    from vibtheory.studies.methods import compare_methods, method_table, methods_table
    from vibtheory.studies.tables import TITLES, markdown

    results = compare_methods(
        table, quick=quick, methods=[name for name in only.split(",") if name], out=out, runs=runs, jobs=jobs,
        device=device, root=root, announce=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    typer.echo(f"{TITLES[table]}{', quick' * quick}\n\n{markdown(method_table(table, results))}", nl=False)
    path = methods_table(table, quick, out).path
    write_bytes(path.with_suffix(".png"), drawn(lambda: method_curves(results, table, quick), "png"))
    typer.echo(f"wrote {path} and {path.with_suffix('.png')}", err=True)
