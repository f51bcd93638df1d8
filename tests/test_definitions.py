"""What definitions do when they are made."""

from __future__ import annotations

import ast
import sys
import textwrap
import types

import pytest

from fwmagic.cells.definitions import may_act, names_made, names_read_at_once

NOTEBOOK = """
import functools, torch
from dataclasses import dataclass
from functools import lru_cache, partial
W, kept = 2, []
def keep(f):
    kept.append(f)
    return f
@functools.singledispatch
def area(shape): return 0
class Plain: pass
class Counted:
    def __init_subclass__(cls): kept.append(cls)
class Meta(type): pass
class Made(metaclass=Meta): pass
"""


@pytest.fixture(scope="module")
def namespace():
    names = {"__name__": "__main__"}
    exec(NOTEBOOK, names)
    return names


def definitions(text):
    return ast.parse(textwrap.dedent(text)).body


@pytest.mark.parametrize(
    ("text", "acts"),
    [
        ("import math", False),
        ("def f(v, w=W): return keep(v)", False),
        ("@torch.no_grad()\ndef f(v): return v", False),
        ("@partial(torch.compile, dynamic=True)\n@lru_cache\ndef f(v): return v", False),
        (
            "@dataclass\nclass P(Plain):\n    v: int = W\n    a, b = 1, 2\n    def f(self): keep(self)",
            False,
        ),
        ("class Net(torch.nn.Module):\n    def forward(self, v): return keep(v)", False),
        ("@keep\ndef f(v): return v", True),
        ("@area.register\ndef f(v: int): return v", True),
        ("@Plain\ndef f(v): return v", True),
        ("def f(v, w=keep(W)): return v", True),
        ("class C:\n    v = keep(W)", True),
        ("class C:\n    @keep\n    def f(self): pass", True),
        ("class C(Counted): pass", True),
        ("class C(Made): pass", True),
        ("class C(metaclass=Meta): pass", True),
    ],
)
def test_what_may_change_more_than_names(namespace, text, acts):
    assert may_act(definitions(text), namespace) is acts


def test_names_are_read_at_once_or_when_called():
    text = """
    @keep
    def f(v, w=W): return later(v)
    class C(Base, metaclass=Meta):
        x = table[0]
        def g(self, y=default): return later(y)
    """
    assert names_read_at_once(definitions(text)) == ["Base", "Meta", "W", "default", "keep", "table"]


def test_names_made_are_also_those_of_every_name_of_a_module(monkeypatch):
    module = types.ModuleType("of_the_test")
    module.one, module._hidden = 1, 2
    monkeypatch.setitem(sys.modules, "of_the_test", module)
    made = definitions("from of_the_test import *\nfrom string import *\nimport math as m\ndef f(): pass")
    assert {"one", "m", "f", "digits"} <= names_made(made)
    assert not {"_hidden", "types", "*"} & names_made(made)
    assert "_re" not in names_made(made)
