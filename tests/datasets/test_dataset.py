"""Arrays as data sets: conversions, subsets, held-out splits, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from vibtheory.datasets import Dataset, from_arrays
from vibtheory.errors import InvalidInputError

RNG = np.random.default_rng(11)
X, Y = RNG.normal(scale=7.0, size=(40, 3, 2)), RNG.integers(0, 4, size=40)
XT, YT = RNG.normal(scale=7.0, size=(10, 3, 2)), RNG.integers(0, 4, size=10)


def _data() -> Dataset:
    return from_arrays(X, Y, XT, YT, classes=5)


def test_types_and_values() -> None:
    data = _data()
    assert (data.x_train.dtype, data.y_train.dtype, data.classes) == (np.float32, np.int64, 5)
    np.testing.assert_array_equal(data.x_train, X.astype(np.float32))
    assert str(data) == "arrays: 40 training + 10 test examples of 3x2, 5 classes"
    real = from_arrays(X, Y / 3, XT, YT / 3, likelihood="gaussian")
    assert (real.y_train.shape, real.y_train.dtype, real.classes) == ((40, 1), np.float32, None)
    assert "1 real targets" in repr(real)
    assert from_arrays(X, Y, XT, YT).classes == max(Y.max(), YT.max()) + 1


def test_the_arrays_are_copies() -> None:
    x = X.astype(np.float32)
    data = from_arrays(x, Y, XT, YT)
    x[:] = 0
    assert data.x_train.any()


def test_tensors_with_gradients_are_taken() -> None:
    x = torch.linspace(0, 1, 6).reshape(3, 2).requires_grad_()
    data = from_arrays(x, [0, 1, 1], x * 2, x[:, 0] > 0.3)
    np.testing.assert_array_equal(data.x_test, 2 * x.detach().numpy())
    with pytest.raises(InvalidInputError, match=r"x_train: got list .*Remedy"):
        from_arrays([[x[0, 0]]], [0], [[1.0]], [0])


def test_subset_keeps_pairs_and_order() -> None:
    part = _data().subset(12, 5, seed=3)
    where = [int(np.flatnonzero((_data().x_train == row).all(axis=(1, 2)))[0]) for row in part.x_train]
    assert where == sorted(set(where))
    np.testing.assert_array_equal(part.y_train, Y[where])
    assert len(part.x_test) == len(part.y_test) == 5
    np.testing.assert_array_equal(_data().subset(12, 5, seed=3).x_train, part.x_train)
    assert not np.array_equal(_data().subset(12, 5, seed=4).x_train, part.x_train)
    assert len(_data().subset().x_train) == 40


def test_split_partitions_the_training_set_and_hides_the_test_set() -> None:
    part = _data().split(validation=15, seed=2)
    assert (len(part.x_train), len(part.x_test)) == (25, 15)
    union = np.concatenate([part.x_train, part.x_test]).reshape(40, -1)
    np.testing.assert_array_equal(np.unique(union, axis=0), np.unique(_data().x_train.reshape(40, -1), axis=0))
    assert "validation" in part.name


BAD = {
    "likelihood": lambda: from_arrays(X, Y, XT, YT, likelihood="poisson"),
    "one axis": lambda: from_arrays(X[:, 0, 0], Y, XT, YT),
    "empty": lambda: from_arrays(X[:0], Y[:0], XT, YT),
    "trailing shape": lambda: from_arrays(X, Y, XT[:, :2], YT),
    "not numeric": lambda: from_arrays([["a"]], [0], XT, YT),
    "ragged": lambda: from_arrays([[1.0], [1.0, 2.0]], [0, 1], XT, YT),
    "complex": lambda: from_arrays(X * 1j, Y, XT, YT),
    "NaN": lambda: from_arrays(np.where(X > 5, np.nan, X), Y, XT, YT),
    "float32 overflow": lambda: from_arrays(X * 1e300, Y, XT, YT),
    "lengths": lambda: from_arrays(X, Y[:-1], XT, YT),
    "one-hot": lambda: from_arrays(X, np.eye(4)[Y], XT, YT),
    "negative label": lambda: from_arrays(X, Y - 1, XT, YT),
    "fractional label": lambda: from_arrays(X, Y / 2, XT, YT),
    "masked inputs": lambda: from_arrays(np.ma.masked_greater(X, 5.0), Y, XT, YT),
    "masked labels": lambda: from_arrays(X, np.ma.masked_equal(Y, 0), XT, YT),
    "sparse inputs": lambda: from_arrays(sparse.csr_matrix(X[:, 0]), Y, XT[:, 0], YT),
    "classes in words": lambda: from_arrays(X, Y, XT, YT, classes="4"),
    "a fraction of classes": lambda: from_arrays(X, Y, XT, YT, classes=4.5),
    "NaN classes": lambda: from_arrays(X, Y, XT, YT, classes=float("nan")),
    "too few classes": lambda: from_arrays(X, Y, XT, YT, classes=3),
    "one class": lambda: from_arrays(X, Y * 0, XT, YT * 0, classes=1),
    "gaussian classes": lambda: from_arrays(X, Y / 2, XT, YT / 2, likelihood="gaussian", classes=3),
    "gaussian widths": lambda: from_arrays(X, X[:, 0], XT, YT, likelihood="gaussian"),
    "gaussian axes": lambda: from_arrays(X, X, XT, XT, likelihood="gaussian"),
    "subset too large": lambda: _data().subset(41),
    "subset zero": lambda: _data().subset(1, 0),
    "subset of a fraction": lambda: _data().subset(5.5, 3),
    "subset of True": lambda: _data().subset(True, 3),
    "subset seed below 0": lambda: _data().subset(5, 3, seed=-1),
    "subset seed of a fraction": lambda: _data().subset(5, 3, seed=1.5),
    "split of a fraction": lambda: _data().split(5.5),
    "split seed": lambda: _data().split(5, seed=-1),
    "split all": lambda: _data().split(40),
    "split none": lambda: _data().split(0),
}


def test_rows_of_real_targets_are_told_of_the_other_likelihood() -> None:
    with pytest.raises(InvalidInputError, match=r'for real targets pass likelihood="gaussian"'):
        from_arrays(X, X, XT, XT)


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str) -> None:
    with pytest.raises(InvalidInputError, match="Remedy"):
        BAD[case]()
