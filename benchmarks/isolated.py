"""The suite of torch against JAX in processes of their own, beside the same pair in one process and the peers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from benchmarks.methods import METHODS, QUICK, WHOLE, Effort, of_report, run_cell, shell
from benchmarks.results import watched
from benchmarks.runs import PINNED, TOGETHER
from benchmarks.work import INPUTS, LARGE, SMALL, Setup, setup

Run = dict[str, Any]

# Ours: each variant in a pinned process of its own with one thread, and both in this process.
_OPTIONS = {PINNED: "--threads 1", TOGETHER: ""}
# A run of %timeit takes up to 25 s: six of them have to do.
_COUNTS = {PINNED: 20, TOGETHER: 20, "Timer blocked": 20, "Timer adaptive": 20, "%timeit": 6}

# The functions of `benchmarks.work`, on the same numbers; what is not timing is left out.
_CELL = (
    "%%compare {options} --budget {budget} --no-memory --no-check -o timed\n"
    + INPUTS
    + "%%torch --mode eager\ntorch.tanh(x @ w)\n%%jax --mode compiled\njnp.tanh(x @ w)\n"
)


def isolated(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare torch and JAX on equal work, again and again, all methods in random order."""
    setups = [setup("torch", "jax", length) for length in ((SMALL,) if quick else (SMALL, LARGE))]
    jobs = [(method, one) for one in setups for method, count in _COUNTS.items() for _ in range(1 if quick else count)]
    rng.shuffle(jobs)
    for turn, (method, one) in enumerate(jobs, start=1):
        yield {"turn": f"{turn}/{len(jobs)}", **_one(method, one, QUICK if quick else WHOLE)}


def _one(method: str, one: Setup, effort: Effort) -> Run:
    def work() -> Run:
        if method in _OPTIONS:
            return _magic(_OPTIONS[method], one.size, effort)
        return METHODS[method](*one.functions(), effort)

    return {"setup": one.name, "method": method, "size": one.size, **watched(work)}


def _magic(options: str, size: int, effort: Effort) -> Run:
    run_cell(_CELL.format(options=options, budget=effort.budget, size=size))
    report = shell().user_ns.pop("timed")
    return {**of_report(report, "torch", "jax"), "process": report.conditions.process}
