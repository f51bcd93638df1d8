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
from multiprocessing import forkserver, resource_tracker
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
from fwmagic.errors import FwMagicError, entries_of, in_words, traceback_of
from fwmagic.worker.parcel import dumps


@dataclass(frozen=True)
class RaisedInWorker:
    """What a task raised: pickled with its traceback, and in words, for where it cannot be had again."""

    pickled: bytes
    words: str

    @classmethod
    def of(cls, error: BaseException) -> RaisedInWorker:
        """Return an exception as it is sent; one that cannot be pickled is told in words instead."""
        _shorten(error)
        words = in_words(error)
        for one in (error, words):
            try:
                pickling_support.install(one)
                pickled = dumps(one)
                if isinstance(cloudpickle.loads(pickled), BaseException):
                    return cls(pickled, str(words))
            except KeyboardInterrupt:
                raise
            except BaseException:  # whatever its attributes raise when they are pickled
                continue
        return cls(b"", str(words))

    def error(self) -> BaseException:
        """Return the exception; classes of the notebook are those of the notebook again."""
        try:
            error = cloudpickle.loads(self.pickled)
        except KeyboardInterrupt:
            raise
        except BaseException:  # what it is made of may be there only
            error = None
        return error if isinstance(error, BaseException) else FwMagicError(self.words)


# Of a long traceback, so many entries at each end are sent.
_ENDS = 50
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
    except BaseException as error:  # whatever the user's code raises has to reach the notebook
        return RaisedInWorker.of(error)


def _shorten(error: BaseException) -> None:
    """Take the middle out of long tracebacks, as of an endless recursion: they nest as deep when they are pickled."""
    pending, seen = [error], set[int]()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        entries = entries_of(one)
        if len(entries) > 2 * _ENDS:
            one.__traceback__ = traceback_of(entries[:_ENDS] + entries[-_ENDS:])
        pending += [other for other in (one.__cause__, one.__context__) if other is not None]


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
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
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


def launch_server() -> None:
    """Start the server of the workers, where the system has one, unless it runs already; it is not waited for."""
    if _process_context(anew=False).get_start_method() == "forkserver":
        resource_tracker.ensure_running()  # it lets interrupts through again when it has started its own process
        with _process_without_main(), _interrupts_held():
            forkserver.ensure_running()


def server_answers() -> bool:
    """Wait until the server has imported all, which takes seconds the first time; False if that has ended it.

    It may be interrupted: a process that has begun then ends at once.
    """
    context = _process_context(anew=False)
    if context.get_start_method() != "forkserver":
        return True
    process = context.Process(target=_end_at_once)
    try:
        with _process_without_main():
            process.start()
    except (EOFError, OSError):
        return False
    process.join()
    return True


def _end_at_once() -> None:
    """Do nothing: that it was started is all."""


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
        with _process_without_main(), _interrupts_held():
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
def _interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from processes that are started in the block, and hold it for this one until the end of the block.

    It reaches the whole group of processes, also one that has not come to ignoring it yet.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
