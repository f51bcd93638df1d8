"""A worker: a fresh process that a variant runs in, started from a server that has its frameworks imported already."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from threading import RLock
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import cloudpickle
import psutil
from tblib import pickling_support
from tqdm.std import tqdm

from fwmagic import frameworks
from fwmagic.errors import FwMagicError


@dataclass(frozen=True)
class RaisedInWorker:
    """What a task raised, pickled with its traceback."""

    pickled: bytes

    def error(self) -> Exception:
        """Return the exception; classes of the notebook are those of the notebook again."""
        error: Exception = cloudpickle.loads(self.pickled)
        return error


#: The one object that lives in this process, if it is a worker that has taken one in.
_guest: Any = None


def take_in(kind: Callable[[], object]) -> None:
    """Make the object that this worker is for: what it is asked later finds it here."""
    global _guest
    _guest = kind()


def ask_guest(method: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a method of that object returns."""
    return method(_guest, *arguments)


def answer(task: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the task returns, or `RaisedInWorker`."""
    try:
        return task(*arguments)
    except Exception as error:  # whatever the user's code raises has to reach the notebook
        return RaisedInWorker(packed(error))


def packed(error: BaseException) -> bytes:
    """Return an exception pickled with its traceback; one that cannot be pickled is told in words instead."""
    pickling_support.install(error)
    try:
        pickled: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(pickled)
        return pickled
    except Exception:  # whatever its attributes raise when they are pickled
        told = FwMagicError(f"{type(error).__name__}: {error}").with_traceback(error.__traceback__)
        pickling_support.install(told)
        in_words: bytes = cloudpickle.dumps(told)
        return in_words


if sys.platform == "linux":
    import fcntl


@dataclass(frozen=True)
class WorkerSetting:
    """What a worker starts with.

    `environment` is its whole environment, `folder` its working folder, `path` where its imports are looked for.
    `cores` are the numbers of the processor's cores that it may run on (none: any).
    """

    environment: Mapping[str, str]
    folder: str
    path: tuple[str, ...]
    cores: tuple[int, ...] = ()


def begin(setting: WorkerSetting) -> None:
    """Set this process up; no framework has started yet."""
    # Ctrl-C reaches the whole group of processes that a kernel belongs to; it is the kernel that ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_kernel()
    os.environ.clear()
    os.environ.update(setting.environment)
    with contextlib.suppress(OSError):  # a folder that is gone: the kernel is in it, too
        os.chdir(setting.folder)
    sys.path[:] = setting.path
    if setting.cores:
        os.sched_setaffinity(0, setting.cores)
    # tqdm, which torch's compiler uses, would make a lock between processes, and a process that is killed leaves it.
    tqdm.set_lock(RLock())


def own_pid() -> int:
    """Return the number of this process."""
    return os.getpid()


def _end_with_kernel() -> None:
    """Let the system end this process when the kernel ends, however that happens, and without a thread that waits.

    The end of the kernel closes its end of a pipe. Linux is asked to signal that, and the signal ends a process.
    """
    kernel = multiprocessing.parent_process()
    if sys.platform == "linux" and kernel is not None:
        pipe = kernel.sentinel
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if wait([pipe], timeout=0):  # it ended before there was anybody to signal that to
            os._exit(1)


_T = TypeVar("_T")
_P = ParamSpec("_P")
#: While a worker is watched, its memory is read so often; seconds.
_WATCH = 0.05
#: A worker that was killed ends at once; what waits for that does so for this long at most; seconds.
_END = 5.0


class WorkerEnded(FwMagicError):
    """A worker ended before its task did: the sentence says how."""


class Worker:
    """A process of its own for one variant: a standard executor with one process.

    Parameters
    ----------
    setting
        What the process starts with.
    anew
        It imports everything itself: only so does what is read when a library is loaded come from its environment.

    Attributes
    ----------
    resident
        The bytes of its resident memory when a watched task began, and when they were last read; None: never.
    """

    def __init__(self, setting: WorkerSetting, anew: bool = False) -> None:
        self.resident: tuple[int, int] | None = None
        context, made = _remembering_processes(_process_context(anew))
        self._executor = ProcessPoolExecutor(1, context, initializer=begin, initargs=(setting,))
        with _process_without_main():
            self._started = self._executor.submit(own_pid)
        # The executor starts its one process with its first task, and does not tell which one it is.
        (self._process,) = made

    def wait(self) -> None:
        """Wait until the process is there.

        Raises
        ------
        WorkerEnded
            It could not begin.
        """
        self._result(self._started, None, watched=False)

    @property
    def number(self) -> int:
        """The number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def call(self, task: Callable[..., _T], *arguments: Any, timeout: float | None = None, watched: bool = False) -> _T:
        """Return what `task(*arguments)` returns there, or raise what it raises.

        With `watched`, the worker's memory is read while it is waited for, so that it is known if it ends.

        Raises
        ------
        WorkerEnded
            The process ended, or did not answer within `timeout` seconds, and was ended then.
        """
        if watched:
            self.resident = None
            self._watch()
        try:
            future: Future[_T | RaisedInWorker] = self._executor.submit(answer, task, *arguments)
        except BrokenProcessPool:
            raise WorkerEnded(self._how_it_ended()) from None
        found = self._result(future, timeout, watched)
        if isinstance(found, RaisedInWorker):
            raise found.error()
        return found

    def ask(
        self,
        method: Callable[Concatenate[Any, _P], _T],
        *arguments: Any,
        timeout: float | None = None,
        watched: bool = False,
    ) -> _T:
        """Return what a method of the object that the process has taken in returns there; raises like `call`."""
        found: _T = self.call(ask_guest, method, *arguments, timeout=timeout, watched=watched)
        return found

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._process.join(_END)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _result(self, future: Future[_T], timeout: float | None, watched: bool) -> _T:
        left = timeout
        while True:
            part = _WATCH if watched else left
            if left is not None and part is not None:
                part = min(part, left)
            try:
                return future.result(part)
            except BrokenProcessPool:
                raise WorkerEnded(self._how_it_ended()) from None
            except TimeoutError:
                pass
            if left is not None and part is not None:
                left -= part
                if left <= 0:
                    self._process.kill()
                    raise WorkerEnded(f"it did not answer within {timeout:g} s, and was ended (--timeout)")
            if watched:
                self._watch()

    def _watch(self) -> None:
        with contextlib.suppress(psutil.Error):  # it ended in this moment
            now = int(psutil.Process(self.number).memory_info().rss)
            if now:  # what is left of a process that ended holds nothing
                self.resident = (self.resident[0] if self.resident else now, now)

    def _how_it_ended(self) -> str:
        # The executor's own thread waits for the process, too: only one of two may read how it ended.
        self._executor.shutdown(wait=True)
        self._process.join(_END)
        code = self._process.exitcode
        if code is None:
            return "its process does not answer any more"
        if code >= 0:
            return f"its process ended itself with exit status {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = {
            "SIGKILL": "; the system does that where memory runs out",
            "SIGSEGV": ": a segmentation fault",
            "SIGBUS": ": memory that is not there was read",
            "SIGABRT": ": a library gave up",
        }.get(name, "")
        return f"its process was ended by {name}{why}"


def _process_context(anew: bool) -> Any:
    """Return how processes are started: by a server that has the frameworks imported, where the system has one."""
    if anew or "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # What the kernel has not imported by now will be imported by those workers that need it.
    companions = [name for framework in frameworks.loaded() for name in framework.companions]
    loaded = [name for name in companions if name in sys.modules]
    context.set_forkserver_preload(["fwmagic.worker.preload", *loaded])
    return context


def _remembering_processes(context: Any) -> tuple[Any, list[BaseProcess]]:
    """Return a context like this one, and the list to which it adds each process that it makes."""
    own, made = type(context)(), []

    def process(*arguments: Any, **keywords: Any) -> BaseProcess:
        new: BaseProcess = context.Process(*arguments, **keywords)
        made.append(new)
        return new

    own.Process = process
    return own, made


@contextlib.contextmanager
def _process_without_main() -> Iterator[None]:
    """Keep a new process from running the main module again: here that is the notebook, or whatever started it."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main).pop(name) for name in ("__spec__", "__file__") if name in vars(main)}
    main.__spec__ = None
    try:
        yield
    finally:
        del main.__spec__
        vars(main).update(hidden)
