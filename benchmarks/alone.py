"""The suite of cells that are timed alone: the time per call beside a loop by hand over the same program."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.expert import JAX, TORCH, Cell, begin, kept
from benchmarks.methods import QUICK, WHOLE, Effort, run_cell, shell, thinned
from benchmarks.results import watched
from benchmarks.runs import HAND, OWN
from fwmagic.measure.timing import time_variants

Run = dict[str, Any]

_CELL = "%%{framework} --budget 0.05 --no-memory -o timed\n{text};"  # which shows no value
#: Every second one of the cells that are timed beside an expert's function: ten of each framework.
CELLS = [*JAX[::2], *TORCH[::2]]
_TURNS = 3
#: Seconds of a loop by hand, as of a block, and the most calls in one.
_LOOP, _MOST = 1e-3, 100_000


def alone(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Time each cell with the engine and with a loop by hand, in turns of random order."""
    cells = CELLS[:1] if quick else rng.sample(CELLS, len(CELLS))
    for count, cell in enumerate(cells, start=1):
        for method, run in _turns(cell, rng, QUICK if quick else WHOLE):
            yield {"turn": f"{count}/{len(cells)}", "setup": cell.title, "method": method, **run}


def _turns(cell: Cell, rng: random.Random, effort: Effort) -> Iterator[tuple[str, Run]]:
    begin(cell)
    with kept() as found:
        run_cell(_CELL.format(framework=cell.framework, text=cell.text.strip()))
    (variant,) = shell().user_ns["timed"]
    if variant.failure is not None:
        raise RuntimeError(f"{variant.failure.error}: {variant.failure.message}")
    here, own, program = found[0]

    def engine() -> Run:
        measured = time_variants([own], budget=effort.budget, seed=rng.getrandbits(32), length=here.length)
        (timing,) = measured.variants
        return {"each": timing.time().median, "raw": {"samples": thinned(timing.samples), "spent": measured.spent}}

    def by_hand() -> Run:
        samples = _loop(program, effort.budget)
        return {"each": statistics.median(samples), "raw": {"samples": thinned(samples)}}

    for _ in range(_TURNS):
        for method, work in rng.sample([(OWN, engine), (HAND, by_hand)], 2):
            yield method, watched(work)


def _loop(program: Any, budget: float) -> list[float]:
    """Return the seconds per call of loops of a millisecond, each call waited for; from the start state where needed.

    As the report says of its own blocks, no garbage is collected, as with `%timeit`, and where state is put back, two
    calls come before the clock.
    """
    samples, calls, most = [], 1, program.most_calls
    end = time.perf_counter() + budget
    program.enter()
    gc.disable()
    try:
        while time.perf_counter() < end or not samples:
            if most is not None:
                program.exit()
                program.enter()
                _calls(program, min(2, most - 1))
            samples.append(_calls(program, calls) / calls)
            calls = max(1, min(most or _MOST, round(_LOOP / samples[-1])))
    finally:
        gc.enable()
        program.exit()
    return samples


def _calls(program: Any, calls: int) -> float:
    call, args, wait = program.call, program.args, program.wait
    start = time.perf_counter()
    if wait is None:
        for _ in range(calls):
            call(*args)
    else:
        for _ in range(calls):
            wait(call(*args))
    return time.perf_counter() - start
