"""Suites of comparisons whose answer is known, or should repeat: identical functions, planted work, torch and JAX."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.methods import METHODS, QUICK, WHOLE, Effort
from benchmarks.results import Watch
from benchmarks.work import Setup, setup, turns_for

Run = dict[str, Any]

#: The share of extra work that is planted.
PLANTED = 0.03
_ALIKE = {"fwmagic": 40, "%timeit": 6, "Timer blocked": 16, "Timer adaptive": 16}
_FRAMEWORKS = {"fwmagic": 12, "%timeit": 6, "Timer blocked": 12, "Timer adaptive": 12}
# A run of %timeit takes up to 25 s: six of them have to do, and there are none where other methods answer as well.
_PLANTED = {"fwmagic": 15, "Timer blocked": 5, "Timer adaptive": 5}
_BUSY_ALIKE = {"fwmagic": 10, "Timer blocked": 3, "Timer adaptive": 3}
_BUSY_PLANTED = {"fwmagic": 5}
_ALL = (("torch", "torch"), ("jax", "jax"))


@dataclass(frozen=True)
class Job:
    """One comparison to make: how, of what, and the side that work is planted in (None: in neither)."""

    method: str
    setup: Setup
    planted: str | None = None


def alike_torch(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare two identical torch functions on the same buffers."""
    yield from _run(_jobs([("torch", "torch")], _ALIKE, quick), rng, quick)


def alike_jax(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare two identical functions under `jax.jit` on the same buffers."""
    yield from _run(_jobs([("jax", "jax")], _ALIKE, quick), rng, quick)


def planted(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare identical functions, one of which, a or b by chance, has extra work in it."""
    yield from _run(_planted(_jobs(_ALL, _PLANTED, quick), rng), rng, quick)


def frameworks(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare torch and JAX on equal work, again and again."""
    yield from _run(_jobs([("torch", "jax")], _FRAMEWORKS, quick), rng, quick)


def neighbour(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare identical functions, and planted work, while another process keeps one core busy."""
    jobs = _jobs(_ALL, _BUSY_ALIKE, quick) + _planted(_jobs(_ALL, _BUSY_PLANTED, quick), rng)
    yield from _run(jobs, rng, quick)


def _jobs(pairs: Sequence[tuple[str, str]], counts: Mapping[str, int], quick: bool) -> list[Job]:
    """Return so many jobs for each method, small and large; one each, and small ones only, for a smoke test."""
    setups = [setup(*pair, length) for pair in pairs for length in (("small",) if quick else ("small", "large"))]
    if quick:
        counts = dict.fromkeys(counts, 1)
    return [Job(method, one) for one in setups for method, count in counts.items() for _ in range(count)]


def _planted(jobs: Sequence[Job], rng: random.Random) -> list[Job]:
    return [Job(job.method, job.setup, rng.choice("ab")) for job in jobs]


def _run(jobs: list[Job], rng: random.Random, quick: bool) -> Iterator[Run]:
    """Yield a record of every job, in random order."""
    rng.shuffle(jobs)
    for turn, job in enumerate(jobs, start=1):
        yield {"turn": f"{turn}/{len(jobs)}", **_one(job, QUICK if quick else WHOLE)}


def _one(job: Job, effort: Effort) -> Run:
    run: Run = {"setup": job.setup.name, "method": job.method, "size": job.setup.size, "planted": job.planted}
    turns, run["true"] = (0, 0), None if len(set(job.setup.frameworks)) > 1 else 1.0
    if job.planted is not None:
        count, base = turns_for(PLANTED, job.setup.functions()[0])
        turns = (count, 0) if job.planted == "a" else (0, count)
        run["true"] = 1 + PLANTED if job.planted == "b" else 1 / (1 + PLANTED)
        run["turns"], run["base"] = count, base
    a, b = job.setup.functions(turns)
    watch, start = Watch(), time.perf_counter()
    try:
        run.update(METHODS[job.method](a, b, effort))
    except Exception as error:  # whatever went wrong, the run stays in the results as a failed one
        run["failed"] = f"{type(error).__name__}: {error}"
    run["seconds"] = time.perf_counter() - start
    run["load"] = watch.load()
    return run
