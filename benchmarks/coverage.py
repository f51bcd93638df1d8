"""The suite that replays recorded noise, to see how often the interval holds the true ratio."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks import engine
from benchmarks.apart import Remote
from benchmarks.engine import Program
from benchmarks.results import Watch
from benchmarks.work import LARGE, SMALL, Setup, setup
from fwmagic import frameworks
from fwmagic.measure import stats
from fwmagic.measure.bench import Bench
from fwmagic.measure.timing import BLOCK

_RECORD = 8.0
_REPLAYS = 1000
#: Budgets, in seconds of rounds, that a replay is as long as.
_BUDGETS = (0.3, 1.0, 2.0)
# A stretch is at least so many rounds, and so many times as long as the noise remembers itself.
_LEAST_STRETCH = 20
_MEMORIES = 5
_TRUE = 0.03


@dataclass(frozen=True)
class Pair:
    """Two functions to record: both in this process, or each in a pinned worker; `counted` ones share the replays."""

    frameworks: tuple[str, str]
    isolated: bool = False
    counted: bool = True

    def title(self, one: Setup) -> str:
        """Return how the set-up is called in the results."""
        if not self.counted:
            return f"NOT COUNTED, THE PAIR THAT FAILS: {one.name}, in one process"
        return f"{one.name}, isolated" if self.isolated else one.name


_PAIRS = (
    Pair(("torch", "torch")),
    Pair(("jax", "jax")),
    Pair(("torch", "jax"), isolated=True),
    # In one process, the ratio of torch and JAX moves while it is recorded: what is true of the recording is not true
    # of its parts. No interval made of a part can hold that; see "Small JAX operations" in docs/timing.md.
    Pair(("torch", "jax"), counted=False),
)


@dataclass(frozen=True)
class Recording:
    """The samples of two functions from the same rounds, and the wall seconds of one round."""

    a: list[float]
    b: list[float]
    round_seconds: float


def coverage(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Record blocks of the engine in rounds of random order, without a verdict; then replay each recording."""
    lengths = (SMALL,) if quick else (SMALL, LARGE)
    jobs = [(pair, setup(*pair.frameworks, length)) for pair in _PAIRS for length in lengths]
    count = sum(pair.counted for pair, _ in jobs)
    for turn, (pair, one) in enumerate(jobs):
        watch = Watch()
        run: dict[str, Any] = {
            "turn": f"{turn + 1}/{len(jobs)}",
            "setup": pair.title(one),
            "method": "fwmagic",
            "size": one.size,
            "isolated": pair.isolated,
            "counted": pair.counted,
        }
        with _benches(one, pair.isolated) as benches:
            recording = record(benches, 0.3 if quick else _RECORD, rng)
        load = watch.load()
        replays = 10 if quick else _REPLAYS // count + (turn < _REPLAYS % count)
        stretch = stretch_of(recording)
        yield {
            **run,
            "load": load,
            "samples": {"a": recording.a, "b": recording.b},
            "round_seconds": recording.round_seconds,
            "stretch": stretch,
            "replays": [replay(recording, stretch, _BUDGETS[i % len(_BUDGETS)], rng) for i in range(replays)],
        }


def record(benches: Sequence[Bench], seconds: float, rng: random.Random) -> Recording:
    """Run rounds for so many seconds, with the engine's own blocks, and keep every sample."""
    for bench in benches:
        engine.fill(bench, BLOCK)
    rows: dict[Bench, list[float]] = {bench: [] for bench in benches}
    start = time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        for bench in rng.sample(list(benches), len(benches)):
            rows[bench].append(engine.each(bench))
    first, second = rows.values()
    return Recording(first, second, passed / len(first))


@contextmanager
def _benches(one: Setup, isolated: bool) -> Iterator[list[Bench]]:
    """Give the benches of both functions, ready for their first block; isolated ones end with the context."""
    if not isolated:
        used = [frameworks.get(name) for name in dict.fromkeys(one.frameworks)]
        pairs = zip("ab", one.functions(), one.frameworks, strict=True)
        waits = [(name, call, frameworks.get(framework).waiter(call())) for name, call, framework in pairs]
        yield [engine.bench(Program(name, call, wait=wait), used) for name, call, wait in waits]
        return
    with ExitStack() as stack:
        remotes = []
        for name, framework in zip("ab", one.frameworks, strict=True):
            remotes.append(Remote(name, framework, one.size))
            stack.callback(remotes[-1].close)
        yield [Bench(remote) for remote in remotes]


def replay(recording: Recording, stretch: int, budget: float, rng: random.Random) -> dict[str, Any]:
    """Resample a recording, give it another ratio that is known, and let fwmagic find its interval.

    The stationary bootstrap of Politis and Romano (JASA 89, 1303, 1994): stretches of random length, `stretch`
    rounds on average, from random places of the recording closed to a ring. So neighbours stay neighbours, and
    every round of the recording is as likely as every other: the true ratio is the recording's own median.
    """
    logs = [math.log(b / a) for a, b in zip(recording.a, recording.b, strict=True)]
    shift = rng.uniform(-_TRUE, _TRUE)
    true = math.exp(statistics.median(logs) + shift)
    rounds = max(2 * stats.LEAST_BATCHES, round(budget / recording.round_seconds))
    places = []
    at = 0
    for turn in range(rounds):
        at = rng.randrange(len(logs)) if turn == 0 or rng.random() < 1 / stretch else (at + 1) % len(logs)
        places.append(at)
    found = stats.ratio_of_logs("b", "a", [logs[place] + shift for place in places])
    return {"budget": budget, "rounds": rounds, "true": true, "low": found.low, "high": found.high}


def stretch_of(recording: Recording) -> int:
    """Return a length of stretches that keeps the autocorrelation: a few times as long as the noise remembers."""
    logs = [math.log(b / a) for a, b in zip(recording.a, recording.b, strict=True)]
    middle = statistics.median(logs)
    signs = [1 if value > middle else -1 for value in logs]
    memory = _memory(signs)
    return max(_LEAST_STRETCH, min(round(_MEMORIES * memory), len(signs) // _LEAST_STRETCH))


def _memory(signs: Sequence[int]) -> float:
    """Return the integrated autocorrelation time in rounds, summed up to the first lag that is not correlated."""
    count = len(signs)
    total = 1.0
    for lag in range(1, count // 10):
        correlation = sum(x * y for x, y in zip(signs, signs[lag:], strict=False)) / (count - lag)
        if correlation < 2 / math.sqrt(count):
            break
        total += 2 * correlation
    return total
