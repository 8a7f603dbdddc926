"""What is no batch of inputs is refused in one sentence by all who take one, and numpy's float64 is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import vibtheory as vt
from vibtheory.compression.evaluation import evaluate
from vibtheory.compression.export import export_onnx
from vibtheory.errors import InvalidInputError
from vibtheory.networks.gates import named_gates

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
SENTENCE = r"^[\w.]+: got (?s:.+), expected (?s:.+)\. Remedy: (?s:.+)"


def plain() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def gated() -> nn.Module:
    net = vt.insert_gates(plain(), X).eval()
    (gate,) = named_gates(net).values()
    gate.mu.data[:4] = 0  # type: ignore[operator, union-attr]
    return net


TAKERS: dict[str, Callable[[Any, Path], object]] = {
    "insert_gates": lambda given, _: vt.insert_gates(plain(), given),
    "compress": lambda given, _: vt.compress(gated(), given),
    "metrics": lambda given, _: vt.metrics.compression(gated(), example_input=given),
    "export": lambda given, folder: export_onnx(plain(), given, folder / "net.onnx"),
    "merge": lambda given, _: vt.merge_redundant(gated(), given),
    "evaluate": lambda given, _: evaluate(plain(), given, np.zeros(4, np.int64)),
    "check": lambda given, _: vt.check_network(gated(), given, gamma=1e-3),
    "train": lambda given, _: vt.train(gated(), given, gamma=1e-3, epochs=1),
    "compress_to": lambda given, _: vt.compress_to(plain(), given, r_w=50.0, epochs=1, trials=1),
}
WRONG: dict[str, Any] = {
    "dict": {"x": X},
    "list of arrays": [X[0].numpy(), X[1].numpy()],
    "list of tensors": [X],
    "string": "x.npy",
    "set": {1.0, 2.0},
    "number": 3.0,
    "no tuple member": (),
    "generator": (row for row in X),
    "DataLoader": DataLoader(TensorDataset(X), batch_size=2),
    "data frame": pd.DataFrame(X.numpy()),
    "array of text": np.full((4, 6), "a"),
    "array of objects": np.array([None] * 4),
    "no axis": torch.tensor(1.0),
    "no example": X[:0],
    "sparse": X.to_sparse(),
    "no values": X.to("meta"),
}
SHAPED: dict[str, Any] = {"too wide": torch.zeros(4, 7), "integers": torch.ones(4, 6, dtype=torch.long), "two": (X, X)}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize("wrong", WRONG)
def test_no_batch_is_refused_in_a_sentence(taker: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=SENTENCE):
        TAKERS[taker](WRONG[wrong], tmp_path)


@pytest.mark.parametrize("taker", ["insert_gates", "compress", "metrics", "export"])
@pytest.mark.parametrize("wrong", SHAPED)
def test_a_batch_that_the_net_does_not_take_is_refused(taker: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=SENTENCE):
        TAKERS[taker](SHAPED[wrong], tmp_path)


@pytest.mark.parametrize("taker", ["insert_gates", "compress", "metrics", "export"])
def test_numpys_float64_is_taken(taker: str, tmp_path: Path) -> None:
    assert TAKERS[taker](X.numpy().astype(np.float64), tmp_path) is not None


class Positions(nn.Module):
    """One length of sequences only, in a sum that a trace writes into its own lines."""

    def __init__(self) -> None:
        super().__init__()
        self.at, self.a, self.b = nn.Parameter(torch.ones(5, 6)), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x + self.at)))


def test_sizes_tried_and_refused_print_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    x = torch.ones(4, 5, 6)
    gated = vt.insert_gates(Positions(), x)
    assert isinstance(gated, torch.fx.GraphModule)
    vt.compress(gated, x)
    for refused in (vt.compress, vt.insert_gates):
        with pytest.raises(InvalidInputError, match=SENTENCE):
            refused(gated, torch.ones(4, 7, 6))
    with pytest.raises(InvalidInputError, match="^data: "):
        vt.train(gated, vt.datasets.from_arrays(*(np.ones((4, 7, 6), np.float32), np.zeros(4, int)) * 2), epochs=1)
    assert capfd.readouterr() == ("", "")
