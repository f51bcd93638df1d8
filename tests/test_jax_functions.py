"""A notebook function compiled as it stands."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import notebook

from fwmagic.errors import CannotCompile
from fwmagic.frameworks import get
from fwmagic.frameworks.compiled import CompileOptions

JAX = get("jax")
X = jnp.arange(4.0)

SETUP = """
W = jnp.linspace(0.0, 1.0, 4 * 64).reshape(4, 64)
params = {"b": jnp.ones(64), "layers": [np.ones(64, np.float32)]}
names = ["a", "b"]
k = 3
traces = []
def dense(x):
    traces.append(1)
    return x @ W
def nested(x): return dense(x) + params["b"] + params["layers"][0]
def scaled(x, by=2, *, kind="mul"): return {"y": x * by if kind == "mul" else x + by, "kind": kind, "n": None}
def branches(x, flag): return x * 2 if flag else x
def counts(n): return jnp.zeros(n)
def on_values(x): return x if x.sum() > 0 else -x
def broken(x): return x + jnp.ones(7)
def uses_k(x): return x * k
"""


@pytest.fixture
def book():
    return notebook("jax", SETUP)


def jitted(book, name):
    return JAX.compile(book.namespace[name], CompileOptions())


@pytest.mark.parametrize(
    ("name", "arguments", "keywords"),
    [
        ("dense", (X,), {}),
        ("nested", (X,), {}),
        ("scaled", (X,), {}),
        ("scaled", (X, 5), {"kind": "add"}),
        ("scaled", ([X][0],), {"by": X}),
        ("branches", (X, True), {}),
        ("counts", (3,), {}),
        ("on_values", (X,), {}),
        ("uses_k", (np.ones(2, np.float32),), {}),
    ],
)
def test_it_computes_what_the_function_does(book, name, arguments, keywords):
    expected = book.namespace[name](*arguments, **keywords)
    found = jitted(book, name)(*arguments, **keywords)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one == other if isinstance(other, str) else np.allclose(one, other)


def test_global_arrays_are_arguments(book, monkeypatch):
    """What `jax.jit` folds as a constant is an argument here, in the helpers of the function, too."""
    sizes, jit = [], jax.jit

    def spied(function):
        compiled = jit(function)

        def run(*arguments):
            sizes.append(compiled.lower(*arguments).compile().memory_analysis().argument_size_in_bytes)
            return compiled(*arguments)

        run.trace, run.__name__ = compiled.trace, function.__name__
        return run

    naive = jit(book.namespace["nested"]).lower(X).compile().memory_analysis()
    monkeypatch.setattr(jax, "jit", spied)
    jitted(book, "nested")(X)
    arrays = [X, book.namespace["W"], *jax.tree.leaves(book.namespace["params"])]
    assert sizes == [sum(array.nbytes for array in arrays)]
    assert naive.argument_size_in_bytes == X.nbytes


def test_another_value_of_a_global_array_counts_and_compiles_nothing(book):
    function = jitted(book, "dense")
    first = function(X)
    book.namespace["W"] = book.namespace["W"] * 2
    before = JAX.compile_events()
    second = function(X)
    assert JAX.compile_events() == before
    assert np.allclose(second, first * 2)


def test_the_notebook_keeps_its_arrays(book):
    weight = book.namespace["W"]
    jitted(book, "nested")(X)
    assert book.namespace["W"] is weight
    assert isinstance(book.namespace["params"]["layers"][0], np.ndarray)
    with pytest.raises(TypeError):
        jax.jit(lambda x: JAX.compile(book.namespace["broken"], CompileOptions())(x))(X)
    assert not any(isinstance(value, jax.core.Tracer) for value in book.namespace.values())


def test_it_is_traced_once_for_each_structure(book):
    function, traces = jitted(book, "dense"), book.namespace["traces"]
    for x in (X, X + 1, X[None], X[None] * 2):
        function(x)
    assert len(traces) == 2


def test_what_is_not_an_array_is_static_by_value(book):
    function = jitted(book, "scaled")
    assert function(X, kind="add")["kind"] == "add"
    assert function(X, kind="mul")["kind"] == "mul"
    assert function(X, kind="add")["y"].tolist() == (X + 2).tolist()


def test_numbers_are_traced_at_first_and_static_if_that_fails(book):
    function = jitted(book, "scaled")
    function(X, 2)
    before = JAX.compile_events()
    assert function(X, 3)["y"].tolist() == (X * 3).tolist()
    assert JAX.compile_events() == before
    static = jitted(book, "counts")
    assert (static(3).shape, static(4).shape, static.failure) == ((3,), (4,), None)


def test_one_that_cannot_be_traced_runs_as_it_is_and_says_why(book):
    function = jitted(book, "on_values")
    assert function(-X).tolist() == X.tolist()
    assert isinstance(function.failure, CannotCompile)
    assert function.failure.reason.startswith("TracerBoolConversionError")
    assert function.failure.line == book.namespace["on_values"].__code__.co_firstlineno
    assert function(X).tolist() == X.tolist()


def test_the_users_own_error_is_raised(book):
    with pytest.raises(TypeError, match="add got incompatible shapes"):
        jitted(book, "broken")(X)


def test_flax_nnx_objects_keep_their_state(book):
    book.run(
        """
        import flax.nnx as nnx
        class Counter(nnx.Module):
            def __init__(self): self.n = nnx.Variable(jnp.zeros(()))
        counter = Counter()
        def count(c, x):
            c.n[...] += 1
            return x * 2
        """
    )
    function, counter = jitted(book, "count"), book.namespace["counter"]
    function(counter, X)
    function(counter, X)
    assert counter.n[...] == 2
    assert "flax.nnx" in function.failure.reason


def test_it_bears_the_functions_name(book):
    assert jitted(book, "dense").__name__ == "dense"
    with JAX.watch("cell") as log:
        jitted(book, "dense")(X)
    assert "dense" in log.compiled


def test_a_global_that_becomes_an_array_is_no_constant_to_later_calls(book):
    function = jitted(book, "uses_k")
    for k in (3, 3, 3):
        assert function(X).tolist() == (X * k).tolist()
    book.run("k = jnp.float32(5)")
    assert function(X).tolist() == (X * 5).tolist()
    book.run("k = jnp.float32(7)")
    assert function(X).tolist() == (X * 7).tolist()
