"""The functions of Python that reach the world outside, and what stands in for them while a run is watched."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from types import CellType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from fwmagic.cells.modules import is_of_user

#: Is told the name of a function, with what it is called, and from where.
Hear = Callable[[str, tuple[Any, ...], Mapping[str, Any], FrameType], None]

#: What libraries written in Python tell by `sys.audit`, under names of their own.
AUDIT: Final = "sys.audit"
# Not `os.fork`: who warns of it names the line that calls it. `processes.forks_told` tells of it.
_NAMES: Final = (
    "builtins.open", "os.open", "os.remove", "os.unlink", "os.rmdir", "os.rename", "os.replace", "os.mkdir",
    "os.link", "os.symlink", "os.truncate", "os.ftruncate", "os.mkfifo", "os.mknod", "os.utime",
    "os.chmod", "os.fchmod", "os.lchmod", "os.chown", "os.fchown", "os.lchown", "os.chflags", "os.lchflags",
    "os.setxattr", "os.removexattr", "os.lockf", "fcntl.flock", "fcntl.lockf", "os.system", "os.startfile",
    "os.execv", "os.execve", "os.posix_spawn", "os.posix_spawnp", "os.spawnv", "os.spawnve",
    "_winapi.CreateProcess", "os.kill", "os.killpg", "signal.pthread_kill",
    "_socket.getaddrinfo", "sqlite3.connect", "resource.setrlimit", "sys.addaudithook", AUDIT,
)  # fmt: skip
_METHODS: Final = (
    *((socket.socket, name) for name in ("connect", "connect_ex", "bind", "send", "sendall", "sendto", "sendmsg")),
    (logging.FileHandler, "emit"),
)

_Place = tuple[dict[str, Any], str, int]  # the names of a module, one of them, and the `id` of the function

_listening: list[Hear] = []


class _Door:
    """Stands in for a function of Python: tells of the call, and makes it. It equals the function, and looks like it.

    It is no function, as one that is written in Python would become a method where a class has it.
    """

    def __init__(self, name: str, function: Any) -> None:
        functools.update_wrapper(self, function)
        self.function, self.name, self.holders = function, name, 0

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if _listening:
            _listening[-1](self.name, args, kwargs, sys._getframe(1))
        return self.function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.function, name)

    def __eq__(self, other: object) -> bool:
        return bool(self.function == (other.function if type(other) is _Door else other))

    def __hash__(self) -> int:
        return hash(self.function)

    def __repr__(self) -> str:
        return repr(self.function)

    def __reduce__(self) -> str:
        return str(self.function.__name__)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.function)


def _method(owner: type, name: str) -> Any:
    """Return what stands in for a method."""
    original = getattr(owner, name)
    full = f"{owner.__module__}.{owner.__qualname__}.{name}"

    @functools.wraps(original)
    def method(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if _listening:
            _listening[-1](full, args, kwargs, sys._getframe(1))
        return original(*args, **kwargs)

    return method


class Doors:
    """Has all that a notebook calls of these functions told, between `open` and `close`; nothing is left of it then.

    They stand in wherever a module has one of the functions by any name, and so in the notebook's own names. What got
    hold of one meanwhile, such as a name that the run has imported, is given the function itself at the end.
    """

    def __init__(self, namespace: dict[str, Any], hear: Hear) -> None:
        self._namespace, self._hear = namespace, hear
        self._places: list[_Place] = []
        self._methods: list[tuple[type, str, Any, Any]] = []

    def open(self) -> None:
        """Put the stand-ins in place."""
        doors = _doors()
        # What was sent to this process may have globals of its own, such as the `open` of IPython.
        functions = [one for one in list(self._namespace.values()) if type(one) is FunctionType]
        every = {id(names): names for names in (self._namespace, *(one.__globals__ for one in functions))}
        places = [*_places_in_modules(), *chain.from_iterable(map(_places_in, every.values()))]
        self._places = [place for place in places if id(place[0].get(place[1])) == place[2]]
        for names, name, function in self._places:
            names[name] = doors[function]
        for (owner, name), method in _methods().items():
            before = vars(owner).get(name)
            if before is None or before is method.__wrapped__:
                self._methods.append((owner, name, before, method))
                setattr(owner, name, method)
        _listening.append(self._hear)

    def close(self, error: BaseException | None = None) -> None:
        """Take them away again, and out of the traceback of what was raised."""
        _listening.remove(self._hear)
        for owner, name, before, method in self._methods:
            if vars(owner).get(name) is method:
                delattr(owner, name) if before is None else setattr(owner, name, before)
        for names, name, function in self._places:
            if names.get(name) is _doors()[function]:
                names[name] = _doors()[function].function
        if not _listening:
            _let_go()
        if error is not None:
            _without_doors(error)


@functools.cache
def _doors() -> Mapping[int, _Door]:
    """Return what stands in for each function, by its `id`."""
    found = {}
    for full in _NAMES:
        module, _, name = full.rpartition(".")
        with contextlib.suppress(ImportError, AttributeError):  # other systems have others
            function = getattr(importlib.import_module(module), name)
            found[id(function)] = _Door(full, function)
    for door in found.values():
        door.holders = sys.getrefcount(door)
    return found


@functools.cache
def _methods() -> Mapping[tuple[type, str], Any]:
    return {(owner, name): _method(owner, name) for owner, name in _METHODS}


def _places_in(names: dict[str, Any]) -> list[_Place]:
    functions = _doors().keys()
    return [(names, name, id(value)) for name, value in list(names.items()) if id(value) in functions]


_known: dict[str, list[_Place]] = {}  # by module
_own: set[str] = set()  # modules of the user, who may bind others later


def _places_in_modules() -> Iterator[_Place]:
    """Yield where modules have the functions: each module is looked through once, and those of the user each time."""
    for name in _own | (sys.modules.keys() - _known.keys()):
        module = sys.modules.get(name)
        if isinstance(module, ModuleType):
            # As of any object: one that is loaded late would be loaded now.
            names = object.__getattribute__(module, "__dict__")
            _known[name] = _places_in(names)
            if "__file__" in names and is_of_user(module):
                _own.add(name)
    for places in _known.values():
        yield from places


def _let_go() -> None:
    """Give whatever has got hold of a stand-in the function itself; to find out what that is takes long."""
    held = [door for door in _doors().values() if sys.getrefcount(door) > door.holders]
    if not held:
        return
    for holder in gc.get_referrers(*held):
        if holder is not held and holder is not _doors():
            _replace_in(holder)
    for door in held:
        door.holders = sys.getrefcount(door) - 1  # that of `held`


def _replace_in(holder: Any) -> None:
    if isinstance(holder, CellType):
        holder.cell_contents = holder.cell_contents.function
    elif isinstance(holder, list):
        holder[:] = [one.function if type(one) is _Door else one for one in holder]
    elif isinstance(holder, dict):
        owners = [one for one in gc.get_referrers(holder) if isinstance(one, type)]
        for key, value in list(holder.items()):
            if type(value) is _Door:
                holder[key] = value.function
                for owner in owners:  # which remembers what it was asked for
                    setattr(owner, key, value.function)
    elif not isinstance(holder, FrameType | MethodType | tuple | _Door):
        with contextlib.suppress(AttributeError):  # such as a set
            names = object.__getattribute__(holder, "__dict__")
            names.update({name: value.function for name, value in names.items() if type(value) is _Door})


def _without_doors(error: BaseException) -> None:
    """Take our own frames out of the tracebacks of an error, and of those that led to it."""
    ours = {_Door.__call__.__code__, *(one.__code__ for one in _methods().values())}
    pending: list[BaseException | None] = [error]
    seen = set[int]()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        place = one.__traceback__
        while place is not None:
            while place.tb_next is not None and place.tb_next.tb_frame.f_code in ours:
                place.tb_next = place.tb_next.tb_next
            place = place.tb_next
        pending += [one.__cause__, one.__context__, *(one.exceptions if isinstance(one, BaseExceptionGroup) else ())]
