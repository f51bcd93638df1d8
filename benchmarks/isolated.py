"""The suite of torch against JAX in processes of their own, beside the same pair in one process and the peers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.methods import METHODS, QUICK, WHOLE, Effort, of_report, run_cell, shell
from benchmarks.results import Watch
from benchmarks.runs import PINNED, TOGETHER
from benchmarks.work import Setup, setup

Run = dict[str, Any]

# Ours: each variant in a pinned process of its own with one thread, and both in this process.
_OPTIONS = {PINNED: "--threads 1", TOGETHER: ""}
# A run of %timeit takes up to 25 s: six of them have to do.
_COUNTS = {PINNED: 20, TOGETHER: 20, "Timer blocked": 20, "Timer adaptive": 20, "%timeit": 6}

# The functions of `benchmarks.work`, on the same numbers; what is not timing is left out.
_CELL = """%%compare {options} --budget {budget} --no-memory --no-check -o timed
%%setup
generator = np.random.default_rng(0)
x, w = (generator.standard_normal(({size}, {size}), dtype=np.float32) for _ in range(2))
w = w / np.float32({size}**0.5)
%%torch --mode eager
torch.tanh(x @ w)
%%jax --mode compiled
jnp.tanh(x @ w)
"""


def isolated(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare torch and JAX on equal work, again and again, all methods in random order."""
    setups = [setup("torch", "jax", length) for length in (("small",) if quick else ("small", "large"))]
    jobs = [(method, one) for one in setups for method, count in _COUNTS.items() for _ in range(1 if quick else count)]
    rng.shuffle(jobs)
    for turn, (method, one) in enumerate(jobs, start=1):
        yield {"turn": f"{turn}/{len(jobs)}", **_one(method, one, QUICK if quick else WHOLE)}


def _one(method: str, one: Setup, effort: Effort) -> Run:
    run: Run = {"setup": one.name, "method": method, "size": one.size}
    watch, start = Watch(), time.perf_counter()
    try:
        if method in _OPTIONS:
            run.update(_magic(_OPTIONS[method], one.size, effort))
        else:
            run.update(METHODS[method](*one.functions(), effort))
    except Exception as error:  # whatever went wrong, the run stays in the results as a failed one
        run["failed"] = f"{type(error).__name__}: {error}"
    run["seconds"] = time.perf_counter() - start
    run["load"] = watch.load()
    return run


def _magic(options: str, size: int, effort: Effort) -> Run:
    run_cell(_CELL.format(options=options, budget=effort.budget, size=size))
    report = shell().user_ns.pop("timed")
    return {**of_report(report, "torch", "jax"), "process": report.conditions.process}
