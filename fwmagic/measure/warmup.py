"""Warm-up: calls that are not samples, until a variant's time has settled."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from fwmagic.measure.block import Bench
from fwmagic.measure.calls import Block

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
        if earlier and agree(earlier, later):
            bench.warm = True
            break
        was = bench.calls
        bench.fill(statistics.median(later))
        # Blocks that were far too short, after a slow first call, say nothing about the time in long ones.
        earlier = later if bench.calls < 2 * was else []
    return None if tried else first


def agree(earlier: Sequence[float], later: Sequence[float]) -> bool:
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
