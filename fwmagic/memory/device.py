"""The memory of a device: which one it is, one run between readings of it, and the ledger that they give."""

from __future__ import annotations

import ctypes
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

from fwmagic.errors import FwMagicError
from fwmagic.format import size
from fwmagic.frameworks import Counters, Device, Events, Memory
from fwmagic.memory import nvml
from fwmagic.memory.nvml import Card, Figure, Reading
from fwmagic.report import Amount, Kind, Ledger, Moment, Timeline

_LIBRARY = "libcuda.so.1"


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


VISIBLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"

_NUMBER = re.compile(r"([+-]?)([0-9]+)")
# A number that C reads differently by the base it is told: octal, hexadecimal, binary.
_OTHER_BASE = re.compile(r"[+-]?0[0-9bBxX]")
_INSTANCE = re.compile(r"MIG-(GPU-[^/]*)/([0-9]+)/([0-9]+)")
_BUS_ID = re.compile(r"([0-9a-fA-F]+):([0-9a-fA-F]+):([0-9a-fA-F]+)\.([0-9a-fA-F]+)")


@dataclass(frozen=True)
class _Entry:
    """One entry of CUDA_VISIBLE_DEVICES: `key` is the same for two entries that name the same device."""

    kind: Literal["index", "gpu", "instance"]
    key: str | int
    uuid: str | None
    partitioned: bool = False


def uuids(environ: Mapping[str, str], cards: Sequence[Card]) -> tuple[str | None, ...]:
    """Return the UUID of each CUDA ordinal, in order, by what the environment says; None: it does not say.

    Parameters
    ----------
    environ
        The environment in which CUDA was, or will be, initialised.
    cards
        All GPUs of the machine and their MIG instances, in any order.

    Notes
    -----
    CUDA_VISIBLE_DEVICES lists indices, GPU UUIDs or unambiguous beginnings of them, or MIG instances, and the first
    invalid entry ends the list. Indices count by PCI bus id if CUDA_DEVICE_ORDER is PCI_BUS_ID, otherwise from
    the fastest GPU to the slowest by a rule that is not documented: of several GPUs they are then unknown. What the
    guide leaves open is read as CUDA has been seen to (driver 525): a device that is named twice leaves none
    visible, an index may have anything after its digits, and an entry of another kind than the first ends the list.
    Read so or not, an entry means this device or is not there: no other device gets its ordinal. Where releases
    of the driver enumerate different devices, which is around GPUs in MIG mode, all is unknown.
    """
    gpus = _in_cuda_order(environ, [card for card in cards if not _is_instance(card)])
    value = environ.get(VISIBLE)
    if value is None:
        return gpus
    entries: list[_Entry] = []
    for token in value.split(","):
        entry = _entry(token.strip(), gpus, cards)
        if entry is None:
            break
        entries.append(entry)
    if any(entry.kind == "instance" or entry.partitioned for entry in entries):
        alone = len(entries) == 1 and entries[0].kind == "instance"
        return (entries[0].uuid,) if alone else (None,) * len(entries)
    entries = list(takewhile(lambda entry: entry.kind == entries[0].kind, entries))
    named_twice = len({entry.key for entry in entries}) < len(entries)
    return () if named_twice else tuple(entry.uuid for entry in entries)


