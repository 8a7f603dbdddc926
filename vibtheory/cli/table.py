"""`vibtheory table N`: published rows beside ours; trains first if asked to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vibtheory.errors import reject

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["table"]

_RECIPES = {
    1: ("lenet_300_100",),
    2: ("lenet_5_caffe",),
    3: ("vgg_3_1", "vgg_3_2", "vgg_3_3"),
    4: ("vgg_4_1", "vgg_4_2"),
}
_PATIENCE = 120.0  # seconds for another command to let go of the output folder, which it holds for a moment
_MODES = ("full", "curve", "quick")  # the order of precedence in the figure, where two modes have the same γ


def table(
    number: Annotated[int, typer.Argument(metavar="N", help="1 to 4, as in the paper's poster.")],
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    accelerate: Annotated[str, typer.Option(help="none, compile, graph or compile+graph.")] = "none",
    root: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    figure: Annotated[bool, typer.Option("--figure", help="Draw the figure even if nothing was trained.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for tableN.csv and tableN.png.")] = Path("figures"),
    runs: Annotated[Path, typer.Option(help="Folder for the runs; finished ones are not repeated.")] = Path("runs"),
) -> None:
    """Print the published rows of a table with ours beside them, and draw the trade-off.

    Without --quick, --full or --curve nothing is trained: ours are those of the CSV in the output folder. New rows
    replace those of the same mode and network there; the others stay, also those that another command adds meanwhile.
    """
    from vibtheory.cli.output import drawn
    from vibtheory.figures import tradeoff
    from vibtheory.storage import locked, write_bytes, write_text
    from vibtheory.studies.experiments import experiment
    from vibtheory.studies.table_runs import run_experiment
    from vibtheory.studies.tables import TITLES, markdown, published, rendered

    published(number)  # refuses a table that does not exist, before any work
    file = out / f"table{number}.csv"
    results = _read(file)
    modes = [mode for mode, wanted in (("quick", quick), ("full", full), ("curve", curve)) if wanted]
    plans = [experiment(name) for name in ([network] if network else _RECIPES[number])]
    for plan in plans:
        if plan.table != number:
            reject(
                "--network", f"{plan.name}, of table {plan.table}", f"a recipe of table {number}", "name another one"
            )
    if row is not None:
        known = [plan.row for plan in plans if plan.row]
        plans = [plan for plan in plans if plan.row == row]
        if not plans:
            reject(
                "--row", row, f"one of {', '.join(known) or 'none: this table has one comparison'}", "name one of them"
            )
    if decay_gates:
        plans = [plan.with_decayed_gates() for plan in plans]
    planned = [(plan, mode, plan.jobs(mode)) for plan in plans for mode in modes]  # refuses a mode that a recipe lacks
    if planned:
        with locked(out, wait=_PATIENCE):
            pass  # can it be written? Now, not after hours of training
    for plan, mode, tasks in planned:
        typer.echo(f"{plan.name}, {mode}: {len(tasks)} runs of {tasks[0][0].epochs} epochs, in {runs}", err=True)
        side_by_side = min(jobs, 1 if plan.row else len(tasks))
        new = run_experiment(plan, mode, runs=runs, jobs=side_by_side, progress=sys.stderr.isatty(),
                             device=device, root=root, accelerate=accelerate)  # fmt: skip
        with locked(out, wait=_PATIENCE):  # read again: another command may have added rows since
            results = _merged(_read(file), new)
            write_text(file, results.to_csv(index=False))
    shown = _beside(number, results)
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rendered(shown, TITLES[number]))
    else:
        typer.echo(f"{TITLES[number]}\n\n{markdown(shown)}", nl=False)
    if figure or modes:
        picture = file.with_suffix(".png")
        with locked(out, wait=_PATIENCE):  # the picture of what the CSV holds now, whoever wrote it last
            results = _read(file)
            points = None if results is None else _drawn_rows(results)
            write_bytes(picture, drawn(lambda: tradeoff(points, number), "png"))
        typer.echo(f"wrote {f'{file} and ' if modes else ''}{picture}", err=True)


def _read(file: Path) -> DataFrame | None:
    """The rows of earlier commands, if any."""
    import pandas as pd

    if not file.exists():
        return None
    try:
        frame = pd.read_csv(
            file, converters={"gamma": float, "row": str}
        )  # exactly: γ must compare equal to a new run's
    except (OSError, ValueError) as error:
        reject("--out", f"{file} ({error})", "a table that this command wrote", "move the file away and run again")
    missing = {"mode", "network", "gamma", "stage", "seed"} - set(frame.columns)
    if missing:
        reject("--out", f"{file} without the columns {', '.join(sorted(missing))}", "a table that this command wrote",
               "move the file away and run again")  # fmt: skip
    return frame


def _merged(old: DataFrame | None, new: DataFrame) -> DataFrame:
    """All rows; those of the new rows' mode and network replace the old ones."""
    import pandas as pd

    if old is None:
        return new
    keys = set(zip(new["mode"], new["network"], strict=True))
    stays = [pair not in keys for pair in zip(old["mode"], old["network"], strict=True)]
    return pd.concat([old[stays], new], ignore_index=True)


def _beside(number: int, results: DataFrame | None) -> DataFrame:
    """Printed rows, then ours for each mode apart (they differ in epochs and seeds), or "not run"."""
    import pandas as pd

    from vibtheory.studies.tables import beside

    printed = beside(number)
    parts = [printed]
    for mode in [] if results is None else [mode for mode in _MODES if mode in set(results["mode"])]:
        assert results is not None
        ours = beside(number, results[results["mode"] == mode]).iloc[len(printed) :].copy()
        ours["method"] += f" ({mode})"
        parts.append(ours)
    blank = {**dict.fromkeys(printed.columns, "not run"), "net": ""}
    full = pd.DataFrame() if results is None else results[results["mode"] == "full"]
    done = set(full["row"].astype(str)) if "row" in full else set()
    rows = _rows_of(number)
    if results is None and not rows:
        parts.append(pd.DataFrame([{**blank, "method": "ours", "note": f"`vibtheory table {number} --quick`"}]))
    for row in (row for row in rows if row not in done):
        note = f"`vibtheory table {number} --full --row {row} --device cuda`"
        parts.append(pd.DataFrame([{**blank, "method": f"ours {row}", "note": note}]))
    return pd.concat(parts, ignore_index=True)


def _rows_of(number: int) -> list[str]:
    """The comparisons of a table that has several, such as 3.1, 3.2, 3.3."""
    from vibtheory.studies.experiments import experiment

    return [row for row in (experiment(name).row for name in _RECIPES[number]) if row]


def _drawn_rows(results: DataFrame) -> DataFrame:
    """For the figure: the record and the sweep, each on its own; short runs where a network has neither."""
    longer = results["mode"].ne("quick")
    return results[longer | ~results["network"].isin(set(results.loc[longer, "network"]))]
