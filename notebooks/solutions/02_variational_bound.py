"""Solutions of notebook 02; each cell runs behind the notebook's own cells."""

# %% 02.1
# psi = log 5 - half of log 9. Doubling f leaves it as it is: it only sees the relative spread. The dropped factor
# 1/2 only rescales gamma, and is harmless; psi depends on the activations, hence on the weights: dropping it changes the
# minimiser.
v = shapes["uniform on [0, 2]"][:, None]
assert abs(information.psi(v)[0] - information.psi(2 * v)[0]) < 1e-12
assert information.psi(v)[0] > 10 * information.psi(shapes["uniform on [1, 2]"][:, None])[0]
assert check("02.1", np.log(5) - 0.5 * np.log(9))

# %% 02.2
# xi = (mu^2 + sigma^2) E f^2. It makes the prior part smallest, never 0: p(h) is a mixture, no Gaussian. A wider one costs
# more.
best = information.layer_bound(joint, f, [1.2], [0.3], classifier, prior="gaussian")
wide = information.layer_bound(joint, f, [1.2], [0.3], classifier, prior="gaussian", prior_variance=[30.0])
assert 0 < best.prior_gap < wide.prior_gap
assert check("02.2", (0.8**2 + 0.4**2) * 4 / 3)

# %% 02.3
# I -> H(x), finite; the rate 1/2 log(1 + alpha) + ... grows without limit. The bound gets loose, not wrong.
quiet = gap(0.02, 1.0)
assert quiet.rate > 2 * quiet.information
assert check("02.3", quiet.information)
