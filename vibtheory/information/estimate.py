"""`estimate(channel, method=…)`: every bound and estimator of I(h; x) by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vibtheory.errors import check_choice
from vibtheory.information.channel import GatedChannel
from vibtheory.information.gaussian import gaussian, gaussian_tight, logdet
from vibtheory.information.known_conditional import infonce, leave_one_out
from vibtheory.information.pairwise import pairwise, pairwise_bhattacharyya
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
    "infonce": infonce,
    "pairwise": pairwise,
    "pairwise_bhattacharyya": pairwise_bhattacharyya,
}


def estimate(channel: GatedChannel, method: str = "pairwise", **options: Any) -> MutualInformation:
    """I(h; x) of `channel` by `method`, in nats, with its direction, standard error and ceiling.

    Args:
        channel: the gated layer's law.
        method: one of `METHODS`; each one's docstring declares direction, assumptions, cost and ceiling.
        options: handed to the method: `seed` (infonce, leave_one_out), `device`, `precision` (pairwise).

    Raises:
        InvalidInputError: an unknown method, or a channel that the method does not apply to.
    """
    check_choice("method", method, METHODS)
    return METHODS[method](channel, **options)
