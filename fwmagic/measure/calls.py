"""Calls of one program in this process, timed as a block, with all else kept outside of the clock."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

if sys.platform == "win32":
    resource = None
else:
    import resource

#: A coarse clock may not move during a call, but no call takes no time: a ratio would have no logarithm.
LEAST_SECONDS = 1e-9

# The first call after a pause wakes the framework's threads, and the second one still finds some asleep: with one call
# of XLA on two cores before the clock, the next takes up to 1.8 times as long as in a loop by hand, with two 1.1. So
# much waking matters for calls that take fewer seconds than this.
_WAKING = 1e-3
# A process is at rest once its other threads use less than this share of a core during two naps of so many seconds in a
# row, and none of them is found running after these. One of many may wake for a moment now and then: two times so many
# naps tell, too, which are longer than the system takes to book CPU time. Some processes never are at rest.
_NAP = 1e-3
_IDLE = 0.2
_IN_A_ROW = 2
_BOOKED = 5
_MOST_NAPS = 150
_THREADS = Path("/proc/self/task")


class Timed(Protocol):
    """A program that the engine times; one call is `call(*args)`, and `wait` with its outputs if there is one."""

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

    def again(self) -> None:
        """Put the state of the start back between two calls; outside of the clock, and as little work as can be."""

    def finds(self) -> Sequence[Any] | None:
        """Return what its calls find by name where it is entered now; None if a block has anything to put back."""


@dataclass(frozen=True)
class Harness:
    """What surrounds the calls of every program of this process.

    `events` counts the compilations so far and is read between blocks; `drain` waits until no framework has work
    under way; `window` wraps every stretch that calls a program, so that an interrupt may stop there.
    """

    events: Callable[[], int]
    drain: Callable[[], None]
    window: Callable[[], AbstractContextManager[Any]]
    clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Block:
    """Wall and CPU seconds of `calls` calls together; `compiled`: something was compiled meanwhile.

    `page_faults` counts the pages that the process got anew from the system meanwhile; 0 where that is not told. `cpu`
    is None where nobody has looked.
    """

    seconds: float
    cpu: float | None
    calls: int
    compiled: bool
    page_faults: float = 0.0

    @property
    def each(self) -> float:
        """Seconds per call."""
        return self.seconds / self.calls


class Calls(Protocol):
    """What makes the calls of one variant, in this process or in another one."""

    @property
    def name(self) -> str:
        """What the variant is called."""

    @property
    def pool(self) -> str:
        """Whose threads the calls run on: those of one pool keep the cores busy for a while after a call."""

    @property
    def most_calls(self) -> int | None:
        """How many calls may follow each other before the state is put back; None: any number."""

    @property
    def lead_in(self) -> bool:
        """Whether the first call from the start state does something that later ones do not."""

    def block(self, calls: int, lead_in: bool) -> Block:
        """Time so many calls as one, after an untimed call if `lead_in`; raises what the program raises."""

    def split(self, calls: int, lead_in: bool) -> list[tuple[float, float]]:
        """Return the seconds of dispatch and of waiting of single calls; none if the program waits for nothing."""

    def rest(self) -> None:
        """Wait until the threads that the calls left waiting for more work no longer keep the cores busy."""

    def held(self) -> AbstractContextManager[None]:
        """Be ready for a row of blocks, with nothing prepared or put back between them."""

    def row(self) -> AbstractContextManager[Callable[[], bool]]:
        """Let an interrupt stop a row of blocks; gives what tells whether something was compiled since its begin."""

    def next_block(self, calls: int) -> float:
        """Return the seconds of so many calls in a row: held, and with nothing done but to call."""

    def finds(self) -> Sequence[Any] | None:
        """Return what the calls find by name now; None if a block of theirs has anything to put back."""


class Local:
    """The calls of a program in this process, as the variant `name`, on the threads of `pool`."""

    def __init__(self, name: str, timed: Timed, harness: Harness, pool: str = "") -> None:
        self.name = name
        self.pool = pool
        self._timed = timed
        self._harness = harness
        self._is_held = False

    @property
    def most_calls(self) -> int | None:
        """How many calls may follow each other before the state is put back."""
        return self._timed.most_calls

    @property
    def lead_in(self) -> bool:
        """Whether the first call from the start state does something that later ones do not."""
        return self._timed.lead_in

    def block(self, calls: int, lead_in: bool) -> Block:
        """Time so many calls as one."""
        if self._is_held:  # even to look at what was used would take time
            with self.row() as compiled:
                return Block(self.next_block(calls), None, calls, compiled())
        with self.held():
            return self._block(calls, lead_in)

    def split(self, calls: int, lead_in: bool) -> list[tuple[float, float]]:
        """Return the seconds of dispatch and of waiting of single calls."""
        wait = self._timed.wait
        if wait is None:
            return []
        with self.held():
            return self._split(wait, calls, lead_in)

    def rest(self) -> None:
        """Wait until no thread of this process spins: OpenMP's do so for a few milliseconds, OpenBLAS's for 100."""
        with self._harness.window():
            idle, calm, used = 0, 0, [_used_by_others()]
            while max(idle, calm) < _IN_A_ROW and len(used) <= _MOST_NAPS:
                time.sleep(_NAP)
                used.append(_used_by_others())
                idle = idle + 1 if used[-1] - used[-2] < _IDLE * _NAP and not _others_run() else 0
                if len(used) % _BOOKED == 1:
                    calm = calm + 1 if used[-1] - used[-1 - _BOOKED] < _IDLE * _BOOKED * _NAP else 0

    def finds(self) -> Sequence[Any] | None:
        """Return what the calls find by name now."""
        if self._is_held:
            return self._timed.finds()
        with self.held():
            return self._timed.finds()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be on the program's state, with no work of a framework under way and without garbage collection."""
        self._harness.drain()
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._timed.enter()
            try:
                self._is_held = True
                yield
            finally:
                self._is_held = False
                self._timed.exit()
        finally:
            if collecting:
                gc.enable()

    @contextmanager
    def row(self) -> Iterator[Callable[[], bool]]:
        """Let an interrupt stop a row of blocks."""
        events = self._harness.events()
        with self._harness.window():
            yield lambda: self._harness.events() != events

    def next_block(self, calls: int) -> float:
        """Return the seconds of so many calls in a row."""
        timed = self._timed
        return max(_loop(timed.call, timed.args, timed.wait, calls, self._harness.clock), LEAST_SECONDS)

    def _block(self, calls: int, lead_in: bool) -> Block:
        harness, timed = self._harness, self._timed
        events, before = harness.events(), _usage()
        begun = harness.clock()
        if lead_in:
            self._lead_in()
        with harness.window():
            seconds = _loop(timed.call, timed.args, timed.wait, calls, harness.clock)
        # What the process used, the lead-in call included: the share of the timed calls is that of their time.
        whole = harness.clock() - begun
        share = seconds / whole if whole > 0 else 1.0
        cpu, faults = (share * (after - earlier) for after, earlier in zip(_usage(), before, strict=True))
        return Block(max(seconds, LEAST_SECONDS), cpu, calls, harness.events() != events, faults)

    def _split(self, wait: Callable[[Any], Any], calls: int, lead_in: bool) -> list[tuple[float, float]]:
        clock, call, args = self._harness.clock, self._timed.call, self._timed.args
        if lead_in:
            self._lead_in()
        parts = []
        with self._harness.window():
            for _ in range(calls):
                start = clock()
                outputs = call(*args)
                returned = clock()
                wait(outputs)
                parts.append((returned - start, clock() - returned))
        return parts

    def _lead_in(self) -> None:
        """Call right before the clock: after a pause, threads would have to be woken again, and caches filled."""
        begun = self._harness.clock()
        with self._harness.window():
            self._call()
            if self._timed.most_calls != 1 and self._harness.clock() - begun < _WAKING:
                self._call()
        if self._timed.most_calls == 1:
            self._timed.again()

    def _call(self) -> None:
        outputs = self._timed.call(*self._timed.args)
        if self._timed.wait is not None:
            self._timed.wait(outputs)


def _usage() -> tuple[float, float]:
    """Return the CPU seconds of this process so far, and its page faults that needed no disk."""
    if resource is None:
        return time.process_time(), 0
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.process_time(), used.ru_minflt


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


def _used_by_others() -> float:
    """Return the CPU seconds of the other threads of this process so far; a system may book them only every 4 ms."""
    return time.process_time() - time.thread_time()


def _others_run() -> bool:
    """Say whether another thread of this process runs, where the system tells (proc(5))."""
    this = str(threading.get_native_id())
    return any(_runs(thread) for thread in _THREADS.iterdir() if thread.name != this) if _THREADS.is_dir() else False


def _runs(thread: Path) -> bool:
    try:
        status = (thread / "stat").read_bytes()
    except OSError:  # it has ended in this moment
        return False
    return status.rpartition(b")")[2].split()[0] == b"R"
