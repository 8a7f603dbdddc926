"""Solutions of notebook 08; each cell runs behind the notebook's own cells."""

# %% 08.1
# After the activation, named after the layer that feeds it. An activation that is the output gets none.
plain = vt.insert_gates(nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 2)), torch.zeros(2, 6))
assert len(named_gates(plain)) == 1
assert check("08.1", next(iter(named_gates(plain))))

# %% 08.2
# sigma = exp(-9/2) = 1.1 %; measured here on the gates' own noise.
fresh = vt.insert_gates(model, example)
with torch.no_grad():
    assert torch.allclose(fresh.eval()(x), model.eval()(x), atol=1e-5)
    torch.manual_seed(0)
    ones = torch.ones(20_000, 64)
    spread = named_gates(fresh.train())["hidden_gate"](ones).std()
assert check("08.2", 100 * spread)

# %% 08.3
# Each hidden unit carries 588 incoming and 10 outgoing weights.
half = vt.insert_gates(model, example)
named_gates(half)["hidden_gate"].close(torch.arange(32))
cut = vt.compress(half, example)
matrices = [sum(p.numel() for p in m.parameters() if p.ndim > 1) for m in (model, cut)]
assert check("08.3", matrices[0] - matrices[1])
