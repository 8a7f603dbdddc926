"""A trained network and data become quadratic bounds ḡ, channels and reports: the only place where torch meets theory.

Read `checking` first, then `kinds` (which ḡ exist, by strength of guarantee; docs/theory.md, T5), `trained` (T8:
without any ḡ) and `channels`. The names stand in `__init__.pyi`; each is loaded on first use: a check needs neither the
channels nor T8.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
