"""NumPy as a framework: nothing is compiled, nothing is asynchronous, everything is on the CPU."""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fwmagic.frameworks import Framework, Kept, same_state
from fwmagic.frameworks.arrays import Roundings, aligned_copy
from fwmagic.frameworks.memory import Memory
from fwmagic.libraries import module_of

# threadpoolctl sets this when it is imported, and the environment is the user's.
_SET_BY_IMPORT = "KMP_DUPLICATE_LIB_OK"
_before = os.environ.get(_SET_BY_IMPORT)
from threadpoolctl import threadpool_info, threadpool_limits  # noqa: E402

if _before is None:
    os.environ.pop(_SET_BY_IMPORT, None)


# State


class _NumPyArray:
    """The contents, shape, dtype, names of fields and write flag of an array.

    A view leaves its contents to the array it looks into.
    """

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array
        self._base = array.base if isinstance(array.base, np.ndarray) else None
        self._form = _array_form(array)
        self._fields = _fields_of(array.dtype)
        self._saved = None if self._base is not None or _is_fixed(array) else _array_contents(array)

    def changed(self) -> bool:
        if _array_form(self._array) != self._form or any(dtype.names != names for dtype, names in self._fields):
            return True
        return self._saved is not None and not _equal_arrays(self._saved, _array_contents(self._array, copy=False))

    def restore(self) -> None:
        array, (shape, dtype, writeable) = self._array, self._form
        if not array.flags.writeable:
            array.flags.writeable = True
        with warnings.catch_warnings():
            # NumPy 2.5 would rather make another array; this one has to be as it was.
            warnings.filterwarnings("ignore", "Setting the", DeprecationWarning)
            if array.dtype != dtype:
                array.dtype = dtype  # type: ignore[misc]
            for one, names in self._fields:
                one.names = names
            if array.shape != shape:
                if self._base is None:
                    array.resize(shape, refcheck=False)
                else:
                    array.shape = shape
        if self._saved is not None:
            _fill_array(array, self._saved)
        if array.flags.writeable != writeable:
            array.flags.writeable = writeable

    def children(self) -> Iterator[Any]:
        if self._base is not None:
            yield self._base
        if self._saved is not None and self._array.dtype.hasobject:
            yield self._saved.tolist()
        yield getattr(self._array, "__dict__", {})


def _is_fixed(array: np.ndarray[Any, Any]) -> bool:
    """Say whether nobody can write to the memory of an array, as where it is a file that may be larger than memory."""
    return isinstance(array.base, mmap.mmap) and memoryview(array.base).readonly


