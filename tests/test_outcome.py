"""What one run of a program gave, and what it showed of later ones."""

from __future__ import annotations

import contextlib
from collections import namedtuple

import jax
import numpy as np
import pytest
import torch
from scenes import notebook

from fwmagic import frameworks
from fwmagic.cells.outcome import copied_results, first_run, root

TORCH, JAX, NUMPY = (frameworks.get(name) for name in ("torch", "jax", "numpy"))


def run(book, text, only=False):
    program, outcome = first_run(book.plain(text), contextlib.nullcontext, only)
    return outcome, program


@pytest.fixture
def book():
    return notebook(
        "torch",
        """
        hist, calls = [], []
        def work(x): return x * 2
        net = torch.nn.Linear(2, 1)
        opt = torch.optim.Adam(net.parameters())
        x = torch.ones(3, 2)
        """,
    )


def test_results_by_name_and_changed_state_by_path(book):
    weight = book.namespace["net"].weight.clone()
    outcome, _ = run(book, "y = work(x)\nwith torch.no_grad():\n    net.weight.zero_()\ny.sum()")
    assert outcome.results["Out"] == 12
    assert [path for path in outcome.changed if "weight" in path]
    assert all(value.eq(0).all() for path, value in outcome.changed.items() if path.endswith("weight"))
    assert book.namespace["net"].weight.eq(weight).all()  # put back at once: another section may read it
    assert outcome.seconds > 0
    assert not weight.eq(0).all()


def test_results_are_copies(book):
    outcome, _ = run(book, "x.add_(1)\ny = x")
    book.namespace["x"].zero_()
    assert outcome.results["y"].eq(2).all()


@pytest.mark.parametrize(
    ("text", "random"), [("torch.rand(2)", True), ("x + 1", False), ("import time\nt = time.time()", True)]
)
def test_what_depends_on_chance(book, text, random):
    assert run(book, text)[0].random is random


@pytest.mark.parametrize(
    ("text", "alone", "lead_in"),
    [
        ("y = x * 2", False, False),
        ("hist.append(1)", True, False),
        ("hist[:] = [1]", False, True),
        ("x.mul_(1)", False, False),
        ("opt.zero_grad()\nnet(x).sum().backward()\nopt.step()", False, True),
        ("calls.append(1)\nassert len(calls) < 2", True, False),
        ("calls or calls.append(sorted(range(20_000), key=lambda n: -n)[0])", True, False),
        ("for _ in range(100 if x[0, 0] < 20 else 1):\n    x.add_(0.0)\nx.add_(3)", True, False),  # at its 7th call
        ("import sys\nsys.path.append('a')", True, False),
    ],
)
def test_what_later_calls_show(book, text, alone, lead_in):
    as_it_is = book.plain(text)
    first_run(as_it_is, contextlib.nullcontext)  # what is imported and made once in a process takes long
    # It is told from times, and another process may have the core in one of them.
    programs = (first_run(as_it_is, contextlib.nullcontext)[0] for _ in range(5))
    assert any((program.most_calls == 1, program.lead_in) == (alone, lead_in) for program in programs)


def test_the_only_run_is_the_only_one(book):
    book.run("count = iter(range(9))\ndef ticket(c=count): return next(c)")
    run(book, "hist.append(ticket())", only=True)
    assert next(book.namespace["count"]) == 1


def test_a_run_that_raises_leaves_nothing(book):
    before = dict(book.namespace)
    program = book.plain("hist.append(1)\nz = 1 / 0")
    with pytest.raises(ZeroDivisionError):
        first_run(program, contextlib.nullcontext)
    assert book.namespace == before
    program.scene.restore()
    assert book.namespace["hist"] == []


def test_arrays_left_in_the_state_are_waited_for():
    book = notebook("jax", "d = {}\nx = jnp.ones(3)")
    program = book.plain("d['y'] = x * 2")
    program, outcome = first_run(program, contextlib.nullcontext)
    assert program.wait is not None
    assert outcome.changed["d['y']"].tolist() == [2, 2, 2]
    assert book.plainly("n = 1").results == {"n": 1}


@pytest.mark.parametrize("path", ["net", "net.weight", "net[0]", "net(closure)", "net.a[1].b"])
def test_the_root_of_a_path(path):
    assert root(path) == "net"


class TestCopies:
    def test_of_containers(self):
        Pair = namedtuple("Pair", "a b")
        value = {"t": [torch.zeros(1), (1, "s")], "p": Pair(torch.zeros(1), 2)}
        copy = copied_results(value, TORCH)
        value["t"][0].add_(1)
        value["p"].a.add_(1)
        assert copy["t"][0] == copy["p"].a == 0
        assert (copy["t"][1], type(copy["p"]), copy["p"].b) == ((1, "s"), Pair, 2)

    def test_of_numpy_arrays_in_any_framework(self):
        for framework in (TORCH, JAX, NUMPY):
            array = np.zeros(2)
            copy = copied_results([array], framework)[0]
            array[:] = 1
            assert copy.tolist() == [0, 0]

    def test_an_array_that_cannot_change_is_itself(self):
        array = jax.numpy.ones(2)
        assert copied_results(array, JAX) is array

    def test_a_copy_has_no_graph(self):
        assert copied_results(torch.ones(1, requires_grad=True) * 2, TORCH).grad_fn is None