def identify(ordinal: int, reported: str | None, environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the UUID, as NVML knows it, of the device with a CUDA ordinal, and a sentence on the source.

    Parameters
    ----------
    ordinal
        CUDA's, such as 1 for torch's `cuda:1`.
    reported
        The UUID that the framework itself gives for that device, with or without a prefix; None: it gives none.
    environ
        The environment of the process that uses the device. CUDA is asked only if it is as that of this process.

    Returns
    -------
    tuple
        The UUID comes from the framework, else from CUDA's driver library, else from the environment. None: the
        device is unknown, and the sentence says why.
    """
    if reported is not None:
        return _known(reported, "the framework gives the UUID of its device")
    if all(environ.get(name) == os.environ.get(name) for name in (VISIBLE, ORDER)):
        answer = uuid_of(ordinal)
        if answer is not None:
            return _known(answer, f"CUDA's driver library gives the UUID of the device with the ordinal {ordinal}")
    try:
        cards, count = nvml.cards(), nvml.count()
    except FwMagicError as error:
        return None, f"device unknown: {error}"
    hidden = count - sum(not _is_instance(card) for card in cards)
    if hidden:
        return None, f"device unknown: the driver does not let this user see {hidden} of {count} GPUs"
    said = " and ".join(f"{name} {_spelled(environ.get(name))}" for name in (VISIBLE, ORDER))
    found = uuids(environ, cards)
    if not 0 <= ordinal < len(found):
        return None, f"device unknown: by {said} there is no device with the CUDA ordinal {ordinal}"
    if found[ordinal] is None:
        return None, f"device unknown: {said} do not say which GPU has the CUDA ordinal {ordinal}"
    return found[ordinal], f"{said} say which GPU has the CUDA ordinal {ordinal}"


def _known(uuid: str, source: str) -> tuple[str | None, str]:
    try:
        return nvml.find(uuid), source
    except FwMagicError as error:
        return None, f"device unknown: {error}"


def _spelled(value: str | None) -> str:
    return "(not set)" if value is None else f"= {value!r}"


def _is_instance(card: Card) -> bool:
    return card.uuid.startswith("MIG-")


def _in_cuda_order(environ: Mapping[str, str], gpus: Sequence[Card]) -> tuple[str | None, ...]:
    """Return the GPUs' UUIDs by CUDA's index without CUDA_VISIBLE_DEVICES; None: that order is not known."""
    unknown = (None,) * len(gpus)
    if any(gpu.partitioned for gpu in gpus):
        return unknown  # CUDA may leave these out, or the others, and releases of the driver differ in it
    if len(gpus) == 1:
        return (gpus[0].uuid,)
    # A client of CUDA's Multi-Process Service counts the devices of its server, in the server's environment.
    if environ.get(ORDER) != "PCI_BUS_ID" or "CUDA_MPS_PIPE_DIRECTORY" in environ:
        return unknown
    places = {}
    for gpu in gpus:
        found = _BUS_ID.fullmatch(gpu.bus_id)
        if found is not None:
            places[tuple(int(part, 16) for part in found.groups())] = gpu.uuid
    return tuple(places[place] for place in sorted(places)) if len(places) == len(gpus) else unknown


def _entry(token: str, gpus: Sequence[str | None], cards: Sequence[Card]) -> _Entry | None:
    """Return what one entry of CUDA_VISIBLE_DEVICES names, given the GPUs by index; None: it is invalid."""
    number = _NUMBER.match(token)
    if number is not None:
        if _OTHER_BASE.match(token):
            return _Entry("index", token, None)
        index = int(number[2])
        valid = index < len(gpus) and (number[1] != "-" or index == 0)
        return _Entry("index", index, gpus[index]) if valid else None
    if token.startswith("MIG-"):
        card = _only([card for card in cards if _is_instance(card) and card.uuid.startswith(token)])
        card = card or _by_ids(token, cards)
        return None if card is None else _Entry("instance", card.uuid, card.uuid)
    if token.startswith("GPU-"):
        card = _only([card for card in cards if card.uuid.startswith(token)])
        return None if card is None else _Entry("gpu", card.uuid, card.uuid, card.partitioned)
    return None


def _by_ids(token: str, cards: Sequence[Card]) -> Card | None:
    """Return the instance that `MIG-<GPU UUID>/<GPU instance>/<compute instance>` names."""
    parts = _INSTANCE.fullmatch(token)
    gpu = parts and _only([card for card in cards if card.uuid.startswith(parts[1])])
    if parts is None or gpu is None:
        return None
    ids = int(parts[2]), int(parts[3])
    return _only([card for card in cards if card.instance == ids and card.bus_id == gpu.bus_id])


def _only(cards: Sequence[Card]) -> Card | None:
    return cards[0] if len(cards) == 1 else None


#: The kinds of a ledger's segments, in their order.
SEGMENTS: tuple[Kind, ...] = (
    "other processes",
    "reserved by the driver",
    "context",
    "in use",
    "free in pool",
    "held by others here",
    "unexplained",
    "free",
)
_CONTRADICT = "{} contradict each other"


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
    context: Figure
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
        _in_use(found.peak),
        _pool(found.peak, found.after, notes),
        others_here,
        _unexplained(found, others_here, notes),
        _free(found, notes),
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


def _other_processes(device: Reading, notes: list[str]) -> Figure:
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


def _in_use(peak: Counters) -> Figure:
    """Return what arrays had at the peak."""
    count = peak.peak_in_use
    return Figure(None, why=_why(peak)) if count is None else Figure(count, peak.source)


def _why(counters: Counters) -> str:
    """Return why an allocator does not say something: its own words, or else what it says all that it does say in."""
    return counters.why or counters.source


def _pool(peak: Counters, after: Counters, notes: list[str]) -> Figure:
    """Return what the allocator held at the peak and did not use."""
    if peak.peak_held is None or peak.peak_in_use is None:
        return Figure(None, why=f"no counter of what is held ({_why(peak)})")
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


def _others_here(others: Sequence[tuple[str, int | None]]) -> Figure:
    unknown = [who for who, count in others if count is None]
    if unknown:
        return Figure(None, why=f"{', '.join(unknown)} does not tell what it holds")
    who = ", ".join(who for who, _ in others) or "none"
    return Figure(sum(count or 0 for _, count in others), f"counters of other frameworks in this process: {who}")


def _unexplained(found: Readings, others: Figure, notes: list[str]) -> Figure:
    """Return what the process has on the device and nothing accounts for: memory of libraries, mostly."""
    own, held = found.device.own.bytes, found.after.held
    after = Figure(held, why=_why(found.after))
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


def _free(found: Readings, notes: list[str]) -> Figure:
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
    uuid, how = identify(device.ordinal, device.uuid, os.environ)
    reset = memory.reset_peak(device)
    before = memory.counters(device)
    first = nvml.read(uuid)
    with memory.record(device) as events:
        outputs = call()
    after = memory.counters(device)
    reading = nvml.read(uuid, before=first) if uuid is not None else nvml.unread(how)
    del outputs
    found = Readings(before, peak(before, after, events, reset), after, reading, context, tuple(others))
    return of_readings(device.name, found, events.moments, events.source)


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


def context_of(memory: Memory, device: Device) -> Figure:
    """Return what the driver needs for this process; to be asked before anything was allocated on the device."""
    uuid, how = identify(device.ordinal, device.uuid, os.environ)
    counters = memory.counters(device)
    own = nvml.read(uuid).own
    if own.bytes is None:
        return Figure(None, why=own.why if uuid is not None else how)
    if counters.held is None:
        return Figure(None, why=f"no counter of what is held ({_why(counters)})")
    if own.bytes < counters.held:
        return Figure(None, why="NVML counts less than the allocator holds")
    return Figure(own.bytes - counters.held, f"{own.source}, before anything was allocated")
