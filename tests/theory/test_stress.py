"""A 500-instance run of benchmarks/stress_theory.py (every family, traps included): no failure of any kind."""

from __future__ import annotations

import numpy as np

from benchmarks.stress_theory import FAILURES, lower_beside, profile, saddle, stress
from vibtheory.theory.quadratic import QuadraticBound


def test_five_hundred_instances_without_a_failure():
    counts = stress(500, seed=12)
    assert {name: counts[name] for name in FAILURES} == dict.fromkeys(FAILURES, 0)
    assert counts["certified local minimum"] == sum(n for name, n in counts.items() if name.startswith("family "))
    assert counts["|alpha|_0 = rank + 1"] == counts["adversarial: |alpha|_0 > rank"] == 0
    for seen in ("tight: |alpha|_0 = rank", "rejected as unbounded", "enumerated", "planted saddles",
                 "truncated runs", "perturbed points", "adversarial: |alpha|_0 = rank"):  # fmt: skip
        assert counts[seen] > 0


def test_the_probe_would_see_a_false_certificate():
    """The stress's own truth is not blind: it finds the way down from a saddle, and its Φ is the library's."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        bound, mu = saddle(rng)
        assert lower_beside(rng, bound, mu)
        np.testing.assert_allclose(profile(bound, mu[None])[0] * bound.gamma[0], bound.phi(mu), rtol=1e-9)


def test_the_probe_accepts_a_true_minimum():
    bound = QuadraticBound(np.eye(3), [-6.0, 1.0, 0.0], 0.0, 1.0)
    assert not lower_beside(np.random.default_rng(0), bound, np.array([3 * (1 - 1 / 9), 0.0, 0.0]))
