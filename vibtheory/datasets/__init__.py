"""Data sets in memory: MNIST inside the package; the others from a folder or a checksummed download.

Reading order: dataset (what a data set is), catalogue (files and checksums), idx and cifar (the two file formats),
store (where files lie), fetching (`available`, `verify`, `fetch`), loading (`load`).
"""

from vibtheory.datasets.dataset import Dataset, from_arrays
from vibtheory.datasets.fetching import Availability, available, fetch, verify
from vibtheory.datasets.loading import load

__all__ = ["Availability", "Dataset", "available", "fetch", "from_arrays", "load", "verify"]
