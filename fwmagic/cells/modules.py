"""Modules: which are the user's own, and which belong to libraries."""

from __future__ import annotations

import dis
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from fwmagic.frameworks import BUILT_IN
from fwmagic.libraries import is_of_library, module_of

_NUMBERS = frozenset({bool, int, float, complex, str, bytes, type(None)})
# Modules that are made without an import, by what makes extensions.
_OF_EXTENSIONS = ("_cython_", "cython_runtime", "nanobind", "pybind11_")


def modules_of(code: CodeType, package: str = "") -> list[ModuleType]:
    """Return the modules of the user that code may import, or look up, of those that have been imported.

    Names and texts in code tell which; of a module in a `package` also those beside it. A computed name does not tell.
    """
    words = _words_of_imports(code)
    # `import a.b` binds `a`, and `from a import b` may mean the module `a.b`.
    roots = {word for word in words if word in sys.modules}
    roots |= {f"{root}.{word}" for root in {*roots, package} - {""} for word in words}
    found = [sys.modules[name] for name in sorted(roots) if name in sys.modules]
    return [one for one in found if isinstance(one, ModuleType) and one.__name__ != "__main__" and is_of_user(one)]


def parts_named(code: CodeType, namespace: Mapping[str, Any]) -> list[ModuleType]:
    """Return the modules in packages of libraries that code names, as `html.entities` where `html` is bound.

    Those of the frameworks are left to them.
    """
    words = _names_in(code)
    found, pending = [], [one for one in map(namespace.get, words) if isinstance(one, ModuleType)]
    while pending:
        package = pending.pop()
        if package.__name__.partition(".")[0] not in BUILT_IN and not is_of_user(package):
            inside = (vars(package).get(word) for word in words)
            parts = [one for one in inside if isinstance(one, ModuleType)]
            parts = [one for one in parts if one.__name__.startswith(f"{package.__name__}.")]
            found += parts
            pending += parts
    return found


@functools.lru_cache(maxsize=4096)
def _names_in(code: CodeType) -> frozenset[str]:
    inside = (_names_in(const) for const in code.co_consts if isinstance(const, CodeType))
    return frozenset(code.co_names).union(*inside)


@functools.lru_cache(maxsize=4096)
def _words_of_imports(code: CodeType) -> frozenset[str]:
    """Return the names and texts in code that imports something, or looks it up; none of other code."""
    words, pending, imports = set[str](), [code], False
    while pending:
        current = pending.pop()
        imports = imports or any(one.opname == "IMPORT_NAME" for one in dis.get_instructions(current))
        words.update(current.co_names, (const for const in current.co_consts if isinstance(const, str)))
        pending += [const for const in current.co_consts if isinstance(const, CodeType)]
    looks_up = {"import_module", "__import__"} & words or {"sys", "modules"} <= words
    return frozenset(words) if imports or looks_up else frozenset()


@contextmanager
def on_import(take_in: Callable[[ModuleType], None]) -> Iterator[None]:
    """Call a function with each module of the user that is imported in the block, once its code has run.

    What compilers write and load is not among them: it lies where Python does not look for modules.
    """
    execute, own = SourceFileLoader.exec_module, "exec_module" in vars(SourceFileLoader)

    def exec_module(loader: Any, module: ModuleType) -> None:
        execute(loader, module)
        if is_of_user(module) and any(Path(loader.path).is_relative_to(Path(folder).absolute()) for folder in sys.path):
            take_in(module)

    SourceFileLoader.exec_module = exec_module  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        if own:
            SourceFileLoader.exec_module = execute  # type: ignore[method-assign]
        else:  # it is that of a base
            del SourceFileLoader.exec_module


def is_of_user(module: ModuleType) -> bool:
    """Say whether the user wrote a module: a file that is in no folder of libraries, or made it without any file."""
    if type(module) is not ModuleType:  # one that a library makes as it is asked for
        return False
    file = vars(module).get("__file__")
    if file is not None:
        return _is_file_of_user(str(file))
    if vars(module).get("__spec__") is not None or module.__name__ == "__main__":
        return False
    # A part of an extension need not have a file, but it goes by the name of its package.
    package = sys.modules.get(module.__name__.partition(".")[0])
    return (package is None or package is module) and not module.__name__.startswith(_OF_EXTENSIONS)


def is_function_of_user(function: FunctionType) -> bool:
    """Say whether the user wrote a function, in the notebook or elsewhere: its module may be one that nobody knows.

    The globals of a script, of a module that was loaded by its path, and of code for `exec` are those of no module in
    `sys.modules`: the file of the code tells then.
    """
    names = function.__globals__
    module = sys.modules.get(str(names.get("__name__")))
    if type(module) is ModuleType and vars(module) is names:
        return module.__name__ == "__main__" or is_of_user(module)
    file = function.__code__.co_filename
    return not is_of_library(file) if Path(file).is_absolute() else _is_name_of_user(str(names.get("__name__", "")))


def is_class_of_user(class_: type) -> bool:
    """Say whether the user wrote a class outside of the notebook: its module may be one that nobody knows."""
    name = module_of(class_)
    if name == "builtins":  # it was made where there is no `__name__`
        return any(type(one) is FunctionType and is_function_of_user(one) for one in vars(class_).values())
    return is_of_user(sys.modules[name]) if name in sys.modules else _is_name_of_user(name)


def _is_name_of_user(name: str) -> bool:
    """Say whether a name that is no module's may be one of the user's: not of what lies in a package of a library."""
    package = sys.modules.get(name.partition(".")[0])
    known = package is None or package.__name__ == "__main__" or is_of_user(package)
    return known and not name.startswith(_OF_EXTENSIONS)


@functools.lru_cache(maxsize=4096)
def _is_file_of_user(file: str) -> bool:
    return Path(file).is_absolute() and not is_of_library(file)


def has_finalizer(class_: type) -> bool:
    """Say whether the user wrote a `__del__` for objects of a class."""
    owner = next((one for one in class_.__mro__ if "__del__" in vars(one)), None)
    module = None if owner is None else sys.modules.get(module_of(owner))
    return owner is not None and (module is None or module.__name__ == "__main__" or is_of_user(module))


def finalizes(value: Any) -> bool:
    """Say whether an object, or what it holds in containers and attributes, has a finalizer that the user wrote."""
    pending, seen, kinds = [value], {id(value)}, set(_NUMBERS)
    while pending:
        one = pending.pop()
        if type(one) not in kinds and has_finalizer(type(one)):
            return True
        kinds.add(type(one))
        if issubclass(type(one), ModuleType | type):  # others have it, too, so that it does not end here
            continue
        held: Any = getattr(one, "__dict__", None)
        inside = [*held.values()] if issubclass(type(held), dict) else []
        if issubclass(type(one), dict):
            inside += [*one.values()]
        elif issubclass(type(one), list | tuple | set | frozenset):
            inside += [*one]
        new = {id(item): item for item in inside if type(item) not in _NUMBERS and id(item) not in seen}
        pending += new.values()
        seen |= new.keys()
    return False
