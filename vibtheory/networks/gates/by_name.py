"""The laws by name, and a gate of any of them."""

from __future__ import annotations

from typing import Any

from vibtheory.errors import reject
from vibtheory.networks.gates.bc import GHSGate, GNJGate
from vibtheory.networks.gates.gd import GDGate
from vibtheory.networks.gates.l0 import L0Gate
from vibtheory.networks.gates.law import GateLaw
from vibtheory.networks.gates.rnp import RNPGate
from vibtheory.networks.gates.sbp import SBPGate
from vibtheory.networks.gates.vd import VDGate
from vibtheory.networks.gates.vib import Gate
from vibtheory.networks.gates.weights import DNGate, GLGate, NSGate, OpenGate, PFGate

__all__ = ["LAWS", "make_gate"]

_KINDS = (Gate, L0Gate, SBPGate, GDGate, GNJGate, GHSGate, VDGate, GLGate, DNGate, NSGate, PFGate, RNPGate,
          OpenGate)  # fmt: skip
LAWS: dict[str, type[GateLaw]] = {kind.law: kind for kind in _KINDS}
"""The laws by name."""


def make_gate(law: str, features: int, **options: Any) -> GateLaw:
    """A gate of a named law on `features` units.

    Args:
        law: one of `LAWS`: "vib", "l0", "sbp", "gd", "bc-gnj", "bc-ghs"; of the weights "vd", "gl", "dn", "ns", "pf",
            "rnp"; "open", which only passes on.
        features: number of gated units d.
        options: arguments of the law's class; those left out, or None, are its own.

    Raises:
        InvalidInputError: an unknown law (the message lists those there are), or an option that it does not have.
    """
    if law not in LAWS:
        reject("law", repr(law), "one of " + ", ".join(LAWS), "name one of them")
    return LAWS[law](features, **{name: value for name, value in options.items() if value is not None})
