"""torch.compile: what is logged of it, what a failure leaves behind, and why it failed."""

from __future__ import annotations

import linecache

import pytest
import torch
from scenes import notebook
from torch._inductor.utils import fresh_cache

from fwmagic.frameworks import get
from fwmagic.frameworks.compiled import CompileOptions
from fwmagic.frameworks.torch import compiler

TORCH = get("torch")
X = torch.ones(4)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # among torch's own modules, while it compiles


@pytest.fixture(scope="module", autouse=True)
def _primed():
    TORCH.prime()


def compiled(source, name="cell", **options):
    """Return a compiled function that was written in a file of its own, and that file's name."""
    namespace = {"torch": torch}
    filename = f"cell-{abs(hash(source))}"
    # As for a notebook's cell: a function without source goes through one of Dynamo's own before torch 2.13.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), namespace)
    return TORCH.compile(namespace[name], CompileOptions(**options)), filename


class TestWatch:
    def test_graphs_stages_and_operations(self):
        function, filename = compiled("def cell(x):\n    return torch.sin(x) * 2 + 1")
        with TORCH.watch(filename) as log:
            function(X)
        assert (log.graphs, log.breaks, log.recompiles) == (1, [], [])
        assert log.compiled["cell"] >= 3
        assert set(log.stages) == {"trace", "lower", "backend"}
        assert all(seconds >= 0 for seconds in log.stages.values())

    def test_breaks_with_their_lines(self):
        function, filename = compiled(
            "def cell(x):\n    y = x * 2\n    print('a')\n    if y.sum() > 0:\n        y = y + 1\n    return y"
        )
        with TORCH.watch(filename) as log:
            function(X)
        assert [place.line for place in log.breaks] == [3, 4]
        assert log.breaks[1].reason == "a branch that depends on a tensor's value"
        assert log.graphs == 2 or log.graphs == 3
        assert log.compiled["cell"] >= 2  # what is resumed after a break is the cell's

    def test_recompiles_with_reason_and_line(self):
        function, filename = compiled("\n\ndef cell(x, n):\n    return x * n")
        with TORCH.watch(filename) as log:
            function(X, 2.0)
            function(X.double(), 2.0)
        (place,) = log.recompiles
        assert place.line == 3
        assert "dtype mismatch" in place.reason
        assert log.graphs == 2

    def test_only_what_is_compiled_in_the_block(self):
        function, filename = compiled("def cell(x):\n    return torch.cos(x) - 1")
        function(X)
        with TORCH.watch(filename) as log:
            function(X)
        assert (log.graphs, log.compiled, log.stages, log.cache) == (None, {}, {}, "unknown")

    def test_a_function_without_tensors_compiles_nothing(self):
        function, filename = compiled("def cell(n):\n    return n + 1")
        with TORCH.watch(filename) as log:
            function(3)
        assert log.compiled == {}

    def test_a_disk_cache_is_cold_and_then_warm(self):
        function, filename = compiled("def cell(x):\n    return torch.tanh(x) * 3 - x")
        seen = []
        with fresh_cache():
            for _ in range(2):
                with TORCH.watch(filename) as log:
                    function(X)
                seen.append(log.cache)
                function, _ = compiled("def cell(x):\n    return torch.tanh(x) * 3 - x")
        assert seen == ["cold", "disk-warm"]


def test_events_are_counted_on_compiling_and_only_then():
    function, _ = compiled("def cell(x):\n    return x * 11 + 4")
    before = TORCH.compile_events()
    function(X)
    first = TORCH.compile_events()
    function(X)
    assert first > before
    assert TORCH.compile_events() == first
    function(X.double())
    assert TORCH.compile_events() > first


def test_prime_is_paid_once():
    first = TORCH.prime()
    before = TORCH.compile_events()
    assert TORCH.prime() == first > 0
    assert TORCH.compile_events() == before


