"""Objects on their way to another process: one pickle, and beside it the numbers of big arrays, in a memory map."""

from __future__ import annotations

import bisect
import io
import mmap
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import cloudpickle

from fwmagic import frameworks
from fwmagic.errors import FwMagicError, message_of
from fwmagic.frameworks import Framework
from fwmagic.frameworks.arrays import aligned_copy, memory_between, sharing

if TYPE_CHECKING:
    import numpy as np

# Arrays begin at multiples of this many bytes, as the frameworks' own allocators place them.
_ALIGNMENT = 64


@dataclass(frozen=True)
class ParcelAddress:
    """Where a parcel lies: a file that is open in the process that sent it, and where in it the pickle is."""

    path: str
    start: int
    size: int


@dataclass(frozen=True)
class _ParcelSlot:
    """Where in a parcel the numbers of an array are.

    Those that share memory are views of one block of it: `block` is where that begins and ends, and `offset` and
    `strides` are those of the view in it.
    """

    offset: int
    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    block: tuple[int, int] | None = None

    def view(self, memory: Any) -> np.ndarray[Any, Any]:
        """Return the array as a view of memory in which it is."""
        import numpy as np

        return np.ndarray(self.shape, self.dtype, memory, self.offset, self.strides)

    def as_id(self) -> tuple[Any, ...]:
        """Return what stands for the slot in a pickle."""
        return self.offset, self.dtype, self.shape, self.strides, self.block


_Placed: TypeAlias = "tuple[_ParcelSlot, np.ndarray[Any, Any]]"


