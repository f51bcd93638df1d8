"""Modules: which are the user's own, and which belong to libraries."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from fwmagic.libraries import is_of_library

# Modules that Cython makes without an import.
_OF_CYTHON = ("_cython_", "cython_runtime")


def is_of_user(module: ModuleType) -> bool:
    """Say whether the user wrote a module: a file that is in no folder of libraries, or made it without any file."""
    if type(module) is not ModuleType:  # one that a library makes as it is asked for
        return False
    file = vars(module).get("__file__")
    if file is not None:
        return Path(str(file)).is_absolute() and not is_of_library(str(file))
    if vars(module).get("__spec__") is not None or module.__name__ == "__main__":
        return False
    # A part of an extension need not have a file, but it goes by the name of its package; Cython's own part has none.
    package = sys.modules.get(module.__name__.partition(".")[0])
    return (package is None or package is module) and not module.__name__.startswith(_OF_CYTHON)
