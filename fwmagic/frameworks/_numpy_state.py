"""Saving and putting back NumPy arrays and random generators."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fwmagic.frameworks import Kept

_GENERATORS = (
    np.random.Generator,
    np.random.BitGenerator,
    np.random.RandomState,
    np.random.SeedSequence,
)


class _Array:
    """The contents, shape, dtype and write flag of an array; a view leaves its contents to the array it looks into."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array
        self._base = array.base if isinstance(array.base, np.ndarray) else None
        self._form = _form(array)
        self._saved = None if self._base is not None else _contents(array)

    def changed(self) -> bool:
        if _form(self._array) != self._form:
            return True
        return self._saved is not None and not _equal(self._saved, _contents(self._array, copy=False))

    def restore(self) -> None:
        array, (shape, dtype, writeable) = self._array, self._form
        if not array.flags.writeable:
            array.flags.writeable = True
        with warnings.catch_warnings():
            # NumPy 2.5 would rather make another array; this one has to be as it was.
            warnings.filterwarnings("ignore", "Setting the", DeprecationWarning)
            if array.dtype != dtype:
                array.dtype = dtype  # type: ignore[misc]
            if array.shape != shape:
                if self._base is None:
                    array.resize(shape, refcheck=False)
                else:
                    array.shape = shape
        if self._saved is not None:
            _fill(array, self._saved)
        if array.flags.writeable != writeable:
            array.flags.writeable = writeable

    def children(self) -> Iterator[Any]:
        if self._base is not None:
            yield self._base
        if self._saved is not None and self._array.dtype.hasobject:
            yield self._saved.tolist()
        yield getattr(self._array, "__dict__", {})


def _form(array: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    return array.shape, array.dtype, array.flags.writeable


def _contents(array: np.ndarray[Any, Any], *, copy: bool = True) -> np.ndarray[Any, Any]:
    """Return the contents as a flat array of bytes (padding included), or of objects where there are any."""
    plain = np.asarray(array)
    if not plain.dtype.hasobject and plain.dtype.itemsize:
        plain = plain.ravel(order="A" if plain.flags.forc else "C").view(np.uint8)
    return plain.copy() if copy else plain


def _equal(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    if left.dtype.hasobject:
        return all(map(_identical, left.ravel().tolist(), right.ravel().tolist()))
    return bool(np.array_equal(left, right))


def _identical(left: Any, right: Any) -> bool:
    """Compare the elements of an object array by identity, those of a structured one field by field."""
    if isinstance(left, tuple) and isinstance(right, tuple) and left is not right:
        return len(left) == len(right) and all(map(_identical, left, right))
    return left is right or (type(left) in (int, float, str, bytes, bool) and repr(left) == repr(right))


def _fill(array: np.ndarray[Any, Any], saved: np.ndarray[Any, Any]) -> None:
    plain = np.asarray(array)
    if plain.flags.forc and not plain.dtype.hasobject and plain.dtype.itemsize:
        plain.ravel(order="A").view(np.uint8)[:] = saved
    elif plain.dtype.hasobject or not plain.dtype.itemsize:
        plain[...] = saved
    else:  # strided in a buffer that is no array
        plain[...] = np.ndarray(plain.shape, plain.dtype, saved.tobytes(), order="C")


class _Generator:
    """The state of a random generator."""

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], object], children: tuple[Any, ...]) -> None:
        self._get, self._put, self._children = get, put, children
        self._saved = get()

    def changed(self) -> bool:
        return not _same_state(self._saved, self._get())

    def restore(self) -> None:
        self._put(self._saved)

    def children(self) -> Iterator[Any]:
        yield from self._children


def _same_state(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_same_state(left[key], right[key]) for key in left)
    return bool(np.array_equal(left, right))


def keep(value: Any) -> Kept | None:
    """Save an array or a random generator; None if it is neither."""
    if isinstance(value, np.ndarray):
        return _Array(value)
    if isinstance(value, np.random.Generator):
        return _keep_bits(value.bit_generator)
    if isinstance(value, np.random.BitGenerator):
        return _keep_bits(value)
    if isinstance(value, np.random.RandomState):
        return _Generator(lambda: value.get_state(legacy=False), value.set_state, ())
    if isinstance(value, np.random.SeedSequence):
        # Its state cannot be set, so it is made again in place; `spawn` counts in it.
        return _Generator(lambda: value.state, lambda state: type(value).__init__(value, **state), ())
    return None


def _keep_bits(bits: np.random.BitGenerator) -> Kept:
    def put(state: Any) -> None:
        bits.state = state

    return _Generator(lambda: bits.state, put, (bits.seed_seq,))


def is_array(value: Any) -> bool:
    """Say whether it is a NumPy array; a NumPy scalar is a plain value."""
    return isinstance(value, np.ndarray)


def is_stateless(value: Any) -> bool:
    """Say whether it is a dtype, a scalar, a universal function or the like."""
    if isinstance(value, (*_GENERATORS, np.ndarray)) or hasattr(value, "__next__"):
        return False
    return isinstance(value, np.generic | np.dtype) or type(value).__module__.partition(".")[0] == "numpy"


def describe(array: Any) -> str:
    """Return dtype and shape: `float32[3, 4] cpu`."""
    return f"{array.dtype}{list(array.shape)} cpu"


def rng_state() -> Any:
    """Return the state of the generator behind `np.random.rand` and its like."""
    return np.random.get_state(legacy=False)


def set_rng_state(state: Any) -> None:
    """Put a state from `rng_state` back."""
    np.random.set_state(state)


def seed(seed: int) -> None:
    """Seed the generator behind `np.random.rand` and its like; it takes 32 bits."""
    np.random.seed(seed % 2**32)
