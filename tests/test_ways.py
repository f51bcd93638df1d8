"""The ways to compile a section, for both frameworks: which one, how much of it, and why."""

from __future__ import annotations

import functools
import itertools
from contextlib import nullcontext

import jax
import numpy as np
import pytest
import torch
from jax._src import monitoring
from oracle import witness
from scenes import call, notebook, same, unchanged
from tiers import QUICK_BACKEND, compiling_with

from fwmagic.cells.function import LAST
from fwmagic.cells.obstacles import trains, why_python
from fwmagic.cells.outcome import first_run
from fwmagic.cells.patches import patches_of
from fwmagic.cells.program import program_as_written, traced_program
from fwmagic.cells.ways import MOST_KEPT, Programs
from fwmagic.errors import CannotCompile
from fwmagic.frameworks.compiled import CompileOptions

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # among torch's own modules, while it compiles

TORCH = """
w, x, k, hist = torch.ones(3, 3), torch.linspace(-1.0, 1.0, 3), 2, []
def layer(x): return torch.tanh(x @ w) * k
def reads_k(x): return x * k
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
seq = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(6, 3)), batch_size=2)
def train(x):
    opt.zero_grad()
    net(x).sum().backward()
    opt.step()
"""
JAX = """
W, x, k, hist = jnp.ones((3, 64)), jnp.linspace(-1.0, 1.0, 3), 2, []
xs = [x + i for i in range(20)]
def layer(x): return jnp.tanh(x @ W) * k
def on_values(x): return x if x.sum() > 0 else -x
"""
SETUPS = {"torch": TORCH, "jax": JAX}


FIB = "import functools\n@functools.cache\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)"
UNROLLED = "unrolled into more than 1,000 operations"


def ways(ready):
    compilation = ready.compilation
    return compilation.way, compilation.compiled, compilation.line


# Which way is taken, and what it leaves behind, is settled before a backend sees the graph.
INDUCTOR = pytest.param(("torch", "inductor"), id="torch-inductor", marks=pytest.mark.slow)


@pytest.fixture(params=[("torch", QUICK_BACKEND), ("jax", QUICK_BACKEND), INDUCTOR], ids=lambda param: param[0])
def book(request):
    framework, backend = request.param
    with compiling_with(backend):
        yield notebook(framework, SETUPS[framework])


@pytest.fixture(params=[("torch", QUICK_BACKEND), INDUCTOR], ids=lambda param: param[0])
def torch_book(request):
    with compiling_with(request.param[1]):
        yield notebook("torch", TORCH)


@pytest.fixture
def jax_book():
    return notebook("jax", JAX)


