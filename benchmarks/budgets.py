"""Suites of how long fwmagic takes: whether it keeps its budget, and how often it calls a cell of 10 s."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import fwmagic
from benchmarks.methods import shell
from benchmarks.results import Watch

#: Seconds that the called function takes; 10 s are in the suite of long cells.
_LENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_BUDGETS = (0.5, 2.0)
_LONG = 10.0
_QUICK_LONG = 0.6  # longer than what makes a block of its own
_CELL = """%%compare --mode eager --budget {budget} -o long_report
%%torch a
spin("a", {seconds})
torch.ones(2)
%%torch b
spin("b", {seconds})
torch.ones(2)
"""


class Spin:
    """A function that keeps the processor busy for so long, without sleeping, and counts its calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.calls = 0

    def __call__(self) -> None:
        end = time.perf_counter() + self.seconds
        self.calls += 1
        while time.perf_counter() < end:
            pass


# Calls of `spin` by a cell; here, because what the notebook itself holds is put back after a %%compare.
_CALLS: dict[str, Spin] = {}


def spin(name: str, seconds: float) -> None:
    """Keep the processor busy for so long; called by a cell."""
    _CALLS.setdefault(name, Spin(seconds))()


def budget(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Compare two functions of the same length within a budget; see how much of it was used."""
    lengths = _LENGTHS[:4] if quick else _LENGTHS
    jobs = [(seconds, limit) for seconds in lengths for limit in ((0.1,) if quick else _BUDGETS)]
    rng.shuffle(jobs)
    for turn, (seconds, limit) in enumerate(jobs, start=1):
        yield {"turn": f"{turn}/{len(jobs)}", **_compare(seconds, limit)}


def long(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Compare two functions, and two cells, of 10 s each; count the calls."""
    seconds = _QUICK_LONG if quick else _LONG
    limit = 0.2 if quick else 2.0
    yield {"turn": "1/2", **_compare(seconds, limit)}
    yield {"turn": "2/2", **_cells(seconds, limit)}


def _compare(seconds: float, limit: float) -> dict[str, Any]:
    a, b = Spin(seconds), Spin(seconds)
    watch, start = Watch(), time.perf_counter()
    run: dict[str, Any] = {"setup": "fwmagic.compare", "method": "fwmagic", "length": seconds, "budget": limit}
    try:
        # A margin of 0 that identical functions cannot stay within: nothing is decided before the budget is used.
        report = fwmagic.compare({"a": a, "b": b}, budget=limit, margin=0.0)
        run.update(_of_report(report))
    except Exception as error:  # whatever went wrong, the run stays in the results as a failed one
        run["failed"] = f"{type(error).__name__}: {error}"
    run.update(seconds=time.perf_counter() - start, calls=[a.calls, b.calls], load=watch.load())
    return run


def _cells(seconds: float, limit: float) -> dict[str, Any]:
    notebook = shell()
    notebook.run_line_magic("load_ext", "fwmagic")
    notebook.user_ns["spin"] = spin
    _CALLS.clear()
    watch, start = Watch(), time.perf_counter()
    run: dict[str, Any] = {"setup": "%%compare", "method": "fwmagic", "length": seconds, "budget": limit}
    done = notebook.run_cell(_CELL.format(seconds=seconds, budget=limit))
    if done.success:
        run.update(_of_report(notebook.user_ns["long_report"]))
    else:
        error = done.error_before_exec or done.error_in_exec
        run["failed"] = f"{type(error).__name__}: {error}"
    run.update(seconds=time.perf_counter() - start, calls=[one.calls for one in _CALLS.values()], load=watch.load())
    return run


def _of_report(report: Any) -> dict[str, Any]:
    failures = [f"{one.name}: {one.failure.error}: {one.failure.message}" for one in report if one.failure is not None]
    if failures:
        raise RuntimeError("; ".join(failures))
    ratio = report.ratio("b", over="a")
    return {"spent": report.spent, "verdict": ratio.verdict, "rounds": ratio.rounds, "low": ratio.low}
