"""Modules: which are the user's own, and which belong to libraries."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

# Where packages are installed that Python's own list of folders does not name: a user's, a distribution's.
_INSTALLED = {"site-packages", "dist-packages"}


def is_of_user(module: ModuleType) -> bool:
    """Say whether the user wrote a module: a file that is in no folder of libraries, or made it without any file."""
    if type(module) is not ModuleType:  # one that a library makes as it is asked for
        return False
    file = vars(module).get("__file__")
    if file is not None:
        return Path(str(file)).is_absolute() and not is_of_library(str(file))
    if vars(module).get("__spec__") is not None or module.__name__ == "__main__":
        return False
    # A part of an extension need not have a file, but it goes by the name of its package, or is among the modules.
    return module.__name__.partition(".")[0] not in sys.modules


@functools.cache
def is_of_library(path: str) -> bool:
    """Say whether a file or folder is in a folder of libraries."""
    return any(Path(path).is_relative_to(folder) for folder in _libraries()) or bool(_INSTALLED & {*Path(path).parts})


@functools.cache
def _libraries() -> frozenset[str]:
    paths = sysconfig.get_paths()
    own = str(Path(__file__).parents[1])
    return frozenset([paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], own])
