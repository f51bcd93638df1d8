"""What a call of JAX leaves in objects of the user's is waited for, wherever it is: no time is below the plain one."""

from __future__ import annotations

import time
from typing import Any

import pytest

import fwmagic

pytestmark = pytest.mark.usefixtures("untraced")

SETUP = """
import collections, dataclasses, threading
import jax, jax.numpy as jnp

big = jnp.linspace(-1, 1, 250_000).reshape(500, 500) / 30
mm = jax.jit(lambda x: x @ x @ x @ x)
mm(big).block_until_ready()

class Box:
    def __init__(self, value): self.value = value

@dataclasses.dataclass
class Metrics:
    loss: object

class Slot:
    __slots__ = ("value",)

class Trainer:
    def __init__(self):
        self.history, self.best, self.user = [], None, collections.UserDict()
    def step(self): self.history.append(Metrics(mm(big)))

class Deep:
    def __init__(self): self.trainer = Trainer()

boxes, found, slot, deep, latest = [], {}, Slot(), Deep(), collections.deque(maxlen=2)
hold = lambda value: lambda: value
"""


def least(shell: Any) -> float:
    """Return the seconds of the quickest of some calls whose result is waited for, by hand."""
    found = []
    for _ in range(5):
        start = time.perf_counter()
        shell.user_ns["mm"](shell.user_ns["big"]).block_until_ready()
        found.append(time.perf_counter() - start)
    return min(found)


#: Where arrays are left, or returned, that JAX itself does not find there.
HIDING = (
    "boxes.append(Box(mm(big)))",
    "found['k'] = Metrics(mm(big))",
    "slot.value = Box(mm(big))",
    "deep.trainer.step()",
    "deep.trainer.user['a'] = Metrics(mm(big))",
    "latest.append((1, {'a': Metrics(mm(big))}))",
    "boxes.append(hold(mm(big)))",
    "Box(mm(big))",
)


def test_what_is_left_in_objects_is_waited_for(shell: Any) -> None:
    shell.run_cell(SETUP).raise_error()
    for cell in HIDING:
        shell.run_cell(f"%%compare --mode eager --budget 0.05 -o report\n%%jax a\n{cell}\n").raise_error()
        assert min(shell.user_ns["report"]["a"].time.samples) > 0.3 * least(shell), cell


def test_the_plain_run_of_a_cell_that_runs_once_is_waited_for(shell: Any, tmp_path: Any) -> None:
    shell.run_cell(SETUP).raise_error()
    shell.run_cell(f"%%jax -o report\nopen({str(tmp_path / 'log')!r}, 'w').close()\nboxes.append(Box(mm(big)))\n")
    report = shell.user_ns["report"]
    assert report.variants[0].status == "run-once"
    assert report.variants[0].compilation.stages[0].seconds > 0.3 * least(shell)


def test_callables_are_waited_for(shell: Any) -> None:
    shell.run_cell(SETUP).raise_error()
    shell.run_cell("def call(): boxes.append(Box(mm(big)))\n").raise_error()
    report = fwmagic.compare({"a": shell.user_ns["call"]}, budget=0.1)
    assert min(report["a"].time.samples) > 0.3 * least(shell)
