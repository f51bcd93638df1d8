"""Names that code reads and binds: random programs really run, and the functions of a notebook that can be called."""

from __future__ import annotations

import ast
import functools
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snapshots import notebook

from fwmagic.cells.names import exposed_names, names_of_code, names_of_statements, notebook_functions

NAMES = "abcde"
name = st.sampled_from(NAMES)


def indented(lines: list[str]) -> str:
    return textwrap.indent("\n".join(lines), "    ")


def blocks(inner):
    block = st.lists(inner, min_size=1, max_size=3).map(indented)
    deep = block.map(lambda text: textwrap.indent(text, "    "))
    truth = st.sampled_from(["True", "False"]) | name
    return st.one_of(
        st.builds("if {0}:\n{1}\nelse:\n{2}".format, truth, block, block),
        st.builds("if {0}:\n{1}".format, truth, block),
        st.builds("for {0} in {1}:\n{2}".format, name, st.sampled_from(["()", "(0, 1)", "a", "(c, d)"]), block),
        st.builds("for {0} in (b, 1):\n{1}\n    if {0}: break\n{2}".format, name, block, block),
        st.builds("while {0}:\n{1}\n    break\nelse:\n{2}".format, truth, block, block),
        st.builds("with manager({0}) as {1}:\n{2}".format, name, name, block),
        st.builds("try:\n{0}\nfinally:\n{1}".format, block, block),
        st.builds("try:\n{0}\nexcept Exception as {3}:\n{1}\nelse:\n{2}".format, block, block, block, name),
        st.builds("try:\n{0}\n    1 / 0\nexcept ZeroDivisionError:\n{1}".format, block, block),
        st.builds("match {0}:\n    case 0:\n{1}\n    case {2}:\n{3}".format, name, deep, name, deep),
    )


simple = st.one_of(
    st.builds("{0} = 1".format, name),
    st.builds("{0} = {1}".format, name, name),
    st.builds("{0}, {1} = {2}, {0}".format, name, name, name),
    st.builds("{0} += {1}".format, name, name),
    st.builds("{0}".format, name),
    st.builds("del {0}".format, name),
    st.builds("{0} = [i for i in ({1}, 2)]".format, name, name),
    st.builds("assert {0} is not {1}".format, name, name),
    st.builds("import math as {0}".format, name),
)
programs = st.lists(st.recursive(simple, blocks, max_leaves=6), min_size=1, max_size=5).map("\n".join)


class Manager:
    """A context manager that does nothing."""

    def __init__(self, value):
        self.value = value

    def __enter__(self):
        return self.value

    def __exit__(self, *_):
        return False


class Traced(dict):
    """A namespace in which every name is bound, and that notes those that are used as they were before."""

    def __init__(self):
        super().__init__(dict.fromkeys(NAMES, 1), manager=Manager)
        self.bound: set[str] = set()
        self.needed: set[str] = set()

    def __getitem__(self, key):
        if key in self and key not in self.bound:
            self.needed.add(key)
        return super().__getitem__(key)

    def __setitem__(self, key, value):
        self.bound.add(key)
        super().__setitem__(key, value)

    def __delitem__(self, key):
        if key in self and key not in self.bound:
            self.needed.add(key)
        self.bound.discard(key)
        super().__delitem__(key)


@given(programs)
def test_what_a_program_needs_and_binds_is_foreseen(source):
    tree = ast.parse(source)
    reads, surely = exposed_names(tree.body)
    every = names_of_statements(tree.body)
    namespace = Traced()
    try:
        exec(compile(tree, "program", "exec"), {}, namespace)
    except Exception:  # the program ends here: what it needed until then was needed all the same
        pass
    else:
        assert surely - every.deletes <= namespace.bound
    builtin = {"Exception", "ZeroDivisionError"}
    assert namespace.needed - builtin <= reads
    assert namespace.needed - builtin <= every.reads | every.deletes
    assert namespace.bound <= every.writes


