"""All arrays of JAX that are alive, and the memory that each keeps."""

from __future__ import annotations

import math
import sys
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import jax
import jax.extend.backend


def live() -> list[Any]:
    """Return every array of every backend that was not deleted; none while JAX has not been used, to start nothing."""
    # There is no public way to ask, and every other question starts the backends: a GPU's takes most of its memory.
    ask = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    if ask is not None and not ask():
        return []
    arrays = {id(array): array for platform in jax.extend.backend.backends() for array in jax.live_arrays(platform)}
    return [array for array in arrays.values() if not array.is_deleted()]


def memory_of(array: Any) -> tuple[Hashable, int]:
    """Return an identity and the bytes of the memory that an array keeps alive, on all devices of this process.

    It is the address; waits until the array has one. An array on several devices is its own identity: a piece
    that was taken out of it, by `addressable_shards`, counts once more.
    """
    itself = ("object", id(array))
    if array.is_deleted():
        return itself, 0
    if len(array.sharding.device_set) > 1:
        piece = math.prod(array.sharding.shard_shape(array.shape)) * array.dtype.itemsize
        return itself, piece * len(array.sharding.addressable_devices)
    try:
        return array.unsafe_buffer_pointer(), int(array.nbytes)
    except (RuntimeError, NotImplementedError):  # its computation has failed, or the device has no addresses
        return itself, int(array.nbytes)


def size_of(array: Any) -> int:
    """Return the bytes that the array itself shows of its memory: all, since JAX has no views."""
    return memory_of(array)[1]


def describe(array: Any) -> tuple[str, str]:
    """Return dtype and shape, `float32 (3, 4)`, and the device or devices."""
    devices = sorted(f"{device.platform}:{device.id}" for device in array.sharding.device_set)
    where = ", ".join(devices) if len(devices) < 3 else f"{len(devices)} devices from {devices[0]}"
    return f"{array.dtype} {tuple(array.shape)}", where


def inside(array: Any) -> Iterable[tuple[str, Any]]:
    """Return nothing: an array holds no other objects."""
    return ()


def graphs(arrays: Sequence[Any]) -> Iterable[tuple[int, Any]]:
    """Return nothing: JAX keeps what a gradient needs in functions, where it is found like anything else."""
    return ()
