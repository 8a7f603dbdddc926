"""g(z): a network's mean loss as a function of one layer's gates, computed by running the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vibtheory.compression.evaluation import evaluate
from vibtheory.errors import as_array
from vibtheory.networks.forward import gate_held_at
from vibtheory.networks.gates import vib_gates

if TYPE_CHECKING:
    from torch import nn

    from vibtheory.datasets.dataset import Dataset

__all__ = ["gate_losses"]


def gate_losses(net: nn.Module, data: Dataset, layer: str, points: ArrayLike) -> NDArray[np.float64]:
    """Mean training loss in nats at each z of `points` [S, d]; all other gates at their means, as in `eval()`.

    Raises:
        InvalidInputError: points of the wrong width.
    """
    gate = vib_gates(net)[layer]
    rows = as_array("points", points, (None, gate.features), "pass one z per row")
    values = []
    for z in rows:
        with gate_held_at(gate, torch.tensor(z, dtype=torch.float32)):
            values.append(evaluate(net, data.x_train, data.y_train, likelihood=data.likelihood).loss)
    return np.array(values)
