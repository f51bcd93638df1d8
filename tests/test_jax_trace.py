"""Ahead-of-time compilation of JAX cells: arguments, captured arrays, what is logged, and why tracing fails."""

from __future__ import annotations

import contextlib
import gc
import weakref

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes import call, notebook

from fwmagic.cells.function import LAST
from fwmagic.cells.program import traced_program
from fwmagic.errors import CannotCompile
from fwmagic.frameworks import get
from fwmagic.frameworks.jax import compiler

JAX = get("jax")
A = jnp.arange(12.0).reshape(3, 4)


def argument_bytes(done):
    return done.call.lower(*done.arguments).compile().memory_analysis().argument_size_in_bytes


def held(variable):
    """Return the array of an nnx.Variable itself; before flax 0.12 it went by another name."""
    return variable.get_value() if hasattr(nnx.Variable, "get_value") else variable.value


def run(done):
    return done.rebuild(done.call(*done.arguments))


def named(function):
    function.__name__ = "cell"
    return function


class TestTrace:
    def test_any_tree_comes_back_as_it_was_returned(self):
        done = JAX.trace(named(lambda a: {"sum": a.sum(), "rest": [a, ("text", None, len, 3)]}), (A,))
        found = run(done)
        assert (found["sum"], found["rest"][1]) == (66, ("text", None, len, 3))
        assert found["rest"][0].tolist() == A.tolist()

    def test_arrays_are_arguments_and_never_constants(self):
        done = JAX.trace(named(lambda a: jnp.sort(a).sum()), (A,))
        assert argument_bytes(done) == A.nbytes
        assert (done.lifted, done.withheld) == (0, "")

    def test_only_those_that_are_computed_with(self):
        unused = jnp.ones((100, 100))
        done = JAX.trace(named(lambda a, b, c: (a * 2, c)), (A, unused, A + 1))
        assert done.used == (0, 2)
        assert argument_bytes(done) == 2 * A.nbytes
        assert [value.tolist() for value in run(done)] == [(A * 2).tolist(), (A + 1).tolist()]

    def test_an_array_under_two_names_is_written_once(self):
        def cell(a):
            b = a * 2
            return {"b": b, "again": [b, a.sum()]}

        done = JAX.trace(cell, (A,))
        assert done.static.output == pytest.approx(A.nbytes + 4, abs=24)  # a tuple of outputs has pointers, too
        found = run(done)
        assert found["again"][0] is found["b"]
        assert found["b"].tolist() == (A * 2).tolist()
        assert found["again"][1] == A.sum()

    def test_calling_it_compiles_nothing_more(self):
        for function in (named(lambda a, b: a + 1), named(lambda a, b: a + b)):
            done = JAX.trace(function, (A, A))
            before = JAX.compile_events()
            run(done)
            run(done)
            assert JAX.compile_events() == before

    def test_it_keeps_nothing_of_the_cell_alive(self):
        class Held:
            pass

        held = Held()
        alive = weakref.ref(held)

        def cell(a, held=held):
            return a + 1

        done = JAX.trace(cell, (A,))
        del cell, held
        gc.collect()
        assert alive() is None
        assert run(done).tolist() == (A + 1).tolist()

    def test_a_result_that_hides_arrays(self):
        class Box:
            def __init__(self, value):
                self.value = value

        with pytest.raises(CannotCompile, match="a result of type Box holds arrays that JAX cannot take apart"):
            JAX.trace(named(lambda a: Box(a * 2)), (A,))


