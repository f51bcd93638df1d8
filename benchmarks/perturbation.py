"""The suite of what measuring memory does to the timing pass: nothing that shows in a time, and nothing that runs."""

from __future__ import annotations

import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import repeat
from typing import Any
from unittest import mock

import psutil
import torch

from benchmarks.methods import run_cell, shell
from benchmarks.results import Watch
from benchmarks.work import LENGTHS, SMALL, size_for, torch_arrays
from fwmagic.measure.calls import Block, Local
from fwmagic.measure.timing import BLOCK
from fwmagic.memory import nvml

Run = dict[str, Any]

_REPEATS = 30
_BUDGET = 0.5
#: A loop by hand runs for so long, after some that is not kept; seconds. The engine warms up, too.
_BY_HAND = 0.35
_WARM = 0.1
_CELL = "%%torch --mode eager {options} --budget {budget} -o timed\n{body}torch.tanh(x @ w);"
#: Memory is measured by default; with memray, every pass that there is on this machine runs.
_OPTIONS = {"fwmagic": "--memray", "fwmagic --no-memory": "--no-memory"}
_MEMORY = _OPTIONS["fwmagic"]
#: The functions by which fwmagic asks the driver.
_NVML = ("ask", "count", "find", "read")


class Counts:
    """What was there while blocks ran: it counts only between `begin` and `end`."""

    def __init__(self) -> None:
        self.inside = False
        self.blocks = self.calls = self.profiles = self.nvml = self.nvml_outside = 0
        self.threads: set[int] = set()
        self._before: set[int] = set()

    def begin(self) -> None:
        """Count from now on; the threads that there are now are not ours."""
        self._before = _threads()

    def look(self) -> None:
        """Look at the profile hook; called by every timed call, and at both ends of a block."""
        if self.inside:
            self.profiles += sys.getprofile() is not None

    def look_at_threads(self) -> None:
        """Look for threads of the system that were not there; too slow for every call."""
        self.threads |= _threads() - self._before

    def ask(self) -> None:
        """Count a question to the driver."""
        if self.inside:
            self.nvml += 1
        else:
            self.nvml_outside += 1


# Here, because a cell reaches the function `probe` by its name only.
_counts = Counts()


def probe() -> None:
    """Look around in a timed call."""
    _counts.calls += _counts.inside
    _counts.look()


def perturbation(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Time a program in whole `%%torch` runs and by hand, interleaved; then count what is there while blocks run."""
    size = size_for("torch", LENGTHS[SMALL])
    x, w = torch_arrays(size)
    budget = 0.1 if quick else _BUDGET
    run_cell("import torch")
    shell().user_ns.update(x=x, w=w, probe=probe)
    run_cell(_CELL.format(options=_MEMORY, budget=budget, body=""))  # the first run imports what it needs
    for turn in range(1, 1 + (1 if quick else _REPEATS)):
        yield {"turn": f"{turn}", **_times(x, w, budget, rng), "size": size}
    yield _counted(budget)


def _times(x: torch.Tensor, w: torch.Tensor, budget: float, rng: random.Random) -> Run:
    """Time the same call in random order: by the engine, with memory measured and without, and twice by hand."""

    def call(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor]:
        return (torch.tanh(x @ w),)  # as the program that is made of the cell: a tuple of results

    watch, start = Watch(), time.perf_counter()
    run: Run = {"setup": f"torch {SMALL}", "method": "fwmagic"}
    samples: dict[str, list[float]] = {}
    try:
        for way in rng.sample([*_OPTIONS, "by hand", "by hand again"], 4):
            if way in _OPTIONS:
                run_cell(_CELL.format(options=_OPTIONS[way], budget=budget, body=""))
                (variant,) = shell().user_ns.pop("timed")
                samples[way] = list(variant.time.samples)
                run.setdefault("ledgers", {})[way] = [ledger.device for ledger in variant.memory]
            else:
                samples[way] = _by_hand(call, x, w, budget / _BUDGET)
        run["samples"] = samples
        run["medians"] = {way: statistics.median(values) for way, values in samples.items()}
    except Exception as error:  # whatever went wrong, the run stays in the results as a failed one
        run["failed"] = f"{type(error).__name__}: {error}"
    return {**run, "seconds": time.perf_counter() - start, "load": watch.load()}


def _by_hand(call: Callable[..., Any], x: torch.Tensor, w: torch.Tensor, share: float) -> list[float]:
    """Return the seconds per call of loops that are about as long as the engine's blocks."""
    gc.disable()
    try:
        calls = max(1, round(BLOCK / statistics.median(_loops(call, x, w, 1, _WARM * share))))
        return _loops(call, x, w, calls, _BY_HAND * share)
    finally:
        gc.enable()


def _loops(call: Callable[..., Any], x: torch.Tensor, w: torch.Tensor, calls: int, seconds: float) -> list[float]:
    end = time.perf_counter() + seconds
    found = []
    while not found or time.perf_counter() < end:
        turns = repeat(None, calls)
        start = time.perf_counter()
        for _ in turns:
            call(x, w)
        found.append((time.perf_counter() - start) / calls)
    return found


def _counted(budget: float) -> Run:
    """Count in a run like those before; the profile hook and the questions to the driver also within each call."""
    watch, start = Watch(), time.perf_counter()
    run: Run = {"setup": "counts", "method": "fwmagic"}
    text = _CELL.format(options=_MEMORY, budget=budget, body="probe()\n")
    try:
        run_cell(text)  # what this cell starts for the first time is not counted
        with _counting():
            run_cell(text)
        (variant,) = shell().user_ns.pop("timed")
        run.update(
            blocks=_counts.blocks,
            calls=_counts.calls,
            threads=len(_counts.threads),
            profiles=_counts.profiles,
            nvml=_counts.nvml,
            nvml_outside=_counts.nvml_outside,
            ledgers=[ledger.device for ledger in variant.memory],
        )
        if not _counts.blocks or not _counts.calls:
            run["failed"] = "no block ran while it was counted"
    except Exception as error:  # whatever went wrong, the run stays in the results as a failed one
        run["failed"] = f"{type(error).__name__}: {error}"
    return {**run, "seconds": time.perf_counter() - start, "load": watch.load()}


@contextmanager
def _counting() -> Iterator[None]:
    """Count around every block of the engine, and every question to the driver."""
    whole = Local.block

    def block(self: Local, calls: int, lead_in: bool) -> Block:
        _counts.blocks += 1
        _counts.look_at_threads()
        _counts.inside = True
        try:
            _counts.look()
            return whole(self, calls, lead_in)
        finally:
            _counts.look()
            _counts.inside = False
            _counts.look_at_threads()

    _counts.begin()
    with mock.patch.object(Local, "block", block), mock.patch.multiple(nvml, **{n: _asking(n) for n in _NVML}):
        yield


def _asking(name: str) -> Callable[..., Any]:
    whole = getattr(nvml, name)

    @wraps(whole)
    def asking(*arguments: Any, **named: Any) -> Any:
        _counts.ask()
        return whole(*arguments, **named)

    return asking


def _threads() -> set[int]:
    return {thread.id for thread in psutil.Process().threads()}
