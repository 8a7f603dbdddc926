"""A live bar for training: epoch, error, kept units and r_W."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["live_bar"]


@contextmanager
def live_bar(show: bool, total: int, done: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """rich's progress bar inside a `with` block: a function that is told each epoch's line of the history.

    Nothing is drawn unless `show`. `total` epochs in all, of which some are `done`.
    """
    if not show:
        yield lambda row: None
        return
    from vibtheory.storage import terminal as t

    columns = [t.TextColumn("{task.description}"), t.BarColumn(), t.MofNCompleteColumn(), t.TimeRemainingColumn()]
    with t.Progress(*columns) as bar:
        task = bar.add_task("training", total=total, completed=done)

        def advance(row: dict[str, Any]) -> None:
            kept = "-".join(str(value) for key, value in row.items() if key.startswith("kept_"))
            facts = [f"CE {row['cross_entropy']:.4f}", f"kept {kept}" if kept else ""]
            percentages = ((name, row.get(key)) for key, name in (("error", "error"), ("r_w", "r_W")))
            facts += [f"{name} {value:.2f} %" for name, value in percentages if value is not None]
            bar.update(task, advance=1, description=", ".join(fact for fact in facts if fact))

        yield advance
