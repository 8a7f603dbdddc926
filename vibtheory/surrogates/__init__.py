"""Quadratic upper bounds ḡ of a network's loss in one layer's gates (THEORY.md T5), by strength of guarantee.

Read in this order: likelihood, chain (what follows a gate), affine, activations (f and the rest, streamed), quadratic,
then the kinds: bohning (and exact), lipschitz (with lipschitz_constants), tangent, fitted (quadratic_family, and its
two solvers fitted_newton and fitted_cvxpy); kinds chooses among them; last verification. `vibtheory.bridge` calls it.
"""
