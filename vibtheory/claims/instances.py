"""What deciders draw on: random instances and how many, small networks, recorded tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vibtheory.errors import DataError, SolverError
from vibtheory.storage.schema import check_columns
from vibtheory.theory.enumeration import enumerate_local_minima
from vibtheory.theory.minima import LocalMinimum
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.sparsity import SparsityReport, check_sparsity_bound

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

    from vibtheory.datasets import Dataset

__all__ = [
    "FAMILIES",
    "Effort",
    "NotRecorded",
    "Recorded",
    "extremal_bound",
    "gate_units",
    "random_bound",
    "random_start",
]

Array = NDArray[np.float64]
FAMILIES = ("gaussian", "low rank", "duplicates", "zero column", "spectrum 1/k^2", "prices differ", "orthogonal")


class NotRecorded(DataError):  # a state of things, for the ledger to report as "not run"
    """A claim is decided from a recorded table, and there is none, or too little of one."""


@dataclass(frozen=True)
class Recorded:
    """A recorded table as it was read: its number of `rows`, and `sha256`, the SHA-256 of the file."""

    rows: int
    sha256: str


@dataclass(frozen=True, eq=False)
class Effort:
    """What a decider may spend.

    Attributes:
        mode: "quick" (few instances) or "full" (ten times as many, and more recorded tables).
        seed: of everything random.
        figures: folder of the recorded tables and figures.
        recorded: tables that were read, by file name: `Ledger` lists them.
        undecided: instances whose minima enumeration could not list, in its words.
    """

    mode: Literal["quick", "full"] = "quick"
    seed: int = 0
    figures: Path = Path("figures")
    recorded: dict[str, Recorded] = field(default_factory=dict)
    undecided: list[str] = field(default_factory=list)

    def size(self, quick: int, full: int) -> int:
        """How many instances in this mode."""
        return quick if self.mode == "quick" else full

    def rng(self, name: str) -> np.random.Generator:
        """A random stream of its own for each claim, so that deciding one alone gives the same instances."""
        return np.random.default_rng([self.seed, crc32(name.encode())])

    def minima(self, bound: QuadraticBound) -> tuple[LocalMinimum, ...] | None:
        """Every local minimum, the global one first; None where one is degenerate up to rounding (`undecided`)."""
        try:
            return tuple(enumerate_local_minima(bound))
        except SolverError as error:
            self.undecided.append(str(error))
            return None

    def table(self, name: str, columns: Sequence[str], optional: Sequence[str] = ()) -> DataFrame:
        """The recorded table figures/`name`, with at least these columns; cells of the `optional` ones may be empty.

        Raises:
            NotRecorded: there is none.
            DataError: a file that is no such table (`vibtheory.storage.schema.check_columns`).
        """
        import pandas as pd

        path = self.figures / name
        if not path.exists():
            raise NotRecorded(f"no {name} is recorded; the command makes it")
        try:
            content = path.read_bytes()
            frame = pd.read_csv(BytesIO(content))
            check_columns("columns", frame, columns, optional)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: no table with {', '.join(columns)} ({error}). Remedy: move the file away and record it again"
            ) from error
        self.recorded[name] = Recorded(len(frame), sha256(content).hexdigest())
        return frame

    def bounds(self, rng: np.random.Generator, quick: int, full: int, largest: int = 9) -> Iterator[QuadraticBound]:
        """That many random bounds, of every family in turn, of up to `largest` gates, from `rng`."""
        for index in range(self.size(quick, full)):
            yield random_bound(rng, FAMILIES[index % len(FAMILIES)], largest)

    def rows(self, name: str, columns: Sequence[str], optional: Sequence[str] = ()) -> list[dict[str, Any]]:
        """In full mode, the rows of a table that is recorded beside the fresh instances; none where there is none.

        `columns` and `optional` are as in `table`, which raises DataError for a file that is no such table.
        """
        if self.mode == "quick":
            return []
        try:
            table = self.table(name, columns, optional)
        except NotRecorded:
            return []
        return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]

    @cached_property
    def reports(self) -> tuple[SparsityReport, ...]:
        """The checker's report at many minima: from random starts, every one of small instances, and extremal ones."""
        rng = self.rng("reports")
        found = [check_sparsity_bound(bound, random_start(rng, bound)) for bound in self.bounds(rng, 2100, 21_000)]
        for bound in self.bounds(rng, 70, 700, largest=6):
            found += [check_sparsity_bound(bound, minimum.mu) for minimum in self.minima(bound) or ()]
        found += [check_sparsity_bound(*extremal_bound(d)) for d in range(2, 32)]
        return tuple(found)

    @cached_property
    def images(self) -> Dataset:
        """MNIST: 2,000 training and 1,000 test images (10,000 and all in full)."""
        from vibtheory.datasets import load

        return load("mnist").subset(self.size(2000, 10_000), self.size(1000, 10_000), seed=self.seed)

    @cached_property
    def network(self) -> nn.Module:
        """LeNet-300-100 with Table 1's recipe, shortened, on `images`."""
        from vibtheory.networks.lenet import lenet_300_100
        from vibtheory.networks.streams import INITIAL_WEIGHTS, random_stream
        from vibtheory.studies.experiments import experiment
        from vibtheory.training.single import train

        recipe = replace(
            experiment("lenet_300_100").recipe,
            epochs=self.size(12, 20), pretrain_epochs=3, gamma=2e-3, shift=0, gate_learning_rate=2e-2,
        )  # fmt: skip
        with random_stream(self.seed, INITIAL_WEIGHTS):
            net = lenet_300_100()
        return train(net, self.images, recipe, seed=self.seed, evaluate_every=recipe.epochs, device="cpu").net


