"""Quadratic upper bounds ḡ of a network's loss in one layer's gates (THEORY.md T5), by strength of guarantee.

Read in this order: likelihood, chain (what follows a gate), affine, activations (f and the rest, streamed), quadratic,
then the kinds: bohning (and exact), lipschitz (with lipschitz_constants), tangent, fitted; last verification.
`vibtheory.bridge` chooses among them.
"""
