"""Modules and classes of libraries: what a cell binds or adds there is noticed, and taken away again."""

from __future__ import annotations

import operator
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from fwmagic import frameworks
from fwmagic.cells.kinds import MISSING
from fwmagic.cells.modules import is_of_user
from fwmagic.cells.settings import is_put_back
from fwmagic.libraries import module_of

_MOST_HELD = 10_000

_live: weakref.WeakSet[Foreign] = weakref.WeakSet()


class Foreign:
    """The public names of one module or class of a library, as they are now, and the containers that they are bound to.

    A library may bind names to its own modules, classes and functions, as it does when they are first asked for, and
    may bind numbers and the like anew. What frameworks keep in their containers is their own affair.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self.look()
        _live.add(self)

    def look(self) -> None:
        """Take what is there now for what was there before."""
        self._held = dict(vars(self._owner))
        self._contents = {} if self._package() in frameworks.BUILT_IN else dict(self._containers())

    def _containers(self) -> Iterator[tuple[str, list[Any] | dict[Any, Any] | set[Any]]]:
        """Yield copies of the lists, dicts and sets that public names are bound to, of those that are not very long."""
        for name, value in self._held.items():
            passed_by = name.startswith("_") or self._is_put_back(name)
            if not passed_by and type(value) in (list, dict, set) and len(value) <= _MOST_HELD:
                yield name, value.copy()

    def changed(self) -> list[str]:
        """Return the names that are bound to, or hold, something else now which the library has not made."""
        return [*self._bound(), *self._filled()]

    def _filled(self) -> list[str]:
        return [name for name, before in self._contents.items() if not _hold_the_same(self._held[name], before)]

    def _bound(self) -> list[str]:
        """Return the names that are bound to something else now which the library has not made."""
        now: Mapping[str, Any] = vars(self._owner)
        if len(now) == len(self._held) and all(now.get(name, MISSING) is value for name, value in self._held.items()):
            return []
        names = (name for name in {**self._held, **now} if not (name.startswith("_") or self._is_put_back(name)))
        pairs = ((name, self._held.get(name, MISSING), now.get(name, MISSING)) for name in names)
        return [name for name, old, new in pairs if self._differs(old, new) and not self._is_its_own(old, new)]

    def restore(self) -> None:
        """Bind these names as they were, to what they held."""
        for name in self._filled():
            held, before = self._held[name], self._contents[name]
            held.clear()
            (held.extend if isinstance(held, list) else held.update)(before)
        for name in self._bound():
            if name in self._held:
                setattr(self._owner, name, self._held[name])
            else:
                delattr(self._owner, name)

    def path(self) -> str:
        """Return the first name that differs, with that of its owner; or nothing."""
        return next((f"{self._owner.__name__}.{name}" for name in self.changed()), "")

    def _is_put_back(self, name: str) -> bool:
        # Of `sys`, whoever runs a cell sets some: its streams, its traces.
        return self._owner is sys or (isinstance(self._owner, ModuleType) and is_put_back(self._owner, name))

    def _is_its_own(self, old: Any, value: Any) -> bool:
        """Say whether an object is of a class of the same library, as what it makes when that is first asked for is."""
        if old is not MISSING and type(old) is not type(value):
            return False
        return module_of(type(value)).partition(".")[0] == self._package()

    def _package(self) -> str:
        name = self._owner.__name__ if isinstance(self._owner, ModuleType) else module_of(self._owner)
        return name.partition(".")[0]

    @staticmethod
    def _differs(old: Any, new: Any) -> bool:
        return old is not new and (old is MISSING or callable(old)) and not _is_of_library(new)


@contextmanager
def changed_by_libraries() -> Iterator[None]:
    """Leave what libraries register in the block, while we have them start, out of what cells have changed."""
    untouched = [one for one in _live if not one.changed()]
    try:
        yield
    finally:
        for one in untouched:
            one.look()


def _hold_the_same(one: Any, other: Any) -> bool:
    """Say whether two containers of one kind hold the same objects."""
    if isinstance(one, set):
        return set(map(id, one)) == set(map(id, other))
    both = (one, other) if isinstance(one, list) else ([*one, *one.values()], [*other, *other.values()])
    return len(one) == len(other) and all(map(operator.is_, *both))


def _is_of_library(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return True
    module = sys.modules.get(value.__module__) if isinstance(value, type | FunctionType) else None
    return module is not None and not is_of_user(module) and module.__name__ != "__main__"
