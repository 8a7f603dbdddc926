"""−log q(y|h_L) per example, with its gradient and its curvature in the network's output (docs/theory.md T5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from vibtheory.errors import reject

__all__ = ["LIKELIHOODS", "OutputLoss"]

LIKELIHOODS = ("multinomial", "gaussian")


@dataclass(frozen=True)
class OutputLoss:
    """One of the two likelihoods of the paper; all losses in nats.

    "multinomial": softmax cross-entropy on logits [n, K], labels [n]. "gaussian": ½‖y − ŷ‖² on predictions [n, K],
    that is −log q at unit variance without its constant, targets [n, K].
    """

    name: str

    def check(self, y: NDArray[Any], outputs: int) -> None:
        """Raise InvalidInputError unless y [N, ...] are labels or targets for a network of so many outputs."""
        if self.name == "multinomial":
            if y.ndim != 1 or y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= outputs:
                reject("data.y_train", f"shape {list(y.shape)}, {y.dtype}, {y.min()} to {y.max()}",
                       f"integer labels [N] between 0 and {outputs - 1}, the network's {outputs} outputs",
                       'number the classes from 0, or use likelihood="gaussian" for regression')  # fmt: skip
        elif y.size != len(y) * outputs:
            reject("data.y_train", f"shape {list(y.shape)}", f"[N, {outputs}], one target per network output",
                   "give as many targets as the network has outputs")  # fmt: skip

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """Loss per example [n] from output [n, K]; computed in float64."""
        output = output.double()
        if self.name == "gaussian":
            return 0.5 * (output - y.double().reshape(output.shape)).square().sum(1)
        return torch.logsumexp(output, 1) - output.gather(1, y.long()[:, None])[:, 0]

    def gradient(self, output: Tensor, y: Tensor) -> Tensor:
        """∂loss/∂output [n, K], float64: softmax − one-hot, or ŷ − y."""
        output = output.double()
        if self.name == "gaussian":
            return output - y.double().reshape(output.shape)
        return torch.softmax(output, 1).scatter_add(
            1, y.long()[:, None], -torch.ones(len(output), 1, dtype=torch.float64, device=output.device)
        )

    def curvature_root(self, output: Tensor) -> Tensor:
        """R [n, K, K] with RRᵀ = ∂²loss/∂output², float64: diag(p) − ppᵀ, or I."""
        output = output.double()
        n, k = output.shape
        if self.name == "gaussian":
            return torch.eye(k, dtype=torch.float64, device=output.device).expand(n, k, k)
        p = torch.softmax(output, 1)
        root = torch.sqrt(p)
        return torch.diag_embed(root) - p[:, :, None] * root[:, None, :]

    @property
    def half_curvature(self) -> float:
        """Least h with loss(ℓ + Δ) ≤ loss(ℓ) + ∇ᵀΔ + h‖Δ‖² everywhere: ¼ (Böhning) or ½."""
        return 0.5 if self.name == "gaussian" else 0.25

    def project(self, matrix: Tensor) -> Tensor:
        """Rows [K, ...] without what the loss cannot see: a shift of all logits ((I − 11ᵀ/K) M), or M itself."""
        return matrix if self.name == "gaussian" else matrix - matrix.mean(0, keepdim=True)
