"""Closure, dead code and asynchrony: what a naive timer of a cell reports far too quick, fwmagic does not.

Each test compares three times of one run: the truth (a hand-written loop over a function that takes its arrays as
arguments, returns every result and is waited for), the naive one, and the median of fwmagic's report.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
import torch
from oracle import REPORT, notebook

ARRAYS = """
import numpy as np
import torch, jax, jax.numpy as jnp
values = np.random.default_rng(0).standard_normal(({n}, {n}), dtype=np.float32)
a = {array}
"""
CALLS = 25
#: Of the truth: what a report must at least say, and what the naive implementation says at most.
TRUE, NAIVE = 0.2, 0.1


def naive(
    body: str,
    names: dict[str, Any],
    compiler: Callable[[Any], Callable[..., Any]] = lambda function: function,
    arguments: tuple[str, ...] = (),
    wait: Callable[[Any], Any] = lambda outputs: outputs,
) -> float:
    """Time a cell as one does who does not know better: a function that gives back the last expression."""
    *statements, last = body.strip().splitlines()
    exec(f"def cell({', '.join(arguments)}): {'; '.join([*statements, f'return {last}'])}", names)
    call, values = compiler(names["cell"]), [names[name] for name in arguments]
    return _quickest(lambda: wait(call(*values)))


def _quickest(call: Callable[[], Any]) -> float:
    """Return the seconds of the call that was disturbed least: it is set beside one of another moment."""
    call()
    return min(timeit.repeat(call, number=1, repeat=CALLS))


class Timed:
    """A notebook with an array `a`, in which one text is timed in the three ways."""

    def __init__(self, framework: str, n: int, body: str, setup: str = "") -> None:
        self.framework, self.body = framework, body
        array = {"jax": "jnp.asarray(values)", "torch": "torch.from_numpy(values)"}[framework]
        with notebook() as book:
            book.shell.run_line_magic("load_ext", "fwmagic")
            ready = book.run(ARRAYS.format(n=n, array=array) + setup)
            done = book.run(f"%%{framework} --budget 0.4 -o {REPORT}\n{body}")
            book.shell.run_line_magic("unload_ext", "fwmagic")
            self.names = dict(book.shell.user_ns)
        assert ready.error is None
        assert done.error is None
        self.variant = next(iter(self.names[REPORT]))

    def share(self, truth: float) -> float:
        """Return the reported time as a share of the truth."""
        assert self.variant.time is not None, self.variant.note
        return self.variant.time.median / truth

    def truth(self, function: Callable[..., Any]) -> float:
        """Return the time of a call of `function` of `a`, until everything it returns is there."""
        a = self.names["a"]
        return _quickest(lambda: jax.block_until_ready(function(a)))

    def naive(self, *args: Any, **kwargs: Any) -> float:
        """Return what the naive implementation says of the same text."""
        return naive(self.body, self.names, *args, **kwargs)


@pytest.mark.parametrize(
    ("n", "body", "setup", "function"),
    [
        (128, "jnp.sort(a)", "", jnp.sort),
        (512, "jnp.tanh(a @ a).sum()", "", lambda a: jnp.tanh(a @ a).sum()),
        (128, "ordered()", "def ordered():\n    return jnp.sort(a)", jnp.sort),
    ],
    ids=["sort", "matmul", "global-of-a-function"],
)
def test_closure_an_array_is_an_argument_and_never_folded(n: int, body: str, setup: str, function: Any):
    timed = Timed("jax", n, body, setup)
    truth = timed.truth(jax.jit(function))
    assert timed.naive(jax.jit, wait=jax.block_until_ready) <= NAIVE * truth
    assert timed.share(truth) >= TRUE
    assert timed.variant.compilation.way == "cell"


DEAD = """
y = a @ a @ a @ a
a[0, 0]
"""


def _all_of_it(a: Any) -> tuple[Any, Any]:
    return a @ a @ a @ a, a[0, 0]


def test_dead_code_what_jax_may_not_drop():
    timed = Timed("jax", 512, DEAD.strip())
    truth = timed.truth(jax.jit(_all_of_it))
    assert timed.naive(jax.jit, ("a",), jax.block_until_ready) <= NAIVE * truth
    assert timed.share(truth) >= TRUE
    assert "y" in timed.variant.returned


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # among torch's own modules, while it compiles
def test_dead_code_what_torch_may_not_drop():
    timed = Timed("torch", 512, DEAD.strip())
    truth = timed.truth(torch.compile(_all_of_it))
    assert timed.naive(torch.compile) <= NAIVE * truth
    assert timed.share(truth) >= TRUE
    assert "y" in timed.variant.returned


def test_asynchrony_outputs_are_waited_for():
    timed = Timed("jax", 512, "a @ a")
    truth = timed.truth(jax.jit(lambda a: a @ a))
    assert timed.naive() <= NAIVE * truth
    assert timed.share(truth) >= TRUE
    assert timed.variant.time.wait >= TRUE * truth
