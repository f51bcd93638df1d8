"""A section taken apart: what is hoisted, what it returns, what it does, and the lines of the whole cell."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwmagic import frameworks
from fwmagic.cells.analyse import Body, analyse
from fwmagic.errors import FwMagicError

FRAMEWORKS = [frameworks.get(name) for name in ("torch", "jax", "numpy")]


NOTEBOOK = """
import functools, math, dataclasses, enum, typing, jax, numpy as np, torch
from dataclasses import dataclass, field
from functools import partial
from torch import nn
DIM, L, cfg = 8, [1], {"k": 1}
def keep(f): return f
def heavy(v): return v
def rebind():
    global DIM
    DIM = 9
class Settings: lr = 1.0
C = Settings()
class Plain(nn.Module): pass
class Registry:
    def register(self, name): return keep
class Counted:
    def __init_subclass__(cls): L.append(cls)
M = Registry()
kept = partial(keep)
guarded = torch.no_grad()(keep)
"""
NAMESPACE: dict = {"__name__": "__main__"}
exec(NOTEBOOK, NAMESPACE)


def body(text: str, line: int = 2, setup: Body | None = None) -> Body:
    return analyse(text, "cell", line, FRAMEWORKS, namespace=NAMESPACE, setup=setup)


DEFINITIONS = [
    "def f(x): return x + 1",
    "def g(x): return f(x) + a",
    "def f(x): return x * b",
    "class A: size = c",
    "import math as m",
    "def h(x=a): return x",
    "def k(): return A.size",
]
STATEMENTS = [
    "a = 2",
    "b = 3",
    "c = a + b",
    "d = f(1)",
    "e = g(2)",
    "f = abs",
    "i = h()",
    "j = k()",
    "m = 7",
    "del a",
    "l = [f, b]",
]
FIRST = {"a": 10, "b": 20, "c": 30, "d": 0}
cells = st.lists(st.sampled_from(DEFINITIONS + STATEMENTS), min_size=1, max_size=7)


def outcome(*codes) -> dict | None:
    """Return the values that code leaves behind, functions and classes by what they give; None if it raised."""
    namespace = dict(FIRST)
    try:
        for code in codes:
            exec(code, namespace)
        found = {name: value for name, value in namespace.items() if isinstance(value, int)}
        for name, arguments in {"f": (1,), "g": (1,), "h": (), "k": ()}.items():
            if name in namespace:
                found[f"{name}()"] = namespace[name](*arguments)
        found["A.size"] = getattr(namespace.get("A"), "size", None)
        found["m"] = getattr(namespace.get("m"), "__name__", namespace.get("m"))
    except Exception:  # a cell that fails in order is not run by the parts
        return None
    return found


@given(cells)
def test_definitions_first_and_then_the_body_is_the_same_as_in_order(statements):
    text = "\n".join(statements)
    in_order = outcome(text)
    if in_order is None:
        return
    code = body(text)
    statements_code, last = code.runs()
    assert last is None
    assert outcome(code.definition_code(), statements_code) == in_order


@given(cells, st.integers(1, 50))
def test_lines_are_those_of_the_whole_cell(statements, line):
    code = body("\n".join(statements), line)
    lines = sorted(node.lineno for node in (*code.definitions, *code.statements))
    assert lines == list(range(line, line + len(statements)))
    assert line <= code.first_line <= lines[-1]


@pytest.mark.parametrize(
    ("text", "hoisted"),
    [
        ("def f(x): return x\ny = f(1)", ["f"]),
        ("import math\ny = math.pi", ["math"]),
        ("class A: pass\ny = A()", ["A"]),
        ("n = 2\ndef f(x): return x * n\ny = f(1)", []),
        ("def f(x): return x * n\nn = 2\ny = f(1)", []),
        ("n = 2\ndef f(x): return x * n\ndef g(x): return f(x)\ny = g(1)", []),
        ("n = 2\ndef f(x): return x * n\ndef g(x): return x\ny = g(1)", ["g"]),
        ("def f(x): return x * n\ny = f(1)", ["f"]),
        ("def f(x, n=k): return x\nk = 1", []),
        ("@wrap\ndef f(x): return x\nwrap = None", []),
        ("class A(base): pass\nbase = object", []),
        ("def f(): return 1\ny = f()\nf = 2", []),
        ("def f(): return 1\ny = f()\ndef f(): return 2", []),
        ("def f(): return n\ndel n", []),
        ("def f(): return n\n(n := 3)", []),
        ("import sys\nsys.path.insert(0, 'here')\nimport helper\ndef f(): return helper\nf()", ["sys"]),
        ("import os\nos.environ['A'] = '1'\nfrom helper import f\nf()", ["os"]),
        ("import sys\nimport helper\nsys.path\ndef f(): return helper\nf()", ["f", "helper", "sys"]),
        ("torch.manual_seed(0)\nclass A(torch.nn.Module): pass\nA()", ["A"]),
        ("L.append(1)\n@jax.jit\ndef f(x): return x\nf(1)", ["f"]),
        ("L.append(1)\n@partial(jax.jit, static_argnums=0)\ndef f(x): return x\nf(1)", ["f"]),
        ("o.zero_grad()\n@torch.no_grad()\ndef f(x, k=math.pi): return x\nf(1)", ["f"]),
    ],
)
def test_what_is_hoisted(text, hoisted):
    code = body(text)
    assert sorted(code.defined) == hoisted
    assert len(code.definitions) == len(hoisted)
    assert len(code.statements) + len(code.definitions) + (code.last is not None) == len(ast.parse(text).body)


@pytest.mark.parametrize(
    "text",
    [
        "def f(x: torch.Tensor, k=DIM, *, a=4 * DIM, b=(1, -1.0), c=L, act=nn.relu, g=heavy) -> 'y': return x",
        "@torch.compile(mode='default', dynamic=True)\ndef f(x): return x",
        "@functools.lru_cache(maxsize=None)\ndef f(x): return x",
        "@dataclass(frozen=True)\nclass A:\n    'doc'\n    n: int\n    m: float = 1e-3\n"
        "    l: list = field(default_factory=list)",
        "class A(nn.Module):\n    size = 3\n    half = size / 2\n    def __init__(self, d=DIM): super().__init__()\n"
        "    @property\n    def w(self): return 1\n    @w.setter\n    def w(self, v): pass\n"
        "    @staticmethod\n    def s(): pass",
        "class A(Plain):\n    def forward(self, x): return heavy(x)",
        "class A(enum.Enum):\n    X = 1\n    Y = enum.auto()",
        "class A(typing.NamedTuple):\n    a: int\n    b: typing.Optional[int] = None",
        "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x): return x",
        "class A(typing.Generic[typing.T]): pass",
        "from math import sqrt",
        "import os.path as p",
    ],
)
def test_what_only_defines_moves_past_what_may_change_anything(text):
    code = body(f"heavy(L)\ncfg['k'] = 2\n{text}\n0")
    assert len(code.definitions) == 1
    assert len(code.statements) == 2


@pytest.mark.parametrize(
    "text",
    [
        "def f(x, k=cfg['k']): return x",
        "def f(x, k=C.lr): return x",
        "def f(x, k=len(L)): return x",
        "def f(x, k=heavy(3)): return x",
        "def f(x, *, k=[heavy(3)]): return x",
        "def f(x, k=f'{L}'): return x",
        "def f(x, k=L * 2): return x",
        "def f(x, k=lambda v=heavy(1): v): return x",
        "def f(x: heavy(1)): return x",
        "def f(x, k=np.random.rand()): return x",
        "def f(x, k=jax.config.jax_enable_x64): return x",
        "def setk():\n    global DIM\n    DIM = 3\ndef f(x, k=DIM): return x",
        "@keep\ndef f(x): return x",
        "@kept\ndef f(x): return x",
        "@guarded\ndef f(x): return x",
        "@partial(keep)\ndef f(x): return x",
        "@partial(lambda f: L.append(f))\ndef f(x): return x",
        "@M.register('a')\nclass A: pass",
        "class A:\n    k = heavy(1)",
        "class A:\n    k = 1\n    heavy(k)",
        "class A:\n    k = 1\n    for i in L: pass",
        "class A:\n    class B:\n        k = C.lr",
        "class A:\n    @keep\n    def f(self): pass",
        "class A:\n    def keep(f): return f\n    @keep\n    def f(self): pass",
        "class A(Counted): pass",
        "class A(metaclass=Meta): pass",
        "@dataclass\nclass A:\n    n: int = len(cfg)",
        "@dataclass\nclass A:\n    n: int = field(default=heavy(1))",
    ],
)
@pytest.mark.parametrize("before", ["", "heavy(L)\n"])
def test_what_works_where_it_is_defined_stays_there(before, text):
    """Also as the first of all: what it does is work of the call."""
    name = "A" if "class A" in text else "f"
    assert name not in body(f"{before}{text}\n0").defined


def test_a_name_that_a_function_of_the_notebook_binds_anew_is_read_in_its_place():
    assert body("heavy(L)\ndef f(x, k=DIM): return x\n0").defined == {"f"}
    assert body("rebind()\ndef f(x, k=DIM): return x\n0").defined == set()


def test_what_a_decorator_of_a_library_offers_is_taken_unless_it_was_called_before():
    text = "@jax.custom_jvp\ndef f(x): return x\n{0}@f.defjvp\ndef g(p, t): return p, t\nf(1.0)"
    assert body(text.format("y = jax.numpy.ones(3)\n")).defined == {"f", "g"}
    assert body(text.format("y = f(1.0)\n")).defined == {"f"}
    assert body(text.format("def h(v): return f(v)\ny = h(1.0)\n")).defined == {"f", "h"}


def test_names_of_the_setup_are_known():
    setup = body("import torch.nn as tn\nclass Base(tn.Module): pass\nN = 3\ndef mark(f): return f\nmath = 3")
    text = "heavy(L)\nclass A(Base):\n    n = N + 1\nclass B(tn.Module): pass\n"
    others = "@mark\ndef f(): pass\n@math.x\ndef g(): pass\n0"
    assert body(text + others, setup=setup).defined == {"A", "B"}


def test_a_name_of_the_users_own_modules_is_read_in_its_place(tmp_path, monkeypatch):
    (tmp_path / "helper_of_the_test.py").write_text("K = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert body("heavy(L)\nfrom helper_of_the_test import K\nK").defined == set()
    assert body("from helper_of_the_test import K\nheavy(L)\nK").defined == {"K"}


@pytest.mark.parametrize(
    ("text", "live", "maybe"),
    [
        ("y = x\nz = y", ("z",), ()),
        ("y = x\nz = 2", ("y", "z"), ()),
        ("y = x\nz = y\ny = 3", ("z", "y"), ()),
        ("y = x\nprint(y)", ("y",), ()),
        ("y = x\ny.sum()", (), ()),
        ("y = x\ny", (), ()),
        ("x = x + 1", ("x",), ()),
        ("x += 1", ("x",), ()),
        ("for i in range(3):\n    x = x + i", ("x",), ("x",)),
        ("for i in range(3):\n    y = i\n    z = y", ("z",), ("z",)),
        ("if c:\n    y = 1", ("y",), ("y",)),
        ("if c:\n    y = 1\nelse:\n    y = 2", ("y",), ()),
        ("for i in range(3):\n    y = 1", ("i", "y"), ("i", "y")),
        ("for w in ws:\n    print(w)", ("w",), ("w",)),
        ("for w in ws:\n    y = w\n    w = 2", ("y", "w"), ("y", "w")),
        ("for w in ws:\n    y = 1\nw", ("y",), ("y",)),
        ("while c:\n    y = y + 1\n    if y > 3:\n        break", ("y",), ("y",)),
        ("x = x + 1\nz = x", ("x", "z"), ()),
        ("x = x + 1\nx", ("x",), ()),
        ("outs = []\nfor i in range(3):\n    outs.append(i)", ("outs",), ()),
        ("d = {}\nd['a'] = x", ("d",), ()),
        ("for i in r:\n    y = i\n    if c:\n        continue\n    z = y", ("z",), ("z",)),
        ("with c as d:\n    y = 1", ("d", "y"), ()),
        ("with c as d:\n    y = d", ("y",), ()),
        ("try:\n    y = 1\nexcept E:\n    y = 2", ("y",), ("y",)),
        ("y = x\ndel y", (), ()),
        ("y = x\nz = 1\ndel y", ("z",), ()),
        ("(a, b), c = x\nd = a", ("b", "c", "d"), ()),
        ("n = 1\ndef f(): return n\ny = f()", ("n", "y"), ()),
        ("import math\ny = 1", ("y",), ()),
    ],
)
def test_live_results(text, live, maybe):
    code = body(text)
    assert sorted(code.live) == sorted(live)
    assert code.maybe == frozenset(maybe)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("r = A()\nr.keep(x)\nn = 1", ("r",)),
        ("r = A()\nput(r, x)\nn = 1", ("r",)),
        ("y = x * 2\nr = []\nr.append(y)\nz = sum(r)", ()),
        ("r = A()\nr.v = x", ("r",)),
        ("r = []\nr.append(x)", ()),
        ("if c:\n    r = A()\n    r.keep(x)", ()),
        ("r.keep(x)", ()),
        ("r = A()\nprint(r)\nr.v", ()),
    ],
)
def test_objects_of_its_own_into_which_it_puts_some(text, kept):
    assert body(text).kept == kept


def test_results_are_in_the_order_in_which_they_are_bound():
    assert body("c = 1\na = 2\nb = 3\nc = 4").live == ("c", "a", "b")


def test_builtins_are_no_inputs_unless_the_body_binds_them():
    assert body("y = len(x)").reads == {"x"}
    assert body("y = max(x)\nmax = 2").reads == {"x", "max"}


@pytest.mark.parametrize("text", ["def f(): pass", "import os\nclass A: pass", "pass", "'text'\npass", ""])
def test_nothing_to_time(text):
    assert body(text).is_empty


@pytest.mark.parametrize("text", ["1", "x = 1", "def f(): pass\nf()", "for i in x: pass"])
def test_something_to_time(text):
    assert not body(text).is_empty


@pytest.mark.parametrize(
    ("trait", "text", "line", "said"),
    [
        ("disables_jit", "x = 1\nwith jax.disable_jit():\n    y = x", 3, "under its own `jax.disable_jit`"),
        ("clock", "x = 1\nt = time.time()", 3, "`time.time` reads the clock"),
        ("trains", "y = x\nloss.backward()", 3, "`.backward()` trains"),
        ("steps", "opt.step()", 2, "`.step()` trains"),
        ("defines", "n = 2\nclass A:\n    m = n", 3, "the body defines the class `A`"),
        ("stdin", "name = input()", 2, "`input` reads from the keyboard"),
        ("uses_namespace", "x = globals()['y']", 2, "the body uses `globals()`"),
        ("uses_namespace", "y = 1\ndef f():\n    global y\n    y = 2", 4, "the body uses `global`"),
    ],
)
def test_traits_with_their_lines(trait, text, line, said):
    place = getattr(body(text), trait)
    assert place.line == line
    assert said in place.reason


def test_calls_that_draw_random_numbers_by_their_name():
    code = body("x = np.random.rand(3)\ny = random.split(k)\nz = random.split(k)")
    assert {name: place.line for name, place in code.host_random.items()} == {"np.random.rand": 2, "random.split": 3}
    assert "`random.split` draws random numbers outside" in code.host_random["random.split"].reason


def test_a_body_without_traits():
    code = body("y = torch.tanh(x)\nfor i in range(2):\n    y = y + i")
    traits = [code.disables_jit, code.clock, code.trains, code.defines, code.stdin]
    assert traits == [None] * 5
    assert (code.effects, code.prints, code.uses_namespace, code.host_random) == ((), (), None, {})
    assert [loop.lineno for loop in code.loops] == [3]


def test_prints_by_line():
    assert body("print(1)\ndisplay(2)\nprint(x)").prints == (2, 4)


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("await f()", "await"),
        ("y = 2 * (await f())", "await"),
        ("async with f: pass", "async with"),
        ("async for i in f: pass", "async for"),
        ("[i async for i in f]", "async for"),
        ("if x:\n    with g: y = await f()", "await"),
    ],
)
def test_await_is_refused_in_one_sentence_with_its_line_and_what_to_do(statement, word):
    with pytest.raises(FwMagicError) as error:
        body(f"x = 1\n{statement}")
    line = 3 + statement.count("\n")
    assert str(error.value) == (
        f"Line {line} uses `{word}`, which a timed cell cannot: "
        "do that in a cell before this one, and use here what it gave."
    )


def test_await_in_a_function_is_fine():
    assert body("async def f(): await g()").defined == {"f"}


@pytest.mark.parametrize(
    ("text", "line"), [("x = 1\ny = = 2", 6), ("x = 1\nreturn x", 6), ("def f(:", 5), ("x = 1\nbreak", 6)]
)
def test_a_syntax_error_has_the_line_of_the_cell(text, line):
    with pytest.raises(SyntaxError) as error:
        body(text, 5)
    assert (error.value.lineno, error.value.filename) == (line, "cell")


def test_errors_have_the_line_of_the_cell():
    statements, _ = body("x = 1\n\ny = 1 / 0", 4).runs()
    with pytest.raises(ZeroDivisionError) as error:
        exec(statements, {})
    assert error.traceback[-1].lineno + 1 == 6


def test_transformers_of_the_shell_are_applied():
    def doubled(tree: ast.Module) -> ast.Module:
        return ast.Module([*tree.body, *tree.body], [])

    namespace = {"x": 1}
    statements, last = analyse("x += 1\nx", "cell", 1, FRAMEWORKS, doubled).runs()
    exec(statements, namespace)
    assert eval(last, namespace) == 3


def test_flags_of_the_notebook_hold():
    import __future__

    code = analyse("y: x = 1\ndef f(a: nothing): pass", "cell", 1, flags=__future__.annotations.compiler_flag)
    namespace = {}
    exec(code.definition_code(), namespace)
    assert namespace["f"].__annotations__ == {"a": "nothing"}


@pytest.mark.parametrize(
    ("text", "hoisted"),
    [
        ("from math import *\ny = sin(e)", 1),
        ("import os\ndef f(): pass\nfrom math import *\ne = 2", 3),
        ("e = 2\nfrom math import *\ny = e", 0),
    ],
)
def test_every_name_of_a_module_is_imported_before_what_comes_after(text, hoisted):
    assert len(body(text).definitions) == hoisted
