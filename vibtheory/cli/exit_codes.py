"""What ends a command, as an exit code: a defect must never look like the verdict "violated" (1)."""

from __future__ import annotations

import re
import traceback
from errno import EACCES, EDQUOT, EFBIG, EIO, ENAMETOOLONG, ENOSPC, EPERM, EROFS
from types import TracebackType
from typing import Any

import typer
from typer.core import TyperGroup

from vibtheory.errors import VibTheoryError

__all__ = ["BAD_INPUT", "DEFECT", "INTERRUPTED", "NOT_APPLICABLE", "VIOLATED", "Commands"]

VIOLATED, BAD_INPUT, NOT_APPLICABLE, DEFECT, INTERRUPTED = 1, 2, 3, 70, 130


class Commands(TyperGroup):
    """The group of all commands; each runs under `_ExitCodes`."""

    def invoke(self, ctx: Any) -> Any:
        with _ExitCodes(ctx, self):
            return super().invoke(ctx)


class _ExitCodes:
    """Context manager: errors of ours become one line and code 2, anything unforeseen a trace and code 70."""

    def __init__(self, context: Any, commands: TyperGroup) -> None:
        self.debug = bool(context.params.get("debug"))
        self.context, self.commands = context, commands

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, VibTheoryError):
            if self.debug:
                traceback.print_exception(error)
            typer.echo("error: " + self._in_shell_words(" ".join(str(error).split())), err=True)
            raise typer.Exit(BAD_INPUT) from error
        if isinstance(error, KeyboardInterrupt):
            typer.echo("interrupted; what was written is whole, and the same command goes on from there", err=True)
            raise typer.Exit(INTERRUPTED) from error
        trouble = _trouble(error)
        if trouble:
            if self.debug:
                traceback.print_exception(error)
            typer.echo(f"error: {trouble}; what was written before is whole", err=True)
            raise typer.Exit(BAD_INPUT) from error
        ours = not isinstance(error, Exception) or hasattr(error, "exit_code")  # usage errors and typer.Exit
        if ours or isinstance(error, typer.Abort | BrokenPipeError):
            return
        traceback.print_exception(error)
        typer.echo("error: a defect of vibtheory, or of the model's own code: see the trace", err=True)
        raise typer.Exit(DEFECT) from error

    def _in_shell_words(self, message: str) -> str:
        """The message about the options that the user types instead of the arguments that they become."""
        argument, _, rest = message.partition(":")
        command = self.commands.commands.get(self.context.invoked_subcommand)
        typed = [p for p in command.params if p.opts[0].startswith("-")] if command else []
        options = {p.opts[0].strip("-"): p.opts[0] for p in typed} | {p.name: p.opts[0] for p in typed}
        option = options.get(argument.partition("[")[0])
        before, remedy, after = (message if option is None else f"{option}:{rest}").rpartition("Remedy:")
        after = re.sub(r"\b(\w+)=", lambda word: f"{options[word[1]]} " if word[1] in options else word[0], after)
        return before + remedy + after


def _trouble(error: BaseException | None) -> str:
    """What the machine refused, with its remedy, in one line; "" for any other error."""
    if _out_of_memory(error):
        return "out of memory. Remedy: use fewer --examples, or a machine with more"
    if isinstance(error, OSError) and error.errno in (EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EPERM, EROFS):
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{place}. Remedy: free space, or choose a folder that can be read and written"
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
        return f"{error.strerror} ({str(error.filename)[:60]}…). Remedy: correct the name, or shorten it"
    return ""


def _out_of_memory(error: BaseException | None) -> bool:
    """Python's own error or torch's, which is a RuntimeError on a CPU and one of its own on a GPU."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    words = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in words)
