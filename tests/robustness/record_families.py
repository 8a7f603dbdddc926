"""Two more families of spoiled input: recorded tables (the ledger and Figure 2 read them), rows of finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from tests.robustness.asking import Wrong, call, told
from tests.robustness.damage import JUNK, damaged, deep, replaced
from tests.robustness.kills import sweep_of, table_of
from vibtheory.claims import Effort
from vibtheory.cli import app

__all__ = ["prepare_records", "recorded", "rows"]

FIGURES = Path(__file__).resolve().parents[2] / "figures"
CLAIMED = {"table1.csv": "Table 1", "table2.csv": "Table 2", "figure2.csv": "Figure 2 left",
           "width_study.csv": "Larger base"}  # fmt: skip
READ = {
    "check_lenet_300_100.csv": (("layer", "kind", "rank", "vacuous"), ("rank", "vacuous")),
    "budget_lenet_300_100.csv": (("layer", "gamma", "survivors", "budget", "certificate"), ()),
    "dead_units_lenet_300_100.csv": (("layer", "unit", "proposition", "data_gradient", "verdict"), ()),
    "relu_zeros.csv": (("zero_share",), ()),
}


def prepare_records(folder: Path) -> None:
    """The project's own tables, Figure 2's cut down to few points; a sweep and a table's runs, with what they give."""
    records = folder / "records"
    records.mkdir()
    for name in (*CLAIMED, *READ):
        table = pd.read_csv(FIGURES / name)
        if name == "figure2.csv":
            few = table["method"].isin(["gaussian", "plain"]) & table["gamma"].isin([0.0, 1e-4])
            table = table[
                few & table["tau"].isin([0.0, 0.01]) & table["epoch"].isin([0, 12, 200]) & (table["seed"] < 2)
            ]
        table.to_csv(records / name, index=False)
    (records / "table1.png").write_bytes((FIGURES / "table1.png").read_bytes())
    for name, run in (("sweep", sweep_of), ("table", table_of)):
        (folder / f"{name}.txt").write_text(_bare(run(folder / f"{name}_runs")), encoding="utf-8")


def _bare(table: pd.DataFrame) -> str:
    return table.drop(columns="seconds").to_csv(index=False)


def _spoiled(rng: np.random.Generator, content: bytes) -> bytes:
    """A CSV with one cell or column of junk, a column or a row less, or damaged bytes."""
    kind = int(rng.integers(5))
    if kind == 0:
        return damaged(rng, content)
    lines = [line.split(",") for line in content.decode().splitlines()]
    column, junk = int(rng.integers(len(lines[0]))), str(JUNK[int(rng.integers(len(JUNK)))])[:50].replace(",", ";")
    if kind == 1:
        lines = [line[:column] + line[column + 1 :] for line in lines]
    elif kind == 2:
        for line in lines[1:]:
            line[column] = junk
    elif kind == 3:
        lines[int(rng.integers(1, len(lines)))][column] = junk
    else:
        del lines[int(rng.integers(len(lines)))]
    return "\n".join(map(",".join, lines)).encode("utf-8", "replace") + b"\n"


def recorded(rng: np.random.Generator, _: Path) -> str:
    """A recorded table, read by the ledger or drawn as Figure 2; or a figure beside it that is no picture."""
    name = [*CLAIMED, *READ, "table1.png"][int(rng.integers(len(CLAIMED) + len(READ) + 1))]
    path = Path("records") / name
    path.write_bytes(_spoiled(rng, path.read_bytes()) if name.endswith(".csv") else damaged(rng, path.read_bytes()))
    if name in READ:
        columns, optional = READ[name]
        found = call(lambda: Effort("full", 0, Path("records")).rows(name, columns, optional))
        if found is not None and not all(set(columns) <= set(row) for row in found):
            raise Wrong("rows without the columns that were asked for")
        return "refused" if found is None else "right"
    if name == "figure2.csv" and rng.random() < 0.3:
        return _last_line("figure", "2", "--out", "records")
    number = CLAIMED.get(name, "Table 1")
    return _last_line("claims", "--only", number, "--figures", "records", "--out", "out")


def _last_line(*arguments: str) -> str:
    """Run a command that may say more than its error: refused if its last line is one, with a remedy."""
    result = CliRunner().invoke(app, arguments)
    if result.exit_code not in (0, 1, 2) or "Traceback" in result.output:
        raise Wrong(f"exit code {result.exit_code}: {result.output[-300:]} {result.exception!r}")
    if result.exit_code != 2:
        return "right"
    last = result.stderr.strip().splitlines()[-1]
    if not last.startswith("error: ") or "emedy" not in last:
        raise Wrong(f"no line with a remedy: {result.output[-300:]}")
    return "refused"


def rows(rng: np.random.Generator, _: Path) -> str:
    """The rows that a finished run of a sweep or a table left: damaged, or changed on purpose."""
    name, run = [("sweep", sweep_of), ("table", table_of)][int(rng.integers(2))]
    runs = Path(f"{name}_runs")
    files = sorted(path for path in runs.rglob("*.json") if "rows" in path.name)
    path = files[int(rng.integers(len(files)))]
    kind = int(rng.integers(4))
    if kind == 0:
        path.write_bytes(damaged(rng, path.read_bytes()))
    elif kind == 1:
        path.write_text(json.dumps(replaced(rng, json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    elif kind == 2:
        path.write_bytes([b"[]", b"{}", b"null", b"[[]]", deep().encode(), b'{"epochs": []}', b'{"epochs": null}',
                          b'[{"gamma": "x"}]', b"[{}]"][int(rng.integers(9))])  # fmt: skip
    else:
        other = files[int(rng.integers(len(files)))]
        path.write_bytes(other.read_bytes())
    table: Any = call(lambda: run(runs))
    return told("" if table is None else _bare(table), Path(f"{name}.txt").read_text(encoding="utf-8"))


Family = Callable[[np.random.Generator, Path], str]
