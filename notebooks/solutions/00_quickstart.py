"""Solutions of notebook 00; each cell runs behind the notebook's own cells."""

# %% 00.1
# Noise raises the loss, so sigma shrinks and alpha grows: more information than before is let through.
torch.manual_seed(0)
free = vt.networks.lenet_300_100()
before = vt.networks.gates.gate_information(free)["h1"]
vt.train(free, data.subset(500, 100), gamma=0, epochs=1, seed=0, device="cpu")
grew = vt.networks.gates.gate_information(free)["h1"] > before
assert check("00.1", "up" if grew else "down")

# %% 00.2
# One matrix between each two layers.
assert check("00.2", 135 * 64 + 64 * 73 + 73 * 10)
