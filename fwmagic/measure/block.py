"""A block: consecutive calls of one variant that are timed as one, with all else kept outside of the clock."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Protocol, TypeVar

#: Seconds that a block should take: short, so that a disturbed block is one of many; long against the clock.
FILL = 1e-3
#: Calls that are shorter than this many seconds get an untimed lead-in call where frameworks alternate.
LEAD_IN = 0.25
_MOST_CALLS = 100_000
# A coarse clock may not move during a call, but no call takes no time: a ratio would have no logarithm.
_LEAST_SECONDS = 1e-9

_T = TypeVar("_T")


class Timed(Protocol):
    """A program that the engine times; one call is `call(*args)`, and `wait` with its outputs if there is one."""

    @property
    def name(self) -> str:
        """What the variant is called."""

    @property
    def call(self) -> Callable[..., Any]:
        """The program: takes `args`, returns its outputs."""

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments of every call."""

    @property
    def wait(self) -> Callable[[Any], Any] | None:
        """What waits for the outputs of one call, if anything needs to."""

    @property
    def most_calls(self) -> int | None:
        """How many calls may follow each other before the state is put back; None: any number."""

    @property
    def lead_in(self) -> bool:
        """Whether the first call from the start state does something that later ones do not."""

    def enter(self) -> None:
        """Put the state that a block starts from in place; outside of the clock."""

    def exit(self) -> None:
        """Take away what `enter` put in place; outside of the clock, also after an exception."""


@dataclass(frozen=True)
class Harness:
    """What surrounds the calls: see `fwmagic.measure.timing.measure`."""

    events: Callable[[], int]
    drain: Callable[[], None]
    window: Callable[[], AbstractContextManager[Any]]
    clock: Callable[[], float]
    alternate: bool


@dataclass(frozen=True)
class Block:
    """Wall and CPU seconds of `calls` calls together; `compiled`: something was compiled meanwhile."""

    seconds: float
    cpu: float
    calls: int
    compiled: bool

    @property
    def each(self) -> float:
        """Seconds per call."""
        return self.seconds / self.calls


class Bench:
    """One variant while it is timed: it runs blocks, and keeps what was found out on the way.

    `calls` is how many calls make a block, `each` the latest seconds per call, `cost` the wall seconds that
    the latest block took with everything around it, and `failure` what the program raised: then it is dropped.
    """

    def __init__(self, timed: Timed, harness: Harness) -> None:
        self.timed = timed
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
        self._harness = harness
        self._voided_in_a_row = 0

    def block(self, calls: int) -> Block | None:
        """Run one block and return it; None if the program raised an exception."""
        block = self._stretch(lambda: self._timed_calls(calls))
        if block is not None:
            self.each = block.each
        return block

    def split(self, count: int) -> None:
        """Find out how much of a call is dispatch and how much waiting: medians of `count` single calls."""
        wait = self.timed.wait
        if wait is not None and count > 0:
            waiter = wait
            parts = self._stretch(lambda: self._split_calls(waiter, count))
            if parts is not None:
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
        most = self.timed.most_calls or _MOST_CALLS
        self.calls = max(1, min(most, round(FILL / each))) if each > 0 else most

    def _stretch(self, work: Callable[[], _T]) -> _T | None:
        """Run `work`, which calls the program, on its state and inside of the window where Ctrl-C may stop it."""
        harness = self._harness
        harness.drain()
        start = harness.clock()
        collecting = gc.isenabled()
        gc.disable()
        try:
            self.timed.enter()
            try:
                with harness.window():
                    return work()
            except Exception as error:  # whatever the user's program raises ends this variant, and no other one
                self.failure = error
                return None
            finally:
                self.timed.exit()
        finally:
            if collecting:
                gc.enable()
            self.cost = harness.clock() - start

    def _timed_calls(self, calls: int) -> Block:
        harness, timed = self._harness, self.timed
        self._lead_in()
        events = harness.events()
        cpu = time.process_time()
        seconds = _loop(timed.call, timed.args, timed.wait, calls, harness.clock)
        cpu = time.process_time() - cpu
        return Block(max(seconds, _LEAST_SECONDS), cpu, calls, harness.events() != events)

    def _split_calls(self, wait: Callable[[Any], Any], count: int) -> list[tuple[float, float]]:
        clock, call, args = self._harness.clock, self.timed.call, self.timed.args
        self._lead_in()
        parts = []
        for _ in range(count):
            start = clock()
            outputs = call(*args)
            returned = clock()
            wait(outputs)
            parts.append((returned - start, clock() - returned))
        return parts

    def _lead_in(self) -> None:
        """Make one untimed call: after a call of another framework, thread pools take one call to settle."""
        if (self._harness.alternate or self.timed.lead_in) and self.each is not None and self.each < LEAD_IN:
            outputs = self.timed.call(*self.timed.args)
            if self.timed.wait is not None:
                self.timed.wait(outputs)


def _loop(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    wait: Callable[[Any], Any] | None,
    calls: int,
    clock: Callable[[], float],
) -> float:
    """Return the seconds of `calls` calls. Two loops, because a branch would be timed with every call."""
    turns = repeat(None, calls)
    if wait is None:
        start = clock()
        for _ in turns:
            call(*args)
        return clock() - start
    start = clock()
    for _ in turns:
        wait(call(*args))
    return clock() - start