class TestCaptured:
    """A function that was jitted before may hold arrays of the user."""

    def check(self, function, lifted, withheld="", captured=None):
        done = JAX.trace(named(function), (A,))
        assert done.lifted == lifted
        assert done.withheld == withheld
        np.testing.assert_allclose(run(done), function(A), rtol=1e-6)
        if captured is not None:
            assert argument_bytes(done) == A.nbytes + captured.nbytes
        return done

    @pytest.fixture
    def weight(self):
        return jnp.linspace(0.0, 1.0, 4 * 64).reshape(4, 64)

    def test_by_a_jitted_function(self, weight):
        inner = jax.jit(lambda x: x @ weight)
        inner(A)
        self.check(lambda a: inner(a) + 1, 1, captured=weight)

    def test_by_the_traced_function_itself(self, weight):
        self.check(lambda a: a @ weight, 1, captured=weight)

    def test_in_two_jits(self, weight):
        inner = jax.jit(lambda x: x @ weight)
        outer = jax.jit(lambda x: jnp.tanh(inner(x)) * 2)
        self.check(lambda a: outer(a).sum(), 1, captured=weight)

    def test_one_that_is_captured_twice_is_one(self, weight):
        one, two = jax.jit(lambda x: x @ weight), jax.jit(lambda x: (x * 2) @ weight)
        self.check(lambda a: one(a) + two(a), 1, captured=weight)

    def test_two(self, weight):
        other = weight + 1
        inner = jax.jit(lambda x: x @ weight + x @ other)
        self.check(lambda a: inner(a), 2)

    def test_gradients_through_it(self, weight):
        inner = jax.jit(lambda x: jnp.tanh(x @ weight).sum())
        done = JAX.trace(named(lambda a: jax.grad(inner)(a)), (A,))
        np.testing.assert_allclose(run(done), jax.grad(inner)(A), rtol=1e-6)
        assert done.lifted == 1

    def test_as_an_operand_of_a_loop(self, weight):
        square = weight[:, :4]
        looped = jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, c: jnp.tanh(c @ square), x))
        self.check(lambda a: looped(a), 1, captured=square)

    @pytest.mark.parametrize(
        "looped",
        [
            lambda f, x: jax.lax.scan(lambda c, _: (f(c), None), x, None, length=3)[0],
            lambda f, x: jax.lax.fori_loop(0, 3, lambda _, c: f(c), x),
            lambda f, x: jax.lax.cond(x.sum() > 0, f, lambda y: y, x),
        ],
        ids=["scan", "fori", "cond"],
    )
    def test_by_a_jitted_function_inside_of_a_loop_or_branch_the_verdict_is_withheld(self, weight, looped):
        square = weight[:, :4]
        inner = jax.jit(lambda x: jnp.tanh(x @ square))
        outer = jax.jit(lambda x: looped(inner, x))
        self.check(lambda a: outer(a), 0, "1 array(s) captured inside of a loop or a branch are constants to XLA")

    def test_a_number_is_no_array(self):
        two = jnp.float32(2)
        inner = jax.jit(lambda x: x * two)
        self.check(lambda a: inner(a), 0)


