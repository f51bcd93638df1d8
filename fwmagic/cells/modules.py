"""What a compiled program may have taken for fixed in modules of the user: files outside of the installed libraries."""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def of_user(namespace: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, ...]:
    """Return a hashable description of the user's modules that these names lead to: their numbers, texts and code."""
    found: dict[str, types.ModuleType] = {}
    for name in names:
        value = namespace.get(name)
        module = (
            value if isinstance(value, types.ModuleType) else sys.modules.get(getattr(value, "__module__", "") or "")
        )
        if module is not None and module.__name__ not in found and _is_of_user(module):
            found[module.__name__] = module
    return tuple((name, *map(_described, sorted(vars(module).items()))) for name, module in sorted(found.items()))


def _described(item: tuple[str, Any]) -> tuple[str, Any]:
    name, value = item
    if type(value) in _PLAIN:
        return name, (type(value).__name__, repr(value))
    return name, value.__code__ if isinstance(value, types.FunctionType) else id(value)


def _is_of_user(module: types.ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and not any(Path(file).is_relative_to(folder) for folder in _libraries())


@functools.cache
def _libraries() -> frozenset[str]:
    paths = sysconfig.get_paths()
    own = str(Path(__file__).parents[1])
    return frozenset([paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], own])
