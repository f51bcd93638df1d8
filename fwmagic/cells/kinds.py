"""How each kind of Python object is read, named in a path, and put back into the same object."""

from __future__ import annotations

import array
import collections
import ctypes
import decimal
import functools
import gc
import io
import logging
import operator
import random
import re
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from fwmagic.cells.sets import elements_of, refill, same_elements

_Lock, _RLock = type(threading.Lock()), type(threading.RLock())
#: The types of locks.
LOCKS: Final[frozenset[type]] = frozenset({_Lock, _RLock})


class _Missing:
    def __repr__(self) -> str:
        return "<missing>"


#: Stands for a name, a slot or a cell that holds nothing.
MISSING: Final = _Missing()


class Kind:
    """One kind of object. `hashes` marks those that may only be refilled once their keys are themselves again."""

    mutable = True
    hashes = False

    def __init__(self, name: str) -> None:
        self.name = name

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        """Return what the object holds now: its keys (indices, names) and its values."""
        raise NotImplementedError

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Make the object hold these."""
        raise NotImplementedError

    def rebuild(self, target: Any, values: list[Any]) -> Any:
        """Return an immutable object like `target` with other values, or `target` where there can be none."""
        return target

    def label(self, target: Any, key: Any) -> str:
        """Return the part of a path that leads from the object to the value under `key`."""
        return f"[{key!r}]" if isinstance(key, int | str | bytes | float | None) else "[...]"

    def same(self, keys: Sequence[Any], values: list[Any], now_keys: Sequence[Any], now_values: list[Any]) -> bool:
        """Say whether both are the same objects in the same places."""
        return same_contents(keys, now_keys) and same_contents(values, now_values)


def same_contents(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Say whether both hold the same objects in the same order."""
    if isinstance(left, range):
        return left == right
    return len(left) == len(right) and all(map(operator.is_, left, right))


class _SequenceKind(Kind):
    def __init__(self, base: Any) -> None:
        super().__init__(base.__name__)
        self._base = base

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        values = list(self._base.__iter__(target))
        return range(len(values)), values


class _ListKind(_SequenceKind):
    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        list.__setitem__(target, slice(None), values)


class _DequeKind(_SequenceKind):
    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        collections.deque.clear(target)
        collections.deque.extend(target, values)


class _TupleKind(_SequenceKind):
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


class _SetKind(_SequenceKind):
    hashes = True

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        values = elements_of(target)
        return range(len(values)), values

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        refill(target, values)

    def label(self, target: Any, key: Any) -> str:
        return "[...]"

    def same(self, keys: Sequence[Any], values: list[Any], now_keys: Sequence[Any], now_values: list[Any]) -> bool:
        return same_elements(values, now_values)


class _FrozenSetKind(_SequenceKind):
    mutable = False
    hashes = True

    def rebuild(self, target: Any, values: list[Any]) -> Any:
        return frozenset.__new__(type(target), values)

    def label(self, target: Any, key: Any) -> str:
        return "[...]"


class _MappingKind(Kind):
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
    if not same_contents(now[: len(keys)], keys):
        base.clear(target)
        now = []
    for key in now[len(keys) :]:
        base.__delitem__(target, key)
    for key, value in zip(keys, values, strict=True):
        if base.get(target, key, MISSING) is not value:
            base.__setitem__(target, key, value)


class _PayloadKind(Kind):
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


def _held_times(lock: Any) -> int:
    """Return how many times a lock is held; one that its thread can take again, by this one: only its text tells."""
    if isinstance(lock, _Lock):
        return int(lock.locked())
    if not lock._is_owned():
        return 0
    count = re.search(r"count=(\d+)", repr(lock))
    return int(count[1]) if count is not None else 0


def _hold_times(lock: Any, times: int) -> None:
    for _ in range(_held_times(lock), times):
        lock.acquire(False)
    for _ in range(times, _held_times(lock)):
        lock.release()


