"""The ledger of claims: does it hold? Asked of every claim of the poster, and of ours, and answered by computation.

    ledger = vibtheory.claims.decide("quick")        # minutes; decide("full") for the record
    print(ledger)                                    # ledger["T2"], .to_json(), .to_html()

Reading order: `claim` (statement, tally, verdict), `effort` (how much work; shared instances), the deciders by area
(`information`, `redundancy`, `penalty`, `sparsity`, `surrogates`, `landscape`, `records`, `width`), `registry` (the
list), `ledger`, `page`. The ledger has no mathematics of its own: deciders call what the package exports, and every
decider takes the bound that it decides as an argument, so that a false one can be put in its place (tests/claims).
"""

from __future__ import annotations

from vibtheory.claims.claim import Claim, Finding, Statement, Tally
from vibtheory.claims.effort import Effort
from vibtheory.claims.ledger import Ledger, decide
from vibtheory.claims.registry import STATEMENTS

__all__ = ["STATEMENTS", "Claim", "Effort", "Finding", "Ledger", "Statement", "Tally", "decide"]