class TestCell:
    """The whole body becomes one compiled function."""

    @pytest.mark.parametrize(
        "text",
        [
            "x * 2 + 1",
            "y = layer(x)\nz = y.sum()\nz * 2",
            "for i in range(3):\n    x = x * i + 1",
            "def own(v): return v * 3\ny = own(x)",
            "x = x + 1\nx = x * x",
            "hist.append(x * 2)\ny = x + 1",
            "out = {'a': x * 2, 'b': [x, 3]}",
            "n = 3\ndef f(v): return v * n\ny = f(x)",
        ],
    )
    def test_as_the_plain_run_and_verified(self, book, text):
        expected = book.plainly(text)
        before = dict(book.namespace)
        with witness() as compilers:
            ready = book.ready(text)
        assert ways(ready) == ("cell", ("cell",), None)
        assert ready.compilation.reason == "the whole body is one compiled function"
        assert "cell" in compilers.names()
        assert same(ready.outcome.results, expected.results)
        assert same(call(ready.program), expected.results)
        assert unchanged(book.namespace, before)
        ready.program.scene.restore()
        assert book.namespace["hist"] == []

    @pytest.mark.parametrize("turns", [16, 17, pytest.param(200, marks=pytest.mark.slow)])
    @pytest.mark.parametrize("loop", ["for i in range({}):", "for v in [x] * {}:", "n = 0\nwhile (n := n + 1) <= {}:"])
    def test_a_loop_is_unrolled_however_often_it_turns(self, book, loop, turns):
        assert ways(book.ready(f"y = x\n{loop.format(turns)}\n    y = layer(y)[:3]\ny")) == ("cell", ("cell",), None)

    @pytest.mark.parametrize(
        "text",
        [
            "outs = []\nfor i in range(3):\n    outs.append(x * i)",
            "outs = {}\nouts['a'] = x * 2",
            "outs = [x]\nouts[0] = x * 2\nn = 3",
        ],
    )
    def test_what_is_put_into_a_list_of_the_cells_own_is_a_result(self, book, text):
        ready = book.ready(text)
        assert ready.compilation.way == "cell"
        assert "outs" in ready.program.returned
        assert same(call(ready.program), book.plainly(text).results)

    def test_an_input_that_is_bound_anew_is_a_result_also_when_it_is_read_again(self, book):
        text = "x = x * 2\nx.sum()"
        ready = book.ready(text)
        assert ready.program.returned == ("Out", "x")
        assert same(call(ready.program), book.plainly(text).results)

    def test_what_is_only_used_inside_is_not_written_to_memory(self, jax_book):
        jax_book.run("big = jnp.arange(100_000.0)")
        inside = jax_book.ready("a = jnp.exp(-big)\nb = [a, a + 1]\njnp.sum(a * b[1])").program
        assert inside.static.output < 100
        inside = jax_book.ready("outs = []\nfor i in range(3):\n    outs.append(big * i)\nsum(outs).sum()").program
        assert inside.static.output < 100
        assert inside.changed(inside.call(*inside.args)) == {}

    @pytest.mark.parametrize(
        "text",
        ["rec = Rec()\nrec.keep(x * 2)\nNone", "rec = Rec()\nrec.v = x * 2\nNone", "rec = []\nput(rec, x * 2)\nNone"],
    )
    def test_what_is_put_into_an_object_of_the_cells_own_is_not_dropped(self, book, text):
        book.run("class Rec:\n    def keep(self, v): self.v = v\ndef put(o, v): o.append(v)")
        program = book.ready(text).program
        outputs = program.call(*program.args)
        if program.changed is not None:
            (value,) = program.changed(outputs).values()
        else:
            value = outputs[-1][0] if isinstance(outputs[-1], list) else outputs[-1].v
        assert value.tolist() == (book.namespace["x"] * 2).tolist()

    def test_what_is_done_to_a_list_of_the_notebook_is_work(self, torch_book):
        assert torch_book.ready("hist.append(x * 2)\nNone").compilation.way == "cell"
        assert torch_book.ready("x[0] = x[0]\nNone").compilation.way == "cell"

    def test_what_was_compiled_is_reported_in_stages(self, book):
        compilation = book.ready("y = layer(x) + 3\ny.sum()").compilation
        assert [stage.name for stage in compilation.stages] == ["prime", "trace", "lower", "backend", "first run"]
        assert all(stage.seconds is not None and stage.seconds >= 0 for stage in compilation.stages)
        assert all(stage.source for stage in compilation.stages)
        assert (compilation.graphs, compilation.breaks, compilation.recompiles) == (1, (), ())

    def test_calls_after_the_first_compile_nothing(self, book):
        ready = book.ready("y = layer(x) - 2")
        before = book.framework.compile_events()
        call(ready.program)
        call(ready.program)
        assert book.framework.compile_events() == before

    def test_breaks_are_reported_with_their_lines(self, torch_book):
        ready = torch_book.ready("y = x * 2\nprint('a')\nif y.sum() > 5:\n    y = y + 1\ny * 3")
        assert ready.compilation.way == "cell"
        assert [place.line for place in ready.compilation.breaks] == [3, 4]
        assert all(place.reason for place in ready.compilation.breaks)
        assert ready.compilation.graphs > 1
        assert ready.compilation.reason.endswith("Python between its graphs")

    def test_captured_arrays_are_lifted(self, jax_book):
        jax_book.run(
            "inner = jax.jit(lambda v: jnp.sort(v @ W))\n_ = inner(x)\nouter = jax.jit(lambda v: inner(v) * 2)"
        )
        ready = jax_book.ready("outer(x)")
        assert (ready.compilation.lifted, ready.withheld) == (1, "")
        np.testing.assert_allclose(ready.outcome.results[LAST], jax_book.namespace["outer"](jax_book.namespace["x"]))

    def test_what_cannot_be_lifted_withholds_the_verdict(self, jax_book):
        jax_book.run(
            """
            M = jnp.ones((3, 3))
            inner = jax.jit(lambda v: jnp.tanh(v @ M))
            looped = jax.jit(lambda v: jax.lax.scan(lambda c, _: (inner(c), None), v, None, length=3)[0])
            _ = looped(x)
            """
        )
        assert "captured inside of a loop" in jax_book.ready("looped(x)").withheld

    def test_global_arrays_of_functions_are_arguments(self, jax_book):
        program = jax_book.ready("layer(x)").program
        size = program.call.lower(*program.args).compile().memory_analysis().argument_size_in_bytes
        assert size >= jax_book.namespace["W"].nbytes + jax_book.namespace["x"].nbytes

    def test_a_list_that_the_cell_returns_holds_what_was_put_in(self, jax_book):
        assert jax_book.ready("hist.append(x.sum() + 1)\nhist").outcome.results[LAST] == [1]


