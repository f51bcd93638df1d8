"""Saving JAX arrays, and packing them for another process."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any

import jax
import jax.experimental
import jax.numpy as jnp
import numpy as np

from fwmagic.frameworks import Kept
from fwmagic.frameworks.arrays import Roundings
from fwmagic.libraries import module_of

_JITTED = type(jax.jit(lambda: None))
# Containers and functions of users that JAX gives a class of its own.
_OPEN = (functools.partial, tuple, list, dict)


class _JaxArray:
    """An array: there is nothing to copy, and nothing to put back once it has been donated."""

    def __init__(self, array: jax.Array) -> None:
        self._array = array
        self._was_deleted = array.is_deleted()

    @property
    def deleted(self) -> bool:
        return self._array.is_deleted() and not self._was_deleted

    def changed(self) -> bool:
        return self.deleted

    def restore(self) -> None:
        """Do nothing: a deleted array cannot be had back, and `deleted` says so."""

    def children(self) -> Iterator[Any]:
        return iter(())


class _JaxRef:
    """A mutable array, from `jax.new_ref`; reading it gives an array that is a copy."""

    def __init__(self, ref: Any) -> None:
        self._ref = ref
        self._saved = ref[...]

    def changed(self) -> bool:
        now, saved = (np.asarray(jax.random.key_data(v) if _is_key(v) else v) for v in (self._ref[...], self._saved))
        return now.tobytes() != saved.tobytes()

    def restore(self) -> None:
        self._ref[...] = self._saved

    def children(self) -> Iterator[Any]:
        return iter(())


def _is_key(value: jax.Array) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_plain(value: Any) -> bool:
    """Say whether it is an array itself; a typed key is an array by its class, and has another one inside."""
    return isinstance(value, jax.Array) and not _is_key(value)


def keep(value: Any) -> Kept | None:
    """Save an array or a Ref; None if it is neither, or a tracer."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array):
        return _JaxArray(value)
    return _JaxRef(value) if isinstance(value, _ref_type()) else None


def _ref_type() -> Any:
    # Before JAX 0.7.1 or so a Ref went by another name.
    return getattr(jax, "Ref", None) or getattr(jax.experimental, "MutableArray", ())


def is_stateless(value: Any) -> bool:
    """Say whether it is a device, a sharding, a jitted function, a tracer or another object of JAX's own."""
    if isinstance(value, jax.core.Tracer):
        return True
    package = module_of(type(value)).partition(".")[0]
    return package in ("jax", "jaxlib") and not isinstance(value, (*_OPEN, jax.Array))


def may_donate(value: Any) -> bool:
    """Say whether it is a compiled function that donates arguments: which ones, JAX tells only for given ones."""
    if isinstance(value, jax.stages.Compiled):
        return bool(value.donate_argnums)
    if not isinstance(value, _JITTED):
        return False
    asked = getattr(value, "_jit_info", None)  # no public name tells; where this is gone, each of them may
    return asked is None or bool(asked.donate_argnums or asked.donate_argnames)


def forgetting(value: Any) -> Callable[[], None] | None:
    """Return what makes a jitted function forget what it compiles; None if it has compiled something, or hides it."""
    size = getattr(value, "_cache_size", None) if isinstance(value, _JITTED) else None
    if size is None or size():
        return None
    forget: Callable[[], None] = value.clear_cache
    return forget


def spare(value: Any) -> Any:
    """Return a copy of an array, in memory of its own, that is there already."""
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer) or value.is_deleted():
        return None
    return jax.block_until_ready(jax.device_put(value, may_alias=False))  # unlike `jnp.copy`, it compiles nothing


def nudge(arrays: Sequence[Any], roundings: Roundings) -> dict[int, Any]:
    """Return arrays like those of floats, changed by about one rounding each, by the `id` of these."""
    floats = [one for one in arrays if isinstance(one, jax.Array) and one.dtype.name in ("float32", "float64")]
    return {
        id(one): jax.device_put(roundings.off(np.asarray(one)), one.sharding)
        for one in floats
        if not isinstance(one, jax.core.Tracer) and not one.is_deleted()
    }


def describe(array: Any) -> str:
    """Return dtype, weak type, shape and device: `float32[3, 4] TFRT_CPU_0`."""
    weak = " weak" if getattr(array, "weak_type", False) else ""
    return f"{array.dtype}{list(array.shape)}{weak} {array.sharding}"


def pack(value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
    """Return how to rebuild an array of numbers that is on one device, its numbers put in `slot`; else None.

    A jitted function would leave its attributes behind, the function that it is made of among them.
    """
    if isinstance(value, _JITTED):
        reduced: Any = value.__reduce_ex__(5)
        make, arguments, inside, *_ = reduced
        return make, arguments, (inside, vars(value)), None, None, _set_up_jitted
    if not isinstance(value, jax.Array) or isinstance(value, jax.core.Tracer) or value.is_deleted():
        return None
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) or len(value.devices()) != 1 or value.weak_type:
        return None
    numbers = np.asarray(value)
    (device,) = value.devices()
    place = (device.platform, device.id) if getattr(value, "committed", False) else None
    return _array, (slot(numbers), place)


def _set_up_jitted(made: Any, state: tuple[Any, Mapping[str, Any]]) -> None:
    inside, attributes = state
    made.__setstate__(inside)
    vars(made).update(attributes)


def _array(numbers: Any, place: tuple[str, int] | None) -> Any:
    if place is None:
        return jnp.array(numbers)
    platform, number = place
    device = next(one for one in jax.devices(platform) if one.id == number)
    return jax.device_put(np.array(numbers), device)


def registered(kind: type) -> Any:
    """Return how a class is registered as a tree of JAX, and with flax, for another process; None if it is not.

    No public name tells; where these are gone, the class is sent as it is.
    """
    tree = _registry().get(kind)
    states = getattr(sys.modules.get("flax.serialization"), "_STATE_DICT_REGISTRY", {}).get(kind)
    return None if tree is None and states is None else (tree and _how_registered(kind, *tree), states)


def _how_registered(kind: type, flatten: Any, unflatten: Any) -> tuple[Any, ...]:
    """Return what follows the class where it is registered: the names of fields, or functions."""
    held = inspect.getclosurevars(flatten).nonlocals if isinstance(flatten, FunctionType) else {}
    if {"data_fields", "meta_fields"} <= held.keys():
        names = held["data_fields"] + held["meta_fields"]
        fields = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
        return held["data_fields"], held["meta_fields"], [name for name in fields if name not in names]
    keyed = operator.methodcaller("tree_flatten_with_keys") if hasattr(kind, "tree_flatten_with_keys") else None
    return flatten, unflatten, held.get("flatten_with_keys", keyed)


def _registry() -> Mapping[type, Any]:
    return getattr(sys.modules.get("jax._src.tree_util"), "_registry", {})


def register(kind: type, how: Any) -> None:
    """Register a class as `registered` has found it elsewhere, but for what its own bases have registered."""
    tree, states = how
    if tree is not None and kind not in _registry():
        enter = jax.tree_util.register_dataclass if isinstance(tree[0], tuple) else jax.tree_util.register_pytree_node
        enter(kind, *tree)
    if states is not None:
        serialization = importlib.import_module("flax.serialization")
        serialization.register_serialization_state(kind, *states, override=True)