class Parcel:
    """Objects packed for another process, which reads them by `unpack_parcel(parcel.address)`; closing frees memory.

    All objects are in one pickle, so that what is one object here is one object there, and arrays that look into one
    memory here, of whatever frameworks on the CPU, do so there. Functions whose globals are `namespace` get the other
    process's for theirs. On Linux the memory has no name in the file system, so that nothing can be left behind.

    What cannot be sent is taken out of the dictionaries in `spare`; `left_out` has, for each of these, the sentences on
    such names.

    Raises
    ------
    FwMagicError
        An object cannot be sent; says which.
    """

    def __init__(
        self,
        values: dict[str, Any],
        frameworks: Sequence[Framework],
        namespace: dict[str, Any] | None = None,
        spare: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.left_out: list[dict[str, str]] = [{} for _ in spare]
        self._spare = spare
        self._frameworks = frameworks
        self._namespace = {} if namespace is None else namespace
        self._file = _ParcelFile()
        try:
            self.address = self._write(values)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the memory; what another process has unpacked is its own."""
        self._file.close()

    def __enter__(self) -> Parcel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, values: dict[str, Any]) -> ParcelAddress:
        pickled, arrays, start = self._pickled(values)
        with self._file.mapped(start + len(pickled)) as memory:
            for slot, array in arrays:
                slot.view(memory)[...] = array
            memory[start : start + len(pickled)] = pickled
        return ParcelAddress(self._file.path, start, len(pickled))

    def _pickled(self, values: dict[str, Any]) -> tuple[bytes, list[_Placed], int]:
        """Return the pickle, the arrays with their places before it, and where these end."""
        first = self._tried(values)
        if isinstance(first, BaseException) and self._leave_out():
            first = self._tried(values)
        if isinstance(first, BaseException):
            raise FwMagicError(_unsendable(*(self._culprit(values) or ("something", first)))) from first
        blocks = shared_blocks([array for _, array in first.arrays])
        if not blocks:
            return first.file.getvalue(), first.arrays, first.end
        # The first one is kept meanwhile, so that nothing else gets the addresses of the arrays that it has.
        pickler = self._pickler(blocks)
        pickler.dump(values)
        return pickler.file.getvalue(), pickler.arrays, pickler.end

    def _tried(self, value: Any) -> _ParcelPickler | BaseException:
        """Return the pickler that has packed a value, or what was raised meanwhile."""
        pickler = self._pickler()
        try:
            pickler.dump(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever an object raises when it is pickled
            return error
        return pickler

    def _leave_out(self) -> bool:
        """Take out of the spare names what cannot be sent; say whether there was any."""
        for names, left_out in zip(self._spare, self.left_out, strict=True):
            tried = ((name, self._tried(value)) for name, value in names.items())
            failed = {name: error for name, error in tried if isinstance(error, BaseException)}
            left_out |= {name: _unsendable(name, error) for name, error in failed.items()}
            for name in failed:
                del names[name]
        return any(self.left_out)

    def _culprit(self, values: dict[str, Any]) -> tuple[str, BaseException] | None:
        """Return the first name whose value cannot be pickled by itself, and why; looks into dictionaries of names."""
        for name, value in values.items():
            error = self._tried(value)
            if isinstance(error, BaseException):
                inside = self._culprit(value) if type(value) is dict and all(map(_is_text, value)) else None
                return inside or (name, error)
        return None

    def _pickler(self, blocks: Sequence[tuple[int, int]] = ()) -> _ParcelPickler:
        return _ParcelPickler(self._frameworks, self._namespace, blocks)


def shared_blocks(arrays: Sequence[np.ndarray[Any, Any]]) -> list[tuple[int, int]]:
    """Return where the memory begins and ends that several of the arrays look into, in the order of addresses."""
    import numpy as np

    bounds = ([np.lib.array_utils.byte_bounds(arrays[place]) for place in places] for places in sharing(arrays))
    return [(min(low for low, _ in group), max(high for _, high in group)) for group in bounds]


def unpack_parcel(address: ParcelAddress, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the objects of a parcel; their arrays are in memory of this process's frameworks.

    Functions whose globals were the sender's namespace get `namespace` for theirs.
    """
    own = {} if namespace is None else namespace
    with Path(address.path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        values: dict[str, Any] = _ParcelUnpickler(memory, address, own).load()
    return values


class _ParcelFile:
    """A file for one parcel."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("fwmagic")
            self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        else:
            self._descriptor, self.path = tempfile.mkstemp(prefix="fwmagic-")

    def mapped(self, size: int) -> mmap.mmap:
        os.ftruncate(self._descriptor, size)
        return mmap.mmap(self._descriptor, size)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            if not hasattr(os, "memfd_create"):
                Path(self.path).unlink()


class _ClassPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles classes of the notebook with what frameworks know of them; where they are already, they stay as they are.

    Cloudpickle would give the notebook's own class all attributes anew once an object of it comes back.
    """

    def __init__(self, frameworks: Sequence[Framework], file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.file = file
        self._frameworks = frameworks

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if not issubclass(type(obj), type) or not isinstance(reduced, tuple) or len(reduced) != _WITH_SETTER:
            return reduced
        make, arguments, state, *_, set_state = reduced
        known = {one.name: how for one in self._frameworks if (how := one.registered(obj)) is not None}
        return make, arguments, (state, set_state, known), None, None, _set_up_class


# So many parts has what `__reduce__` returns with a function of its own that sets the state.
_WITH_SETTER = 6


def _set_up_class(made: type, what: tuple[Any, Callable[..., Any], Mapping[str, Any]]) -> None:
    """Give a class that was just made its attributes, and register it with frameworks as it is where it comes from."""
    state, set_state, known = what
    if not state[0].keys() - {"__slotnames__"} <= vars(made).keys():  # pickling an object adds that one
        set_state(made, state)
        for name, how in known.items():
            frameworks.get(name).register(made, how)


def dumps(value: Any) -> bytes:
    """Return the pickle of an object of the notebook, as `pickle.loads` reads it."""
    pickler = _ClassPickler(frameworks.loaded(), io.BytesIO())
    pickler.dump(value)
    return pickler.file.getvalue()


class _ParcelPickler(_ClassPickler):
    """Pickles the notebook's functions by value, and hands arrays to their framework.

    Of those in one of the `blocks` of memory, all of the block is put beside the pickle, once.
    """

    def __init__(
        self, frameworks: Sequence[Framework], namespace: dict[str, Any], blocks: Sequence[tuple[int, int]]
    ) -> None:
        super().__init__(frameworks, io.BytesIO())
        # What cloudpickle takes for the globals of functions from this namespace; it stands for the other process's.
        self._there = {"__name__": "__main__"}
        self.globals_ref[id(namespace)] = self._there
        self.arrays: list[_Placed] = []
        self.end = 0
        self._blocks = blocks
        self._places = [self._place(memory_between(low, high)) for low, high in blocks]

    def reducer_override(self, obj: Any) -> Any:
        for framework in self._frameworks:
            packed = framework.pack(obj, self._slot)
            if packed is not None:
                return packed
        return super().reducer_override(obj)

    def persistent_id(self, obj: Any) -> Any:
        if obj is self._there:
            return "namespace"
        return obj.as_id() if type(obj) is _ParcelSlot else None

    def _slot(self, array: np.ndarray[Any, Any]) -> _ParcelSlot:
        address = array.__array_interface__["data"][0]
        place = bisect.bisect(self._blocks, (address, sys.maxsize)) - 1
        if not array.nbytes or place < 0 or address >= self._blocks[place][1]:
            return self._place(array)
        low, block = self._blocks[place][0], self._places[place]
        where = block.offset, block.offset + block.shape[0]
        return _ParcelSlot(address - low, array.dtype, array.shape, array.strides, where)

    def _place(self, array: np.ndarray[Any, Any]) -> _ParcelSlot:
        slot = _ParcelSlot(self.end, array.dtype, array.shape)
        self.arrays.append((slot, array))
        self.end += _padded(array.nbytes)
        return slot


class _ParcelUnpickler(pickle.Unpickler):
    def __init__(self, memory: mmap.mmap, address: ParcelAddress, namespace: dict[str, Any]) -> None:
        super().__init__(io.BytesIO(memory[address.start : address.start + address.size]))
        self._memory = memory
        self._namespace = namespace
        self._blocks: dict[tuple[int, int], np.ndarray[Any, Any]] = {}

    def persistent_load(self, pid: Any) -> Any:
        if pid == "namespace":
            return self._namespace
        slot = _ParcelSlot(*pid)
        return slot.view(self._memory if slot.block is None else self._block(slot.block))

    def _block(self, where: tuple[int, int]) -> np.ndarray[Any, Any]:
        """Return a copy of a block of memory, the same one each time."""
        if where not in self._blocks:
            low, high = where
            self._blocks[where] = aligned_copy(_ParcelSlot(low, "u1", (high - low,)).view(self._memory))
        return self._blocks[where]


def _unsendable(name: str, error: BaseException) -> str:
    return (
        f"`{name}` cannot be sent to a process of its own ({type(error).__name__}: {message_of(error)}): "
        "make it in the section or in %%setup, or leave out --isolate and what implies it."
    )


def _is_text(key: Any) -> bool:
    return type(key) is str


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