class TestUsersOwnCompilation:
    """What fwmagic compiles does not get in the way of what the user compiles."""

    def test_torch_compile_of_a_function_that_a_cell_called(self, torch_book):
        torch_book.ready("layer(x) + 1")
        expected = torch_book.namespace["layer"](torch_book.namespace["x"])
        torch_book.run("w = torch.eye(3)\ncompiled = torch.compile(layer)\nresult = compiled(x)")
        namespace = torch_book.namespace
        assert torch.allclose(namespace["result"], torch.tanh(namespace["x"]) * 2)
        assert not torch.allclose(namespace["result"], expected)

    def test_no_name_of_a_compiler_reaches_the_notebook(self, torch_book):
        before = set(torch_book.namespace)
        torch_book.ready("layer(x) + 2")
        torch_book.ready("for i in range(2000):\n    y = layer(x) * i")
        assert set(torch_book.namespace) == before

    def test_a_function_that_the_user_compiled_goes_on_working(self, torch_book):
        torch_book.run("mine = torch.compile(layer)\nfirst = mine(x)")
        torch_book.ready("layer(x) - 7")
        torch_book.run("second = mine(x)")
        assert torch.equal(torch_book.namespace["first"], torch_book.namespace["second"])


class TestModules:
    """A body that trains or loops over data stays Python; the modules that it calls are compiled in place."""

    @pytest.mark.parametrize(
        ("text", "line", "why"),
        [
            ("opt.zero_grad()\nloss = net(x).sum()\nloss.backward()\nopt.step()", 4, "`.backward()` trains"),
            ("total = 0\nfor (b,) in loader:\n    total = total + net(b).sum()", 3, "the loop over `loader`"),
            ("y = 0\nfor i in range(2000):\n    y = y + net(x)", 3, UNROLLED),
            ("train(x)", 2, "`train` trains"),
            ("class Own:\n    n = k\nk = 3\ny = net(x)", 2, "the body defines the class `Own`"),
        ],
    )
    def test_with_the_reason_and_its_line(self, torch_book, text, line, why):
        expected = torch_book.plainly(text)
        torch_book = notebook("torch", "torch.manual_seed(0)" + TORCH)
        expected = torch_book.plainly(text)
        net = torch_book.namespace["net"]
        with witness() as compilers:
            ready = torch_book.ready(text)
        assert ways(ready) == ("modules", ("Linear",), line)
        assert ready.compilation.reason.startswith("the body stays Python: ")
        assert why in ready.compilation.reason
        assert "forward" in compilers.names()
        results = {name: value for name, value in expected.results.items() if isinstance(value, torch.Tensor)}
        assert same({name: ready.outcome.results[name] for name in results}, results)
        assert "forward" not in vars(net)
        assert net.forward.__func__ is torch.nn.Linear.forward

    def test_a_sequential_really_is_compiled_and_put_back(self, torch_book):
        seq = torch_book.namespace["seq"]
        with witness() as compilers:
            ready = torch_book.ready("y = 0\nfor (b,) in loader:\n    y = y + seq(b).sum()")
        assert ways(ready) == ("modules", ("Sequential",), 3)
        assert ready.compilation.graphs >= 1
        assert compilers.names()
        assert "forward" not in vars(seq)
        ready.program.enter()
        assert "forward" in vars(seq)
        ready.program.exit()
        assert "forward" not in vars(seq)

    def test_it_is_put_back_also_if_the_program_raises(self, torch_book):
        ready = torch_book.ready("for (b,) in loader:\n    y = net(b)")
        ready.program.enter()
        try:
            with pytest.raises(RuntimeError):
                torch_book.namespace["net"](torch.ones(5))
        finally:
            ready.program.exit()
        assert "forward" not in vars(torch_book.namespace["net"])

    def test_any_number_of_sequentials_one_after_the_other(self, torch_book):
        """Dynamo gives up on a code object that it compiled some times for different modules."""
        for number in range(10):
            torch_book.run("seq = torch.nn.Sequential(torch.nn.Linear(3, 2))")
            ready = torch_book.ready(f"y = {number}\nfor (b,) in loader:\n    y = y + seq(b).sum()")
            assert ways(ready) == ("modules", ("Sequential",), 3)


