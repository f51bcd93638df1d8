"""The ledger of a device: whose memory is what, from readings that may be missing or contradict each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fwmagic.format import size
from fwmagic.frameworks.memory import Counters
from fwmagic.memory.nvml import Reading
from fwmagic.report import Amount, Ledger, Moment, Timeline

#: The names of a ledger's segments, in their order.
SEGMENTS = (
    "other processes",
    "reserved by the driver",
    "context",
    "in use",
    "free in pool",
    "held by others here",
    "unexplained",
    "free",
)
_CONTRADICT = "not available: {} contradict each other"


@dataclass(frozen=True)
class Readings:
    """What was read of a device around one run: before it, at its peak, and after it.

    `before`, `peak` and `after` are counters of the framework that ran; the peaks of `peak` are those of the run.
    `others` are the bytes that other frameworks of this process hold, by name (None: not known). `device` is NVML's
    reading after the run, and `context` what the driver needs for the process itself.
    """

    before: Counters
    peak: Counters
    after: Counters
    device: Reading
    context: Amount
    others: tuple[tuple[str, int | None], ...] = ()


def of_readings(name: str, found: Readings, timeline: Sequence[Moment] = (), source: str = "") -> Ledger:
    """Return the ledger of a device at the peak of a run; its segments are those of `SEGMENTS`, in bytes.

    total = other processes + the driver's own + this process [context + in use + free in pool + what other frameworks
    of it hold + unexplained] + free. NVML tells the shares of the device and of the process when the run is over, the
    allocator's counters tell the peak: what the pool gave back in between was not free at the peak. What cannot be
    known is None, with the reason; where readings contradict each other, the note says which, and the segment that
    would be negative is None.
    """
    notes: list[str] = []
    others_here = _others_here(found.others)
    segments = (
        _other_processes(found.device, notes),
        found.device.reserved,
        found.context,
        Amount("in use", found.peak.peak_in_use, found.peak.source),
        _pool(found.peak, found.after, notes),
        others_here,
        _unexplained(found, others_here, notes),
        _free(found, notes),
    )
    named = (Amount(title, one.bytes, one.source) for title, one in zip(SEGMENTS, segments, strict=True))
    return Ledger(
        device=name,
        total=found.device.total.bytes,
        peak=tuple(named),
        timeline=Timeline.of(timeline),
        source=source,
        note="; ".join(notes),
        start=found.before.in_use,
    )


def _other_processes(device: Reading, notes: list[str]) -> Amount:
    """Return what is in use and not of this process."""
    for one in (device.used, device.own):
        if one.bytes is None:
            return Amount("", None, one.source)
    assert device.used.bytes is not None
    assert device.own.bytes is not None
    rest = device.used.bytes - device.own.bytes
    if rest < 0:
        notes.append(
            f"NVML's figures contradict each other: {size(device.own.bytes)} of this process, "
            f"but {size(device.used.bytes)} of all"
        )
        return Amount("", None, _CONTRADICT.format("NVML's figures"))
    return Amount("", rest, f"NVML: in use by all, less this process's ({device.own.source})")


def _pool(peak: Counters, after: Counters, notes: list[str]) -> Amount:
    """Return what the allocator held at the peak and did not use."""
    if peak.peak_held is None or peak.peak_in_use is None:
        return Amount("", None, f"not available: no counter of what is held ({peak.source})")
    contradicting = Amount("", None, _CONTRADICT.format("the allocator's counters"))
    if peak.peak_held < peak.peak_in_use:
        notes.append(
            f"the allocator's counters contradict each other: {size(peak.peak_in_use)} in use, "
            f"but {size(peak.peak_held)} held at most"
        )
        return contradicting
    if after.held is not None and after.held > peak.peak_held:
        notes.append(
            f"the allocator's counters contradict each other: {size(after.held)} held now, "
            f"but {size(peak.peak_held)} at most until now"
        )
        return contradicting
    return Amount("", peak.peak_held - peak.peak_in_use, f"{peak.source}: held less in use, each at its peak")


def _others_here(others: Sequence[tuple[str, int | None]]) -> Amount:
    unknown = [who for who, count in others if count is None]
    if unknown:
        return Amount("", None, f"not available: {', '.join(unknown)} does not tell what it holds")
    who = ", ".join(who for who, _ in others) or "none"
    return Amount("", sum(count or 0 for _, count in others), f"counters of other frameworks in this process: {who}")


def _unexplained(found: Readings, others: Amount, notes: list[str]) -> Amount:
    """Return what the process has on the device and nothing accounts for: memory of libraries, mostly."""
    own, held = found.device.own.bytes, found.after.held
    for known, why in ((own, found.device.own.source), (held, found.after.source), (others.bytes, others.source)):
        if known is None:
            return Amount("", None, f"not available: {why.removeprefix('not available: ')}")
    accounted = (held or 0) + (others.bytes or 0) + (found.context.bytes or 0)
    rest = (own or 0) - accounted
    if rest < 0:
        notes.append(
            f"NVML and the allocators contradict each other: {size(own or 0)} of this process, "
            f"but {size(accounted)} for its context and its allocators"
        )
        return Amount("", None, _CONTRADICT.format("NVML and the allocators"))
    known = found.context.bytes is not None
    less = "less what is held and its context" if known else "less what is held, its context included"
    return Amount("", rest, f"memory of this process, {less} ({found.device.own.source})")


def _free(found: Readings, notes: list[str]) -> Amount:
    """Return what was free at the peak."""
    free = found.device.free
    if free.bytes is None or found.peak.peak_held is None or found.after.held is None:
        return Amount("", free.bytes, f"{free.source}, after the run" if free.bytes is not None else free.source)
    returned = found.peak.peak_held - found.after.held
    if returned < 0 or returned > free.bytes:
        if returned > 0:
            notes.append(
                f"NVML's reading is not of the same time as the counters: {size(returned)} were given back since the "
                f"peak, but {size(free.bytes)} are free"
            )
        return Amount("", None, _CONTRADICT.format("NVML and the allocator's counters"))
    return Amount("", free.bytes - returned, f"{free.source}, less what the pool gave back since the peak")
