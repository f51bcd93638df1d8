"""A body as a function with locals and with globals of its own."""

from __future__ import annotations

import pytest
import torch
from scenes import call, notebook

from fwmagic.cells.function import LAST, make_function, why_no_copy, why_no_function, with_own_globals
from fwmagic.cells.names import names_of_code

SETUP = """
import math
n, xs, k = 2, [1, 2, 3], 5
class Point:
    def scaled(self, by): return by * k
point = Point()
def double(x): return 2 * x
def uses_k(x): return x * k
def twice(x): return uses_k(double(x))
def sets_k():
    global k
    k = 7
"""


@pytest.fixture
def book():
    return notebook("numpy", SETUP)


def function(book, text):
    return make_function(book.body(text), book.namespace)


@pytest.mark.parametrize(
    ("text", "parameters", "returned"),
    [
        ("y = n + k\ny * 2", ("k", "n"), (LAST,)),
        ("y = n + k", ("k", "n"), ("y",)),
        ("n = n + 1", ("n",), ("n",)),
        ("y = double(n)", ("n",), ("y",)),
        ("y = math.sqrt(n)", ("n",), ("y",)),
        ("p = Point()", (), ("p",)),
        ("y = point.scaled(n)", ("n", "point"), ("y",)),
        ("y = n\nz = y", ("n",), ("z",)),
        ("y = double\ndouble = n", ("double", "n"), ("y", "double")),
        ("for i in xs:\n    y = i", ("xs",), ("y",)),
        ("if n > 5:\n    y = 1\nz = 2", ("n",), ("y", "z")),
        ("y = 1\ndel k", ("k",), ("y",)),
        ("1 + 1", (), (LAST,)),
    ],
)
def test_parameters_and_results(book, text, parameters, returned):
    made = function(book, text)
    assert (made.parameters, made.returned) == (parameters, returned)
    assert made.call.__code__.co_varnames[: len(parameters)] == parameters
    results = made.call(*made.arguments(book.namespace))
    assert len(results) == len(returned)


def test_it_computes_what_the_body_does_and_binds_nothing(book):
    before = dict(book.namespace)
    made = function(book, "y = twice(n)\nn = y + 1\nfor i in xs:\n    n = n + i\n(n, y)")
    assert made.call(*made.arguments(book.namespace)) == ((27, 20), 27)
    assert book.namespace == before


def test_a_result_that_was_not_bound_is_what_it_was_before(book):
    made = function(book, "if n > 5:\n    y = 1")
    assert made.call(*made.arguments(book.namespace)) == (None,)
    book.namespace["y"] = 3
    made = function(book, "if n > 5:\n    y = 1")
    assert made.call(*made.arguments(book.namespace)) == (3,)


def test_the_source_is_the_function(book):
    made = function(book, "y = n + k\ny * 2")
    namespace = {}
    exec(made.source, namespace)
    assert namespace["cell"](5, 2) == made.call(5, 2) == (14,)


def test_lines_are_those_of_the_cell(book):
    made = function(book, "y = 1\n\nz = y / (n - 2)")
    with pytest.raises(ZeroDivisionError) as error:
        made.call(*made.arguments(book.namespace))
    assert error.traceback[-1].lineno + 1 == 4
    assert made.call.__code__.co_filename == error.traceback[-1].frame.code.raw.co_filename


