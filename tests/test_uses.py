"""What statements do with what a name is bound to: is it read again, filled, worked on?"""

from __future__ import annotations

import ast

import pytest

from fwmagic.cells import uses


@pytest.mark.parametrize(
    ("source", "again"),
    [
        ("y = 1\nz = y", True),
        ("y = 1\nprint(y)", False),
        ("y = 1\ndisplay(y)", False),
        ("y = 1\nprint(y)\ny", True),
        ("y = y + 1", False),
        ("z = y\ny = 1", False),
        ("y = 1\ndef f():\n    return y", False),
        ("y = 1\nf(lambda: y)", True),
        ("for i in r:\n    y = i\n    z = y", True),
        ("for i in r:\n    z = y\n    y = i", False),
        ("if c:\n    y = 1\nelse:\n    y = 2\n    w = y", True),
        ("try:\n    y = 1\n    w = y\nexcept E:\n    pass", True),
        ("x = 1", False),
        ("y = []\nfor i in r:\n    y.append(i)", False),
        ("y = []\nfor i in r:\n    y.append(y[-1] + i)", False),
        ("y = []\nfor i in r:\n    y.append(i)\nz = sum(y)", True),
        ("y = []\nfor i in r:\n    y.append(i)\n    z = y[0]", True),
        ("y = {}\ny['a'] = 1", False),
        ("y = {}\ny['a']: int = 1", False),
        ("y = {}\ny['a'].append(2)", False),
        ("y = {}\ny['a'] += 1\nz = 1", False),
        ("y = {}\ny['a'][0] = 1", False),
        ("y = defaultdict(list)\ny[k].append(1)", False),
        ("y = [f(v) for v in r]\ny.append(1)", False),
        ("y: list = []\ny.append(1)", False),
        ("y = A()\ny.part.x = 1", True),
        ("y = A()\ny.update(x)", True),
        ("y = A()\ny[0] = 1", False),
        ("y = {}\nz[y] = 1", True),
        ("y = 1\ny.backward()", True),
        ("y = 1\ny.shape, y.dtype", False),
        ("y = 1\nassert y.shape[0] == len(y)", False),
        ("y = 1\nn = y.size(0)", False),
        ("y = 1\nn = y.shape[0] + y[0]", True),
        ("y = 1\ny.shape = (3,)", True),
        ("y = 1\nz.append(y)", True),
        ("if c:\n    y = []\n    y.append(1)", False),
    ],
)
def test_reading_again_what_was_bound_last(source, again):
    assert uses.used_again(ast.parse(source).body, "y") is again


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a.append(1)", {"a"}),
        ("if c:\n    a.b[0].append(1)", {"a"}),
        ("a[0] = b[1]", {"a"}),
        ("a.b = c.d = 1", {"a", "c"}),
        ("a[0] += 1", {"a"}),
        ("a = b.f(1)", set()),
        ("f(1)", set()),
        ("a.f()", set()),
        ("f().g(1)", set()),
    ],
)
def test_what_is_filled(source, names):
    assert uses.filled(ast.parse(source).body) == names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("keep(a, [b])\nc = f(d)", {"keep", "a", "b"}),
        ("for x in r:\n    a.f()", {"a"}),
        ("a.b = c", {"a"}),
        ("print(a)\ndisplay(b)", set()),
        ("a = []\na.append(b)\na[0] = c", set()),
        ("a.append(b)", {"a", "b"}),
    ],
)
def test_what_is_worked_on(source, names):
    assert uses.worked_on(ast.parse(source).body) == names


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("for i in r:\n    y = f(i)", [2]),
        ("while c:\n    y = a @ b\n    c = g(c)", [2]),
        ("for i in r:\n    y = f(i)\n    s = s + y", []),
        ("for i in r:\n    y = f(y)", []),
        ("for i in r:\n    y = i", []),
        ("for i in r:\n    for j in q:\n        y = f(j)", [3]),
        ("y = f(1)\ny = f(2)", [1]),
        ("y = f(1)\ny = f(y)", []),
        ("y = f(1)\nz = y\ny = f(2)", []),
        ("y = f(1)\nz = f(2)", []),
        ("torch.exp(x)\ny = torch.sin(x)", [1]),
        ("jnp.exp(x)", [1]),
        ("x @ w", [1]),
        ("torch.exp(x, out=y)", []),
        ("torch.manual_seed(0)\ntorch.set_num_threads(2)\ntorch.relu_(x)", []),
        ("outs.append(x * 2)\nstep(x)", []),
    ],
)
def test_what_is_not_read(source, lines):
    assert uses.unused_values(ast.parse(source).body, ("torch", "jnp")) == lines
