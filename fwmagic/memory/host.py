"""The resident memory of this process while one call runs: its peak by Linux's own counter, its course by samples."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import threading
import time
import xml.etree.ElementTree as ET
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from fwmagic.format import one_line, size
from fwmagic.format import seconds as in_words
from fwmagic.report import Amount, Ledger, Moment, Timeline

# glibc's numbers for the size from which on a block is mapped on its own, and for that from which on the free end of a
# heap goes back; the size that both are set to; and the largest that glibc goes to of itself, less a page for its own.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_MAPPED_FROM = 1 << 16
_KEPT_BELOW = (32 << 20) - (1 << 14)
# A heap begins with 132 KiB, most of which nobody has written yet: so little at its end is not known to be resident.
_LEAST = 1 << 18
# Other C libraries lack functions of glibc, and Windows has no handle of the whole process.
_NO_GLIBC = (AttributeError, OSError, TypeError)


def give_back() -> None:
    """Give back what was freed: else it stays resident, the next call takes it first, and shows that much less growth.

    Runs Python's garbage collector, and `malloc_trim(0)` where the C library is glibc.
    """
    gc.collect()
    with suppress(*_NO_GLIBC):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Let each collection inside look only at objects that were made inside.

    With the frameworks imported, a full collection takes 0.1 s, and each `give_back` would repeat it. Garbage that is
    there already stays for so long: it is memory from before. What is frozen already (see `gc.freeze`) is the user's
    doing, and cannot be told apart afterwards: then nothing is frozen here.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def lingering() -> int:
    """Return how many bytes are free and may be resident all the same after `give_back`; 0: none that are known of.

    glibc has more heaps than one: the main thread's, and others that the other threads share. In each it may keep
    tens of MiB that were freed at its end, and `malloc_trim` cuts the main thread's only. JAX's threads work in the
    others. The source is malloc_info(3).
    """
    text, length = ctypes.c_void_p(), ctypes.c_size_t()
    with suppress(*_NO_GLIBC):
        library = ctypes.CDLL(None)
        library.open_memstream.restype = ctypes.c_void_p
        file = ctypes.c_void_p(library.open_memstream(ctypes.byref(text), ctypes.byref(length)))
        if not file:
            return 0
        library.malloc_info(0, file)
        library.fclose(file)
        told = ctypes.string_at(text, length.value)
        library.free(text)
        ends = [_free_at_the_end(heap) for heap in ET.fromstring(told).findall("heap")[1:]]
        return sum(end for end in ends if end >= _LEAST)
    return 0


def map_large_blocks() -> bool:
    """Let glibc map each block from 64 KiB on separately from now on, so that it is gone when it is freed.

    What lingers at the end of a heap goes back with the next block that is freed there. But this process allocates more
    slowly ever after, which cannot be undone: call it in a process that only measures memory from then on. Returns
    whether the C library did it.
    """
    with suppress(*_NO_GLIBC):
        library = ctypes.CDLL(None)
        return bool(
            library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM) and library.mallopt(_M_TRIM_THRESHOLD, _MAPPED_FROM)
        )
    return False


def keep_large_blocks() -> None:
    """Let glibc keep what is freed, as it does in a process that has lived for a while.

    A young process maps each block from 128 KiB on separately, and gives it back when it is freed, so that every call
    that makes such an array pays for clearing its pages. glibc raises that threshold to the size of each block that is
    freed, up to 32 MiB, and that of what it gives back to twice as much (mallopt(3)): freeing one block of that size,
    which nobody has written to, takes both to their end. Where the user has set one of them, they stay as they are.
    """
    with suppress(*_NO_GLIBC):
        library = ctypes.CDLL(None)
        library.malloc.restype = ctypes.c_void_p
        library.free(ctypes.c_void_p(library.malloc(ctypes.c_size_t(_KEPT_BELOW))))


def _free_at_the_end(heap: ET.Element) -> int:
    """Return all that is free in a heap, but for the gaps between blocks: their pages were given back."""
    free = sum(int(total.get("size", 0)) for total in heap.findall("total") if total.get("type") == "rest")
    return max(0, free - sum(int(gap.get("total", 0)) for gap in heap.iterfind("sizes/*")))


#: A timeline has at most this many moments, however long the call took.
MOST_KEPT = 2000
# Seconds between two samples, until there are too many of them.
_INTERVAL = 1e-3
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_STATM = Path("/proc/self/statm")
_RESET_THE_PEAK = b"5"
# A counter that still shows what it showed before, and this many bytes more than there are, was not reset.
_SLACK = 1 << 20
# Freed memory that stays resident is not worth a word below so many bytes, or below this share of the growth.
_LITTLE = 1 << 20
_LITTLE_SHARE = 0.02
_EXACT = "Linux's VmHWM, reset before the call"
_UNREADABLE = (OSError, ValueError, IndexError, psutil.Error)


@dataclass(frozen=True)
class _ResidentStart:
    """The resident bytes before a call (None: not readable); `refusal` says why there is no counter of the peak."""

    resident: int | None
    refusal: str = ""


def measure(call: Callable[[], object], settle: Callable[[], None] = give_back, *, elsewhere: bool = True) -> Ledger:
    """Return by how much the resident memory of this process grew at most while `call` ran, once.

    `call` must wait for its own outputs, which are kept until the last reading; `settle` runs before the first one.
    It is a pass of its own and not for timing: a thread samples meanwhile. All threads of the process count, and
    memory that was allocated but never written is not resident.

    Memory that was freed before and is still resident can be used again without growth. If the call allocates
    `elsewhere` than in this thread, `note` tells how much that can be, if it matters (see `lingering`).

    On Linux the peak is exact: it is VmHWM, after writing 5 to /proc/self/clear_refs (proc(5)), which resets that
    counter for whoever reads it. Where this cannot be done, the peak is that of the samples, and is called so.
    Where no resident memory can be read, the amount says why; if this is known beforehand, `call` is not run.

    Returns
    -------
    Ledger
        Of the device `host`, in bytes: `start` was resident before, `in use` and the timeline came on top of it.

    Raises
    ------
    BaseException
        What `call` raises, unchanged.
    """
    settle()
    kept = lingering() if elsewhere else 0
    with _resident() as read, _ResidentSampler(read) as sampler:
        start = _resident_at_start(read)
        if start.resident is None:
            return _unknown_resident(start.refusal)
        sampler.begin()
        outputs = call()
        seconds = sampler.seconds()
        try:
            last = read()
            peak = last if start.refusal else _resident_counter("VmHWM")
        except _UNREADABLE as error:
            return _unknown_resident(_reason(error))
        del outputs
    samples = sampler.samples(seconds)
    if start.refusal:
        peak = max((resident for _, resident in samples), default=last)
        why = f"so the true peak may be higher: no counter of the peak can be reset ({start.refusal})"
        sampled = _resident_growth(max(peak, last), start.resident)
        amount = Amount("in use", sampled, f"{sampled_every(seconds, sampler.taken)}, {why}")
    else:
        amount = Amount("in use", _resident_growth(peak, start.resident), _EXACT)
    most = amount.bytes or 0
    hidden = kept > max(_LITTLE, _LITTLE_SHARE * most)
    if hidden:
        amount = replace(amount, most=most + kept)
    timeline = [Moment(at, min(_resident_growth(resident, start.resident), most), None) for at, resident in samples]
    return Ledger(
        device="host",
        total=None,
        peak=(amount,),
        timeline=Timeline.of(
            [Moment(0.0, 0, None), *timeline, Moment(seconds, min(_resident_growth(last, start.resident), most), None)]
        ),
        source=f"growth of resident memory, 0 where it was below, {sampled_every(seconds, len(samples))}",
        note=_lingering_note(kept) if hidden else "",
        start=start.resident,
        how="sampled" if start.refusal else "measured",
    )


class ResidentGrowth:
    """The growth of the resident memory from the making of this object on, for when there is no call to measure."""

    def __init__(self) -> None:
        with _resident() as read:
            self._start = _resident_at_start(read)

    def ledger(self) -> Ledger:
        """Return the most that came on top until now."""
        start = self._start
        try:
            with _resident() as read:
                peak = read() if start.refusal else _resident_counter("VmHWM")
        except _UNREADABLE as error:
            return _unknown_resident(_reason(error))
        if start.resident is None:
            return _unknown_resident(start.refusal)
        source = _EXACT if not start.refusal else f"resident now: no counter of the peak can be reset ({start.refusal})"
        return Ledger(
            "host", None, (Amount("in use", _resident_growth(peak, start.resident), source),), start=start.resident
        )


def larger_of_pairs(values: Sequence[int]) -> list[int]:
    """Return for each two neighbours the index of the larger value: half as many, and the largest among them."""
    last = len(values) - 1
    return [i if i == last or values[i] >= values[i + 1] else i + 1 for i in range(0, len(values), 2)]


def sampled_every(seconds: float, samples: int) -> str:
    """Return how often samples were taken, in words."""
    if not samples:
        return "read at the start and at the end only"
    return f"sampled every {in_words(seconds / (samples + 1))}"


class _ResidentSampler:
    """A thread that reads the resident memory from `begin` on, until the context is left.

    Two arrays of a fixed size take the samples: a list that grows would itself be growth. When they are full, the
    larger of each two samples stays, and the interval doubles. `taken` is how many samples there were.
    """

    def __init__(self, read: Callable[[], int], interval: float = _INTERVAL, most: int = MOST_KEPT - 2) -> None:
        self.taken = 0
        self._read = read
        self._interval = interval
        self._seconds = array("d", bytes(8 * most))
        self._resident = array("q", bytes(8 * most))
        self._count = 0
        self._zero = 0.0
        self._go = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fwmagic resident memory", daemon=True)

    def __enter__(self) -> _ResidentSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._go.set()
        self._thread.join()

    def begin(self) -> None:
        """Let the clock and the samples begin."""
        self._zero = time.perf_counter()
        self._go.set()

    def seconds(self) -> float:
        """Return the seconds since `begin`."""
        return time.perf_counter() - self._zero

    def samples(self, until: float) -> list[tuple[float, int]]:
        """Return the seconds since `begin` and the resident bytes of the samples that were kept."""
        kept = zip(self._seconds[: self._count], self._resident[: self._count], strict=True)
        return [(at, resident) for at, resident in kept if at < until]

    def take(self) -> None:
        """Take one sample."""
        self._seconds[self._count], self._resident[self._count] = self.seconds(), self._read()
        self._count += 1
        self.taken += 1
        if self._count == len(self._seconds):
            kept = larger_of_pairs(self._resident)
            for to, index in enumerate(kept):
                self._seconds[to], self._resident[to] = self._seconds[index], self._resident[index]
            self._count = len(kept)
            self._interval *= 2

    def _run(self) -> None:
        # A reading that fails later on leaves a shorter timeline; the caller's own readings say what is wrong.
        with suppress(*_UNREADABLE):
            self._read()  # what a first reading allocates must not fall into the call
            self._go.wait()
            while not self._stop.wait(self._interval):
                self.take()


@contextmanager
def _resident() -> Iterator[Callable[[], int]]:
    """Give a function that returns the resident bytes of this process: from an open file on Linux, else psutil's."""
    try:
        file = _STATM.open("rb", buffering=0)
    except OSError:
        yield lambda: int(psutil.Process().memory_info().rss)
        return
    with file:
        descriptor = file.fileno()
        yield lambda: int(os.pread(descriptor, 128, 0).split()[1]) * mmap.PAGESIZE


