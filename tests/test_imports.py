"""Who may import whom (docs: the layout table), and how little `import vibtheory` loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vibtheory

PACKAGE = Path(vibtheory.__file__).parent
HEAVY = {"torch", "cvxpy", "pooch", "torch_pruning", "pandas", "matplotlib"}
# part of the package: modules that no file there may import, at any depth
FORBIDDEN = {
    "errors.py": HEAVY | {"scipy", "vibtheory.theory", "vibtheory.gates"},
    "theory": {
        "torch",
        "torch_pruning",
        "vibtheory.gates",
        "vibtheory.networks",
        "vibtheory.training",
        "vibtheory.bridge",
    },
    "datasets": {"torch", "cvxpy", "vibtheory.theory", "vibtheory.gates", "vibtheory.training"},
    "information": {"cvxpy", "vibtheory.training", "vibtheory.bridge", "vibtheory.networks"},
    "gates.py": {"cvxpy", "vibtheory.theory", "vibtheory.bridge", "vibtheory.training"},
    "networks.py": {"cvxpy", "vibtheory.theory", "vibtheory.bridge", "vibtheory.training"},
    "training.py": {"cvxpy", "vibtheory.theory", "vibtheory.bridge"},
    "compression.py": {"cvxpy", "vibtheory.theory", "vibtheory.bridge", "vibtheory.training"},
    "metrics.py": {"cvxpy", "vibtheory.theory", "vibtheory.bridge", "vibtheory.training"},
    "counting.py": HEAVY | {"numpy"},
}


def _files(part: str) -> list[Path]:
    path = PACKAGE / part
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Every module imported at run time; `if TYPE_CHECKING:` blocks are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hints = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("part", FORBIDDEN)
def test_import_rules(part: str) -> None:
    files = _files(part)
    assert files
    for path in files:
        for name in _imports(path):
            bad = {f for f in FORBIDDEN[part] if name == f or name.startswith(f + ".")}
            assert not bad, f"{path.relative_to(PACKAGE)} imports {name}"


def test_the_rules_see_an_import(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "def f():\n    from torch.nn import functional\nif TYPE_CHECKING:\n    import cvxpy\n", encoding="utf-8"
    )
    assert _imports(file) == {"torch.nn", "torch.nn.functional"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import vibtheory", HEAVY),
        ("import vibtheory; vibtheory.theory", {"torch"}),
        ("import vibtheory; vibtheory.datasets.load('mnist')", {"torch", "cvxpy", "pooch", "torch_pruning"}),
        ("from vibtheory import metrics, networks, training", {"cvxpy", "pooch", "torch_pruning"}),
    ],
)
def test_what_is_loaded(statement: str, absent: set[str]) -> None:
    code = f"import sys\n{statement}\nprint(*[m for m in {sorted(absent)!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
