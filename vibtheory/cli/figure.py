"""`vibtheory figure 1|2|plane`: a drawing, or a figure from its table, trained and measured first if asked to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vibtheory.cli.options import Jobs, Runs, refuse_all_but
from vibtheory.cli.output import draw
from vibtheory.errors import reject

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["figure"]


def figure(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="1|2|plane", help="As in the paper, or the information plane.")],
    quick: Annotated[bool, typer.Option("--quick", help="Train the short version first (minutes).")] = False,
    full: Annotated[bool, typer.Option("--full", help="Train the record first (2: hours, plane: 10 minutes).")] = False,
    jobs: Jobs = 2,
    out: Annotated[Path, typer.Option(help="Folder for the figure and its tables.")] = Path("figures"),
    runs: Runs = Path("runs"),
) -> None:
    """Draw a figure: figureN.png and .pdf, with the .csv that it reads.

    Of Figure 2 the record's panels are without weight decay (figure2_panels.csv); figure2.csv, with decay, has every
    estimate: figure2_decayed, the same panels; figure2_estimates, a page of all; figure2_shape.csv.

    The plane is I(h; y) against I(h; x) of every layer over training, three networks, three definitions of h. The short
    versions' files end in _quick, so that they never replace the record. Without --quick or --full nothing is trained.
    """
    if name not in ("1", "2", "plane"):
        reject("N", name, "1, 2 or plane", "name one of the figures")
    if name == "1":
        refuse_all_but(context, ("name", "out"), "none with Figure 1, which is a drawing")
        from vibtheory.figures import gate_block

        _draw(gate_block, out / "figure1")
        return
    if quick and full:
        reject("--full", "together with --quick", "one of them", "leave one out")
    if not (quick or full):
        refuse_all_but(context, ("name", "out"), "--quick or --full beside it")
    mode, train = "quick" if quick else "full", quick or full
    target = out / (("figure2" if name == "2" else "plane") + ("_quick" if quick else ""))
    if name == "2":
        from vibtheory.studies.figure2 import figure2_panels, figure2_table

        panels = target.with_name(f"{target.name}_panels")
        recorded = mode == "full" and (full or panels.with_suffix(".csv").exists())
        undecayed = _table(panels, name, lambda: figure2_panels(runs, jobs), train) if recorded else None
        _figure2(_table(target, name, lambda: figure2_table(mode, runs, jobs), train), undecayed, target)
    else:
        from vibtheory.figures import plane_words, plot_training_plane
        from vibtheory.studies.training_plane import training_plane

        table = _table(target, name, lambda: training_plane(mode, runs / "plane", jobs), train)
        typer.echo(plane_words(table))
        _draw(lambda: plot_training_plane(table), target)


def _table(target: Path, name: str, record: Callable[[], DataFrame], train: bool) -> DataFrame:
    """The figure's table, recorded first or of an earlier call."""
    import pandas as pd

    from vibtheory.storage import write_text

    file = target.with_suffix(".csv")
    if train:
        typer.echo(f"{target.name}: training and measuring", err=True)
        write_text(file, record().to_csv(index=False, float_format="%.7g"))
        typer.echo(f"wrote {file}", err=True)
    elif not file.exists():
        reject("--out", f"no {file}", "the table of an earlier run", f"run vibtheory figure {name} --quick or --full")
    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:
        reject("--out", f"{file} ({error})", "a table that this command wrote", "move the file away and run again")


def _figure2(table: DataFrame, undecayed: DataFrame | None, target: Path) -> None:
    from vibtheory.figures import caption, figure2, figure2_estimates, shape_table, shape_words
    from vibtheory.storage import write_text
    from vibtheory.studies.figure2 import GAMMA

    shape = shape_table(table)
    numbers = target.with_name(f"{target.name}_shape.csv")
    write_text(numbers, shape.to_csv(index=False, float_format="%.5g"))
    typer.echo(f"{shape_words(shape)}\n{caption(shape, GAMMA)}")
    if undecayed is None:
        _draw(lambda: figure2(table, GAMMA, shape), target)
    else:
        _draw(lambda: figure2(undecayed, GAMMA), target)
        _draw(lambda: figure2(table, GAMMA, shape), target.with_name(f"{target.name}_decayed"))
    _draw(lambda: figure2_estimates(table, GAMMA, shape), target.with_name(f"{target.name}_estimates"))
    typer.echo(f"wrote {numbers}", err=True)


def _draw(plot: Callable[[], Figure], target: Path) -> None:
    typer.echo(f"wrote {' and '.join(map(str, draw(plot, target)))}", err=True)
