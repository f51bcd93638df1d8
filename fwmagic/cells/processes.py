"""Processes that are started: forks as they happen, and afterwards those of code in C, by what the system tells."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

if sys.platform == "win32":
    resource = None
else:
    import resource

_THREADS = Path("/proc/self/task")


_hearing: list[Callable[[FrameType], None]] = []


@contextlib.contextmanager
def forks_told(hear: Callable[[FrameType], None]) -> Iterator[None]:
    """Call a function with the frame that forks, before it does, whoever forks in the block."""
    _register()
    _hearing.append(hear)
    try:
        yield
    finally:
        _hearing.remove(hear)


@functools.cache
def _register() -> None:
    """Let Python tell of forks: that cannot be taken back, and costs nothing but at a fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_tell)


def _tell() -> None:
    for hear in tuple(_hearing):
        hear(sys._getframe(1))


class Started:
    """Which processes this one has started so far that still live, and what those used that have ended."""

    def __init__(self) -> None:
        self._alive, self._used = _alive(), _used_by_ended()

    def any(self) -> bool:
        """Say whether a process was started since; where the system tells only of those that have ended, one of these.

        One that lived before and has ended meanwhile accounts for what ended ones used.
        """
        now = _alive()
        return not now <= self._alive or (now == self._alive and _used_by_ended() != self._used)


def _alive() -> set[str]:
    """Return the numbers of the processes that threads of this one have started and that live. Known on Linux only."""
    found = set[str]()
    with contextlib.suppress(OSError):  # not Linux
        for thread in _THREADS.iterdir():
            with contextlib.suppress(OSError):  # it has ended, or the system does not tell
                found.update((thread / "children").read_text().split())
    return found


def _used_by_ended() -> int:
    """Return the page faults of the processes that have ended: none starts without any."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
