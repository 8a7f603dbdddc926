"""A data set as four arrays in memory: what every training and analysis function takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vibtheory.errors import as_generator, as_real, as_seed, as_whole, check_choice, reject

__all__ = ["Dataset", "Likelihood", "from_arrays"]

Likelihood = Literal["multinomial", "gaussian"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test examples, in memory, with the likelihood q(y|h_L) that fits their labels.

    Attributes:
        x_train, x_test: float32 [N, ...] and [M, ...]; images are [N, channels, height, width] in [0, 1].
        y_train, y_test: int64 [N] class labels ("multinomial"), or float32 [N, K] targets ("gaussian").
        name: what reports call the data.
        likelihood: "multinomial" (classification) or "gaussian" (regression), as in the paper.
        classes: number of classes, None for regression.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[Any]
    x_test: NDArray[np.float32]
    y_test: NDArray[Any]
    name: str
    likelihood: Likelihood = "multinomial"
    classes: int | None = None

    def __str__(self) -> str:
        labels = f"{self.classes} classes" if self.classes is not None else f"{self.y_train.shape[1]} real targets"
        shape = "x".join(map(str, self.x_train.shape[1:]))
        return f"{self.name}: {len(self.x_train)} training + {len(self.x_test)} test examples of {shape}, {labels}"

    __repr__ = __str__  # the generated one would print the arrays

    def subset(self, n_train: int | None = None, n_test: int | None = None, seed: int = 0) -> Dataset:
        """A random part of each split, without replacement, in the original order.

        Args:
            n_train, n_test: how many examples to keep; None keeps all.
            seed: decides which.

        Raises:
            InvalidInputError: no whole number, one below 1 or above what there is, or no seed.
        """
        train_stream, test_stream = np.random.SeedSequence(as_seed("seed", seed)).spawn(2)
        train = _choose("n_train", n_train, len(self.x_train), train_stream)
        test = _choose("n_test", n_test, len(self.x_test), test_stream)
        return replace(
            self,
            x_train=self.x_train[train],
            y_train=self.y_train[train],
            x_test=self.x_test[test],
            y_test=self.y_test[test],
        )

    def split(self, validation: int = 5000, seed: int = 0) -> Dataset:
        """Hold out part of the training set for choices (γ, recipe): the result's test set is that part.

        The true test set is not in the result, so nothing can be chosen on it by accident.

        Args:
            validation: number of held-out training examples.
            seed: decides which.

        Raises:
            InvalidInputError: `validation` is no whole number between 1 and N - 1, or no seed.
        """
        n = len(self.x_train)
        as_whole("validation", validation, 1, n - 1, "hold out fewer examples than there are")
        held = np.zeros(n, dtype=bool)
        held[as_generator("seed", seed, "held-out examples").permutation(n)[:validation]] = True
        return replace(
            self,
            x_train=self.x_train[~held],
            y_train=self.y_train[~held],
            x_test=self.x_train[held],
            y_test=self.y_train[held],
            name=f"{self.name} (validation)",
        )


def _choose(argument: str, wanted: int | None, n: int, stream: np.random.SeedSequence) -> Any:
    if wanted is None:
        return slice(None)
    as_whole(argument, wanted, 1, n, "ask for no more examples than there are, or pass None for all")
    return np.sort(np.random.default_rng(stream).permutation(n)[:wanted])


def from_arrays(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    likelihood: Likelihood = "multinomial",
    classes: int | None = None,
    name: str = "arrays",
) -> Dataset:
    """Your own data as a `Dataset`. Values are converted to float32 and otherwise left as they are.

    Args:
        x_train, x_test: real [N, ...] and [M, ...] with equal trailing axes. Scale inputs so that "absent" is exactly
            0: only then can an input gate close.
        y_train, y_test: integer labels 0 … classes-1, [N] and [M] ("multinomial"); real targets [N] or [N, K]
            ("gaussian").
        likelihood: "multinomial" or "gaussian".
        classes: number of classes; None takes the largest label + 1. Must be None for "gaussian".
        name: what reports call the data.

    Raises:
        InvalidInputError: a wrong shape or type, NaN or infinity, labels that are not whole numbers in range.
    """
    check_choice("likelihood", likelihood, ("multinomial", "gaussian"))
    inputs = {"x_train": _inputs("x_train", x_train), "x_test": _inputs("x_test", x_test)}
    shape = inputs["x_train"].shape[1:]
    if inputs["x_test"].shape[1:] != shape:
        got, expected = list(inputs["x_test"].shape), "[M, " + ", ".join(map(str, shape)) + "]"
        reject("x_test", f"shape {got}", f"shape {expected} as in x_train", "prepare both splits in the same way")
    raw = {"y_train": y_train, "y_test": y_test}
    if likelihood == "gaussian":
        if classes is not None:
            reject("classes", classes, "None for a gaussian likelihood", "leave classes out for regression")
        labels: dict[str, NDArray[Any]] = {key: _targets(key, value) for key, value in raw.items()}
        widths = [labels[key].shape[1] for key in raw]
        if widths[0] != widths[1]:
            reject("y_test", f"{widths[1]} targets", f"{widths[0]} as in y_train", "give both splits the same targets")
    else:
        labels = {key: _labels(key, value) for key, value in raw.items()}
        largest = max(int(labels["y_train"].max()), int(labels["y_test"].max()))
        least = max(largest + 1, 2)
        count = least if classes is None else classes
        classes = as_whole("classes", count, least, remedy="count the classes, labels start at 0")
    for split in ("train", "test"):
        have, want = len(labels[f"y_{split}"]), len(inputs[f"x_{split}"])
        if have != want:
            reject(f"y_{split}", f"{have} labels", f"{want}, one per row of x_{split}", "give each example one label")
    return Dataset(**inputs, **labels, name=name, likelihood=likelihood, classes=classes)


def _inputs(argument: str, value: ArrayLike) -> NDArray[np.float32]:
    """[N, ...] as finite float32."""
    array = as_real(argument, value)
    if array.ndim < 2 or array.size == 0:
        reject(argument, f"shape {list(array.shape)}", "[N, ...] with N >= 1, 2+ axes", "put examples first")
    return _finite32(argument, array)


def _targets(argument: str, value: ArrayLike) -> NDArray[np.float32]:
    """[N] or [N, K] as finite float32 [N, K]."""
    array = as_real(argument, value)
    if array.ndim not in (1, 2) or array.size == 0:
        reject(
            argument,
            f"shape {list(array.shape)}",
            "[N] or [N, K], not empty",
            "flatten them to K real targets per example, and end the network in Flatten()",
        )
    return _finite32(argument, array.reshape(len(array), -1))


def _labels(argument: str, value: ArrayLike) -> NDArray[np.int64]:
    """[N] as int64 class labels >= 0."""
    array = as_real(argument, value)
    if array.ndim != 1 or array.size == 0:
        reject(argument, f"shape {list(array.shape)}", "[N], not empty",
               'give class indices, not one-hot rows; for real targets pass likelihood="gaussian"')  # fmt: skip
    whole = np.isfinite(array) & (array == np.floor(array)) & (array >= 0) & (array < 2**31)
    if not whole.all():
        remedy = 'number the classes 0, 1, 2, …; for regression pass likelihood="gaussian"'
        reject(argument, f"{int((~whole).sum())} entries such as {array[~whole][0]}", "whole numbers >= 0", remedy)
    return array.astype(np.int64)


def _finite32(argument: str, array: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        result = np.array(array, dtype=np.float32, order="C")
    bad = result.size - int(np.isfinite(result).sum())
    if bad:
        reject(argument, f"{bad} of {result.size} entries NaN or infinite", "finite float32", "clean or rescale it")
    return result
