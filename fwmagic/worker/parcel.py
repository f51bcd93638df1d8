"""Objects on their way to another process: one pickle, and beside it the numbers of big arrays, in a memory map."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cloudpickle

from fwmagic.errors import FwMagicError, message_of
from fwmagic.frameworks import Framework

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
    """Where in a parcel the numbers of an array are."""

    offset: int
    dtype: Any
    shape: tuple[int, ...]


class Parcel:
    """Objects packed for another process, which reads them by `unpack_parcel(parcel.address)`; closing frees memory.

    All objects are in one pickle, so that what is one object here is one object there. Functions whose globals are
    `namespace` get the other process's for theirs. On Linux the memory has no name in the file system, so that nothing
    can be left behind.

    Raises
    ------
    FwMagicError
        An object cannot be sent; says which.
    """

    def __init__(
        self, values: dict[str, Any], frameworks: Sequence[Framework], namespace: dict[str, Any] | None = None
    ) -> None:
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
        pickled, arrays = self._pickled(values)
        start = sum(_padded(array.nbytes) for array in arrays)
        with self._file.mapped(start + len(pickled)) as memory:
            offset = 0
            for array in arrays:
                _view_in_parcel(memory, array.dtype, array.shape, offset)[...] = array
                offset += _padded(array.nbytes)
            memory[start : start + len(pickled)] = pickled
        return ParcelAddress(self._file.path, start, len(pickled))

    def _pickled(self, values: dict[str, Any]) -> tuple[bytes, list[np.ndarray[Any, Any]]]:
        file = io.BytesIO()
        pickler = self._pickler(file)
        try:
            pickler.dump(values)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever an object raises when it is pickled
            name, why = self._culprit(values) or ("something", error)
            raise FwMagicError(
                f"`{name}` cannot be sent to a process of its own ({type(why).__name__}: {message_of(why)}): "
                "make it in the section or in %%setup, or leave out --isolate and what implies it."
            ) from error
        return file.getvalue(), pickler.arrays

    def _culprit(self, values: dict[str, Any]) -> tuple[str, BaseException] | None:
        """Return the first name whose value cannot be pickled by itself, and why; looks into dictionaries of names."""
        for name, value in values.items():
            try:
                self._pickler(io.BytesIO()).dump(value)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever it raises when it is pickled
                inside = self._culprit(value) if type(value) is dict and all(map(_is_text, value)) else None
                return inside or (name, error)
        return None

    def _pickler(self, file: io.BytesIO) -> _ParcelPickler:
        return _ParcelPickler(file, self._frameworks, self._namespace)


def unpack_parcel(address: ParcelAddress, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the objects of a parcel; their arrays are copies in memory of this process's frameworks.

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


class _ParcelPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles the notebook's functions by value, and hands big arrays to their framework."""

    def __init__(self, file: io.BytesIO, frameworks: Sequence[Framework], namespace: dict[str, Any]) -> None:
        super().__init__(file, protocol=5)
        # What cloudpickle takes for the globals of functions from this namespace; it stands for the other process's.
        self._there = {"__name__": "__main__"}
        self.globals_ref[id(namespace)] = self._there
        self.arrays: list[np.ndarray[Any, Any]] = []
        self._frameworks = frameworks
        self._offset = 0

    def reducer_override(self, obj: Any) -> Any:
        for framework in self._frameworks:
            packed = framework.pack(obj, self._slot)
            if packed is not None:
                return packed
        return super().reducer_override(obj)

    def persistent_id(self, obj: Any) -> Any:
        if obj is self._there:
            return "namespace"
        return (obj.offset, obj.dtype, obj.shape) if type(obj) is _ParcelSlot else None

    def _slot(self, array: np.ndarray[Any, Any]) -> _ParcelSlot:
        slot = _ParcelSlot(self._offset, array.dtype, array.shape)
        self.arrays.append(array)
        self._offset += _padded(array.nbytes)
        return slot


class _ParcelUnpickler(pickle.Unpickler):
    def __init__(self, memory: mmap.mmap, address: ParcelAddress, namespace: dict[str, Any]) -> None:
        super().__init__(io.BytesIO(memory[address.start : address.start + address.size]))
        self._memory = memory
        self._namespace = namespace

    def persistent_load(self, pid: Any) -> Any:
        if pid == "namespace":
            return self._namespace
        offset, dtype, shape = pid
        return _view_in_parcel(self._memory, dtype, shape, offset)


def _is_text(key: Any) -> bool:
    return type(key) is str


def _view_in_parcel(memory: mmap.mmap, dtype: Any, shape: tuple[int, ...], offset: int) -> np.ndarray[Any, Any]:
    import numpy as np

    return np.ndarray(shape, dtype, memory, offset)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
