"""Which estimates of I(h; x) a sweep records: method, additive noise τ, number of inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vibtheory.errors import as_scalar, check_choice, reject

__all__ = ["DEFAULT_ESTIMATORS", "Estimator", "as_estimators"]


@dataclass(frozen=True)
class Estimator:
    """One estimate of I(h; x) per recorded epoch.

    Attributes:
        method: one of `vibtheory.information.METHODS`.
        tau: standard deviation of the additive noise, in the unit of h; 0: the gates' own noise only.
        n: number of training inputs, fixed by a seed (smaller sets are parts of larger ones); None: the sweep's `n`.
        full: at the last epoch once more on all training inputs.
        options: handed to `estimate` (`seed`, `k`, `bins`, `precision`, …).

    Raises:
        InvalidInputError: an unknown method, τ < 0, n < 2.
    """

    method: str
    tau: float = 0.0
    n: int | None = None
    full: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from vibtheory.information import METHODS

        check_choice("method", self.method, METHODS)
        object.__setattr__(self, "tau", as_scalar("tau", self.tau))
        if self.tau < 0:
            reject("tau", self.tau, "a number >= 0", "pass the standard deviation of the added noise, or 0 for none")
        if self.n is not None and (isinstance(self.n, bool) or not isinstance(self.n, int) or self.n < 2):
            reject("n", repr(self.n), "an integer >= 2, or None", "pass a number of training inputs")
        if not isinstance(self.options, Mapping):
            reject("options", repr(self.options), "a mapping", "pass the method's options by name")
        object.__setattr__(self, "options", dict(self.options))

    @property
    def key(self) -> str:
        """What identifies its rows among those of one run and epoch."""
        return json.dumps([self.method, self.tau, dict(sorted(self.options.items()))])


def _defaults(n: int) -> tuple[Estimator, ...]:
    own = [Estimator(method, full=True) for method in ("variational", "variational_factorised", "plain")]
    noisy = [
        Estimator(method, tau, full=True)
        for tau in (0.1, 0.3, 1.0)
        for method in ("variational", "gaussian", "gaussian_tight", "logdet")
    ]
    samples = [
        Estimator("pairwise"),
        *(Estimator("pairwise", tau) for tau in (0.3, 1.0)),
        *(Estimator(method, tau, n=min(n, 2000)) for tau in (0.3, 1.0) for method in ("leave_one_out", "infonce")),
        Estimator("pairwise_bhattacharyya", 1.0, n=min(n, 1000)),
        Estimator("ksg", 1.0, n=min(n, 500)),  # binning has no number for layers this wide, and says so
    ]
    return (*own, *noisy, *samples)


DEFAULT_ESTIMATORS = "default"
"""Stands for a list that costs about five seconds of one core at 300 units: P2's bounds, the Gaussian ones at three
noises, sample bounds on subsets. Those in closed form are `full`."""


def as_estimators(given: str | Sequence[Any], n: int) -> tuple[Estimator, ...]:
    """The estimators of a sweep with `n` inputs, from `given`: "default", or `Estimator`s or (method, tau, options).

    Raises:
        InvalidInputError: none, one twice, or one that is neither.
    """
    if isinstance(given, str):
        check_choice("estimators", given, (DEFAULT_ESTIMATORS,))
        return _defaults(n)
    found = []
    for entry in given:
        if isinstance(entry, Estimator):
            found.append(entry)
        elif isinstance(entry, Sequence) and not isinstance(entry, str) and 1 <= len(entry) <= 3:
            found.append(Estimator(**dict(zip(("method", "tau", "options"), entry, strict=False))))
        else:
            reject("estimators", repr(entry), "an Estimator or (method, tau, options)", "correct that entry")
    keys = [(entry.key, entry.n) for entry in found]
    if not found or len(set(keys)) < len(keys):
        got = "none" if not found else "one of them twice"
        reject("estimators", got, "at least one, each once", "list what to record")
    return tuple(found)
