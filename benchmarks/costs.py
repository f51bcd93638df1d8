"""Suites of what fwmagic itself costs: per timed call, to load, and to run an unchanged cell again."""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import jax
import torch

from benchmarks import engine
from benchmarks.engine import Program
from benchmarks.methods import shell
from benchmarks.results import ROOT, Watch
from benchmarks.work import size_for
from fwmagic import frameworks

_LOOPS = 2000
#: Seconds of one loop.
_FILL = 1e-3
_LOADS = 10
_AGAIN = 10
#: Seconds of one call of each of the cells that are run again.
_CELL = 1e-3

# Run by a fresh Python: IPython is there, as it is in a notebook, and nothing else.
_LOAD = """
import json, sys, time
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config)
before = set(sys.modules)
start = time.perf_counter()
shell.run_line_magic("load_ext", "fwmagic")
seconds = time.perf_counter() - start
heavy = sorted({"torch", "jax", "numpy", "pandas"} & (set(sys.modules) - before))
print(json.dumps({"load_ext": seconds, "imported": heavy}))
"""

_COMPARE = """%%compare -o again
%%setup
x = np.random.default_rng(0).standard_normal(({size}, {size}), dtype=np.float32) / {size} ** 0.5
%%torch
torch.tanh(x @ x).sum()
%%jax
jnp.tanh(x @ x).sum()
"""


def cost(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Time loops of the engine and loops written by hand, interleaved in random order."""
    ones = jax.numpy.ones(8)
    for name, framework, call, x, by_hand in (
        ("torch", "torch", torch.neg, torch.ones(8), _by_hand),
        ("jax", "jax", jax.jit(lambda v: v + 1), ones, _by_hand_waiting),
        # The programs that the magics make of a cell return a tuple of results.
        ("jax, in a tuple", "jax", jax.jit(lambda v: (v + 1,)), ones, _by_hand_waiting_for_first),
    ):
        watch = Watch()
        run = _cost(framework, call, x, by_hand, rng, quick)
        yield {"setup": name, "method": "fwmagic", **run, "load": watch.load()}


def loading(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Time `%load_ext fwmagic` in fresh processes; the first one, which may write bytecode, stays in."""
    for turn in range(2 if quick else _LOADS):
        watch = Watch()
        run: dict[str, Any] = {"turn": f"{turn + 1}", "setup": "load_ext", "method": "fwmagic"}
        done = subprocess.run([sys.executable, "-c", _LOAD], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            run["failed"] = done.stderr[-2000:]
        else:
            run.update(json.loads(done.stdout))
        yield {**run, "load": watch.load()}


def again(rng: random.Random, quick: bool) -> Iterator[dict[str, Any]]:
    """Run a %%compare of two cells of ~1 ms, then the same text again and again, each time to its final display."""
    size = size_for("torch", _CELL)
    cell = _COMPARE.format(size=size)
    shell().run_line_magic("load_ext", "fwmagic")
    for turn in range(2 if quick else 1 + _AGAIN):
        shell().display_pub.outputs.clear()
        watch, start = Watch(), time.perf_counter()
        done = shell().run_cell(cell)
        seconds = time.perf_counter() - start
        run: dict[str, Any] = {"turn": f"{turn + 1}", "setup": "unchanged %%compare", "method": "fwmagic", "size": size}
        run.update(execution=turn + 1, seconds=seconds, load=watch.load())
        if not done.success:
            error = done.error_before_exec or done.error_in_exec
            run["failed"] = f"{type(error).__name__}: {error}"
        else:
            report = shell().user_ns["again"]
            ratio = report.ratio("jax", over="torch")
            run.update(
                verdict=ratio.verdict,
                ratio=ratio.median,
                low=ratio.low,
                high=ratio.high,
                spent=report.spent,
                each={name: report[name].time.median for name in ("torch", "jax")},
                ways={name: report[name].compilation.way for name in ("torch", "jax")},
            )
        yield run


def _cost(
    name: str, call: Callable[[Any], Any], x: Any, by_hand: Callable[..., float], rng: random.Random, quick: bool
) -> dict[str, Any]:
    framework = frameworks.get(name)
    bench = engine.bench(Program(name, call, (x,), framework.waiter(call(x))), [framework])
    engine.fill(bench, _FILL)
    calls = bench.per_block
    samples: dict[str, list[float]] = {"fwmagic": [], "by hand": []}
    for _ in range(10 if quick else _LOOPS):
        for loop in rng.sample(sorted(samples), 2):
            if loop == "by hand":
                samples[loop].append(by_hand(call, x, calls))
            else:
                # As the blocks of calls that change nothing are run: they follow each other, ready for all before.
                with bench.held(), bench.row():
                    samples[loop].append(bench.next_block() / calls)
    return {"calls": calls, "fill": _FILL, "samples": samples}


def _by_hand(call: Callable[[Any], Any], x: Any, calls: int) -> float:
    gc.disable()
    start = time.perf_counter()
    for _ in repeat(None, calls):
        call(x)
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds / calls


def _by_hand_waiting(call: Callable[[Any], Any], x: Any, calls: int) -> float:
    gc.disable()
    start = time.perf_counter()
    for _ in repeat(None, calls):
        call(x).block_until_ready()
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds / calls


def _by_hand_waiting_for_first(call: Callable[[Any], Any], x: Any, calls: int) -> float:
    gc.disable()
    start = time.perf_counter()
    for _ in repeat(None, calls):
        call(x)[0].block_until_ready()
    seconds = time.perf_counter() - start
    gc.enable()
    return seconds / calls
