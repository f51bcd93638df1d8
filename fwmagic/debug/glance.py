"""A value at a glance: what it is, and a few numbers of an array, which is never copied for that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fwmagic.format import one_line
from fwmagic.frameworks import Framework
from fwmagic.frameworks.arrays import Spread, is_numpy, spread_of_numbers

_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MOST_TEXT = 24


@dataclass(frozen=True)
class Glance:
    """What a value is (`float32[32,5]`, `3`, `list of 2`), as which tracer it is there if it is one, and its numbers.

    `is_array` is also true of a tracer; `has_nan` of an array that is known to hold a NaN.
    """

    what: str
    tracer: str = ""
    numbers: str = ""
    is_array: bool = False
    has_nan: bool = False

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.tracer, self.numbers) if part)


def glance(value: Any, framework: Framework, numbers: bool) -> Glance:
    """Return a value at a glance; `numbers`: with those of an array, also where it is differentiated or batched."""
    tracer = framework.tracer_name(value)
    if not tracer and type(value) in _PLAIN:
        return Glance(one_line(repr(value), _MOST_TEXT))
    array = value if tracer else framework.array_in(value)
    if array is not None:
        behind = framework.behind(array) if numbers else array
        shown = _spread(behind, framework) if numbers and framework.is_array(behind) else None
        return Glance(_label(array), tracer, _in_words(shown, behind), True, _is_nan(shown))
    if is_numpy(value):
        shown = spread_of_numbers(value) if numbers else None
        return Glance(f"{_label(value)} NumPy", "", _in_words(shown, value), False, _is_nan(shown))
    return Glance(_kind(value))


def _spread(array: Any, framework: Framework) -> Spread | None:
    try:
        return framework.spread(array)
    except (RuntimeError, TypeError, NotImplementedError):  # a kind of array whose numbers cannot be had
        return None


def _label(array: Any) -> str:
    shape = ",".join(str(size) for size in getattr(array, "shape", ()))
    return f"{str(getattr(array, 'dtype', '?')).rpartition('.')[2]}[{shape}]"


def _in_words(spread: Spread | None, array: Any) -> str:
    """Return the one number of an array, or the least, mean and largest, and its first NaN or Inf."""
    if spread is None:
        return ""
    one = math.prod(getattr(array, "shape", ())) == 1
    if spread.low == spread.high:
        return f"{'' if one else 'all '}{_number(spread.low)}"
    text = _number(spread.low) if one else " / ".join(map(_number, (spread.low, spread.mean, spread.high)))
    if spread.odd is None or one:
        return text
    return f"{_number(spread.odd)} at [{','.join(map(str, spread.at or ()))}]"


def _is_nan(spread: Spread | None) -> bool:
    return spread is not None and math.isnan(spread.low)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _kind(value: Any) -> str:
    """Return what an object is, without asking it: its `repr` may be the user's own, and long."""
    kind = type(value)
    if kind in (list, tuple, dict, set, frozenset):
        return f"{kind.__name__} of {len(value)}"
    return one_line(kind.__name__, _MOST_TEXT)