class TestForwardMode:
    """A compilation that fails under `jvp` or `jacfwd` does not leave the level of forward-mode differentiation."""

    FAILS = "def cell(x):\n    return torch.func.jacfwd(lambda y: y if y.sum() > 0 else -y)(x)"

    def test_no_level_is_left(self):
        function, filename = compiled(self.FAILS)
        raised = None
        try:
            with TORCH.watch(filename):
                function(X)
        except Exception as error:  # one of Dynamo's own; torch 2.10 breaks the graph and goes on
            raised = error
        assert raised is None or TORCH.explain(raised, filename).line is not None
        with torch.autograd.forward_ad.dual_level():  # there can be only one
            pass

    def test_one_that_an_interrupted_compilation_left_is_left(self):
        with TORCH.watch("cell"):
            torch.autograd.forward_ad.enter_dual_level()
            torch.autograd.forward_ad._current_level = -1  # as after a trace that was broken off
        with torch.autograd.forward_ad.dual_level():  # there can be only one
            pass

    def test_a_level_of_the_user_stays(self):
        with torch.autograd.forward_ad.dual_level():
            with TORCH.watch("cell"):
                pass
            dual = torch.autograd.forward_ad.make_dual(X, X)
            assert torch.autograd.forward_ad.unpack_dual(dual).tangent is not None


class TestModules:
    """Dynamo silently compiles nothing where the outermost frame is torch's own."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda: torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()),
            lambda: torch.nn.Linear(4, 3),
            lambda: torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(4, 3))),
        ],
        ids=["Sequential", "Linear", "nested"],
    )
    def test_torchs_own_modules_are_compiled(self, make):
        net = make()
        expected = net(X)
        owner, name = TORCH.module_calls(net)
        call = TORCH.compile(getattr(owner, name), CompileOptions())
        with TORCH.watch("cell") as log:
            found = call(X)
        assert sum(log.compiled.values()) > 0
        assert torch.allclose(found, expected, atol=1e-6)

    def test_what_the_user_compiled_is_left_alone(self):
        net = torch.nn.Linear(1, 1)
        assert TORCH.module_calls(net) == (net, "forward")
        net.compile()
        assert TORCH.module_calls(net) is None
        assert TORCH.module_calls(torch.ones(1)) is None


class TestExplain:
    def test_a_break_where_none_is_allowed(self):
        function, filename = compiled("def cell(x):\n    y = x * 2\n    print(y)\n    return y", fullgraph=True)
        with pytest.raises(Exception) as error:  # noqa: PT011 - one of Dynamo's own
            function(X)
        why = TORCH.explain(error.value, filename)
        assert why.line == 3
        assert why.reason.startswith("Unsupported: ")

    def test_a_shape_that_does_not_fit(self):
        function, filename = compiled("def cell(x):\n    y = x * 2\n    return y @ torch.ones(7, 7)")
        with pytest.raises(RuntimeError) as error:
            function(X)
        why = TORCH.explain(error.value, filename)
        assert why.line == 3
        assert len(why.reason.splitlines()) == 1

    def test_an_ordinary_error(self):
        def raises():
            raise ValueError("first\nsecond")

        with pytest.raises(ValueError, match="first") as error:
            raises()
        why = TORCH.explain(error.value, __file__)
        line = raises.__code__.co_firstlineno + 1
        assert (why.reason, why.line) == ("torch.compile failed on it (ValueError: first)", line)
        assert TORCH.explain(KeyError(), "cell").reason == "torch.compile failed on it (KeyError: no message)"


def test_the_compilers_mode_is_the_users(monkeypatch):
    asked = {}
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.update(options) or function)
    TORCH.compile(len, CompileOptions())
    assert asked == {"mode": None, "fullgraph": False}
    TORCH.compile(len, CompileOptions("max-autotune", True))
    assert asked == {"mode": "max-autotune", "fullgraph": True}


def test_without_a_cpp_compiler_nothing_can_be_compiled(monkeypatch):
    from torch._inductor import cpp_builder, exc

    assert TORCH.cannot_compile() == ""

    def none():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    compiler.cannot_compile.cache_clear()
    try:
        why = notebook("torch", "x = torch.ones(2)").refused("x * 2")
    finally:
        compiler.cannot_compile.cache_clear()
    assert "needs a C++ compiler and none was found; install one" in why.reason
