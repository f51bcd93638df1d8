"""Modules and classes of libraries: what a cell binds there, as a patch does, is noticed and taken away again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any

from fwmagic.cells.kinds import MISSING
from fwmagic.cells.modules import is_of_user
from fwmagic.cells.settings import is_put_back


class Foreign:
    """The public names of one module or class of a library, as they are now.

    A library may bind names to its own modules, classes and functions, as it does when they are first asked for, and
    may bind numbers and the like anew.
    """

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        self._held = dict(vars(owner))

    def changed(self) -> list[str]:
        """Return the names that are bound to something else now which the library has not made."""
        now: Mapping[str, Any] = vars(self._owner)
        if len(now) == len(self._held) and all(now.get(name, MISSING) is value for name, value in self._held.items()):
            return []
        names = (name for name in {**self._held, **now} if not (name.startswith("_") or self._is_put_back(name)))
        pairs = ((name, self._held.get(name, MISSING), now.get(name, MISSING)) for name in names)
        return [name for name, old, new in pairs if self._differs(old, new) and not self._is_its_own(old, new)]

    def restore(self) -> None:
        """Bind these names as they were."""
        for name in self.changed():
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
        name = self._owner.__name__ if isinstance(self._owner, ModuleType) else self._owner.__module__
        return type(value).__module__.partition(".")[0] == name.partition(".")[0]

    @staticmethod
    def _differs(old: Any, new: Any) -> bool:
        return old is not new and (old is MISSING or callable(old)) and not _is_of_library(new)


def _is_of_library(value: Any) -> bool:
    if isinstance(value, ModuleType):
        return True
    module = sys.modules.get(value.__module__) if isinstance(value, type | FunctionType) else None
    return module is not None and not is_of_user(module) and module.__name__ != "__main__"
