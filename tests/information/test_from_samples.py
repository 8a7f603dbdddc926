"""Estimates from samples against the closed form of Gaussian pairs, their sides, and maps that leave I as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vibtheory.errors import InvalidInputError
from vibtheory.information import from_samples
from vibtheory.information.critics import _value
from vibtheory.information.from_samples import SAMPLE_METHODS

RHO = 0.8
TRUTH = -0.5 * np.log(1 - RHO**2)  # of one pair
TRAINED = ("nwj", "mine", "smile", "infonce", "entropy_difference")


def _pairs(n=1000, columns=1, seed=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns))
    return x, RHO * x + np.sqrt(1 - RHO**2) * rng.normal(size=(n, columns))


@pytest.mark.parametrize("method", SAMPLE_METHODS)
def test_near_the_truth_of_a_gaussian_pair(method):
    x, y = _pairs()
    found = from_samples(7.0 * x, y - 3.0, method, steps=200)
    assert found.method == method
    assert found.nats == pytest.approx(TRUTH, abs=0.15)
    if method in ("nwj", "infonce"):
        assert found.kind == "lower"
        assert found.nats - 3 * found.stderr <= TRUTH
    else:
        assert found.kind == "estimate"


@pytest.mark.parametrize("method", TRAINED)
def test_nothing_is_found_where_there_is_nothing(method):
    rng = np.random.default_rng(8)
    found = from_samples(rng.normal(size=(800, 2)), rng.normal(size=800), method, steps=50)
    assert abs(found.nats) <= 4 * found.stderr + 0.02


@pytest.mark.parametrize("method", TRAINED)
def test_monotone_maps_of_coordinates_hardly_matter_and_the_seed_decides(method):
    x, y = _pairs(400)
    before = torch.random.get_rng_state()
    found = from_samples(x, y, method, seed=3, steps=25)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert from_samples(x, y, method, seed=3, steps=25).nats == found.nats
    assert from_samples(x, y, method, seed=4, steps=25).nats != found.nats
    # heavier than any moment; interpolation between knots is what is left of the map
    assert from_samples(np.sinh(3 * x), y**3, method, seed=3, steps=25).nats == pytest.approx(found.nats, abs=0.02)


def test_data_of_the_same_seed_are_not_the_projections():
    x, y = _pairs(400, columns=3, seed=0)
    assert from_samples(x, y, "sliced", seed=0).nats < 3 * TRUTH


def test_slices_lie_below_and_max_sliced_above_them():
    x, y = _pairs(2000, columns=3)
    mean, best = (from_samples(x, y, method).nats for method in ("sliced", "max_sliced"))
    assert mean < best
    assert best == pytest.approx(TRUTH, abs=0.12)  # one pair of directions holds one of the three parts


@pytest.mark.parametrize("method", ["nwj", "mine", "smile", "infonce"])
def test_standard_errors_are_the_jackknife_s(method):
    rng = np.random.default_rng(1)
    table = 0.5 * rng.normal(size=(60, 60)) + np.diag(rng.normal(size=60))
    nats, influence = _value(table, method)
    left_out = np.array([_value(np.delete(np.delete(table, i, 0), i, 1), method)[0] for i in range(60)])
    jackknife = np.sqrt(59 / 60 * ((left_out - left_out.mean()) ** 2).sum())
    assert influence.std(ddof=1) / np.sqrt(60) == pytest.approx(jackknife, rel=0.12)
    direct = {
        "nwj": 1 + table.diagonal().mean() - np.exp(table[~np.eye(60, dtype=bool)]).mean(),
        "infonce": np.mean(table.diagonal() - np.log(np.exp(table).mean(axis=1))),
    }.get(method, table.diagonal().mean() - np.log(np.exp(table[~np.eye(60, dtype=bool)]).mean()))
    assert nats == pytest.approx(direct, rel=1e-12)


@pytest.mark.filterwarnings("error")
def test_scores_far_apart_are_no_errors():
    """T = 1000 on pairs, 0 else: log-mean-exp of the others is 0; and T = 800 on all: NWJ is 801 − e⁸⁰⁰, −∞ here."""
    assert _value(1000.0 * np.eye(8), "mine")[0] == pytest.approx(1000)
    assert _value(np.full((8, 8), 800.0), "nwj")[0] == -np.inf


@pytest.mark.parametrize("method", TRAINED)
def test_few_rows_are_refused_where_networks_are_trained(method):
    x, y = _pairs(127)
    with pytest.raises(InvalidInputError, match="N >= 128"):
        from_samples(x, y, method)


@pytest.mark.parametrize("method", ["mine", "entropy_difference"])
def test_overfit_networks_are_said_to_be(method):
    """Six independent columns, 128 rows: 0 nats, while the rows of training are told apart."""
    x, y = np.random.default_rng(0).normal(size=(2, 128, 6))
    assert "on the rows of training" in str(from_samples(x, y, method))
    assert not from_samples(*_pairs(), method, steps=200).warnings


def test_a_marginal_density_that_fits_badly_is_said_to():
    """y is on a circle, x the half: log 2 nats. Four Gaussians fit the half circle, and the whole one worse."""
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * np.pi, 2000)
    y = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.02 * rng.normal(size=(2000, 2))
    found = from_samples(np.sign(np.cos(angle)), y, "entropy_difference")
    assert found.nats - 3 * found.stderr > np.log(2)
    assert "another p(y)" in str(found)
    assert "another p(y)" not in str(from_samples(*_pairs(), "entropy_difference", steps=200))


@pytest.mark.parametrize("method", ["sliced", "max_sliced"])
@pytest.mark.parametrize("unit", [2.0**515, 2.0**-545])
def test_slices_do_not_depend_on_the_unit_even_where_squares_overflow(method, unit):
    rng = np.random.default_rng(9)
    x = rng.normal(size=(200, 2))
    y = x + 0.5 * rng.normal(size=(200, 2))
    found = [from_samples(a, b, method, slices=4).nats for a, b in ((x, y), (unit * x, y), (x, unit * y))]
    assert found[0] > 0.2
    assert found == pytest.approx([found[0]] * 3, rel=1e-9)


@pytest.mark.parametrize("method", SAMPLE_METHODS)
@pytest.mark.filterwarnings("error")
def test_a_dead_unit_tells_nothing_and_hides_nothing(method):
    """A column that is constant, as a closed unit's: alone it has no information, beside others it takes none."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(1000, 2))
    y, dead = x[:, :1] + 0.5 * rng.normal(size=(1000, 1)), np.full((1000, 1), 3.7)
    alone, beside, without = (
        from_samples(points, y, method, slices=16, steps=200) for points in (dead, np.hstack([dead, x]), x)
    )
    assert alone.nats == pytest.approx(0, abs=4 * alone.stderr + 1e-5)
    assert beside.nats == pytest.approx(without.nats, abs=2 * (beside.stderr + without.stderr))
    assert beside.nats > 0.15  # of 0.80 nats; a third of it on the mean slice


