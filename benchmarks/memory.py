"""The suite of cells whose temporary is known: what fwmagic and its peers say of the memory that they need."""

from __future__ import annotations

import gc
import math
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil

from benchmarks.methods import run_cell, shell
from benchmarks.results import Watch
from benchmarks.runs import ISOLATED, LARGE, MEMIT, MIB, OWN, SAMPLER

Run = dict[str, Any]

#: The sizes of the temporaries, in bytes: as many from each part, log-uniform within it.
PARTS = ((1 * MIB, LARGE), (LARGE, 256 * MIB))
_LIVES = (0.2e-3, 50e-3)
_OF_EACH = 5
_METHODS = (OWN, ISOLATED, MEMIT, SAMPLER)
_SAMPLED = 0.1
# The temporary is a sum of a column and a row that are there before. NumPy adds rows that are shorter than this by way
# of a buffer of its own, which would be memory that the cell needs besides.
_ROWS = 32
_ITEM = 4
#: A compiled program holds a few words for its loop beside the temporary, and no second one.
_FEW = 4096
_MOST_TURNS = 20_000

_HOLD = """
import time

def hold(array, seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return array
"""


@dataclass(frozen=True)
class Kind:
    """A way to have a temporary: how the notebook makes its inputs, the magic, and what the cell computes.

    `work` is what the cell is, `plain` a function of the notebook that does the same, for the peers.
    """

    name: str
    inputs: str
    magic: str
    work: str
    plain: str = "def plain():\n    return {work}"


_WORK = "hold(column + row, seconds).sum()"
# A loop carries the temporary: XLA can neither fuse it away nor do without it. Its turns are how long it lives.
_LOOP = "jax.lax.fori_loop(0, turns, lambda i, array: array * 0.5 + 0.5, column + row).sum()"
_JAX = "import jax\nimport jax.numpy as jnp\ncolumn, row = jnp.ones(({rows}, 1)), jnp.ones((1, {columns}))"
KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "torch",
            "import torch\ncolumn, row = torch.ones(({rows}, 1)), torch.ones((1, {columns}))",
            "%%torch --mode eager {options}",
            _WORK,
        ),
        Kind(
            "NumPy",
            "import numpy as np\ncolumn, row = np.ones(({rows}, 1), np.float32), np.ones((1, {columns}), np.float32)",
            "%%compare {options}\n%%numpy --mode eager",
            _WORK,
        ),
        Kind(
            "JAX op by op",
            _JAX,
            "%%jax --mode eager {options}",
            _WORK,
            "def plain():\n    return {work}.block_until_ready()",
        ),
        Kind(
            "JAX jitted",
            _JAX,
            "%%jax --mode compiled {options}",
            _LOOP,
            "def summed(column, row):\n    return {work}\n"
            "compiled = jax.jit(summed).lower(column, row).compile()\n"
            "def plain():\n    return compiled(column, row).block_until_ready()",
        ),
    )
}


@dataclass(frozen=True)
class Cell:
    """A cell with a temporary of `columns` × 32 numbers that lives for so many seconds, if it can be made so quickly.

    `hold` seconds of it, or `turns` of a loop, are added to what making and summing it takes.
    """

    kind: Kind
    columns: int
    life: float
    hold: float = 0.0
    turns: int = 2  # XLA makes no loop of a single turn

    @property
    def temporary(self) -> int:
        """The bytes of the temporary."""
        return _ITEM * _ROWS * self.columns

    @property
    def true(self) -> int:
        """The most bytes that the cell needs at one time: the temporary, and the one number that it is summed to."""
        return self.temporary + _ITEM


