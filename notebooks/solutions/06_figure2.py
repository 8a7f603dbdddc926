"""Solutions of notebook 06; each cell runs behind the notebook's own cells."""

# %% 06.1
# e^700 = 10^304; MNIST's 60,000 images cap at 11 nats.
assert np.log(60_000) < 11.01
assert check("06.1", 700 / np.log(10))

# %% 06.2
# With one unit the sum over units of I(h_j; x) is I(h; x), by quadrature; it must lie between InfoNCE and leave-one-out,
# up to three of their standard errors.
single = wide.loc[1]
error = 3 * spread.loc[1]
assert single["infonce"] - error["infonce"] < single["per_unit"] < single["leave_one_out"] + error["leave_one_out"]
assert check("06.2", "per_unit")
