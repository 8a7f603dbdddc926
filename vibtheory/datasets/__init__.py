"""Data sets in memory: MNIST inside the package; the others from a folder or a checksummed download.

Reading order: dataset (what a data set is), catalogue (files and checksums), idx and cifar (the two file formats),
store (where files lie, `available`, `verify`, `fetch`), loading (`load`).
"""

from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.datasets.loading import load

__all__ = ["Dataset", "from_arrays", "load"]
