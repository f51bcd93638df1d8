"""Numbers, texts and containers of these, as what two runs leave is compared by."""

from __future__ import annotations

import re
import time
from array import array
from collections import deque
from typing import Any

from fwmagic.libraries import module_of

NUMBERS = (bool, int, float, complex, str, bytes, type(None))
CONTAINERS = (list, dict, set, deque, array)
MOST_READ = 1000  # of what is in one container
_DEEPEST = 4
# Numbers from here on may be addresses or hashes, and so may be such texts; numbers of a day near now are times.
_ADDRESSES = 1 << 40
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")
_DAY = 86400.0


def comparable(value: Any, depth: int = 0) -> Any:
    """Return a copy of a tree of numbers and texts, with `...` for whatever else is in it.

    Else are also addresses, hashes and times of today, which no two runs share, and what is long or nested deep.
    """
    kind = type(value)
    if kind in NUMBERS:
        return ... if _is_of_a_run(value) else value
    if module_of(kind) == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value
    if depth > _DEEPEST or not issubclass(kind, (*CONTAINERS, tuple)) or len(value) > MOST_READ:
        return ...
    if issubclass(kind, dict):
        pairs = [(comparable(key, depth + 1), one) for key, one in value.items()]
        return {key: comparable(one, depth + 1) for key, one in pairs if type(key) in NUMBERS}
    items = [comparable(one, depth + 1) for one in value]
    if issubclass(kind, set):
        return ... if any(type(one) not in NUMBERS for one in items) else set(items)
    return items


def _is_of_a_run(value: Any) -> bool:
    if type(value) is int:
        return abs(value) >= _ADDRESSES
    if type(value) is float:
        return abs(value - time.time()) < _DAY
    return type(value) is str and _ADDRESS.search(value) is not None
