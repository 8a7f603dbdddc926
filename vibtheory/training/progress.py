"""A live bar for training: epoch, error, kept units and r_W."""

from __future__ import annotations

from types import TracebackType
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Context manager around rich's progress bar; does nothing unless `show`."""

    def __init__(self, show: bool, total: int, done: int) -> None:
        self._bar: Any = None
        if show:
            from vibtheory.storage import terminal as t

            columns = [t.TextColumn("{task.description}"), t.BarColumn(), t.MofNCompleteColumn()]
            self._bar = t.Progress(*columns, t.TimeRemainingColumn())
            self._task = self._bar.add_task("training", total=total, completed=done)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, row: dict[str, Any]) -> None:
        """One epoch further; `row` is its line of the history."""
        if self._bar is None:
            return
        kept = "-".join(str(value) for key, value in row.items() if key.startswith("kept_"))
        facts = [f"CE {row['cross_entropy']:.4f}", f"kept {kept}" if kept else ""]
        percentages = ((name, row.get(key)) for key, name in (("error", "error"), ("r_w", "r_W")))
        facts += [f"{name} {value:.2f} %" for name, value in percentages if value is not None]
        self._bar.update(self._task, advance=1, description=", ".join(fact for fact in facts if fact))
