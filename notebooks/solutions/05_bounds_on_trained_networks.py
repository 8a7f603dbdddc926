"""Solutions of notebook 05; each cell runs behind the notebook's own cells."""

# %% 05.1
# (I - 11'/K)/2 against (I - 11'/K)/K: K/2 times. At its point of contact the bound touches all the same.
p = np.full(10, 0.1)
hessian = np.diag(p) - np.outer(p, p)
anchor = bound.trained_mu
assert abs(float(bound.value(anchor[None])[0] - gate_losses(twin, subset, "h2", anchor[None])[0])) < 1e-4
assert check("05.1", 0.5 / np.linalg.eigvalsh(hessian)[-1])

# %% 05.2
# Those eigenvalues that are at least 1/(2 + 8) = 0.1: four.
assert check("05.2", np.count_nonzero(np.array([2.5, 1.5, 0.8, 0.15, 0.05]) >= 1 / (2 + 8)))

# %% 05.3
# Each such gate spends at least 0.01/2 of 0.05: ten.
from vibtheory import theory

assert theory.survivor_limit(bound, level=1.0) >= report["h2"].nonzeros
assert check("05.3", round(0.2 / 4 / (0.01 / 2)))
