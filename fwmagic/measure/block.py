"""The bench of one variant: it asks for blocks, consecutive calls timed as one, and keeps what was found out."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import TypeVar

from fwmagic.measure.calls import Block, Calls

#: Seconds that a block should take: short, so that a disturbed block is one of many; long against the clock.
FILL = 1e-3
#: Calls that are shorter than this many seconds get an untimed lead-in call where frameworks alternate.
LEAD_IN = 0.25
_MOST_CALLS = 100_000

_T = TypeVar("_T")


class Bench:
    """One variant while it is timed.

    `calls` is how many calls make a block, `each` the latest seconds per call, `cost` the wall seconds that
    the latest block took with everything around it, and `failure` what the program raised: then it is dropped.
    `alternate` says that variants of several frameworks, or in several processes, take turns: after a call of
    another one, thread pools and caches take one call to settle, which is then made untimed.
    """

    def __init__(self, program: Calls, alternate: bool, clock: Callable[[], float]) -> None:
        self.name = program.name
        self.calls = 1
        self.each: float | None = None
        self.cost = 0.0
        self.warm = False
        self.every_call = False
        self.failure: Exception | None = None
        self.voided = 0
        self.kept: list[Block] = []
        self.dispatch: float | None = None
        self.wait: float | None = None
        self._program = program
        self._alternate = alternate
        self._clock = clock
        self._voided_in_a_row = 0

    def block(self, calls: int) -> Block | None:
        """Run one block and return it; None if the program raised an exception."""
        block = self._try(lambda: self._program.block(calls, self._leads_in()))
        if block is not None:
            self.each = block.each
        return block

    def split(self, count: int) -> None:
        """Find out how much of a call is dispatch and how much waiting: medians of `count` single calls."""
        if count > 0:
            parts = self._try(lambda: self._program.split(count, self._leads_in()))
            if parts:
                self.dispatch, self.wait = (statistics.median(part) for part in zip(*parts, strict=True))

    def keep(self, block: Block) -> bool:
        """Take a block as a sample, unless a compilation fell into it: then it is void and False is returned.

        Three void blocks in a row say that this program goes on compiling: from then on that is its time.
        """
        if block.compiled and not self.every_call:
            self.voided += 1
            self._voided_in_a_row += 1
            self.every_call = self._voided_in_a_row > 2
            return False
        self._voided_in_a_row = 0
        self.kept.append(block)
        return True

    def fill(self, each: float) -> None:
        """Choose how many calls of `each` seconds make a block."""
        most = self._program.most_calls or _MOST_CALLS
        self.calls = max(1, min(most, round(FILL / each))) if each > 0 else most

    def _try(self, work: Callable[[], _T]) -> _T | None:
        start = self._clock()
        try:
            return work()
        except Exception as error:  # whatever the user's program raises ends this variant, and no other one
            self.failure = error
            return None
        finally:
            self.cost = self._clock() - start

    def _leads_in(self) -> bool:
        return (self._alternate or self._program.lead_in) and self.each is not None and self.each < LEAD_IN
