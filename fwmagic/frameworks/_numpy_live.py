"""The memory that a NumPy array keeps alive, and what it holds."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np


def live() -> list[Any]:
    """Return nothing: nobody keeps a list of NumPy's arrays, so that only those that are reached can be told."""
    return []


def memory_of(array: Any) -> tuple[Hashable, int]:
    """Return an identity, the address, and the bytes of the memory that an array keeps alive: a view's is all of it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.__array_interface__["data"][0], int(array.nbytes)


def size_of(array: Any) -> int:
    """Return the bytes that the array itself shows of its memory."""
    return int(array.nbytes)


def describe(array: Any) -> tuple[str, str]:
    """Return dtype and shape, `float32 (3, 4)`, and `cpu`."""
    return f"{array.dtype} {tuple(array.shape)}", "cpu"


def inside(array: Any) -> Iterable[tuple[str, Any]]:
    """Return what an array holds: the object whose memory it shows, its elements and attributes."""
    held = [(f".{name}", value) for name, value in getattr(array, "__dict__", {}).items()]
    if array.base is not None and not isinstance(array.base, np.ndarray):
        held.append((".base", array.base))
    if array.dtype.type is np.object_:
        plain = np.asarray(array)
        held += [(f"[{', '.join(map(str, index))}]", plain[index]) for index in np.ndindex(plain.shape)]
    return held


def graphs(arrays: Sequence[Any]) -> Iterable[tuple[int, Any]]:
    """Return nothing: NumPy has no gradients."""
    return ()