class TestFunctions:
    """The notebook functions that a body calls are compiled in place."""

    @pytest.mark.parametrize(
        ("turns", "size", "way"), [(6, 64, "functions"), (6, 4, "cell"), (1, 64, "cell")], ids=["many", "small", "one"]
    )
    def test_where_a_whole_program_would_compute_values_anew_for_each_of_their_uses(self, turns, size, way):
        book = notebook("jax", f"grid = jnp.arange({size}.0 * {size}).reshape({size}, {size})")
        book.run(
            "def spread(g):\n"
            "    return sum(jnp.roll(g, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9 + g * g / (1 + g)"
        )
        ready = book.ready(f"y = grid\nfor _ in range({turns}):\n    y = spread(y)\ny.sum()")
        assert ready.compilation.way == way
        assert ("compute values anew" in ready.compilation.reason) == (way == "functions")

    @pytest.mark.parametrize(
        ("framework", "text", "line", "why"),
        [
            (
                "torch",
                "y = 0\nfor i in range(2000):\n    y = y + layer(x)",
                3,
                UNROLLED,
            ),
            ("torch", "k = 2\nz = reads_k(x)\ny = other(x)", 3, "`reads_k` reads `k` from the namespace"),
            ("jax", "y = 0\nfor v in xs:\n    y = y + layer(v)\nz = bool(y[0] > 0)", 5, "TracerBoolConversionError"),
            ("jax", "y = layer(x)\nif y.sum() > 0:\n    y = y + 1", 3, "TracerBoolConversionError"),
            ("jax", "y = layer(x)\nz = float(y.sum())", 3, "ConcretizationTypeError"),
        ],
    )
    def test_with_the_reason_and_its_line(self, framework, text, line, why):
        book = notebook(framework, SETUPS[framework])
        if framework == "torch":
            book.run("def other(x): return torch.cos(x) + 1")
        name = "other" if "other" in text else "layer"
        before = dict(book.namespace)
        expected = book.plainly(text)
        with witness() as compilers:
            ready = book.ready(text)
        assert ways(ready) == ("functions", (name,), line)
        assert why in ready.compilation.reason
        assert name in compilers.names()
        assert same(ready.outcome.results, expected.results)
        assert unchanged(book.namespace, before)
        ready.program.enter()
        assert book.namespace[name] is not before[name]
        ready.program.exit()
        assert book.namespace[name] is before[name]

    def test_their_global_arrays_are_arguments(self, jax_book, monkeypatch):
        sizes = []
        jit = jax.jit

        def spied(function):
            compiled = jit(function)

            def run(*arguments):
                memory = compiled.lower(*arguments).compile().memory_analysis()
                sizes.append(memory.argument_size_in_bytes)
                return compiled(*arguments)

            run.trace, run.__name__ = compiled.trace, function.__name__
            return run

        monkeypatch.setattr(jax, "jit", spied)
        assert (
            jax_book.ready("y = 0\nfor v in iter(xs):\n    y = y + layer(v)\n    float(y[0])").compilation.way
            == "functions"
        )
        assert min(sizes) >= jax_book.namespace["W"].nbytes


