"""What one run does to the world outside of the notebook, as Python itself tells by its audit events."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fwmagic import frameworks
from fwmagic.report import Place

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NOT_ON_DISK = (os.devnull, ":memory:")
#: What each event says of the cell, with its first argument in the braces.
_WORDS: Final[Mapping[str, str]] = {
    "open": "writes `{}`",
    **dict.fromkeys(("os.remove", "os.rmdir", "shutil.rmtree"), "removes `{}`"),
    **dict.fromkeys(("os.rename", "shutil.move"), "moves `{}`"),
    "os.mkdir": "makes the folder `{}`",
    **dict.fromkeys(("os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime"), "changes `{}`"),
    **dict.fromkeys(("os.setxattr", "os.removexattr", "os.chflags", "os.lockf", "fcntl.flock"), "changes `{}`"),
    **dict.fromkeys(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"), "runs `{}`"),
    **dict.fromkeys(("os.startfile", "webbrowser.open"), "opens `{}`"),
    **dict.fromkeys(("os.fork", "os.forkpty", "pty.spawn"), "starts a process"),
    **dict.fromkeys(("os.kill", "os.killpg", "signal.pthread_kill"), "sends a signal"),
    **dict.fromkeys(("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"), "uses the network"),
    **dict.fromkeys(("socket.getaddrinfo", "urllib.Request", "http.client.connect"), "uses the network"),
    **dict.fromkeys(("ftplib.connect", "smtplib.connect", "imaplib.open", "poplib.connect"), "uses the network"),
    "sqlite3.connect": "opens the database `{}`",
    "resource.setrlimit": "sets a limit of the process",
    "sys.addaudithook": "adds an audit hook",
}  # fmt: skip
# Between the user's code and an event: what a module does while it is imported is done once in a process.
_IMPORTING = "<frozen importlib"

# A file of more bytes is not kept to be put back.
_MOST_KEPT = 64 * 2**20

_armed: list[Watch] = []  # the hook cannot be taken away again, so it looks here whether anybody wants to know


class Watch:
    """Watches one run of a cell while it is entered: `effect` is the first thing that it did to the world outside.

    What counts is done by the notebook's own code, or by a library for it; not what a framework's own machinery does,
    such as the cache of a compiler, nor what a module does while it is imported. Code that writes to files without
    asking Python, as some libraries do, is not seen. What the files held that the run opened for writing is kept, so
    that `put_back_files` can make them as they were.

    Parameters
    ----------
    namespace
        The notebook's: code with these globals is the notebook's own.
    filename
        The cell's, to say on which line it was.
    """

    def __init__(self, namespace: Mapping[str, Any], filename: str) -> None:
        self.effect: Place | None = None
        self._namespace = namespace
        self._filename = filename
        self._machinery = tuple(part for framework in frameworks.loaded() for part in framework.machinery)
        self._own_thread = threading.get_ident()
        self._others: set[int | None] = set()
        self._files: dict[Path, bytes | None] = {}  # None: there was no such file

    def __enter__(self) -> Watch:
        _install()
        self._others = {thread.ident for thread in threading.enumerate()} - {self._own_thread}
        _armed.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _armed.remove(self)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note an event, if it is one of those and the cell's own doing."""
        if (self.effect is not None and event != "open") or threading.get_ident() in self._others:
            return
        what = arguments[0] if arguments else None
        if event == "open" and (isinstance(what, int) or not arguments[2] & _WRITING):
            return
        name = _name(what)
        if name in _NOT_ON_DISK:
            return
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and not self._is_own(frame):
            file = frame.f_code.co_filename.replace(os.sep, "/")
            if file.startswith(_IMPORTING) or any(part in file for part in self._machinery):
                return
            frame = frame.f_back
        # A thread that the cell has started need not have any of the cell's code below the event.
        if frame is None and threading.get_ident() == self._own_thread:
            return
        if event == "open":
            self._keep(Path(name).absolute())
        if self.effect is not None:
            return
        while frame is not None and frame.f_code.co_filename != self._filename:
            frame = frame.f_back
        self.effect = Place(None if frame is None else frame.f_lineno, _WORDS[event].format(name))

    def put_back_files(self) -> None:
        """Make the files that were opened for writing hold what they held before, or be gone again."""
        for path, content in self._files.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)

    def _keep(self, path: Path) -> None:
        if path in self._files:
            return
        if not path.exists():
            self._files[path] = None
        elif path.is_file() and path.stat().st_size <= _MOST_KEPT and os.access(path, os.R_OK):
            self._files[path] = path.read_bytes()

    def _is_own(self, frame: FrameType) -> bool:
        return frame.f_globals is self._namespace or frame.f_code.co_filename == self._filename


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
