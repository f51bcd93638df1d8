"""What one run does to the world outside of the notebook, as Python itself tells by its audit events."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fwmagic import frameworks
from fwmagic.cells.processes import Started
from fwmagic.cells.threads import left_at_work
from fwmagic.cells.written import Written
from fwmagic.report import Place

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NOT_ON_DISK = (os.devnull, ":memory:")
_STARTS, _RUNS = "starts a process", "runs `{}`"
#: What each event says of the cell, with its first argument in the braces.
_WORDS: Final[Mapping[str, str]] = {
    "open": "writes `{}`",
    **dict.fromkeys(("os.remove", "os.rmdir", "shutil.rmtree"), "removes `{}`"),
    **dict.fromkeys(("os.rename", "shutil.move"), "moves `{}`"),
    "os.mkdir": "makes the folder `{}`",
    **dict.fromkeys(("os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime"), "changes `{}`"),
    **dict.fromkeys(("os.setxattr", "os.removexattr", "os.chflags", "os.lockf", "fcntl.flock"), "changes `{}`"),
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"), _RUNS),
    **dict.fromkeys(("os.startfile", "webbrowser.open"), "opens `{}`"),
    **dict.fromkeys(("os.fork", "os.forkpty", "pty.spawn", "_winapi.CreateProcess"), _STARTS),
    **dict.fromkeys(("os.kill", "os.killpg", "signal.pthread_kill"), "sends a signal"),
    **dict.fromkeys(("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"), "uses the network"),
    **dict.fromkeys(("socket.getaddrinfo", "urllib.Request", "http.client.connect"), "uses the network"),
    **dict.fromkeys(("ftplib.connect", "smtplib.connect", "imaplib.open", "poplib.connect"), "uses the network"),
    "sqlite3.connect": "opens the database `{}`",
    "resource.setrlimit": "sets a limit of the process",
    "sys.addaudithook": "adds an audit hook",
}  # fmt: skip
_OF_PROCESSES = frozenset(event for event, words in _WORDS.items() if words in (_STARTS, _RUNS))
# Of these, so many arguments are files that can be put back.
_ON_FILES: Final[Mapping[str, int]] = {"open": 1, "os.remove": 1, "os.truncate": 1, "os.rename": 2}
# Python does not tell of the processes that these start, but that they open a pipe to them.
_TO_PROCESSES = ("multiprocessing.popen_spawn_posix", "multiprocessing.popen_forkserver")
# Between the user's code and an event: what a module does while it is imported is done once in a process.
_IMPORTING = "<frozen importlib"

# No time of a call would hold that work, and it would go on while others are timed.
_LEFT_AT_WORK = "leaves a thread at work when it is done (`join()` it in the cell)"
# A file of more bytes is not kept to be put back.
_MOST_KEPT = 64 * 2**20

_armed: list[Watch] = []  # the hook cannot be taken away again, so it looks here whether anybody wants to know


class Watch:
    """Watches one run of a cell while it is entered: `effect` is the first thing that it did to the world outside.

    What counts is done by the notebook's own code, or by a library for it; not what a framework's own machinery does,
    such as the cache of a compiler, nor what a module does while it is imported. What the files held that the run
    opened for writing, moved or removed is kept, so that `put_back_files` can make them as they were; `lasting` is the
    first thing that it cannot. Of code that writes to files without asking Python, traces are looked for afterwards.
    `thread` is one that the run started, and that was still at work at its end.

    Parameters
    ----------
    namespace
        The notebook's: code with these globals is the notebook's own.
    filename
        The cell's, to say on which line it was.
    """

    def __init__(self, namespace: Mapping[str, Any], filename: str) -> None:
        self.effect: Place | None = None
        self.lasting: Place | None = None
        self.thread: threading.Thread | None = None
        self._namespace = namespace
        self._filename = filename
        self._machinery = tuple(part for framework in frameworks.loaded() for part in framework.machinery)
        self._own_thread = threading.get_ident()
        self._before: list[threading.Thread] = []
        self._others: set[int | None] = set()
        self._files: dict[Path, bytes | None] = {}  # None: there was no such file
        self._asked: set[str] = set()
        self._written: Written | None = None
        self._started: Started | None = None

    def __enter__(self) -> Watch:
        _install()
        self._before = threading.enumerate()
        self._others = {thread.ident for thread in self._before} - {self._own_thread}
        self._written, self._started = Written(), Started()
        _armed.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _armed.remove(self)
        path = self._written.path(self._asked) if self._written is not None and self.effect is None else ""
        if path:
            self.effect = self.lasting = Place(None, f"writes `{path}`")
        if self._started is not None and self.effect is None and self._started.any():
            self.effect = self.lasting = Place(None, _STARTS)
        self.thread = left_at_work(self._before)
        if self.thread is not None:
            self.effect = self.lasting = self.effect or Place(None, _LEFT_AT_WORK)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event, if it is one of those and the cell's own doing."""
        what = arguments[0] if arguments else None
        if event == "open" and isinstance(what, int) and sys._getframe(2).f_globals.get("__name__") in _TO_PROCESSES:
            event = "os.fork"
        elif event == "open" and (isinstance(what, int) or not arguments[2] & _WRITING):
            return
        files = [_name(one) for one in arguments[: _ON_FILES.get(event, 0)]]
        self._asked.update(files)
        frame = self._cause()
        if frame is None:
            if event in _OF_PROCESSES:
                self._started = None  # somebody else has started one: what the system tells is not of the cell alone
            return
        if _name(what) in _NOT_ON_DISK:
            return
        is_kept = bool(files) and all([self._keep(Path(one).absolute()) for one in files])
        line = next((one.f_lineno for one in _frames(frame) if one.f_code.co_filename == self._filename), None)
        place = Place(line, _WORDS[event].format(_name(what)))
        self.effect = self.effect or place
        if not is_kept:
            self.lasting = self.lasting or place

    def _cause(self) -> FrameType | None:
        """Return the innermost frame of the cell's own code behind an event of now; None if it is not the cell's doing.

        A thread that the cell has started need not have any of its code: then it is the thread's innermost frame.
        """
        thread, event = threading.get_ident(), sys._getframe(3)
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
        """Make the files that were opened for writing, moved or removed hold what they held, or be gone again."""
        for path, content in self._files.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)

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


def _name(what: Any) -> str:
    if isinstance(what, str | bytes | os.PathLike):
        return os.fsdecode(what)
    return type(what).__name__


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _armed and event in _WORDS:
        _armed[-1].hear(event, arguments)


@functools.cache
def _install() -> None:
    sys.addaudithook(_heard)
