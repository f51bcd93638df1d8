"""What a worker does before its first task: its environment, its cores, and how it ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import wait
from threading import RLock

from tqdm.std import tqdm

if sys.platform == "linux":
    import fcntl


@dataclass(frozen=True)
class Setting:
    """What a worker starts with.

    `environment` is its whole environment, `folder` its working folder, `path` where its imports are looked for.
    `cores` are the numbers of the processor's cores that it may run on (none: any).
    """

    environment: Mapping[str, str]
    folder: str
    path: tuple[str, ...]
    cores: tuple[int, ...] = ()


def begin(setting: Setting) -> None:
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


def number() -> int:
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
