"""The C library's allocator: what was freed goes back to the system, or is known to stay."""

from __future__ import annotations

import ctypes
import gc
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# glibc's numbers for the size from which on a block is mapped on its own, and for that from which on the free end of a
# heap goes back; and the size that both are set to.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_MAPPED_FROM = 1 << 16
# A heap begins with 132 KiB, most of which nobody has written yet: so little at its end is not known to be resident.
_LEAST = 1 << 18
# Other C libraries lack functions of glibc, and Windows has no handle of the whole process.
_NO_GLIBC = (AttributeError, OSError, TypeError)


def settle() -> None:
    """Give back what was freed: else it stays resident, the next call takes it first, and shows that much less growth.

    Runs Python's garbage collector, and `malloc_trim(0)` where the C library is glibc.
    """
    gc.collect()
    with suppress(*_NO_GLIBC):
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Collect all garbage, and let each collection inside look only at objects that were made inside.

    With the frameworks imported, a full collection takes 0.1 s, and each `settle` would repeat it. What is frozen
    already (see `gc.freeze`) is the user's doing, and cannot be told apart afterwards: then nothing is frozen here.
    """
    gc.collect()
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def lingering() -> int:
    """Return how many bytes are free and may be resident all the same after `settle`; 0: none that are known of.

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


def _free_at_the_end(heap: ET.Element) -> int:
    """Return all that is free in a heap, but for the gaps between blocks: their pages were given back."""
    free = sum(int(total.get("size", 0)) for total in heap.findall("total") if total.get("type") == "rest")
    return max(0, free - sum(int(gap.get("total", 0)) for gap in heap.iterfind("sizes/*")))
