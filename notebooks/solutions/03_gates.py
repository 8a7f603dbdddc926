"""Solutions of notebook 03; each cell runs behind the notebook's own cells."""

# %% 03.1
# alpha = 4, and 1/2 log 5 = 0.805 nats = 1.161 bits.
assert check("03.1", 0.5 * np.log(1 + 0.5**2 / 0.25**2))

# %% 03.2
# With gamma_j = gamma/2 = 0.1 the minimum is 0.652 nats at alpha = y^2/gamma_j - 1 = 249; closing the gate costs 25. The
# statement needs 'where the next layer has a bias'.
unit = theory.constant_unit(target=5.0, gamma=0.2 / 2)
assert unit.refutes and abs(unit.open_value - 0.652146) < 1e-5
assert check("03.2", 5.0**2 / 0.1 - 1)

# %% 03.3
# The width of h still tells f = 1 from f = 2. Only where the loss grows with sigma does a minimum have sigma = 0 as well.
# Here by the trapezoidal rule, from the densities.
h = np.linspace(-20, 20, 20001)
normal = [np.exp(-0.5 * (h / s) ** 2) / (s * np.sqrt(2 * np.pi)) for s in (1, 2)]
mixture = sum(normal) / 2
assert check("03.3", sum(0.5 * np.trapezoid(p * np.log(p / mixture), h) for p in normal))
