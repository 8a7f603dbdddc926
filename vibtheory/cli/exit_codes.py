"""What ends a command, as an exit code: a defect must never look like the verdict "violated" (1)."""

from __future__ import annotations

import re
import traceback
from errno import EACCES, EDQUOT, EFBIG, EIO, ENAMETOOLONG, ENOSPC, EPERM, EROFS
from typing import Any

import typer
from typer.core import TyperGroup

from vibtheory.errors import VibTheoryError

__all__ = ["BAD_INPUT", "DEFECT", "INTERRUPTED", "NOT_APPLICABLE", "VIOLATED", "Commands"]

VIOLATED, BAD_INPUT, NOT_APPLICABLE, DEFECT, INTERRUPTED = 1, 2, 3, 70, 130


class Commands(TyperGroup):
    """The group of all commands: errors of ours become one line and code 2, anything unforeseen a trace and code 70."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            typer.echo("interrupted; what was written is whole, and the same command goes on from there", err=True)
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if isinstance(error, VibTheoryError):
                words = self._in_shell_words(ctx, " ".join(str(error).split()))
            elif trouble := _trouble(error):
                words = f"{trouble}; what was written before is whole"
            elif hasattr(error, "exit_code") or isinstance(error, typer.Abort | BrokenPipeError):  # a usage error, too
                raise
            else:
                traceback.print_exception(error)
                typer.echo("error: a defect of vibtheory, or of the model's own code: see the trace", err=True)
                raise typer.Exit(DEFECT) from error
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            typer.echo(f"error: {words}", err=True)
            raise typer.Exit(BAD_INPUT) from error

    def _in_shell_words(self, ctx: Any, message: str) -> str:
        """The message about the options that the user types instead of the arguments that they become."""
        argument, _, rest = message.partition(":")
        command = self.commands.get(ctx.invoked_subcommand)
        typed = [p for p in command.params if p.opts[0].startswith("-")] if command else []
        options = {p.opts[0].strip("-"): p.opts[0] for p in typed} | {p.name: p.opts[0] for p in typed}
        option = options.get(argument.partition("[")[0])
        before, remedy, after = (message if option is None else f"{option}:{rest}").rpartition("Remedy:")
        after = re.sub(r"\b(\w+)=", lambda word: f"{options[word[1]]} " if word[1] in options else word[0], after)
        return before + remedy + after


def _trouble(error: Exception) -> str:
    """What the machine refused, with its remedy, in one line; "" for any other error."""
    if _out_of_memory(error):
        return "out of memory. Remedy: use fewer --examples, or a machine with more"
    if isinstance(error, OSError) and error.errno in (EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EPERM, EROFS):
        place = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{place}. Remedy: free space, or choose a folder that can be read and written"
    if isinstance(error, OSError) and error.errno == ENAMETOOLONG:
        return f"{error.strerror} ({str(error.filename)[:60]}…). Remedy: correct the name, or shorten it"
    return ""


def _out_of_memory(error: Exception) -> bool:
    """Python's own error or torch's, which is a RuntimeError on a CPU and one of its own on a GPU."""
    if not isinstance(error, RuntimeError):
        return isinstance(error, MemoryError)
    words = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in words)
