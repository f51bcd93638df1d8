"""What a framework tells of the memory of its devices: counters, events, and what its compiler worked out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from fwmagic.report import Moment


@dataclass(frozen=True)
class Counters:
    """What an allocator says of one device, in bytes; None: it does not say, and `source` tells why.

    `in_use` is what arrays have, `held` what the allocator has from the driver, in use or not; the peaks are those
    since the process began, or since they were reset.
    """

    in_use: int | None = None
    held: int | None = None
    peak_in_use: int | None = None
    peak_held: int | None = None
    source: str = ""


@dataclass(eq=False)
class Events:
    """What was recorded of an allocator: moments in their order, and where they are from; or why there are none."""

    moments: list[Moment] = field(default_factory=list)
    source: str = ""


@dataclass(frozen=True)
class Static:
    """The bytes that a compiler worked out for one program, before any run of it."""

    argument: int
    output: int
    temp: int
    alias: int

    @property
    def total(self) -> int:
        """Arguments, outputs and temporaries together; what an output shares with an argument counts once."""
        return self.argument + self.output + self.temp - self.alias


@dataclass(frozen=True)
class Device:
    """A device as the framework counts them; `uuid` is what it reports of it itself, if it does."""

    name: str
    ordinal: int
    uuid: str | None = None


class Memory(Protocol):
    """The memory of one framework's devices."""

    @property
    def inside(self) -> str:
        """What owns the threads in which no Python runs, such as `XLA`."""

    @property
    def in_threads(self) -> bool:
        """Whether threads of the framework allocate what its arrays need on the host."""

    def started(self) -> bool:
        """Say whether the framework uses a device in this process already; asking for more would make it start."""

    def device(self, wanted: str | None) -> Device | None:
        """Return the device that a cell runs on; None if it has no memory of its own, as a CPU."""

    def counters(self, device: Device) -> Counters:
        """Return the allocator's counters, with all work on the device done."""

    def reset_peak(self, device: Device) -> bool:
        """Make the peaks begin anew; False if they cannot."""

    def record(self, device: Device) -> AbstractContextManager[Events]:
        """Record what the allocator does in the block; the events are there when the block is left."""

    def empty_cache(self, device: Device) -> str:
        """Give back what is held and not in use; return how that is called, or an empty string if there is no way."""

    def in_force(self) -> dict[str, str]:
        """Return how memory is allocated in this process, as it is read back, by name."""


class HostMemory:
    """The memory of a framework that computes on the CPU only: there is no device and no allocator to ask."""

    inside = ""
    in_threads = False

    def started(self) -> bool:
        """Return False."""
        return False

    def device(self, wanted: str | None) -> Device | None:
        """Return None."""
        return None

    def counters(self, device: Device) -> Counters:
        """Return nothing."""
        return Counters(source="it has no device")

    def reset_peak(self, device: Device) -> bool:
        """Return False."""
        return False

    def record(self, device: Device) -> AbstractContextManager[Events]:
        """Record nothing."""
        return nullcontext(Events())

    def empty_cache(self, device: Device) -> str:
        """Return that there is no way."""
        return ""

    def in_force(self) -> dict[str, str]:
        """Return nothing."""
        return {}
