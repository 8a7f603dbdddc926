"""Run a notebook as it is committed, with its exercises' solutions; keep nothing in it that changes from run to run.

The solutions of notebooks/NAME.ipynb are the cells of notebooks/solutions/NAME.py, each behind a line "# %% 01.2".
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from vibtheory.errors import DataError, MissingDependencyError
from vibtheory.storage.files import write_text

__all__ = ["module", "read", "run", "solutions", "strip", "summary", "write"]

_SOLUTION = re.compile(r"^# %% (\d\d\.\d+).*$", re.MULTILINE)


def read(path: str | Path) -> Any:
    """The notebook at `path` (nbformat 4).

    Raises:
        DataError: missing or no notebook.
        MissingDependencyError: nbformat is not installed.
    """
    nbformat = module("nbformat")
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, nbformat.reader.NotJSONError) as error:
        raise DataError(f"{path}: {error}. Remedy: pass a .ipynb file") from error


def write(notebook: Any, path: str | Path) -> None:
    """Write `notebook`, atomically."""
    write_text(Path(path), module("nbformat").writes(notebook) + "\n")


def solutions(path: str | Path) -> dict[str, str]:
    """The solutions' code of the notebook at `path`, by the exercise's number; each ends in a `check` that holds."""
    file = Path(path).parent / "solutions" / f"{Path(path).stem}.py"
    parts = _SOLUTION.split(file.read_text(encoding="utf-8"))[1:] if file.exists() else []
    return dict(zip(parts[::2], parts[1::2], strict=True))


def summary(notebook: Any) -> tuple[str, str]:
    """Title and first paragraph of the notebook's first Markdown cell."""
    lines = notebook.cells[0].source.strip().splitlines()
    paragraph: list[str] = []
    for line in lines[1:]:
        if line.strip():
            paragraph.append(line.strip())
        elif paragraph:
            break
    return lines[0].lstrip("# ").strip(), " ".join(paragraph)


def run(notebook: Any, path: str | Path, *, live: bool = False, frames: bool = False, timeout: int = 3600) -> Any:
    """Execute all cells, then each solution, in a fresh kernel; returns a new notebook without the solutions.

    Args:
        notebook: as `read` returns it; left as it is.
        path: where it stands: its folder is the kernel's working directory, and has the solutions.
        live: train instead of reading records.
        frames: explorers with every setting's picture, as the gallery shows them.
        timeout: seconds per cell, against hangs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell or a solution failed.
        MissingDependencyError: nbclient is not installed.
    """
    nbclient, v4 = module("nbclient"), module("nbformat").v4
    job = v4.new_notebook(cells=[v4.new_code_cell(c.source) if c.cell_type == "code" else v4.new_markdown_cell("")
                                 for c in notebook.cells])  # fmt: skip
    job.cells += [v4.new_code_cell(code) for code in solutions(path).values()]
    with tempfile.TemporaryDirectory() as profile:
        environment = os.environ | {
            "VIBTHEORY_LIVE": "1" if live else "",
            "VIBTHEORY_FRAMES": "1" if frames else "",
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "IPYTHONDIR": profile,
        }
        client = nbclient.NotebookClient(
            job, timeout=timeout, kernel_name="python3", record_timing=False,
            resources={"metadata": {"path": str(Path(path).parent)}},
        )  # fmt: skip
        client.execute(env=environment)
    done = v4.new_notebook(cells=[c.copy() for c in notebook.cells])
    for cell, fresh in zip(done.cells, job.cells, strict=False):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = fresh.outputs, fresh.execution_count
    return strip(done)


def strip(notebook: Any) -> Any:
    """Remove what differs between equal runs or needs a kernel: widget models, timings, versions."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:02d}"
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
        if "outputs" in cell:
            cell.outputs = _joined(cell.outputs)
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data = {k: v for k, v in output.data.items() if "widget" not in k}
                output.metadata = {k: v for k, v in output.metadata.items() if k.startswith("image/")}
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Consecutive pieces of one stream as one: where a kernel cuts them is chance."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def module(name: str) -> Any:
    """The optional module `name`, or MissingDependencyError with the extra that brings it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependencyError(f"{name} is not installed. Remedy: pip install 'vibtheory[notebooks]'") from error
