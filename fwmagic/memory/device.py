"""The device pass: one run between readings of the allocator's counters and NVML, with its events recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from fwmagic.format import size
from fwmagic.frameworks.memory import Counters, Device, Events, Memory
from fwmagic.memory import nvml, visible
from fwmagic.memory.ledger import Readings, of_readings
from fwmagic.report import Amount, Ledger

_IN_A_FRESH_PROCESS = "--isolate measures it in a fresh process"
UNKNOWN_CONTEXT = Amount("context", None, f"not available: this process uses the device already; {_IN_A_FRESH_PROCESS}")


def measure(
    call: Callable[[], object],
    memory: Memory,
    device: Device,
    others: Sequence[tuple[str, int | None]] = (),
    context: Amount = UNKNOWN_CONTEXT,
) -> Ledger:
    """Return the ledger of a device at its peak while `call` ran, once.

    It is a pass of its own and not for timing. The peak is the allocator's own counter where it can be reset, else the
    largest of its events; an old peak is never taken for one of this run. `others` are what other frameworks of this
    process hold on the device.

    Raises
    ------
    BaseException
        What `call` raises, unchanged.
    """
    uuid, how = visible.identify(device.ordinal, device.uuid, os.environ)
    reset = memory.reset_peak(device)
    before = memory.counters(device)
    first = nvml.read(uuid)
    with memory.record(device) as events:
        outputs = call()
    after = memory.counters(device)
    reading = nvml.read(uuid, before=first)
    del outputs
    if uuid is None:
        reading = replace(reading, **{one: replace(getattr(reading, one), source=how) for one in _READ})
    found = Readings(before, peak(before, after, events, reset), after, reading, context, tuple(others))
    return of_readings(device.name, found, events.moments, events.source)


_READ = ("total", "used", "free", "reserved", "own")


def peak(before: Counters, after: Counters, events: Events, reset: bool) -> Counters:
    """Return the counters with the peaks of this run: what a counter shows that was not reset may be an older one."""
    if reset and after.peak_in_use is not None:
        return replace(after, source=f"{after.source}, its peak reset before the run")
    recorded = [moment.in_use for moment in events.moments if moment.in_use is not None]
    held = after.held  # a pool that cannot be asked for its peak is one that never gives back
    if recorded:
        most = max(before.in_use or 0, *recorded)  # the first event may be one that frees
        return replace(after, peak_in_use=most, peak_held=held, source=events.source)
    if after.peak_in_use is None or before.peak_in_use is None:
        why = after.source if after.in_use is None else f"not available: no peak in {after.source}"
        return replace(after, peak_in_use=None, peak_held=held, source=why)
    if after.peak_in_use > before.peak_in_use:
        return replace(after, peak_held=held, source=f"{after.source}: a new peak since the process began")
    why = (
        f"not available: its peak counter cannot be reset, and the {size(after.peak_in_use)} that it has shown before "
        f"were not exceeded; {_IN_A_FRESH_PROCESS}"
    )
    return replace(after, peak_in_use=None, peak_held=held, source=why)


def context_of(memory: Memory, device: Device) -> Amount:
    """Return what the driver needs for this process; to be asked before anything was allocated on the device."""
    uuid, how = visible.identify(device.ordinal, device.uuid, os.environ)
    counters = memory.counters(device)
    own = nvml.read(uuid).own
    if own.bytes is None:
        return Amount("context", None, own.source if uuid is not None else how)
    if counters.held is None:
        return Amount("context", None, f"not available: no counter of what is held ({counters.source})")
    if own.bytes < counters.held:
        return Amount("context", None, "not available: NVML counts less than the allocator holds")
    return Amount("context", own.bytes - counters.held, f"{own.source}, before anything was allocated")
