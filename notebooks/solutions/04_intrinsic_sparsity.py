"""Solutions of notebook 04; each cell runs behind the notebook's own cells."""

# %% 04.1
# With everything closed the residual is r = beta, so gate j opens where gamma = (a_j'beta)^2/w_j = b_j^2/(4w_j); the
# largest of these is first. The path's first event says the same.
opening = bound.b**2 / (4 * bound.w)
first = path.events[0]
assert first.kind == "opens" and first.opened == (int(opening.argmax()),)
assert abs(first.gamma / opening.max() - 1) < 1e-8
assert check("04.1", opening.max())

# %% 04.2
# All: orthogonal columns do not compete. With A = I and b large and negative Phi splits into five one-dimensional
# problems, each with its minimum far from 0.
tight = vt.check_sparsity_bound(vt.QuadraticBound(np.eye(5), b=np.full(5, -6.0), gamma=0.1))
assert tight.nonzeros == tight.rank == 5 and tight.tight_slack == 0
assert check("04.2", tight.nonzeros)

# %% 04.3
# T4a: cos^2 <= (1+1)^2/(2+1)^2 = 4/9, an angle of at least 48 degrees. The limit tends to 1 as alpha grows: loud gates
# may be close, never collinear.
assert float(theory.collinearity_limit(1e8, 1e8)) < 1
assert check("04.3", np.degrees(np.arccos(2 / 3)))

# %% 04.4
# gamma >= ||beta||^2 = 4: then every gate is closed at every stationary point, so the only local minimum is 0.
closed = theory.check_closure(trap.with_gamma(4.0))
assert closed.verdict == "only stationary point"
assert len(vt.enumerate_local_minima(trap.with_gamma(4.1))) == 1
assert len(vt.enumerate_local_minima(trap.with_gamma(3.9))) > 1
assert check("04.4", 2.0**2)
