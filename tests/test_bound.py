"""A time below what the work takes at least is no time: planted drops are found, and no others."""

from __future__ import annotations

import dataclasses

import pytest
from cells import run
from tiers import QUICK_BACKEND, compiling_with, thinned

from fwmagic.frameworks.least import Least
from fwmagic.measure.bound import least_seconds, why_invalid
from fwmagic.run.place import Here

QUICK = "--budget 0.2 --no-check"
SETUP = """
import torch, jax, jax.numpy as jnp
A, B = jnp.ones((400, 400)), jnp.ones((8, 200, 200))
I, K = jnp.ones((4, 16, 48, 48)), jnp.ones((32, 16, 3, 3))
a, b = torch.ones(400, 400), torch.ones(8, 200, 200)
net = torch.nn.Linear(400, 400)
conv = torch.nn.Conv2d(16, 32, 3)
image = torch.ones(4, 16, 48, 48)
inner = lambda x: jnp.tanh(x @ x)
twice = jax.checkpoint(lambda x: x @ x + (x @ x) * 2)
"""
CELLS = [
    ("jax", "(A @ A).sum()"),
    ("jax", "jnp.einsum('bij,bjk->bik', B, B).sum()"),
    ("jax", "jax.lax.conv(I, K, (1, 1), 'SAME').sum()"),
    ("jax", "jax.lax.scan(lambda c, _: (c @ A / 400, None), A, None, length=3)[0].sum()"),
    ("jax", "jax.vmap(lambda m: m @ m)(B).sum()"),
    ("jax", "jax.grad(lambda w: jnp.sum((w @ A) ** 2))(A).sum()"),
    ("jax", "inner(A).sum()"),
    ("torch", "(a @ a).sum()"),
    ("torch", "torch.bmm(b, b).sum()"),
    ("torch", "with torch.no_grad():\n    y = net(a)\ny.sum()"),
    ("torch", "with torch.no_grad():\n    y = conv(image)\ny.sum()"),
]


# Each goes through 25 MB or more; and others that only seem to.
LARGE = "\nL, l = jnp.ones((1600, 4000)), torch.ones(1600, 4000)"
MOVED = [
    ("jax", "jnp.exp(L)"),
    ("jax", "L.sum()"),
    ("jax", "jnp.max(L * 2 + 1, axis=0)"),
    ("jax", "jnp.concatenate([L, L])"),
    ("jax", "jax.nn.softmax(L)"),
    ("jax", "L.T + 1"),
    ("torch", "torch.exp(l)"),
    ("torch", "l.sum()"),
    ("torch", "(l * 2 + 1).amax(0)"),
    ("torch", "torch.cat([l, l])"),
    ("torch", "torch.softmax(l, 1)"),
    ("torch", "l.T + 1"),
]
NOT_MOVED = [
    ("jax", "jnp.exp(L)[0]"),
    ("jax", "L[7].sum()"),
    ("jax", "jax.lax.dynamic_slice(jnp.sin(L * 2), (3, 3), (2, 2))"),
    ("torch", "torch.exp(l)[0] + 1"),
    ("torch", "l[7].sum()"),
    ("torch", "l.T, l[0] * 2"),
    ("torch", "torch.empty(10_000_000), l[0] * 2"),
    ("torch", "l[0].expand(10_000, 4000), l[0] * 2"),
    ("torch", "y = l.T\nz = l[:2] * 2\ny, z"),
    ("torch", "{'a': l, 'b': l.view(-1), 'c': l[0] + 1}"),
    ("torch", "l.unbind(0)[0] * 2, l.view(-1)[:9].sum(), l.T[0] + 1, next(iter(l)) - 1"),
    ("torch", "y = l.detach()\nl[0] + 1, y, y[None], l[None].expand(9, -1, -1)"),
    ("jax", "L, L[:2] * 2"),
    ("jax", "jax.nn.relu(L[:2]), L.reshape(-1)[0]"),
    ("jax", "jax.lax.cond(A[0, 0] > 2, lambda a: a.sum(), lambda a: a[0, 0], L)"),
    ("jax", "jax.lax.while_loop(lambda s: s[0, 0] > 9, jnp.sin, L)[0]"),
]
# Products that need not be done, or not so often as the text says; and how many have to be, of 2 * 400 ** 3 operations.
PRODUCTS = [
    ("jax", "jax.lax.while_loop(lambda s: s[0, 0] > 2, lambda s: s @ s, A)", 0),
    ("jax", "jax.lax.while_loop(lambda s: (s @ s)[0, 0] < 2, lambda s: s + 1, A)", 1),
    ("jax", "jax.lax.fori_loop(0, 0, lambda i, s: s @ s, A) + 1", 0),
    ("jax", "jax.lax.fori_loop(0, 3, lambda i, s: s @ s, A)", 3),
    ("jax", "jax.lax.scan(lambda c, _: (c + A @ A, None), A, None, length=9)[0]", 1),
    ("jax", "jax.lax.scan(lambda d, _: (jax.lax.scan(lambda c, _: (c + d @ d + A @ A, None), d, None, 9)[0], None), "
     "A, None, length=3)[0]", 4),
    ("jax", "jax.lax.cond(A[0, 0] > 2, lambda a: a @ a @ a, lambda a: a @ a, A)", 1),
    ("jax", "jax.lax.switch(A[0, 0].astype(int), [lambda a: a + 1, lambda a: a @ a], A) + 1", 0),
    ("jax", "jax.lax.scan(lambda c, _: (c * 0.9, c @ c), A, None, length=5)[0]", 0),
    ("jax", "jax.lax.scan(lambda c, _: (c @ c, c * 0.9), A, None, length=5)[1]", 5),
    ("jax", "jax.lax.fori_loop(0, 5, lambda i, s: (s[0] @ s[0], s[1] * 0.9), (A, A[0]))[1]", 0),
    ("jax", "jax.checkpoint(lambda v: (v @ v, v * 2))(A)[1]", 0),
    ("jax", "jax.lax.cond(A[0, 0] > 2, lambda a: (a @ a, a), lambda a: (a @ a, a + 1), A)[1]", 0),
    ("jax", "sum(A @ A for _ in range(9))", 1),
    ("jax", "twice(A)", 1),
    ("jax", "jax.grad(lambda w: (w @ A).sum())(A)", 1),
    ("torch", "ys = [a @ a for _ in range(9)]\nys", 1),
    ("torch", "ys = [(a + i) @ a for i in range(3)]\nys", 3),
    ("torch", "for i in range(9):\n    y = (a + i) @ a\ny", 1),
]  # fmt: skip

