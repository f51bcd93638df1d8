"""The methods that are compared: fwmagic, IPython's `%timeit`, torch's Timer, blocked and adaptive, and a loop."""

from __future__ import annotations

import atexit
import math
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from torch.utils.benchmark import Timer
from traitlets.config import Config

import fwmagic
from benchmarks.runs import HAND, LONG, NO_VERDICT
from benchmarks.work import Call, waiting
from fwmagic.measure.stats import MARGIN

#: Wall seconds of one comparison, of both functions together; `%timeit` chooses its own.
BUDGET = 1.0
#: torch's Compare prints two results in one colour if they differ by less than this.
_COMPARE = 0.01
#: `%timeit` prints mean ± SD; means that are further apart than this many SD of their difference count as different.
_DEVIATIONS = 2
#: Of each function, so many samples of a run at most go into the results: thousands would make them too large a file.
_KEPT = 500
# So many seconds of a turn do not count, and so many do.
_SETTLED, _TURN = 5e-3, 2e-2


@dataclass(frozen=True)
class Effort:
    """How long the methods may take, the whole or a smoke test's, and which difference fwmagic takes for none."""

    budget: float = BUDGET
    margin: float = MARGIN
    timeit: str = ""
    longest: float = 10.0  # torch's own default
    truth: float = 60.0


WHOLE = Effort()
QUICK = Effort(budget=0.1, timeit="-n 5 -r 2 ", longest=0.5, truth=0.2)


def fwmagic_compare(a: Call, b: Call, effort: Effort) -> dict[str, Any]:
    """Compare with fwmagic; the results are waited for by fwmagic itself."""
    return of_report(fwmagic.compare({"a": a, "b": b}, budget=effort.budget, margin=effort.margin), "a", "b")


def of_report(report: fwmagic.Report, a: str, b: str) -> dict[str, Any]:
    """Return what a report says of b over a, with everything that this is made of.

    Raises
    ------
    RuntimeError
        A variant failed.
    """
    failures = [f"{one.name}: {one.failure.error}: {one.failure.message}" for one in report if one.failure is not None]
    if failures:
        raise RuntimeError("; ".join(failures))
    ratio = report.ratio(b, over=a)
    times = {name: report[name].time for name in (a, b)}
    return {
        "ratio": ratio.median,
        "verdict": ratio.verdict,
        "each": times[a].median,
        "raw": {
            "ratio": asdict(ratio),
            "samples": {name: thinned(one.samples) for name, one in times.items()},
            "calls_per_block": {name: one.calls_per_block for name, one in times.items()},
            "warm": {name: one.warm for name, one in times.items()},
            "voided": {name: one.voided for name, one in times.items()},
            "spent": report.spent,
            "load_before": report.conditions.load_before,
            "load_during": report.conditions.load_during,
            "neighbours": report.conditions.neighbours,
            "findings": [finding.code for finding in report.findings],
        },
    }


def timeit(a: Call, b: Call, effort: Effort) -> dict[str, Any]:
    """Time a, then b with `%timeit`."""
    found = []
    for call in (a, b):
        shell().user_ns["call"] = waiting(call)
        found.append(shell().run_line_magic("timeit", f"-q -o {effort.timeit}call()"))
    first, second = found
    apart = second.average - first.average
    different = abs(apart) > _DEVIATIONS * math.hypot(first.stdev, second.stdev)
    return {
        "ratio": second.average / first.average,
        "verdict": _verdict(different, apart),
        "each": first.average,
        "raw": {"loops": [one.loops for one in found], "samples": [one.timings for one in found]},
    }


def blocked(a: Call, b: Call, effort: Effort) -> dict[str, Any]:
    """Time a, then b with `Timer.blocked_autorange`."""
    return _torch_timer([timer.blocked_autorange(min_run_time=effort.budget / 2) for timer in _timers(a, b)])


def adaptive(a: Call, b: Call, effort: Effort) -> dict[str, Any]:
    """Time a, then b with `Timer.adaptive_autorange`."""
    seconds = {"min_run_time": effort.budget / 2, "max_run_time": effort.longest}
    return _torch_timer([timer.adaptive_autorange(**seconds) for timer in _timers(a, b)])


