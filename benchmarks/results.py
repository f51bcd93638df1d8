"""The JSON file that all runs go to: append-only, so that failed runs stay in, with the conditions of each session."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from fwmagic.measure.load import machine

ROOT = Path(__file__).resolve().parent.parent
VERSION = 1
#: What the workers run with: one thread a framework, since torch's Timer sets torch to one thread anyway.
THREADS = {"OMP_NUM_THREADS": "1", "NPROC": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
_PACKAGES = ("fwmagic", "torch", "jax", "jaxlib", "numpy", "ipython", "memray", "memory_profiler")


class Results:
    """A results file: `sessions` holds the conditions of each start of the benchmarks, `runs` every run there was.

    A file that exists is added to; nothing is ever taken out of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = {"version": VERSION, "sessions": [], "runs": []}
        if path.exists():
            self.data = load(path)

    def begin(self, **facts: Any) -> None:
        """Begin a session: from now on runs belong to it."""
        self.data["sessions"].append({**conditions(), **facts})

    def add(self, run: Mapping[str, Any]) -> None:
        """Take a run in."""
        self.data["runs"].append({"session": len(self.data["sessions"]) - 1, **run})

    def save(self) -> None:
        """Write the file; an interrupted write leaves the one before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(self.data, allow_nan=False), encoding="utf-8")
        unfinished.replace(self.path)


def load(path: Path) -> dict[str, Any]:
    """Return the contents of a results file.

    Raises
    ------
    ValueError
        It is not one, or one of another version.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ValueError(f"{path} holds no benchmark results of version {VERSION}")
    return data


def conditions() -> dict[str, Any]:
    """Return what the numbers of a session hold for: versions, machine, threads, commit."""
    dirty = _git("status", "--porcelain")
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if dirty is None else bool(dirty),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "machine": machine(),
        "system": platform.platform(),
        "threads": THREADS,
        "load": load_average(),
    }


def load_average() -> float:
    """Return the average number of processes that wanted to run in the last minute, ours included."""
    return os.getloadavg()[0]


class Watch:
    """The load while something runs, from the making of this object to `load()`; our own processes are no load."""

    def __init__(self) -> None:
        self._before = load_average()
        self._start = self._read()

    def load(self) -> dict[str, float]:
        """Return the load average before and after, and how many cores other processes used meanwhile."""
        at, busy, own = (now - then for now, then in zip(self._read(), self._start, strict=True))
        others = max(0.0, busy - own) / max(at, 1e-6)
        return {"before": self._before, "after": load_average(), "others": others}

    @staticmethod
    def _read() -> tuple[float, float, float]:
        times = psutil.cpu_times()._asdict()
        busy = sum(times.values()) - sum(times.get(name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
        return time.perf_counter(), busy, time.process_time() + _seconds_of_children()


def watched(work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return what `work` returns, or what it failed with; with it, how long it took, and the load meanwhile."""
    watch, start = Watch(), time.perf_counter()
    try:
        found = dict(work())
    except Exception as error:  # whatever went wrong, the run stays in the results as a failed one
        found = {"failed": f"{type(error).__name__}: {error}"}
    return {**found, "seconds": time.perf_counter() - start, "load": watch.load()}


def _seconds_of_children() -> float:
    """Return the CPU seconds of the processes that this one started, and of theirs, those that ended with them."""
    own = psutil.Process()
    ended = own.cpu_times()
    total = ended.children_user + ended.children_system
    for child in own.children(recursive=True):
        with suppress(psutil.Error):  # it ended in this moment
            used = child.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return float(total)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Return what git prints; None where the sources are no checkout, or git is not there."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
