"""The load of other processes before and while variants are timed; read at the ends of both, without a thread."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from fwmagic.report.findings import BUSY

# A process that uses less than this many cores is not worth a name.
_NAMED = 0.05
_MOST_NAMES = 3
_BEFORE = 0.1
# A neighbour that uses less than so many cores leaves most of the blocks alone.
_MOSTLY = 0.5
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Usage:
    """The CPU time of everything that runs, at one moment; seconds since boot or since each process's start."""

    at: float
    busy: float
    own: float
    others: dict[tuple[int, float], tuple[str, float]]


class Load:
    """What other processes used before and while timing, in cores (1.0: one core all the time).

    `before` counts from the making of this object to `start`, `during` from there to `stop`; None until then.
    `neighbours` names the busiest processes of others, as far as this user may see them. The source is
    psutil's CPU times: all of the machine's, less those of this process and its children.
    """

    def __init__(self) -> None:
        self.before: float | None = None
        self.during: float | None = None
        self.neighbours: tuple[str, ...] = ()
        self._made = _read()
        self._start: Usage | None = None

    def start(self) -> None:
        """Begin the stretch to watch; sleeps first if this object is too young to tell the load before."""
        time.sleep(max(0.0, _BEFORE - (time.monotonic() - self._made.at)))
        self._start = _read()
        self.before = _cores_of_others(self._made, self._start)
        self.neighbours = _busiest(self._made, self._start)

    def stop(self) -> None:
        """End the stretch: set `during`, and `neighbours` to the busiest of that time, if there are any.

        Raises
        ------
        RuntimeError
            `start` was not called.
        """
        if self._start is None:
            raise RuntimeError("Load.stop() needs Load.start() first")
        end = _read()
        self.during = _cores_of_others(self._start, end)
        self.neighbours = _busiest(self._start, end) or self.neighbours

    def crowds(self, used: float) -> str:
        """Return why others left too little of the machine for a program that used so many cores, or nothing.

        Blocks are short, and the median is that of blocks that nobody disturbed, as long as most were not. Threads
        that work on one thing wait for the slowest: where one of them shares its core with another process, times grow
        many times over, and not alike for two libraries. A program that got less than one core wanted one all the
        same: that others had it is no room for it.
        """
        cores = usable_cores()
        if self.during is None or self.during <= _MOSTLY or self.during + max(used, 1.0) <= cores + BUSY:
            return ""
        return f"other processes used {self.during:.1f} of {cores} cores, and the variants up to {used:.1f}"


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Return the processor's model and how many cores this process may use, in words."""
    usable = usable_cores()
    cores = "1 core" if usable == 1 else f"{usable} cores"
    return f"{_model()}, {cores}"


def _model() -> str:
    """Return the processor's name as Linux has it, or the platform's word for it elsewhere."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next((name for name in names if name), platform.processor() or platform.machine() or "unknown processor")


def _read() -> Usage:
    """Read all counters; system-wide first, so that the reading itself is not taken for somebody else's work."""
    times = psutil.cpu_times()
    # Guest time is part of user time already; time in which the processor waits for a disk is not work.
    no_work = ("idle", "iowait", "guest", "guest_nice")
    busy = sum(seconds for name, seconds in times._asdict().items() if name not in no_work)
    ours = {os.getpid()}
    own = _seconds(psutil.Process(), with_ended=True)
    for child in psutil.Process().children(recursive=True):
        try:
            own += _seconds(child, with_ended=True)
        except psutil.Error:
            continue  # it ended in this moment
        ours.add(child.pid)
    others = {key: value for key, value in _processes() if key[0] not in ours}
    return Usage(time.monotonic(), busy, own, others)


def _processes() -> Iterator[tuple[tuple[int, float], tuple[str, float]]]:
    """Yield (pid, start time) and (name, CPU seconds) of every process that may be read."""
    for process in psutil.process_iter():
        try:
            with process.oneshot():
                yield (process.pid, process.create_time()), (process.name(), _seconds(process))
        except psutil.Error:
            continue  # it ended in this moment, or belongs to somebody else: it goes without a name


def _seconds(process: psutil.Process, with_ended: bool = False) -> float:
    """Return the CPU seconds of a process; `with_ended`: and of its children that have ended, however long ago."""
    times = process.cpu_times()
    ended = times.children_user + times.children_system if with_ended else 0.0
    return float(times.user + times.system + ended)


def _cores_of_others(start: Usage, end: Usage) -> float:
    passed = max(end.at - start.at, 1e-6)
    # The counters tick a hundred times a second: what is beyond the third place is the rounding of their sums.
    used = round(max(0.0, (end.busy - start.busy) - (end.own - start.own)) / passed, 3)
    return min(used, float(os.cpu_count() or used))  # the system books some time a little late: more was not there


def _busiest(start: Usage, end: Usage) -> tuple[str, ...]:
    """Return the processes that used most, such as `python (0.9 cores)`, the busiest first."""
    passed = max(end.at - start.at, 1e-6)
    used = []
    for key, (name, seconds) in end.others.items():
        # One that was not there at the start has spent all its time since then.
        cores = (seconds - start.others.get(key, (name, 0.0))[1]) / passed
        if cores >= _NAMED:
            used.append((cores, name))
    return tuple(f"{name} ({cores:.1f} cores)" for cores, name in sorted(used, reverse=True)[:_MOST_NAMES])
