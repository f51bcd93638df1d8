"""Warm-up: calls that are not samples, until a variant's time has settled."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
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


#: A call that is longer than this many seconds is not made a third time only to see whether it still compiles.
LONG = 0.5
_WINDOW = 5
_AGREE = 0.05


def settle(bench: Bench) -> Block | None:
    """Make single calls until one does not compile, and return that one; None if the program raised.

    A program that still compiles on its third call (a long one, which was called before: on its second one
    here) compiles on every call: `bench.every_call` is set, and the compilation is part of its time.
    """
    block = None
    for turn in range(3):
        block = bench.block(1)
        if block is None or not block.compiled:
            return block
        if turn and block.seconds > LONG:
            break
    bench.every_call = True
    return block


def warm_up(bench: Bench, deadline: float, clock: Callable[[], float]) -> Block | None:
    """Run blocks until two windows of them agree or the deadline would be passed; set `bench.calls` on the way.

    Returns the only call that was made where there was no time for windows at all, which may then be a
    sample, and None otherwise.
    """
    first = settle(bench)
    if first is None:
        return None
    bench.fill(first.each)
    earlier: list[float] = []
    tried = False
    while blocks := _blocks_that_fit(bench, deadline - clock(), 1 if earlier else 2):
        tried = True
        later = _window(bench, blocks)
        if bench.failure is not None:
            return None
        if not later:
            earlier = []
            continue
        if earlier and steady(earlier, later):
            bench.warm = True
            break
        was = bench.calls
        bench.fill(statistics.median(later))
        # Blocks that were far too short, after a slow first call, say nothing about the time in long ones.
        earlier = later if bench.calls < 2 * was else []
    return None if tried else first


def steady(earlier: Sequence[float], later: Sequence[float]) -> bool:
    """Say whether two windows show the same time: medians within 5 %, or each one inside the other's range."""
    before, after = statistics.median(earlier), statistics.median(later)
    if abs(after - before) <= _AGREE * before:
        return True
    return min(earlier) < after < max(earlier) and min(later) < before < max(later)


def _blocks_that_fit(bench: Bench, seconds: float, windows: int) -> int:
    """Return how many blocks each of so many windows can have in the time that is left."""
    cost = max(bench.cost, bench.calls * (bench.each or 0.0))
    return max(0, min(_WINDOW, int(seconds / (windows * cost)))) if cost > 0 else _WINDOW


def _window(bench: Bench, blocks: int) -> list[float]:
    """Return the seconds per call of so many blocks; nothing if the program raised or compiled meanwhile."""
    window = []
    for _ in range(blocks):
        block = bench.block(bench.calls)
        if block is None or (block.compiled and not bench.every_call):
            return []
        window.append(block.each)
    return window
