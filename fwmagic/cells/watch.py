"""What one run does to the world outside of the notebook, as stand-ins for functions of Python tell."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fwmagic import frameworks
from fwmagic.cells.doors import AUDIT, Doors
from fwmagic.cells.processes import Started, forks_told
from fwmagic.cells.threads import in_loop, left_at_work, left_to_loop
from fwmagic.cells.written import Written
from fwmagic.report import Place

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NOT_ON_DISK = (os.devnull, ":memory:")
_STARTS, _RUNS = "starts a process", "runs `{}`"
_LOGS: Final = "logging.FileHandler.emit"


def _of(module: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{module}.{name}" for name in names)


#: What a call of each function, or what it tells by `sys.audit`, says of the cell, with its first argument in the
#: braces.
_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("builtins.open", "os.open", _LOGS), "writes `{}`"),
    **dict.fromkeys((*_of("os", "remove", "unlink", "rmdir"), "shutil.rmtree"), "removes `{}`"),
    **dict.fromkeys((*_of("os", "rename", "replace"), "shutil.move"), "moves `{}`"),
    "os.mkdir": "makes the folder `{}`",
    **dict.fromkeys(_of("os", "link", "symlink", "truncate", "ftruncate", "mkfifo", "mknod", "utime"), "changes `{}`"),
    **dict.fromkeys(_of("os", "chmod", "fchmod", "lchmod", "chown", "fchown", "lchown"), "changes `{}`"),
    **dict.fromkeys(_of("os", "chflags", "lchflags", "setxattr", "removexattr", "lockf"), "changes `{}`"),
    **dict.fromkeys(_of("fcntl", "flock", "lockf"), "changes `{}`"),
    **dict.fromkeys(("subprocess.Popen", *_of("os", "system", "execv", "execve", "spawnv", "spawnve")), _RUNS),
    **dict.fromkeys(_of("os", "posix_spawn", "posix_spawnp"), _RUNS),
    **dict.fromkeys(("os.startfile", "webbrowser.open"), "opens `{}`"),
    **dict.fromkeys((*_of("os", "fork", "forkpty"), "pty.spawn", "_winapi.CreateProcess"), _STARTS),
    **dict.fromkeys((*_of("os", "kill", "killpg"), "signal.pthread_kill"), "sends a signal"),
    **dict.fromkeys(_of("socket.socket", "connect", "connect_ex", "bind", "sendto", "sendmsg"), "uses the network"),
    **dict.fromkeys((*_of("socket.socket", "send", "sendall"), "_socket.getaddrinfo"), "uses the network"),
    **dict.fromkeys(("urllib.Request", "http.client.connect", "ftplib.connect"), "uses the network"),
    **dict.fromkeys(("smtplib.connect", "imaplib.open", "poplib.connect"), "uses the network"),
    "sqlite3.connect": "opens the database `{}`",
    "resource.setrlimit": "sets a limit of the process",
    "sys.addaudithook": "adds an audit hook",
}
_OF_PROCESSES = frozenset(name for name, words in _WORDS.items() if words in (_STARTS, _RUNS))
# Of these, so many arguments are files that can be put back.
_ON_FILES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("builtins.open", "os.open", "os.remove", "os.unlink", "os.truncate", _LOGS), 1),
    **dict.fromkeys(("os.rename", "os.replace"), 2),
}
_OPENS = ("builtins.open", "os.open")
_SENDS = _of("socket.socket", "send", "sendall")
_FOLDERS = ("dir_fd", "src_dir_fd", "dst_dir_fd")  # where a path begins, if not in the current folder
# What the first two arguments are called, where they are given by name.
_FIRST, _SECOND = ("path", "file", "src", "command", "database", "fd"), ("mode", "flags", "dst")
# Python does not tell of the processes that these start, but that they open a pipe to them.
_TO_PROCESSES = ("multiprocessing.popen_spawn_posix", "multiprocessing.popen_forkserver")
# Between the user's code and a call: what a module does while it is imported is done once in a process.
_IMPORTING = "<frozen importlib"

# No time of a call would hold that work, and it would go on while others are timed.
_LEFT_AT_WORK = "leaves a thread at work when it is done (`join()` it in the cell)"
# A file of more bytes is not kept to be put back.
_MOST_KEPT = 64 * 2**20


class Watch:
    """Watches one run of a cell while it is entered: `effect` is the first thing that it did to the world outside.

    What counts is done by the notebook's own code, or by a library for it; not what a framework's own machinery does,
    such as the cache of a compiler, nor what a module does while it is imported. What the files held that the run
    opened for writing, moved or removed is kept, so that `put_back_files` can make them as they were; `lasting` is the
    first thing that it cannot. Of code that writes to files without asking Python, traces are looked for afterwards.
    Nothing is left of the watch outside of the run: see `Doors`.
    `thread` is one that the run started, and that was still at work at its end.

    Parameters
    ----------
    namespace
        The notebook's: code with these globals is the notebook's own.
    filename
        The cell's, to say on which line it was.
    """

    def __init__(self, namespace: dict[str, Any], filename: str) -> None:
        self.effect: Place | None = None
        self.lasting: Place | None = None
        self.thread: threading.Thread | None = None
        self._namespace = namespace
        self._filename = filename
        self._machinery = tuple(part for framework in frameworks.loaded() for part in framework.machinery)
        self._own_thread = threading.get_ident()
        self._before: list[threading.Thread] = []
        self._in_loop: list[asyncio.Handle] = []
        self._others: set[int | None] = set()
        self._files: dict[Path, bytes | None] = {}  # None: there was no such file
        self._logs: dict[logging.FileHandler, bool] = {}  # whether it had its file open
        self._doors = Doors(namespace, self._hear)
        self._asked: set[str] = set()
        self._written: Written | None = None
        self._started: Started | None = None
        self._forks = ExitStack()

    def __enter__(self) -> Watch:
        self._before, self._in_loop = threading.enumerate(), in_loop()
        self._others = {thread.ident for thread in self._before} - {self._own_thread}
        self._written, self._started = Written(), Started()
        self._forks.enter_context(forks_told(partial(self._hear, "os.fork", (), {})))
        self._doors.open()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._doors.close(error)
        self._forks.close()
        path = self._written.path(self._asked) if self._written is not None and self.effect is None else ""
        if path:
            self.effect = self.lasting = Place(None, f"writes `{path}`")
        if self._started is not None and self.effect is None and self._started.any():
            self.effect = self.lasting = Place(None, _STARTS)
        self.thread = left_at_work(self._before)
        if self.thread is not None:
            self.effect = self.lasting = self.effect or Place(None, _LEFT_AT_WORK)
        if left_to_loop(self._in_loop):
            self.effect = self.lasting = self.effect or Place(None, "leaves work to the event loop")

    def _hear(self, name: str, arguments: tuple[Any, ...], named: Mapping[str, Any], frame: FrameType) -> None:
        """Note a call, if it does something to the world and is the cell's own doing."""
        if name == AUDIT and arguments:
            name, arguments = str(arguments[0]), arguments[1:]
        if name not in _WORDS:
            return
        what, how = _argument(0, _FIRST, arguments, named), _argument(1, _SECOND, arguments, named)
        if name in _OPENS and isinstance(what, int) and frame.f_globals.get("__name__") in _TO_PROCESSES:
            name = "os.fork"
        elif name in _OPENS and (isinstance(what, int) or not _is_to_write(how)):
            return
        if name in _SENDS and not _has_peer(what):
            return
        files = [_name(one) for one in (what, how)[: _ON_FILES.get(name, 0)]]
        self._asked.update(files)
        cause = self._cause(frame)
        if cause is None:
            if name in _OF_PROCESSES:
                self._started = None  # somebody else has started one: what the system tells is not of the cell alone
            return
        if _name(what) in _NOT_ON_DISK:
            return
        elsewhere = isinstance(what, int) or any(named.get(one) is not None for one in _FOLDERS)
        is_kept = bool(files) and not elsewhere and all([self._keep(Path(one).absolute()) for one in files])
        if isinstance(what, logging.FileHandler):
            self._logs.setdefault(what, what.stream is not None)
        line = next((one.f_lineno for one in _frames(cause) if one.f_code.co_filename == self._filename), None)
        place = Place(line, _WORDS[name].format(_name(what)))
        self.effect = self.effect or place
        if not is_kept:
            self.lasting = self.lasting or place

    def _cause(self, event: FrameType) -> FrameType | None:
        """Return the innermost frame of the cell's own code behind a call; None if it is not the cell's doing.

        A thread that the cell has started need not have any of its code: then it is the thread's innermost frame.
        """
        thread = threading.get_ident()
        if thread in self._others:
            return None
        for frame in _frames(event):
            if self._is_own(frame):
                return frame
            file = frame.f_code.co_filename.replace(os.sep, "/")
            if file.startswith(_IMPORTING) or any(part in file for part in self._machinery):
                return None
        return None if thread == self._own_thread else event

    def put_back_files(self) -> None:
        """Make the files that were opened for writing, moved or removed hold what they held, or be gone again.

        Where there is something else by now, such as a folder that was moved there, it stays, and is `lasting`.
        """
        for path, content in self._files.items():
            try:
                if content is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(content)
            except OSError:
                self.lasting = self.lasting or Place(None, f"writes `{path}`")
        for handler, was_open in self._logs.items():
            stream: Any = handler.stream
            if stream is not None and was_open:
                stream.seek(0, os.SEEK_END)
            elif stream is not None:
                handler.stream = None  # it opens the file when it is to write there
                stream.close()

    def _keep(self, path: Path) -> bool:
        """Keep what a file holds, or that there is none, if it can be put back; say so."""
        if path not in self._files:
            if not path.exists():
                self._files[path] = None
            elif path.is_file() and path.stat().st_size <= _MOST_KEPT and os.access(path, os.R_OK):
                self._files[path] = path.read_bytes()
        return path in self._files

    def _is_own(self, frame: FrameType) -> bool:
        return frame.f_globals is self._namespace or frame.f_code.co_filename == self._filename


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame, and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _argument(place: int, names: Collection[str], arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Return what a call was given at a place, or under one of these names."""
    return arguments[place] if place < len(arguments) else next((named[one] for one in names if one in named), None)


def _is_to_write(how: Any) -> bool:
    """Say whether a mode or flags open a file to write to it."""
    return bool(how & _WRITING) if isinstance(how, int) else not {*"wax+"}.isdisjoint(str(how))


def _has_peer(connection: socket.socket) -> bool:
    """Say whether somebody goes by a name at the other end: those of a pair, as of an event loop, are both here."""
    try:
        return bool(connection.getpeername())
    except OSError:
        return False


def _name(what: Any) -> str:
    if isinstance(what, logging.FileHandler):
        return what.baseFilename
    if isinstance(what, str | bytes | os.PathLike):
        return os.fsdecode(what)
    return type(what).__name__
