"""Who may import whom (docs: the layout table), and how little `import vibtheory` loads."""

from __future__ import annotations

import ast
import math
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import vibtheory

PACKAGE = Path(vibtheory.__file__).parent
HEAVY = {"torch", "cvxpy", "pooch", "torch_pruning", "pandas", "matplotlib", "pydantic"}
# The folders in the order in which data flows: each imports only from those above it.
ORDER = (
    "errors",
    "storage",
    "theory",
    "information",
    "datasets",
    "networks",
    "compression",
    "training",
    "bridge",
    "studies",
    "figures",
    "claims",
    "teaching",
    "cli",
    "__main__",
)
TORCH_FREE = ("errors", "theory", "datasets", "figures")


def _modules(root: Path = PACKAGE) -> dict[str, Path]:
    """Every module of the package by its dotted name below `root`; the top package itself is ""."""
    return {".".join(p.relative_to(root).with_suffix("").parts).removesuffix("__init__").rstrip("."): p
            for p in sorted(root.rglob("*.py"))}  # fmt: skip


@cache
def _imports(path: Path) -> set[str]:
    """Every module that the file imports anywhere: inside functions and under `if TYPE_CHECKING:` too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _graph(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Module → the modules of the package that it imports (a name of a folder counts as the folder's `__init__`)."""
    graph = {}
    for name, path in modules.items():
        inner = {found.removeprefix("vibtheory.") for found in _imports(path) if found.startswith("vibtheory.")}
        deeper = {found for found in inner if found in modules}
        graph[name] = {d for d in deeper if not any(other.startswith(d + ".") for other in deeper)} - {name}
    return graph


def _circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_folders_import_only_from_those_above() -> None:
    graph = _graph(_modules())
    assert {name.split(".")[0] for name in graph} == {"", *ORDER}
    wrong = [
        f"{name} imports {other}"
        for name, others in graph.items()
        if name
        for other in others
        if ORDER.index(other.split(".")[0]) > ORDER.index(name.split(".")[0])
    ]
    assert not wrong


def test_no_circle_of_any_kind() -> None:
    """Between modules: a folder's `__init__` only re-exports, so it is left out as an importer."""
    modules = _modules()
    graph = _graph(modules)
    assert not _circle({name: others for name, others in graph.items() if modules[name].name != "__init__.py"})


@pytest.mark.parametrize("part", TORCH_FREE)
def test_never_imports_torch(part: str) -> None:
    files = [path for name, path in _modules().items() if name.split(".")[0] == part]
    assert files
    for path in files:
        assert not {found.split(".")[0] for found in _imports(path)} & {"torch", "torch_pruning"}, path


def test_the_rules_see_an_import(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    from vibtheory.b import x\n", encoding="utf-8")
    (tmp_path / "b.py").write_text("if TYPE_CHECKING:\n    from vibtheory import a\n", encoding="utf-8")
    (tmp_path / "c.py").write_text("from vibtheory.a import f\n", encoding="utf-8")
    graph = _graph(_modules(tmp_path))
    assert graph == {"a": {"b"}, "b": {"a"}, "c": {"a"}}
    assert set(_circle(graph)) == {"a", "b"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import vibtheory", HEAVY),
        ("import vibtheory; vibtheory.theory", {"torch"}),
        ("import vibtheory; vibtheory.datasets.load('mnist')", {"torch", "cvxpy", "pooch", "torch_pruning"}),
        ("from vibtheory import networks, training", {"cvxpy", "pooch", "torch_pruning"}),
    ],
)
def test_what_is_loaded(statement: str, absent: set[str]) -> None:
    code = f"import sys\n{statement}\nprint(*[m for m in {sorted(absent)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "cvxpy", "numba", "torch_pruning"}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
import numpy as np
from vibtheory import figures, information, teaching, theory
minimum = theory.find_local_minimum(theory.QuadraticBound(np.eye(2), b=[-3.0, 0.1], c=0.0, gamma=0.2))
(m, _), (v, _) = minimum.mu, minimum.sigma**2
coins = information.discrete_memoryless(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0.5, 0.5]))
assert figures.gate_block().axes and teaching.check
print(*(float(number) for number in (m, v, minimum.mu[1], coins)))
"""


def test_theory_information_figures_and_teaching_work_without_torch_cvxpy_and_numba() -> None:
    """As in a browser; the minimum of μ² − 3μ + σ² + γ log(1 + μ²/σ²) by its two conditions, the coins by hand."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mu, variance, closed, coins = map(float, done.stdout.split())
    assert mu > 1
    assert 2 * mu - 3 + 2 * 0.2 * mu / (mu**2 + variance) == pytest.approx(0, abs=1e-6)
    assert 1 - 0.2 * mu**2 / (variance * (variance + mu**2)) == pytest.approx(0, abs=1e-6)
    assert closed == 0
    assert coins == pytest.approx(math.log(2) + 0.1 * math.log(0.1) + 0.9 * math.log(0.9), abs=1e-12)


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("*.pyi")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lazy_names_are_there_before_anything_else_was_used(stub: Path) -> None:
    """A name that is a module of a folder below is found only if that folder's `__init__` imports it."""
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        folder = stub.parent.joinpath(*node.module.split("."))
        for name in (alias.name for alias in node.names):
            if (folder / f"{name}.py").exists():
                assert f"vibtheory.{node.module}.{name}" in _imports(folder / "__init__.py"), name