class TestEveryCall:
    """What a second and a third call from the start state compile again is no way, unless it was asked for."""

    @pytest.mark.parametrize(
        ("text", "called"),
        [
            ("hist.append(x.sum().item())\ny = x * 2\ny", "hist.append"),
            ("own = []\nown.append(float(x.sum()))\ny = x * own[0]\ny", "own.append"),
            ("log['loss'].append(x.sum().item())\ny = x * 2\ny", "log['loss'].append"),
            ("seen.add(x.sum().item())\ny = x * 2\ny", "seen.add"),
        ],
    )
    def test_of_a_cell(self, torch_book, text, called):
        torch_book.run("log, seen = {'loss': [0.5] * 3}, set()")
        before = torch_book.framework.compile_events()
        error = torch_book.refused(text)
        line = 2 + text.splitlines().index(next(one for one in text.splitlines() if called in one))
        assert (error.line, error.reason) == (
            line,
            f"PyTorch compiles on every call, since its graph breaks inside of `{called}(...)`: "
            "bind what it is given to a name first",
        )
        assert torch_book.framework.compile_events() - before <= 5  # two in the first call, and the one that shows it

    def test_who_asks_for_it_gets_it(self, torch_book):
        scene = torch_book.scene("hist.append(x.sum().item())\ny = x * 2\ny")
        ready = torch_book.programs.compile(scene, CompileOptions(), nullcontext, lasts=False)
        assert ready.compilation.way == "cell"
        with pytest.raises(CannotCompile, match="compiles on every call"):  # nor is it what an unchanged cell gets then
            torch_book.programs.compile(scene, CompileOptions(), nullcontext)

    def test_what_it_says_to_write_instead_is_compiled(self, torch_book):
        ready = torch_book.ready("value = x.sum().item()\nhist.append(value)\ny = x * 2\ny")
        before = torch_book.framework.compile_events()
        call(ready.program)
        assert (ready.compilation.way, torch_book.framework.compile_events()) == ("cell", before)

    def test_of_one_function_the_others_stay_compiled(self, torch_book):
        torch_book.run("def note(v):\n    hist.append(v.sum().item())\n    return v * 2")
        ready = torch_book.ready("y = net(x).detach()\nfor _ in iter(range(2)): y = note(y)\ny")
        assert ways(ready)[:2] == ("modules", ("Linear",))
        before = torch_book.framework.compile_events()
        call(ready.program)
        assert torch_book.framework.compile_events() == before

    @pytest.mark.parametrize("text", ["hist.append(x.sum())\nx * 2", "note(x)\nx * 2", "given(hist, x)\nx * 2"])
    def test_a_long_list_that_is_changed_is_not_compiled_at_all(self, torch_book, text):
        torch_book.run("hist += [0.5] * 2000\ndef note(v): hist.append(v.sum())\ndef given(to, v): to.append(v.sum())")
        scene = torch_book.scene(text)
        first_run(program_as_written(scene), nullcontext)
        before = torch_book.framework.compile_events()
        with pytest.raises(CannotCompile) as error:
            torch_book.programs.compile(scene, CompileOptions(), nullcontext)
        assert error.value.reason == (
            "it changes `hist`, and PyTorch would compile a check for each of its 2,000 entries"
        )
        assert (error.value.line, torch_book.framework.compile_events()) == (2, before)

    def test_beside_a_long_list_what_does_not_change_it_is_compiled(self, torch_book):
        torch_book.run("hist += [0.5] * 2000\ndef note(v): hist.append(v.sum())")
        scene = torch_book.scene("y = net(x)\nnote(y)\ny")
        first_run(program_as_written(scene), nullcontext)
        ready = torch_book.programs.compile(scene, CompileOptions(), nullcontext)
        assert ways(ready) == ("modules", ("Linear",), 3)


