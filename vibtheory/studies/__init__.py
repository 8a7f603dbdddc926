"""Studies: many runs become one table. Tables 1–4, sweeps over γ, Figure 2, every kind of ḡ, Props 1 and 2.

Only `tables` is imported here, which is readable without torch.
"""

from vibtheory.studies import tables as tables
