"""How a class, a module and the names of a notebook are read, and put back."""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from typing import Any, Final

from fwmagic.cells.kinds import MISSING, NAMES_AND_BASES, Kind


class _ClassKind(Kind):
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


# Python's own ways to show a registry, to empty it, and to forget what is known by it; another Python may lack them.
_registry_of: Any = vars(abc).get("_get_dump")
_clear_registry: Any = vars(abc.ABCMeta).get("_abc_registry_clear")
_clear_known: Any = vars(abc.ABCMeta).get("_abc_caches_clear")


class _RegistryKind(Kind):
    """The classes that were registered with an abstract one."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        registered = [one for reference in _registry_of(target)[0] if (one := reference()) is not None]
        return range(len(registered)), sorted(registered, key=id)

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        _clear_registry(target)
        for value in values:
            abc.ABCMeta.register(target, value)
        for one in target.__mro__:  # its bases remember what is a subclass of it
            if "_abc_impl" in vars(one):
                _clear_known(one)

    def label(self, target: Any, key: Any) -> str:
        return ".register"


class _ModuleKind(Kind):
    """The attributes of a module of the user; what Python itself put there stays as it is."""

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        held = self._names(target)
        names = [name for name in held if not (name.startswith("__") and name.endswith("__"))]
        return names, [held[name] for name in names]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        held, saved = self._names(target), dict(zip(keys, values, strict=True))
        for name in self.read(target)[0]:
            if name not in saved:
                del held[name]
        held.update(saved)

    def label(self, target: Any, key: Any) -> str:
        return f".{key}"

    def _names(self, target: Any) -> dict[str, Any]:
        found: dict[str, Any] = vars(target)
        return found


class _GlobalsKind(_ModuleKind):
    """The globals of functions of the user that are those of no module, such as of a script that was run."""

    def label(self, target: Any, key: Any) -> str:
        return f"[{key!r}]"

    def _names(self, target: Any) -> dict[str, Any]:
        found: dict[str, Any] = target
        return found


#: What IPython itself binds: the history of inputs and outputs. `_` is not among them: a cell that binds it
#: (`for _ in ...`) would stop IPython from ever updating it again, so it is put back like any other name.
#: Compilers leave names of theirs, such as `__compiled_fn_1` and `_140344500019792_c9`, in the globals of a function
#: that the user compiled, and call them, or delete them, later.
OF_OTHERS: Final = re.compile(r"__warningregistry__|In|Out|_i{1,3}|_\d+|_i\d+|_ih|_oh|_dh|__\w*(?<!__)|\w*_\d{9,}_c\d+")


class BindingsKind(Kind):
    """The names of a namespace that a cell can reach; more are added while the walk finds them.

    With `every`, all names of the notebook are among them, also those that are new.
    """

    def __init__(self) -> None:
        super().__init__("names")
        self.names: list[str] = []
        self.every = False

    def read(self, target: Any) -> tuple[Sequence[Any], list[Any]]:
        """Return the names and their objects."""
        names = [*self.names, *self.others(target)] if self.every else self.names
        return names, [target.get(name, MISSING) for name in names]

    def others(self, target: Any) -> list[str]:
        """Return the other names of the notebook, but for those that are hidden."""
        known = set(self.names)
        names = (name for name in target if name not in known and not name.startswith("_"))
        return [name for name in names if not OF_OTHERS.fullmatch(name)]

    def write(self, target: Any, keys: Sequence[Any], values: Sequence[Any]) -> None:
        """Bind the names to these objects, and unbind those that were missing."""
        for name in self.others(target) if self.every else ():
            del target[name]
        for name, value in zip(keys, values, strict=True):
            if value is MISSING:
                target.pop(name, None)
            elif target.get(name, MISSING) is not value:
                target[name] = value

    def label(self, target: Any, key: Any) -> str:
        """Return the name."""
        return str(key)


#: What a class holds, by whether it is abstract; a module; globals of no module.
CLASS: Final[tuple[Kind, ...]] = (_ClassKind("class"), NAMES_AND_BASES)
ABSTRACT: Final[tuple[Kind, ...]] = (
    (*CLASS, _RegistryKind("registry")) if all((_registry_of, _clear_registry, _clear_known)) else CLASS
)
MODULE: Final = _ModuleKind("module")
GLOBALS: Final = _GlobalsKind("module")
