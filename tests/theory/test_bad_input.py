"""Every public function of theory, and what it says to a bad argument: one table.

Each message names the argument, what was got, what was expected, and the remedy. Inner layers do not check again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse
import torch

from vibtheory.errors import InvalidInputError
from vibtheory.theory import (
    Guarantee,
    NetworkReport,
    QuadraticBound,
    SoftmaxLoss,
    a_priori_limit,
    bohning_cosines,
    certify,
    certify_real_loss,
    check_budget,
    check_closure,
    check_collinearity,
    check_convexity,
    check_existence,
    check_joint_sparsity,
    check_sparsity_bound,
    closed_mean_information,
    collinearity_limit,
    constant_unit,
    dead_gate_flow,
    enumerate_local_minima,
    find_local_minimum,
    minimise_real_loss,
    numerical_rank,
    rank_from_gram,
    rank_of_rows,
    snr,
    soft_rank_of,
    sparsity_path,
    spectrum,
    survivor_limit,
)
from vibtheory.theory.path import path_slope
from vibtheory.theory.soft_rank import soft_rank

EYE = np.eye(3)
HALF = np.array([[1.0, 2.0], [2.0, 1.0]])
CLOSED = QuadraticBound(EYE, np.zeros(3))
FALLING = QuadraticBound([[1.0, 1.0]], [1.0, -1.0])
FREE = QuadraticBound([[1.0, 0.0]], [0.0, 1.0])
TALL = QuadraticBound(np.random.default_rng(0).normal(size=(8, 16)), np.zeros(16))
LOSS = {
    "V": [[1.0, 0, 2], [0, 1, 3], [2, 2, 1], [1, 3, 0]],
    "v0": np.zeros(4),
    "f": np.ones((6, 3)),
    "y": np.arange(6) % 4,
}


def _loss(**changes: object) -> SoftmaxLoss:
    return SoftmaxLoss(**(LOSS | changes))  # type: ignore[arg-type]


BAD = {
    "quadratic: A nan": (lambda: QuadraticBound([[1, np.nan, 0]], np.zeros(3)), "A: got 1 of 3 entries NaN"),
    "quadratic: A infinite": (lambda: QuadraticBound([[np.inf, 0, 0]], np.zeros(3)), "A: got 1 of 3"),
    "quadratic: A vector": (lambda: QuadraticBound(np.ones(3), np.zeros(3)), r"A: got shape \[3\]"),
    "quadratic: A complex": (lambda: QuadraticBound(EYE * 1j, np.zeros(3)), "A: .*complex"),
    "quadratic: A numbers as text": (lambda: QuadraticBound([["1"]], [0]), "A: got list .*is no number"),
    "quadratic: A date": (lambda: QuadraticBound(np.full((1, 1), "2020-01-01", "M8[D]"), [0]), "A: .*is no number"),
    "quadratic: A masked": (lambda: QuadraticBound(np.ma.masked_less(EYE, 1), np.zeros(3)), "A: got a masked array"),
    "quadratic: b too long a number": (lambda: QuadraticBound(EYE, [0, 0, 10**400]), "b: got list"),
    "quadratic: layer": (lambda: QuadraticBound(EYE, np.zeros(3), layer=EYE), "layer: got ndarray, expected a str"),  # type: ignore[arg-type]
    "quadratic: sigma complex": (lambda: CLOSED.expectation(np.ones(3), np.ones(3) + 1j), "sigma: .*complex"),
    "quadratic: A text": (lambda: QuadraticBound([["x"]], [0]), "A: got list"),
    "quadratic: A no columns": (lambda: QuadraticBound(np.zeros((3, 0)), np.zeros(0)), "A: .*at least one"),
    "quadratic: A no rows": (lambda: QuadraticBound(np.zeros((0, 3)), np.zeros(3)), "A: .*at least one"),
    "quadratic: A overflows": (lambda: QuadraticBound([[1e200, 1]], np.zeros(2)), "A: .*columns 0"),
    "quadratic: A underflows": (lambda: QuadraticBound([[1, 1e-200]], np.zeros(2)), "A: .*columns 1"),
    "quadratic: b length": (lambda: QuadraticBound(EYE, np.zeros(2)), r"b: got shape \[2\]"),
    "quadratic: b nan": (lambda: QuadraticBound(EYE, [0, 0, np.nan]), "b: got 1 of 3"),
    "quadratic: c nan": (lambda: QuadraticBound(EYE, np.zeros(3), np.nan), "c: got"),
    "quadratic: c vector": (lambda: QuadraticBound(EYE, np.zeros(3), np.ones(2)), "c: got"),
    "quadratic: gamma zero": (lambda: QuadraticBound(EYE, np.zeros(3), gamma=0), "gamma: .*entries > 0"),
    "quadratic: gamma negative": (lambda: QuadraticBound(EYE, np.zeros(3), gamma=[1, -1, 1]), "gamma: .*entries > 0"),
    "quadratic: gamma length": (lambda: QuadraticBound(EYE, np.zeros(3), gamma=[1, 1]), r"gamma: got shape \[2\]"),
    "quadratic: gamma nan": (lambda: QuadraticBound(EYE, np.zeros(3), gamma=np.nan), "gamma: got 1 of 1"),
    "quadratic: guarantee": (lambda: QuadraticBound(EYE, np.zeros(3), guarantee="exact"), "guarantee: got str"),  # type: ignore[arg-type]
    "quadratic: kind": (lambda: Guarantee("bayes", "exact"), "guarantee.kind: got 'bayes'"),
    "quadratic: level": (lambda: Guarantee("exact", "sure"), "guarantee.level: got 'sure'"),
    "quadratic: only mu": (lambda: QuadraticBound(EYE, np.zeros(3), trained_mu=np.ones(3)), "both or neither"),
    "quadratic: mu length": (
        lambda: QuadraticBound(EYE, np.zeros(3), trained_mu=[1], trained_sigma=[1]),
        "trained_mu: got",
    ),
    "quadratic: sigma negative": (
        lambda: QuadraticBound(EYE, np.zeros(3), trained_mu=np.ones(3), trained_sigma=[1, -1, 1]),
        "trained_sigma: .*-1",
    ),
    "quadratic: z shape": (lambda: QuadraticBound(EYE, np.zeros(3)).value(np.ones((3, 2))), "z: got shape"),
    "quadratic: z scalar": (lambda: QuadraticBound(EYE, np.zeros(3)).value(1.0), "z: got shape"),
    "quadratic: mu shape": (lambda: QuadraticBound(EYE, np.zeros(3)).phi(np.ones(2)), "mu: got shape"),
    "quadratic: sigma below 0": (
        lambda: QuadraticBound(EYE, np.zeros(3)).expectation(np.ones(3), -EYE[0]),
        "sigma: got entries",
    ),
    "quadratic: sigma infinite": (
        lambda: QuadraticBound(EYE, np.zeros(3)).expectation(np.ones(3), [1, 1, np.inf]),
        "sigma: got",
    ),
    "quadratic: sigma nan": (
        lambda: QuadraticBound(EYE, np.zeros(3)).expectation(np.ones(3), [1, 1, np.nan]),
        "sigma: got",
    ),
    "quadratic: sigma text": (lambda: QuadraticBound(EYE, np.zeros(3)).expectation(np.ones(3), "x"), "sigma: got"),
    "quadratic: sigma minus infinity": (
        lambda: QuadraticBound(np.zeros((1, 1)), [0]).expectation([0], [-np.inf]),
        "sigma: got entries",
    ),
    "quadratic: Q not square": (lambda: QuadraticBound.from_gram(np.ones((2, 3)), np.zeros(3)), "gram: .*square"),
    "quadratic: Q empty": (lambda: QuadraticBound.from_gram(np.ones((0, 0)), np.zeros(0)), "gram: .*square"),
    "quadratic: Q nan": (lambda: QuadraticBound.from_gram([[np.nan]], [0]), "gram: got 1 of 1"),
    "quadratic: Q asymmetric": (
        lambda: QuadraticBound.from_gram([[1, 0.5], [0.2, 1]], [0, 0]),
        r"gram: got Q\[0, 1\] = 0.5",
    ),
    "quadratic: Q negative diagonal": (
        lambda: QuadraticBound.from_gram([[1, 0], [0, -2]], [0, 0]),
        "negative diagonal -2 at 1",
    ),
    "quadratic: Q zero diagonal": (lambda: QuadraticBound.from_gram([[0, 1], [1, 4]], [0, 0]), "zero diagonal .* at 0"),
    "quadratic: Q indefinite": (
        lambda: QuadraticBound.from_gram(HALF, [0, 0]),
        "smallest.* of Q is -1, -1 with .*at index 0",
    ),
    "quadratic: Q indefinite, large units": (
        lambda: QuadraticBound.from_gram(HALF * [[1e12, 1e3], [1e3, 1e-6]], [0, 0]),
        "-1 with the diagonal scaled to 1",
    ),
    "penalty: t overflows": (lambda: snr(1e300, 1e150, 1.0), "mu, w, gamma: got"),
    "rank: tolerance as text": (lambda: rank_from_gram(EYE, tolerance="x"), "tolerance: got str"),  # type: ignore[arg-type]
    "rank: A nan": (lambda: numerical_rank([[np.nan]]), "A: got 1 of 1"),
    "rank: A vector": (lambda: numerical_rank(np.ones(3)), "A: got shape"),
    "rank: tolerance": (lambda: numerical_rank(EYE, tolerance=0), "tolerance: "),
    "rank: method": (lambda: numerical_rank(EYE, method="fast"), "method: got 'fast'"),
    "rank: randomized gram": (
        lambda: numerical_rank(QuadraticBound.from_gram(EYE, np.zeros(3)), method="randomized"),
        "'randomized' for a bound without A",
    ),
    "rank: gram method": (lambda: rank_from_gram(EYE, method="randomized"), "method: got 'randomized'"),
    "rank: gram shape": (lambda: rank_from_gram(np.ones((2, 3))), "gram: got shape"),
    "rank: gram negative": (lambda: rank_from_gram(-EYE), "negative diagonal"),
    "rank: gram indefinite": (lambda: rank_from_gram([[1.0, 2], [2, 1]]), "gram: got eigenvalue 0 .* of Q is -1,"),
    "rank: gram asymmetric": (lambda: rank_from_gram([[1.0, 0], [5, 1]]), r"gram: got Q\[0, 1\] = 0 but .* entry 5"),
    "rank: gram nan": (lambda: rank_from_gram(EYE * np.nan), "gram: got 9 of 9"),
    "rank: no chunk": (lambda: rank_of_rows([]), "chunks: got no rows"),
    "rank: empty chunk": (lambda: rank_of_rows([np.zeros((0, 3))]), "chunks: got no rows"),
    "rank: widths": (lambda: rank_of_rows([EYE, np.ones((1, 2))]), r"chunks\[1\]: got shape \[1, 2\]"),
    "rank: soft shapes": (lambda: soft_rank(EYE, np.ones(2), np.zeros(2)), "gram: got shape"),
    "rank: soft w": (lambda: soft_rank(EYE, [1, 1, -1], np.zeros(3)), "w: got smallest entry -1"),
    "rank: soft norms": (lambda: soft_rank(4 * EYE, np.full(3, 2.0), np.zeros(3)), "w: got 2 at 0, where Q has 4"),
    "rank: soft indefinite": (lambda: soft_rank([[1.0, 2], [2, 1]], [1, 1], [0, 0]), "gram: got eigenvalue 0"),
    "rank: soft asymmetric": (lambda: soft_rank([[1.0, 0], [5, 1]], [1, 1], [0, 0]), "a symmetric matrix"),
    "rank: soft alpha shape": (lambda: soft_rank(EYE, np.ones(3), np.zeros(2)), "alpha: got shape"),
    "rank: soft alpha sign": (lambda: soft_rank(EYE, np.ones(3), [0, -1, 0]), "alpha: got smallest entry -1"),
    "rank: soft alpha infinite": (lambda: soft_rank(EYE, np.ones(3), [0, np.inf, 0]), "alpha: got 1 of 3"),
    "rank: soft alpha free": (lambda: soft_rank(np.diag([1.0, 0]), [1, 0], [0, 2]), "alpha: got α > 0 on gate 1"),
    "sparsity: not a bound": (lambda: check_sparsity_bound(np.eye(3)), "bound: got ndarray"),  # type: ignore[arg-type]
    "sparsity: unbounded": (
        lambda: check_sparsity_bound(QuadraticBound([[1.0, 1.0]], [1.0, -1.0])),
        "outside the row space",
    ),
    "sparsity: free column": (
        lambda: check_sparsity_bound(QuadraticBound([[1.0, 0.0]], [1.0, -1.0])),
        "columns 1 with w = 0",
    ),
    "sparsity: start": (lambda: check_sparsity_bound(QuadraticBound([[1.0]], [1.0]), start=[1, 2]), "start: got shape"),
    "sparsity: solver": (
        lambda: check_sparsity_bound(QuadraticBound([[1.0]], [1.0]), solver="sgd"),
        "solver: got 'sgd'",
    ),
    "sparsity: no reports": (lambda: NetworkReport(()), "reports: got none"),
    "sparsity: no layer": (
        lambda: NetworkReport((check_sparsity_bound(QuadraticBound([[1.0]], [1.0])),))["h9"],
        "layer: got 'h9'",
    ),
    "sparsity: no place": (
        lambda: NetworkReport((check_sparsity_bound(QuadraticBound([[1.0]], [1.0])),))[1],
        "layer: got 1",
    ),
    "path: empty": (lambda: sparsity_path(TALL, []), "gammas: got none"),
    "path: zero": (lambda: sparsity_path(TALL, [1.0, 0.0]), "gammas: .*entries > 0"),
    "path: nan": (lambda: sparsity_path(TALL, [1.0, np.nan]), "gammas: got 1 of 2"),
    "path: order": (lambda: sparsity_path(TALL, [1.0, 3.0, 2.0]), "not monotone"),
    "path: repeat": (lambda: sparsity_path(TALL, [1.0, 1.0]), "not monotone"),
    "path: scalar": (lambda: sparsity_path(TALL, 1.0), "gammas: got shape"),
    "path: start": (lambda: sparsity_path(TALL, [1.0], start=[1.0]), "start: got shape"),
    "path: events": (lambda: sparsity_path(TALL, [1.0], max_events=0), "max_events: got 0"),
    "path: unbounded": (lambda: sparsity_path(QuadraticBound([[1.0, 1.0]], [1.0, -1.0]), [1.0]), "row space"),
    "path: slope shape": (lambda: path_slope(TALL, [1.0]), "mu: got shape"),
    "path: singular": (
        lambda: path_slope(QuadraticBound([[1.0, 1.0]], [0.0, 0.0], gamma=1e-300), [1.0, 1.0]),
        "mu: got a point with a singular Hessian",
    ),
    "quadratic: A sparse": (
        lambda: QuadraticBound(scipy.sparse.csr_array(EYE), np.zeros(3)),
        r"A: .*sparse.*A\.toarray",
    ),
    "quadratic: A sparse matrix": (
        lambda: QuadraticBound(scipy.sparse.csc_matrix(EYE), np.zeros(3)),
        r"A\.toarray\(\)",
    ),
    "quadratic: Q sparse": (
        lambda: QuadraticBound.from_gram(scipy.sparse.coo_array(EYE), np.zeros(3)),
        r"gram: got a sparse coo_array.*gram\.toarray\(\)",
    ),
    "quadratic: mu nan": (lambda: CLOSED.gradient([0, np.nan, 0]), "mu: got 1 of 3"),
    "quadratic: gradient mu": (lambda: CLOSED.smooth_gradient([0, 0]), "mu: got shape"),
    "quadratic: hessian mu": (lambda: CLOSED.hessian([[0, 0, 0]]), "mu: got shape"),
    "quadratic: objective mu": (lambda: CLOSED.objective([0], [1, 1, 1]), "mu: got shape"),
    "quadratic: other price": (lambda: CLOSED.with_gamma(-1.0), "gamma: .*entries > 0"),
    "quadratic: falls for ever": (FALLING.require_bounded, "outside the row space"),
    "rank: sparse": (lambda: numerical_rank(scipy.sparse.csr_array(EYE)), r"A\.toarray\(\)"),
    "minima: start length": (lambda: find_local_minimum(CLOSED, np.zeros(99)), "start: got shape"),
    "minima: start nan": (lambda: find_local_minimum(CLOSED, np.full(3, np.nan)), "start: got 3 of 3"),
    "minima: solver": (lambda: find_local_minimum(CLOSED, solver="newton"), "solver: got 'newton'"),
    "minima: iterations": (lambda: find_local_minimum(CLOSED, max_iterations=-1), "max_iterations: got -1"),
    "minima: one name": (lambda: find_local_minimum(CLOSED, cvxpy_solvers="OSQP"), "cvxpy_solvers: got 'OSQP'"),
    "minima: no name": (lambda: find_local_minimum(CLOSED, cvxpy_solvers=()), r"cvxpy_solvers: got \(\)"),
    "minima: unbounded": (lambda: find_local_minimum(FALLING), "outside the row space"),
    "minima: iterations as text": (lambda: find_local_minimum(CLOSED, max_iterations="9"), "max_iterations: got '9'"),  # type: ignore[arg-type]
    "minima: half an iteration": (lambda: find_local_minimum(CLOSED, max_iterations=1.5), "max_iterations: got 1.5"),  # type: ignore[arg-type]
    "minima: solver is an array": (lambda: find_local_minimum(CLOSED, solver=EYE), "solver: got array"),  # type: ignore[arg-type]
    "minima: solvers": (lambda: find_local_minimum(CLOSED, cvxpy_solvers=[1]), r"cvxpy_solvers: got \[1\]"),  # type: ignore[list-item]
    "certificate: length": (lambda: certify(CLOSED, np.zeros(2)), "mu: got shape"),
    "certificate: column": (lambda: certify(CLOSED, np.zeros((3, 1))), "mu: got shape"),
    "certificate: nan": (lambda: certify(CLOSED, np.full(3, np.nan)), "mu: got 3 of 3"),
    "certificate: infinite": (lambda: certify(CLOSED, np.full(3, np.inf)), "mu: got 3 of 3"),
    "certificate: text": (lambda: certify(CLOSED, ["a"] * 3), "mu: got list"),
    "enumeration: too many": (
        lambda: enumerate_local_minima(QuadraticBound(np.eye(13), np.zeros(13))),
        "bound: got 13 columns .*at most 12",
    ),
    "redundancy: alpha": (lambda: collinearity_limit(1.0, -1.0), "alpha_j: got smallest entry -1"),
    "redundancy: another bound": (
        lambda: check_collinearity(CLOSED, find_local_minimum(TALL)),
        r"minimum\.mu: got shape",
    ),
    "redundancy: equal weights": (lambda: bohning_cosines(np.ones((4, 5)), np.ones((3, 5))), "V: got zero columns"),
    "redundancy: equal to rounding": (  # the mean of three tenths is no tenth
        lambda: bohning_cosines([[0.1, 0.5], [0.1, -0.2], [0.1, 0.3]], np.ones((3, 2))),
        r"V: got zero columns \[0\]",
    ),
    "redundancy: silent": (lambda: bohning_cosines(np.eye(5), np.zeros((3, 5))), "f: got zero columns"),
    "landscape: level": (lambda: survivor_limit(CLOSED, 0.0), "level: got 0"),
    "landscape: level of the budget": (lambda: check_budget(CLOSED, np.zeros(3), -1.0), "level: got -1"),
    "landscape: minimum": (lambda: check_budget(CLOSED, np.ones(2)), "minimum: got shape"),
    "landscape: no beta": (lambda: survivor_limit(FREE), "b: got nonzero b in columns 1"),
    "landscape: no closure": (lambda: check_closure(FALLING), "outside the row space"),
    "several layers": (lambda: check_joint_sparsity([]), "reports: got none"),
    "real loss: one class": (lambda: _loss(V=np.ones((1, 3)), v0=np.zeros(1)), "V: got shape"),
    "real loss: v0": (lambda: _loss(v0=np.zeros(2)), "v0: got shape"),
    "real loss: f width": (lambda: _loss(f=np.ones((6, 2))), "f: got shape"),
    "real loss: no example": (lambda: _loss(f=np.ones((0, 3)), y=[]), "f: got no examples"),
    "real loss: f nan": (lambda: _loss(f=np.full((6, 3), np.nan)), "f: got 18 of 18"),
    "real loss: y length": (lambda: _loss(y=np.zeros(5)), "y: got shape"),
    "real loss: y range": (lambda: _loss(y=np.full(6, 4)), "y: got labels from 4 to 4"),
    "real loss: y fraction": (lambda: _loss(y=np.full(6, 0.5)), "y: got labels"),
    "real loss: gamma": (lambda: _loss(gamma=0.0), "gamma: .*entries > 0"),
    "real loss: gamma length": (lambda: _loss(gamma=np.ones(2)), "gamma: got shape"),
    "real loss: batch": (lambda: _loss(batch=0), "batch: got 0"),
    "real loss: mu": (lambda: _loss().loss(np.ones(2)), "mu: got shape"),
    "real loss: objective": (lambda: _loss().objective(np.full(3, np.nan)), "mu: got 3 of 3"),
    "real loss: anchor": (lambda: _loss().bound_at(np.ones(2)), "mu: got shape"),
    "real loss: rounds": (lambda: minimise_real_loss(_loss(), max_rounds=0), "max_rounds: got 0"),
    "real loss: start": (lambda: minimise_real_loss(_loss(), start=np.ones(2)), "start: got shape"),
    "real loss: certificate": (lambda: certify_real_loss(_loss(), np.ones(2)), "mu: got shape"),
    "dead gate: sigma": (lambda: dead_gate_flow(1.0, 0.0, 0.1, [0.0]), "sigma: .*entries > 0"),
    "dead gate: sigma² overflows": (lambda: dead_gate_flow(1.0, 1e160, 0.1, [0.0]), "mu, sigma: got 1 and 1e.160"),
    "dead gate: sigma² underflows": (lambda: dead_gate_flow(0.0, 1e-200, 0.1, [1.0]), "mu, sigma: got 0 and 1e-200"),
    "dead gate: gamma": (lambda: dead_gate_flow(1.0, 1.0, -0.1, [0.0]), "gamma: .*entries > 0"),
    "dead gate: no time": (lambda: dead_gate_flow(1.0, 1.0, 0.1, []), r"time: got \[\]"),
    "dead gate: before": (lambda: dead_gate_flow(1.0, 1.0, 0.1, [-1.0]), "time: got"),
    "dead gate: coordinates": (lambda: dead_gate_flow(1.0, 1.0, 0.1, [0.0], "log"), "coordinates: got 'log'"),
    "silent gate: gamma": (lambda: constant_unit(5.0, 0.0), "gamma: .*entries > 0"),
    "silent gate: target": (lambda: constant_unit(np.nan), "target: got 1 of 1"),
    "silent gate: y² overflows": (lambda: constant_unit(1e200), r"target: got 1e\+200, expected y² and y²/gamma below"),
    "silent gate: no value": (lambda: closed_mean_information([]), "values: got none"),
    "silent gate: probabilities": (lambda: closed_mean_information([1.0, 2.0], [1.0]), "probabilities: got shape"),
    "silent gate: deviation": (lambda: closed_mean_information([1.0], sigma=0.0), "sigma: .*entries > 0"),
}


OF_A_BOUND = (
    a_priori_limit, check_closure, check_convexity, check_existence, check_sparsity_bound, enumerate_local_minima,
    find_local_minimum, spectrum, survivor_limit, lambda bound: certify(bound, [0.0]),
    lambda bound: check_budget(bound, [0.0]), lambda bound: check_collinearity(bound, find_local_minimum(CLOSED)),
    lambda bound: path_slope(bound, [0.0]), lambda bound: soft_rank_of(bound, [0.0]),
    lambda bound: sparsity_path(bound, [1.0]),
)  # fmt: skip


@pytest.mark.parametrize("call", OF_A_BOUND)
@pytest.mark.parametrize("other", [None, EYE, "bound", 3.0])
def test_not_a_bound(call: Callable[[object], object], other: object) -> None:
    with pytest.raises(InvalidInputError, match=f"bound: got {type(other).__name__}, expected a QuadraticBound"):
        call(other)


def test_a_tensor_with_gradient_is_as_good_as_an_array() -> None:
    gram = torch.eye(3, requires_grad=True)
    bound = QuadraticBound.from_gram(gram, torch.zeros(3, requires_grad=True))
    assert bound.expectation(gram[0], gram[0]) == 2.0
    f = torch.ones(6, 3, requires_grad=True)
    assert _loss(f=f).loss(np.ones(3)) == _loss().loss(np.ones(3))


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises(InvalidInputError, match=message) as caught:
        call()
    assert re.search(r"got .*expected .*Remedy: ", str(caught.value), re.DOTALL)
