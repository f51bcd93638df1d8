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
        import difflib, types
        matcher = difflib.SequenceMatcher(None, "abcdefgh" * 9, "axbxcxdxexfxgxhx" * 5)
        hist, calls, kept, bag = [], [], {}, types.SimpleNamespace(x=torch.zeros(1, 2))
        scores = [(i * 7919) % 10_007 for i in range(30_000)]
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
        ("made = kept.get(0)\nkept[0] = x + 1 if made is None else made", True, False),  # of 1 us, and no call in it
        ("kept[0] = x + 1", False, True),
        ("bag.x = torch.cat([bag.x, x])", True, False),  # more in every call, and the same steps
        ("for _ in range(100 if x[0, 0] < 20 else 1):\n    x.add_(0.0)\nx.add_(3)", True, False),  # at its 7th call
        ("while x[0, 0] < 20:\n    x += 1", True, False),
        ("scores.sort()", True, False),  # in C
        ("import sys\nsys.path.append('a')", True, False),
        ("torch.set_printoptions(precision=3)", False, False),
        ("matcher.ratio()", True, False),  # a library that remembers
        ("net.eval()\ny = net(x)", False, True),
    ],
)
def test_what_later_calls_show(book, text, alone, lead_in):
    program, _ = first_run(book.plain(text), contextlib.nullcontext)
    assert (program.most_calls == 1, program.lead_in) == (alone, lead_in)


@pytest.mark.parametrize(
    ("setup", "text", "free"),
    [
        ("", "y = x * 2", True),
        ("def double(v): return two * v\ntwo = 2", "y = double(x)", True),
        ("", "x.mul_(1)", True),  # in place, and nothing to put back
        ("", "x.mul_(2)", False),
        ("", "hist[:] = [1]", False),
        ("", "y = torch.rand(3)", False),
        ("", "import sys\nsys.path.append('a')", False),
        ("k = 1\ndef f(): return k", "k = 2\ny = f()", False),  # in the namespace
    ],
)
def test_what_needs_nothing_between_two_blocks(book, setup, text, free):
    book.run(setup)
    program, _ = first_run(book.plain(text), contextlib.nullcontext)
    program.enter()
    found = program.finds()
    program.exit()
    assert (found is not None) is free


def test_what_a_cell_finds_by_name_is_that_of_its_functions_too(book):
    book.run("two = 2\nclass Twice:\n    def __call__(self, v): return two * v\ntwice = Twice()")
    program, _ = first_run(book.plain("y = twice(x)"), contextlib.nullcontext)
    found = []
    for book.namespace["two"] in (2, 3):
        program.enter()
        found.append(program.finds())
        program.exit()
    assert found[0] != found[1]


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
