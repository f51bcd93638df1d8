"""What fwmagic's engine needs to run blocks outside of a comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from fwmagic.frameworks import Framework
from fwmagic.measure.bench import Bench
from fwmagic.measure.calls import Harness, Local


@dataclass
class Program:
    """A function with its arguments, as the engine times it."""

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    wait: Callable[[Any], Any] | None = None
    most_calls: int | None = None
    lead_in: bool = False

    def enter(self) -> None:
        """Nothing to prepare."""

    def exit(self) -> None:
        """Nothing to undo."""


def bench(program: Program, used: Sequence[Framework]) -> Bench:
    """Return what runs blocks of a program as in a comparison of these frameworks."""
    return Bench(local(program, used), len(used) > 1, time.perf_counter)


def local(program: Program, used: Sequence[Framework]) -> Local:
    """Return the calls of a program in this process."""

    def drain() -> None:
        for framework in used:
            framework.drain()

    return Local(
        program.name,
        program,
        Harness(lambda: sum(framework.compile_events() for framework in used), drain, nullcontext),
    )
