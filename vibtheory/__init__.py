"""vibtheory: compress a network with the variational information bottleneck, and decide why it worked.

Folders are concepts, and each imports only from those above it:

1. `errors`, `storage`: the error family and its checks; atomic files, and what all result objects share.
2. `theory`: penalty, quadratic bound, rank, certified local minima, the sparsity bound. It never imports torch.
3. `information`: channels, bounds and estimators of mutual information, the information-bottleneck principle.
4. `datasets`, `networks`: the data; the gate z = μ + σ⊙ε, the paper's networks, gates for any torch model.
5. `compression`: cut the closed gates out, count what is left, hand it on.
6. `training`: the loop, its checkpoints, and what it returns.
7. `bridge`: a trained network and data become quadratic bounds, channels and reports.
8. `studies`: many runs become one table: Tables 1–4, sweeps, Figure 2.
9. `figures`, `claims`, `teaching`, `cli`: plots, every claim decided, what notebooks stand on, the command line.

Docstrings cite docs/theory.md by its headings: T1–T9 (theorems), P1–P3 (the bound and its measure), M (metrics), F
(Figure 2).

The names are in `__init__.pyi`, each once; each is loaded on first use: `import vibtheory` pulls in neither torch nor
cvxpy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
