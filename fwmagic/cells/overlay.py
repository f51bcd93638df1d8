"""The overlay: names put on the namespace around a block and taken off again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# What IPython itself binds: the history of inputs and outputs. `_` is not among them: a cell that binds it
# (`for _ in ...`) would stop IPython from ever updating it again, so it is put back like any other name.
# Compilers leave names of theirs, such as `__compiled_fn_1`, in the globals of a function that the user compiled,
# and call them later.
_OF_OTHERS = re.compile(r"In|Out|_i{1,3}|_\d+|_i\d+|_ih|_oh|_dh|__\w*(?<!__)")


class Overlay:
    """Names that a namespace has only while the overlay is on.

    Taking it off puts every name back to the object that it had: names that the code under the overlay bound
    are removed, names that it rebound or deleted are put back. The namespace stays the same dict and is never
    cleared, so that functions whose globals it is work on, in other threads too.
    """

    def __init__(self, namespace: dict[str, Any], bindings: Mapping[str, Any]) -> None:
        self.bindings = dict(bindings)
        self._namespace = namespace
        self._under: dict[str, Any] | None = None

    def on(self) -> None:
        """Put the bindings on the namespace; nothing happens if they are on already."""
        if self._under is None:
            self._under = dict(self._namespace)
            self._namespace.update(self.bindings)

    def off(self) -> None:
        """Take the bindings off; nothing happens if they are off already."""
        if self._under is None:
            return
        for name in list(self._namespace):
            if name not in self._under and not _OF_OTHERS.fullmatch(name):
                del self._namespace[name]
        for name, value in self._under.items():
            if (name not in self._namespace or self._namespace[name] is not value) and not _OF_OTHERS.fullmatch(name):
                self._namespace[name] = value
        self._under = None

    def keep(self, names: Iterable[str]) -> None:
        """Make what these names are bound to now part of the bindings; an unbound name is no longer one of them."""
        for name in names:
            if name in self._namespace:
                self.bindings[name] = self._namespace[name]
            else:
                self.bindings.pop(name, None)
