"""The NVIDIA devices of this machine and their memory, as the driver sees them: NVML, by the package nvidia-ml-py."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fwmagic.errors import FwMagicError

# Return codes of NVML, and what they mean to a reader.
_UNINITIALIZED = 1
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
FUNCTION_NOT_FOUND = 13
VERSION_MISMATCH = 25
_NO_DRIVER = (9, 12)
_MEANING = {
    _UNINITIALIZED: "other code in this process has shut NVML down",
    NOT_SUPPORTED: "the driver does not support this for the device",
    NO_PERMISSION: "the driver does not let this user ask for it",
    NOT_FOUND: "the driver knows no such device",
    9: "the NVIDIA driver is not loaded",
    12: "the NVIDIA driver's library libnvidia-ml.so.1 was not found",
    FUNCTION_NOT_FOUND: "this release of the driver or of nvidia-ml-py has no such function",
    15: "the driver has lost the GPU",
    17: "the operating system does not let this process reach the GPU",
    18: "the driver's library and its kernel module are of different releases",
}


class NvmlFault(FwMagicError):
    """NVML did not answer: the sentence says why; `code` is its return code, 0 where it has given none."""

    def __init__(self, sentence: str, code: int = 0) -> None:
        super().__init__(sentence)
        self.code = code


# The process that has initialised NVML. Two threads that both find it unset initialise twice: NVML counts that.
_owner: int | None = None


def ask(function: str, *arguments: Any) -> Any:
    """Return what a function of NVML gives, called by its name in nvidia-ml-py.

    Raises
    ------
    NvmlFault
        The function failed, or there is none, or NVML cannot be initialised.
    """
    nvml = _nvml_library()
    asked: Callable[..., Any] | None = getattr(nvml, function, None)
    try:
        if asked is None:
            raise nvml.NVMLError(FUNCTION_NOT_FOUND)
        return asked(*arguments)
    except nvml.NVMLError as error:
        raise _nvml_fault(error, function) from None


def _nvml_library() -> Any:
    """Return the module pynvml of nvidia-ml-py, initialised in this process: a fork does not inherit that."""
    global _owner
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        raise NvmlFault("the package nvidia-ml-py is not installed") from None
    # An outdated package of the name pynvml puts a module of that name in front of the one that is needed.
    if not hasattr(pynvml, "nvmlDeviceGetComputeRunningProcesses_v3"):
        raise NvmlFault("the module pynvml is not that of the package nvidia-ml-py: uninstall the package pynvml")
    if _owner != os.getpid():
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise _nvml_fault(error, "nvmlInit") from None
        if _owner is None:
            atexit.register(_shut_nvml_down)
        _owner = os.getpid()
    return pynvml


def _nvml_fault(error: Any, function: str) -> NvmlFault:
    meaning = _MEANING.get(error.value, "the driver does not answer")
    told = "" if error.value in _NO_DRIVER else f" ({function}: {error})"  # the same again, in other words
    return NvmlFault(f"{meaning}{told}", error.value)


def _shut_nvml_down() -> None:
    if _owner != os.getpid():
        return  # a fork that has not used NVML
    try:
        ask("nvmlShutdown")
    except NvmlFault:
        return  # other code has shut it down already, or the driver is gone: nothing is left to do


# The version word of NVML's nvmlMemory_v2_t: its size in bytes, and 2.
_MEMORY_V2 = 40 | 2 << 24
# The figures of one reading may be off by this much and still add up.
_SLACK = 16 << 20
# PIDs are below. Releases 535.43 to 535.86 of the driver mix up the list of processes and give others, and 0.
_PIDS_END = 2**31


@dataclass(frozen=True)
class Figure:
    """So many bytes, and where they are from; or None, and why they are not known."""

    bytes: int | None
    source: str = ""
    why: str = ""


@dataclass(frozen=True)
class Reading:
    """The memory of one device at one moment; `used` is by all processes, without what the driver reserves."""

    total: Figure
    used: Figure
    free: Figure
    reserved: Figure
    own: Figure


def count() -> int:
    """Return the number of GPUs in the machine, including those that this user may not read.

    Raises
    ------
    FwMagicError
        There is no driver, or it does not answer.
    """
    return int(ask("nvmlDeviceGetCount"))


def find(uuid: str) -> str:
    """Return the UUID by which NVML knows a device, given as NVML or, without a prefix, as CUDA prints it.

    Raises
    ------
    FwMagicError
        NVML does not know it or does not answer, or it is that of a GPU in MIG mode: a process has an instance
        of such a GPU, never the whole.
    """
    uuid = uuid.strip()
    spellings = [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid.lower()}", f"MIG-{uuid.lower()}"]
    for spelling in spellings:
        try:
            handle = ask("nvmlDeviceGetHandleByUUID", spelling)
        except NvmlFault as fault:
            if fault.code != NOT_FOUND:
                raise
            continue
        if spelling.startswith("GPU-") and _is_partitioned(handle):
            raise FwMagicError(f"{spelling} is in MIG mode, and which of its instances is meant is not known")
        return str(ask("nvmlDeviceGetUUID", handle))
    raise FwMagicError(f"NVML knows no device with the UUID {uuid}")


def read(uuid: str | None, before: Reading | None = None) -> Reading:
    """Read the memory of a device, in bytes; raises nothing: what NVML does not give is None, and says why.

    Parameters
    ----------
    uuid
        As NVML knows it, from `find`; None: the device is unknown.
    before
        An earlier reading of the same device. Where the driver does not tell the memory of this process, `own`
        is how much more the whole device uses since then.

    Notes
    -----
    The list of processes takes the driver milliseconds, in which it holds a lock: do not read while timing.
    """
    if uuid is None:
        return no_reading("device unknown")
    try:
        handle = ask("nvmlDeviceGetHandleByUUID", uuid)
    except NvmlFault as fault:
        return no_reading(str(fault))
    total, used, free, reserved = _nvml_memory(handle)
    return Reading(total, used, free, reserved, _figure_of_own(handle, total, used, before))


def _is_partitioned(handle: Any) -> bool:
    try:
        return bool(ask("nvmlDeviceGetMigMode", handle)[0])
    except NvmlFault as fault:
        # A GPU or a driver that has no MIG says so. After anything else it may well be in MIG mode.
        return fault.code not in (NOT_SUPPORTED, FUNCTION_NOT_FOUND)


def _missing_figure(why: str) -> Figure:
    return Figure(None, why=why)


def no_reading(why: str) -> Reading:
    """Return the reading of a device of which nothing is known."""
    return Reading(*[_missing_figure(why)] * 5)


def _nvml_memory(handle: Any) -> tuple[Figure, Figure, Figure, Figure]:
    """Return total, used, free and reserved."""
    try:
        figures, version = _nvml_figures(handle)
    except NvmlFault as fault:
        unknown = _missing_figure(str(fault))
        return unknown, unknown, unknown, unknown
    total, used, free = int(figures.total), int(figures.used), int(figures.free)
    source = f"NVML's memory information, version {version}"
    if total == 0:
        none = _missing_figure("the device has no memory of its own but shares the host's (NVML gives a total of 0)")
        return none, none, none, none
    if version == 1:
        kept = _missing_figure("this release of the driver does not tell it apart from what is in use")
        in_use = _figure_in_use(total, used, free, 0, f"{source}: what the driver reserves is counted in")
    else:
        kept = Figure(int(figures.reserved), source)
        in_use = _figure_in_use(total, used, free, int(figures.reserved), source)
    return Figure(total, source), in_use, Figure(free, source), kept


def _nvml_figures(handle: Any) -> tuple[Any, int]:
    """Return NVML's memory information and its version; old releases of the driver have the first only."""
    try:
        return ask("nvmlDeviceGetMemoryInfo", handle, _MEMORY_V2), 2
    except NvmlFault as fault:
        if fault.code not in (FUNCTION_NOT_FOUND, VERSION_MISMATCH, NOT_SUPPORTED):
            raise
    return ask("nvmlDeviceGetMemoryInfo", handle), 1