class TestGlobals:
    def test_of_one_that_is_not_compiled_they_are_the_notebooks(self, book):
        assert function(book, "y = twice(n)").call.__globals__ is book.namespace

    def test_they_are_not_the_notebooks(self, book):
        made = make_function(book.body("y = twice(n)"), book.namespace, compiled=True)
        own = made.call.__globals__
        assert own is not book.namespace
        assert {"twice", "double", "uses_k", "k"} <= own.keys()
        assert "xs" not in own
        own["left_by_a_compiler"] = 1
        assert "left_by_a_compiler" not in book.namespace

    def test_the_notebooks_functions_in_them_are_copies_with_code_of_their_own(self, book):
        own = make_function(book.body("y = twice(n)"), book.namespace, compiled=True).call.__globals__
        for name in ("twice", "double", "uses_k"):
            assert own[name].__globals__ is own
            assert own[name].__code__ is not book.namespace[name].__code__
        assert book.namespace["twice"].__globals__ is book.namespace

    def test_a_copy_is_like_the_original(self, book):
        book.run("def f(a: int, b=2, *, c=3):\n    return a, b, c\nf.note, f.__doc__ = 'kept', 'Doc.'")
        copy = with_own_globals(book.namespace["f"], book.namespace)
        assert copy(1, c=5) == (1, 2, 5)
        assert (copy.__name__, copy.__qualname__, copy.__doc__, copy.note) == ("f", "f", "Doc.", "kept")
        assert copy.__annotations__ == {"a": int}

    def test_a_copy_shares_what_the_original_closes_over(self, book):
        book.run(
            """
            def outer():
                box = []
                def inner(x):
                    box.append(x)
                    return box
                return inner
            f = outer()
            """
        )
        assert with_own_globals(book.namespace["f"], book.namespace)(1) is book.namespace["f"](2)

    def test_a_method_stays_bound_to_its_object(self, book):
        method = with_own_globals(book.namespace["point"].scaled, book.namespace)
        assert method.__self__ is book.namespace["point"]
        assert method(3) == 15
        assert method.__func__.__globals__ is not book.namespace

    def test_what_is_not_the_notebooks_is_left_alone(self, book):
        for other in (with_own_globals, len, torch.nn.functional.relu, torch.nn.Linear(1, 1).forward):
            assert with_own_globals(other, book.namespace) is other

    def test_of_a_recursive_function(self, book):
        book.run("def down(x): return x if x < 1 else down(x - 1)")
        assert with_own_globals(book.namespace["down"], book.namespace)(5) == 0


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("k = 3\ny = uses_k(n)", 3, "`uses_k` reads `k` from the namespace, and the body assigns it"),
        ("k = 3\ny = twice(n)", None, "`uses_k` reads `k` from the namespace, and the body assigns it"),
        ("y = point.scaled(1)\nk = 3", None, "`Point.scaled` reads `k` from the namespace, and the body assigns it"),
        ("sets_k()\ny = 1", 2, "`sets_k` assigns the global `k`"),
        ("sets_k()\ny = k", 2, "`sets_k` assigns the global `k`"),
        ("y = 1\nz = globals()['n']", 3, "the body uses `globals()`"),
        ("def f():\n    global n\n    n = 2\nf()\ny = n", 5, "`f` assigns the global `n`"),
        ("k = 3\ndef f():\n    global k\n    k = 2\nf()", 4, "the body uses `global`"),
        ("y = eval('n')", 2, "the body uses `eval()`"),
        ("y = list(map(eval, 'n'))", 2, "the body uses `eval`"),
        ("import sys\ny = sys._getframe().f_locals", 3, "the body uses `f_locals`"),
        ("import sys\ny = sys.modules['__main__'].n", 3, "the body uses `__main__`"),
        ("e = n\nfrom math import *\ny = e", 3, "the body uses `import *`"),
    ],
)
def test_what_stays_in_the_namespace(book, text, line, why):
    body = book.body(text)
    exec(body.definition_code(), book.namespace)
    place = why_no_function(body, book.namespace)
    assert (place.line, place.reason) == (line, why)


@pytest.mark.parametrize("text", ["y = uses_k(n)", "y = twice(n)", "n = n + 1", "y = [i for i in xs]"])
def test_what_can_be_a_function(book, text):
    assert why_no_function(book.body(text), book.namespace) is None


