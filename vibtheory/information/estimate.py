"""`estimate(channel, method=…)`: every bound and estimator of I(h; x) by name (docs/theory.md F), in nats."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from vibtheory.errors import check_choice, reject
from vibtheory.information.binning import binning
from vibtheory.information.channel import GatedChannel, check_channel
from vibtheory.information.gaussian import gaussian, gaussian_tight, logdet
from vibtheory.information.known_conditional import infonce, leave_one_out, leave_one_out_per_unit
from vibtheory.information.ksg import ksg
from vibtheory.information.pairwise import pairwise, pairwise_bhattacharyya
from vibtheory.information.per_unit import per_unit
from vibtheory.information.result import MutualInformation
from vibtheory.information.variational import plain, variational, variational_factorised

__all__ = ["METHODS", "estimate"]

METHODS: dict[str, Callable[..., MutualInformation]] = {
    "variational": variational,
    "variational_factorised": variational_factorised,
    "plain": plain,
    "gaussian": gaussian,
    "gaussian_tight": gaussian_tight,
    "logdet": logdet,
    "leave_one_out": leave_one_out,
    "leave_one_out_per_unit": leave_one_out_per_unit,
    "infonce": infonce,
    "pairwise": pairwise,
    "pairwise_bhattacharyya": pairwise_bhattacharyya,
    "per_unit": per_unit,
    "ksg": ksg,
    "binning": binning,
}


def estimate(channel: GatedChannel, method: str = "pairwise", **options: Any) -> MutualInformation:
    """I(h; x) of `channel` by `method`, in nats, with its direction, standard error and ceiling.

    Args:
        channel: the gated layer's law.
        method: one of `METHODS`; each one's docstring declares direction, assumptions, cost and ceiling.
        options: handed to the method: `seed` (infonce, leave_one_out, leave_one_out_per_unit, ksg, binning), `device`
            and `precision` (pairwise, pairwise_bhattacharyya), `k` (ksg), `bins` (binning).

    Raises:
        InvalidInputError: not a channel, an unknown method or option, or a channel that the method does not apply to.
    """
    check_choice("method", method, METHODS)
    check_channel(channel)
    known = list(inspect.signature(METHODS[method]).parameters)[1:]
    for name in options:
        if name not in known:
            reject(name, f"an option of {method!r}", f"one of {known}" if known else "no option", "leave it out")
    return METHODS[method](channel, **options)