class _LocalKind(Kind):
    """The attributes that a `threading.local` has in this thread."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        return list(target.__dict__), list(target.__dict__.values())

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        fill(dict, target.__dict__, keys, values)

    def label(self, target: Any, key: Any) -> str:
        return f".{key}"


class _ViewKind(Kind):
    """What only leads to another object: a view of a mapping, a weak reference."""

    mutable = False

    def __init__(self, name: str, look: Callable[[Any], list[Any]]) -> None:
        super().__init__(name)
        self._look = look

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        found = self._look(target)
        return range(len(found)), found

    def label(self, target: Any, key: Any) -> str:
        return ""


_VIEWS: Final[tuple[type, ...]] = (types.MappingProxyType, type({}.keys()), type({}.values()), type({}.items()))


def _mapping_of(view: Any) -> list[Any]:
    return gc.get_referents(view)[:1]


def _referent_of(reference: Any) -> list[Any]:
    found = weakref.ReferenceType.__call__(reference)
    return [] if found is None else [found]


_OF_CONTEXTS = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def state_of_context(context: decimal.Context) -> tuple[Any, ...]:
    """Return what a context of decimal numbers is set to, without the flags that any division may raise."""
    return [getattr(context, name) for name in _OF_CONTEXTS], dict(context.traps)


def set_state_of_context(context: decimal.Context, state: tuple[Any, ...]) -> None:
    """Set a context to that."""
    values, traps = state
    for name, value in zip(_OF_CONTEXTS, values, strict=True):
        setattr(context, name, value)
    context.traps.update(traps)


def _write_bytes(target: bytearray, content: bytes) -> None:
    bytearray.__setitem__(target, slice(None), content)


class NumbersKind(_PayloadKind):
    """An array of numbers: kept as bytes, which NaN does not make differ, and told as numbers."""

    def __init__(self) -> None:
        super().__init__(array.array, array.array.tobytes, self._put_bytes)

    @staticmethod
    def _put_bytes(target: array.array[Any], content: bytes) -> None:
        array.array.__setitem__(target, slice(None), array.array(target.typecode, content))

    def tell(self, target: array.array[Any], values: Sequence[Any]) -> tuple[Sequence[Any], list[Any]]:
        """Return places and numbers, of what was read."""
        numbers = list(array.array(target.typecode, values[0]))
        return range(len(numbers)), numbers

    def label(self, target: Any, key: Any) -> str:
        """Return the part of a path that leads to a number, or to all."""
        return f"[{key}]" if isinstance(key, int) else ""


def _stream_kind(base: Any) -> tuple[Kind, ...]:
    # The last part of its state are its attributes, which are put back like any others.
    return (_PayloadKind(base, lambda target: (*base.__getstate__(target)[:-1], None), base.__setstate__),)


#: The kinds of the built-in containers, by type.
CONTAINERS: Final[Mapping[type, tuple[Kind, ...]]] = {
    list: (_ListKind(list),),
    tuple: (_TupleKind(tuple),),
    set: (_SetKind(set),),
    frozenset: (_FrozenSetKind(frozenset),),
    dict: (_MappingKind(dict),),
    collections.OrderedDict: (_MappingKind(collections.OrderedDict),),
    collections.deque: (_DequeKind(collections.deque),),
    bytearray: (_PayloadKind(bytearray, bytes, _write_bytes),),
    array.array: (NumbersKind(),),
    io.BytesIO: _stream_kind(io.BytesIO),
    io.StringIO: _stream_kind(io.StringIO),
    random.Random: (_PayloadKind(random.Random, random.Random.getstate, random.Random.setstate),),
    _Lock: (_PayloadKind(_Lock, _held_times, _hold_times),),
    _RLock: (_PayloadKind(_RLock, _held_times, _hold_times),),
    threading.local: (_LocalKind("local"),),
    **{view: (_ViewKind(view.__name__, _mapping_of),) for view in _VIEWS},
    weakref.ReferenceType: (_ViewKind("reference", _referent_of),),
    decimal.Context: (_PayloadKind(decimal.Context, state_of_context, set_state_of_context),),
}


# What `__dict__` is for Python itself, also where a class says something else, as that of a proxy does. It takes an
# address: on the way there, an object would be asked for its class.
_dict_of: Any = ctypes.pythonapi.PyObject_GenericGetDict
_dict_of.argtypes, _dict_of.restype = (ctypes.c_void_p, ctypes.c_void_p), ctypes.py_object


def attributes_of(value: Any) -> dict[str, Any]:
    """Return the `__dict__` of an object, or an empty dict if it has none; no code of its class runs."""
    if not type(value).__dictoffset__ or issubclass(type(value), type):
        return {}
    own = next((vars(class_)["__dict__"] for class_ in type(value).__mro__ if "__dict__" in vars(class_)), None)
    is_plain = type(own) is types.GetSetDescriptorType
    found: dict[str, Any] = object.__getattribute__(value, "__dict__") if is_plain else _dict_of(id(value), None)
    return found


class _AttributesKind(Kind):
    """An object's class and its `__dict__`."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        held = attributes_of(target)
        return ["__class__", *held], [type(target), *held.values()]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        if type(target) is not values[0]:
            object.__setattr__(target, "__class__", values[0])
        fill(dict, attributes_of(target), keys[1:], values[1:])

    def label(self, target: Any, key: Any) -> str:
        return f".{key}"


class _RememberingKind(_AttributesKind):
    """An object that keeps under `_cache` what can be found out again: a call that fills that has changed nothing."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        pairs = [pair for pair in attributes_of(target).items() if pair[0] != "_cache"]
        return ["__class__", *(name for name, _ in pairs)], [type(target), *(value for _, value in pairs)]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        cache = {name: value for name, value in attributes_of(target).items() if name == "_cache"}
        super().write(target, [*keys, *cache], [*values, *cache.values()])


class _LoggerKind(_RememberingKind):
    """A logger, which remembers its levels."""

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        super().write(target, keys, values)
        logging.Logger.setLevel(target, target.level)  # all loggers forget their levels


class _DictionaryKind(_AttributesKind):
    """A `__dict__` by itself: the attributes of an object whose other contents a framework keeps."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        return list(target), list(target.values())

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        fill(dict, target, keys, values)


