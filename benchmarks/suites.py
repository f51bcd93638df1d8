"""All suites by name, in the order in which they run, with how long each takes on two idle cores."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Suite:
    """A suite: where its function is, about how many seconds it takes, and whether a busy process runs beside it."""

    name: str
    module: str
    function: str
    seconds: int
    neighbour: bool = False

    def run(self, rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
        """Yield a record of each run of this suite; imports the frameworks."""
        function: Callable[..., Iterator[dict[str, Any]]] = getattr(import_module(self.module), self.function)
        return function(rng, quick)


SUITES = {
    suite.name: suite
    for suite in (
        Suite("loading", "benchmarks.costs", "loading", 15),
        Suite("cost", "benchmarks.costs", "cost", 20),
        Suite("again", "benchmarks.costs", "again", 45),
        Suite("panel", "benchmarks.panel", "panel", 75),
        Suite("budget", "benchmarks.budgets", "budget", 30),
        Suite("long", "benchmarks.budgets", "long", 90),
        Suite("alike-torch", "benchmarks.accuracy", "alike_torch", 360),
        Suite("alike-jax", "benchmarks.accuracy", "alike_jax", 360),
        Suite("planted", "benchmarks.accuracy", "planted", 130),
        Suite("frameworks", "benchmarks.accuracy", "frameworks", 250),
        Suite("isolated", "benchmarks.isolated", "isolated", 370),
        Suite("neighbour", "benchmarks.accuracy", "neighbour", 120, neighbour=True),
        Suite("coverage", "benchmarks.coverage", "coverage", 80),
        Suite("workers", "benchmarks.workers", "workers", 55),
        Suite("perturbation", "benchmarks.perturbation", "perturbation", 85),
        Suite("memory", "benchmarks.memory", "memory", 75),
    )
}
