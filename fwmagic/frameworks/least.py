"""The least that a call has to do, whatever a compiler makes of it, and what of its work that leaves out or rounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Least:
    """Operations of matrix products and convolutions, and bytes of inputs and results that have to be gone through.

    `unread` and `repeated` are the shares of the work that no result needs, and that is the same again, each with the
    line that does most of it: a compiler may leave out the one, and does the other once. `spacing` is that of the
    coarsest floats which it makes on the way, relative to them, if these have 16 bits or less: a compiler may round
    less often.
    """

    operations: float = 0.0
    bytes: float = 0.0
    unread: tuple[float, int | None] = (0.0, None)
    repeated: tuple[float, int | None] = (0.0, None)
    spacing: float = 0.0
