"""Lists, dicts, sets and the other containers of Python.

The methods of the built-in types are called unbound (`dict.__setitem__(target, ...)`), so that nothing that a
subclass overrides runs.
"""

from __future__ import annotations

import array
import collections
import io
import random
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Final

from fwmagic.cells.kind import MISSING, Kind, identical


class _Sequence(Kind):
    def __init__(self, base: Any) -> None:
        super().__init__(base.__name__)
        self._base = base

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        values = list(self._base.__iter__(target))
        return range(len(values)), values


class _List(_Sequence):
    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        list.__setitem__(target, slice(None), values)


class _Deque(_Sequence):
    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        collections.deque.clear(target)
        collections.deque.extend(target, values)


class _Tuple(_Sequence):
    mutable = False

    def rebuild(self, target: Any, values: list[Any]) -> Any:
        if hasattr(target, "_make"):
            return type(target)._make(values)
        if hasattr(target, "n_sequence_fields"):  # torch.return_types.max and its like
            return type(target)(values)
        return tuple.__new__(type(target), values)

    def label(self, target: Any, key: Any) -> str:
        names = getattr(target, "_fields", ())
        return f".{names[key]}" if key < len(names) else f"[{key}]"


class _Set(_Sequence):
    hashes = True

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        set.clear(target)
        set.update(target, values)

    def label(self, target: Any, key: Any) -> str:
        return "[...]"

    def same(self, keys: Sequence[Any], values: list[Any], now_keys: Sequence[Any], now_values: list[Any]) -> bool:
        return len(values) == len(now_values) and set(map(id, values)) == set(map(id, now_values))


class _FrozenSet(_Set):
    mutable = False

    def rebuild(self, target: Any, values: list[Any]) -> Any:
        return frozenset.__new__(type(target), values)


class _Mapping(Kind):
    hashes = True

    def __init__(self, base: type[dict[Any, Any]]) -> None:
        super().__init__(base.__name__)
        self._base = base

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        return list(self._base.keys(target)), list(self._base.values(target))

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        fill(self._base, target, keys, values)


def fill(base: Any, target: MutableMapping[Any, Any], keys: Sequence[Any], values: Sequence[Any]) -> None:
    """Make a mapping hold these, in this order, by the methods of `base`; it is cleared only if it must be."""
    now = list(base.keys(target))
    if not identical(now[: len(keys)], keys):
        base.clear(target)
        now = []
    for key in now[len(keys) :]:
        base.__delitem__(target, key)
    for key, value in zip(keys, values, strict=True):
        if base.get(target, key, MISSING) is not value:
            base.__setitem__(target, key, value)


class _Payload(Kind):
    """An object whose whole contents are one plain value: bytes, the text of a StringIO, the state of a Random."""

    def __init__(self, base: Any, get: Any, put: Any) -> None:
        super().__init__(base.__name__)
        self._get, self._put = get, put

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        return ("",), [self._get(target)]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        self._put(target, values[0])

    def label(self, target: Any, key: Any) -> str:
        return ""

    def same(self, keys: Sequence[Any], values: list[Any], now_keys: Sequence[Any], now_values: list[Any]) -> bool:
        return bool(values == now_values)


def _put_bytes(target: bytearray, content: bytes) -> None:
    bytearray.__setitem__(target, slice(None), content)


def _put_array(target: array.array[Any], content: bytes) -> None:
    array.array.__setitem__(target, slice(None), array.array(target.typecode, content))


def _stream(base: Any) -> tuple[Kind, ...]:
    # The last part of its state are its attributes, which are put back like any others.
    return (_Payload(base, lambda target: (*base.__getstate__(target)[:-1], None), base.__setstate__),)


#: The kinds of the built-in containers, by type.
CONTAINERS: Final[Mapping[type, tuple[Kind, ...]]] = {
    list: (_List(list),),
    tuple: (_Tuple(tuple),),
    set: (_Set(set),),
    frozenset: (_FrozenSet(frozenset),),
    dict: (_Mapping(dict),),
    collections.OrderedDict: (_Mapping(collections.OrderedDict),),
    collections.deque: (_Deque(collections.deque),),
    bytearray: (_Payload(bytearray, bytes, _put_bytes),),
    array.array: (_Payload(array.array, array.array.tobytes, _put_array),),
    io.BytesIO: _stream(io.BytesIO),
    io.StringIO: _stream(io.StringIO),
    random.Random: (_Payload(random.Random, random.Random.getstate, random.Random.setstate),),
}
