"""The sparsity of gates, decided: quadratic bounds, certified local minima, rank and soft rank. Never imports torch.

Reading order (docs/theory.md numbers in parentheses):

1. `penalty` (T1): the profiled penalty ρ. `gram`, `quadratic`: ḡ, Φ, why ḡ bounds the loss, whether Φ is bounded below.
2. `rank`, `soft_rank`, `a_priori` (T2, T3, T9): the limits on the number of open gates.
3. `certificate`, `minima`, `enumeration`, `path` (T6, T7): local minima with proofs, all of them for d ≤ 12, along γ.
4. `sparsity`, `network_report`: the checker and what it reports, for one layer and for several. `trained_objective`
   (T8): the same for the trained objective itself.
5. `redundancy` (T4), `landscape`, `real_loss`, `silent_gate`, `dead_gate` (T4, T7): the rest.

`penalty` and `soft_rank` are modules here: the functions are `penalty.penalty` and `soft_rank.soft_rank`.
"""

from __future__ import annotations

from vibtheory.theory.a_priori import APriori as APriori
from vibtheory.theory.a_priori import a_priori_limit as a_priori_limit
from vibtheory.theory.certificate import Certificate as Certificate
from vibtheory.theory.certificate import certify as certify
from vibtheory.theory.dead_gate import DeadGateFlow as DeadGateFlow
from vibtheory.theory.dead_gate import dead_gate_flow as dead_gate_flow
from vibtheory.theory.enumeration import enumerate_local_minima as enumerate_local_minima
from vibtheory.theory.landscape import BudgetReport as BudgetReport
from vibtheory.theory.landscape import ClosureReport as ClosureReport
from vibtheory.theory.landscape import ConvexityReport as ConvexityReport
from vibtheory.theory.landscape import ExistenceReport as ExistenceReport
from vibtheory.theory.landscape import check_budget as check_budget
from vibtheory.theory.landscape import check_closure as check_closure
from vibtheory.theory.landscape import check_convexity as check_convexity
from vibtheory.theory.landscape import check_existence as check_existence
from vibtheory.theory.landscape import survivor_limit as survivor_limit
from vibtheory.theory.minima import LocalMinimum as LocalMinimum
from vibtheory.theory.minima import find_local_minimum as find_local_minimum
from vibtheory.theory.network_report import JointSparsityReport as JointSparsityReport
from vibtheory.theory.network_report import NetworkReport as NetworkReport
from vibtheory.theory.network_report import check_joint_sparsity as check_joint_sparsity
from vibtheory.theory.path import PathEvent as PathEvent
from vibtheory.theory.path import SparsityPath as SparsityPath
from vibtheory.theory.path import sparsity_path as sparsity_path
from vibtheory.theory.penalty import noise_fraction as noise_fraction
from vibtheory.theory.penalty import optimal_u as optimal_u
from vibtheory.theory.penalty import optimal_variance as optimal_variance
from vibtheory.theory.penalty import penalty_curvature as penalty_curvature
from vibtheory.theory.penalty import penalty_slope as penalty_slope
from vibtheory.theory.penalty import snr as snr
from vibtheory.theory.quadratic import Guarantee as Guarantee
from vibtheory.theory.quadratic import QuadraticBound as QuadraticBound
from vibtheory.theory.rank import RankReport as RankReport
from vibtheory.theory.rank import numerical_rank as numerical_rank
from vibtheory.theory.rank import rank_from_gram as rank_from_gram
from vibtheory.theory.rank import rank_of_rows as rank_of_rows
from vibtheory.theory.rank import spectrum as spectrum
from vibtheory.theory.real_certificate import certify_real_loss as certify_real_loss
from vibtheory.theory.real_loss import RealLossMinimum as RealLossMinimum
from vibtheory.theory.real_loss import RealLossReport as RealLossReport
from vibtheory.theory.real_loss import check_real_loss as check_real_loss
from vibtheory.theory.real_loss import minimise_real_loss as minimise_real_loss
from vibtheory.theory.redundancy import BohningCosines as BohningCosines
from vibtheory.theory.redundancy import CollinearityReport as CollinearityReport
from vibtheory.theory.redundancy import bohning_cosines as bohning_cosines
from vibtheory.theory.redundancy import check_collinearity as check_collinearity
from vibtheory.theory.redundancy import collinearity_limit as collinearity_limit
from vibtheory.theory.silent_gate import ClosedMeanInformation as ClosedMeanInformation
from vibtheory.theory.silent_gate import ConstantUnit as ConstantUnit
from vibtheory.theory.silent_gate import closed_mean_information as closed_mean_information
from vibtheory.theory.silent_gate import constant_unit as constant_unit
from vibtheory.theory.soft_rank import SoftRank as SoftRank
from vibtheory.theory.soft_rank import soft_rank_of as soft_rank_of
from vibtheory.theory.softmax_loss import SoftmaxLoss as SoftmaxLoss
from vibtheory.theory.sparsity import Inequality as Inequality
from vibtheory.theory.sparsity import SparsityReport as SparsityReport
from vibtheory.theory.sparsity import check_sparsity_bound as check_sparsity_bound
from vibtheory.theory.trained_objective import TrainedNetworkReport as TrainedNetworkReport
from vibtheory.theory.trained_objective import TrainedReport as TrainedReport
from vibtheory.theory.trained_objective import check_trained_objective as check_trained_objective
