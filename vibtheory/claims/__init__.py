"""The ledger of claims: does it hold? Asked of every claim of the paper, and of ours, and answered by computation.

    ledger = vibtheory.claims.decide("quick")        # minutes; decide("full") for the record
    print(ledger)                                    # ledger["T2"], .to_json(), .to_html()

Reading order: `claim` (statement, tally, verdict), `instances` (what deciders draw on), the deciders by area
(`information`, `redundancy`, `sparsity`, `certification`, `surrogates`, `landscape`, `gamma_path`, `layers`; from
recorded tables `printed_tables`, `figure2`, `width`), `registry` (the list), `ledger`. A decider holds what the
package exports against a computation of another kind, and most take the bound that they decide as an argument, so that
a false one can be put in its place (tests/claims).
"""

from __future__ import annotations

from vibtheory.claims.claim import Claim, Finding, Statement, Tally
from vibtheory.claims.instances import Effort
from vibtheory.claims.ledger import Ledger, decide
from vibtheory.claims.registry import STATEMENTS

__all__ = ["STATEMENTS", "Claim", "Effort", "Finding", "Ledger", "Statement", "Tally", "decide"]
