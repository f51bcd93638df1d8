"""All suites by name, in the order in which they run, with how long each takes on two idle cores."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Suite:
    """A suite: where its function is, about how many seconds it takes, and which of the `NEIGHBOURS` runs beside it."""

    name: str
    module: str
    function: str
    seconds: int
    neighbour: str = ""

    def run(self, rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
        """Yield a record of each run of this suite; imports the frameworks."""
        function: Callable[..., Iterator[dict[str, Any]]] = getattr(import_module(self.module), self.function)
        return function(rng, quick)


#: Programs that keep a core busy: all the time, or in bursts of 100 µs to 10 ms that add up to 30 % of it.
NEIGHBOURS = {
    "busy": "while True: pass",
    "bursts": """
import random, time
while True:
    burst = 10 ** random.uniform(-4, -2)
    end = time.perf_counter() + burst
    while time.perf_counter() < end:
        pass
    time.sleep(burst * random.expovariate(3 / 7))
""",
}
SUITES = {
    suite.name: suite
    for suite in (
        Suite("loading", "benchmarks.costs", "loading", 15),
        Suite("cost", "benchmarks.costs", "cost", 20),
        Suite("again", "benchmarks.costs", "again", 45),
        Suite("panel", "benchmarks.panel", "panel", 75),
        Suite("budget", "benchmarks.budgets", "budget", 30),
        Suite("long", "benchmarks.budgets", "long", 90),
        Suite("alike-torch", "benchmarks.accuracy", "alike_torch", 600),
        Suite("alike-jax", "benchmarks.accuracy", "alike_jax", 600),
        Suite("alike-numpy", "benchmarks.accuracy", "alike_numpy", 600),
        Suite("cells", "benchmarks.cells", "cells", 340),
        Suite("alone", "benchmarks.alone", "alone", 240),
        Suite("expert", "benchmarks.expert", "expert", 300),
        Suite("planted", "benchmarks.accuracy", "planted", 290),
        Suite("frameworks", "benchmarks.accuracy", "frameworks", 450),
        Suite("isolated", "benchmarks.isolated", "isolated", 370),
        Suite("pairs", "benchmarks.pairs", "pairs", 150),
        Suite("lab", "benchmarks.lab", "lab", 150),
        Suite("neighbour", "benchmarks.accuracy", "neighbour", 180, neighbour="busy"),
        Suite("bursts", "benchmarks.accuracy", "neighbour", 180, neighbour="bursts"),
        Suite("coverage", "benchmarks.coverage", "coverage", 80),
        Suite("workers", "benchmarks.workers", "workers", 55),
        Suite("perturbation", "benchmarks.perturbation", "perturbation", 85),
        Suite("memory", "benchmarks.memory", "memory", 75),
    )
}
