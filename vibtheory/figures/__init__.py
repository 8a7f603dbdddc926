"""Plots. Each reads a results table or a report and nothing else; `style` is what they share.

Result objects have `.plot()`; these functions are behind it. The names stand in `__init__.pyi`; each is loaded on first
use, and matplotlib with it.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
