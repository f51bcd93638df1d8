"""Suites of comparisons whose answer is known, or should repeat: identical functions, planted work, torch and JAX."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.methods import METHODS, QUICK, WHOLE, Effort
from benchmarks.results import watched
from benchmarks.runs import HAND, LONG, OWN
from benchmarks.work import LARGE, LENGTHS, SMALL, Setup, setup, turns_for
from fwmagic.measure.stats import MARGIN

Run = dict[str, Any]

# At every length; then, at two of them, beside the peers. A run of %timeit takes up to 25 s: a few of them have to do,
# and there are none where other methods answer as well.
_ALIKE = {OWN: 40, HAND: 40}
_ALIKE_PEERS = {"%timeit": 4, "Timer blocked": 8, "Timer adaptive": 8}
_FRAMEWORKS = {OWN: 40, LONG: 1, HAND: 40, "%timeit": 6, "Timer blocked": 12, "Timer adaptive": 12}
_PLANTED = {OWN: 10}
_PLANTED_PEERS = {"Timer blocked": 4, "Timer adaptive": 4}
_BUSY_ALIKE = {OWN: 14, "Timer blocked": 2, "Timer adaptive": 2}
_BUSY_PLANTED = {OWN: 4}
_ALL = (("torch", "torch"), ("jax", "jax"), ("numpy", "numpy"))
_TWO = (SMALL, LARGE)


@dataclass(frozen=True)
class Plant:
    """Extra work: its share of a call, and the difference that fwmagic is told to take for none."""

    share: float
    margin: float = MARGIN


#: What is planted on a machine that is left alone, the first also for the peers; and what is beside a neighbour.
PLANTS = (Plant(0.02), Plant(0.015), Plant(0.005, margin=0.002))
BESIDE = Plant(0.03)


@dataclass(frozen=True)
class Job:
    """One comparison to make: how, of what, and what is planted in which side (None: in neither)."""

    method: str
    setup: Setup
    planted: str | None = None
    plant: Plant | None = None


def alike_torch(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare two identical torch functions on the same buffers."""
    yield from _alike("torch", rng, quick)


def alike_jax(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare two identical functions under `jax.jit` on the same buffers."""
    yield from _alike("jax", rng, quick)


def alike_numpy(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare two identical NumPy functions on the same buffers."""
    yield from _alike("numpy", rng, quick)


def planted(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare identical functions, one of which, a or b by chance, has extra work in it."""
    jobs = _planted(_jobs(_ALL, _PLANTED_PEERS, quick), PLANTS[0], rng)
    for plant in PLANTS:
        jobs += _planted(_jobs(_ALL, _PLANTED, quick), plant, rng)
    yield from _run(jobs, rng, quick)


def frameworks(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare torch and JAX on equal work, again and again."""
    yield from _run(_jobs([("torch", "jax")], _FRAMEWORKS, quick), rng, quick)


def neighbour(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare identical functions, and planted work, while another process keeps a core busy, always or in bursts."""
    jobs = _jobs(_ALL, _BUSY_ALIKE, quick) + _planted(_jobs(_ALL, _BUSY_PLANTED, quick), BESIDE, rng)
    yield from _run(jobs, rng, quick)


def _alike(framework: str, rng: random.Random, quick: bool) -> Iterator[Run]:
    pairs = [(framework, framework)]
    yield from _run(_jobs(pairs, _ALIKE, quick, tuple(LENGTHS)) + _jobs(pairs, _ALIKE_PEERS, quick), rng, quick)


def _jobs(
    pairs: Sequence[tuple[str, str]], counts: Mapping[str, int], quick: bool, lengths: Sequence[str] = _TWO
) -> list[Job]:
    """Return so many jobs for each method and length; one each, of one length, for a smoke test."""
    setups = [setup(*pair, length) for pair in pairs for length in ((SMALL,) if quick else lengths)]
    if quick:
        counts = dict.fromkeys(counts, 1)
    return [Job(method, one) for one in setups for method, count in counts.items() for _ in range(count)]


def _planted(jobs: Sequence[Job], plant: Plant, rng: random.Random) -> list[Job]:
    return [replace(job, planted=rng.choice("ab"), plant=plant) for job in jobs]


def _run(jobs: list[Job], rng: random.Random, quick: bool) -> Iterator[Run]:
    """Yield a record of every job, in random order."""
    rng.shuffle(jobs)
    for turn, job in enumerate(jobs, start=1):
        yield {"turn": f"{turn}/{len(jobs)}", **_one(job, QUICK if quick else WHOLE)}


def _one(job: Job, effort: Effort) -> Run:
    run: Run = {"setup": job.setup.name, "method": job.method, "size": job.setup.size, "length": job.setup.length}
    turns, true = (0, 0), None if len(set(job.setup.frameworks)) > 1 else 1.0
    if job.plant is not None:
        count, base = turns_for(job.plant.share, job.setup.functions()[0])
        turns = (count, 0) if job.planted == "a" else (0, count)
        true = 1 + job.plant.share if job.planted == "b" else 1 / (1 + job.plant.share)
        run.update(share=job.plant.share, margin=job.plant.margin, turns=count, base=base)
        effort = replace(effort, margin=job.plant.margin)
    run.update(planted=job.planted, true=true)
    a, b = job.setup.functions(turns)
    return {**run, **watched(lambda: METHODS[job.method](a, b, effort))}