def by_hand(a: Call, b: Call, effort: Effort) -> dict[str, Any]:
    """Time a and b with a loop that a user may write: in each turn two calls of each, in random order."""
    calls, samples = {"a": waiting(a), "b": waiting(b)}, {"a": [], "b": []}
    end = time.perf_counter() + effort.budget
    while time.perf_counter() < end:
        for name in random.sample("ab", 2):
            call = calls[name]
            start = time.perf_counter()
            call()
            call()
            samples[name].append((time.perf_counter() - start) / 2)
    return _paired(samples)


def by_hand_in_turns(a: Call, b: Call, effort: Effort) -> dict[str, Any]:
    """Time a and b with a loop in turns, for so long that its ratio can be taken for the true one.

    A turn is of one of them alone, as in a program of its own, which is what a report of two frameworks says that its
    times are of; calls of the first milliseconds are not counted, in which threads of the other one are still busy.
    """
    calls, samples = {"a": waiting(a), "b": waiting(b)}, {"a": [], "b": []}
    end = time.perf_counter() + effort.truth
    while time.perf_counter() < end:
        for name in random.sample("ab", 2):
            call, took = calls[name], []
            begun = start = time.perf_counter()
            while start - begun < _SETTLED + _TURN or not took:
                call()
                last, start = start, time.perf_counter()
                if last - begun >= _SETTLED:
                    took.append(start - last)
            samples[name].append(statistics.median(took))
    return _paired(samples)


def _paired(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Return what a loop by hand tells: the median of the ratios of each turn, and no verdict."""
    logs = [math.log(second / first) for first, second in zip(*samples.values(), strict=True)]
    return {
        "ratio": math.exp(statistics.median(logs)),
        "verdict": NO_VERDICT,
        "each": statistics.median(samples["a"]),
        "raw": {"turns": len(logs), "samples": {name: thinned(some) for name, some in samples.items()}},
    }


METHODS: dict[str, Callable[[Call, Call, Effort], dict[str, Any]]] = {
    "fwmagic": fwmagic_compare,
    "%timeit": timeit,
    "Timer blocked": blocked,
    "Timer adaptive": adaptive,
    HAND: by_hand,
    LONG: by_hand_in_turns,
}


@lru_cache(maxsize=1)
def shell() -> InteractiveShell:
    """Return the one shell of this process, without a history, its displays captured."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Plain"
    home = tempfile.mkdtemp(prefix="benchmarks-")
    atexit.register(shutil.rmtree, home)
    made = InteractiveShell.instance(config=config, display_pub_class=CapturingDisplayPublisher, ipython_dir=home)
    made.display_pub.outputs = []
    return made


def run_cell(text: str) -> None:
    """Run a cell in that shell, with the magics of fwmagic; what it displays is dropped.

    Raises
    ------
    RuntimeError
        The cell raised; says what.
    """
    if "compare" not in shell().magics_manager.magics["cell"]:
        shell().run_line_magic("load_ext", "fwmagic")
    shell().display_pub.outputs.clear()
    done = shell().run_cell(text)
    if not done.success:
        error = done.error_before_exec or done.error_in_exec
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


def thinned(samples: Sequence[float]) -> Sequence[float]:
    """Return so few of some samples that a file of many runs does not become too large."""
    return samples[:: 1 + len(samples) // _KEPT]


def _timers(a: Call, b: Call) -> list[Timer]:
    return [Timer("call()", globals={"call": waiting(call)}) for call in (a, b)]


def _torch_timer(found: list[Any]) -> dict[str, Any]:
    first, second = (measurement.median for measurement in found)
    return {
        "ratio": second / first,
        "verdict": _verdict(max(first, second) / min(first, second) > 1 + _COMPARE, second - first),
        "each": first,
        "raw": {"loops": [one.number_per_run for one in found], "samples": [one.times for one in found]},
    }


def _verdict(different: bool, apart: float) -> str:
    if not different:
        return "not different"
    return "slower" if apart > 0 else "faster"
