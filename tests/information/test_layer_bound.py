"""P1 against adaptive quadrature written here, and each named part of the gap against its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import log_softmax
from scipy.stats import norm

from vibtheory.errors import InvalidInputError
from vibtheory.information.layer_bound import GatedUnit, layer_bound

JOINT = np.random.default_rng(1).dirichlet(np.ones(6)).reshape(3, 2)
F = np.array([[0.7], [1.9], [3.1]])
MU, SIGMA = np.array([1.2]), np.array([0.3])


def _classify(h):
    return log_softmax(np.column_stack([1.3 * h[:, 0] - 0.4, -0.2 * h.sum(1)]), axis=1)


def _smooth(h):
    return 1.5 + np.tanh(h - 2)


CASES = {
    "one unit": {"f": F, "mu": MU, "sigma": SIGMA, "gamma": 0.7},
    "chosen prior": {"f": F, "mu": MU, "sigma": SIGMA, "prior_variance": [9.0], "prior": "gaussian"},
    "ReLU zero": {"f": F * [[0], [1], [1]], "mu": MU, "sigma": SIGMA, "gamma": 3.0},
    "two units": {"f": [[0.7, 2], [1.9, -0.5], [3.1, 0.4]], "mu": [1.2, -0.8], "sigma": [0.3, 0.6]},
    "two units, zeros": {"f": [[0.7, 0], [1.9, -0.5], [0, 0.4]], "mu": [1.2, -0.8], "sigma": [0.3, 0.6]},
    "chain, layer 1": {
        "f": F,
        "mu": MU,
        "sigma": SIGMA,
        "deeper": [GatedUnit(_smooth, 0.9, 0.25)],
        "layer": 1,
        "gamma": 0.3,
    },
    "chain, layer 2": {"f": F, "mu": MU, "sigma": SIGMA, "deeper": [GatedUnit(_smooth, 0.9, 0.25)], "layer": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_the_gap_is_its_three_parts_and_never_negative(name):
    bound = layer_bound(JOINT, log_classifier=_classify, **CASES[name])
    assert bound.quadrature_error < 1e-6
    assert bound.identity_error < 1e-6
    assert min(bound.prior_gap, bound.classifier_gap, bound.processing_gap) >= -1e-9
    assert bound.gap >= -1e-9
    assert "resolved" in bound.status
    assert "layer" in str(bound)


@pytest.mark.parametrize("xi", [None, 9.0])
def test_one_unit_against_adaptive_quadrature(xi):
    gamma = 0.7
    p_x, p_y = JOINT.sum(1), JOINT.sum(0)
    centre, scale = F[:, 0] * MU, F[:, 0] * SIGMA
    variance = p_x @ (centre**2 + scale**2) if xi is None else xi

    def integrate(g):
        return quad(g, -3, 14, epsabs=1e-11, limit=500, points=sorted({*centre, *(centre + scale), *(centre - scale)}))[
            0
        ]

    def p_hx(h):
        return norm.pdf(h, centre, scale)

    def p_hy(h):
        return JOINT.T @ p_hx(h)

    def xlog(p, q):
        return float(np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.maximum(q, 1e-300)), 0)))

    truth = {
        "information": integrate(lambda h: xlog(p_x * p_hx(h), p_x * (p_x @ p_hx(h)))),
        "relevance": integrate(lambda h: xlog(p_hy(h), p_y * (p_x @ p_hx(h)))),
        "prior_gap": integrate(lambda h: xlog(p_x @ p_hx(h), norm.pdf(h, 0, np.sqrt(variance)))),
        "rate": integrate(lambda h: xlog(p_x * p_hx(h), p_x * norm.pdf(h, 0, np.sqrt(variance)))),
        "cross_entropy": integrate(lambda h: -float(p_hy(h) @ _classify(np.array([[h]]))[0])),
    }
    found = layer_bound(JOINT, F, MU, SIGMA, _classify, gamma=gamma, prior_variance=None if xi is None else [xi])
    for name, value in truth.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(found.objective, gamma * truth["information"] - truth["relevance"], atol=1e-6)
    np.testing.assert_allclose(found.bound, gamma * truth["rate"] + truth["cross_entropy"], atol=1e-6)


def test_second_layer_relevance_against_nested_quadrature():
    unit = GatedUnit(_smooth, 0.9, 0.25)
    bound = layer_bound(JOINT, F, MU, SIGMA, _classify, deeper=[unit], layer=2)
    # A plain trapezoidal rule on a wide fine grid: spectrally accurate for these smooth, decaying integrands.
    h1, h2 = np.linspace(-2, 14, 4001), np.linspace(-1, 6, 1401)
    p1 = norm.pdf(h1, F * MU, F * SIGMA) * (h1[1] - h1[0])  # [3, 4001]
    p2 = p1 @ norm.pdf(h2, _smooth(h1)[:, None] * 0.9, _smooth(h1)[:, None] * 0.25)  # [3, 1401]
    p_yh = JOINT.T @ p2
    product = np.outer(JOINT.sum(0), p_yh.sum(0))
    seen = p_yh > 1e-200
    relevance = (p_yh[seen] * np.log(p_yh[seen] / product[seen])).sum() * (h2[1] - h2[0])
    np.testing.assert_allclose(bound.relevance_last, relevance, atol=1e-7)


def test_gaussian_prior_is_infinite_at_relu_zeros_and_says_so():
    bound = layer_bound(JOINT, F * [[0], [1], [1]], MU, SIGMA, _classify, prior="gaussian")
    assert bound.bound == np.inf
    assert bound.prior_gap == np.inf
    assert "pattern" in bound.status


@pytest.mark.filterwarnings("error")
def test_a_unit_that_is_always_zero_changes_nothing():
    alone = layer_bound(JOINT, F, MU, SIGMA, _classify, gamma=0.7)
    both = layer_bound(JOINT, np.hstack([F, 0 * F]), [1.2, 0.4], [0.3, 0.5], _classify, gamma=0.7)
    for field in ("objective", "bound", "information", "rate", "prior_gap", "cross_entropy"):
        np.testing.assert_allclose(getattr(both, field), getattr(alone, field), atol=1e-9)


def test_unresolved_quadrature_names_the_remedy():
    unit = GatedUnit(lambda h: np.maximum(h - 1, 0), 0.9, 0.25)
    assert "raise order" in layer_bound(JOINT, F, MU, SIGMA, _classify, deeper=[unit], layer=2, order=4).status


UNIT = GatedUnit(_smooth, 0.9, 0.25)


def test_tails_where_the_product_of_marginals_underflows() -> None:
    joint = np.array([[0.04838689, 0.45911645, 0.02938339], [0.02457715, 0.2643043, 0.17423182]])
    weights = np.array([[0.4, -0.7, 0.1], [1.1, 0.3, -0.2]])
    found = layer_bound(
        joint / joint.sum(), np.array([[0.82170578, 0.31693466], [0.0, 2.18951615]]),
        np.array([0.31262853, 1.17305524]), np.array([0.57713051, 0.5569178]),
        lambda h: np.asarray(log_softmax(h @ weights, axis=1)), gamma=0.93,
    )  # fmt: skip
    assert np.isfinite(found.objective)
    assert found.identity_error < 1e-6


def test_tails_where_the_classifier_underflows() -> None:
    """q(y|h) below the least number, far out in h where p(y|h) is not 0: the classifier's gap stays finite."""
    joint, f, mu, sigma = np.array([[0.5, 0.1], [0.1, 0.3]]), np.array([[2.0], [3.0]]), np.array([1.0]), np.array([1.0])
    weights = np.array([[90.0, -90.0]])
    found = layer_bound(joint, f, mu, sigma, lambda h: log_softmax(h @ weights, axis=1))
    assert log_softmax(np.array([[20.0]]) @ weights, axis=1).min() < -3000
    assert np.isfinite(found.classifier_gap)
    assert found.identity_error < 1e-9 * found.bound
    assert found.gap > 0


def test_a_classifier_in_float32_is_normalised() -> None:
    """Its rows sum to 1 within its own precision; the bound is that of the same probabilities, normalised."""

    def single(h):
        return _classify(h).astype(np.float32)

    def normalised(h):
        return log_softmax(single(h).astype(np.float64), axis=1)

    for case in CASES.values():
        ours, reference = (layer_bound(JOINT, log_classifier=one, **case) for one in (single, normalised))
        assert ours.gap == pytest.approx(reference.gap, abs=1e-14)
    with pytest.raises(InvalidInputError, match="log_classifier: got rows that do not sum to 1"):
        layer_bound(JOINT, log_classifier=lambda h: single(h).astype(np.float64), **CASES["one unit"])
