"""The suite of `%%compare` cells with two identical sections, without and with a state, beside a loop by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from benchmarks.methods import METHODS, QUICK, WHOLE, Effort, of_report, run_cell, shell
from benchmarks.results import watched
from benchmarks.runs import HAND, OWN
from benchmarks.work import INPUTS, LARGE, SMALL, Call, Setup, setup

Run = dict[str, Any]

_COUNT = 10
_LENGTHS = ("20 µs", SMALL, LARGE)
_CELL = "%%compare --budget {budget} --no-memory --no-check -o timed\n" + INPUTS


@dataclass(frozen=True)
class Section:
    """What both sections of a cell are: the options of their magic, their work, and what it needs of the `%%setup`."""

    options: str
    work: str
    needs: str = ""


# The work of `benchmarks.work`, and that after something is appended to a list: then every call has to start from the
# list as it was, and there is nothing to compile but the step.
_PLAIN = {
    "torch": Section("--mode eager", "torch.tanh(x @ w)"),
    "jax": Section("--mode compiled", "jnp.tanh(x @ w)"),
    "numpy": Section("", "np.tanh(x @ w)"),
}
_STATE = {
    "torch": Section("--mode eager", "done.append(0)\ntorch.tanh(x @ w)", "done = []\n"),
    "jax": Section(
        "--mode eager",
        "done.append(0)\nstep(x, w)",
        "import jax\ndone = []\nstep = jax.jit(lambda x, w: jax.numpy.tanh(x @ w))\n",
    ),
    "numpy": Section("", "done.append(0)\nnp.tanh(x @ w)", "done = []\n"),
}


def cells(rng: random.Random, quick: bool) -> Iterator[Run]:
    """Compare two identical sections, and two identical functions by hand, in random order."""
    setups = [setup(name, name, length) for name in _PLAIN for length in ((SMALL,) if quick else _LENGTHS)]
    jobs = list(product((OWN, HAND), setups, (False, True))) * (1 if quick else _COUNT)
    rng.shuffle(jobs)
    for turn, (method, one, state) in enumerate(jobs, start=1):
        yield {"turn": f"{turn}/{len(jobs)}", **_one(method, one, state, QUICK if quick else WHOLE)}


def _one(method: str, one: Setup, state: bool, effort: Effort) -> Run:
    def work() -> Run:
        if method == OWN:
            framework, _ = one.frameworks
            return _magic(framework, (_STATE if state else _PLAIN)[framework], one.size, effort)
        a, b = map(appending, one.functions()) if state else one.functions()
        return METHODS[method](a, b, effort)

    about = {"setup": f"{one.name}, {'a list grows' if state else 'no state'}", "method": method}
    return {**about, "size": one.size, "length": one.length, "planted": None, "true": 1.0, **watched(work)}


def appending(call: Call) -> Call:
    """Return a call that appends to a list of its own first, as the cells with a state do."""
    done: list[int] = []

    def appended() -> Any:
        done.append(0)
        return call()

    return appended


def _magic(framework: str, section: Section, size: int, effort: Effort) -> Run:
    sections = [f"%%{framework} {name} {section.options}\n{section.work}\n" for name in "ab"]
    run_cell(_CELL.format(budget=effort.budget, size=size) + section.needs + "".join(sections))
    return of_report(shell().user_ns.pop("timed"), "a", "b")
