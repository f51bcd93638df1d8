"""Functions of the user's that an object in C holds, where no attribute leads to them, and that its code calls."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

# Objects of frameworks that hold functions are small; one that leads to all of a library is given up.
_MOST = 2000
_CLOSED = (type, ModuleType, CodeType, BuiltinFunctionType, str, bytes, int, float)


def functions_held(value: Any, is_own: Callable[[FunctionType], bool]) -> list[FunctionType]:
    """Return the functions that `is_own` is true of and that an object holds, as garbage collection finds them.

    Of functions of libraries on the way, what they close over is looked at, and not the globals.
    """
    waiting, seen, found = deque([value]), {id(value): value}, []
    while waiting and len(seen) < _MOST:
        one = waiting.popleft()
        if type(one) is FunctionType:
            if is_own(one):
                found.append(one)
                continue
            held = [*gc.get_referents(*one.__closure__ or ()), *(one.__defaults__ or ()), *vars(one).values()]
        else:
            held = gc.get_referents(one)
        for other in held:
            if id(other) not in seen and not issubclass(type(other), _CLOSED):
                seen[id(other)] = other
                waiting.append(other)
    return found
