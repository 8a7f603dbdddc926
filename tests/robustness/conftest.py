"""The intact files that the robustness tests spoil, made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.forks import warm
from tests.robustness.families import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here, folder = Path.cwd(), tmp_path_factory.mktemp("prepared")
    try:
        prepare(folder)
        warm()
    finally:
        os.chdir(here)
    return folder