def random_bound(rng: np.random.Generator, family: str = "gaussian", largest: int = 9) -> QuadraticBound:
    """ḡ with 2…`largest` gates; scales of A over 1e-3…1e3, γ over 1e-4…10, ‖β‖ from below to far above √γ.

    `rng` is drawn from and moves on; `family` is the kind of A or γ, one of `FAMILIES` (another name: "gaussian").
    """
    d = int(rng.integers(2, largest + 1))
    rank = int(rng.integers(1, d + 1))
    if family == "low rank":
        rank = int(rng.integers(1, max(2, d // 2 + 1)))
    factor = rng.standard_normal((d if family == "orthogonal" else rank, d))
    if family == "duplicates":
        factor[:, rng.integers(1, d)] = factor[:, 0] * rng.choice([1.0, -1.0, 2.0])
    if family == "zero column":
        factor[:, rng.integers(d)] = 0.0
    if family == "spectrum 1/k^2":
        left, _, right = np.linalg.svd(factor, full_matrices=False)
        factor = (left / (1.0 + np.arange(rank)) ** 2) @ right
    if family == "orthogonal":  # T2 is attained here
        factor = np.linalg.qr(factor)[0] * rng.uniform(0.5, 2.0, d)
    factor = factor * 10.0 ** rng.uniform(-3, 3)
    gamma: Any = 10.0 ** rng.uniform(-4, 1)
    if family == "prices differ":
        gamma = gamma * 10.0 ** rng.uniform(-1, 1, d)
    beta = rng.standard_normal(len(factor)) * np.sqrt(np.min(gamma)) * 10.0 ** rng.uniform(-0.5, 2)
    return QuadraticBound(factor, -2 * factor.T @ beta, 0.0, gamma)


def extremal_bound(d: int) -> tuple[QuadraticBound, Array]:
    """ḡ of `d` gates and its minimum [d], all open and alike, where T3, T4a, T9 and the budget are nearly attained.

    Unit columns at one cosine c, 1 − c = (1 + δ)/(2 + α): the Hessian's least eigenvalue is 2δ/(2 + α). And
    α(1 + (d−1)c) = 1, so that Aμ = ½β: what is spent is the budget's ceiling.
    """
    slack = 1e-3  # δ
    half = d - (d - 1) * slack
    alpha = (np.sqrt(half**2 + 8 * d) - half) / (2 * d)
    apart = (1 + slack) / (2 + alpha)
    gram = apart * np.eye(d) + (1 - apart)
    mu = np.full(d, alpha / np.sqrt(1 + alpha))
    return QuadraticBound(np.linalg.cholesky(gram).T, -2 * gram @ mu - 2 / np.sqrt(1 + alpha)), mu


def gate_units(bound: QuadraticBound) -> Array:
    """√(γ_j/w_j) [d], the scale of μ_j on which every gate looks alike (T1: t = |μ|√(w/γ)); √γ_j where w_j = 0."""
    return np.asarray(np.sqrt(bound.gamma / np.where(bound.w > 0, bound.w, 1.0)))


def random_start(rng: np.random.Generator, bound: QuadraticBound) -> Array:
    """A start μ [d], drawn from `rng`, with |μ|√(w/γ) of the order 0.1 to 30 and about every tenth gate closed."""
    return np.asarray(
        gate_units(bound) * rng.standard_normal(bound.d) * 10.0 ** rng.uniform(-1, 1.5) * (rng.random(bound.d) < 0.9)
    )
