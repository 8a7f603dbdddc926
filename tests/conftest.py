"""Long files first, so that the processes of `make test` end together (it hands files out in this order).

A test that stands still fails (tests/limits.py).
"""

from __future__ import annotations

import gc
import os
from collections.abc import Generator

import pytest

from tests import limits

# Seconds of computing, measured once: only the order matters. Files that are not named take less than 4.
SECONDS = {
    "notebooks/test_notebooks.py": 40, "robustness/test_torture.py": 28, "studies/test_sweep.py": 20,
    "information/test_from_samples.py": 19, "claims/test_planted.py": 18, "compression/test_compression.py": 16,
    "cli/test_table.py": 15, "bridge/test_layer_information.py": 15, "test_mutations.py": 15,
    "bridge/test_bounds.py": 13, "test_seeds.py": 11, "claims/test_ledger.py": 11,
    "cli/test_commands.py": 11, "networks/test_transformers.py": 10,
    "figures/test_figure2.py": 10, "test_security.py": 9, "compression/test_strangers.py": 8,
    "training/test_resume.py": 8, "training/test_shrinking.py": 8, "studies/test_vgg_end_to_end.py": 8,
    "training/test_distributed.py": 7, "bridge/test_checking.py": 7, "compression/test_zoo.py": 7,
    "cli/test_check.py": 7, "test_imports.py": 7, "test_docs.py": 7, "claims/test_recorded.py": 7,
    "notebooks/test_teaching.py": 6, "notebooks/test_gallery.py": 6, "training/test_many.py": 6,
    "studies/test_training_plane.py": 5, "information/test_calibration.py": 5, "studies/test_experiments.py": 5,
    "training/test_single.py": 5, "theory/test_path.py": 5, "information/test_bottleneck.py": 5,
    "robustness/test_environment.py": 5, "information/test_known_conditional.py": 4, "cli/test_readme.py": 4,
    "studies/test_propositions.py": 4, "networks/test_vgg.py": 4,
}  # fmt: skip

# What a test left for the collector goes before a fork: in the child an onnxruntime session would wait for threads that
# only its parent has, for ever.
os.register_at_fork(before=gc.collect)

STACKS = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STACKS] = limits.watch()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    place = {config.rootpath / "tests" / name: rank for rank, name in enumerate(SECONDS)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    with limits.limited():
        return (yield)
