"""One table of the room's bad inputs: each is refused at the edge, in a sentence with a remedy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vibtheory.errors import InvalidInputError
from vibtheory.information import (
    METHODS,
    GatedChannel,
    GatedUnit,
    activation_statistics,
    binning,
    blahut_arimoto,
    deterministic_bottleneck,
    discrete_memoryless,
    estimate,
    exact_ib_curve,
    expected_kl,
    from_samples,
    gaussian,
    gaussian_bottleneck,
    gaussian_channel,
    gaussian_tight,
    ib_curve,
    infonce,
    ksg,
    ksg_samples,
    layer_bound,
    leave_one_out,
    logdet,
    multivariate_gaussian,
    pairwise,
    pairwise_bhattacharyya,
    relevance,
    scalar_gated_channel,
    uniform_additive_noise,
    unit_information,
    unit_terms,
)

F = np.array([[0.0, 20.0, 0.03], [5.0, 0.0, 0.01], [2.0, 0.0, -0.02], [0.0, 3.0, 0.5], [0.0, 0.0, 0.0]])
CHANNEL = GatedChannel(F, [1.5, -0.2, 40.0], [0.3, 2.0, 11.0])
H = CHANNEL.sample(0)
ONES, ONE = np.ones((5, 1)), np.ones(3)
COVARIANCE = np.array([[4.0, 30.0], [30.0, 400.0]])
JOINT = np.random.default_rng(0).dirichlet(np.full(16, 0.6)).reshape(4, 4)
STATISTICS = activation_statistics(F)
UNIT = GatedUnit(np.tanh, 1.0, 1.0)


def samples(**changes):
    return from_samples(**{"x": np.zeros(130), "y": np.zeros(130), **changes})


def layer(**changes):
    """P1 on three x, two y and one unit, with these arguments changed."""
    joint = np.random.default_rng(1).dirichlet(np.ones(6)).reshape(3, 2)
    valid = {"joint": joint, "f": [[0.7], [1.9], [3.1]], "mu": [1.2], "sigma": [0.3]}
    half = {"log_classifier": lambda h: np.full((len(h), 2), np.log(0.5))}
    return layer_bound(**{**valid, **half, **changes})


BAD = [
    (lambda: GatedChannel(np.ones(3), 1, 1), "f: got shape"),
    (lambda: GatedChannel(np.ones((0, 3)), 1, 1), "f: got no rows"),
    (lambda: GatedChannel([[np.nan, 1.0]], 1, 1), "f: got 1 of 2"),
    (lambda: GatedChannel(F * 1j, 1, 1), "f: got ndarray"),
    (lambda: GatedChannel([["a"]], 1, 1), "f: got list"),
    (lambda: GatedChannel([["1"]], 1, 1), "f: got list"),
    (lambda: GatedChannel(np.ma.masked_less(F, 0), 1, 1), "f: got a masked array"),
    (lambda: GatedChannel(F * 1e-160, 1, 1), "f, mu, sigma, tau: got sizes"),
    (lambda: GatedChannel(F, 1e160, 1), "f, mu, sigma, tau: got sizes"),
    (lambda: GatedChannel(F * 1e100, 1e100, 1), "f, mu, sigma, tau: got sizes"),
    (lambda: GatedChannel(F, 1, 1, 1e-160), "f, mu, sigma, tau: got sizes"),
    (lambda: CHANNEL.rows([5]), "index: got"),
    (lambda: CHANNEL.rows("a"), "index: got"),
    (lambda: CHANNEL.sample(0, [-1]), "rows: got"),
    (lambda: GatedChannel(F, [1, 2], 1), "mu: got shape"),
    (lambda: GatedChannel(F, 1, [[1, 2, 3]]), "sigma: got shape"),
    (lambda: GatedChannel(F, 1, [1, -0.1, 1]), "sigma: got smallest entry -0.1"),
    (lambda: GatedChannel(F, 1, 1, -0.1), "tau: got -0.1"),
    (lambda: GatedChannel(F, 1, 1, [0.1, 0.2]), "tau: got shape"),
    (lambda: GatedChannel(F, 1, [1, 0, 1]), "sigma: got 1 open gates"),
    (lambda: GatedChannel.regular(F, 0.0), "tau > 0"),
    (lambda: relevance(CHANNEL, [0, 1]), "y: got shape"),
    (lambda: relevance(CHANNEL, list("abcde")), "y: got list"),
    (lambda: relevance(CHANNEL, np.arange(5), over="draws"), "over: got 'draws'"),
    (lambda: relevance(CHANNEL, np.arange(5), seed="a"), "seed: got 'a'"),
    (lambda: CHANNEL.log_density(H[:, :2]), "h: got shape"),
    (lambda: CHANNEL.log_density(H, [0, 1]), "pattern: got shape"),
    (lambda: CHANNEL.log_density_ratio(H, [0, 1]), "rows: got"),
    (lambda: CHANNEL.log_density_ratio(H, np.arange(5) * 1.0), "rows: got float64"),
    (lambda: CHANNEL.log_density_ratio(H, np.arange(5) + 1), "rows: got"),
    (lambda: CHANNEL.log_density_ratio(H, [1, 1, 2, 3, 4]), "another zero pattern"),
    (lambda: CHANNEL.sample("a"), "seed: got 'a'"),
    (lambda: infonce(CHANNEL, None), "seed: got None"),
    (lambda: leave_one_out(CHANNEL, -1), "seed: got -1"),
    (lambda: ksg(CHANNEL, seed=0.5), "seed: got 0.5"),
    (lambda: binning(CHANNEL, seed=True), "seed: got True"),
    (lambda: infonce(CHANNEL, draws=0), "draws: got 0"),
    (lambda: leave_one_out(GatedChannel([[1.0]], 1.0, 1.0)), "at least two rows"),
    (lambda: binning(CHANNEL, bins=1), "bins: got 1"),
    (lambda: binning(CHANNEL, bins=2.5), "bins: got 2.5"),
    (lambda: ksg(CHANNEL, k=2.5), "k: got 2.5"),
    (lambda: ksg_samples(ONES, ONES, 0), "k: got 0"),
    (lambda: ksg_samples(ONES, ONES, 5), "k: got 5"),
    (lambda: ksg_samples(ONES, ONES[1:]), "y: got 4 rows"),
    (lambda: ksg_samples(ONES[:, 0], ONES), "x: got shape"),
    (lambda: ksg_samples(ONES, ONES[:, 0]), "y: got shape"),
    (lambda: ksg_samples(ONES, ONES, 3, alpha=1.5), "alpha: got 1.5"),
    (lambda: ksg_samples(ONES, ONES, 3, alpha=0), "alpha: got smallest entry 0"),
    (lambda: ksg_samples(F, ONES, 4, alpha=0.2), "k: got 4, expected more than the 4"),
    (lambda: estimate(CHANNEL, "magic"), "method: got 'magic'"),
    (lambda: estimate(np.ones((3, 2))), "channel: got ndarray"),
    (lambda: estimate(CHANNEL, "infonce", bins=3), "bins: got an option of 'infonce'"),
    (lambda: estimate(CHANNEL, "plain", seed=3), "expected no option"),
    (lambda: gaussian(CHANNEL), "tau > 0"),
    (lambda: gaussian_tight(CHANNEL), "tau > 0"),
    (lambda: logdet(CHANNEL), "tau > 0"),
    (lambda: pairwise(CHANNEL, precision="float16"), "precision: got 'float16'"),
    (lambda: pairwise(CHANNEL, device="nowhere"), "device: got 'nowhere'"),
    (lambda: pairwise_bhattacharyya(CHANNEL, precision="float16"), "precision: got 'float16'"),
    (lambda: pairwise_bhattacharyya(CHANNEL, device="nowhere"), "device: got 'nowhere'"),
    (lambda: gaussian_channel([-1.0], 1.0), "signal_variance: got smallest"),
    (lambda: gaussian_channel(1.0, 0.0), "noise_variance: got smallest"),
    (lambda: gaussian_channel([1.0, 2.0], [1.0]), "noise_variance: got shape"),
    (lambda: multivariate_gaussian(np.ones((2, 3)), 1), "covariance: got shape"),
    (lambda: multivariate_gaussian([[1.0, 0.5], [0.1, 1.0]], 1), "covariance: got shape"),
    (lambda: multivariate_gaussian(COVARIANCE, 2), "split: got 2"),
    (lambda: multivariate_gaussian(COVARIANCE, 0), "split: got 0"),
    (lambda: multivariate_gaussian(COVARIANCE, 0.5), "split: got 0.5"),
    (lambda: multivariate_gaussian(np.ones((2, 2)), 1), "not positive definite"),
    (lambda: multivariate_gaussian([[-1.0, 0.0], [0.0, 1.0]], 1), "not positive definite"),
    (lambda: uniform_additive_noise(0.0, 1.0), "signal_width: got smallest"),
    (lambda: uniform_additive_noise(1.0, -1.0), "noise_width: got smallest"),
    (lambda: discrete_memoryless([[0.5, 0.6]]), "transition: got sums"),
    (lambda: discrete_memoryless([[1.5, -0.5]]), "transition: got smallest entry -0.5"),
    (lambda: discrete_memoryless(np.ones((0, 2))), "transition: got sums"),
    (lambda: discrete_memoryless(np.eye(2), [0.5, 0.6]), "p_x: got sums"),
    (lambda: discrete_memoryless(np.eye(2), [1.0]), "p_x: got shape"),
    (lambda: scalar_gated_channel([[1.0]], 1.0, 1.0), "f: got shape"),
    (lambda: scalar_gated_channel([], 1.0, 1.0), "f: got no inputs"),
    (lambda: scalar_gated_channel([1.0], [1.0], 1.0), "mu: got shape"),
    (lambda: scalar_gated_channel([1.0], 1.0, -1.0), "sigma: got -1"),
    (lambda: scalar_gated_channel([1.0], 1.0, 1.0, -1.0), "tau: got -1"),
    (lambda: scalar_gated_channel([1.0], 1.0, 0.0), "sigma: got a noiseless gate"),
    (lambda: scalar_gated_channel([1.0], 1.0, 1.0, order=1), "order: got 1"),
    (lambda: scalar_gated_channel([1.0], 1.0, 1.0, p_x=[0.5, 0.5]), "p_x: got shape"),
    (lambda: scalar_gated_channel([1.0], 1.0, 1.0, p_x=[0.4]), "p_x: got sums"),
    (lambda: samples(method="guess"), "^method: got"),
    (lambda: samples(x=np.zeros((40, 2, 2))), "^x: got"),
    (lambda: samples(x=np.full(40, np.nan)), "^x: got"),
    (lambda: samples(y=np.zeros(41)), "^y: got"),
    (lambda: samples(x=np.zeros(31), y=np.zeros(31)), "^x: got"),
    (lambda: samples(y=np.zeros((40, 0))), "^y: got"),
    (lambda: samples(steps=0), "^steps: got"),
    (lambda: samples(slices=2.5), "^slices: got"),
    (lambda: samples(seed="a"), "^seed: got"),
    (lambda: samples(seed=-1), "^seed: got"),
    (lambda: activation_statistics(3), "^f"),
    (lambda: activation_statistics(np.zeros((0, 2))), "^f"),
    (lambda: activation_statistics(iter([])), "^f"),
    (lambda: activation_statistics(np.ones((2, 3)) * 1e-160), "f: got units of size"),
    (lambda: activation_statistics(np.ones((2, 3)) * 1e160), "f: got units of size"),
    (lambda: layer(f=[[7e-161], [2e-160], [3e-160]]), "f, mu, sigma, tau: got sizes"),
    (lambda: layer(f=[[7e159], [2e160], [3e160]]), "f, mu, sigma, tau: got sizes"),
    (lambda: activation_statistics([np.ones((2, 3)), np.ones((2, 4))]), "^f"),
    (lambda: STATISTICS.minimum_kl([1.0], [1.0]), "^mu"),
    (lambda: STATISTICS.best_variance(ONE, -ONE), "^sigma"),
    (lambda: expected_kl(F, ONE, ONE, [1.0, 0.0, 1.0]), "^xi"),
    (lambda: blahut_arimoto(JOINT[0], 2), "^joint"),
    (lambda: blahut_arimoto(np.zeros((0, 2)), 2), "^joint"),
    (lambda: blahut_arimoto([[1.5, -0.5]], 2), "^joint"),
    (lambda: blahut_arimoto(2 * JOINT, 2), "^joint"),
    (lambda: blahut_arimoto([[0.5, 0.5], [0, 0]], 2), "^joint"),
    (lambda: blahut_arimoto(JOINT, -1), "^beta"),
    (lambda: blahut_arimoto(JOINT, 1e210), "^beta"),
    (lambda: blahut_arimoto(JOINT, 2, tolerance="a"), "^tolerance"),
    (lambda: blahut_arimoto(JOINT, 2, clusters=10**400), "^clusters"),
    (lambda: exact_ib_curve(JOINT, [0.1], grid=2.5), "^grid"),
    (lambda: exact_ib_curve(JOINT, [0.1], tolerance=np.nan), "^tolerance"),
    (lambda: ib_curve(JOINT, [2.0]).relevance("0.1"), "^rate"),
    (lambda: ib_curve(JOINT, [2.0]).relevance([0.1 + 1j]), "^rate"),
    (lambda: blahut_arimoto(JOINT, 2, clusters=0), "^clusters"),
    (lambda: blahut_arimoto(JOINT, 2, clusters=2.5), "^clusters"),
    (lambda: blahut_arimoto(JOINT, 2, restarts=-1), "^restarts"),
    (lambda: blahut_arimoto(JOINT, 2, restarts=True), "^restarts"),
    (lambda: blahut_arimoto(JOINT, 2, seed="a"), "^seed"),
    (lambda: blahut_arimoto((1 + 1e-4) * JOINT, 2), "^joint"),
    (lambda: ib_curve(JOINT, [-1.0]), "^beta"),
    (lambda: blahut_arimoto(JOINT, 2, max_iterations=0), "^max_iterations"),
    (lambda: blahut_arimoto(JOINT, 2, tolerance=0), "^tolerance"),
    (lambda: blahut_arimoto(JOINT, 2, start=np.ones((4, 2))), "^start"),
    (lambda: blahut_arimoto(JOINT, 2, clusters=2, start=np.eye(4)), "^start"),
    (lambda: deterministic_bottleneck(JOINT, 2, restarts=-1), "^restarts"),
    (lambda: deterministic_bottleneck(JOINT, 2, max_iterations=0), "^max_iterations"),
    (lambda: ib_curve(JOINT, []), "^betas"),
    (lambda: exact_ib_curve(np.full((7, 2), 1 / 14), [0.1]), "^joint"),
    (lambda: exact_ib_curve(JOINT, []), "^rates"),
    (lambda: exact_ib_curve(JOINT, [-0.1]), "^rates"),
    (lambda: exact_ib_curve(JOINT, [0.1], grid=0), "^grid"),
    (lambda: ib_curve(JOINT, [2.0]).relevance(-1.0), "^rate"),
    (lambda: gaussian_bottleneck([[1.0, 0.0]], [[1.0]], [[0.1]]), "^cov_x"),
    (lambda: gaussian_bottleneck([[1.0, 0.5], [0.1, 1.0]], [[1.0]], [[0.1], [0.1]]), "^cov_x"),
    (lambda: gaussian_bottleneck([[1.0]], [[-1.0]], [[0.1]]), "^cov_y"),
    (lambda: gaussian_bottleneck([[1.0]], [[1.0]], [[0.1, 0.2]]), "^cov_xy"),
    (lambda: gaussian_bottleneck([[1.0]], [[1.0]], [[1.0]]), "^cov_xy"),
    (lambda: gaussian_bottleneck([[1.0]], [[1.0]], [[0.5]]).point(-1), "^beta"),
    (lambda: gaussian_bottleneck([[1.0]], [[1.0]], [[0.5]]).projection(-1), "^beta"),
    (lambda: gaussian_bottleneck([[1.0]], [[1.0]], [[0.5]]).curve([]), "^betas"),
    (lambda: gaussian_bottleneck([[1.0]], [[1.0]], [[0.5]]).relevance(-1), "^rate"),
    (lambda: layer(joint=[[0.5]]), "^joint:"),
    (lambda: layer(f=np.ones((2, 1))), "^f:"),
    (lambda: layer(f=np.ones((3, 3)), mu=np.ones(3), sigma=np.ones(3)), "^f:"),
    (lambda: layer(f=np.ones((3, 2)), mu=np.ones(2), sigma=np.ones(2), deeper=[UNIT]), "^f:"),
    (lambda: layer(mu=[1.0, 2.0]), "^mu:"),
    (lambda: layer(sigma=[0.0]), "^sigma:"),
    (lambda: layer(layer=2), "^layer:"),
    (lambda: layer(gamma=-1.0), "^gamma:"),
    (lambda: layer(prior="flat"), "^prior:"),
    (lambda: layer(prior_variance=[0.0]), "^prior_variance:"),
    (lambda: layer(order=1), "^order:"),
    (lambda: layer(tolerance=0.0), "^tolerance:"),
    (lambda: layer(order="16"), "^order:"),
    (lambda: layer(deeper=[np.tanh]), "^deeper:"),
    (lambda: layer(log_classifier=None), "^log_classifier:"),
    (lambda: layer(deeper=[GatedUnit(np.tanh, np.nan, 1.0)]), "^deeper.mu:"),
    (lambda: layer(deeper=[GatedUnit(np.tanh, 1.0, 0.0)]), "^deeper.sigma:"),
    (lambda: layer(deeper=[GatedUnit(lambda h: h[:2], 1.0, 1.0)]), "^deeper.f:"),
    (lambda: layer(deeper=[GatedUnit(np.zeros_like, 1.0, 1.0)]), "^deeper.f:"),
    (lambda: layer(log_classifier=lambda h: np.zeros((len(h), 2))), "^log_classifier:"),
    (lambda: layer(log_classifier=lambda h: np.zeros((len(h), 3))), "^log_classifier:"),
    (lambda: layer(f=[[0.7, 2], [1.9, -0.5], [3.1, 0.4]], mu=[1.2, -0.8], sigma=[0.3, 0.6], order=100), "^f:"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_refused_in_a_sentence(call, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        call()
    assert "Remedy: " in str(caught.value)


@pytest.mark.parametrize("method", [*METHODS.values(), unit_information, unit_terms, lambda c: relevance(c, [0])])
def test_not_a_channel(method):
    with pytest.raises(InvalidInputError, match="channel: got ndarray, expected a GatedChannel"):
        method(F)


def test_tensors_are_taken_with_or_without_gradient():
    tensor = torch.tensor(F, requires_grad=True)
    np.testing.assert_array_equal(GatedChannel(tensor, 1.0, 0.5).f, F)
    assert ksg_samples(tensor, torch.tensor(F).float(), 3).method == "ksg"
