"""Pairwise mixture bounds: written out with scipy-free loops, on their sides of the truth, short cuts, float32."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vibtheory.information import pairwise as pairwise_kl
from vibtheory.information import pairwise_bhattacharyya
from vibtheory.information.channel import GatedChannel

RNG = np.random.default_rng(12)
F = np.maximum(RNG.normal(size=(50, 3)) * [0.1, 4.0, 60.0] + [0.02, 4.0, 50.0], 0)
MU, SIGMA = np.array([3.0, -0.5, 0.1]), np.array([2.0, 0.4, 0.3])


def _direct(f, mu, sigma, tau, coefficient):
    """−1/N Σ log 1/N Σ Π_units coefficient, one pair and one unit at a time."""
    total = 0.0
    for row in f:
        mass = 0.0
        for other in f:
            term = 1.0
            for a, b, m, s in zip(row, other, mu, sigma, strict=True):
                va, vb = (a * s) ** 2 + tau**2, (b * s) ** 2 + tau**2
                if (va == 0) != (vb == 0):
                    term = 0.0
                elif va > 0:
                    term *= coefficient(a * m, va, b * m, vb)
            mass += term
        total -= math.log(mass / len(f))
    return total / len(f)


def _kl(m, v, n, w):
    return math.exp(-0.5 * (v / w + (m - n) ** 2 / w - 1 + math.log(w / v)))


def _bhattacharyya(m, v, n, w):
    return math.sqrt(2 * math.sqrt(v * w) / (v + w)) * math.exp(-0.25 * (m - n) ** 2 / (v + w))


BOUNDS = [(pairwise_kl, _kl), (pairwise_bhattacharyya, _bhattacharyya)]


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
@pytest.mark.parametrize(("sigma", "tau"), [(SIGMA, 0.0), (SIGMA, 0.8), (0 * SIGMA, 0.8)])
def test_written_out(bound, coefficient, sigma, tau):
    expected = _direct(F, MU, sigma, tau, coefficient)
    assert bound(GatedChannel(F, MU, sigma, tau)).nats == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
def test_more_units_than_one_product_of_logs(bound, coefficient):
    f = np.exp(RNG.normal(size=(12, 19)))
    mu, sigma = np.full(19, 0.1), np.full(19, 0.5)
    assert bound(GatedChannel(f, mu, sigma)).nats == pytest.approx(_direct(f, mu, sigma, 0, coefficient), rel=1e-11)


def test_sides_of_the_truth(product_channels):
    for name, f, mu, sigma, tau, truth in product_channels:
        channel = GatedChannel(f, mu, sigma, tau)
        upper, lower = pairwise_kl(channel), pairwise_bhattacharyya(channel)
        assert (upper.kind, lower.kind) == ("upper", "lower")
        assert lower.nats - 1e-9 <= truth <= upper.nats + 1e-9, name
        assert upper.nats <= upper.ceiling == pytest.approx(math.log(len(f)))


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
def test_blocks_do_not_matter(bound, coefficient, monkeypatch):
    import sys

    module = sys.modules["vibtheory.information.pairwise"]
    channel = GatedChannel(F, MU, SIGMA, 0.5)
    whole = bound(channel)
    monkeypatch.setattr(module, "_BLOCK_ENTRIES", 170)
    monkeypatch.setattr(module, "_CACHE_ENTRIES", 170)
    assert bound(channel).nats == pytest.approx(whole.nats, rel=1e-13)
    assert bound(channel).stderr == pytest.approx(whole.stderr, rel=1e-10)


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
@pytest.mark.parametrize("sigma", [0.3, 0.0])
def test_torch_and_numpy_whole_and_halves_agree(bound, coefficient, sigma, monkeypatch):
    import sys

    module = sys.modules["vibtheory.information.pairwise"]
    channel = GatedChannel(F, MU, sigma, 0.5)
    usual = bound(channel)
    monkeypatch.setattr(module, "_SMALL_ENTRIES", 0)
    monkeypatch.setattr(module, "_KEPT_ENTRIES", 0)
    assert bound(channel).nats == pytest.approx(usual.nats, rel=1e-13)
    assert bound(channel).stderr == pytest.approx(usual.stderr, rel=1e-6)


def test_variances_of_any_range_do_not_overflow_the_product():
    f = np.exp(np.random.default_rng(2).normal(size=(12, 40)) * 40)
    expected = _direct(f, np.full(40, 1e-3), np.full(40, 0.5), 0, _bhattacharyya)
    assert pairwise_bhattacharyya(GatedChannel(f, 1e-3, 0.5)).nats == pytest.approx(expected, rel=1e-11)


def test_few_rows_do_not_load_torch():
    import subprocess
    import sys

    code = (
        "import sys, numpy as np; from vibtheory.information import GatedChannel, pairwise; "
        "pairwise(GatedChannel(np.eye(5) + 1, 1.0, 0.5)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
def test_standard_error_is_the_jackknife_s(bound, coefficient):
    channel = GatedChannel(np.random.default_rng(1).normal(size=(120, 1)) * 30.0, 0.2, 0.1, 4.0)
    left_out = np.array([bound(channel.rows(np.arange(120) != i)).nats for i in range(120)])
    jackknife = np.sqrt(119 / 120 * ((left_out - left_out.mean()) ** 2).sum())
    assert bound(channel).stderr == pytest.approx(jackknife, rel=0.05)


@pytest.mark.parametrize(("alpha", "chosen"), [(1.0, "float32"), (1e6, "float64")])
def test_auto_takes_float32_only_where_it_is_precise_enough(alpha, chosen):
    rng = np.random.default_rng(1)
    centre = np.exp(0.5 * rng.normal(size=(5, 40)))  # clusters as wide as the gates' noise: terms are large, KLs not
    f = np.repeat(centre, 40, axis=0) * (1 + 0.1 * rng.normal(size=(200, 40)) / math.sqrt(alpha))
    channel = GatedChannel(f, 3.0, 3.0 / math.sqrt(alpha))
    single, double = (pairwise_kl(channel, precision=kind).nats for kind in ("float32", "float64"))
    auto = pairwise_kl(channel, precision="auto").nats
    assert single != double
    assert auto == {"float32": single, "float64": double}[chosen]
    assert auto == pytest.approx(double, abs=1e-4)


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
@pytest.mark.parametrize("sigma", [0.3, 0.0])
def test_float32_agrees_at_moderate_signal_to_noise(bound, coefficient, sigma):
    channel = GatedChannel(np.random.default_rng(5).normal(size=(300, 20)) * 7, 0.4, sigma, 5.0)
    single, double = bound(channel, precision="float32"), bound(channel)
    assert single.nats == pytest.approx(double.nats, rel=1e-5)
    assert single.nats != double.nats  # it really ran in single precision


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
def test_unique_patterns_closed_gates_and_one_row(bound, coefficient):
    unique = GatedChannel(np.diag([1.0, 20.0, 3.0]), 2.0, 0.5)
    assert bound(unique).nats == pytest.approx(math.log(3), abs=1e-12)
    assert bound(unique).saturated
    assert bound(GatedChannel(F, 0.0, 0.0)).nats == pytest.approx(0, abs=1e-12)
    assert bound(GatedChannel(F[:1], MU, SIGMA)).nats == 0


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
@pytest.mark.parametrize("tau", [0.0, 0.8])
def test_the_standard_error_is_the_jackknife(bound, coefficient, tau):
    """Every row deleted in turn, by hand."""
    n = 25
    rows = [np.delete(np.arange(n), i) for i in range(n)]
    deleted = np.array([_direct(F[part], MU, SIGMA, tau, coefficient) for part in rows])
    jackknife = np.sqrt((n - 1) / n * ((deleted - deleted.mean()) ** 2).sum())
    # its weights are kept in float32
    assert bound(GatedChannel(F[:n], MU, SIGMA, tau)).stderr == pytest.approx(jackknife, rel=1e-6)


@pytest.mark.parametrize("bound", [pairwise_kl, pairwise_bhattacharyya])
def test_half_the_rows_at_their_ceiling_are_seen(bound):
    """Half the inputs dead: the mean over rows is far below log N and still says little about the others."""
    f = np.random.default_rng(3).normal(size=(400, 5)) * 30
    f[::2] = 0
    result = bound(GatedChannel.regular(f, 1.0))
    assert result.nats < math.log(400) - 1
    assert result.saturated_share == pytest.approx(0.5, abs=0.05)
    assert result.saturated
    assert "of the rows are at their ceiling" in str(result)


@pytest.mark.parametrize(("bound", "coefficient"), BOUNDS)
@pytest.mark.parametrize("sigma", [0.0, 1e-9])
@pytest.mark.parametrize("far", [1e7, 1e9, 1e12])
def test_rows_far_from_the_others(bound, coefficient, far, sigma):
    """Two clusters far apart against the noise: products of their distances would leave nothing of the near ones."""
    near = np.repeat(np.arange(4.0), 3)
    f = np.concatenate([near, far + near])[:, None]
    expected = _direct(f, [1.0], [sigma], 1.0, coefficient)
    assert bound(GatedChannel(f, 1.0, sigma, 1.0)).nats == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("bound", [pairwise_kl, pairwise_bhattacharyya])
@pytest.mark.parametrize("tau", [0.0, 0.5])
def test_float32_in_any_unit_and_over_any_range(bound, tau):
    """I does not depend on the unit of h; and rows whose variances no float32 holds together are taken in float64."""
    expected = bound(GatedChannel(F, MU, SIGMA, tau)).nats
    for unit in (1e-100, 1e-20, 1e20, 1e100):
        scaled = bound(GatedChannel(F * unit, MU, SIGMA, tau * unit), precision="float32").nats
        assert scaled == pytest.approx(expected, abs=1e-3)
    wide = GatedChannel(np.geomspace(1e-30, 1e30, 40)[:, None], 0.5, 1.0, tau)
    assert bound(wide, precision="float32").nats == pytest.approx(bound(wide).nats, abs=1e-3)
