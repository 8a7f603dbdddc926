"""Solutions of notebook 01; each cell runs behind the notebook's own cells."""

# %% 01.1
# It ends at I(T;Y) = I(X;Y), reached when T keeps everything about y. Data processing gives I(T;Y) <= I(T;X), so the
# slope 1/beta never exceeds 1, and no beta < 1 is ever needed.
assert abs(curve.limit_y - i_xy) < 1e-12
assert (recording["i_ty"] <= recording["i_tx"] + 1e-9).all() and recording["i_ty"].max() <= i_xy + 1e-9
assert recording.loc[recording["beta"] <= 1, "i_tx"].max() < 1e-6
assert check("01.1", curve.limit_y)

# %% 01.2
# From beta = 1/rho^2. The maximal correlation of a Gaussian pair is |rho|, so the discrete criterion 1/s_2^2 of a fine
# grid, with which the answer is compared, must agree.
assert check("01.2", 1 / 0.7**2)

# %% 01.3
# Only the sign pattern is left: at most log 2^3 = log 8.
saturated = information.binning(information.GatedChannel.regular(np.tanh(1e4 * x @ weights), tau=1e-9), bins=30).nats
assert 1.5 < saturated <= np.log(8) + 0.02
assert check("01.3", np.log(8))
