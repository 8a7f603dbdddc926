"""Mutual information of gated layers, and the information-bottleneck principle (P1–P3, F). Everything in nats.

Reading order:

1. `channel`: the law of h given x as a mixed measure (P3). `result`: what every bound and estimator returns.
2. Bounds, one per file, each declaring direction, assumptions, cost and ceiling: `variational` (P2), `gaussian`,
   `known_conditional` (leave-one-out, InfoNCE), `pairwise` (mixtures), `per_unit` (quadrature).
3. Baselines for teaching: `ksg`, `binning`. By name, all of them: `estimate`. From joint samples alone: `from_samples`
   (`critics` trains the networks of NWJ, MINE, SMILE, InfoNCE and the difference of entropies).
4. `closed_form`: laws whose information is known.
5. `layer_bound` (P1 decided), `gaussian_prior` (P2 from averages of activations).
6. The information-bottleneck principle itself: `bottleneck` (solved in `fixed_point`), `bottleneck_curve`,
   `gaussian_bottleneck`.

Functions that share a name with their file (`estimate`, `pairwise`, …) are why nothing is lazy here: a submodule's name
would hide the function. It costs no torch: only the pairwise bounds load it, when called.
"""

from __future__ import annotations

from vibtheory.information.binning import binning as binning
from vibtheory.information.bottleneck import blahut_arimoto as blahut_arimoto
from vibtheory.information.bottleneck import deterministic_bottleneck as deterministic_bottleneck
from vibtheory.information.bottleneck import stability_beta as stability_beta
from vibtheory.information.bottleneck_curve import IBCurve as IBCurve
from vibtheory.information.bottleneck_curve import exact_ib_curve as exact_ib_curve
from vibtheory.information.bottleneck_curve import ib_curve as ib_curve
from vibtheory.information.bottleneck_solution import BottleneckSolution as BottleneckSolution
from vibtheory.information.channel import GatedChannel as GatedChannel
from vibtheory.information.closed_form import discrete_memoryless as discrete_memoryless
from vibtheory.information.closed_form import gaussian_channel as gaussian_channel
from vibtheory.information.closed_form import multivariate_gaussian as multivariate_gaussian
from vibtheory.information.closed_form import scalar_gated_channel as scalar_gated_channel
from vibtheory.information.closed_form import uniform_additive_noise as uniform_additive_noise
from vibtheory.information.estimate import METHODS as METHODS
from vibtheory.information.estimate import estimate as estimate
from vibtheory.information.from_samples import SAMPLE_METHODS as SAMPLE_METHODS
from vibtheory.information.from_samples import from_samples as from_samples
from vibtheory.information.gaussian import gaussian as gaussian
from vibtheory.information.gaussian import gaussian_tight as gaussian_tight
from vibtheory.information.gaussian import logdet as logdet
from vibtheory.information.gaussian_bottleneck import GaussianBottleneck as GaussianBottleneck
from vibtheory.information.gaussian_bottleneck import gaussian_bottleneck as gaussian_bottleneck
from vibtheory.information.gaussian_prior import ActivationStatistics as ActivationStatistics
from vibtheory.information.gaussian_prior import activation_statistics as activation_statistics
from vibtheory.information.gaussian_prior import expected_kl as expected_kl
from vibtheory.information.gaussian_prior import psi as psi
from vibtheory.information.gaussian_prior import zero_share as zero_share
from vibtheory.information.known_conditional import infonce as infonce
from vibtheory.information.known_conditional import leave_one_out as leave_one_out
from vibtheory.information.known_conditional import leave_one_out_per_unit as leave_one_out_per_unit
from vibtheory.information.ksg import ksg as ksg
from vibtheory.information.ksg import ksg_samples as ksg_samples
from vibtheory.information.layer_bound import GatedUnit as GatedUnit
from vibtheory.information.layer_bound import LayerBound as LayerBound
from vibtheory.information.layer_bound import layer_bound as layer_bound
from vibtheory.information.pairwise import pairwise as pairwise
from vibtheory.information.pairwise import pairwise_bhattacharyya as pairwise_bhattacharyya
from vibtheory.information.per_unit import per_unit as per_unit
from vibtheory.information.per_unit import unit_information as unit_information
from vibtheory.information.relevance import relevance as relevance
from vibtheory.information.result import MutualInformation as MutualInformation
from vibtheory.information.variational import UnitTerms as UnitTerms
from vibtheory.information.variational import plain as plain
from vibtheory.information.variational import unit_terms as unit_terms
from vibtheory.information.variational import variational as variational
from vibtheory.information.variational import variational_factorised as variational_factorised
