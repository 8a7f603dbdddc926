"""Long files first, so that the processes of `make test` end together (it hands files out in this order)."""

from __future__ import annotations

import pytest

# Seconds of computing, measured once: only the order matters. Files that are not named take less than 4.
SECONDS = {
    "notebooks/test_notebooks.py": 35, "studies/test_sweep.py": 32, "studies/test_sweep_cluster.py": 30,
    "robustness/test_torture.py": 22, "test_mutations.py": 21, "figures/test_figure2.py": 16, "cli/test_check.py": 11,
    "test_docs.py": 11, "robustness/test_environment.py": 10, "information/test_bottleneck.py": 9,
    "cli/test_commands.py": 9, "training/test_distributed.py": 8, "cli/test_table.py": 8,
    "training/test_shrinking.py": 8, "training/test_resume.py": 8, "studies/test_vgg_end_to_end.py": 7,
    "compression/test_compression.py": 7, "notebooks/test_gallery.py": 6, "training/test_single.py": 6,
    "training/test_many.py": 6, "bridge/test_bounds.py": 5, "cli/test_readme.py": 4, "notebooks/test_teaching.py": 4,
}  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    place = {config.rootpath / "tests" / name: rank for rank, name in enumerate(SECONDS)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
