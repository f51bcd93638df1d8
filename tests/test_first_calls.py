"""State of libraries, of metaclasses and of threads: no call is timed that finds the work of an earlier one done."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("untraced")

DUMPS = json.dumps
SETUP = """
import json, math
import numpy as np

def slow():
    total = 0
    for i in range(600_000):
        total += i
    return np.ones(3) * total

class Meta(type):
    cache = {}
    def __call__(cls):
        if cls not in Meta.cache:
            Meta.cache[cls] = super().__call__()
        return Meta.cache[cls]

class Single(metaclass=Meta):
    def __init__(self): self.value = slow()

def by_library():
    held = vars(math)
    if "spare" not in held:
        held["spare"] = slow()
    return held["spare"]

def patch():
    from unittest import mock
    mock.patch.object(json, "dumps").start()
    return np.ones(3)

def plain():
    return slow()
"""


def status(shell: Any, cell: str) -> tuple[str, str, float]:
    """Compare a cell with nothing, and return its status, its note, and the seconds that the report shows."""
    shell.run_cell(f"%%compare --mode eager --budget 0.03 -o report\n%%numpy a\n{cell}\n").raise_error()
    one = shell.user_ns["report"]["a"]
    seconds = one.compilation.stages[0].seconds if one.time is None else min(one.time.samples)
    return one.status, one.note, seconds


@pytest.mark.parametrize("cell", ["by_library()", "patch()"])
def test_what_a_cell_binds_in_a_library_is_taken_away_again(shell: Any, cell: str) -> None:
    shell.run_cell(SETUP).raise_error()
    found, note, _ = status(shell, cell)
    assert (found, "which belongs to a library" in note) == ("run-once", True)
    assert not hasattr(math, "spare")
    assert json.dumps is DUMPS


def test_what_a_library_makes_of_its_own_when_it_is_first_asked_for_stays(shell: Any) -> None:
    shell.run_cell(SETUP).raise_error()
    shell.run_cell("from tqdm.auto import tqdm\n").raise_error()
    bar = shell.user_ns["tqdm"]
    bar.monitor, bar.monitor_interval = None, 10
    found, _, _ = status(shell, "for _ in tqdm(range(3)):\n    y = np.ones(3)\ny")
    assert found == "timed"


@pytest.mark.parametrize("cell", ["plain()", "Single().value"])
def test_a_call_that_is_slow_each_time_is_timed(shell: Any, cell: str) -> None:
    shell.run_cell(SETUP).raise_error()
    found, _, seconds = status(shell, cell)
    assert (found, seconds > 5e-3) == ("timed", True)


def test_what_a_thread_of_the_notebook_does_meanwhile_is_kept(shell: Any) -> None:
    shell.run_cell(
        "import threading, time\nseen, stop = [], threading.Event()\n"
        "def listen():\n    while not stop.is_set():\n        seen.append(len(seen)); time.sleep(0.001)\n"
        "thread = threading.Thread(target=listen, daemon=True); thread.start()\n"
    ).raise_error()
    try:
        found, note, _ = status(shell, "len(seen)\n")
    finally:
        shell.run_cell("stop.set(); thread.join()").raise_error()
    assert (found, "another thread uses `seen`, too" in note) == ("run-once", True)
    assert shell.user_ns["seen"] == list(range(len(shell.user_ns["seen"])))


def test_a_jitted_function_that_had_compiled_nothing_forgets_what_a_comparison_compiled(shell: Any) -> None:
    shell.run_cell(
        "import jax, jax.numpy as jnp\nX = jnp.ones(7)\n"
        "fresh, warm = jax.jit(lambda x: jnp.tanh(x) * 3), jax.jit(lambda x: x * 5)\nold = warm(X)\n"
    ).raise_error()
    shell.run_cell("%%compare --budget 0.03\n%%jax\nfresh(X) + warm(X)\n").raise_error()
    assert [shell.user_ns[name]._cache_size() for name in ("fresh", "warm")] == [0, 1]


def test_a_function_that_torch_had_not_compiled_yet_is_compiled_by_the_notebook(shell: Any) -> None:
    shell.run_cell(
        "import torch\nX, made = torch.ones(7), []\n"
        "def backend(graph, inputs):\n    made.append(1)\n    return graph.forward\n"
        "fresh, warm = (torch.compile(f, backend=backend) for f in (lambda x: x.tanh() * 3, lambda x: x * 5))\n"
        "class Twice(torch.nn.Module):\n    def forward(self, x): return x * 2\n"
        "module = torch.compile(Twice(), backend=backend)\n"
        "old = warm(X)\n"
    ).raise_error()
    shell.run_cell("%%compare --budget 0.03 -o report\n%%torch\nfresh(X) + warm(X) + module(X)\n").raise_error()
    assert [one.status for one in shell.user_ns["report"]] == ["timed"]
    counts = []
    for cell in ("", "warm(X)", "fresh(X)", "module(X)"):
        shell.run_cell(cell).raise_error()
        counts.append(len(shell.user_ns["made"]))
    assert [count - counts[0] for count in counts] == [0, 0, 1, 2]


@pytest.mark.parametrize(
    "cell",
    [
        "turns = (jnp.tanh(X) * i for i in range(3))\ny = sum(turns)",
        "turns = iter([X, X + 1])\ny = next(turns)",
        "pool = ThreadPoolExecutor(2)\ny = X * sum(pool.map(len, ['ab', 'c']))",
    ],
    ids=["generator", "iterator", "pool"],
)
def test_what_a_cell_has_left_last_time_does_not_change_how_it_is_run(shell: Any, cell: str) -> None:
    shell.run_cell(
        "import jax.numpy as jnp\nfrom concurrent.futures import ThreadPoolExecutor\nX = jnp.ones(7)\n"
    ).raise_error()
    told = []
    for _ in range(2):
        shell.run_cell(f"%%jax --budget 0.03 -o report\n{cell}\n").raise_error()
        (one,) = shell.user_ns["report"]
        told.append((one.status, one.compilation.way, one.note))
    assert told[0] == told[1]


def test_what_a_cell_has_left_last_time_is_no_reason_to_compile_it_again(shell: Any) -> None:
    shell.run_cell("import jax.numpy as jnp\nX = jnp.ones(7)\n").raise_error()
    caches = []
    for _ in range(2):
        shell.run_cell("%%jax --budget 0.03 -o report\nh = X\nfor _ in range(3):\n    h = h * 2\nh\n").raise_error()
        (one,) = shell.user_ns["report"]
        caches.append(one.compilation.cache)
    assert caches == ["cold", "reused"]
