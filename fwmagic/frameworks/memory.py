"""What is asked of a framework's memory: devices, their allocator with its counters and policies, live arrays."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fwmagic.report import Moment


@dataclass(frozen=True)
class Device:
    """A device as the framework counts them; `uuid` is what it reports of it itself, if it does."""

    name: str
    ordinal: int
    uuid: str | None = None


@dataclass(frozen=True)
class Counters:
    """What an allocator says of one device, in bytes; None: it does not say, and `why` tells the reason if it has one.

    `in_use` is what arrays have, `held` what the allocator has from the driver, in use or not; the peaks are those
    since the process began, or since they were reset.
    """

    in_use: int | None = None
    held: int | None = None
    peak_in_use: int | None = None
    peak_held: int | None = None
    source: str = ""
    why: str = ""


@dataclass(eq=False)
class Events:
    """What was recorded of an allocator: moments in their order, and where they are from; or why there are none."""

    moments: list[Moment] = field(default_factory=list)
    source: str = ""


@dataclass(frozen=True)
class Policy:
    """One way in which a framework's allocator can take memory from the driver, and what that does, in words.

    `variables` are those of a fresh process that choose it.
    """

    framework: str
    name: str
    variables: Mapping[str, str]
    what: str

    def __str__(self) -> str:
        return f"{self.framework}:{self.name}"


class Memory:
    """The memory of one framework: its devices and their allocator, and its arrays that are alive.

    Each default is that of a framework that computes on the CPU, where there is no device and no allocator to ask,
    and whose arrays have attributes by the usual names. Nothing that is asked changes arrays or what they hold.

    Attributes
    ----------
    policies
        The ways in which the allocator can take memory.
    outranking
        Names of settings, as in `Framework.flags`, that outrank the variables of a policy.
    """

    policies: ClassVar[tuple[Policy, ...]] = ()
    outranking: ClassVar[tuple[str, ...]] = ()

    def started(self) -> bool:
        """Say whether the framework uses a device in this process already; asking for more would make it start."""
        return False

    def device(self, wanted: str | None) -> Device | None:
        """Return the device that a cell runs on; None if it has no memory of its own, as a CPU."""
        return None

    def counters(self, device: Device) -> Counters:
        """Return the allocator's counters, with all work on the device done."""
        return Counters(source="it has no device")

    def reset_peak(self, device: Device) -> bool:
        """Make the peaks begin anew; False if they cannot."""
        return False

    def record(self, device: Device) -> AbstractContextManager[Events]:
        """Record what the allocator does in the block; the events are there when the block is left."""
        return nullcontext(Events())

    def empty_cache(self, device: Device) -> str:
        """Give back what is held and not in use; return how that is called, or an empty string if there is no way."""
        return ""

    def in_force(self) -> dict[str, str]:
        """Return how memory is allocated in this process, as it is read back, by name."""
        return {}

    def environment(self, given: Mapping[str, str], policy: Policy | None = None) -> dict[str, str]:
        """Return `given` as the environment of a process that shares its device with others.

        The policy takes the place of whatever chose one there; what chooses none stays. With None, what was chosen
        stays, or else the allocator is to leave room for the others.
        """
        return dict(given)

    def live(self) -> list[Any]:
        """Return all arrays that are alive, as far as the framework or Python can list them.

        Those that the notebook's names lead to are found without it.
        """
        return []

    def memory_of(self, array: Any) -> tuple[Hashable, int]:
        """Return an identity of the memory that an array keeps alive, its address if it has one, and its bytes."""
        return ("object", id(array)), int(getattr(array, "nbytes", sys.getsizeof(array)))

    def size_of(self, array: Any) -> int:
        """Return the bytes that the array itself shows of its memory."""
        return self.memory_of(array)[1]

    def label(self, array: Any) -> tuple[str, str]:
        """Return dtype and shape, `float32 (3, 4)`, and the device."""
        kind = getattr(array, "dtype", type(array).__qualname__)
        return f"{kind} {tuple(getattr(array, 'shape', ()))}", str(getattr(array, "device", "cpu"))

    def inside(self, array: Any) -> Iterable[tuple[str, Any]]:
        """Return what an array holds, each with how a reader would write it behind the array: `.grad`."""
        return ()

    def graphs(self, arrays: Sequence[Any]) -> Iterable[tuple[int, Any]]:
        """Return what the gradient graphs of arrays hold, each with the place of the array in `arrays`."""
        return ()


def one_spelling(environment: Mapping[str, str], spellings: Sequence[str]) -> dict[str, str]:
    """Return an environment in which a variable has one spelling: the first of those that are there."""
    given = [name for name in spellings if name in environment]
    return {name: value for name, value in environment.items() if name not in given[1:]}
