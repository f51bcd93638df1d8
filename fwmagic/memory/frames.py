"""The local variables that tracebacks keep alive, and those of the notebook's functions that run in this moment."""

from __future__ import annotations

import gc
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fwmagic.cells.walk import uncollected


@dataclass(frozen=True)
class Place:
    """How a reader is told where a path starts that is no name of the notebook: words `before` and `after` it.

    `own`: it is the notebook's, and not in the middle of a library.
    """

    before: str
    after: str = ""
    own: bool = True


#: A local variable: where it is, its name, its value.
Local = tuple[Place, str, Any]


class Frames:
    """The frames of tracebacks and of running functions, each read once, under the first words that lead to it."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._seen: dict[int, Any] = {}  # by id; kept, so that an id stays what it was

    def last(self) -> Iterator[Local]:
        """Yield the last exception and its traceback's local variables: Python's, then what IPython keeps besides."""
        for name in ("last_exc", "last_value"):
            error = getattr(sys, name, None)
            yield Place(""), f"sys.{name}", error
            yield from self.of(error, "last traceback: ")
        yield from self._of_traceback(getattr(sys, "last_traceback", None), "last traceback: ")
        formatter = getattr(_shell(self._namespace), "InteractiveTB", None)
        yield from self._of_traceback(getattr(formatter, "tb", None), "IPython's last traceback: ")

    def of(self, error: Any, before: str) -> Iterator[Local]:
        """Yield the local variables that an exception keeps by its traceback, and by those of what led to it."""
        waiting = [error]
        while waiting:
            error = waiting.pop()
            if isinstance(error, BaseException) and id(error) not in self._seen:
                self._seen[id(error)] = error
                waiting += [error.__context__, error.__cause__]
                yield from self._of_traceback(error.__traceback__, before)

    def running(self) -> Iterator[Local]:
        """Yield the local variables of notebook functions that run, in any thread."""
        for frame in _running(self._namespace):
            yield from self._of_frame(frame, frame.f_lineno, "running: ")

    def _of_traceback(self, trace: Any, before: str) -> Iterator[Local]:
        while isinstance(trace, types.TracebackType):
            yield from self._of_frame(trace.tb_frame, trace.tb_lineno, before)
            trace = trace.tb_next

    def _of_frame(self, frame: types.FrameType, line: int, before: str) -> Iterator[Local]:
        if id(frame) in self._seen:
            return
        self._seen[id(frame)] = frame
        code = frame.f_code
        own = frame.f_globals is self._namespace
        where = f"line {line}" if own else f"{PurePath(code.co_filename).name}, line {line}"
        function = code.co_qualname.rpartition("<locals>.")[2]
        place = Place(before, f" in `{function}` ({where})", own)
        for name, value in _locals(frame).items():
            yield place, name, value


def _locals(frame: types.FrameType) -> dict[str, Any]:
    """Return the local variables of a function's frame; none of a module's or a class's, which are held elsewhere."""
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return {}
    with uncollected():
        had = gc.get_referents(frame)
        held = frame.f_locals
        found = dict(held)
        # Before Python 3.13 it is a dict that the frame keeps from now on, even when its variables are cleared.
        if type(held) is dict and not any(one is held for one in had):
            held.clear()
    return found


def _running(namespace: Mapping[str, Any]) -> list[types.FrameType]:
    """Return the frames of functions of the notebook that run; no variable is left that leads to this frame itself."""
    found = []
    for frame in sys._current_frames().values():
        at: types.FrameType | None = frame
        while at is not None:
            if at.f_globals is namespace:
                found.append(at)
            at = at.f_back
        del frame
    return found


def _shell(namespace: Mapping[str, Any]) -> Any:
    """Return the IPython shell whose namespace it is, or None."""
    return getattr(namespace.get("get_ipython"), "__self__", None)
