"""The regular net whose predictions the fine-tuning of a table's runs follows: trained once, kept beside the runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vibtheory import datasets
from vibtheory.networks.registry import build
from vibtheory.training.run import load
from vibtheory.training.single import train

if TYPE_CHECKING:
    from vibtheory.studies.experiments import Experiment

__all__ = ["fingerprint", "trained_teacher"]


def trained_teacher(
    plan: Experiment, runs: Path, progress: bool, device: str, root: str | Path | None
) -> nn.Module | None:
    """The trained net of the plan's shape without gates, read back where it was trained before; None without a teacher.

    Args:
        plan: from `vibtheory.studies.experiments.experiment`.
        runs: folder of the runs; a teacher that was stopped in training goes on from its checkpoint there.
        progress, device, root: as in `vibtheory.studies.experiments.run_experiment`.

    Raises:
        CheckpointError, DataError, DivergedError: from data and training.
    """
    if plan.teacher is None:
        return None
    identity = fingerprint([plan.network, plan.arguments, plan.dataset, plan.teacher.to_dict()])
    folder = runs / f"{plan.name}-teacher-{identity}"
    if (folder / "run.json").exists():
        return load(folder).net
    data = datasets.load(plan.dataset) if root is None else datasets.load(plan.dataset, root)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build({"builder": plan.network, "arguments": {**plan.arguments, "gated": False}})
    run = train(net, data, plan.teacher, device=device, progress=progress, checkpoint=folder / "checkpoint")
    run.save(folder)
    return run.net


def fingerprint(settings: Any) -> str:
    """Ten hexadecimal digits that name settings (plain JSON types) in a folder."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:10]