class _MembersKind(Kind):
    """Descriptors of C or of `__slots__`, each a name and a value; unset slots and empty cells hold MISSING."""

    def __init__(self, name: str, members: Iterable[tuple[str, Any]], mutable: bool = True) -> None:
        super().__init__(name)
        self._members = dict(members)
        self._names = list(self._members)
        self.mutable = mutable

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        return self._names, [self._get(member, target) for member in self._members.values()]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        for name, value in zip(keys, values, strict=True):
            member = self._members[name]
            now = self._get(member, target)
            if value is MISSING and now is not MISSING:
                member.__delete__(target)
            elif now is not value:
                member.__set__(target, value)

    def label(self, target: Any, key: Any) -> str:
        return f".{key}"

    @staticmethod
    def _get(member: Any, target: Any) -> Any:
        try:
            return member.__get__(target, type(target))
        except (AttributeError, ValueError):  # an unset slot, an empty cell
            return MISSING


class _CellKind(_MembersKind):
    def label(self, target: Any, key: Any) -> str:
        return ""


class _MethodKind(_MembersKind):
    def rebuild(self, target: Any, values: list[Any]) -> Any:
        return types.MethodType(*values)


class _WrapperKind(_MembersKind):
    """A property, or what makes a function of a class a method of it or none."""

    def rebuild(self, target: Any, values: list[Any]) -> Any:
        if type(target) is property:
            get, set_, delete = values
            return property(get, set_, delete, target.__doc__)
        return type(target)(values[0]) if type(target) in (staticmethod, classmethod) else target


class _PartialKind(_MembersKind):
    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        functools.partial.__setstate__(target, (*values, target.__dict__))  # type: ignore[attr-defined]


def parts(members: Iterable[tuple[str, Any]]) -> Kind:
    """Return the kind that reads some parts of an object, given with their descriptors."""
    return _MembersKind("parts", members)


def slots(type_: type) -> Kind | None:
    """Return the kind that reads the `__slots__` of a type's objects, and their class; None if it has no slots."""
    members = slots_of(*type_.__mro__)
    return _MembersKind("slots", [*members, ("__class__", vars(object)["__class__"])]) if members else None


def slots_of(*classes: type) -> list[tuple[str, Any]]:
    """Return names and descriptors of the slots that these classes, not their bases, were written with."""
    return [
        (name, member)
        for class_ in classes
        if "__slots__" in vars(class_)
        for name, member in vars(class_).items()
        if isinstance(member, types.MemberDescriptorType)
    ]


def _members_kind(base: type, *names: str) -> list[tuple[str, Any]]:
    return [(name, base.__dict__[name]) for name in names]


def _fixed_kind(base: type, *names: str) -> tuple[Kind, ...]:
    return (_MembersKind(base.__name__, _members_kind(base, *names), mutable=False),)


def _wrapper_kind(base: type, *names: str) -> tuple[Kind, ...]:
    return (_WrapperKind(base.__name__, _members_kind(base, *names), mutable=False),)


#: The attributes of an object, of one that remembers, and of a logger; a `__dict__` by itself; what a class is called,
#: and its bases.
ATTRIBUTES: Final = _AttributesKind("attributes")
REMEMBERING: Final = _RememberingKind("attributes")
LOGGER: Final = _LoggerKind("attributes")
DICTIONARY: Final = _DictionaryKind("attributes")
NAMES_AND_BASES: Final = _MembersKind("class", _members_kind(type, "__name__", "__qualname__", "__bases__"))

_DEFAULT = _MembersKind("defaultdict", _members_kind(collections.defaultdict, "default_factory"))
# Its closure and the globals that it reads are found by the walk.
_FUNCTION = _MembersKind(
    "function",
    [
        *_members_kind(types.FunctionType, "__code__", "__defaults__", "__kwdefaults__"),
        *_members_kind(types.FunctionType, "__name__", "__qualname__", "__module__", "__doc__"),
    ],
)

#: The kinds of built-in types that refer to others by attributes of their own, by type.
REFERRING: Final[Mapping[type, tuple[Kind, ...]]] = {
    collections.defaultdict: (*CONTAINERS[dict], _DEFAULT),
    types.CellType: (_CellKind("cell", _members_kind(types.CellType, "cell_contents")),),
    types.FunctionType: (_FUNCTION,),
    types.MethodType: (_MethodKind("method", _members_kind(types.MethodType, "__func__", "__self__"), mutable=False),),
    types.BuiltinMethodType: _fixed_kind(types.BuiltinMethodType, "__self__"),
    types.MethodWrapperType: _fixed_kind(types.MethodWrapperType, "__self__"),
    functools.partial: (_PartialKind("partial", _members_kind(functools.partial, "func", "args", "keywords")),),
    type(functools.cache(len)): (),  # its cache cannot be seen, and what it wraps is an attribute
    property: _wrapper_kind(property, "fget", "fset", "fdel"),
    staticmethod: _wrapper_kind(staticmethod, "__func__"),
    classmethod: _wrapper_kind(classmethod, "__func__"),
    memoryview: _fixed_kind(memoryview, "obj"),
    slice: _fixed_kind(slice, "start", "stop", "step"),
    BaseException: (_MembersKind("exception", _members_kind(BaseException, "args")),),
}
