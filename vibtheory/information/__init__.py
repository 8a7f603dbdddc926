"""Mutual information of gated layers, and the information-bottleneck principle (P1–P3, F). Everything in nats.

Reading order:

1. `channel`: the law of h given x as a mixed measure (P3). `result`: what every bound and estimator returns.
2. Bounds, one per file, each declaring direction, assumptions, cost and ceiling: `variational` (P2), `gaussian`,
   `known_conditional` (leave-one-out, InfoNCE), `pairwise` (mixtures), `per_unit` (quadrature).
3. Baselines for teaching: `ksg`, `binning`. By name, all of them: `estimate`. From joint samples alone: `from_samples`
   (`critics` trains the networks of NWJ, MINE, SMILE, InfoNCE and the difference of entropies).
4. `closed_form`: laws whose information is known.
5. `layer_bound` (P1 decided), `gaussian_prior` (P2 from averages of activations).
6. `bottleneck`, `bottleneck_curve`, `gaussian_bottleneck`: the information-bottleneck principle itself.

Functions that share a name with their file (`estimate`, `pairwise`, …) are why nothing is lazy here: a submodule's name
would hide the function. It costs no torch: only the pairwise bounds load it, when called.
"""

from __future__ import annotations

from vibtheory.information.binning import binning
from vibtheory.information.bottleneck import (
    BottleneckSolution,
    blahut_arimoto,
    deterministic_bottleneck,
    stability_beta,
)
from vibtheory.information.bottleneck_curve import IBCurve, exact_ib_curve, ib_curve
from vibtheory.information.channel import GatedChannel
from vibtheory.information.closed_form import (
    discrete_memoryless,
    gaussian_channel,
    multivariate_gaussian,
    scalar_gated_channel,
    uniform_additive_noise,
)
from vibtheory.information.estimate import METHODS, estimate
from vibtheory.information.from_samples import SAMPLE_METHODS, from_samples
from vibtheory.information.gaussian import gaussian, gaussian_tight, logdet
from vibtheory.information.gaussian_bottleneck import GaussianBottleneck, gaussian_bottleneck
from vibtheory.information.gaussian_prior import (
    ActivationStatistics,
    activation_statistics,
    expected_kl,
    psi,
    zero_share,
)
from vibtheory.information.known_conditional import infonce, leave_one_out
from vibtheory.information.ksg import ksg, ksg_samples
from vibtheory.information.layer_bound import GatedUnit, LayerBound, layer_bound
from vibtheory.information.pairwise import pairwise, pairwise_bhattacharyya
from vibtheory.information.per_unit import per_unit, unit_information
from vibtheory.information.result import MutualInformation
from vibtheory.information.variational import UnitTerms, plain, unit_terms, variational, variational_factorised

__all__ = [
    "METHODS",
    "SAMPLE_METHODS",
    "ActivationStatistics",
    "BottleneckSolution",
    "GatedChannel",
    "GatedUnit",
    "GaussianBottleneck",
    "IBCurve",
    "LayerBound",
    "MutualInformation",
    "UnitTerms",
    "activation_statistics",
    "binning",
    "blahut_arimoto",
    "deterministic_bottleneck",
    "discrete_memoryless",
    "estimate",
    "exact_ib_curve",
    "expected_kl",
    "from_samples",
    "gaussian",
    "gaussian_bottleneck",
    "gaussian_channel",
    "gaussian_tight",
    "ib_curve",
    "infonce",
    "ksg",
    "ksg_samples",
    "layer_bound",
    "leave_one_out",
    "logdet",
    "multivariate_gaussian",
    "pairwise",
    "pairwise_bhattacharyya",
    "per_unit",
    "plain",
    "psi",
    "scalar_gated_channel",
    "stability_beta",
    "uniform_additive_noise",
    "unit_information",
    "unit_terms",
    "variational",
    "variational_factorised",
    "zero_share",
]