def _array_form(array: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    return array.shape, array.dtype, array.flags.writeable


def _fields_of(dtype: np.dtype[Any]) -> list[tuple[np.dtype[Any], tuple[str, ...]]]:
    """Return a dtype with fields, and those inside of it, each with the names that it gives them: these can change."""
    if dtype.names is None:
        return []
    inside = [one for name in dtype.names for one in _fields_of(dtype[name].base)]
    return [(dtype, dtype.names), *inside]


def _array_contents(array: np.ndarray[Any, Any], *, copy: bool = True) -> np.ndarray[Any, Any]:
    """Return the contents as a flat array of bytes (padding included), or of objects where there are any."""
    plain = np.asarray(array)
    if not plain.dtype.hasobject and plain.dtype.itemsize:
        plain = plain.ravel(order="A" if plain.flags.forc else "C").view(np.uint8)
    return plain.copy() if copy else plain


_PART = 2**18


def _equal_arrays(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    if left.dtype.hasobject:
        return all(map(_identical_elements, left.ravel().tolist(), right.ravel().tolist()))
    if left.shape != right.shape or left.ndim != 1:
        return bool(np.array_equal(left, right))
    # A part at a time: what NumPy makes of a comparison is as large as the arrays.
    return all(np.array_equal(left[i : i + _PART], right[i : i + _PART]) for i in range(0, len(left), _PART))


def _identical_elements(left: Any, right: Any) -> bool:
    """Compare the elements of an object array by identity, those of a structured one field by field."""
    if isinstance(left, tuple) and isinstance(right, tuple) and left is not right:
        return len(left) == len(right) and all(map(_identical_elements, left, right))
    return left is right or (type(left) in (int, float, str, bytes, bool) and repr(left) == repr(right))


def _fill_array(array: np.ndarray[Any, Any], saved: np.ndarray[Any, Any]) -> None:
    plain = np.asarray(array)
    if plain.flags.forc and not plain.dtype.hasobject and plain.dtype.itemsize:
        plain.ravel(order="A").view(np.uint8)[:] = saved
    elif plain.dtype.hasobject or not plain.dtype.itemsize:
        plain[...] = saved
    else:  # strided in a buffer that is no array
        plain[...] = np.ndarray(plain.shape, plain.dtype, saved.tobytes(), order="C")


class _NumPyGenerator:
    """The state of a random generator."""

    def __init__(self, get: Callable[[], Any], put: Callable[[Any], object], children: tuple[Any, ...]) -> None:
        self._get, self._put, self._children = get, put, children
        self._saved = get()

    def changed(self) -> bool:
        return not same_state(self._saved, self._get())

    def restore(self) -> None:
        self._put(self._saved)

    def children(self) -> Iterator[Any]:
        yield from self._children


# A flag of types that a `class` statement has made: a polynomial can be changed, a universal function cannot.
_IN_PYTHON = 1 << 9
_GENERATORS = (
    np.random.Generator,
    np.random.BitGenerator,
    np.random.RandomState,
    np.random.SeedSequence,
)


def _keep_bit_generator(bits: np.random.BitGenerator) -> Kept:
    def put(state: Any) -> None:
        bits.state = state

    return _NumPyGenerator(lambda: bits.state, put, (bits.seed_seq,))


# Memory


class _NumPyMemory(Memory):
    """Nobody keeps a list of NumPy's arrays, so that only those that are reached can be told."""

    def memory_of(self, array: Any) -> tuple[Hashable, int]:
        """Return the address and the bytes of the memory that an array keeps alive: a view's is all of it."""
        while isinstance(array.base, np.ndarray):
            array = array.base
        return array.__array_interface__["data"][0], int(array.nbytes)

    def size_of(self, array: Any) -> int:
        """Return the bytes that the array itself shows of its memory."""
        return int(array.nbytes)

    def label(self, array: Any) -> tuple[str, str]:
        """Return dtype and shape, and `cpu`."""
        return f"{array.dtype} {tuple(array.shape)}", "cpu"

    def inside(self, array: Any) -> Iterable[tuple[str, Any]]:
        """Return what an array holds: the object whose memory it shows, its elements and attributes."""
        held = [(f".{name}", value) for name, value in getattr(array, "__dict__", {}).items()]
        if array.base is not None and not isinstance(array.base, np.ndarray):
            held.append((".base", array.base))
        if array.dtype.type is np.object_:
            plain = np.asarray(array)
            held += [(f"[{', '.join(map(str, index))}]", plain[index]) for index in np.ndindex(plain.shape)]
        return held


# The face


class NumPy(Framework):
    """The adapter of NumPy."""

    name = "numpy"
    title = "NumPy"
    module = "numpy"
    colour = "#009E73"
    has_views = True
    is_plain = True
    effects = ("np.save", "np.savez", "numpy.save")
    memory = _NumPyMemory()

    def names(self) -> Mapping[str, Any]:
        """Return `np`."""
        return {"np": np}

    def is_array(self, value: Any) -> bool:
        """Say whether it is an array; a NumPy scalar is none, but a plain value."""
        return isinstance(value, np.ndarray)

    def from_numpy(self, array: np.ndarray[Any, Any], device: str | None) -> Any:
        """Return a copy."""
        self.device(device)
        return aligned_copy(array)

    def from_memory(
        self, block: np.ndarray[Any, Any], views: Sequence[np.ndarray[Any, Any]], device: str | None
    ) -> list[Any]:
        """Return the views themselves."""
        self.device(device)
        return [*views]

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Return the array itself."""
        return np.asarray(array)

    def nudge(self, arrays: Sequence[Any], roundings: Roundings) -> dict[int, Any]:
        """Change them in place, but for single numbers."""
        for array in arrays:
            if not isinstance(array, np.ndarray) or (roundings.computes and array.base is not None):
                continue
            if array.dtype.kind == "f" and array.flags.writeable:
                array[...] = roundings.off(array)
        return {id(one): roundings.off(one) for one in arrays if isinstance(one, np.floating)}

    def describe(self, array: Any) -> str:
        """Return dtype, shape and device: `float32[3, 4] cpu`."""
        return f"{array.dtype}{list(array.shape)} cpu"

    def keep(self, value: Any) -> Kept | None:
        """Save an array or a random generator; None if it is neither."""
        if isinstance(value, np.ndarray):
            return _NumPyArray(value)
        if isinstance(value, np.random.Generator):
            return _keep_bit_generator(value.bit_generator)
        if isinstance(value, np.random.BitGenerator):
            return _keep_bit_generator(value)
        if isinstance(value, np.random.RandomState):
            return _NumPyGenerator(lambda: value.get_state(legacy=False), value.set_state, ())
        if isinstance(value, np.random.SeedSequence):
            # Its state cannot be set, so it is made again in place; `spawn` counts in it.
            return _NumPyGenerator(lambda: value.state, lambda state: type(value).__init__(value, **state), ())
        return None

    def is_stateless(self, value: Any) -> bool:
        """Say whether it is a dtype, a scalar, a universal function or the like, and of no class written in Python."""
        if isinstance(value, (*_GENERATORS, np.ndarray)) or hasattr(type(value), "__next__"):
            return False
        is_of_numpy = module_of(type(value)).partition(".")[0] == "numpy" and not type(value).__flags__ & _IN_PYTHON
        return isinstance(value, np.generic | np.dtype) or is_of_numpy

    def rng_state(self) -> Any:
        """Return the state of the generator behind `np.random.rand` and its like."""
        return np.random.get_state(legacy=False)

    def set_rng_state(self, state: Any) -> None:
        """Put a state from `rng_state` back."""
        np.random.set_state(state)

    def seed(self, seed: int) -> None:
        """Seed that generator; it takes 32 bits."""
        np.random.seed(seed % 2**32)

    def flags(self) -> dict[str, Any]:
        """Return how errors are handled and arrays are printed."""
        return {"errors": np.geterr(), "told": np.geterrcall(), "print": np.get_printoptions()}

    def set_flags(self, flags: Mapping[str, Any]) -> None:
        """Put these back."""
        np.seterr(**flags["errors"])
        if "told" in flags:  # to another process it need not go along
            np.seterrcall(flags["told"])
        if np.get_printoptions() != flags["print"]:
            np.set_printoptions(**flags["print"])

    def threads(self) -> str:
        """Return the size of the pool of the library that linear algebra runs on."""
        sizes = {f"{pool['num_threads']} ({pool['internal_api']})" for pool in _blas_pools()}
        return ", ".join(sorted(sizes)) or "unknown"

    def use_threads(self, count: int) -> None:
        """Give that pool so many threads."""
        threadpool_limits(count, user_api="blas")

    def settings(self) -> dict[str, str]:
        """Return the libraries that linear algebra runs on."""
        config: Any = np.show_config(mode="dicts")
        libraries = config["Build Dependencies"]
        return {name: libraries[name]["name"] for name in ("blas", "lapack") if name in libraries}

    def pack(self, value: Any, slot: Callable[[Any], Any]) -> tuple[Any, ...] | None:
        """Return how to rebuild an array of numbers, or of text, in another process."""
        if type(value) is not np.ndarray or value.dtype.hasobject or not value.nbytes:
            return None
        turned = value.flags.f_contiguous and not value.flags.c_contiguous
        return _unpacked, (slot(value.T if turned else value), turned, value.flags.writeable)


def _blas_pools() -> list[dict[str, Any]]:
    """Return what is known of the pools of the BLAS libraries in this process."""
    pools: list[dict[str, Any]] = threadpool_info()
    return [pool for pool in pools if pool["user_api"] == "blas"]


def _unpacked(numbers: Any, turned: bool, writeable: bool) -> Any:
    turned_back = numbers.T if turned else numbers
    array = turned_back if numbers.flags.writeable else turned_back.copy(order="F" if turned else "C")
    array.setflags(write=writeable)
    return array


FRAMEWORK: Framework = NumPy()
