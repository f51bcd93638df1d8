"""The parts of a variant in a report: its time, compilation, agreement and memory, what was found, what failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

#: A stored report carries at most this many moments of a timeline: there may be one for each variant and device.
MOST_MOMENTS = 12


@dataclass(frozen=True)
class Time:
    """The time of one call of a variant, in seconds.

    `samples` holds one value a block: its seconds divided by its `calls_per_block`. `low` and `high` bound
    the median (None: too few samples for an interval). `dispatch` is the part until the call returned,
    `wait` the part until its outputs were ready; `cores` is CPU time over wall time of this process.
    """

    samples: tuple[float, ...]
    median: float
    low: float | None
    high: float | None
    calls_per_block: int
    calls: int
    dispatch: float | None = None
    wait: float | None = None
    cores: float | None = None
    warm: bool = True
    voided: int = 0
    items_per_second: float | None = None
    source: str = "time.perf_counter around blocks of calls whose outputs were waited for"


@dataclass(frozen=True)
class Stage:
    """One stage of making a program ready: prime, trace, lower, backend or first run; seconds or why not."""

    name: str
    seconds: float | None
    source: str


@dataclass(frozen=True)
class Place:
    """Something that happened at a line of the user's cell (1-based; None: no line is known)."""

    line: int | None
    reason: str


@dataclass(frozen=True)
class Compilation:
    """How a variant's body was compiled: `way` is yours, cell, modules, functions or eager; `reason` says why."""

    way: str
    reason: str
    line: int | None = None
    compiled: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    cache: str = "unknown"
    graphs: int | None = None
    breaks: tuple[Place, ...] = ()
    recompiles: tuple[Place, ...] = ()
    lifted: int = 0
    every_call: bool = False


@dataclass(frozen=True)
class Agreement:
    """Whether a variant's outputs equal the reference's: status is agrees, differs or not compared."""

    reference: str
    status: str
    sentence: str
    path: str | None = None


@dataclass(frozen=True)
class Finding:
    """One remark on fairness or correctness: a code such as FW203, a sentence, and what to do about it."""

    code: str
    sentence: str
    fix: str
    variant: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Failure:
    """What a variant raised: the class, its message, the line of the user's cell, and the stage it happened in."""

    error: str
    message: str
    line: int | None
    stage: str


@dataclass(frozen=True)
class Amount:
    """One segment of a ledger in bytes; None: not available, and `source` says why.

    `name` is other processes, context, in use, free in pool, unexplained or free; a name that begins with
    `in use` tells in parentheses how it was found, such as `in use (static)`. Of what is `released` by a policy,
    it says after what: after del, or after empty_cache().
    """

    name: str
    bytes: int | None
    source: str


@dataclass(frozen=True)
class Moment:
    """One point of a timeline: seconds from its start, and the bytes in use and held then (None: not known)."""

    seconds: float
    in_use: int | None
    held: int | None


@dataclass(frozen=True)
class Timeline:
    """The course of a ledger, a column for each part of its moments; a column without entries is not known."""

    seconds: tuple[float, ...] = ()
    in_use: tuple[int | None, ...] = ()
    held: tuple[int | None, ...] = ()

    @staticmethod
    def of(moments: Iterable[Moment]) -> Timeline:
        """Return the timeline of moments in their order."""
        some = list(moments)
        columns = (tuple(m.in_use for m in some), tuple(m.held for m in some))
        known = (column if any(count is not None for count in column) else () for column in columns)
        return Timeline(tuple(m.seconds for m in some), *known)

    def __len__(self) -> int:
        return len(self.seconds)

    def __iter__(self) -> Iterator[Moment]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> Moment:
        columns = (column[place] if column else None for column in (self.in_use, self.held))
        return Moment(self.seconds[place], *columns)

    def thinned(self, most: int) -> Timeline:
        """Return at most so many moments: of each stretch the one with the most memory, and the last one."""
        if len(self) <= most:
            return self
        *inner, last = self
        step = len(inner) / (most - 1)
        stretches = (inner[int(i * step) : int((i + 1) * step)] for i in range(most - 1))
        return Timeline.of([*(max(one, key=lambda m: (m.in_use or 0, m.held or 0)) for one in stretches), last])


@dataclass(frozen=True)
class Allocation:
    """Bytes that were allocated at the peak by one line of the user's cell (1-based; None: `what` says by what)."""

    line: int | None
    bytes: int
    what: str = ""


@dataclass(frozen=True)
class Ledger:
    """The memory of one device, or of the host, when a variant used the most of it, in bytes.

    The segments of `peak` add up to `total` (None: not known). `start` was there before the run (None: not known):
    on a device it is a part of what is in use, on the host `in use` is what came on top of it. `released` is what
    the allocator still held later, and `lines` what allocated. `source` says where the timeline is from; `note`
    names what does not add up, or is empty.
    """

    device: str
    total: int | None
    peak: tuple[Amount, ...]
    timeline: Timeline = field(default=Timeline(), metadata={"most_points": MOST_MOMENTS, "thinned": Timeline.thinned})
    source: str = ""
    note: str = ""
    start: int | None = None
    released: tuple[Amount, ...] = ()
    lines: tuple[Allocation, ...] = ()