class TestUntold:
    """A version of a framework that does not tell what it compiles: the cell runs, and nothing is claimed."""

    @pytest.fixture(autouse=True)
    def _silent(self, book, monkeypatch):
        """Take away what the framework tells: Dynamo's metrics, and the names in JAX's events, as before JAX 0.6.1."""
        book.framework.prime()
        listeners = [functools.partial(_unnamed, listener) for listener in monitoring._event_duration_secs_listeners]
        monkeypatch.setattr(monitoring, "_event_duration_secs_listeners", listeners)
        monkeypatch.delattr("torch._dynamo.utils.get_compilation_metrics")

    def test_a_whole_cell(self, book):
        ready = book.ready("x * 2 + 1")
        compilation = ready.compilation
        assert (compilation.way, compilation.compiled, compilation.graphs) == ("cell", (), None)
        assert f"is unknown: this version of {book.framework.title} does not tell" in compilation.reason
        assert same(call(ready.program), book.plainly("x * 2 + 1").results)
        again = book.ready("x * 2 + 1").compilation
        assert (again.way, again.compiled, again.reason) == ("cell", (), compilation.reason)

    def test_the_functions_that_it_calls(self, book):
        text = "y = 0\nfor i in range(2000):\n    y = y + layer(x)"
        ready = book.ready(text if book.framework.name == "torch" else "y = layer(x)\nif y.sum() > 0:\n    y = y + 1")
        compilation = ready.compilation
        assert (compilation.way, compilation.compiled, compilation.line) == ("functions", (), 3)
        assert compilation.reason.endswith(f"is unknown: this version of {book.framework.title} does not tell")


def _unnamed(listener, event, seconds, **_):
    listener(event, seconds)


class TestEager:
    """Nothing could be compiled: why, and at which line."""

    @pytest.mark.parametrize("text", ["Net.forward = lambda self, v: v * 3", "setattr(Net, 'by', 2)", "Net.made += 1"])
    def test_a_compiler_may_read_a_class_as_it_was_before_the_body(self, text):
        book = notebook(
            "torch",
            "class Net(torch.nn.Module):\n    made = 0\n    def forward(self, v): return v * 2\n"
            "net, x = Net(), torch.ones(3)",
        )
        error = book.refused(f"y = x + 1\n{text}\ny = net(y)")
        assert (error.line, "sets an attribute of the class `Net`" in error.reason) == (3, True)

    @pytest.mark.parametrize(
        ("framework", "text", "line", "why"),
        [
            ("torch", "n = 1\nm = n + 2", 2, "nothing of the cell was compiled: the compiler found nothing in it"),
            ("torch", "y = 0\nfor i in range(5000):\n    y = y + x", 3, UNROLLED),
            (
                "torch",
                "n, y = 0, x\nwhile n < 5000:\n    n, y = n + 1, y @ w",
                3,
                UNROLLED,
            ),
            ("torch", "for i in range(40):\n    x = 3.7 * x * (1 - x)", 2, UNROLLED),
            ("torch", "x = 3.7 * x * (1 - x)\n" * 40, 2, "it would be more than 1,000 operations"),
            ("torch", "y = eval('x * 2')", 2, "the body uses `eval()`"),
            ("torch", "import time\nt = time.perf_counter()\ny = x * 2", 3, "`time.perf_counter` reads the clock"),
            ("torch", "torch.compiler.reset()\ny = x * 2", 2, "under its own `torch.compiler.reset`"),
            ("jax", "jax.clear_caches()\ny = x * 2", 2, "under its own `jax.clear_caches`"),
            ("torch", "class Own:\n    n = k\nk = 3", 2, "the body defines the class `Own`"),
            ("jax", "y = 1\nif x.sum() > 5: y = 2", 3, "TracerBoolConversionError: it branches on a value"),
            ("jax", "import time\ny = x * time.time()", 3, "which a trace would do once and never again"),
            ("jax", "y = x * np.random.rand()", 2, "which a trace would do once and never again"),
            ("jax", "y = 0\nfor i in range(5000):\n    y = y + x", 3, UNROLLED),
            ("jax", "y = 0\nwhile True:\n    y = y + x", 3, UNROLLED),
            ("jax", "y = sum([x * i for i in range(5000)])", 2, "consists of 10,000 operations"),
            ("jax", "with jax.disable_jit():\n    y = x * 2", 2, "the cell runs under its own `jax.disable_jit`"),
            ("jax", "on_values(x)", 2, "TracerBoolConversionError"),
            ("jax", "x + 1\nNone", 2, "the cell returns no array, so that all of its work would be dropped"),
            ("jax", "print((x @ x).sum())", 2, "the cell returns no array"),
            ("torch", "for i in range(3):\n    torch.sin(x)", 2, "the cell returns no array"),
            ("jax", "for i in range(3):\n    jnp.sin(x)", 2, "the cell returns no array"),
            ("numpy", "1 + 1", 2, "NumPy has no compiler"),
        ],
    )
    def test_with_the_reason_and_its_line(self, framework, text, line, why, capfd):
        book = notebook(framework, SETUPS.get(framework, ""))
        error = book.refused(text)
        assert why in error.reason
        assert (error.line or 2) == line
        assert capfd.readouterr() == ("", "")

    def test_a_failed_torch_compilation_writes_nothing(self, torch_book, capfd):
        """Dynamo logs some thirty lines of a shape that does not fit, which a plain run would have caught."""
        text = "try:\n    y = x @ torch.ones(7, 7)\nexcept RuntimeError:\n    y = x"
        torch_book.plainly(text)
        torch_book.framework.prime()
        capfd.readouterr()  # a build for CUDA says once that there is none
        if torch.__version__ < "2.14":
            torch_book.refused(text)
        else:  # it compiles the way out, too
            assert torch_book.ready(text).compilation.way == "cell"
        assert capfd.readouterr() == ("", "")


