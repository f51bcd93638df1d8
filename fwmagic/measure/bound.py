"""The least that some work can take, so that a call that did not do it is not taken for a quick one."""

from __future__ import annotations

from fwmagic.format import seconds as in_seconds
from fwmagic.frameworks.least import Least
from fwmagic.measure.load import usable_cores

# Operations on numbers of 32 bits that one core does in a second at most: two units, 16 numbers, two operations, 5 GHz,
# and half as much again; and what any other device does.
_CORE, _DEVICE = 5e11, 5e15
# Bytes that a core reads and writes in a second at most, when they are not in a cache of its own, which has so many at
# most; and what any other device does.
_MOVED, _CACHED = 2.5e11, 2**22
_MOVED_THERE, _CACHED_THERE = 1e13, 2**28


def least_seconds(least: Least, on_cpu: bool = True) -> float:
    """Return the seconds that a call takes at least which has to do so much."""
    if not on_cpu:
        return max(least.operations / _DEVICE, (least.bytes - _CACHED_THERE) / _MOVED_THERE, 0.0)
    cores = usable_cores()
    return max(least.operations / (_CORE * cores), (least.bytes - _CACHED * cores) / (_MOVED * cores), 0.0)


def why_invalid(median: float, least: float) -> str:
    """Return why a time is none of the work that was counted, or an empty string."""
    if median >= least:
        return ""
    return (
        f"invalid: a call took {in_seconds(median)}, and the work of its section takes {in_seconds(least)} at least, "
        "by its arithmetic and by its inputs and results, so that it was not done in it"
    )
