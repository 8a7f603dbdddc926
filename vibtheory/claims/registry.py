"""Every claim of the paper, and ours of docs/theory.md, in reading order, each with what decides it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vibtheory.claims import (
    certification,
    figure2,
    gamma_path,
    information,
    landscape,
    layers,
    methods,
    printed_tables,
    redundancy,
    sparsity,
    surrogates,
    trained,
    width,
)
from vibtheory.claims.claim import Finding, Statement
from vibtheory.claims.instances import Effort
from vibtheory.theory.sparsity import SparsityReport

__all__ = ["STATEMENTS"]

_PAPER, _OURS = "paper", "docs/theory.md"


def _survivors(limit: Callable[[SparsityReport], int], *, tight: bool = False) -> Callable[[Effort], Finding]:
    return partial(sparsity.survivors, limit=limit, tight=tight)


_GUARANTEES = (
    ("exact", "h2", "squared error and an affine map to the output: ḡ = g"),
    ("bohning", "h2", "softmax after an affine map: ḡ ≥ g everywhere"),
    ("lipschitz", "h1", "a deeper layer of a ReLU network: ḡ ≥ g everywhere"),
    ("fitted", "h1", "a semidefinite program on samples: ḡ < g no more often than stated, in 19 networks of 20"),
    ("tangent", "h1", "Gauss–Newton curvature, inflated: ḡ < g no more often than stated, in 19 networks of 20"),
)
_TABLES = ((1, ""), (2, ""), (3, "3.1"), (3, "3.2"), (3, "3.3"), (4, "4.1"), (4, "4.2"))


def _table(table: int, row: str) -> Statement:
    named = f"Table {row or table}"
    device = f" --row {row} --device cuda" if row else ""
    text = "VIBNet reaches the printed r_W, r_N, FLOP and error"
    return Statement(named, text, f"{_PAPER}, Table {table}", partial(printed_tables.table_row, table=table, row=row),
                     "" if row else "after fine-tuning", f"vibtheory table {table} --full{device}")  # fmt: skip


STATEMENTS: tuple[Statement, ...] = (
    Statement("P1", "γ I(h_i; h_{i−1}) − I(h_i; y) ≤ its variational bound, up to H(y)", f"{_PAPER}, Method; P1",
              information.layer_wise),
    Statement("P2", "min over ξ of E KL = Σ ½[log(1 + α) + ψ], at ξ = (μ² + σ²) E f²", f"{_PAPER}, Method; P2",
              information.best_prior),
    Statement("P2 zeros", "the objective (*), which charges log(1 + α) alone, comes from an upper bound on I(h; x)",
              f"{_PAPER}, (*); P2", information.relu_zeros,
              "½ log(1 + α) alone is none; H(pattern) + Σ (π/2)[log(1 + α) + ψ⁺] is one, ReLU's zeros included"),
    Statement("P3", "h given x is a mixed measure: a sample can only come from inputs with its zero pattern",
              f"{_OURS}, P3", information.mixed_measure),
    Statement("P3 ceiling", "I(h; x) ≤ log N, with equality, and a flag, where all zero patterns differ",
              f"{_OURS}, P3", information.ceiling),
    Statement("P3 sides", "every bound of I(h; x) stands on the side that it declares", f"{_OURS}, P3, F",
              information.sides),
    Statement("Prop 1", "I(h_ij; h_{i−1}) = 0 ⇒ α_ij = 0", f"{_PAPER}, Theoretical Results; T4",
              redundancy.silent_unit,
              "if f ≡ 0; if f ≡ c ≠ 0, at a global minimum with a bias downstream (without one: a counter-example)"),
    Statement("Prop 1 converse", "α_ij = 0 ⇒ I(h_ij; h_{i−1}) = 0", f"{_PAPER}, Theoretical Results (dashed); T4",
              redundancy.converse,
              "I ≤ ½ψ (zeros: H_b(π) + (π/2)ψ⁺) at μ = 0 < σ; I = 0 for constant |f|, or if the loss rises with σ"),
    Statement("Prop 2", "W_{i+1,·j} = 0 ⇒ α_ij = 0", f"{_PAPER}, Theoretical Results; T4", redundancy.unheard_unit),
    Statement("Flat", "a redundant dimension makes ḡ flat", f"{_PAPER}, Theoretical Results",
              redundancy.flat_directions,
              "along a unit that is 0 or unheard; for a copy, along the difference that leaves the sum alone"),
    Statement("T1", "the profiled penalty's variance, SNR, value, slope and curvature in closed form", f"{_OURS}, T1",
              sparsity.profiled_penalty),
    Statement("T2", "‖α*‖₀ ≤ rank[A] + 1 at any local minimum", f"{_PAPER}, Theoretical Results; T2",
              _survivors(lambda report: report.rank_plus_one)),
    Statement("T2 equality", "‖μ*‖₀ = ‖α*‖₀ at any local minimum", f"{_PAPER}, Theoretical Results; T2",
              sparsity.equal_counts, "on columns of A that are not zero; on a zero column with b_j = 0, μ_j is free"),
    Statement("T2 tight", "‖α*‖₀ ≤ rank[A], and it is attained", f"{_OURS}, T2",
              _survivors(lambda report: report.rank, tight=True)),
    Statement("T2 coordinates", "local minima in (μ, σ) are those of Φ, with at most rank[A] open gates",
              f"{_OURS}, T2", sparsity.in_mean_and_variance),
    Statement("T2 trained", "the rank bound limits the open gates of trained networks",
              f"{_PAPER}, Theoretical Results; T5", surrogates.trained_networks,
              "it holds, vacuously: A has full rank (T3c); the sharp soft rank informs"),
    Statement("T3", "‖α*‖₀ ≤ soft rank = #{λ_i(G) ≥ 1/(2 + α_max)}", f"{_OURS}, T3",
              _survivors(lambda report: report.soft_rank)),
    Statement("T3 sharp", "‖α*‖₀ ≤ #{λ_i(D^½GD^½) ≥ 1}", f"{_OURS}, T3",
              _survivors(lambda report: report.soft_rank_sharp)),
    Statement("T9", "‖α*‖₀ ≤ min over a of #{λ_i(G) ≥ 1/(2+a)} + ⌊‖β‖²(1+a)/(4aγ)⌋, before anything is solved",
              f"{_OURS}, T9", _survivors(lambda report: report.a_priori.limit)),
    Statement("T3c", "E[ffᵀ] ≻ 0 and v_jᵀBv_j > 0 ⇒ rank[A] = d: the rank bound is vacuous", f"{_OURS}, T3c",
              sparsity.full_rank),
    Statement("T4a", "cos² of two survivors < (1+α_i)(1+α_j)/((2+α_i)(2+α_j))", f"{_OURS}, T4a", sparsity.angles),
    Statement("T4b", "proportional units merge: same mean, no more covariance, less information", f"{_OURS}, T4b",
              redundancy.merging),
    *(Statement(f"T5 {kind}", text, f"{_OURS}, T5", partial(surrogates.guarantee, kind=kind, layer=layer))
      for kind, layer, text in _GUARANTEES),
    Statement("T6", "ties, saddles and points moved by 1 % of a gate never certify; none beside a minimum is lower",
              f"{_OURS}, T6", certification.certificates),
    Statement("T6 radius", "an exact minimum lies within 2η of a certified point (Kantorovich)", f"{_OURS}, T6",
              certification.radius),
    Statement("T6 iterates", "the bound may be read off wherever a solver stops", f"{_OURS}, T6",
              certification.only_minima, "only at certified local minima"),
    Statement("T6 enumeration", "enumeration lists every local minimum", f"{_OURS}, T6", certification.enumeration),
    Statement("T7 budget", "Σγα/(1+α) ≤ ¼‖β‖² at minima, so few gates are open whatever the rank",
              f"{_OURS}, T7", landscape.budget),
    Statement("T7 closed", "0 is a minimum above b²/(4w), none below, and from ‖β‖² on the only stationary point",
              f"{_OURS}, T7", landscape.closed),
    Statement("T7 existence", "b in A's row space: minima exist, inside the stated box; else Φ falls for ever",
              f"{_OURS}, T7", landscape.existence),
    Statement("T7 convexity", "G ⪰ ½I ⇒ Φ is convex, with one local minimum", f"{_OURS}, T7", landscape.convexity),
    Statement("T7 real loss", "J never rises, and T2, T3, T4a hold at local minima of the real loss", f"{_OURS}, T7",
              landscape.real_loss),
    Statement("T7 path", "the path over γ has the stated slope, and gates open at (a_jᵀr)²/w_j", f"{_OURS}, T7",
              gamma_path.slope_and_openings),
    Statement("T7 jumps", "the path jumps where λ_min(H_S) = 0, and nowhere else", f"{_OURS}, T7", gamma_path.jumps,
              "there, and where a gate that reaches its price opens onto negative curvature"),
    Statement("T7 layers", "Σ_i ‖α_i‖₀ ≤ Σ_i rank A_i", f"{_OURS}, T7", layers.several_layers),
    Statement("T8", "#{α > 1} ≤ rank H and ≤ #{λ_i(M^½HM^½) ≥ 1}, with H the trained objective's own curvature",
              f"{_OURS}, T8", trained.trained_objective),
    Statement("Width", "A becomes low-rank if the network is over-parameterised", f"{_PAPER}, Theoretical Results",
              width.low_rank, "the share of its sharp soft rank falls", "python benchmarks/width_study.py"),
    Statement("Width survivors", "at equal error, fewer gates survive in a wider net",
              f"{_PAPER}, Theoretical Results, read for counts", width.survivors,
              command="python benchmarks/width_study.py"),
    Statement("Larger base", "a larger base architecture is more accurate at equal size", f"{_PAPER}, Abstract",
              width.larger_base,
              command="python benchmarks/width_study.py"),
    Statement("Metrics", "the printed r_W, r_N and FLOP follow from the printed architectures", f"{_PAPER}, Tables; M",
              printed_tables.metrics, "in all rows but DN's, whose 542-83-61 gives r_W 19.03"),
    Statement("State of the art", "no other printed method is smaller at an error as low", f"{_PAPER}, Abstract",
              printed_tables.state_of_the_art, "in r_N and FLOP; in r_W BC-GHS is smaller in Table 2"),
    *(Statement(f"Smallest rerun {table}", f"of all methods rerun on {net}, VIBNet's is the smallest at equal error",
                f"{_PAPER}, Abstract", partial(methods.smallest_at_equal_error, table=table),
                command=f"vibtheory methods --table {table}")
      for table, net in ((1, "LeNet-300-100"), (2, "LeNet-5-Caffe"))),
    Statement("Size and I", "over prices and seeds, the smaller VIBNet's I(h₁; x) is smaller",
              f"{_PAPER}, Figure 2; F", figure2.size_and_information,
              command="vibtheory figure 2 --full"),
    Statement("Figure 2 left", "VIBNet's r_W falls from 1, the regular net's stays", f"{_PAPER}, Figure 2",
              figure2.size, command="vibtheory figure 2 --full"),
    Statement("Figure 2 right", "VIBNet's I(h₁; x) rises, turns and falls below its start", f"{_PAPER}, Figure 2",
              figure2.vibnet, "not for every estimate: for ½ log det(I + Cov/τ²), at the least noise τ",
              "vibtheory figure 2 --full"),
    Statement("Figure 2 regular", "the regular net's I(h₁; x) rises", f"{_PAPER}, Figure 2", figure2.regular,
              "where its weights are not decayed, by ½ log det(I + Cov/τ²)", "vibtheory figure 2 --full"),
    *(_table(table, row) for table, row in _TABLES),
)  # fmt: skip
"""In the order of the report."""
