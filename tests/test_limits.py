"""A test, and a fork of one, that stands still ends with a failure and its stacks."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator

import pytest

from tests import limits
from tests.conftest import STACKS


@pytest.fixture
def stacks(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """What is written to this process's standard error while a test runs."""
    own = request.config.stash[STACKS]
    before = os.dup(own)
    with tempfile.TemporaryFile("w+") as said:
        os.dup2(said.fileno(), own)
        yield lambda: (said.seek(0), said.read())[1]
        os.dup2(before, own)
        os.close(before)


def standing_still() -> None:
    signal.raise_signal(signal.SIGALRM)


def test_the_alarm_is_set_and_fails_a_test_with_its_stacks(stacks: Callable[[], str]) -> None:
    assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= limits.SECONDS
    with pytest.raises(TimeoutError, match=f"more than {limits.SECONDS} s"):
        standing_still()
    assert "standing_still" in stacks()


def test_a_fork_has_an_earlier_alarm_and_dies_of_it_with_its_stacks(stacks: Callable[[], str]) -> None:
    here, there = os.pipe()
    assert limits.CHILD_SECONDS < limits.SECONDS
    if (child := os.fork()) == 0:
        try:
            os.write(there, f"{signal.getitimer(signal.ITIMER_REAL)[0]}".encode())
            standing_still()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGALRM
    assert 0 < float(os.read(here, 100)) <= limits.CHILD_SECONDS
    os.close(here)
    os.close(there)
    assert "standing_still" in stacks()
