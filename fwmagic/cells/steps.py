"""The steps of a call: how much Python runs in it, counted, so that no clock has to tell two calls apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from fwmagic.cells.walk import uncollected
from fwmagic.frameworks.untraced import is_file_of_user

#: Counting ends after so many instructions of the user's code.
MOST_STEPS = 100_000
# Libraries tidy up now and then, and look things up once: so many of their calls more, and this share, are alike.
_FEW, _ALIKE = 8, 0.8


@dataclass(frozen=True)
class Steps:
    """How many instructions of the user's code ran, and how many functions of libraries were called from Python.

    What runs in C is not among them, nor what comes after `MOST_STEPS`.
    """

    own: int
    calls: int

    def like(self, other: Steps) -> bool:
        """Say whether both ran the same code of the user, and called about as much of libraries."""
        fewer, more = sorted((self.calls, other.calls))
        return self.own == other.own and fewer + _FEW >= _ALIKE * more


def steps_of(call: Callable[[], object]) -> Steps:
    """Make a call, and count its steps in this thread; raises what the call raises."""
    own = calls = 0

    def enter(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal calls
        if is_file_of_user(frame.f_code.co_filename):
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            return step
        calls += 1
        return None

    def step(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
        nonlocal own
        own += 1
        if own >= MOST_STEPS:
            sys.settrace(None)
        return step

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for such a frame only when tracing begins
    with uncollected():
        sys.settrace(enter)
        try:
            call()
        finally:
            sys.settrace(before)
    return Steps(own, calls)
