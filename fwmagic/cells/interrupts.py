"""The interrupt guard: Ctrl-C is let through only where it can do no harm, and kept for later elsewhere."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from types import FrameType, TracebackType
from typing import Any

# An interrupt that was swallowed, or that had to wait, is repeated after so many seconds.
_REPEATED = 0.3
# It waits for the end of an import for so many seconds at most.
_IMPORT = 20.0
# A second one that comes so many seconds after the first is meant for the clean-up that the first one caused.
_CLEAN_UP = 1.0


class InterruptGuard:
    """Defers SIGINT while it is entered, but for the inside of `with guard.window():`.

    In a window, SIGINT raises KeyboardInterrupt at once. What that causes there to be cleaned up is not interrupted by
    a second one that follows soon, and no import is, since a library that is half imported can often not be imported
    again. One that is swallowed, as by a compiler or by code that catches it, is repeated until the window is left, and
    then raised in any case: an interrupt ends a run. When the guard is left, the previous handler is put back and a
    SIGINT that was deferred raises KeyboardInterrupt. The guard may be entered again while it is entered. Outside of
    the main thread, where Python delivers no signal, it does nothing; the same if the process ignores SIGINT.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._open = False
        self._deferred = False
        self._previous: Any = None
        self._outside: FrameType | None = None
        self._press: _Press | None = None

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
        self._forget()
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
        repeated = self._press is not None and self._press.repeats()
        # Not in the first moment of its end either: a window has to be closed, whatever comes.
        if not self._open or (frame is not None and frame.f_code is _InterruptWindow.__exit__.__code__):
            self._deferred = self._deferred or not repeated
            return
        if self._press is None:
            self._press = _Press()
        if not self._press.waits(repeated, _is_in_import(frame, self._outside)):
            raise self._press.interrupt()

    def _forget(self) -> bool:
        """Return whether there was an interrupt in the window that is left, and repeat it no more."""
        press, self._press = self._press, None
        if press is not None:
            press.end()
        return press is not None


class _InterruptWindow:
    """The time in which an interrupt is let through; windows inside a window change nothing."""

    def __init__(self, guard: InterruptGuard) -> None:
        self._guard = guard
        self._was_open = False

    def __enter__(self) -> None:
        guard = self._guard
        self._was_open = guard._open
        if guard._depth and not guard._open and _in_main_thread():
            guard._outside = sys._getframe(1)
            guard._open = True
            if guard._deferred:
                guard._deferred = guard._open = False
                raise KeyboardInterrupt

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._was_open:
            return
        guard = self._guard
        guard._open = False
        guard._outside = None
        if guard._press is not None and guard._forget() and not (kind and issubclass(kind, KeyboardInterrupt)):
            raise KeyboardInterrupt  # whoever caught it does not know that it was meant for the whole run


class _Again(BaseException):
    """An interrupt, for code that has caught a KeyboardInterrupt; outside of the window it is one again."""


class _Press:
    """Ctrl-C in a window, and the thread that repeats it there.

    It is made by a signal handler, so that it takes no lock that the interrupted code may hold: no `threading.Thread`.
    """

    def __init__(self) -> None:
        self._at = self._raised_at = time.monotonic()
        self._error: BaseException | None = None
        self._repeats = False
        self._sending = _thread.allocate_lock()
        self._over = threading.Event()
        _thread.start_new_thread(self._repeat, (threading.get_ident(),))

    def interrupt(self) -> BaseException:
        """Return what is to be raised for it now: later on, what `except KeyboardInterrupt` does not catch again."""
        self._error, self._raised_at = KeyboardInterrupt() if self._error is None else _Again(), time.monotonic()
        return self._error

    def waits(self, repeated: bool, in_import: bool) -> bool:
        """Say whether it should not be raised now: in an import, or in what cleans up after it was raised."""
        now = time.monotonic()
        if in_import and now - self._at < _IMPORT:
            return True
        return self._is_handled() and (repeated or now - self._raised_at < _CLEAN_UP)

    def repeats(self) -> bool:
        """Say whether the signal that has just come is a repetition of it."""
        repeats, self._repeats = self._repeats, False
        return repeats

    def end(self) -> None:
        """Repeat it no more."""
        with self._sending:
            self._over.set()

    def _is_handled(self) -> bool:
        error, seen = sys.exc_info()[1], set[int]()
        while error is not None and id(error) not in seen:
            if error is self._error:
                return True
            seen.add(id(error))
            error = error.__context__
        return False

    def _repeat(self, thread: int) -> None:
        while not self._over.wait(_REPEATED):
            with self._sending:
                if self._over.is_set():
                    return
                self._repeats = True
                # To that thread, so that it is also woken where it waits.
                if sys.platform == "win32":
                    _thread.interrupt_main()
                else:
                    signal.pthread_kill(thread, signal.SIGINT)


def _is_in_import(frame: FrameType | None, outside: FrameType | None) -> bool:
    """Say whether a module is being imported in a frame, or in one that it was called from below `outside`."""
    while frame is not None and frame is not outside:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
