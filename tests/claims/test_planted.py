"""False claims, put to the ledger's own deciders, come out as "fails"; that the true ones hold, test_ledger decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vibtheory.claims import (
    Effort,
    Finding,
    certification,
    gamma_path,
    information,
    landscape,
    layers,
    redundancy,
    sparsity,
    surrogates,
    trained,
)
from vibtheory.information import GatedChannel, MutualInformation, pairwise_bhattacharyya, per_unit
from vibtheory.theory import soft_rank
from vibtheory.theory.certificate import CERTIFIED, Certificate, certify
from vibtheory.theory.landscape import BudgetReport, ClosureReport
from vibtheory.theory.minima import LocalMinimum
from vibtheory.theory.quadratic import QuadraticBound
from vibtheory.theory.real_loss import RealLossMinimum
from vibtheory.theory.softmax_loss import SoftmaxLoss


def _upside_down(channel: GatedChannel) -> MutualInformation:
    """A lower bound that calls itself an upper one."""
    found = pairwise_bhattacharyya(channel)
    return MutualInformation(found.nats, "upper", "upside down", found.stderr, found.ceiling)


def _half(bound: QuadraticBound) -> QuadraticBound:
    """ḡ with half its curvature about the same anchor: no upper bound any more."""
    assert bound.trained_mu is not None
    anchor, gram = np.asarray(bound.trained_mu), np.asarray(bound.gram)
    value, slope = bound.value(anchor), bound.smooth_gradient(anchor)
    half = 0.5 * gram
    b = slope - 2 * half @ anchor
    c = float(value - anchor @ half @ anchor - b @ anchor)
    return QuadraticBound.from_gram(half, b, c, bound.gamma, guarantee=bound.guarantee, layer=bound.layer,
                                    trained_mu=bound.trained_mu, trained_sigma=bound.trained_sigma)  # fmt: skip


def _wrong_for_two(channel: GatedChannel) -> MutualInformation:
    """An upper bound of one unit's information that is none of two units'."""
    found = per_unit(channel)
    return MutualInformation(found.nats if channel.d == 1 else found.nats / 2, "upper", "wrong", None, np.inf)


Decider = Callable[[Effort], Finding]
FALSE: dict[str, Decider] = {
    "rank[A] - 1": lambda e: sparsity.survivors(e, lambda report: report.rank - 1),
    "soft rank halved": lambda e: sparsity.survivors(e, lambda report: report.soft_rank // 2),
    "sharp soft rank - 1": lambda e: sparsity.survivors(e, lambda report: report.soft_rank_sharp - 1),
    "T9 without the budget's part": lambda e: sparsity.survivors(e, lambda report: report.a_priori.small),
    "T9 - 1": lambda e: sparsity.survivors(e, lambda report: report.a_priori.limit - 1),
    "a lower bound of I as the upper one": lambda e: information.relu_zeros(e, valid=pairwise_bhattacharyya),
    "a bound of I with the wrong side": lambda e: information.sides(e, {"upside down": _upside_down}),
    "(*) as a bound, uncorrected": lambda e: Finding(information.relu_zeros(e).bare),
    "P1 with the wrong side": lambda e: information.layer_wise(e, lambda found: found.gap <= 0),
    "P1 without what is lost behind the layer": lambda e: information.layer_wise(
        e, lambda found: abs(found.gap - found.gamma * found.prior_gap - found.classifier_gap) < 1e-6
    ),
    "a bound of I of two units with the wrong side": lambda e: information.sides(e, {"wrong for two": _wrong_for_two}),
    "T2 tight where it is not attained": lambda e: sparsity.survivors(e, lambda report: report.rank + 1, tight=True),
    "Kantorovich's radius, a tenth less": lambda e: certification.radius(e, 0.45),
    "the path jumps only where the Hessian is singular": lambda e: Finding(gamma_path.jumps(e).bare),
    "the path never jumps where the Hessian is singular": lambda e: gamma_path.jumps(e, 0.0),
    "T7 layers at a third of the total rank": lambda e: layers.several_layers(
        e, lambda found: found.nonzeros <= found.rank // 3
    ),
    "T4a at half its limit": lambda e: sparsity.angles(e, lambda found: found.limits / 2),
    "T7 budget - 1": lambda e: landscape.budget(e, lambda report: report.count_limit - 1),
    "a gate's opening price, 1 part in 10,000 off": lambda e: gamma_path.slope_and_openings(
        e, lambda bound, mu, j: 1.0001 * gamma_path._opening(bound, mu, j)
    ),
    "Böhning's curvature halved": lambda e: surrogates.guarantee(e, "bohning", "h2", _half),
    "T8 at one gate less": lambda e: trained.trained_objective(e, lambda report: report.above_one - 1),
    "every dimension is flat": lambda e: redundancy.flat_directions(e, lambda *_: True),
}


@pytest.mark.parametrize("name", FALSE)
def test_a_planted_false_claim_fails(name: str, tiny: Effort) -> None:
    found = FALSE[name](tiny)
    assert found.verdict == "fails"
    broken = found.corrected if found.corrected is not None and found.corrected.broken else found.bare
    assert broken.broken > 0
    assert broken.example


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_budget_that_is_less_breaks_t9(share: float, tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    above = QuadraticBound._beta_squared_above.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(QuadraticBound, "_beta_squared_above", property(lambda bound: share * above(bound)))
    found = sparsity.survivors(replace(tiny), lambda report: report.a_priori.limit)
    assert found.verdict == "fails"
    assert found.bare.broken > 0


@pytest.mark.parametrize("limit", ["soft_rank", "soft_rank_sharp"])
@pytest.mark.parametrize("factor", [1.05, 2.0])
def test_a_threshold_that_is_higher_breaks_t3(
    factor: float, limit: str, tiny: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = soft_rank._count
    monkeypatch.setattr(soft_rank, "_count", lambda matrix, shift, rounding: count(matrix, factor * shift, rounding))
    found = sparsity.survivors(replace(tiny), lambda report: int(getattr(report, limit)))
    assert found.verdict == "fails"
    assert found.bare.broken > 0


def test_the_rank_bound_on_a_trained_network_could_fail(tiny: Effort) -> None:
    assert surrogates.trained_networks(tiny, lambda rank: 0).verdict == "fails"


def test_a_statistical_limit_may_be_exceeded_by_one_network_in_twenty_only(
    tiny: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(tiny), "size", lambda self, quick, full: 6)
    assert surrogates.guarantee(tiny, "tangent", "h2").verdict == "holds"
    low = surrogates.guarantee(tiny, "tangent", "h2", lambda bound: _lower(bound, 10.0))
    assert low.verdict == "fails"
    assert low.evidence["exceeding"] == "6 of 6 networks exceed their own limit"


def _lower(bound: QuadraticBound, nats: float) -> QuadraticBound:
    return QuadraticBound.from_gram(bound.gram, bound.b, bound.c - nats, bound.gamma, guarantee=bound.guarantee,
                                    layer=bound.layer, trained_mu=bound.trained_mu,
                                    trained_sigma=bound.trained_sigma)  # fmt: skip


def test_existence_breaks_where_there_is_no_minimum(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tiny), "minima", lambda self, bound: ())
    assert landscape.existence(tiny).verdict == "fails"


def test_a_path_that_does_not_move_breaks_its_slope(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gamma_path, "path_slope", lambda bound, mu: np.zeros(bound.d))
    assert gamma_path.slope_and_openings(tiny).verdict == "fails"


def test_a_rise_of_the_real_loss_breaks_the_claim(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    found = landscape.minimise_real_loss

    def rising(problem: SoftmaxLoss) -> RealLossMinimum:
        minimum = found(problem)
        return replace(minimum, history=(*minimum.history, minimum.history[-1] + 1.0))

    monkeypatch.setattr(landscape, "minimise_real_loss", rising)
    assert landscape.real_loss(tiny).verdict == "fails"


def test_a_density_that_knows_no_zeros_breaks_p3(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatedChannel, "log_density", lambda self, h: np.zeros((len(h), self.n)))
    assert information.mixed_measure(tiny).verdict == "fails"


def test_a_minimum_that_enumeration_lacks_breaks_the_coordinates(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    minima = Effort.minima

    def elsewhere(self: Effort, bound: QuadraticBound) -> tuple[LocalMinimum, ...]:
        return tuple(replace(minimum, mu=minimum.mu + 1.0) for minimum in minima(self, bound) or ())

    monkeypatch.setattr(type(tiny), "minima", elsewhere)
    assert sparsity.in_mean_and_variance(tiny).verdict == "fails"


def test_a_survivor_miscounted_breaks_the_equality(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    found = sparsity.find_local_minimum
    monkeypatch.setattr(sparsity, "find_local_minimum", lambda *args: _one_more(found(*args)))
    assert sparsity.equal_counts(tiny).verdict == "fails"


def _one_more(minimum: LocalMinimum) -> LocalMinimum:
    return replace(minimum, nonzeros=minimum.nonzeros + 1)


@pytest.mark.parametrize("said", ["only stationary point", "not a local minimum"])
def test_a_wrong_verdict_about_zero_breaks_the_claim(said: str, tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tiny), "size", lambda self, quick, full: 15)
    check = landscape.check_closure
    assert landscape.closed(tiny).verdict == "holds"
    monkeypatch.setattr(landscape, "check_closure", lambda bound: _said(check(bound), said))
    assert landscape.closed(tiny).verdict == "fails"


def _said(report: ClosureReport, verdict: str) -> ClosureReport:
    return replace(report, verdict=verdict) if report.verdict == "strict local minimum" else report  # type: ignore[arg-type]


def test_calling_everything_convex_breaks_the_claim(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    check = landscape.check_convexity
    monkeypatch.setattr(landscape, "check_convexity", lambda bound: replace(check(bound), verdict="convex"))
    assert landscape.convexity(tiny).verdict == "fails"


def _all_certified(bound: QuadraticBound, mu: np.ndarray) -> Certificate:
    found = certify(bound, mu)
    return replace(found, status=CERTIFIED)


LIES: dict[str, tuple[Decider, Any, str, Callable[[Any], Any]]] = {
    "T1: a slope 1 in 10,000 off": (
        sparsity.profiled_penalty, sparsity, "penalty_slope", lambda true: lambda *a: 1.0001 * true(*a),
    ),
    "P2: a divergence 1 in 10,000 off": (
        information.best_prior, information, "expected_kl", lambda true: lambda *a: 1.0001 * true(*a),
    ),
    "P3 ceiling: an estimate above log N": (
        information.ceiling, information, "pairwise",
        lambda true: lambda channel: replace(true(channel), nats=true(channel).nats + 5),
    ),
    "T8: half the curvature": (
        trained.trained_objective, trained, "check_trained_objective",
        lambda true: lambda mu, sigma, gamma, slope, h: true(mu, sigma, gamma, slope, h / 2),
    ),
    "T6: everything certifies": (certification.certificates, certification, "certify", lambda _: _all_certified),
    "Prop 1 converse: no information": (
        redundancy.converse, redundancy, "closed_mean_information",
        lambda true: lambda *a, **k: replace(true(*a, **k), nats=true(*a, **k).bound + 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_of_the_package_is_found(name: str, tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    decide, module, function, lie = LIES[name]
    monkeypatch.setattr(module, function, lie(getattr(module, function)))
    assert decide(tiny).verdict == "fails"


def test_an_enumeration_that_lacks_a_minimum_is_found(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    minima = Effort.minima
    monkeypatch.setattr(type(tiny), "size", lambda self, quick, full: 20)
    assert certification.enumeration(tiny).verdict == "holds"
    monkeypatch.setattr(type(tiny), "minima", lambda self, bound: (minima(self, bound) or ())[1:])
    assert certification.enumeration(tiny).verdict == "fails"


def _scrambled(found: tuple[nn.Module, Any]) -> tuple[nn.Module, Any]:
    """The same report with another network."""
    with torch.no_grad():
        for parameter in found[0].parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


@pytest.mark.parametrize(
    ("name", "decide"), [("absorb_constant_unit", redundancy.silent_unit), ("merge_redundant", redundancy.merging)]
)
def test_a_network_that_is_not_what_its_report_says(
    name: str, decide: Decider, tiny: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = getattr(redundancy, name)
    monkeypatch.setattr(redundancy, name, lambda *arguments: _scrambled(function(*arguments)))
    assert decide(tiny).verdict == "fails"


def test_a_budget_that_is_miscounted_breaks_the_claim(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    check = landscape.check_budget

    def miscounted(bound: QuadraticBound, minimum: LocalMinimum) -> BudgetReport:
        report = check(bound, minimum)
        return replace(report, count=report.count + 1, count_limit=report.count_limit + 1)

    monkeypatch.setattr(landscape, "check_budget", miscounted)
    assert landscape.budget(tiny).verdict == "fails"


def test_a_made_up_history_breaks_the_real_loss(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    found = landscape.minimise_real_loss
    monkeypatch.setattr(landscape, "minimise_real_loss", lambda problem: replace(found(problem), history=(5.0, 4.0)))
    assert landscape.real_loss(tiny).verdict == "fails"


def test_minima_that_do_not_certify_break_the_bound(tiny: Effort) -> None:
    lost = replace(tiny.reports[0].minimum.certificate, status="not converged")
    reports = tuple(
        replace(report, minimum=replace(report.minimum, certificate=lost)) if index % 10 == 0 else report
        for index, report in enumerate(tiny.reports)
    )
    effort = replace(tiny)
    effort.__dict__["reports"] = reports
    assert sparsity.survivors(effort, lambda report: report.rank).verdict == "fails"


def test_a_dead_gate_that_falls_too_slowly_breaks_prop_2(tiny: Effort, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = redundancy.dead_gate_flow
    monkeypatch.setattr(redundancy, "dead_gate_flow", lambda mu, sigma, gamma, *rest: flow(mu, sigma, gamma / 2, *rest))
    assert redundancy.unheard_unit(tiny).verdict == "fails"


def test_the_linear_chain_has_the_loss_that_its_bounds_say() -> None:
    """T7 layers stands on two exact ḡ: both must give E‖y − V diag(z₂) W diag(z₁) f‖², here by sampling."""
    rng = np.random.default_rng(3)
    chain = layers._random_chain(rng)
    (_, d1), (_, d2) = chain.f.shape, chain.v.shape
    one, two = ((rng.standard_normal(d), rng.uniform(0.1, 1, d)) for d in (d1, d2))
    z1, z2 = (mu + sigma * rng.standard_normal((400_000, len(mu))) for mu, sigma in (one, two))
    total = np.zeros(len(z1))
    for f, y in zip(chain.f, chain.y, strict=True):
        total += ((y - (z2 * ((z1 * f) @ chain.w.T)) @ chain.v.T) ** 2).sum(axis=1) / len(chain.f)
    told = [chain.first(two).expectation(*one), chain.second(one).expectation(*two)]
    assert told[0] == pytest.approx(told[1], rel=1e-12)
    assert abs(total.mean() - told[0]) < 4 * total.std() / np.sqrt(len(total))
    assert total.std() / np.sqrt(len(total)) < 0.01 * told[0]
