"""The errors of this package, each one sentence that says what, where and what to do; and what any error tells."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType


class FwMagicError(Exception):
    """A comparison that cannot be made as it was asked for."""


class CannotCompile(FwMagicError):
    """A body, or a part of it, could not be compiled.

    `line` is the line of the cell that stands in the way, `spent` the seconds that were spent on finding that out;
    `final`: it holds for every part of the body, too.
    """

    def __init__(self, reason: str, line: int | None = None, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.final = final
        self.spent = 0.0


def message_of(error: BaseException) -> str:
    """Return what an exception says of itself; where it cannot say anything, why."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as why:  # the class is the user's own, and so is its `__str__`
        return f"its message cannot be read ({type(why).__name__})"


def in_words(error: BaseException) -> FwMagicError:
    """Return an error that says in words what this one is: for where it cannot be shown, or sent, itself."""
    return FwMagicError(f"{type(error).__name__}: {message_of(error)}").with_traceback(error.__traceback__)


def entries_of(error: BaseException) -> list[TracebackType]:
    """Return the entries of an exception's traceback, the outermost first."""
    entries, entry = [], error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    return entries


def traceback_of(entries: Sequence[TracebackType]) -> TracebackType | None:
    """Return a traceback of these entries alone."""
    trace: TracebackType | None = None
    for entry in reversed(entries):
        trace = TracebackType(trace, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return trace
