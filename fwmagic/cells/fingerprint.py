"""What a compiled program may have taken for fixed, as something that can be compared."""

from __future__ import annotations

import numbers
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fwmagic.cells.kinds import Kind
from fwmagic.cells.modules import is_of_user
from fwmagic.cells.plans import BUILT_IN
from fwmagic.cells.walk import Entry

_BY_VALUE = (bool, int, str, bytes, type(None))
_BY_TEXT = (range, slice, numbers.Number)  # repr tells NaN from a number and -0.0 from 0.0


class _Same:
    """One particular object: equal only to itself, and alive as long as the fingerprint is."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._value is other._value


def fingerprint(entries: Sequence[Entry]) -> tuple[Any, ...]:
    """Return a hashable description of the entries; objects refer to each other by their place in it."""
    outer = [entry for entry in entries if not entry.inner]
    places: dict[int, int] = {}
    for entry in outer:
        places.setdefault(id(entry.target), len(places))
    return tuple(_entry_fingerprint(entry, places) for entry in outer)


def _entry_fingerprint(entry: Entry, places: dict[int, int]) -> Any:
    target, kind = entry.target, entry.kind
    if kind is None:
        if entry.framework is None or not entry.framework.is_array(target):
            return _Same(target)
        return (entry.framework.name, entry.framework.describe(target))
    values = _values_fingerprint(entry.values, places)
    held = frozenset(values) if issubclass(type(target), set | frozenset) else tuple(values)
    keys = len(entry.keys) if isinstance(entry.keys, range) else tuple(_values_fingerprint(entry.keys, places))
    return (kind.name, _object_fingerprint(target, kind), keys, held)


def _values_fingerprint(values: Sequence[Any], places: dict[int, int]) -> list[Any]:
    """Return the fingerprints of values; of many that are numbers of one kind, or texts, these themselves."""
    kinds = set(map(type, values))
    if len(kinds) == 1 and not kinds.isdisjoint(_BY_VALUE):
        return [*kinds, *values]
    return [_value_fingerprint(value, places) for value in values]


def _object_fingerprint(target: Any, kind: Kind) -> Any:
    """Return what counts of the object itself: its type where it is no more than what it holds, else its identity."""
    if issubclass(type(target), types.BuiltinMethodType | types.MethodWrapperType):
        return target.__name__
    dataclass = getattr(type(target), "__dataclass_params__", None)
    is_value = type(target) in BUILT_IN or (dataclass is not None and dataclass.frozen)
    return _Same(target if kind.name in ("attributes", "slots", "class", "module") and not is_value else type(target))


def _value_fingerprint(value: Any, places: dict[int, int]) -> Any:
    if issubclass(type(value), types.CodeType):
        return _code_fingerprint(value)
    if type(value) in _BY_VALUE:
        return (type(value), value)
    if issubclass(type(value), _BY_TEXT):
        return (type(value), repr(value))
    if type(value) in (tuple, frozenset) and id(value) not in places:  # of plain values, so that the walk left it out
        return (type(value), type(value)(_value_fingerprint(held, places) for held in value))
    place = places.get(id(value))
    return _Same(value) if place is None else ("at", place)


def _code_fingerprint(code: types.CodeType) -> tuple[Any, ...]:
    """Return what a function's code does, without the file and the lines where it stands."""
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    return ("code", code.co_code, _constant_fingerprint(code.co_consts), names, counts)


def _constant_fingerprint(const: Any) -> Any:
    if isinstance(const, tuple):
        return tuple(map(_constant_fingerprint, const))
    return (
        frozenset(map(_constant_fingerprint, const)) if isinstance(const, frozenset) else _value_fingerprint(const, {})
    )


_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def fingerprint_of_modules(namespace: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, ...]:
    """Return a hashable description of the user's modules that these names lead to: their numbers, texts and code."""
    found: dict[str, types.ModuleType] = {}
    for name in names:
        value = namespace.get(name)
        own = issubclass(type(value), types.ModuleType)
        module = value if own else sys.modules.get(getattr(value, "__module__", "") or "")
        if module is not None and module.__name__ not in found and is_of_user(module):
            found[module.__name__] = module
    return tuple(
        (name, *map(_item_fingerprint, sorted(vars(module).items()))) for name, module in sorted(found.items())
    )


def _item_fingerprint(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    if type(value) in _PLAIN:
        return name, (type(value).__name__, repr(value))
    return name, value.__code__ if issubclass(type(value), types.FunctionType) else id(value)
