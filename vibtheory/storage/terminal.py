"""What reports and progress bars use of rich, imported with the user's `random` left as it was.

rich.style draws a number from Python's global stream when it is first imported (its links' ids).
"""

from __future__ import annotations

import random

_before = random.getstate()
try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
    from rich.table import Table
    from rich.text import Text
finally:
    random.setstate(_before)

__all__ = [
    "BarColumn", "Console", "MofNCompleteColumn", "Progress", "Table", "Text", "TextColumn", "TimeRemainingColumn",
    "track",
]  # fmt: skip
