"""A ledger's effort cut down to seconds: the same deciders on few instances."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from vibtheory.claims.instances import Effort


@dataclass(frozen=True, eq=False)
class Tiny(Effort):
    """A fiftieth of the quick instances, at least two."""

    def size(self, quick: int, full: int) -> int:
        return max(2, quick // 50)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """With an empty folder of recorded tables."""
    return Tiny("quick", 0, Path(tmp_path_factory.mktemp("figures")))
