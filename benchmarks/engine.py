"""What fwmagic's engine needs to run blocks outside of a comparison."""

from __future__ import annotations

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

    def again(self) -> None:
        """Nothing to put back."""

    def finds(self) -> Sequence[Any]:
        """Return nothing: it finds what it needs."""
        return ()


def bench(program: Program, used: Sequence[Framework]) -> Bench:
    """Return what runs blocks of a program as in a comparison of these frameworks."""
    return Bench(local(program, used))


def fill(one: Bench, seconds: float) -> None:
    """Run blocks until it is known how many calls take so many seconds, and let blocks have so many calls.

    Raises
    ------
    RuntimeError
        The program failed.
    """
    for _ in range(10):
        one.each = each(one)
        one.per_block = one.fill(seconds)


def each(one: Bench) -> float:
    """Return the seconds per call of one more block.

    Raises
    ------
    RuntimeError
        The program failed.
    """
    block = one.block(one.per_block)
    if block is None:
        raise RuntimeError(f"the function {one.name} failed: {one.failure}")
    return block.each


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