class TestInTheNamespace:
    """The body is traced while arrays are swapped for tracers wherever the cell can reach them."""

    SETUP = """
    import dataclasses
    import flax.nnx as nnx
    x = jnp.ones(3)
    tree = {"a": [x * 2, np.ones(3)], "n": 2}
    hist = []
    class Box: pass
    box = Box()
    box.w = x * 3
    def helper(): return x + box.w
    class Counter(nnx.Module):
        def __init__(self):
            self.count = nnx.Variable(jnp.zeros(()))
        def __call__(self, y):
            self.count[...] += 1
            return y * self.count[...]
    counter = Counter()
    """

    @pytest.fixture
    def book(self):
        return notebook("jax", self.SETUP)

    def tracers(self, book):
        seen, pending, found = set(), list(book.namespace.values()), []
        while pending:
            value = pending.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, jax.core.Tracer):
                found.append(value)
            elif isinstance(value, dict):
                pending += value.values()
            elif isinstance(value, list | tuple):
                pending += value
            elif type(value).__module__ == "__main__" and hasattr(value, "__dict__"):
                pending += vars(value).values()
            elif isinstance(value, nnx.Variable):
                pending.append(held(value))
        return found

    @pytest.mark.parametrize(
        "text",
        [
            "tree['a'][0] + tree['a'][1] * tree['n']",
            "helper() * 2",
            "box.w = box.w + x\nbox.v = x\nbox.w",
            "hist.append(x.sum())\nhist",
            "tree['new'] = x * 2\ntree['a'].append(x)\nx",
            "counter(x)",
            "global_name = x * 5\nglobal_name",
        ],
    )
    def test_right_values_and_no_tracer_anywhere(self, book, text):
        expected = book.plainly(text)
        book.namespace["counter"].count[...] = jnp.zeros(())
        book.namespace.update(notebook("jax", self.SETUP).namespace)
        ready = book.ready(text)
        assert ready.compilation.way == "cell"
        assert self.tracers(book) == []
        np.testing.assert_allclose(
            np.asarray(jax.tree.leaves(ready.outcome.results[LAST])),
            np.asarray(jax.tree.leaves(expected.results[LAST])),
        )
        call(ready.program)
        assert self.tracers(book) == []

    @pytest.mark.parametrize(
        "text",
        [
            "hist.append(x.sum())\nif x.sum() > 0: y = 1",
            "box.w = x * 2\ntree['z'] = x * 2\nfloat(box.w.sum())",
            "counter(x)\nassert x.sum() > 0",
        ],
    )
    def test_no_tracer_anywhere_also_when_it_fails(self, book, text):
        scene = book.scene(text)
        scene.enter()
        with pytest.raises((jax.errors.JAXTypeError, TypeError)):
            traced_program(scene, JAX.trace, JAX.is_array)
        assert self.tracers(book) == []
        scene.exit()
        assert (book.namespace["hist"], list(book.namespace["tree"])) == ([], ["a", "n"])

    def test_state_that_a_trace_would_lose_is_returned(self, book):
        ready = book.ready("counter(x)\ncounter(x)\nhist.append(x * 2)\nx.sum()")
        changed = {path: np.asarray(value).tolist() for path, value in ready.outcome.changed.items()}
        assert 2 in changed.values()
        assert [2, 2, 2] in changed.values()
        program = ready.program
        program.enter()
        again = program.changed(program.call(*program.args))
        program.exit()
        assert again.keys() == ready.outcome.changed.keys()
        assert held(book.namespace["counter"].count) == 0

    def test_an_nnx_training_step_is_returned_and_leaves_the_model_alone(self):
        book = notebook(
            "jax",
            """
            import flax.nnx as nnx, optax
            model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
            opt = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)
            x = jnp.ones((4, 2))
            """,
        )
        before = held(book.namespace["model"].kernel)
        text = "loss, grads = nnx.value_and_grad(lambda m: (m(x) ** 2).mean())(model)\nopt.update(model, grads)\nloss"
        ready = book.ready(text)
        assert ready.compilation.way == "cell"
        kernels = [v for v in ready.outcome.changed.values() if np.shape(v) == (2, 1)]
        assert kernels
        assert not any(np.allclose(kernel, before) for kernel in kernels)
        assert held(book.namespace["model"].kernel) is before


ERRORS = [
    ("if x.sum() > 0: y = 1", "TracerBoolConversionError", "jax.lax.cond"),
    ("while x.sum() > 0: x = x - 1", "TracerBoolConversionError", "jax.lax.while_loop"),
    ("assert x.sum() > 0", "TracerBoolConversionError", "jnp.where"),
    ("y = max(x[0], x[1])", "TracerBoolConversionError", "jnp.where"),
    ("y = float(x[0])", "ConcretizationTypeError", "jax.debug.print"),
    ("y = x[0].item()", "ConcretizationTypeError", "return the array instead of converting it"),
    ("y = jnp.nonzero(x)", "ConcretizationTypeError", "needs a number while tracing"),
    ("y = [1, 2, 3][n]", "TracerIntegerConversionError", "jnp.take"),
    ("y = np.asarray(x)", "TracerArrayConversionError", "use `jnp` instead of `np`"),
    ("y = x[x > 0]", "NonConcreteBooleanIndexError", "`size=`"),
    ("y = f'{x[0]:.2f}'", "TypeError", ""),
    ("for i in range(n): pass", "TracerIntegerConversionError|TypeError", ""),
    ("y = jnp.zeros(n)", "TypeError", ""),
    ("x[0] = 1", "TypeError", ".at"),
    ("y = {n: 1}", "TypeError", ""),
    ("y = x.sum().block_until_ready().mean().nothing", "AttributeError", ""),
]