@pytest.mark.parametrize(
    ("source", "reads", "surely"),
    [
        ("a = b\nb = a", {"b"}, {"a", "b"}),
        ("a += 1", {"a"}, {"a"}),
        ("if c:\n    a = 1\nelse:\n    a = b", {"b", "c"}, {"a"}),
        ("if c:\n    a = 1\nb = a", {"a", "c"}, {"b"}),
        ("for a in b:\n    c = a\nd = c", {"b", "c"}, {"d"}),
        ("with b as a:\n    c = a", {"b"}, {"a", "c"}),
        ("try:\n    a = 1\nexcept b:\n    pass", {"b"}, set()),
        ("try:\n    a = 1\nfinally:\n    b = 1", set(), {"a", "b"}),
        ("def f(x):\n    return x + a", {"a"}, {"f"}),
        ("class A(b):\n    c = d", {"b", "d"}, {"A"}),
        ("f = lambda x: x + a", {"a"}, {"f"}),
        ("[x + a for x in b]", {"a", "b"}, set()),
        ("a = 1\ndel a\nb = a", {"a"}, {"b"}),
        ("del a", {"a"}, set()),
        ("a.b = c", {"a", "c"}, set()),
        ("a[b] += 1", {"a", "b"}, set()),
        ("for a[b] in c:\n    pass", {"a", "b", "c"}, set()),
        ("with suppress(b):\n    a = b()\nc = a", {"a", "b", "suppress"}, {"c"}),
    ],
)
def test_every_syntax(source, reads, surely):
    assert exposed_names(ast.parse(source).body) == (reads, surely)


def test_the_names_of_a_class_body_are_its_own():
    found = names_of_statements(ast.parse("class A:\n    x = y\n    def f(self):\n        return z").body)
    assert (found.reads, found.writes) == ({"y", "z"}, {"A"})


def test_a_type_alias_in_a_class_body_reads_what_it_stands_for():
    alias = "type X = a" if sys.version_info >= (3, 12) else "X: TypeAlias = a"
    names = names_of_code(compile(f"class C:\n    {alias}", "cell", "exec"))
    assert "a" in names.reads
    assert names.writes == {"C"}


def test_loops_that_run_bind_what_is_read_after_them():
    body = ast.parse("for i in r:\n    y = i\nwhile c:\n    z = w\nf(i, y, z)").body
    assert exposed_names(body)[0] == {"r", "c", "w", "f", "i", "y", "z"}
    assert exposed_names(body, loops_run=True)[0] == {"r", "c", "w", "f"}


FUNCTIONS = """
import functools
def helper(x): return x
def f(x): return helper(x)
class A:
    def method(self): return f(1)
    @staticmethod
    def static(): return helper(1)
    @property
    def prop(self): return helper(2)
def wraps(g):
    @functools.wraps(g)
    def inner(*a): return g(*a)
    return inner
@wraps
def decorated(x): return f(x)
part = functools.partial(f, 1)
obj = A()
bound = obj.method
table = {"f": [f]}
def unrelated(): pass
"""


@pytest.mark.parametrize(
    ("start", "found"),
    [
        ("helper", "helper"),
        ("f", "f helper"),
        ("A", "A.method A.static A.prop f helper"),
        ("obj", "A.method A.static A.prop f helper"),
        ("bound", "A.method A.static A.prop f helper"),
        ("part", "f helper"),
        ("table", "f helper"),
        ("decorated", "decorated decorated f helper"),  # what the decorator made bears the name of what it wraps
        ("functools", ""),
        ("absent", ""),
    ],
)
def test_functions_of_the_notebook_that_a_name_leads_to(start, found):
    namespace = notebook(FUNCTIONS, other=functools.reduce, len=len)
    functions = notebook_functions(namespace, [start])
    assert sorted(f.__qualname__ for f in functions) == sorted(found.split())


@pytest.mark.parametrize(
    "items", ["map(str, range(20_000))", "((str(i), i) for i in range(3_000))", "map(Decimal, range(20_000))"]
)
def test_a_large_list_is_looked_through_without_asking_each_item(items):
    namespace = notebook(f"from decimal import Decimal\nvalues = list({items})\ndef f(): return len(values)")
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        found = notebook_functions(namespace, ["f"])
    finally:
        sys.setprofile(None)
    assert found == [namespace["f"]]
    assert calls < 60_000
