"""Long files first, so that the processes of `make test` end together (it hands files out in this order)."""

from __future__ import annotations

import pytest

# Seconds of computing, measured once: only the order matters. Files that are not named take less than 4.
SECONDS = {
    "notebooks/test_notebooks.py": 60, "test_mutations.py": 27, "claims/test_planted.py": 27,
    "claims/test_ledger.py": 23, "robustness/test_torture.py": 21, "test_seeds.py": 18,
    "bridge/test_layer_information.py": 15, "information/test_known_conditional.py": 14,
    "compression/test_compression.py": 14, "training/test_distributed.py": 14, "studies/test_sweep_cluster.py": 13,
    "studies/test_sweep.py": 13, "networks/test_insertion.py": 12, "figures/test_figure2.py": 12,
    "training/test_shrinking.py": 11, "information/test_from_samples.py": 11, "test_imports.py": 10,
    "notebooks/test_gallery.py": 9, "cli/test_check.py": 8, "studies/test_training_plane.py": 7, "cli/test_table.py": 7,
    "training/test_budget.py": 6, "test_docs.py": 6, "cli/test_commands.py": 6, "cli/test_compress.py": 5,
    "figures/test_gate_block.py": 5, "figures/test_loading.py": 5, "studies/test_vgg_end_to_end.py": 5,
    "notebooks/test_teaching.py": 4, "training/test_single.py": 4, "theory/test_stress.py": 4,
    "training/test_strangers.py": 4,
}  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    place = {config.rootpath / "tests" / name: rank for rank, name in enumerate(SECONDS)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
