"""Runs as they are read from a results file, and the numbers that several tables and goals are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fwmagic.measure.load import BUSY

Run = Mapping[str, Any]

#: How the methods are called in the results: fwmagic and its peers in times, and in memory.
OWN = "fwmagic"
PINNED = "fwmagic --threads 1"
TOGETHER = "fwmagic in one process"
PEERS = ("%timeit", "Timer blocked", "Timer adaptive")
#: The loop that a user may write instead; it has a ratio and no verdict.
HAND = "by hand"
#: The same loop, for so long that its ratio is taken for the true one.
LONG = "by hand in turns, a minute"
NO_VERDICT = "none"
#: The suites of identical functions, by framework.
ALIKE = ("alike-torch", "alike-jax", "alike-numpy")
ISOLATED = "fwmagic --isolate"
MEMIT = "%memit"
SAMPLER = "RSS every 100 ms"

MIB = 1 << 20
#: From so many bytes on, a temporary has to show in the resident memory.
LARGE = 16 * MIB


class Runs:
    """Some runs of a results file: `good` and `failed` ones; a share is always one of all of them."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self._all = list(runs)
        self.good = [run for run in self._all if "failed" not in run]
        self.failed = [run for run in self._all if "failed" in run]

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._all)

    def of(self, *suites: str, **facts: Any) -> Runs:
        """Return the runs of these suites that have all these facts."""
        return Runs(
            run
            for run in self._all
            if run["suite"] in suites and all(run.get(name) == value for name, value in facts.items())
        )

    def groups(self, *names: str) -> list[tuple[tuple[Any, ...], Runs]]:
        """Return the runs by the values of these facts; those of a suite that broke off have none and are left out."""
        found: dict[tuple[Any, ...], list[Run]] = {}
        for run in self._all:
            if all(name in run for name in names):
                found.setdefault(tuple(run[name] for name in names), []).append(run)
        return [(key, Runs(found[key])) for key in sorted(found)]


def errors(runs: Runs) -> list[float]:
    """Return how far the ratio was from the true one, in each run that did not fail, as a fraction without a side."""
    return [math.exp(abs(math.log(run["ratio"] / run["true"]))) - 1 for run in runs.good]


def share(runs: Runs, *verdicts: str) -> float | None:
    """Return the share of all runs, failed ones too, with one of these verdicts; None without a run."""
    return sum(run["verdict"] in verdicts for run in runs.good) / len(runs) if len(runs) else None


def spread(runs: Runs) -> float | None:
    """Return the standard deviation of the ratio from run to run, as a fraction; None for less than two runs."""
    logs = [math.log(run["ratio"]) for run in runs.good]
    return statistics.stdev(logs) if len(logs) > 1 else None


def deviations(runs: Runs) -> list[float]:
    """Return how far the ratio was from its own median over the runs, in each run that did not fail."""
    ratios = [run["ratio"] for run in runs.good]
    middle = statistics.median(ratios) if ratios else 1.0
    return [math.exp(abs(math.log(ratio / middle))) - 1 for ratio in ratios]


def busy(runs: Runs) -> int:
    """Return during how many runs other processes used so much of the machine that this may have disturbed them."""
    return sum(is_busy(run) for run in runs)


def is_busy(run: Run) -> bool:
    """Say whether other processes used more than a quarter of a core during a run."""
    return bool("load" in run and run["load"]["others"] > BUSY)
