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

_RECIPES = {1: "lenet_300_100", 2: "lenet_5_caffe"}
_MODES = ("full", "curve", "quick")  # the order of precedence in the figure, where two modes have the same γ


def table(
    number: Annotated[int, typer.Argument(metavar="N", help="1 to 4, as in the paper's poster.")],
    network: Annotated[str | None, typer.Option(help="Packaged recipe of that table, or a TOML file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Train the short version first (minutes).")] = False,
    full: Annotated[bool, typer.Option("--full", help="Train the record first: all epochs, five seeds.")] = False,
    curve: Annotated[bool, typer.Option("--curve", help="Train the γ sweep of the figure first.")] = False,
    jobs: Annotated[int, typer.Option(help="Runs side by side.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for tableN.csv and tableN.png.")] = Path("figures"),
    runs: Annotated[Path, typer.Option(help="Folder for the runs; finished ones are not repeated.")] = Path("runs"),
) -> None:
    """Print the published rows of a table with ours beside them, and draw the trade-off.

    Without --quick, --full or --curve nothing is trained: ours are those of the CSV in the output folder.
    """
    from vibtheory.cli.output import drawn
    from vibtheory.experiments import experiment, run_experiment
    from vibtheory.figures.tradeoff import tradeoff
    from vibtheory.storage import write_bytes, write_text
    from vibtheory.tables import TITLES, markdown, published, rendered

    published(number)  # refuses a table that does not exist, before any work
    file = out / f"table{number}.csv"
    results = _read(file)
    modes = [mode for mode, wanted in (("quick", quick), ("full", full), ("curve", curve)) if wanted]
    if modes:
        name = network or _RECIPES.get(number)
        if name is None:
            reject("N", number, "a table with a packaged recipe: 1 or 2", "pass --network FILE.toml with a recipe")
        plan = experiment(name)
        if plan.table != number:
            reject("--network", f"{name}, of table {plan.table}", f"a recipe of table {number}", "name another recipe")
        planned = {mode: plan.jobs(mode) for mode in modes}  # refuses a mode that the recipe lacks
        for mode, tasks in planned.items():
            typer.echo(f"{plan.name}, {mode}: {len(tasks)} runs of {tasks[0][0].epochs} epochs, in {runs}", err=True)
            new = run_experiment(plan, mode, runs=runs, jobs=min(jobs, len(tasks)), progress=sys.stderr.isatty())
            results = _merged(results, new)
            write_text(file, results.to_csv(index=False))
    shown = _beside(number, results)
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rendered(shown, TITLES[number]))
    else:
        typer.echo(f"{TITLES[number]}\n\n{markdown(shown)}", nl=False)
    if modes and results is not None:
        figure = file.with_suffix(".png")
        write_bytes(figure, drawn(lambda: tradeoff(_one_mode_per_gamma(results), number), "png"))
        typer.echo(f"wrote {file} and {figure}", err=True)


def _read(file: Path) -> DataFrame | None:
    """The rows of earlier commands, if any."""
    import pandas as pd

    if not file.exists():
        return None
    try:
        frame = pd.read_csv(file, converters={"gamma": float})  # exactly: γ must compare equal to a new run's
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

    from vibtheory.tables import beside

    printed = beside(number)
    parts = [printed]
    for mode in [] if results is None else [mode for mode in _MODES if mode in set(results["mode"])]:
        assert results is not None
        ours = beside(number, results[results["mode"] == mode]).iloc[len(printed) :].copy()
        ours["method"] += f" ({mode})"
        parts.append(ours)
    if len(parts) == 1:
        how = f"`vibtheory table {number} --quick`" if number in _RECIPES else "needs a GPU"
        row = dict.fromkeys(printed.columns, "not run")
        parts.append(pd.DataFrame([{**row, "method": "ours", "net": "", "note": how}]))
    return pd.concat(parts, ignore_index=True)


def _one_mode_per_gamma(results: DataFrame) -> DataFrame:
    """For the figure: each γ of a network once, from the record if it is there, else the sweep, else the short run."""
    rank = results["mode"].map({mode: place for place, mode in enumerate(_MODES)})
    best = rank.groupby([results["network"], results["gamma"]]).transform("min")
    return results[rank == best]
