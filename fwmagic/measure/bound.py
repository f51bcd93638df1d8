"""The least that some work can take, so that a call that did not do it is not taken for a quick one."""

from __future__ import annotations

from fwmagic.format import seconds as in_seconds
from fwmagic.measure.load import usable_cores

# Operations on numbers of 32 bits that one core does in a second at most: two units, 16 numbers, two operations, 5 GHz,
# and half as much again; and what any other device does.
_CORE, _DEVICE = 5e11, 5e15


def least_seconds(operations: float, on_cpu: bool = True) -> float:
    """Return the seconds that so many operations of matrix products and convolutions take at least."""
    return operations / (_CORE * usable_cores() if on_cpu else _DEVICE)


def why_invalid(median: float, least: float) -> str:
    """Return why a time is none of the work that was counted, or an empty string."""
    if median >= least:
        return ""
    return (
        f"invalid: a call took {in_seconds(median)}, and the arithmetic of its section alone takes {in_seconds(least)} "
        "at least, so that the work was not done in it"
    )
