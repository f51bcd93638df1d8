"""The memory of a variant on one device: what it is made of at the peak, its course, and which lines allocated it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from fwmagic.report.wire import Count, LineNumber, NotNegative

#: A report stored in a notebook carries at most this many moments of a timeline: there may be one for each variant and
#: device.
MOST_MOMENTS = 10

#: What memory is to a variant; the last two stay with its allocator when the run is over.
Kind = Literal[
    "other processes",
    "reserved by the driver",
    "context",
    "in use",
    "free in pool",
    "held by others here",
    "unexplained",
    "free",
    "after del",
    "after empty_cache()",
]
#: How memory in use was found: read off a counter, by samples, worked out by a compiler, or when its process was last
#: looked at.
How = Literal["measured", "sampled", "static", "last seen"]


@dataclass(frozen=True)
class Amount:
    """One segment of a ledger.

    Attributes
    ----------
    kind
        What the memory is to the variant: its own, in use or not, or of others; or what a policy left held, and when.
    bytes
        Its bytes; null: not available.
    source
        How the bytes were obtained; empty where they are not available.
    why
        Why they are not available; empty where they are.
    most
        What the bytes may be at most, where they are a lower bound; null: they are what was counted.
    """

    kind: Kind
    bytes: Count | None
    source: str = ""
    why: str = ""
    most: Count | None = None


@dataclass(frozen=True)
class Moment:
    """One point of a timeline: seconds from its start, and the bytes in use and held then (None: not known)."""

    seconds: float
    in_use: int | None
    held: int | None


@dataclass(frozen=True)
class Timeline:
    """Memory over time, a column for each part of its moments; an empty one is not known.

    Attributes
    ----------
    seconds
        Seconds from the start of the timeline. A stored report holds at most 10 moments.
    in_use
        Bytes in use then; null: not known.
    held
        Bytes held then, in use or not; null: not known.
    """

    seconds: tuple[NotNegative, ...] = ()
    in_use: tuple[Count | None, ...] = ()
    held: tuple[Count | None, ...] = ()

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
    """What one line of the user's cell had allocated at the peak.

    Attributes
    ----------
    line
        The line of the cell, 1-based; null: `what` says what allocated.
    bytes
        Bytes.
    what
        What allocated, where it is not only the line.
    """

    line: LineNumber | None
    bytes: Count
    what: str = ""


@dataclass(frozen=True)
class Ledger:
    """The memory of one device, or of the host, when a variant used the most of it.

    Attributes
    ----------
    device
        The device, such as cuda:0, or host.
    total
        Bytes that it has; null: not known.
    peak
        The segments at the peak, in their order; they add up to the total.
    timeline
        Memory over time.
    source
        Where the timeline is from; empty if there is none.
    note
        What does not add up; empty if everything does.
    start
        Bytes that were there before the run: on a device in use, on the host what `in use` is on top of; null: not
        known.
    released
        What the allocator still held after the run: after del, after empty_cache().
    lines
        What allocated what was in use at the peak, the most first.
    how
        How the bytes in use were found; static: worked out by the compiler, for no run at all.
    """

    device: str
    total: Count | None
    peak: tuple[Amount, ...]
    timeline: Timeline = field(default=Timeline(), metadata={"most_points": MOST_MOMENTS, "thinned": Timeline.thinned})
    source: str = ""
    note: str = ""
    start: Count | None = None
    released: tuple[Amount, ...] = ()
    lines: tuple[Allocation, ...] = ()
    how: How = "measured"

    @property
    def in_use(self) -> int | None:
        """The bytes in use at the peak; None: not known."""
        return next((amount.bytes for amount in self.peak if amount.kind == "in use"), None)

    @property
    def on_top(self) -> bool:
        """Whether what is in use came on top of the memory before the run."""
        return self.device in ("host", "heap")
