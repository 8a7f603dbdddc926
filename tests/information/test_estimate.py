"""`estimate` by name, what a result says of itself, and what importing the package loads."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vibtheory.information as information
from vibtheory.information.result import standard_error

CHANNEL = information.GatedChannel(np.random.default_rng(0).normal(size=(1000, 1)) * 20, 0.3, 0.1, 2.0)
KINDS = {
    "variational": "upper",
    "variational_factorised": "upper",
    "plain": "estimate",
    "gaussian": "upper",
    "gaussian_tight": "upper",
    "logdet": "estimate",
    "leave_one_out": "upper",
    "leave_one_out_per_unit": "upper",
    "infonce": "lower",
    "pairwise": "upper",
    "pairwise_bhattacharyya": "lower",
    "per_unit": "upper",
    "ksg": "estimate",
    "binning": "estimate",
}


@pytest.mark.parametrize("method", KINDS)
def test_every_method_by_name(method):
    result = information.estimate(CHANNEL, method)
    assert (result.method, result.kind) == (method, KINDS[method])
    assert result.bits == pytest.approx(result.nats / math.log(2))
    assert method in str(result)
    assert {"upper": "≤", "lower": "≥", "estimate": "≈"}[result.kind] in str(result)
    assert result.assumes


def test_the_table_of_methods_is_complete_and_options_pass_through():
    assert set(information.METHODS) == set(KINDS)
    assert information.estimate(CHANNEL) == information.pairwise(CHANNEL)
    assert information.estimate(CHANNEL, "infonce", seed=4) == information.infonce(CHANNEL, 4)
    assert information.estimate(CHANNEL, "infonce", seed=4) != information.estimate(CHANNEL, "infonce", seed=5)


@pytest.mark.parametrize(
    ("nats", "ceiling", "part", "saturated", "why"),
    [
        (3.0, 3.2, "", False, ""),
        (3.0, 3.09, "", True, "its ceiling is 3.09 nats"),
        (3.0, 2.0, "", True, "its ceiling is 2 nats"),
        (3.0, math.inf, "", False, ""),
        (math.inf, math.inf, "", True, "the bound is infinite"),
        (3.0, math.inf, "pattern entropy", True, "the part 'pattern entropy' is at log N"),
    ],
)
def test_saturation_is_said(nats, ceiling, part, saturated, why):
    result = information.MutualInformation(nats, "upper", "test", ceiling=ceiling, saturated_part=part)
    assert result.saturated is saturated
    assert ("SATURATED" in str(result)) is saturated
    assert why in str(result)
    assert ("Remedy" in str(result)) is saturated


def test_rounding_is_no_minus_zero_and_warnings_are_said():
    assert str(information.MutualInformation(-2e-17, "upper", "test")).startswith("I ≤ 0 nats")
    result = information.MutualInformation(math.nan, "estimate", "test", warnings=("why not. Remedy: do otherwise",))
    assert str(result) == "no number (estimate, test); why not. Remedy: do otherwise"


def test_heavy_tails_are_flagged():
    f = np.random.default_rng(5).standard_t(2.0, size=(400, 2))
    heavy = information.gaussian(information.GatedChannel.regular(f, 1.0))
    assert "rests on a few rows" in str(heavy)
    assert not information.gaussian(information.GatedChannel.regular(np.tanh(f), 1.0)).warnings


def test_standard_error_of_influence_values():
    values = np.array([1.0, 5.0, 3.0])
    assert standard_error(values) == pytest.approx(2 / math.sqrt(3))
    assert math.isnan(standard_error(values[:1]))
    assert math.isnan(standard_error(np.array([1.0, np.inf])))
    assert "±" in str(information.MutualInformation(1.0, "upper", "test", stderr=0.2))
    assert "±" not in str(information.MutualInformation(1.0, "upper", "test"))


def test_exports_are_the_objects_and_torch_is_not_loaded():
    for name in re.findall(r"import (\w+) as \1\n", Path(information.__file__).read_text()):
        assert getattr(information, name).__class__.__name__ != "module", name
    code = "import sys, vibtheory.information; print([m for m in ('torch', 'cvxpy', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rounding_prints_no_negative_zero():
    shared = information.blahut_arimoto([[0.25, 0.25], [0.25, 0.25]], 2.0)
    constant = information.deterministic_bottleneck([[0.25, 0.25], [0.25, 0.25]], 2.0)
    one_y = information.gaussian_bottleneck([[1.0]], [[1.0]], [[0.0]])
    for result in (information.MutualInformation(-1e-17, "estimate", "ksg"), shared, constant, one_y):
        assert "-0" not in str(result)
    for zero in (constant.h_t, one_y.i_xy, information.multivariate_gaussian(np.eye(2), 1)):
        assert math.copysign(1.0, zero) == 1.0
    assert information.MutualInformation(-0.2, "estimate", "ksg").nats == -0.2
