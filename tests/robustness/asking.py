"""What a spoiled input must lead to: one line with a remedy, or the right answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from typer.testing import CliRunner

from vibtheory.cli import app
from vibtheory.errors import VibTheoryError

__all__ = ["Wrong", "ask", "call", "told"]


class Wrong(AssertionError):
    """Neither refused in one line nor answered rightly."""


def ask(*arguments: object) -> str:
    """Run a command in this process: its stdout where it answered, "" where it refused in one line with a remedy."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    lines = result.stderr.strip().splitlines()
    if result.exit_code not in (0, 1, 2, 3):
        raise Wrong(f"exit code {result.exit_code}: {lines[-2:]} {result.exception!r}")
    if "Traceback" in result.output:
        raise Wrong(f"a traceback: {lines[-1]}")
    if result.exit_code != 2:
        return str(result.stdout)
    if len(lines) != 1 or not lines[0].startswith("error: ") or "emedy" not in lines[0] or len(lines[0]) > 20_000:
        raise Wrong(f"not one line with a remedy: {result.output[:300]}")
    return ""


def told(answer: str, expected: str | None = None) -> str:
    if answer and expected is not None and answer != expected:
        raise Wrong(f"another answer than the intact file's: {answer[:200]}")
    return "right" if answer else "refused"


def call(function: Callable[[], Any]) -> Any:
    """What `function` returns, None where it raises our error with a remedy."""
    try:
        return function()
    except VibTheoryError as error:
        if "emedy" not in str(error):
            raise Wrong(f"no remedy: {error}") from error
        return None
