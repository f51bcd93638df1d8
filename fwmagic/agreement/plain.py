"""Values of Python that are no arrays: as what they are compared, and how they are shown."""

from __future__ import annotations

import array
import ctypes
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import sys
from collections.abc import Sequence, Set
from pathlib import PurePath
from typing import Any

from fwmagic.agreement.close import Array

# A float of Python has no dtype; it often is a float32 that `.item()` or `float()` took out of an array.
_NUMBER = "float32"
# In this order, because a bool is an int.
_KINDS = {bool: "b", int: "iu", float: "f", complex: "c"}
# What is compared by `==`: texts, exact numbers, moments, and sets of these.
_PLAIN = (
    *(str, bytes, type(None), enum.Enum, PurePath, slice),
    *(fractions.Fraction, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta),
)
_MOST_NAMED = 3
# Of these, values that are equal and of one type are the same.
_EXACT = frozenset((bool, int, str, bytes))
# So many numbers in a list are compared as an array.
_MANY = 1000


def same_plainly(a: Any, b: Any) -> bool:
    """Say whether two values are the same, and no more than numbers or text, or a container of such."""
    if type(a) is not type(b):
        return False
    if type(a) in _EXACT or a is None:
        return bool(a == b)
    if type(a) is float:
        return a == b and math.isfinite(a)
    if type(a) in (list, tuple) and a:
        return _same_exact(a, b)
    return type(a) is dict and bool(a) and _same_exact(list(a), list(b)) and _same_exact([*a.values()], [*b.values()])


def _same_exact(a: Sequence[Any], b: Sequence[Any]) -> bool:
    # The types first: other objects may compare in ways of their own, or go as deep as they like.
    return _EXACT.issuperset(map(type, a)) and [*map(type, a)] == [*map(type, b)] and a == b


def many_numbers(a: Any, b: Any) -> tuple[Array, Array] | None:
    """Return two long lists of as many numbers of one type as arrays; None if they are anything else."""
    lists = type(a) in (list, tuple) and type(b) in (list, tuple)
    if not lists or len(a) != len(b) or len(a) < _MANY or len(types := {*map(type, a), *map(type, b)}) > 1:
        return None
    import numpy as np

    dtype = np.dtype(types.pop())
    if dtype.kind not in "bif":
        return None
    try:
        x, y = np.array(a, dtype), np.array(b, dtype)
    except OverflowError:
        return None
    return Array(x, x.shape, _NUMBER), Array(y, y.shape, _NUMBER)


def unpacked(value: Any) -> Any:
    """Return a view of memory, or an array of Python's or of C's, as the list of what it holds; else the value."""
    if isinstance(value, memoryview | array.array):
        try:
            return value.tolist()
        except (NotImplementedError, ValueError):  # of a format that only bytes have, or released
            return value
    return list(value) if isinstance(value, ctypes.Array) else value


def kinds(value: Any) -> str:
    """Return the kinds of NumPy dtypes that hold such a Python number; empty: it is none."""
    return next((kinds for cls, kinds in _KINDS.items() if isinstance(value, cls)), "")


def number_array(value: float | complex) -> Array:
    """Return a Python number as an array."""
    import numpy as np

    return Array(np.asarray(value), (), _NUMBER)


def is_masked(value: Any) -> bool:
    """Say whether a value is a masked array of NumPy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ma.MaskedArray)


def is_sequence(value: Any) -> bool:
    """Say whether a value is compared by position."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def has_fields(value: Any) -> bool:
    """Say whether a value is compared by the fields of its dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, by name."""
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


def is_plain(value: Any) -> bool:
    """Say whether a value is compared by `==`, as the elements of a set are."""
    if isinstance(value, set | frozenset):
        return all(map(_is_element, value))
    return isinstance(value, _PLAIN)


def _is_element(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_element, value))
    return isinstance(value, tuple(_KINDS)) or is_plain(value)


def shown_set(elements: Set[Any], others: Set[Any]) -> str:
    """Return what of a set is not in another one, in words."""
    own = sorted(map(repr, elements - others))
    return f"{listed(own)} of {len(elements)} elements" if own else f"none of {len(elements)} elements"


def shown(value: Any, most: int = 60) -> str:
    """Return a value as Python writes it, cut at `most` characters."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def listed(words: Sequence[str]) -> str:
    """Return words with commas between them; of many, the first ones and how many more there are."""
    more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
    return ", ".join(words[:_MOST_NAMED]) + more
