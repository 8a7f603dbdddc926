"""Every committed notebook whole, each in a kernel of its own: what it says is what is committed.

Not collected by default, since `make test` runs the same cells on less (`executing`). Run it with

    make whole-notebooks
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebooks import comparing
from vibtheory.teaching import notebooks

LONG = "08", "05", "00", "02", "06", "10"  # first, so that no worker is left with one of them at the end
PATHS = sorted(
    (Path(__file__).parents[2] / "notebooks").glob("*.ipynb"),
    key=lambda path: (*(path.stem[:2] != long for long in LONG), path.stem),
)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_runs_again_and_says_the_same(path):
    committed = notebooks.read(path)
    fresh = notebooks.run(committed, path, timeout=3600)  # a limit for hangs; busy machines are slow
    assert comparing.differences(committed, fresh) == []
    assert "expected" in comparing.printed(fresh.cells[-1])  # the headline table