def test_a_method_that_a_decorator_writes_does_not_train():
    book = notebook(
        "torch",
        "from dataclasses import dataclass\n@dataclass\nclass At:\n    step: int = 1\nat, x = At(), torch.ones(3)",
    )
    assert book.ready("same = at == At()\ny = x * 2").compilation.way == "cell"


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("early = at < At(7)\ny = at.scaled(x)", "field"),
        ("y = sim.step(0.1)", "other"),
        ("lin.weight.grad = torch.ones(1, 3)\nopt.step()\ny = x * 2", "step"),
        ("fit()\ny = x * 2", "fit"),
        ("y = (lin(x).sum() * at.step).backward()", "backward"),
    ],
)
def test_only_the_step_of_an_optimizer_trains(text, method):
    book = notebook(
        "torch",
        """
        from dataclasses import dataclass
        @dataclass
        class At:
            step: int = 1
            def __lt__(self, other): return self.step < other.step
            def scaled(self, v): return v * self.step
        class Sim:
            def __init__(self): self.place = torch.ones(3)
            def step(self, seconds):
                self.place = self.place + seconds * torch.sin(self.place)
                return self.place
        lin = torch.nn.Linear(3, 1)
        opt = torch.optim.SGD(lin.parameters(), lr=0.1)
        def fit():
            made = torch.optim.Adam(lin.parameters())
            lin.weight.grad = torch.ones(1, 3)
            made.step()
        at, x, sim = At(), torch.ones(3), Sim()
        """,
    )
    place = trains(book.scene(text))
    assert (place is None) == (method in ("field", "other"))
    assert place is None or f"{method}" in place.reason


@pytest.mark.parametrize("text", ["z = x * 2\nz = z * torch.from_numpy(np.asarray(X).copy()).sum()"])
def test_what_fails_inside_of_a_compiler_is_said_in_a_sentence(text):
    book = notebook("torch", "import numpy as np, jax.numpy as jnp\nX, x = jnp.ones(3), torch.ones(3)")
    why = book.refused(text)
    assert why.reason.startswith("torch.compile failed on it (AssertionError: ")
    assert why.line == 3


