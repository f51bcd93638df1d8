"""Libraries: which files belong to one, and not to the user; and what a class tells of where it comes from."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path

# Where packages are installed that Python's own list of folders does not name: a user's, a distribution's.
_INSTALLED = {"site-packages", "dist-packages"}


@functools.lru_cache(maxsize=4096)
def is_of_library(path: str) -> bool:
    """Say whether a file or folder is in a folder of libraries, or was installed into another one."""
    if _INSTALLED & {*Path(path).parts} or any(Path(path).is_relative_to(folder) for folder in _folders()):
        return True
    return any(_is_installed(path, folder) for folder in sys.path if folder and isinstance(folder, str))


def module_of(class_: type) -> str:
    """Return the name of the module that a class says it is of; `builtins`: one in C that is named without a module."""
    module = getattr(class_, "__module__", None)
    return module if isinstance(module, str) else "builtins"


def _is_installed(path: str, folder: str) -> bool:
    """Say whether a package manager put a file into a folder, as `pip install --target` does."""
    if not Path(path).is_relative_to(folder) or not Path(folder).is_dir():
        return False
    inside = Path(path).relative_to(folder).parts
    return bool(inside) and inside[0] in _installed_in(folder, Path(folder).stat().st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _installed_in(folder: str, changed: int) -> frozenset[str]:
    """Return what the records of the packages in a folder name there; it was `changed` at that time."""
    records = [record.read_text("utf-8", "replace") for record in Path(folder).glob("*.dist-info/RECORD")]
    lines = (line for record in records for line in record.splitlines())
    return frozenset(line.partition(",")[0].strip('"').partition("/")[0] for line in lines) - {"", ".."}


@functools.cache
def _folders() -> frozenset[str]:
    paths = sysconfig.get_paths()
    own = str(Path(__file__).parent)
    return frozenset([paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], own])
