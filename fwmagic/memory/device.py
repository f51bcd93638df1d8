"""The memory of a device: which one it is, one run between readings of it, and the ledger that they give."""

from __future__ import annotations

import ctypes
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from fwmagic.errors import FwMagicError
from fwmagic.format import size
from fwmagic.frameworks.memory import Counters, Device, Events, Memory
from fwmagic.memory import nvml
from fwmagic.memory.nvml import Figure, Reading
from fwmagic.report import Amount, Kind, Ledger, Moment, Timeline

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def uuid_of(ordinal: int) -> str | None:
    """Return the UUID of the device with an ordinal in this process, without a prefix as torch has it.

    None: there is no CUDA driver library, or it fails. The functions are those of NVIDIA's CUDA Driver API
    (Initialization, Device Management); the second version of `cuDeviceGetUuid` gives the UUID of a MIG instance,
    the first one that of its GPU. Ask only where CUDA is used anyway: `cuInit` fixes the visible devices for good,
    and after it a fork of this process cannot use CUDA.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
        initialise, get = library.cuInit, library.cuDeviceGet
    except (OSError, AttributeError):
        return None
    device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    if initialise(0) != 0 or get(ctypes.byref(device), ordinal) != 0:
        return None
    for name in ("cuDeviceGetUuid_v2", "cuDeviceGetUuid"):
        function = getattr(library, name, None)
        if function is not None and function(ctypes.byref(raw), device) == 0:
            return str(uuid.UUID(bytes=bytes(raw)))
    return None


def identify(ordinal: int, reported: str | None) -> tuple[str | None, str]:
    """Return the UUID, as NVML knows it, of the device with a CUDA ordinal in this process, and where it is from.

    NVML knows no ordinals of CUDA, and its own order is neither of CUDA's two: only the framework and CUDA can tell.

    Parameters
    ----------
    ordinal
        CUDA's, such as 1 for torch's `cuda:1`.
    reported
        The UUID that the framework itself gives for that device, with or without a prefix; None: it gives none.

    Returns
    -------
    tuple
        The UUID comes from the framework, else from CUDA's driver library. None: the device is unknown, and the
        sentence says why.
    """
    if reported is not None:
        return _known_device(reported, "the framework gives the UUID of its device")
    answer = uuid_of(ordinal)
    if answer is None:
        return None, f"device unknown: CUDA's driver library does not name the device with the ordinal {ordinal}"
    return _known_device(answer, f"CUDA's driver library gives the UUID of the device with the ordinal {ordinal}")


def _known_device(uuid: str, source: str) -> tuple[str | None, str]:
    try:
        return nvml.find(uuid), source
    except FwMagicError as error:
        return None, f"device unknown: {error}"


#: The kinds of a ledger's segments, in their order: all but what stays when a run is over.
SEGMENTS: tuple[Kind, ...] = get_args(Kind)[:-2]
_CONTRADICT = "{} contradict each other"


@dataclass(frozen=True)
class DeviceReadings:
    """What was read of a device around one run: before it, at its peak, and after it.

    `before`, `peak` and `after` are counters of the framework that ran; the peaks of `peak` are those of the run.
    `others` are the bytes that other frameworks of this process hold, by name (None: not known). `device` is NVML's
    reading after the run, and `context` what the driver needs for the process itself.
    """

    before: Counters
    peak: Counters
    after: Counters
    device: Reading
    context: Figure
    others: tuple[tuple[str, int | None], ...] = ()


def device_ledger(name: str, found: DeviceReadings, timeline: Sequence[Moment] = (), source: str = "") -> Ledger:
    """Return the ledger of a device at the peak of a run; its segments are those of `SEGMENTS`, in bytes.

    total = other processes + the driver's own + this process [context + in use + free in pool + what other frameworks
    of it hold + unexplained] + free. NVML tells the shares of the device and of the process when the run is over, the
    allocator's counters tell the peak: what the pool gave back in between was not free at the peak. What cannot be
    known is None, with the reason; where readings contradict each other, the note says which, and the segment that
    would be negative is None.
    """
    notes: list[str] = []
    others_here = _frameworks_on_device(found.others)
    segments = (
        _processes_on_device(found.device, notes),
        found.device.reserved,
        found.context,
        _device_in_use(found.peak),
        _device_pool(found.peak, found.after, notes),
        others_here,
        _unexplained_on_device(found, others_here, notes),
        _free_on_device(found, notes),
    )
    named = (Amount(kind, one.bytes, one.source, one.why) for kind, one in zip(SEGMENTS, segments, strict=True))
    return Ledger(
        device=name,
        total=found.device.total.bytes,
        peak=tuple(named),
        timeline=Timeline.of(timeline),
        source=source,
        note="; ".join(notes),
        start=found.before.in_use,
    )


def _processes_on_device(device: Reading, notes: list[str]) -> Figure:
    """Return what is in use and not of this process."""
    for one in (device.used, device.own):
        if one.bytes is None:
            return one
    assert device.used.bytes is not None
    assert device.own.bytes is not None
    rest = device.used.bytes - device.own.bytes
    if rest < 0:
        notes.append(
            f"NVML's figures contradict each other: {size(device.own.bytes)} of this process, "
            f"but {size(device.used.bytes)} of all"
        )
        return Figure(None, why=_CONTRADICT.format("NVML's figures"))
    return Figure(rest, f"NVML: in use by all, less this process's ({device.own.source})")


def _device_in_use(peak: Counters) -> Figure:
    """Return what arrays had at the peak."""
    count = peak.peak_in_use
    return Figure(None, why=_why_uncounted(peak)) if count is None else Figure(count, peak.source)


def _why_uncounted(counters: Counters) -> str:
    """Return why an allocator does not say something: its own words, or else what it says all that it does say in."""
    return counters.why or counters.source


def _device_pool(peak: Counters, after: Counters, notes: list[str]) -> Figure:
    """Return what the allocator held at the peak and did not use."""
    if peak.peak_held is None or peak.peak_in_use is None:
        return Figure(None, why=f"no counter of what is held ({_why_uncounted(peak)})")
    contradicting = Figure(None, why=_CONTRADICT.format("the allocator's counters"))
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
    return Figure(peak.peak_held - peak.peak_in_use, f"{peak.source}: held less in use, each at its peak")


def _frameworks_on_device(others: Sequence[tuple[str, int | None]]) -> Figure:
    unknown = [who for who, count in others if count is None]
    if unknown:
        return Figure(None, why=f"{', '.join(unknown)} does not tell what it holds")
    who = ", ".join(who for who, _ in others) or "none"
    return Figure(sum(count or 0 for _, count in others), f"counters of other frameworks in this process: {who}")


def _unexplained_on_device(found: DeviceReadings, others: Figure, notes: list[str]) -> Figure:
    """Return what the process has on the device and nothing accounts for: memory of libraries, mostly."""
    own, held = found.device.own.bytes, found.after.held
    after = Figure(held, why=_why_uncounted(found.after))
    for figure in (found.device.own, after, others):
        if figure.bytes is None:
            return figure
    accounted = (held or 0) + (others.bytes or 0) + (found.context.bytes or 0)
    rest = (own or 0) - accounted
    if rest < 0:
        notes.append(
            f"NVML and the allocators contradict each other: {size(own or 0)} of this process, "
            f"but {size(accounted)} for its context and its allocators"
        )
        return Figure(None, why=_CONTRADICT.format("NVML and the allocators"))
    known = found.context.bytes is not None
    less = "less what is held and its context" if known else "less what is held, its context included"
    return Figure(rest, f"memory of this process, {less} ({found.device.own.source})")


def _free_on_device(found: DeviceReadings, notes: list[str]) -> Figure:
    """Return what was free at the peak."""
    free = found.device.free
    if free.bytes is None or found.peak.peak_held is None or found.after.held is None:
        return free if free.bytes is None else Figure(free.bytes, f"{free.source}, after the run")
    returned = found.peak.peak_held - found.after.held
    if returned < 0 or returned > free.bytes:
        if returned > 0:
            notes.append(
                f"NVML's reading is not of the same time as the counters: {size(returned)} were given back since the "
                f"peak, but {size(free.bytes)} are free"
            )
        return Figure(None, why=_CONTRADICT.format("NVML and the allocator's counters"))
    return Figure(free.bytes - returned, f"{free.source}, less what the pool gave back since the peak")


_IN_A_FRESH_PROCESS = "--isolate measures it in a fresh process"
UNKNOWN_CONTEXT = Figure(None, why=f"this process uses the device already; {_IN_A_FRESH_PROCESS}")


def measure(
    call: Callable[[], object],
    memory: Memory,
    device: Device,
    others: Sequence[tuple[str, int | None]] = (),
    context: Figure = UNKNOWN_CONTEXT,
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
    uuid, how = identify(device.ordinal, device.uuid)
    reset = memory.reset_peak(device)
    before = memory.counters(device)
    first = nvml.read(uuid)
    with memory.record(device) as events:
        outputs = call()
    after = memory.counters(device)
    reading = nvml.read(uuid, before=first) if uuid is not None else nvml.no_reading(how)
    del outputs
    found = DeviceReadings(before, peak(before, after, events, reset), after, reading, context, tuple(others))
    return device_ledger(device.name, found, events.moments, events.source)


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
        why = after.why or f"no peak in {after.source}"
        return replace(after, peak_in_use=None, peak_held=held, source="", why=why)
    if after.peak_in_use > before.peak_in_use:
        return replace(after, peak_held=held, source=f"{after.source}: a new peak since the process began")
    why = (
        f"its peak counter cannot be reset, and the {size(after.peak_in_use)} that it has shown before "
        f"were not exceeded; {_IN_A_FRESH_PROCESS}"
    )
    return replace(after, peak_in_use=None, peak_held=held, source="", why=why)


def device_context(memory: Memory, device: Device) -> Figure:
    """Return what the driver needs for this process; to be asked before anything was allocated on the device."""
    uuid, how = identify(device.ordinal, device.uuid)
    counters = memory.counters(device)
    own = nvml.read(uuid).own
    if own.bytes is None:
        return Figure(None, why=own.why if uuid is not None else how)
    if counters.held is None:
        return Figure(None, why=f"no counter of what is held ({_why_uncounted(counters)})")
    if own.bytes < counters.held:
        return Figure(None, why="NVML counts less than the allocator holds")
    return Figure(own.bytes - counters.held, f"{own.source}, before anything was allocated")
