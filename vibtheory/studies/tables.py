"""Tables 1-4: the paper's printed rows, ours as mean ± standard deviation over seeds, and both side by side.

Printed numbers are never corrected; where they contradict themselves, a note says so beside them (docs/theory.md, M).
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from vibtheory.errors import reject, shown

if TYPE_CHECKING:
    from pandas import DataFrame

    from vibtheory.storage.terminal import Table

__all__ = [
    "DECAYED", "RECIPES", "TITLES", "beside", "check_table", "longest_runs", "markdown", "own_recipe", "published",
    "rendered", "spread", "summarise",
]  # fmt: skip

DECAYED = "_decayed_gates"
"""Ends the network's name in rows of ours whose gates are decayed too (`vibtheory table --decay-gates`)."""

RECIPES = {
    1: ("lenet_300_100",),
    2: ("lenet_5_caffe",),
    3: ("vgg_3_1", "vgg_3_2", "vgg_3_3"),
    4: ("vgg_4_1", "vgg_4_2"),
}
"""Of each table, as rows of ours call them under `network`; a recipe of the user's own goes by its file's name."""

TITLES = {
    1: "Table 1. LeNet-300-100 on MNIST",
    2: "Table 2. LeNet-5-Caffe on MNIST",
    3: "Table 3. VGG on CIFAR-10",
    4: "Table 4. VGG on CIFAR-100",
}
_NUMBERS = ("r_w", "r_n", "flop", "error_last", "error_best")
_RESULT_COLUMNS = ("table", "network", "gamma", "seed", "stage", *_NUMBERS, "architecture", "epochs")


def published(table: int) -> DataFrame:
    """The printed rows.

    Args:
        table: 1 to 4.

    Returns:
        One row per method: method; r_w, r_n, error, error_finetuned in percent and flop_mil in millions of
        multiply-adds (NaN where not printed); architecture, source, note (empty where there is none).

    Raises:
        InvalidInputError: no such table.
    """
    import pandas as pd

    check_table(table, TITLES, "name one of the paper's tables")
    text = dict.fromkeys(("method", "architecture", "source", "note"), str)
    with resources.files("vibtheory").joinpath(f"studies/published/table{table}.csv").open(encoding="utf-8") as stream:
        frame = pd.read_csv(stream, dtype=text)
    return frame.fillna(dict.fromkeys(text, ""))


def check_table(table: object, known: Collection[int], remedy: str) -> None:
    """Raise InvalidInputError about `table`, with `remedy`, unless it is one of the whole numbers `known`."""
    if isinstance(table, bool) or not isinstance(table, int | np.integer) or table not in known:
        *others, last = map(str, known)
        reject("table", shown(table), f"{', '.join(others)} or {last}", remedy)


def summarise(results: DataFrame, table: int) -> DataFrame:
    """Our rows: mean and standard deviation (over seeds, n - 1) for every network, γ and stage; collapsed runs apart.

    Args:
        results: one row per run and stage, with columns table, network, gamma, seed, stage ("pruned" or "finetuned"),
            error_last, error_best, r_w, r_n (percent), flop (multiply-adds), architecture, epochs; perhaps status, row.
        table: which of the paper's tables to take.

    Returns:
        Columns network, gamma, stage, seeds, epochs, architecture (of the seed with the least r_w), status and row
        (where the results have them) and for each number `name` and `name_std` (NaN with one seed); flop in
        multiply-adds.

    Raises:
        InvalidInputError: a column is missing or holds no finite numbers, or no row belongs to the table.
    """
    missing = [column for column in _RESULT_COLUMNS if column not in results.columns]
    if missing:
        reject(
            "results", f"a table without {', '.join(missing)}", "one row per run and stage", "rerun `vibtheory table`"
        )
    odd = [
        name
        for name in ("gamma", *_NUMBERS, "epochs")
        if results[name].dtype.kind not in "iuf" or not np.isfinite(results[name]).all()
    ]
    if odd:
        reject("results", f"other entries in {', '.join(odd)}", "finite numbers there", "rerun `vibtheory table`")
    rows = results[results["table"] == table].reset_index(drop=True)
    if rows.empty:
        reject("results", "no row", f"rows of table {table}", f"run `vibtheory table {table}` first")
    kinds = ["network", "gamma", "stage", *(["status"] if "status" in rows else [])]
    groups = rows.groupby(kinds, sort=True, dropna=False)
    frame = groups[list(_NUMBERS)].mean()
    frame = frame.join(groups[list(_NUMBERS)].std().add_suffix("_std"))
    frame["seeds"] = groups["seed"].nunique()
    frame["epochs"] = groups["epochs"].max()
    frame["architecture"] = rows.loc[groups["r_w"].idxmin()].set_index(kinds)["architecture"]
    if "row" in rows:
        frame["row"] = groups["row"].first()
    return frame.reset_index()


