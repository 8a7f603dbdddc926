"""A test that stands still fails, and says where: every thread's stack goes to standard error.

The alarm of a forked child comes first, and ends it: its parent, which waits for it, then fails by its exit code.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["SECONDS", "limited", "watch"]

SECONDS = 600  # the slowest notebook took 23 on two idle cores
CHILD_SECONDS = 300


def watch() -> int:
    """Once a process, before output is captured; the file descriptor that the stacks are written to."""
    said = os.dup(2)

    def child() -> None:
        _answer(signal.SIG_DFL, said)
        signal.alarm(CHILD_SECONDS)

    _answer(_expired, said)
    os.register_at_fork(after_in_child=child)
    return said


@contextmanager
def limited() -> Iterator[None]:
    """One test."""
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)


def _answer(then: Any, said: int) -> None:
    """To an alarm: the stacks, written even if no Python code can run any more, then what `then` does."""
    faulthandler.unregister(signal.SIGALRM)
    signal.signal(signal.SIGALRM, then)
    faulthandler.register(signal.SIGALRM, said, chain=True)


def _expired(*_: object) -> None:
    raise TimeoutError(f"a test ran for more than {SECONDS} s; the stacks are on standard error")
