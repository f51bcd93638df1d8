"""Libraries: which files belong to one, and not to the user."""

from __future__ import annotations

import functools
import sysconfig
from pathlib import Path

# Where packages are installed that Python's own list of folders does not name: a user's, a distribution's.
_INSTALLED = {"site-packages", "dist-packages"}


@functools.lru_cache(maxsize=4096)
def is_of_library(path: str) -> bool:
    """Say whether a file or folder is in a folder of libraries."""
    return bool(_INSTALLED & {*Path(path).parts}) or any(Path(path).is_relative_to(folder) for folder in _folders())


@functools.cache
def _folders() -> frozenset[str]:
    paths = sysconfig.get_paths()
    own = str(Path(__file__).parent)
    return frozenset([paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], own])
