"""Attributes of all sorts: `__dict__`, slots, closure cells, methods, classes, and the names of a namespace.

They are read and written by their descriptors and by plain dict operations, so that a frozen dataclass, an nnx
module or a class with its own `__setattr__` is put back like any other object.
"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fwmagic.cells.containers import CONTAINERS, fill
from fwmagic.cells.kind import MISSING, Kind


class _Attributes(Kind):
    """An object's class and its `__dict__`."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        held = object.__getattribute__(target, "__dict__")
        return ["__class__", *held], [type(target), *held.values()]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        if type(target) is not values[0]:
            object.__setattr__(target, "__class__", values[0])
        fill(dict, object.__getattribute__(target, "__dict__"), keys[1:], values[1:])

    def label(self, target: Any, key: Any) -> str:
        return f".{key}"


class _Dictionary(_Attributes):
    """A `__dict__` by itself: the attributes of an object whose other contents a framework keeps."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        return list(target), list(target.values())

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        fill(dict, target, keys, values)


class _Members(Kind):
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


class _Cell(_Members):
    def label(self, target: Any, key: Any) -> str:
        return ""


class _Method(_Members):
    def rebuild(self, target: Any, values: list[Any]) -> Any:
        return types.MethodType(*values)


class _Partial(_Members):
    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        functools.partial.__setstate__(target, (*values, target.__dict__))  # type: ignore[attr-defined]


class _Class(Kind):
    """The attributes of a class; their order is not kept, since Python offers no way to."""

    # What Python fills in by itself, when a class is made or when annotations are first read.
    _own = frozenset({"__dict__", "__weakref__", "_abc_impl", "__annotations_cache__", "__annotate_func__"})

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        names = sorted(name for name in vars(target) if name not in self._own)
        return names, [vars(target)[name] for name in names]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        saved = dict(zip(keys, values, strict=True))
        for name in self.read(target)[0]:
            if name not in saved:
                type.__delattr__(target, name)
        for name, value in saved.items():
            if vars(target).get(name, MISSING) is not value:
                type.__setattr__(target, name, value)

    def label(self, target: Any, key: Any) -> str:
        return f".{key}"


class Names(Kind):
    """The names of a namespace that a cell can reach; more are added while the walk finds them."""

    def __init__(self) -> None:
        super().__init__("names")
        self.names: list[str] = []

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        """Return the names and their objects."""
        return self.names, [target.get(name, MISSING) for name in self.names]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Bind the names to these objects, and unbind those that were missing."""
        for name, value in zip(keys, values, strict=True):
            if value is MISSING:
                target.pop(name, None)
            elif target.get(name, MISSING) is not value:
                target[name] = value

    def label(self, target: Any, key: Any) -> str:
        """Return the name."""
        return str(key)


def slots(type_: type) -> Kind | None:
    """Return the kind that reads the `__slots__` of a type's objects, and their class; None if it has no slots."""
    members = slots_of(*type_.__mro__)
    return _Members("slots", [*members, ("__class__", vars(object)["__class__"])]) if members else None


def slots_of(*classes: type) -> list[tuple[str, Any]]:
    """Return names and descriptors of the slots that these classes, not their bases, were written with."""
    return [
        (name, member)
        for class_ in classes
        if "__slots__" in vars(class_)
        for name, member in vars(class_).items()
        if isinstance(member, types.MemberDescriptorType)
    ]


def _members(base: type, *names: str) -> list[tuple[str, Any]]:
    return [(name, base.__dict__[name]) for name in names]


def _fixed(base: type, *names: str) -> tuple[Kind, ...]:
    return (_Members(base.__name__, _members(base, *names), mutable=False),)


#: The attributes of an object; a `__dict__` by itself; the attributes of a class.
ATTRIBUTES: Final = _Attributes("attributes")
DICTIONARY: Final = _Dictionary("attributes")
CLASS: Final = _Class("class")

_DEFAULT = _Members("defaultdict", _members(collections.defaultdict, "default_factory"))
# Its closure and the globals that it reads are found by the walk.
_FUNCTION = _Members("function", _members(types.FunctionType, "__code__", "__defaults__", "__kwdefaults__"))

#: The kinds of built-in types that refer to others by attributes of their own, by type.
REFERRING: Final[Mapping[type, tuple[Kind, ...]]] = {
    collections.defaultdict: (*CONTAINERS[dict], _DEFAULT),
    types.CellType: (_Cell("cell", _members(types.CellType, "cell_contents")),),
    types.FunctionType: (_FUNCTION,),
    types.MethodType: (_Method("method", _members(types.MethodType, "__func__", "__self__"), mutable=False),),
    types.BuiltinMethodType: _fixed(types.BuiltinMethodType, "__self__"),
    types.MethodWrapperType: _fixed(types.MethodWrapperType, "__self__"),
    functools.partial: (_Partial("partial", _members(functools.partial, "func", "args", "keywords")),),
    type(functools.cache(len)): (),  # its cache cannot be seen, and what it wraps is an attribute
    property: _fixed(property, "fget", "fset", "fdel"),
    staticmethod: _fixed(staticmethod, "__func__"),
    classmethod: _fixed(classmethod, "__func__"),
    memoryview: _fixed(memoryview, "obj"),
    BaseException: (_Members("exception", _members(BaseException, "args")),),
}
