"""The methods that are compared: fwmagic, IPython's `%timeit`, and torch's Timer, blocked and adaptive."""

from __future__ import annotations

import atexit
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from torch.utils.benchmark import Timer
from traitlets.config import Config

import fwmagic
from benchmarks.work import Call, waiting

#: Wall seconds of one comparison, of both functions together; `%timeit` chooses its own.
BUDGET = 1.0
#: torch's Compare prints two results in one colour if they differ by less than this.
_COMPARE = 0.01
#: `%timeit` prints mean ± SD; means that are further apart than this many SD of their difference count as different.
_DEVIATIONS = 2


@dataclass(frozen=True)
class Effort:
    """How long the methods may take: the whole, or a smoke test's."""

    budget: float = BUDGET
    timeit: str = ""
    longest: float = 10.0  # torch's own default


WHOLE = Effort()
QUICK = Effort(budget=0.1, timeit="-n 5 -r 2 ", longest=0.5)


def fwmagic_compare(a: Call, b: Call, effort: Effort) -> dict[str, Any]:
    """Compare with fwmagic; the results are waited for by fwmagic itself."""
    return of_report(fwmagic.compare({"a": a, "b": b}, budget=effort.budget), "a", "b")


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
            "samples": {name: time.samples for name, time in times.items()},
            "calls_per_block": {name: time.calls_per_block for name, time in times.items()},
            "warm": {name: time.warm for name, time in times.items()},
            "voided": {name: time.voided for name, time in times.items()},
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


METHODS: dict[str, Callable[[Call, Call, Effort], dict[str, Any]]] = {
    "fwmagic": fwmagic_compare,
    "%timeit": timeit,
    "Timer blocked": blocked,
    "Timer adaptive": adaptive,
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