def memory(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Run seeded cells with every method; cells, and the methods of a cell, in random order."""
    run_cell(_HOLD)
    methods = _METHODS if _load_memit() else tuple(method for method in _METHODS if method != MEMIT)
    cells = cells_of(rng, 1, largest=8 * MIB) if quick else cells_of(rng, _OF_EACH)
    rng.shuffle(cells)
    turn, count = 0, len(cells) * len(methods)
    for drawn in cells:
        cell = _prepared(drawn)
        facts = {"setup": cell.kind.name, "columns": cell.columns, "temporary": cell.temporary, "true": cell.true}
        facts.update(drawn=cell.life, hold=cell.hold, turns=cell.turns, lasted=_lasted(), static=_static(cell))
        for method in rng.sample(methods, len(methods)):
            turn += 1
            run: Run = {"turn": f"{turn}/{count}", "method": method, **facts}
            watch, start = Watch(), time.perf_counter()
            try:
                _check(facts["static"], cell)
                run.update(_measured(method, cell, rng))
            except Exception as error:  # whatever went wrong, the run stays in the results as a failed one
                run["failed"] = f"{type(error).__name__}: {error}"
            yield {**run, "seconds": time.perf_counter() - start, "load": watch.load()}


def cells_of(rng: random.Random, of_each: int, largest: int | None = None) -> list[Cell]:
    """Draw so many cells of each kind, by turns from the small and the large part of the sizes."""
    cells = []
    for kind in KINDS.values():
        for _ in range(of_each):
            low, high = PARTS[len(cells) % 2]
            size = _log_uniform(rng, low, high) if largest is None else _log_uniform(rng, PARTS[0][0], largest)
            cells.append(Cell(kind, math.ceil(size / (_ITEM * _ROWS)), _log_uniform(rng, *_LIVES)))
    return cells


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _prepared(cell: Cell) -> Cell:
    """Make the inputs of a cell in the notebook, and let its temporary live as long as it should."""
    run_cell(cell.kind.inputs.format(rows=_ROWS, columns=cell.columns))
    _set(cell)
    shortest = _lasted()
    if cell.kind.work == _LOOP:
        more = replace(cell, turns=12)
        _set(more)
        turn = max(1e-6, (_lasted() - shortest) / (more.turns - cell.turns))
        cell = replace(cell, turns=cell.turns + max(0, min(_MOST_TURNS, round((cell.life - shortest) / turn))))
    else:
        cell = replace(cell, hold=max(0.0, cell.life - shortest))
    _set(cell)
    return cell


def _set(cell: Cell) -> None:
    """Give the notebook the cell's times, and the function that does the same as the cell."""
    shell().user_ns.update(seconds=cell.hold, turns=cell.turns)
    run_cell(cell.kind.plain.format(work=cell.kind.work))


def _lasted() -> float:
    """Return the seconds of a call of the plain function, nearly all of which are the life of its temporary."""
    plain, found = shell().user_ns["plain"], []
    for _ in range(4):
        start = time.perf_counter()
        plain()
        found.append(time.perf_counter() - start)
    return min(found[1:])


def _static(cell: Cell) -> dict[str, int] | None:
    """Return XLA's account of a compiled cell, which tells that its temporary is one."""
    if cell.kind.work != _LOOP:
        return None
    account = shell().user_ns["compiled"].memory_analysis()
    names = ("argument", "output", "alias", "temp")
    return {name: int(getattr(account, f"{name}_size_in_bytes")) for name in names}


def _check(static: dict[str, int] | None, cell: Cell) -> None:
    if static is not None and not 0 <= static["temp"] - cell.temporary <= _FEW:
        raise RuntimeError(f"XLA has temporaries of {static['temp']} bytes, and not of {cell.temporary}")


def _measured(method: str, cell: Cell, rng: random.Random) -> Run:
    if method == MEMIT:
        result = shell().run_line_magic("memit", "-q -o plain()")
        return {"resident": (max(result.mem_usage) - result.baseline) * MIB}
    if method == SAMPLER:
        return sampled(shell().user_ns["plain"], rng.uniform(0, _SAMPLED))
    isolate = "--isolate " if method == ISOLATED else ""
    options = f"{isolate}--memray --budget 0.1 --no-check -o measured"
    # The semicolon keeps the notebook from printing the sum.
    run_cell(f"{cell.kind.magic.format(options=options)}\n{cell.kind.work};")
    return _of_ledgers(shell().user_ns.pop("measured"))


def _of_ledgers(report: Any) -> Run:
    (variant,) = report.variants
    if variant.failure is not None:
        raise RuntimeError(f"{variant.failure.error}: {variant.failure.message}")
    ledgers = {ledger.device: ledger for ledger in variant.memory if ledger.how != "static"}
    raw = {
        device: {"peak": [asdict(amount) for amount in ledger.peak], "start": ledger.start, "note": ledger.note}
        for device, ledger in ledgers.items()
    }
    found = {name: ledgers[device].peak[0] for name, device in (("heap", "heap"), ("resident", "host"))}
    missing = [f"{name} not available: {amount.why}" for name, amount in found.items() if amount.bytes is None]
    if missing:
        raise RuntimeError("; ".join(missing))
    return {**{name: amount.bytes for name, amount in found.items()}, "raw": raw}


def sampled(call: Callable[[], Any], phase: float) -> Run:
    """Run once while a thread reads the resident memory every 100 ms, the first time `phase` seconds before the call.

    This is what a monitor does: it knows nothing of the call, and reads before and after it, too.
    """
    gc.collect()
    process, stop = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def read() -> None:
        while not stop.wait(_SAMPLED):
            seen.append(process.memory_info().rss)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    time.sleep(phase)
    start = process.memory_info().rss
    call()
    stop.set()
    thread.join()
    seen.append(process.memory_info().rss)
    return {"resident": max(seen) - start, "samples": seen}


def _load_memit() -> bool:
    """Register `%memit`; say so where it is not installed, and go on without it."""
    try:
        from memory_profiler import MemoryProfilerMagics
    except ImportError:
        print(f"{MEMIT} is left out: memory_profiler is not installed (pip install memory_profiler)", file=sys.stderr)
        return False
    shell().register_magics(MemoryProfilerMagics)
    # It reads this process from a fork of it; JAX warns of every fork.
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
    warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
    return True