@pytest.mark.parametrize(
    ("text", "last"), [("k = 3\nuses_k(n)", 6), ("sets_k()\nk * 2", 14), ("globals()['n'] * 3", 6)]
)
def test_in_the_namespace_it_computes_what_the_notebook_would(book, text, last):
    before = dict(book.namespace)
    assert call(book.plain(text))[LAST] == last
    assert book.namespace == before


def test_what_a_copy_reads_is_what_the_original_reads(book):
    original = book.namespace["twice"]
    assert names_of_code(with_own_globals(original, book.namespace).__code__) == names_of_code(original.__code__)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("try:\n    made\nexcept NameError:\n    made = double(n)\nmade * 2", 8),
        ("try:\n    count += 1\nexcept NameError:\n    count = 1\ncount", 1),
        ("try:\n    del gone\n    how = 'bound'\nexcept NameError:\n    how = 'unbound'\nhow", "unbound"),
        ("if n > 5:\n    k2 = 1\ntry:\n    k2\nexcept NameError:\n    k2 = n\nk2", 2),
        ("for i in []:\n    pass\ntry:\n    i\nexcept NameError:\n    i = 7\ni", 7),
    ],
)
def test_a_name_is_unbound_until_it_is_bound(book, text, last):
    for _ in range(2):
        assert book.plainly(text).results[LAST] == last


def test_reading_a_name_that_is_never_bound_raises_what_a_cell_raises(book):
    with pytest.raises(NameError) as error:
        book.plainly("if n > 5:\n    late = 1\nlate * 2")
    assert (type(error.value), str(error.value)) == (NameError, "name 'late' is not defined")


HOLDS = """
import sys
def helper(): return 3
def by_name(n): return globals()[n]()
def by_eval(): return eval('helper()')
def by_exec():
    exec('made_5 = helper()', globals())
    return made_5
def in_frame(text):
    frame = sys._getframe(1)
    return eval(text, frame.f_globals, frame.f_locals)
def by_module(n): return getattr(sys.modules[__name__], n)
def has(n): return n in globals()
def typed(x: 'int') -> int: return x
alias = typed
table = {typed: 7}
class Layer:
    def __init__(self, call): self.call = call
    def is_typed(self): return self.call is typed
layer = Layer(typed)
def reads_k(): return k
holder = Layer(reads_k)
"""


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("by_name('helper')", 3),
        ("by_eval()", 3),
        ("by_exec()", 3),
        ("m = 4\nin_frame('m + n + helper()')", 9),
        ("m = 4\nglobals_of = globals\nglobals_of()['m']", 4),
        ("m = 4\nhas('m'), has('helper'), has('absent')", (True, True, False)),
        (
            "typed is alias, table[typed], typed in {alias}, layer.is_typed(), layer.call is typed",
            (True, 7, *[True] * 3),
        ),
        ("typed.__annotations__", {"x": "int", "return": int}),
        ("k = 9\nholder.call()", 9),
    ],
)
def test_functions_of_the_notebook_are_the_notebooks_own(book, text, last):
    book.run(HOLDS)
    before = dict(book.namespace)
    assert book.plainly(text).results[LAST] == last
    assert book.namespace == before


@pytest.mark.parametrize("call", ["by_name('helper')", "by_eval()", "in_frame('n')", "by_module('helper')"])
def test_what_may_look_up_any_name_stays_in_the_namespace(book, call):
    book.run(HOLDS)
    name = call.partition("(")[0]
    place = why_no_function(book.body(f"m = 4\n{call}"), book.namespace)
    assert place.line == 3
    assert place.reason.startswith(f"`{name}` may look up any name, by `")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("typed(n)", ""),
        ("table[typed]", "`typed` is used as a value, and a compiled copy of it would be another object"),
        ("layer.is_typed()", ""),
        ("(lambda f: f(n))(helper)", ""),
    ],
)
def test_what_could_be_told_from_a_copy(book, text, why):
    book.run(HOLDS)
    scene = book.scene(text)
    code = function(book, text).call.__code__
    assert why_no_copy(code, book.namespace, scene.snapshot) == why
