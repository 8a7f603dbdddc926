"""CIFAR in its canonical binary format with a few learnable images, and a VGG-like net of two blocks for them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory.datasets import catalogue
from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.networks.gates import Gate

PER_FILE = 24


def two_blocks(classes: int = 10, hidden: int = 1, size: int = 32) -> nn.Sequential:
    """Two blocks of convolution, BatchNorm, ReLU, gate, pooling, then hidden layers, as in `vibtheory.networks.vgg`."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, (fan_in, width) in enumerate(((3, 6), (6, 8)), start=1):
        layers[f"convolution{block}_1"] = nn.Conv2d(fan_in, width, 3, padding=1)
        layers[f"norm{block}_1"] = nn.BatchNorm2d(width)
        layers[f"relu{block}_1"] = nn.ReLU()
        layers[f"conv{block}_1"] = Gate(width, multiplier=size / 2 ** (block - 1))
        layers[f"pool{block}"] = nn.MaxPool2d(2) if block == 1 else nn.AvgPool2d(size // 2)
    layers["flatten"] = nn.Flatten()
    for i in range(1, hidden + 1):
        layers[f"linear{i}"] = nn.Linear(8 if i == 1 else 9, 9)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"fc{i}"] = Gate(9)
    layers["classifier"] = nn.Linear(9, classes)
    return nn.Sequential(layers)


def images(n: int, classes: int, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 3, size, size] and labels [n]: each class has its own colour, on noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    colours = np.random.default_rng(99).integers(0, 150, size=(classes, 3))
    noise = rng.integers(0, 100, size=(n, 3, size, size))
    return (noise + colours[labels][:, :, None, None]).astype(np.uint8), labels


def dataset(n: int, n_test: int, classes: int = 3, size: int = 8) -> Dataset:
    """A small data set of such images in memory."""
    x, y = images(n + n_test, classes, size)
    x = x.astype(np.float32) / np.float32(255)
    return from_arrays(x[:n], y[:n], x[n:], y[n:], classes=classes, name="colours")


def write(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Canonical binary files of CIFAR-10 or CIFAR-100 with `PER_FILE` records each; the catalogue follows them."""
    entry, files = catalogue.CATALOGUE[name], {}
    folder = root / entry.folder
    folder.mkdir(parents=True)
    for i, file in enumerate(entry.files):
        x, y = images(PER_FILE, entry.classes, seed=i)
        coarse = [y // 5] if entry.label_bytes == 2 else []
        records = np.concatenate([np.stack([*coarse, y], axis=1), x.reshape(PER_FILE, -1)], axis=1).astype(np.uint8)
        (folder / file.name).write_bytes(records.tobytes())
        digest = "sha256:" + hashlib.sha256(records.tobytes()).hexdigest()
        files[file.name] = replace(file, digests=(digest,))
    train, test = (tuple(files[f.name] for f in split) for split in (entry.train, entry.test))
    counts = (PER_FILE * len(train), PER_FILE * len(test))
    monkeypatch.setitem(catalogue.CATALOGUE, name, replace(entry, train=train, test=test, counts=counts))
    return folder


def seeded(seed: int = 0, **arguments: int) -> nn.Sequential:
    """`two_blocks` with reproducible weights."""
    torch.manual_seed(seed)
    return two_blocks(**arguments)
