"""What runs besides this code: what other threads can change, and what a run leaves to them or to an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import sys
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from fwmagic.cells.walk import Walk, globals_to_walk
from fwmagic.frameworks import Framework
from fwmagic.frameworks.untraced import is_file_of_user

# What stands for a thread that Python has not started: it counts as alive for ever, and cannot be joined.
_DUMMY: Any = getattr(threading, "_DummyThread", ())
# Where the threads of a pool run what they are given.
_POOL = concurrent.futures.thread.__file__
# The machinery of Jupyter, whose own threads hand work to the event loop of a kernel.
_OF_KERNELS = ("tornado", "zmq", "ipykernel", "anyio")


def reached_by_threads(namespace: dict[str, Any], frameworks: Sequence[Framework]) -> Walk | None:
    """Return the walk over what other threads can reach that run code of the user now; None if there are none."""
    names, roots = list[str](), list[tuple[str, Any]]()
    for ident, innermost in sys._current_frames().items():
        frame: FrameType | None = innermost if ident != threading.get_ident() else None
        while frame is not None:
            if frame.f_globals is namespace:
                names += globals_to_walk(frame.f_code)
            if frame.f_globals is namespace or is_file_of_user(frame.f_code.co_filename):
                roots += frame.f_locals.items()
            frame = frame.f_back
    for timer in (thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)):
        roots += vars(timer).items()  # what it is going to call
    if not names and not roots:
        return None
    walk = Walk(namespace, frameworks, keep=False)
    walk.run(names, roots)
    return walk


def left_at_work(before: Collection[threading.Thread]) -> threading.Thread | None:
    """Return a thread that was started since and is not at its end, unless it belongs to a pool and waits for work."""
    for thread in threading.enumerate():
        if thread not in before and thread is not threading.current_thread() and _is_at_work(thread):
            time.sleep(0)  # it may be about to end
            if thread.is_alive() and _is_at_work(thread):
                return thread
    return None


def wait_for(thread: threading.Thread, seconds: float) -> None:
    """Wait until a thread has ended, for so many seconds at most."""
    if not isinstance(thread, _DUMMY):
        thread.join(seconds)


def in_loop() -> list[asyncio.Handle]:
    """Return what waits in the event loop that runs in this thread, as in a notebook; nothing if none runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    return [*getattr(loop, "_ready", ()), *getattr(loop, "_scheduled", ())]


def left_to_loop(before: Collection[asyncio.Handle]) -> bool:
    """Say whether anything waits in that loop since, but for what Jupyter has handed to it."""
    known = {id(handle) for handle in before}
    return any(id(handle) not in known and not _is_of_kernel(handle) for handle in in_loop())


def _is_of_kernel(handle: asyncio.Handle) -> bool:
    call = getattr(handle, "_callback", None)
    task = getattr(call, "__self__", None)
    code = getattr(task.get_coro(), "cr_code", None) if isinstance(task, asyncio.Task) else None
    code = code or getattr(getattr(call, "func", call), "__code__", None)
    return code is not None and any(part in Path(code.co_filename).parts for part in _OF_KERNELS)


def _is_at_work(thread: threading.Thread) -> bool:
    by_hand = _is_by_hand(thread) and not isinstance(thread, _DUMMY)
    return by_hand or any(map(_is_work, _frames_of(thread)))


def _is_by_hand(thread: threading.Thread) -> bool:
    """Say whether the user started a thread, and no library for its own ends."""
    target = getattr(thread, "_target", None)  # Python's, while the thread runs
    calls = type(thread).run if target is None else getattr(target, "__func__", target)
    code = getattr(calls, "__code__", None)
    file = "" if code is None else code.co_filename
    return isinstance(thread, threading.Timer) or file in ("", threading.__file__) or is_file_of_user(file)


def _is_work(frame: FrameType) -> bool:
    """Say whether a frame is the user's, or of a pool that runs what it was given."""
    code = frame.f_code
    return is_file_of_user(code.co_filename) or (code.co_name == "run" and code.co_filename == _POOL)


def _frames_of(thread: threading.Thread) -> Iterator[FrameType]:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        yield frame
        frame = frame.f_back