def _figure_in_use(total: int, used: int, free: int, reserved: int, source: str) -> Figure:
    """Return what is used without what is reserved: releases of the driver differ in whether `used` counts it."""
    expected = total - free - reserved
    figures = f"total {total}, free {free}, reserved {reserved} and in use {used} bytes"
    if abs(used - reserved - expected) < abs(used - expected):
        used, source = used - reserved, f"{source}, less what the driver reserves"
    if abs(used - expected) > _SLACK or min(used, expected) < 0:
        return _missing_figure(f"NVML's figures do not add up ({figures})")
    return Figure(used, source)


def _figure_of_own(handle: Any, total: Figure, used: Figure, before: Reading | None) -> Figure:
    """Return the memory of this process by NVML's list of processes, or else by the difference to `before`."""
    pid = os.getpid()
    try:
        listed = _nvml_processes(handle, total.bytes)
        strangers = {other for other in listed if not _exists(other)}
        # One that has just ended is gone from a second list. One that is still there has its PID from elsewhere, and
        # then a PID like ours is another process.
        if strangers and not strangers.isdisjoint(_nvml_processes(handle, total.bytes)):
            reason = "this process runs in a container, and the driver lists processes by their PIDs outside it"
        elif pid not in listed:
            reason = f"the driver lists no process with the PID {pid} of this one: it does not use the device, "
            reason += "or runs in a container"
        elif (own := listed[pid]) is None:
            reason = "the driver lists this process without its memory, as under WSL and for some MIG instances"
        else:
            return Figure(own, f"NVML's list of processes on the device, PID {pid}")
    except NvmlFault as fault:
        reason = str(fault)
    return _missing_figure(reason) if before is None else _figure_by_difference(total, used, before, reason)


