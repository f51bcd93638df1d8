"""JAX arrays on their way to another process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fwmagic.frameworks import LEAST_PACKED


def pack(value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Return how to rebuild an array of numbers that is on one device, its numbers put in `slot`; else None."""
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer) or value.is_deleted():
        return None
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or len(value.devices()) != 1 or value.weak_type:
        return None
    numbers = np.asarray(value)
    (device,) = value.devices()
    place = (device.platform, device.id) if getattr(value, "committed", False) else None
    return _array, (slot(numbers) if numbers.nbytes >= LEAST_PACKED else numbers, place)


def _array(numbers: Any, place: tuple[str, int] | None) -> Any:
    if place is None:
        return jnp.array(numbers)
    platform, number = place
    device = next(one for one in jax.devices(platform) if one.id == number)
    return jax.device_put(np.array(numbers), device)
