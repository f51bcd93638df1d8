"""What definitions do when they are made."""

from __future__ import annotations

import ast
import sys
import textwrap
import types

import pytest

from fwmagic.cells.definitions import names_made


def definitions(text):
    return ast.parse(textwrap.dedent(text)).body


def test_names_made_are_also_those_of_every_name_of_a_module(monkeypatch):
    module = types.ModuleType("of_the_test")
    module.one, module._hidden = 1, 2
    monkeypatch.setitem(sys.modules, "of_the_test", module)
    made = definitions("from of_the_test import *\nfrom string import *\nimport math as m\ndef f(): pass")
    assert {"one", "m", "f", "digits"} <= names_made(made)
    assert not {"_hidden", "types", "*"} & names_made(made)
    assert "_re" not in names_made(made)


ORDERED = """
import functools
import numpy as np
from dataclasses import dataclass
A = np.random.default_rng(0).random((5, 5))
Q, cfg, REG = [5, 6, 7, 8, 9, 1, 2, 3], {"k": 1}, {}
class Registry:
    def __init__(self): self.made = {}
    def register(self, name):
        def keep(made):
            assert name not in self.made, name + " exists"
            self.made[name] = made
            return made
        return keep
M = Registry()
def reg(name):
    def keep(made):
        assert name not in REG, name + " exists"
        REG[name] = made
        return made
    return keep
class Cfg: lr = 1.0
C = Cfg()
"""
G = "def g(v, k={0}): return v * k\ng(A).sum()"
DOUBLES = "class Aa:\n    def __call__(s, v): return v * 2\n"
#: A definition looks at what a statement before it has changed, in so many spellings.
SPELLINGS = {
    "pop": "y = Q.pop()\n" + G.format("len(Q)"),
    "update": "_ = cfg.update(k=5)\n" + G.format("cfg['k']"),
    "in a test": "if cfg.update(k=5) is None: pass\n" + G.format("cfg['k']"),
    "dataclass": "old = cfg.setdefault('lr', 3.0)\n@dataclass\nclass S:\n    n: int = len(cfg)\nS().n * A.sum()",
    "registry": "M.made.clear()\n@M.register('a')\n" + DOUBLES + "M.made['a']()(A).sum()",
    "popped": "_ = REG.pop('a', None)\n@reg('a')\n" + DOUBLES + "REG['a']()(A).sum()",
    "setattr": "[setattr(C, 'lr', 4.0) for _ in 'a']\n@dataclass\nclass S:\n    lr: float = C.lr\nS().lr * A.sum()",
    "class body": "_ = cfg.update(k=5)\nclass S:\n    if cfg['k'] == 5:\n        n = 7\nS.n * A.sum()",
    "seed": "st = np.random.seed(0)\n" + G.format("np.random.rand()"),
    "with": "with np.errstate(all='ignore'):\n    cfg['k'] = 7\n" + G.format("cfg['k']"),
    "for": "for i in range(3): cfg['k'] += 1\n" + G.format("cfg['k']"),
    "by another name": "B = A\nB *= 2\n" + G.format("A.sum()"),
    "out": "np.multiply(A, 2, out=A)\n" + G.format("A.sum()"),
    "out, bound": "z = np.multiply(A, 2, out=A)\n" + G.format("A.sum()"),
    "a dict by another name": "D = cfg\nD['k'] = 9\n" + G.format("cfg['k']"),
    "by a function": "def setk(): cfg['k'] = 3\nsetk()\n" + G.format("cfg['k']"),
    "read by a function": "def getk(): return cfg['k']\ncfg['k'] = 3\n" + G.format("getk()"),
    "by a global": "def setk():\n    global W\n    W = 3\nW = 1\nsetk()\n" + G.format("W"),
    "in an annotation": "def g(v: cfg.update(k=5)): return v * cfg['k']\ng(A).sum()",
}


class Unseen(list):
    """A list in a library that is not put back, since its class is another one."""


def in_order(text):
    """Return what the cell gives, run plainly, and run again."""
    namespace = {"__name__": "__main__"}
    exec(ORDERED, namespace)
    statements, last = text.rsplit("\n", 1)
    code = compile(statements, "plain", "exec", dont_inherit=True)
    for _ in range(2):
        exec(code, namespace)
        yield float(eval(last, namespace))


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_definitions_are_made_where_they_stand_if_that_may_count(shell, text):
    plain = [*in_order(text)]
    assert shell.run_cell(ORDERED).success
    compare = f"%%compare --mode eager --budget 0.02 -o r\n%%numpy a\n{text}\n%%numpy b\n{text}"
    assert shell.run_cell(compare).success
    assert [(one.status, float(one.outputs["Out"])) for one in shell.user_ns["r"]] == [("timed", plain[0])] * 2
    for expected in plain:
        run = shell.run_cell(f"%%torch --mode eager --budget 0.02 -o r\n{text}")
        found = shell.user_ns["r"]["torch"]
        assert run.success
        assert (found.status, float(run.result), float(found.outputs["Out"])) == ("timed", expected, expected)


@pytest.mark.parametrize(
    "definition",
    [
        "def g(v, k=heavy()): return v + k",
        "class K:\n    k = heavy()\ng = lambda v: v + K.k",
        "@worked\ndef g(v): return v",
    ],
)
def test_what_a_definition_computes_is_work_of_the_call(shell, monkeypatch, definition):
    monkeypatch.setattr(textwrap, "worked", Unseen(), raising=False)
    assert shell.run_cell(
        "import textwrap\ndef heavy():\n    textwrap.worked.append(1)\n    return 1\n"
        "def worked(f):\n    heavy()\n    return f"
    ).success
    text = f"%%compare --mode eager --budget 0.02 -o r\n%%numpy a\n{definition}\ng(1)\n%%numpy b\n1 + 1"
    assert shell.run_cell(text).success
    found = shell.user_ns["r"]["a"]
    assert found.status == "timed"
    assert len(textwrap.worked) > len(found.time.samples)