# What a compiler folds away.
PRODUCTS += [
    ("jax", "jnp.where(True, A, A @ A)[0].sum()", 0),
    ("jax", "jnp.where(jnp.arange(400) < 500, A[0], (A @ A)[0]).sum()", 0),
    ("jax", "jnp.where(A[0] > 0, A[0], (A @ A)[0]).sum()", 1),
    ("jax", "((A @ A) * 0).sum()", 0),
    ("torch", "((a @ a) * 0).sum()", 0),
    ("torch", "torch.zeros_like(a @ a).sum()", 0),
]


@pytest.fixture
def notebook(shell, idle):
    with compiling_with(QUICK_BACKEND):
        run(shell, SETUP)
        yield shell


@pytest.mark.parametrize(("framework", "text"), [*thinned(CELLS, 3), *thinned(MOVED, 5)])
def test_a_planted_drop_is_no_time(notebook, framework, text, monkeypatch):
    monkeypatch.setattr("fwmagic.measure.bound.usable_cores", lambda: 2)  # the more there are, the more may be cached
    if (framework, text) in MOVED:
        run(notebook, LARGE)
    usual = Here.calls

    def planted(here, name, program, pool):
        program.enter()
        outputs = program.call(*program.args)
        if program.wait is not None:
            program.wait(outputs)  # what is dropped takes no time in the first timed call either
        program.exit()
        return usual(here, name, dataclasses.replace(program, call=lambda *_: outputs), pool)

    run(notebook, f"%%{framework} {QUICK} -o r\n{text}")
    (variant,) = notebook.user_ns["r"]
    assert (variant.status, variant.compilation.way) == ("timed", "cell")
    monkeypatch.setattr(Here, "calls", planted)
    run(notebook, f"%%{framework} {QUICK} -o r\n{text}")
    (variant,) = notebook.user_ns["r"]
    assert (variant.status, variant.time) == ("not timed", None), notebook.user_ns["r"].details()
    assert variant.note.startswith("invalid: a call took ")


@pytest.mark.parametrize(("framework", "text"), thinned(NOT_MOVED, 3))
def test_what_need_not_be_gone_through_is_not_counted(notebook, framework, text, monkeypatch):
    run(notebook, LARGE)
    found = []
    monkeypatch.setattr("fwmagic.run.place.least_seconds", lambda least, _: found.append(least) or 0.0)
    run(notebook, f"%%{framework} {QUICK} -o r\n{text}")
    assert notebook.user_ns["r"][framework].compilation.way == "cell"
    assert found[0].bytes < 1e6


@pytest.mark.parametrize(("framework", "text", "products"), thinned(PRODUCTS, 4))
def test_products_that_need_not_be_done_are_not_counted(notebook, framework, text, products, monkeypatch):
    found = []
    monkeypatch.setattr("fwmagic.run.place.least_seconds", lambda least, _: found.append(least) or 0.0)
    run(notebook, f"%%{framework} {QUICK} -o r\n{text}")
    assert notebook.user_ns["r"][framework].compilation.way == "cell"
    assert found[0].operations == products * 2 * 400**3


def test_it_has_no_part_in_a_verdict(notebook, monkeypatch):
    usual = Here.calls

    def planted(here, name, program, pool):
        dropped = dataclasses.replace(program, call=lambda *_: A) if name == "quick" else program
        return usual(here, name, dropped, pool)

    A = notebook.user_ns["A"].sum()
    monkeypatch.setattr(Here, "calls", planted)
    run(notebook, f"%%compare {QUICK} -o r\n%%jax slow\n(A @ A).sum()\n%%jax quick\n(A @ A).sum()")
    report = notebook.user_ns["r"]
    assert report.ratios == ()
    assert (report["slow"].status, report["quick"].status) == ("timed", "not timed")
    assert "invalid" in str(report)


def test_narrow_numbers_and_branches_are_not_counted_too_high(notebook):
    for text in (
        "(A.astype(jnp.bfloat16) @ A.astype(jnp.bfloat16)).sum()",
        "jax.lax.cond(A[0, 0] > 2, inner, jnp.sin, A)",
    ):
        run(notebook, f"%%jax {QUICK} -o r\n{text}")
        assert notebook.user_ns["r"]["jax"].status == "timed"


def test_the_bound_in_words():
    assert why_invalid(1.0, 0.5) == ""
    assert "took 1.00 µs" in why_invalid(1e-6, 1e-5)
    for least in (Least(operations=1e12), Least(bytes=1e12)):
        assert least_seconds(least) > least_seconds(least, on_cpu=False) > 0
    assert least_seconds(Least(bytes=1e6)) == 0
