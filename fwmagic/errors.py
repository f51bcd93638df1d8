"""The errors of this package: each is one sentence that says what, where and what to do."""

from __future__ import annotations


class FwMagicError(Exception):
    """A comparison that cannot be made as it was asked for."""


class CannotCompile(FwMagicError):
    """A body, or a part of it, could not be compiled.

    `line` is the line of the cell that stands in the way, `spent` the seconds that were spent on finding that out.
    """

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.spent = 0.0
