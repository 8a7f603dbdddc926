"""`vibtheory figure N`: Figure 1 as a drawing; Figure 2 from its table, trained and measured first if asked to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vibtheory.errors import reject

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["figure"]


def figure(
    number: Annotated[int, typer.Argument(metavar="N", help="1 or 2, as on the paper's poster.")],
    quick: Annotated[bool, typer.Option("--quick", help="Figure 2: train the short version first (minutes).")] = False,
    full: Annotated[bool, typer.Option("--full", help="Figure 2: train the record first (hours).")] = False,
    jobs: Annotated[int, typer.Option(help="Runs side by side.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for the figure and its tables.")] = Path("figures"),
    runs: Annotated[Path, typer.Option(help="Folder for the runs; finished ones are not repeated.")] = Path("runs"),
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
        from vibtheory.figures.gate_block import gate_block

        _draw(gate_block, out / "figure1")
        return
    if quick and full:
        reject("--full", "together with --quick", "one of them", "leave one out")
    _figure2("quick" if quick else "full", train=quick or full, jobs=jobs, out=out, runs=runs)


def _figure2(mode: str, *, train: bool, jobs: int, out: Path, runs: Path) -> None:
    import pandas as pd

    from vibtheory.figures.figure2 import figure2
    from vibtheory.figures.figure2_caption import caption
    from vibtheory.figures.figure2_shape import shape_table
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
    typer.echo(f"{_words(shape)}\n{caption(shape, GAMMA)}")
    _draw(lambda: figure2(table, GAMMA, shape), target)
    typer.echo(f"wrote {file} and {numbers}", err=True)


def _words(shape: DataFrame) -> str:
    """The table as text: what each estimate does, when it turns, and how it goes with r_W."""
    import pandas as pd

    from vibtheory.studies.tables import markdown

    lines = []
    for row in shape.to_dict("records"):
        curve = row["net"] != "all VIBNets"
        levels = f"{row['start']:.4g} → {row['top']:.4g} → {row['end']:.4g}"
        lines.append(
            {
                "method": row["method"],
                "τ": f"{row['tau']:g}",
                "net": row["net"] + (f", γ = {row['gamma']:g}" if row["net"] == "VIBNet" else ""),
                "shape": row["shape"] if curve else "",
                "start → top → end (nats)": levels if curve else "",
                "turns at epoch": f"{row['turn']:g} ({row['turn_low']:g}…{row['turn_high']:g})" if curve else "",
                "Spearman ρ(I, r_W)": _interval(row, "spearman"),
                "of the last epochs": _interval(row, "spearman_last"),
            }
        )
    return "Figure 2 in numbers (95 % intervals over seeds)\n\n" + markdown(pd.DataFrame(lines))


def _interval(row: dict[Hashable, Any], name: str) -> str:
    value, low, high = (float(row.get(f"{name}{end}", math.nan)) for end in ("", "_low", "_high"))
    if math.isnan(value):
        return ""
    return f"{value:.2f}" + ("" if math.isnan(low) else f" [{low:.2f}, {high:.2f}]")


def _draw(plot: Callable[[], Figure], target: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from vibtheory.figures.style import save

    drawing = plot()
    written = save(drawing, target)
    plt.close(drawing)
    typer.echo(f"wrote {' and '.join(map(str, written))}", err=True)
