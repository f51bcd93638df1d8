"""A function in a pinned worker with one thread, as the engine times it from here: block by block."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks import engine
from benchmarks.engine import Program
from fwmagic import frameworks
from fwmagic.measure.calls import Block, Local
from fwmagic.worker.process import Worker, WorkerSetting


class Remote:
    """A function of `benchmarks.work` in a worker of its own, on the last core; close the worker after use."""

    most_calls = None
    lead_in = False

    def __init__(self, name: str, framework: str, size: int) -> None:
        self.name = name
        cores = tuple(sorted(os.sched_getaffinity(0))[-1:]) if hasattr(os, "sched_setaffinity") else ()
        self._worker = Worker(WorkerSetting(dict(os.environ), str(Path.cwd()), tuple(sys.path), cores))
        try:
            self._worker.call(make, name, framework, size)
        except BaseException:
            self.close()
            raise

    def block(self, calls: int, lead_in: bool) -> Block:
        """Time so many calls as one."""
        return self._worker.call(block, calls, lead_in)

    def split(self, calls: int, lead_in: bool) -> list[tuple[float, float]]:
        """Return nothing: dispatch and waiting are not told apart."""
        return []

    def close(self) -> None:
        """End the worker."""
        self._worker.close()


# A worker has one function, and its tasks are functions: this is where they find it.
_made: list[Local] = []


def make(name: str, framework: str, size: int) -> None:
    """Get the function ready; called in the worker, in which nothing was computed yet."""
    from benchmarks.work import FUNCTIONS  # imports the frameworks, and starts none

    for one in frameworks.loaded():
        one.use_threads(1)
    call, used = FUNCTIONS[framework](size), frameworks.get(framework)
    _made.append(engine.local(Program(name, call, wait=used.waiter(call())), [used]))


def block(calls: int, lead_in: bool) -> Block:
    """Time a block; called in the worker."""
    return _made[0].block(calls, lead_in)
