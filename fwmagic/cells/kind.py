"""How one kind of Python object is read, named in a path, and put back into the same object."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Final


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
        return identical(keys, now_keys) and identical(values, now_values)


def identical(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Say whether both hold the same objects in the same order."""
    if isinstance(left, range):
        return left == right
    return len(left) == len(right) and all(map(operator.is_, left, right))
