"""One variant while it is timed: its blocks, what it costs to warm it up, and when it is warm."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import TypeVar

from fwmagic.measure.calls import LEAST_SECONDS, Block, Calls

#: Calls that are shorter than this many seconds get an untimed lead-in call, where one is needed.
LEAD_IN = 0.25
#: A call that is longer than this many seconds is not made a third time only to see whether it still compiles.
LONG = 0.5
MOST_CALLS = 100_000
# A block of the warm-up takes so many seconds: a tight loop, unlike the blocks that count.
_LOOP = 1e-3
_WINDOW = 5
_AGREE = 0.05

_T = TypeVar("_T")


class Bench:
    """One variant while it is timed.

    `each` is the latest known seconds per call, `most_calls` how many may follow each other, and `failure` what the
    program raised: then it is dropped. A block is `per_block` calls, and begins with one that is not timed if `lead_in`
    and if that is short. `calls`, `seconds`, `cpu` and `page_faults` are sums over the blocks that count. `alone` is
    the seconds per call in a tight loop, once the variant is warm.
    """

    def __init__(self, program: Calls) -> None:
        self.name = program.name
        self.pool = program.pool
        self.most_calls = program.most_calls or MOST_CALLS
        self.per_block = 1
        self.lead_in = program.lead_in
        self.each = 0.0
        self.warm = False
        self.every_call = False
        self.failure: Exception | None = None
        self.voided = 0
        self.calls = 0
        self.seconds = 0.0
        self.cpu = 0.0
        self.page_faults = 0.0
        self.alone: float | None = None
        self.dispatch: float | None = None
        self.wait: float | None = None
        self.only: Block | None = None
        self._program = program
        self._voided_in_a_row = 0

    def block(self, calls: int) -> Block | None:
        """Run one block and return it; None if the program raised an exception."""
        return self._try(lambda: self._program.block(calls, self.lead_in and 0 < self.each < LEAD_IN))

    def rest(self) -> None:
        """Wait until what the calls left running is at rest."""
        if self.failure is None:
            self._try(self._program.rest)

    def split(self, count: int) -> None:
        """Find out how much of a call is dispatch and how much waiting: medians of `count` single calls."""
        if count > 0:
            parts = self._try(lambda: self._program.split(count, self.lead_in and self.each < LEAD_IN))
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
        self.calls += block.calls
        self.seconds += block.seconds
        self.cpu += block.cpu
        self.page_faults += block.page_faults
        return True

    def settle(self) -> Block | None:
        """Make single calls until one does not compile, and return that one; None if the program raised.

        A program that still compiles on its third call (a long one, which was called before: on its second one
        here) compiles on every call: `every_call` is set, and the compilation is part of its time.
        """
        block = None
        for turn in range(3):
            block = self.block(1)
            if block is None:
                return None
            self.each = block.each
            if not block.compiled:
                return block
            if turn and block.seconds > LONG:
                break
        self.every_call = True
        return block

    def warm_up(self, deadline: float, clock: Callable[[], float]) -> None:
        """Run blocks until two windows of them agree, or the next block would pass the deadline.

        Where there is no time for any, `only` is the one call that was made, which may then be a sample.
        """
        self.only = self.settle()
        earlier: list[float] = []
        later: list[float] = []
        while self.failure is None:
            calls = self.fill(_LOOP)
            if clock() + calls * self.each > deadline:
                return
            block, self.only = self.block(calls), None
            if block is None:
                return
            if block.compiled and not self.every_call:
                earlier, later = [], []
                continue
            later.append(block.each)
            if len(later) < _WINDOW:
                continue
            self.each = statistics.median(later)
            if earlier and steady(earlier, later):
                self.warm = True
                self.alone = statistics.median(earlier + later) if calls > 1 else None
                return
            earlier, later = later, []

    def fill(self, seconds: float) -> int:
        """Return how many calls take about so many seconds; one, where no clock has told what a call takes."""
        return max(1, min(self.most_calls, round(seconds / self.each))) if self.each > LEAST_SECONDS else 1

    def _try(self, work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except Exception as error:  # whatever the user's program raises ends this variant, and no other one
            self.failure = error
            return None


def steady(earlier: Sequence[float], later: Sequence[float]) -> bool:
    """Say whether two windows show the same time: medians within 5 %, or each one inside the other's range."""
    before, after = statistics.median(earlier), statistics.median(later)
    if abs(after - before) <= _AGREE * before:
        return True
    return min(earlier) < after < max(earlier) and min(later) < before < max(later)