class TestAgain:
    """An unchanged section is not compiled again; one that depends on something that changed is."""

    def again(self, book, text, change=""):
        """Return whether anything was compiled for the second run, and how that run was reported."""
        book.ready(text)
        book.run(change)
        before = book.framework.compile_events()
        ready = book.ready(text)
        return book.framework.compile_events() > before, ready

    @pytest.mark.parametrize("change", ["", "x = x + 1", "unrelated = 3"])
    def test_unchanged(self, book, change):
        text = "y = layer(x) + 5\ny * 2"
        compiled, ready = self.again(book, text, change)
        assert (compiled, ready.compilation.cache) == (False, "reused")
        assert same(ready.outcome.results, book.plainly(text).results)

    @pytest.mark.parametrize(
        "change",
        ["k = 5", "def layer(x): return x * 7", "x = x[:2]; {w} = {w}[:2]"],
    )
    def test_changed(self, book, change):
        text = "y = layer(x) + 6\ny * 2"
        compiled, ready = self.again(book, text, change.format(w="w" if book.framework.name == "torch" else "W"))
        assert compiled
        assert ready.compilation.cache != "reused"
        assert same(ready.outcome.results, book.plainly(text).results)

    def test_other_options_are_another_program(self, torch_book):
        torch_book.ready("y = x * 21")
        before = torch_book.framework.compile_events()
        torch_book.ready("y = x * 21", CompileOptions(fullgraph=True))
        assert torch_book.framework.compile_events() > before

    def test_what_no_longer_runs_is_compiled_anew_as_in_the_first_execution(self, jax_book, monkeypatch):
        first = jax_book.ready("y = x * 22")
        calls = []

        def gone(*arguments):
            calls.append(arguments)
            if len(calls) == 1:
                raise RuntimeError("the executable is gone")
            return traced_program(*arguments)

        monkeypatch.setattr("fwmagic.cells.ways.traced_program", gone)
        again = jax_book.ready("y = x * 22")
        assert again.compilation.cache != "reused"
        assert again.compilation.reason == first.compilation.reason
        assert same(again.outcome.results, first.outcome.results)

    def test_under_another_flag_it_is_another_program(self, jax_book):
        # the first execution of such a cell begins without the flag, and the second one with it
        before = jax.config.jax_enable_x64
        try:
            jax_book.ready("y = x * 23")
            jax.config.update("jax_enable_x64", not before)
            again = jax_book.ready("y = x * 23")
            assert "compiled anew" not in again.compilation.reason
            assert again.compilation.cache != "reused"
            assert jax_book.ready("y = x * 23").compilation.cache == "reused"
        finally:
            jax.config.update("jax_enable_x64", before)

    def test_only_so_many_are_kept(self, jax_book):
        jax_book.programs = Programs()
        for number in range(MOST_KEPT + 1):
            jax_book.ready(f"x + {number}")
        assert jax_book.ready(f"x + {MOST_KEPT}").compilation.cache == "reused"
        assert jax_book.ready("x + 0").compilation.cache != "reused"


@pytest.mark.parametrize(
    ("text", "why", "patched"),
    [
        ("table[act](x)", "`act` is used as a value, and a compiled copy of it would be another object", []),
        ("by_name('act')(x)", "`by_name` may look up any name, by `globals`", []),
        ("act(x)", None, ["act"]),
        ("twice(x)", None, ["twice"]),
    ],
)
def test_a_function_is_compiled_only_if_nobody_can_tell(text, why, patched):
    """By its globals, or by being another object than the one that others hold."""
    book = notebook(
        "torch",
        """
        x = torch.ones(3)
        def act(x): return x * 2
        def twice(x): return x + x
        def by_name(name): return globals()[name]
        table = {act: act}
        """,
    )
    scene = book.scene(text)
    place = why_python(scene)
    assert (place and place.reason) == why
    assert [patch.name for patch in patches_of(scene, CompileOptions())] == patched


class TestNumbersThatChange:
    """What Dynamo has seen of earlier executions decides nothing: it would compile a sum of two numbers."""

    def test_a_function_of_numbers_is_nothing_to_compile(self):
        book = notebook(
            "torch",
            "def make():\n    n = 0\n    def inc():\n        nonlocal n\n        n += 1\n        return n\n"
            "    return inc\ninc = make()",
        )
        for _ in range(3):
            book.run("inc(); inc()")
            assert "nothing of the cell was compiled" in book.refused("inc(); inc()").reason

    def test_a_cell_of_numbers_is_refused_for_the_same_reason(self, monkeypatch):
        monkeypatch.setattr("scenes._files", itertools.repeat(0))  # a Jupyter kernel names a file by its text
        book = notebook("torch", "n = 5")
        reasons = set()
        for _ in range(3):
            book.run("n += 1")
            reasons.add(book.refused("n = n + 1\nn").reason)
        assert len(reasons) == 1

    @pytest.mark.parametrize(
        ("cell", "line"), [(FIB + "\nx * fib(40)", 4), ("y = x * 2\ny * fib(40)", 3)], ids=["in-it", "before-it"]
    )
    def test_a_recursive_function_that_remembers_its_results_is_not_traced(self, torch_book, cell, line):
        torch_book.run(FIB)
        with pytest.raises(CannotCompile, match="`fib` remembers its results, and calls itself") as error:
            torch_book.ready(cell)
        assert error.value.line == line