@pytest.mark.parametrize(("text", "kind", "hint"), ERRORS, ids=[text for text, *_ in ERRORS])
def test_why_tracing_failed(text, kind, hint):
    book = notebook("jax", "x, n = jnp.ones(3), jnp.int32(2)")
    scene = book.scene(f"z = x + n\n{text}")
    scene.enter()
    with pytest.raises(Exception) as error:  # noqa: PT011 - each has another class
        traced_program(scene, JAX.trace, JAX.is_array)
    scene.exit()
    why = JAX.explain(error.value, scene.body.filename)
    assert why.line == 3
    assert why.reason.removeprefix("jax.jit failed on it (").split(":")[0] in kind.split("|")
    assert hint in why.reason
    assert len(why.reason) > len(why.reason.split(":")[0]) + 5


def test_a_tracer_that_outlived_its_trace():
    kept = []
    jax.jit(lambda x: kept.append(x))(A)
    with pytest.raises(jax.errors.UnexpectedTracerError) as error:
        kept[0] + 1
    assert "return it instead of storing it" in JAX.explain(error.value, "nowhere").reason
    assert JAX.explain(error.value, __file__).line is not None


class TestWatch:
    def test_stages_and_names(self):
        def watched(x):
            return jnp.cosh(x) * 3.25

        with JAX.watch("cell") as log:
            jax.jit(watched)(A)
        assert log.compiled["watched"] == 1
        assert set(log.stages) == {"trace", "lower", "backend"}
        assert all(seconds >= 0 for seconds in log.stages.values())
        assert log.cache == "cold"

    def test_nothing_is_logged_outside_of_it(self):
        with JAX.watch("cell") as log:
            pass
        jax.jit(lambda x: x * 4.5)(A)
        assert (log.compiled, log.stages) == ({}, {})

    def test_one_inside_of_another(self):
        with JAX.watch("a") as outer:
            with JAX.watch("b") as inner:
                jax.jit(lambda x: x * 5.5)(A)
            jax.jit(lambda x: x * 6.5)(A)
        assert (sum(inner.compiled.values()), sum(outer.compiled.values())) == (1, 2)

    def test_a_disk_cache_is_cold_and_then_warm(self, tmp_path):
        with disk_cache(tmp_path):
            seen = []
            for _ in range(2):
                with JAX.watch("cell") as log:
                    jax.jit(lambda x: jnp.sin(x) @ x.T + 7.5)(A)
                seen.append(log.cache)
        assert seen == ["cold", "disk-warm"]

    def test_events_are_counted_on_compiling_and_only_then(self):
        function = jax.jit(lambda x: x * 8.5)
        before = JAX.compile_events()
        function(A)
        compiled = JAX.compile_events()
        function(A)
        assert (compiled - before, JAX.compile_events() - compiled) == (1, 0)


@contextlib.contextmanager
def disk_cache(path):
    from jax.experimental.compilation_cache import compilation_cache

    flags = {
        "jax_compilation_cache_dir": str(path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in flags}
    compilation_cache.reset_cache()
    for name, value in flags.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_prime_is_paid_once():
    first = JAX.prime()
    before = JAX.compile_events()
    assert JAX.prime() == first > 0
    assert JAX.compile_events() == before


def test_flags_that_this_jax_lacks():
    assert compiler.config("jax_enable_x64") is False
    assert compiler.config("jax_no_such_flag") == "unknown"


@pytest.mark.parametrize(
    ("setup", "text", "arguments", "returned"),
    [
        ("x = jnp.ones(3)", "y = x * 2\n# a remark\n(y +\n 1).sum()", "x", 9),
        ("x = jnp.ones(3)", "x = x + 1\nx.sum()", "x", (6, [2, 2, 2])),
        ("x, n = jnp.ones(3), 2", "n = n + 1\ny = x * n", "n, x", (3, [3, 3, 3])),
        ("p = {'w': jnp.ones(2)}", "def f(v): return v * 3\ny = f(p['w'])", "p", [3, 3]),
    ],
)
def test_the_source_of_what_was_traced_gives_what_the_cell_gives(setup, text, arguments, returned):
    book = notebook("jax", setup)
    source = book.ready(text).program.source
    namespace = dict(book.namespace)
    exec(source, namespace)
    assert f"def cell({arguments}):" in source
    found = namespace["cell"](*(namespace[name] for name in arguments.split(", ")))
    jax.tree.map(np.testing.assert_array_equal, found, jax.tree.map(jnp.asarray, returned, is_leaf=is_list))


def is_list(value):
    return isinstance(value, list)
