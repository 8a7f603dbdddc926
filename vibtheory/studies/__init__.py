"""Studies: many runs become one table. Tables 1–4, sweeps over γ, Figure 2, every kind of ḡ, Props 1 and 2.

Nothing is imported here: `tables` must stay readable without torch.
"""
