"""What the children of a forking test would load again and again, loaded once in their parent."""

from __future__ import annotations

import gc
from functools import cache

import matplotlib.pyplot as plt
import pandas
from torch import _dynamo

import vibtheory as vt
from vibtheory.figures import encoded

__all__ = ["warm"]


@cache
def warm() -> None:
    """torch's and numba's lazy halves, matplotlib's fonts, MNIST's bytes; nothing that depends on a test."""
    _ = vt.networks.mlp, vt.check_network, vt.train, vt.information, pandas, _dynamo
    vt.find_local_minimum(vt.QuadraticBound([[1.0, 0.5], [0.5, 2.0]], [-2.0, -1.0], 2.0, 0.1))
    figure, axes = plt.subplots()
    axes.set(title="$\\log\\alpha$", xlabel="x", yscale="log")
    encoded(figure, dpi=20)
    vt.datasets.load("mnist")
    gc.collect()
    gc.freeze()  # a child's collections do not touch, and so not copy, what is shared
