"""A notebook's cells in a fork of this process, which has the big libraries loaded, on smaller data where that is named.

`full_notebooks.py` runs every notebook whole, each in a kernel of its own; this is the same code on less.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets
import nbformat
from coverage import Coverage
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tests.forks import warm
from vibtheory.teaching import notebooks, pictures

ROOT = Path(__file__).parents[2]
_ = ipywidgets  # imported here, and not in each fork
# Notebook to (what stands there exactly once, what is run instead). Cells changed so, those tagged "within" a factor, and
# those of `FOLLOWING` are not compared with what is committed, but the solutions and the headline table, with the numbers given here, must hold.
SMALLER: dict[str, tuple[tuple[str, str], ...]] = {
    "00_quickstart": (
        ("subset(10_000)", "subset(1_500, 1_000)"),
        ("gamma=0, epochs=14", "gamma=0, epochs=10"),
        ("gamma=7e-4, epochs=12, pretrain_epochs=2, gate_learning_rate=2e-2",
         "gamma=2e-3, epochs=12, pretrain_epochs=4, gate_learning_rate=6e-2"),
        ("repeats=30", "repeats=2"),
        ("dense_error, 5.2, 1.2", "dense_error, 12.0, 3.0"),
        ("small_error, 5.2, 1.5", "small_error, 15.0, 4.0"),
    ),
    "01_information_bottleneck": (
        ("np.geomspace(0.1, 100, 13)", "np.geomspace(0.1, 100, 4)"),
    ),
    "02_variational_bound": (
        ("x = rng.normal(size=400)", "x = rng.normal(size=200)"),
        ("np.linspace(-3.0, 1.5, 10)", "np.linspace(-3.0, 1.5, 4)"),
        ("subset(2000, 1000)", "subset(300, 200)"), ("share, 0.19, 0.08", "share, 0.45, 0.2"),
        ('("distinct zero patterns of 1000", layer.patterns, 1000)',
         '("distinct zero patterns of 200", layer.patterns, 200)'),
    ),
    "06_figure2": (
        ('runs = pd.read_csv(project_file("figures/figure2.csv"))',
         'runs = pd.read_csv(project_file("figures/figure2.csv")).query(\'method == "gaussian"\')'),
    ),
    "03_gates": (("epochs[::4]", "epochs[::20]"),),
    "05_bounds_on_trained_networks": (("subset(3000, 500)", "subset(1000, 300)"), ("subset(1000, 500)", "subset(500, 300)")),
    "08_your_own_model": (
        ("subset(6000, 2000)", "subset(1500, 500)"), ("subset(2000, 500)", "subset(500, 200)"),
        ("after, 3.5, 2.5", "after, 9.0, 5.0"),
        ("gamma=0, epochs=10", "gamma=0, epochs=4"), ("baseline, 3.0, 2.0", "baseline, 9.0, 6.0"), ("gate_learning_rate=3e-2", "gate_learning_rate=8e-2"),
    ),
    "10_from_scratch": (
        ("subset(10_000)", "subset(1_500, 1_000)"),
        ("gamma=7e-4, epochs=14", "gamma=7e-4, epochs=12, gate_rate=4e-2"),
        ("kept, 6.0, 5.0", "kept, 10.0, 9.9"), ("error, 5.5, 2.5", "error, 20.0, 13.0"),
    ),
}  # fmt: skip

# Cells whose numbers follow from a changed one.
FOLLOWING = {
    "05_bounds_on_trained_networks": ("trained = vt.check_trained",),
    "06_figure2": ("print(caption(shape, GAMMA)",),
    "01_information_bottleneck": ("the package refuses to name a number",),
    "02_variational_bound": ("below = table", "zero patterns: {layer.patterns} of 1000"),
}


def smaller(notebook: Any, name: str) -> Any:
    """A copy of the notebook with `SMALLER` of its name in place; changed cells are tagged "varies"."""
    notebook = copy.deepcopy(notebook)
    for old, new in SMALLER.get(name, ()):
        (cell,) = (cell for cell in notebook.cells if old in cell.source)
        assert cell.source.count(old) == 1
        cell.source = cell.source.replace(old, new)
        cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "varies"]
    for words in FOLLOWING.get(name, ()):
        (cell,) = (cell for cell in notebook.cells if words in cell.source)
        cell.metadata["tags"] = [*cell.metadata.get("tags", ()), "varies"]
    for cell in notebook.cells if name in SMALLER else ():
        if any(tag.startswith("within") for tag in cell.metadata.get("tags", ())):
            cell.metadata["tags"] = [*cell.metadata["tags"], "varies"]
    return notebook


def run(notebook: Any, path: Path) -> Any:
    """As `vibtheory.teaching.notebooks.run`, in a fork instead of a kernel: a new notebook with fresh outputs."""
    warm()
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as answer, tempfile.TemporaryDirectory() as profile:
        child = os.fork()
        if child == 0:
            try:
                os.environ |= {"VIBTHEORY_LIVE": "", "IPYTHONDIR": profile}
                # Of a picture only the text is compared: it is drawn small, and without a search for its layout.
                pictures._DPI, ConstrainedLayoutEngine.execute = 20, lambda *_: None
                os.chdir(path.parent)
                with _covered():
                    found = _outputs(notebook, notebooks.solutions(path))
            except BaseException:
                found = traceback.format_exc()
            finally:
                Path(answer.name).write_text(json.dumps(found), encoding="utf-8")
                os._exit(0)
        os.waitpid(child, 0)
        found = json.loads(answer.read() or '"the fork died"')
    if isinstance(found, str):
        raise AssertionError(found)
    done = copy.deepcopy(notebook)
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    for place, (cell, outputs) in enumerate(zip(code, found, strict=True)):
        cell.execution_count, cell.outputs = place + 1, [nbformat.from_dict(output) for output in outputs]
    return notebooks.strip(done)


@contextmanager
def _covered() -> Iterator[None]:
    """Coverage of a fork, if its parent is covered: some figures are drawn by notebooks only."""
    parent = Coverage.current()
    sys.settrace(None)
    own = Coverage(str(ROOT / ".coverage"), data_suffix=True, config_file=str(ROOT / "pyproject.toml"))
    if parent is not None:
        own.start()
    yield
    if parent is not None:
        own.stop()
        own.save()


def _outputs(notebook: Any, solutions: dict[str, str]) -> list[list[dict[str, Any]]]:
    """The outputs of each code cell, in nbformat's form; the solutions run behind them, and must not fail."""
    warnings.resetwarnings()  # pytest's make errors of some; these are Python's own
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)
    shell = ZMQInteractiveShell.instance()
    shell.showtraceback = lambda *_, **__: None  # told by the assertion
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    for source in (*cells, *solutions.values()):
        with shell.display_trap, capture_output() as captured:  # the trap outside: a cell would set its own hook
            result = shell.run_cell(source, store_history=True)
        if not result.success:
            raise AssertionError(f"{captured.stdout[-3000:]}\n{result.error_in_exec or result.error_before_exec}")
        streams = (("stdout", captured.stdout), ("stderr", captured.stderr))
        outputs = [{"output_type": "stream", "name": name, "text": text} for name, text in streams if text]
        shown = [(dict(rich.data or {}), dict(rich.metadata or {})) for rich in captured.outputs]
        outputs += [
            {"output_type": "display_data", "data": {k: v for k, v in data.items() if k.startswith("text/")},
             "metadata": {}} for data, _ in shown
        ]  # fmt: skip
        found.append(outputs)
    return found[: len(cells)]
