"""The interrupt guard: Ctrl-C is let through only where it can do no harm, and kept for later elsewhere."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class InterruptGuard:
    """Defers SIGINT while it is entered, but for the inside of `with guard.window():`.

    In a window, SIGINT raises KeyboardInterrupt at once. The handler closes the window before it raises, so that
    a second SIGINT cannot break the clean-up that the first one caused. When the guard is left, the previous
    handler is put back and a SIGINT that was deferred raises KeyboardInterrupt. The guard may be entered again
    while it is entered. Outside of the main thread, where Python delivers no signal, it does nothing; the same
    if the process ignores SIGINT.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._open = False
        self._deferred = False
        self._previous: Any = None

    def __enter__(self) -> InterruptGuard:
        previous = signal.getsignal(signal.SIGINT)
        if _in_main_thread() and previous not in (None, signal.SIG_IGN):
            if self._depth == 0:
                self._open = self._deferred = False
                self._previous = previous
                signal.signal(signal.SIGINT, self._handle)
            # From here on an interrupt is deferred: the count cannot be left wrong.
            self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not _in_main_thread() or self._depth == 0:
            return
        self._open = self._open and self._depth > 1
        self._depth -= 1
        if self._depth:
            return
        previous = self._previous
        # A handler that was installed under the guard, by the user's code, stays.
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, previous)
        if self._deferred and kind is not KeyboardInterrupt:
            outer = getattr(previous, "__self__", None)
            if not isinstance(outer, InterruptGuard):
                raise KeyboardInterrupt
            outer._handle(signal.SIGINT, None)

    def window(self) -> _InterruptWindow:
        """Return a context in which SIGINT raises KeyboardInterrupt at once, also one that came before it."""
        return _InterruptWindow(self)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._open:
            self._open = False
            raise KeyboardInterrupt
        self._deferred = True


class _InterruptWindow:
    """The time in which an interrupt is let through; windows inside a window change nothing."""

    def __init__(self, guard: InterruptGuard) -> None:
        self._guard = guard
        self._was_open = False

    def __enter__(self) -> None:
        guard = self._guard
        self._was_open = guard._open
        if guard._depth and _in_main_thread():
            guard._open = True
            if guard._deferred:
                guard._deferred = False
                guard._open = False
                raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        # After an interrupt the window stays closed, also around an inner one that it came out of.
        self._guard._open = self._was_open and kind is None


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
