"""`vibtheory.figures`: importing it loads no matplotlib, and using every name of it neither torch nor cvxpy."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
import vibtheory.figures as figures
assert "matplotlib" not in sys.modules
for name in figures.__all__:
    getattr(figures, name)
assert {"plot", "save", "tradeoff", "figure2"} <= set(figures.__all__)
print(sorted({"torch", "cvxpy"} & set(sys.modules)))
"""


def test_names_are_loaded_on_use_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
