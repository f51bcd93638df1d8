"""Trees whose dicts have keys without an order, such as 1 and "all": as results, arguments, and in the state."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from cells import run
from scenes import notebook

import fwmagic.frameworks.jax.tree
from fwmagic.frameworks import get
from fwmagic.frameworks.compiled import CompileOptions
from fwmagic.frameworks.jax.tree import Flattener, flatten, is_tree, leaves_of

JAX = get("jax")
QUICK = "--budget 0.1"


class Key:
    """A key that cannot be compared."""

    def __lt__(self, other):
        raise RuntimeError("these have no order")


MIXED = [
    {1: 2.0, "all": 3.0},
    {"b": {None: 1.0, "x": 2.0}, "a": [{(1, 2): 3.0, 4: 4.0}]},
    [{"x": 1.0, 2: {3: 4.0, "y": 5.0}}],
    ({1: 1.0, 1j: 2.0},),
    {Key(): 1.0, Key(): 2.0},
    {True: 1.0, "t": 2.0, 3.5: [1.0]},
]


@pytest.mark.parametrize("tree", MIXED, ids=range(len(MIXED)))
def test_what_is_taken_apart_is_put_together_again(tree):
    leaves, structure = flatten(tree)
    assert jax.tree.unflatten(structure, leaves) == tree
    assert all(isinstance(leaf, float) for leaf in leaves)
    assert leaves_of(tree) == leaves
    assert not is_tree(tree)


def test_others_are_taken_apart_as_ever():
    tree = {"b": [1, 2], "a": (3, None)}
    assert flatten(tree) == jax.tree.flatten(tree)
    assert is_tree(tree)


def test_keys_tell_structures_apart():
    one, other, again = (flatten({1: 0.0, key: 1.0})[1] for key in ("a", "b", "a"))
    assert one == again
    assert one != other


def test_such_results_are_waited_for():
    outputs = {1: jnp.ones(3), "all": [jnp.ones(2)]}
    assert JAX.waiter(outputs)(outputs) is None
    assert JAX.waiter({1: 2, "all": 3}) is None


def test_an_object_whose_attributes_raise_is_not_asked_to_wait():
    class Odd:
        def __getattr__(self, name):
            raise RuntimeError

    outputs = {"a": jnp.ones(3), "b": Odd()}
    assert JAX.waiter(outputs)(outputs) is None


@pytest.mark.parametrize(
    "text",
    [
        "results = {1: x * 2, 'all': x * 3}\nx.sum()",
        "{1: x * 2, 'all': {None: x, 0: 3}}",
        "store[3] = x * 2\nx.sum()",
        "def pair(a, by): return {0: a, 'by': by}\npair(x, 2)",
        "results = {}\nfor k in (1, 'two', (3,)):\n    results[k] = x + len(results)",
        "ids = [1]\nfor _ in range(3):\n    ids.append(int(total(ids)))\njnp.array(ids)",
        "y = float(layer(x, jnp.tanh)[0]) + float(layer(x, jax.nn.relu)[0])\njnp.array(y)",
        "y = float(take({1: x, 'all': 2})[0])\njnp.array(y)",
        "y = float(give(x)['all'])\njnp.array(y)",
    ],
)
def test_a_cell_with_them_runs_under_the_magic_as_without_it(shell, text):
    setup = """
import jax, jax.numpy as jnp
x = jnp.ones(100)
store = {1: x, "all": 2}
def total(ids): return jnp.sum(jnp.array(ids) * 1.0)
def layer(h, act): return act(h * 2)
def take(d): return d[1] * d["all"]
def give(v): return {1: v, "all": v.sum()}
"""
    run(shell, setup)
    expected = run(shell, text)
    run(shell, setup)
    found = run(shell, f"%%jax {QUICK} -o r\n{text}")
    assert str(found) == str(expected)
    variant = shell.user_ns["r"]["jax"]
    assert variant.status == "timed", variant.failure
    assert variant.agreement is None or variant.agreement.status == "agrees"


def test_sections_that_return_them_are_compared(shell):
    run(shell, "import numpy as np, jax.numpy as jnp\nx = jnp.ones(9)")
    jax_text = "{1: x * 2, 'all': x * 3}"
    numpy_text = "{1: np.ones(9, np.float32) * 2, 'all': np.ones(9, np.float32) * 3}"
    run(shell, f"%%compare {QUICK} -o r\n%%jax\n{jax_text}\n%%numpy\n{numpy_text}")
    assert [variant.agreement.status for variant in shell.user_ns["r"]] == ["agrees", "agrees"]


def test_trees_without_an_order_do_not_slow_down_the_calls_of_others(monkeypatch):
    asked = 0

    def has_order(tree):
        nonlocal asked
        asked += 1
        return original(tree)

    original = fwmagic.frameworks.jax.tree._has_order
    monkeypatch.setattr(fwmagic.frameworks.jax.tree, "_has_order", has_order)
    taken = Flattener()
    for _ in range(2):
        assert taken({"b": 1, "a": 2}) == jax.tree.flatten({"b": 1, "a": 2})
        before = asked
    for _ in range(9):
        taken({"b": 1, "a": 2})
    assert asked == before
    for _ in range(2):  # another structure
        leaves, structure = taken({1: 2.0, "all": 3.0})
        assert jax.tree.unflatten(structure, leaves) == {1: 2.0, "all": 3.0}


def test_a_function_is_compiled_once_for_each_structure_and_static_argument():
    book = notebook("jax", "def layer(d, act): return act(d[1] * d['k'])")
    function = JAX.compile(book.namespace["layer"], CompileOptions())
    for _ in range(2):
        for act in (jnp.tanh, jax.nn.relu):
            assert jnp.allclose(function({1: jnp.ones(3), "k": 2.0}, act), act(jnp.full(3, 2.0)))
    before = JAX.compile_events()
    function({1: jnp.zeros(3), "k": 3.0}, jnp.tanh)
    assert JAX.compile_events() == before
    assert function.failure is None


def test_trees_whose_keys_have_no_order_leave_the_stack_as_deep_as_it_was():
    """Where jaxlib fails to sort keys, it does not give back its depth: after hundreds, nothing can be called."""

    def descend(levels: int) -> int:
        return 0 if levels == 0 else 1 + descend(levels - 1)

    mixed = [[[{1: 1.0, "all": [2.0, {"b": 3.0, 2: 4.0}]}]]]
    for _ in range(400):
        leaves, structure = flatten(mixed)
        assert not is_tree(mixed)
    assert jax.tree.unflatten(structure, leaves) == mixed
    assert descend(500) == 500