def beside(table: int, results: DataFrame | None = None) -> DataFrame:
    """Printed rows, then ours, as text ready to print: columns method, r_W, r_N, FLOP, error, net, note.

    Ours give the last epoch's test error, and the best epoch's in parentheses, which is what the authors' code reports.
    Raises as `published` and `summarise`.
    """
    import pandas as pd

    rows = [
        {
            "method": row["method"],
            "r_W (%)": _plain(row["r_w"], 2),
            "r_N (%)": _plain(row["r_n"], 2),
            "FLOP (M)": _plain(row["flop_mil"], 3),
            "error (%)": _plain(row["error"], 1)
            + (f" ({row['error_finetuned']:.1f})" if row["error_finetuned"] > 0 else ""),
            "net": row["architecture"],
            "note": row["note"],
        }
        for row in _records(published(table))
    ]
    for row in [] if results is None else _records(summarise(results, table)):
        best = spread(row["error_best"], row["error_best_std"], 2)
        rows.append(
            {
                "method": f"ours{_comparison(row)}, γ = {row['gamma']:g}, {row['stage']}"
                + ", collapsed" * (row.get("status") == "collapsed"),
                "r_W (%)": spread(row["r_w"], row["r_w_std"], 2),
                "r_N (%)": spread(row["r_n"], row["r_n_std"], 2),
                "FLOP (M)": spread(row["flop"] / 1e6, row["flop_std"] / 1e6, 3),
                "error (%)": f"{spread(row['error_last'], row['error_last_std'], 2)} (best epoch {best})",
                "net": row["architecture"],
                "note": f"mean ± std of {row['seeds']} seeds, {row['epochs']} epochs; the smallest net is shown",
            }
        )
    return pd.DataFrame(rows)


def longest_runs(results: DataFrame) -> DataFrame:
    """For the figure: of `results`, the record and the sweep; short runs where a network has neither."""
    longer = results["mode"].ne("quick")
    return results[longer | ~results["network"].isin(set(results.loc[longer, "network"]))]


def _records(frame: DataFrame) -> list[dict[str, Any]]:
    return [dict(zip(frame.columns, values, strict=True)) for values in frame.itertuples(index=False, name=None)]


def _comparison(row: dict[str, Any]) -> str:
    """ " 3.1" where the table has several comparisons, a recipe of the user's own, whether the gates were decayed."""
    name, network = str(row.get("row") or ""), str(row["network"])
    return f" {name}" * bool(name) + own_recipe(network) + " (gates decayed)" * network.endswith(DECAYED)


def own_recipe(network: str) -> str:
    """What tells rows of the user's own recipe apart.

    Args:
        network: what the rows call it.

    Returns:
        " (mine)" for mine.toml; "" for a packaged recipe.
    """
    name = network.removesuffix(DECAYED)
    return "" if any(name in names for names in RECIPES.values()) else f" ({name})"


def _plain(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value == value else "-"  # NaN: not printed


def spread(mean: float, std: float, digits: int) -> str:
    """ "mean ± std" with so many digits; the mean alone where the spread is NaN, as of one seed."""
    return f"{mean:.{digits}f}" + (f" ± {std:.{digits}f}" if std == std else "")


def markdown(frame: DataFrame) -> str:
    """A data frame as a Markdown table; "|" in cells is escaped."""
    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def rendered(frame: DataFrame, title: str = "") -> Table:
    """A data frame as a rich table for the terminal, with `title` above it; our rows in bold."""
    from vibtheory.storage.terminal import Table, Text

    table = Table(*map(str, frame.columns), title=title or None)
    for line in frame.astype(str).to_numpy().tolist():
        table.add_row(*map(Text, line), style="bold" if line[0].startswith("ours") else None)
    return table
