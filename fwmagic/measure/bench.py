"""One variant while it is timed: its blocks, what it costs to warm it up, and when it is warm."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

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
    and if that is short. `calls` is how many there are in the blocks that count; `seconds`, `cpu` and `page_faults` are
    sums over `looked_at` calls. `alone` is the seconds per call in a tight loop, once the variant is warm.
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
        self.failure: BaseException | None = None
        self.voided = 0
        self.calls = self.looked_at = 0
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
        """Run one block and return it; None if the program raises an exception, or did so before."""
        if self.failure is not None:
            return None
        return self._try(lambda: self._program.block(calls, self.lead_in and 0 < self.each < LEAD_IN))

    def next_block(self) -> float | None:
        """Return the seconds of a block in a row of them, as `row` is entered; None if the program raises or did so.

        What is done here is done between two blocks, and takes caches from the next one: no more than this.
        """
        if self.failure is not None:
            return None
        return self._try(self._next_block)

    def row(self) -> AbstractContextManager[Callable[[], bool]]:
        """Return a context for a row of blocks; it gives what tells whether something was compiled meanwhile."""
        return self._program.row()

    def rest(self) -> None:
        """Wait until what the calls left running is at rest."""
        if self.failure is None:
            self._try(self._program.rest)

    def split(self, count: int) -> None:
        """Find out how much of a call is dispatch and how much waiting: medians of `count` single calls."""
        if count > 0:
            parts = self._try(lambda: self._split(count, self.lead_in and self.each < LEAD_IN))
            if parts:
                self.dispatch, self.wait = (statistics.median(part) for part in zip(*parts, strict=True))

    def sample(self, block: Block | None) -> float | None:
        """Return the seconds per call of a block that counts; None if there is none, or a compilation fell into it.

        Three void blocks in a row say that this program goes on compiling: from then on that is its time.
        """
        if block is None:
            return None
        if block.compiled and not self.every_call:
            self.voided += 1
            self._voided_in_a_row += 1
            self.every_call = self._voided_in_a_row > 2
            return None
        self._voided_in_a_row = 0
        self.calls += block.calls
        self._note_use(block)
        self.each = block.each
        return block.each

    def look(self, seconds: float) -> None:
        """Run a block of about so many seconds that is no sample, to see how much of the machine the program uses."""
        block = self.block(self.fill(seconds))
        if block is not None:
            self._note_use(block)

    def held(self) -> AbstractContextManager[None]:
        """Return a context in which blocks follow each other with nothing in between, not even a lead-in call."""
        return self._program.held()

    def finds(self) -> Sequence[Any] | None:
        """Return what its calls find by name now; None if a block of theirs has anything to put back."""
        return self._try(self._program.finds)

    def _note_use(self, block: Block) -> None:
        if block.cpu is not None:
            self.looked_at += block.calls
            self.seconds += block.seconds
            self.cpu += block.cpu
            self.page_faults += block.page_faults

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

    def _split(self, count: int, lead_in: bool) -> list[tuple[float, float]]:
        """Split so many calls, no more of them in a row than may follow each other."""
        stretches = [min(self.most_calls, count - done) for done in range(0, count, self.most_calls)]
        return [part for stretch in stretches for part in self._program.split(stretch, lead_in)]

    def _next_block(self) -> float:
        return self._program.next_block(self.per_block)

    def _try(self, work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the user's program raises ends this variant, and no other one
            self.failure = error
            return None


def steady(earlier: Sequence[float], later: Sequence[float]) -> bool:
    """Say whether two windows show the same time: medians within 5 %, or each one inside the other's range."""
    before, after = statistics.median(earlier), statistics.median(later)
    if abs(after - before) <= _AGREE * before:
        return True
    return min(earlier) < after < max(earlier) and min(later) < before < max(later)