def _resident_at_start(read: Callable[[], int]) -> _ResidentStart:
    """Reset the counter of the peak and read what is resident; a counter that was reset shows just that."""
    try:
        return _ResidentStart(_reset_resident_peak())
    except _UNREADABLE as error:
        refusal = _reason(error)
    try:
        return _ResidentStart(read(), refusal)
    except _UNREADABLE as error:
        return _ResidentStart(None, _reason(error))


def _reset_resident_peak() -> int:
    before = _resident_counter("VmHWM")
    # Not a file that opening would make where there is none.
    with os.fdopen(os.open(_CLEAR_REFS, os.O_WRONLY), "wb", buffering=0) as file:
        file.write(_RESET_THE_PEAK)
    after = _resident_counter("VmHWM")
    if after == before and after > _resident_counter("VmRSS") + _SLACK:
        raise ValueError(f"{_CLEAR_REFS} was written, but VmHWM stays as it was")
    return after


def _resident_counter(name: str) -> int:
    """Return a counter of /proc/self/status in bytes."""
    for line in _STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024  # Linux says kB and means KiB
    raise ValueError(f"{_STATUS} has no {name}")


def _resident_growth(resident: int, start: int) -> int:
    return max(0, resident - start)


def _lingering_note(count: int) -> str:
    return f"without and with {size(count)} that the C library had kept of freed memory"


def _unknown_resident(reason: str) -> Ledger:
    why = f"the resident memory of this process cannot be read: {reason}"
    return Ledger(device="host", total=None, peak=(Amount("in use", None, why=why),))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return one_line(str(error)) or type(error).__name__