def _exists(pid: int) -> bool:
    """Return whether a process of this PID namespace has a PID; where there are no such namespaces, all have."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # psutil would look into /proc, which may hide the processes of other users
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _nvml_processes(handle: Any, total: int | None) -> dict[int, int | None]:
    """Return the bytes of each process on the device by PID; one that computes and draws is in both lists.

    Raises
    ------
    NvmlFault
        The driver does not tell which processes compute there, or it tells what cannot be.
    """
    entries = list(_nvml_list("Compute", handle))
    with contextlib.suppress(NvmlFault):  # a process that computes is in the other list
        entries += _nvml_list("Graphics", handle)
    found: dict[int, int | None] = {}
    for entry in entries:
        size = entry.usedGpuMemory
        if not 0 < entry.pid < _PIDS_END or (size is not None and total is not None and size > total):
            raise NvmlFault(f"the driver's list of processes is corrupt (PID {entry.pid} with {size} bytes)")
        known = found.get(entry.pid)
        found[entry.pid] = known if size is None else max(size, known or 0)
    return found


def _nvml_list(kind: str, handle: Any) -> list[Any]:
    """Return the entries of one list by the newest function that the driver has."""
    try:
        return list(ask(f"nvmlDeviceGet{kind}RunningProcesses_v3", handle))
    except NvmlFault as fault:
        if fault.code != FUNCTION_NOT_FOUND:
            raise
    return list(ask(f"nvmlDeviceGet{kind}RunningProcesses_v2", handle))


def _figure_by_difference(total: Figure, used: Figure, before: Reading, reason: str) -> Figure:
    """Return how much more the whole device uses than before, which stands for this process."""
    if used.bytes is None or before.used.bytes is None:
        return _missing_figure(f"{reason}; and the use of the whole device is not known at both moments")
    if (total.bytes, used.source) != (before.total.bytes, before.used.source):
        return _missing_figure(f"{reason}; and the reading before is not of the same device by the same method")
    more = used.bytes - before.used.bytes
    if more < 0:
        return _missing_figure(f"{reason}; and the whole device uses {-more} bytes less than before")
    source = "difference of the whole device since the reading before; other processes may have changed it"
    return Figure(more, f"{source} ({reason})")