@pytest.mark.parametrize("unit", [1e-200, 1e-3, 1e3, 1e200])
def test_neighbours_do_not_depend_on_units(unit):
    """x, y normal with correlation .9: −½ log(1 − .81), whatever the unit of x, of which the mutual information knows
    nothing; a million times coarser than y it left nothing of it."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1000, 1))
    y = 0.9 * x + np.sqrt(0.19) * rng.normal(size=(1000, 1))
    found = from_samples(unit * x, y, "ksg")
    assert abs(found.nats + 0.5 * np.log(0.19)) < 4 * found.stderr
    assert found.nats == pytest.approx(from_samples(x, y, "ksg").nats, abs=1e-9)


def test_max_sliced_finds_a_direction_across_correlated_columns():
    """y = a + b + noise is told by x₁ = a and x₂ = a + b/20 together: ½ log(1 + 2/.25) nats; by a alone .29."""
    rng = np.random.default_rng(3)
    a, b, noise = rng.normal(size=(3, 2000))
    x, y = np.column_stack([a, a + b / 20]), (a + b + 0.5 * noise)[:, None]
    found = from_samples(x, y, "max_sliced", slices=4)
    assert found.nats == pytest.approx(0.5 * np.log(9), abs=4 * found.stderr)
    assert found.stderr < 0.08
