"""`vibtheory figure N`: Figure 1 as a drawing; Figure 2 from its table, trained and measured first if asked to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vibtheory.cli.options import Jobs, Runs
from vibtheory.errors import reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

__all__ = ["figure"]


def figure(
    number: Annotated[int, typer.Argument(metavar="N", help="1 or 2, as on the paper's poster.")],
    quick: Annotated[bool, typer.Option("--quick", help="Figure 2: train the short version first (minutes).")] = False,
    full: Annotated[bool, typer.Option("--full", help="Figure 2: train the record first (hours).")] = False,
    jobs: Jobs = 2,
    out: Annotated[Path, typer.Option(help="Folder for the figure and its tables.")] = Path("figures"),
    runs: Runs = Path("runs"),
) -> None:
    """Draw a figure: figureN.png, figureN.pdf and, for Figure 2, figure2.csv (all it reads) and figure2_shape.csv.

    The short version's files are called figure2_quick, so that it never replaces the record. Without --quick or --full
    nothing is trained.
    """
    if number not in (1, 2):
        reject("N", number, "1 or 2", "name one of the poster's figures")
    if number == 1:
        if quick or full:
            reject("N", "1 with --quick or --full", "neither: Figure 1 is a drawing", "leave them out")
        from vibtheory.figures import gate_block

        _draw(gate_block, out / "figure1")
        return
    if quick and full:
        reject("--full", "together with --quick", "one of them", "leave one out")
    _figure2("quick" if quick else "full", train=quick or full, jobs=jobs, out=out, runs=runs)


def _figure2(mode: str, *, train: bool, jobs: int, out: Path, runs: Path) -> None:
    import pandas as pd

    from vibtheory.figures import caption, figure2, shape_table, shape_words
    from vibtheory.storage import write_text
    from vibtheory.studies.figure2 import GAMMA, figure2_table

    target = out / ("figure2_quick" if mode == "quick" else "figure2")
    file = target.with_suffix(".csv")
    if train:
        typer.echo(f"Figure 2, {mode}: training and measuring in {runs}", err=True)
        write_text(file, figure2_table(mode, runs, jobs).to_csv(index=False, float_format="%.7g"))
    elif not file.exists():
        reject("--out", f"no {file}", "the table of an earlier run", "run vibtheory figure 2 --quick or --full")
    try:
        table = pd.read_csv(file)
    except (OSError, ValueError) as error:
        reject("--out", f"{file} ({error})", "a table that this command wrote", "move the file away and run again")
    shape = shape_table(table)
    numbers = target.with_name(f"{target.name}_shape.csv")
    write_text(numbers, shape.to_csv(index=False, float_format="%.5g"))
    typer.echo(f"{shape_words(shape)}\n{caption(shape, GAMMA)}")
    _draw(lambda: figure2(table, GAMMA, shape), target)
    typer.echo(f"wrote {file} and {numbers}", err=True)


def _draw(plot: Callable[[], Figure], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from vibtheory.figures import save

    drawing = plot()
    written = save(drawing, target)
    plt.close(drawing)
    typer.echo(f"wrote {' and '.join(map(str, written))}", err=True)
