"""The lines of the user's code while they run: whose frames they are in, and when each line begins and ends."""

from __future__ import annotations

import io
import linecache
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from types import CodeType, FrameType
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Follower(ABC, Generic[V]):
    """Is told of each line of the user's own code that a block runs, in this thread.

    A frame is the user's if its globals are those of the module `module`, a notebook's, and its text is known.
    `open` has what `begin` returned for the line that each frame is at. `tracer` is what Python tells.
    """

    def __init__(self, module: str, wrapped: Callable[[Any], Callable[..., Any]] = lambda function: function) -> None:
        self.open: dict[FrameType, V] = {}
        self.tracer = wrapped(self.enter)
        self._tracer_of_lines = wrapped(self._line)
        self._module = module
        self._users: dict[CodeType, bool] = {}

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow what runs in the block; another tracer that was there is there again afterwards."""
        before = sys.gettrace()
        _set_tracer(self.tracer)
        try:
            yield
        finally:
            _set_tracer(before)

    def enter(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        """Follow a frame that begins, if it is the user's."""
        if not self.goes_on():
            return None
        if not self._is_users(frame):
            return self.enter_other(frame)
        self.enter_own(frame)
        return self._tracer_of_lines

    def goes_on(self) -> bool:
        """Say whether there is more to be told of."""
        return True

    def enter_own(self, frame: FrameType) -> None:
        """Take note that a frame of the user begins."""

    def enter_other(self, frame: FrameType) -> Callable[..., Any] | None:
        """Return what Python is to tell of a frame that is not the user's: None for nothing."""
        return None

    def continues(self, frame: FrameType) -> bool:
        """Say whether the line that a frame comes to belongs to the one that it is at."""
        return False

    @abstractmethod
    def begin(self, frame: FrameType) -> V:
        """Take note that a line begins."""

    @abstractmethod
    def end(self, frame: FrameType, visit: V, value: Any, last: bool) -> None:
        """Take note that a line has run, or was left by an exception.

        `last`: its frame ends with it; `value` is what that returned, or None.
        """

    def _line(self, frame: FrameType, event: str, value: Any) -> Callable[..., Any] | None:
        if event == "line":
            if self.continues(frame):
                return self._tracer_of_lines
            self._close(frame, None, last=False)
            if not self.goes_on():
                return None
            self.open[frame] = self.begin(frame)
        elif event == "return":
            self._close(frame, value, last=True)
        return self._tracer_of_lines

    def _close(self, frame: FrameType, value: Any, last: bool) -> None:
        if frame in self.open:
            self.end(frame, self.open.pop(frame), value, last)

    def _is_users(self, frame: FrameType) -> bool:
        code = frame.f_code
        if code not in self._users:
            self._users[code] = bool(linecache.getline(code.co_filename, code.co_firstlineno))
        return self._users[code] and frame.f_globals.get("__name__") == self._module


def _set_tracer(tracer: Any) -> None:
    # The debugger of JupyterLab prints that another tracer disturbs it; its own is put back.
    with redirect_stderr(io.StringIO()) if "debugpy" in sys.modules else nullcontext():
        sys.settrace(tracer)
