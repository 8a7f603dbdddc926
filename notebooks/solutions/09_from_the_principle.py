"""Solutions of notebook 09; each cell runs behind the notebook's own cells."""

# %% 09.1
# From one over the squared maximal correlation, which is 1 - 2*0.1 for such coins. Seen here on the fifteen lines: below
# it the encoder forgets, above it does not.
coins = np.array([[0.45, 0.05], [0.05, 0.45]])
critical = 1 / (1 - 2 * 0.1) ** 2
assert blahut_arimoto(coins, 0.9 * critical)[1] < 1e-6 < blahut_arimoto(coins, 1.1 * critical)[1]
assert check("09.1", critical)

# %% 09.2
# 1/2 log 2 nats are half a bit.
assert check("09.2", 0.5 * np.log2(1 + 1))

# %% 09.3
# gamma I(T;X) - I(T;Y) is the Lagrangian divided by beta.
assert round(1 / 5.5e-4) == 1818
assert check("09.3", 1818)
