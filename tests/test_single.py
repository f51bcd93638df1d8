"""A %%torch or %%jax cell: the notebook is as after one plain run, and the report says how that was measured."""

from __future__ import annotations

import ast
import time

import numpy as np
import pytest
import torch
from cells import fail, generators, names, run, shown, untouched
from IPython.core.error import UsageError
from tiers import QUICK_BACKEND, compiling_with

QUICK = "--budget 0.1"
#: torch's compiler warns of its own functions while it is imported.
torch_compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def report(shell):
    return shell.user_ns["r"]


def only(shell):
    (variant,) = report(shell)
    return variant


COUNTING = """
import torch, numpy as np, random
log, total = [], {"runs": 0}
weight = torch.ones(3)
array = np.zeros(3)
"""


class TestAsIfOnce:
    """Whatever is measured, the notebook is as after one plain run."""

    def test_containers_arrays_and_counters_change_once(self, shell):
        run(shell, COUNTING)
        kept = {name: shell.user_ns[name] for name in ("log", "total", "weight", "array")}
        run(shell, f"%%torch {QUICK} --mode eager\nlog.append(1)\ntotal['runs'] += 1\nweight += 1\narray += 2\nweight")
        assert shell.user_ns["log"] == [1]
        assert shell.user_ns["total"] == {"runs": 1}
        assert shell.user_ns["weight"].tolist() == [2, 2, 2]
        assert shell.user_ns["array"].tolist() == [2, 2, 2]
        assert all(shell.user_ns[name] is value for name, value in kept.items())

    def test_random_numbers_are_drawn_once(self, shell):
        run(shell, COUNTING)
        draws = "(random.random(), np.random.rand(), torch.rand(2))"
        run(shell, "torch.manual_seed(3); np.random.seed(3); random.seed(3)")
        plain = str(run(shell, draws))
        after = generators()
        run(shell, "torch.manual_seed(3); np.random.seed(3); random.seed(3)")
        assert str(run(shell, f"%%torch {QUICK} --mode eager\n{draws}")) == plain
        assert generators() == after

    def test_output_is_written_once(self, shell, capsys):
        text = "print('out')\nimport sys\nprint('err', file=sys.stderr)\ndisplay('shown')\n2"
        run(shell, f"%%jax {QUICK}\n{text}")
        captured = capsys.readouterr()
        assert (captured.out, captured.err) == ("out\nOut[1]: 2\n", "err\n")
        plain = [item["data"]["text/plain"] for item in shell.display_pub.outputs if len(item["data"]) == 1]
        assert plain == ["'shown'"]

    def test_what_was_made_stays_the_same_object(self, shell):
        run(shell, f"%%jax {QUICK}\nx = jnp.ones(3)\ny = [x]\ny")
        assert shell.user_ns["y"][0] is shell.user_ns["x"]
        assert shell.user_ns["_"] is shell.user_ns["y"]

    @torch_compiles
    def test_a_training_step_is_one_step(self, shell):
        make = """
import torch
torch.manual_seed(0)
net = torch.nn.Linear(4, 2)
optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
data = torch.randn(8, 4)
"""
        step = "optimizer.zero_grad()\nloss = net(data).square().mean()\nloss.backward()\noptimizer.step()\nloss.item()"
        run(shell, make)
        plain = run(shell, step), state_of(shell)
        run(shell, make)
        same = shell.user_ns["net"]
        assert run(shell, f"%%torch {QUICK} -o r\n{step}") == plain[0]
        assert state_of(shell) == plain[1]
        assert shell.user_ns["net"] is same
        assert type(same).__call__ is torch.nn.Module.__call__
        assert "forward" not in vars(same)
        assert only(shell).compilation.way == "modules"


def state_of(shell):
    net, optimizer = shell.user_ns["net"], shell.user_ns["optimizer"]
    states = [
        {name: value.tolist() for name, value in state.items()} for state in optimizer.state_dict()["state"].values()
    ]
    return [p.tolist() for p in net.parameters()], [p.grad.tolist() for p in net.parameters()], states


class TestErrors:
    def test_the_users_error_propagates_and_nothing_is_measured(self, shell):
        error = fail(shell, f"%%jax {QUICK} -o r\nx = 1\ny = {{}}['key']\nz = 3")
        assert (type(error), error.args) == (KeyError, ("key",))
        assert shell.user_ns["x"] == 1  # as after the plain cell
        assert not {"y", "z", "r"} & set(names(shell))
        assert shown(shell) == []

    def test_an_error_that_only_a_second_run_raises_ends_no_cell(self, shell):
        run(shell, "flag = iter('a')")
        assert run(shell, f"%%jax {QUICK} --repeat-effects -o r\nnext(flag)") == "a"
        assert report(shell).state == "failed"
        failure = only(shell).failure
        assert (failure.error, failure.line) == ("StopIteration", 2)

    def test_an_error_of_a_run_that_is_timed_names_its_line(self, shell):
        run(shell, "tickets = iter(range(3))")
        run(shell, f"%%jax {QUICK} --mode eager --repeat-effects -o r\n\nnext(tickets)")
        failure = only(shell).failure
        assert (failure.error, failure.line, failure.stage) == ("StopIteration", 3, "timing")
        assert only(shell).status == "failed"


class TestModes:
    def test_auto_compiles(self, shell):
        run(shell, f"%%jax {QUICK} -o r\njnp.ones(3) * 2")
        variant = only(shell)
        assert (variant.mode, variant.compilation.way, variant.compilation.cache) == ("auto", "cell", "cold")
        assert {"prime", "trace", "lower", "backend", "first run"} == {s.name for s in variant.compilation.stages}

    def test_auto_falls_back_with_the_reason_and_its_line(self, shell):
        run(shell, f"%%jax {QUICK} -o r\nx = jnp.ones(3)\nif x[0] > 0:\n    x = x + 1\nx")
        compilation = only(shell).compilation
        assert (compilation.way, compilation.line) == ("eager", 3)
        assert "branches on a value" in compilation.reason
        assert "jnp.where" in compilation.reason
        assert only(shell).status == "timed"

    def test_eager_compiles_nothing(self, shell):
        from oracle import witness

        with witness() as compilers:
            run(shell, f"%%jax {QUICK} --mode eager -o r\nx = np.ones(3)\nx * 2")
        assert compilers.names() == set()
        assert (only(shell).mode, only(shell).compilation.way) == ("eager", "eager")

    def test_compiled_fails_where_auto_would_fall_back(self, shell):
        error = fail(shell, f"%%jax {QUICK} --mode compiled\nx = jnp.ones(3)\nif x[0] > 0:\n    x = x + 1\nx")
        assert isinstance(error, UsageError)
        assert "line 3" in str(error)
        assert "branches on a value" in str(error)
        assert shell.user_ns["x"].tolist() == [2, 2, 2]
        assert shown(shell)[-1].state == "failed"
        assert shown(shell)[-1]["jax"].failure.line == 3

    def test_all_times_both_side_by_side(self, shell):
        run(shell, f"%%jax {QUICK} --mode all --margin 0.3 -o r\njnp.ones(3) * 2")
        assert [variant.name for variant in report(shell)] == ["jax:eager", "jax:compiled"]
        assert [variant.compilation.way for variant in report(shell)] == ["eager", "cell"]
        assert report(shell).ratio("jax:compiled", over="jax:eager").median > 0
        assert report(shell).margin == 0.3

    def test_all_still_reports_the_eager_one_where_the_other_cannot_be_had(self, shell):
        run(shell, f"%%jax {QUICK} --mode all -o r\nx = jnp.ones(3)\nif x[0] > 0:\n    x = x + 1\nx")
        assert [variant.status for variant in report(shell)] == ["timed", "not timed"]
        assert report(shell)["jax:compiled"].note.startswith("line 3: ")
        assert report(shell).state == "done"

    @torch_compiles
    @pytest.mark.parametrize(("mode", "way", "told"), [("auto", "eager", False), ("compiled", "cell", True)])
    def test_what_compiles_in_every_call_is_timed_only_where_it_was_asked_for(self, shell, mode, way, told):
        run(shell, "import torch\nhist, x = {'loss': [0.5] * 3}, torch.arange(6.0)")
        with compiling_with(QUICK_BACKEND):
            run(shell, f"%%torch {QUICK} --mode {mode} -o r\nhist['loss'].append(x.sum().item())\ny = x * 2\ny")
        assert only(shell).compilation.way == way
        assert ("FW201" in {finding.code for finding in report(shell).findings}) == told

    @torch_compiles
    def test_a_long_list_that_the_plain_run_has_changed_is_not_compiled(self, shell):
        run(shell, "import torch\nhist, x = {'loss': [0.5] * 2000}, torch.arange(6.0)")
        run(shell, f"%%torch {QUICK} -o r\nhist['loss'].append(x.sum())\nx * 2")
        compilation = only(shell).compilation
        assert (compilation.way, compilation.line) == ("eager", 2)
        assert compilation.reason.startswith("it changes `hist['loss']`, and PyTorch would compile a check for each of")

    def test_the_report_is_bound_also_where_compiling_fails(self, shell):
        fail(shell, f"%%jax {QUICK} --mode compiled -o r\nx = jnp.ones(3)\nx if x[0] > 0 else -x")
        assert only(shell).status == "failed"


class TestOptions:
    def test_budget_bounds_the_time_that_is_spent(self, shell):
        for budget in (0.05, 0.4):
            run(shell, f"%%jax --budget {budget} --mode eager -o r\n1 + 1")
            assert report(shell).budget == budget
            assert report(shell).spent <= 1.5 * budget
        assert report(shell).spent > 0.05 * 1.5

    def test_device(self, shell):
        run(shell, f"%%jax {QUICK} --device cpu -o r\njnp.ones(3)")
        assert report(shell).conditions.devices["jax"].startswith("cpu:0")
        run(shell, f"%%torch {QUICK} --mode eager --device cpu -o r\ntorch.ones(3)")
        assert report(shell).conditions.devices["torch"].startswith("cpu")

    @pytest.mark.parametrize("magic", ["torch", "jax"])
    def test_a_device_that_is_not_here(self, shell, magic):
        with untouched(shell):
            assert "--device cuda" in str(fail(shell, f"%%{magic} --device cuda\nx = 1"))

    def test_inputs_become_arrays_of_the_framework_and_stay_numpys_outside(self, shell):
        run(shell, "import numpy as np\nA = np.arange(4.0)\nkept = A")
        run(shell, f"%%jax {QUICK} --inputs A -o r\nkind = type(A).__module__\ntotal = A.sum()\ntotal")
        assert shell.user_ns["kind"].startswith("jax")
        assert shell.user_ns["A"] is shell.user_ns["kept"]
        assert isinstance(shell.user_ns["A"], np.ndarray)
        assert "A from float64 to float32" in report(shell).conditions.inputs

    def test_an_input_is_a_private_copy_and_the_same_in_every_run(self, shell):
        run(shell, "import numpy as np\nA = np.zeros(4, dtype=np.float32)")
        value = run(shell, f"%%torch {QUICK} --mode all --inputs A -o r\nA += 1\nA.sum()")
        assert value.item() == 4
        assert shell.user_ns["A"].tolist() == [0, 0, 0, 0]
        for variant in report(shell):
            assert variant.outputs["Out"].item() == 4
        assert report(shell)["torch:compiled"].agreement.status == "agrees"

    def test_items_give_a_throughput(self, shell):
        run(shell, f"%%jax {QUICK} --mode eager --items 64 -o r\n1 + 1")
        time = only(shell).time
        assert time.items_per_second == pytest.approx(64 / time.median)
        run(shell, f"%%jax {QUICK} --mode eager -o r\n1 + 1")
        assert only(shell).time.items_per_second is None

    def test_no_check(self, shell):
        run(shell, f"%%jax {QUICK} -o r\njnp.ones(3)")
        assert only(shell).agreement.status == "agrees"
        run(shell, f"%%jax {QUICK} --no-check -o r\njnp.ones(3)")
        assert only(shell).agreement is None

    def test_seed(self, shell):
        run(shell, COUNTING)
        draws = "(random.random(), np.random.rand(), torch.rand(1).item())"
        first = run(shell, f"%%torch {QUICK} --mode eager --seed 5\n{draws}")
        assert run(shell, f"%%torch {QUICK} --mode eager --seed 5\n{draws}") == first
        assert run(shell, f"%%torch {QUICK} --mode eager --seed 6\n{draws}") != first

    def test_a_name_of_its_own(self, shell):
        run(shell, f"%%jax {QUICK} --mode eager mine -o r\n1")
        assert report(shell)["mine"].framework == "jax"

    def test_repeat_effects_times_what_would_run_once(self, shell, tmp_path):
        text = f"with open(r'{tmp_path / 'log'}', 'a') as file:\n    file.write('x')\n1"
        run(shell, f"%%jax {QUICK} -o r\n{text}")
        assert (only(shell).status, (tmp_path / "log").read_text()) == ("run-once", "x")
        run(shell, f"%%jax {QUICK} --mode eager --repeat-effects -o r\n{text}")
        assert only(shell).status == "timed"
        assert len((tmp_path / "log").read_text()) > 5

    @torch_compiles
    def test_compile_mode_and_fullgraph_reach_torch(self, shell, monkeypatch):
        seen = []
        compiler = torch.compile
        monkeypatch.setattr(torch, "compile", lambda *args, **how: seen.append(how) or compiler(*args, **how))
        run(shell, "import torch\nx = torch.ones(3)")
        run(shell, f"%%torch {QUICK} --fullgraph -o r\nx * 41")
        assert only(shell).compilation.way == "cell"
        assert seen[-1]["fullgraph"] is True
        run(shell, "%config FwMagics.compile_mode = 'reduce-overhead'")
        run(shell, f"%%torch {QUICK} -o r\nx * 42")
        assert seen[-1]["mode"] == "reduce-overhead"
        assert seen[-1]["fullgraph"] is False
        run(shell, f"%%torch {QUICK} --compile-mode max-autotune -o r\nx * 43")
        assert seen[-1]["mode"] == "max-autotune"

    @torch_compiles
    def test_fullgraph_fails_where_the_graph_would_break(self, shell):
        run(shell, "import torch\nx = torch.ones(3)")
        text = "y = x * 2\nprint(y.sum().item())\ny + 1"
        error = fail(shell, f"%%torch {QUICK} --mode compiled --fullgraph\n{text}")
        assert isinstance(error, UsageError)
        assert "line 3" in str(error)


class TestRunOnce:
    @pytest.mark.parametrize(
        ("setup", "text", "why"),
        [
            ("rest = iter([1, 2, 3])", "next(rest)", "`rest` cannot be put back"),
            ("def numbers():\n    yield from range(5)\nmade = numbers()", "next(made)", "`made` cannot be put back"),
            ("import logging", "logging.addLevelName(7, 'l')\n1", "line 2: what `logging.addLevelName` does cannot"),
            ("import os", "os.getpid()\nget_ipython()\n1", "line 3: what a magic or `!` command does"),
        ],
    )
    def test_what_cannot_be_put_back_runs_once(self, shell, setup, text, why):
        run(shell, setup)
        run(shell, f"%%jax {QUICK} -o r\n{text}")
        variant = only(shell)
        assert variant.status == "run-once"
        assert why in variant.note
        assert "--repeat-effects" in variant.note
        assert (variant.time.calls, len(variant.time.samples)) == (1, 1)
        assert report(shell).ratios == ()
        assert report(shell).state == "done"

    @pytest.mark.parametrize(("magic", "array"), [("torch", "torch.ones(3)"), ("jax", "jnp.ones(3)")])
    def test_reading_a_file_is_no_effect_and_no_constant(self, shell, tmp_path, magic, array):
        (tmp_path / "numbers").write_text("4")
        run(
            shell,
            "import torch, jax.numpy as jnp\ndef number(path):\n    with open(path) as file: return int(file.read())",
        )
        assert run(shell, f"%%{magic} {QUICK} -o r\n(number(r'{tmp_path / 'numbers'}') * {array}).sum()") == 12
        variant = only(shell)
        assert variant.status == "timed"
        if magic == "jax":
            assert (variant.compilation.way, variant.compilation.line) == ("eager", 2)
            assert variant.compilation.reason.startswith("`number` opens a file, which a trace would do once")

    def test_an_iterator_has_given_one_item(self, shell):
        run(shell, "rest = iter([1, 2, 3])")
        assert run(shell, f"%%jax {QUICK}\nnext(rest)") == 1
        assert run(shell, "list(rest)") == [2, 3]

    def test_what_reads_the_keyboard(self, shell, monkeypatch):
        asked = []
        monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "7")
        assert run(shell, f"%%jax {QUICK} --repeat-effects -o r\nint(input('how many'))") == 7
        assert asked == ["how many"]
        assert only(shell).status == "run-once"
        assert only(shell).note == "line 2: `input` reads from the keyboard, which a measured run cannot"

    def test_what_reads_the_keyboard_in_a_function_of_the_notebook(self, shell, monkeypatch):
        asked = []
        monkeypatch.setattr("builtins.input", lambda prompt="": asked.append(prompt) or "7")
        run(shell, "def ask():\n    return int(input())")
        assert run(shell, f"%%jax {QUICK} -o r\nask()") == 7
        assert asked == [""]
        assert "reads from the keyboard" in (only(shell).failure.message if only(shell).failure else only(shell).note)

    def test_donated_arrays_are_gone_after_one_run(self, shell):
        run(shell, "import jax, jax.numpy as jnp\nf = jax.jit(lambda x: x + 1, donate_argnums=0)\nx = jnp.ones(3)")
        assert run(shell, f"%%jax {QUICK} -o r\nf(x)").tolist() == [2, 2, 2]
        assert (only(shell).status, only(shell).note) == ("timed", "")
        assert shell.user_ns["x"].is_deleted()

    def test_arrays_that_are_used_up_and_of_which_there_is_no_copy(self, shell, monkeypatch):
        run(shell, "import jax, jax.numpy as jnp\nf = jax.jit(lambda x: x + 1, donate_argnums=0)\nx = jnp.ones(3)")

        def refuse(*_, **__):
            raise RuntimeError("RESOURCE_EXHAUSTED")

        with monkeypatch.context() as patched:
            patched.setattr("jax.device_put", refuse)
            assert run(shell, f"%%jax {QUICK} -o r\nf(x)").tolist() == [2, 2, 2]
        assert only(shell).status == "run-once"
        assert only(shell).note.startswith("the cell uses up `x` (it is donated, or deleted), and there is no copy")

    def test_arrays_that_were_used_up_before_are_no_reason(self, shell):
        run(shell, "import jax, jax.numpy as jnp\nx, y = jnp.ones(3), jnp.ones(3)\nx.delete()")
        run(shell, f"%%jax {QUICK} -o r\nx.is_deleted(), y + 1")
        assert only(shell).status == "timed"


class TestNothing:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("def f():\n    return 1", "it only defines `f`"),
            ("import math\nclass A: pass", "it only defines `A`, `math`"),
            ("pass", "it holds no code that does anything"),
            ("# a comment only", "it holds no code that does anything"),
        ],
    )
    def test_nothing_to_time(self, shell, text, why):
        run(shell, f"%%jax {QUICK} -o r\n{text}")
        assert (report(shell).state, tuple(report(shell))) == ("done", ())
        assert report(shell).note == f"Nothing to time: {why}."

    def test_definitions_are_kept_all_the_same(self, shell):
        run(shell, f"%%jax {QUICK}\ndef f():\n    return 1")
        assert run(shell, "f()") == 1

    def test_a_cell_that_returns_nothing(self, shell):
        run(shell, "def nothing():\n    pass")
        run(shell, f"%%jax {QUICK} -o r\nnothing()")
        assert [f.code for f in report(shell).findings if f.code.startswith("FW1")] == ["FW102"]
        assert report(shell).state == "done"

    def test_a_cell_of_a_tenth_of_a_microsecond(self, shell, untraced):
        run(shell, f"%%torch {QUICK} --mode eager -o r\n1")
        assert only(shell).time.median < 1e-6
        assert "FW301" in {finding.code for finding in report(shell).findings}

    @pytest.mark.parametrize("mode", ["auto", "eager"])
    def test_a_long_cell_is_called_at_most_four_times(self, shell, tmp_path, mode):
        calls = tmp_path / "calls"

        def slow():
            with calls.open("a") as file:
                file.write("x")
            time.sleep(1.0)
            return 1

        shell.user_ns["slow"] = slow
        run(shell, f"%%torch --budget 0.2 --mode {mode} -o r\nslow()")
        assert len(calls.read_text()) <= 4
        assert only(shell).time.median >= 1.0
        assert only(shell).time.low is None  # too few for an interval


class TestReuse:
    def test_an_unchanged_cell_is_not_compiled_again(self, shell):
        from oracle import witness

        run(shell, "import jax, jax.numpy as jnp\nx = jnp.arange(4.0)")
        text = f"%%jax {QUICK} -o r\n(x * 17).sum()"
        run(shell, text)
        assert only(shell).compilation.cache == "cold"
        with witness() as compilers:
            run(shell, text)
        assert compilers.names() == set()
        assert only(shell).compilation.cache == "reused"
        assert only(shell).compilation.way == "cell"

    @torch_compiles
    def test_nor_is_one_of_torch(self, shell):
        from oracle import witness

        run(shell, "import torch\nx = torch.arange(4.0)")
        text = f"%%torch {QUICK} -o r\n(x * 18).sum()"
        run(shell, text)
        assert only(shell).compilation.cache != "reused"
        with witness() as compilers:
            run(shell, text)
        assert compilers.names() == set()
        assert only(shell).compilation.cache == "reused"

    @pytest.mark.parametrize("change", ["x = jnp.arange(5.0)", "x = jnp.arange(4)", "x = (jnp.arange(4.0),)[0] * k"])
    def test_what_it_reads_may_have_other_values_but_the_numbers_are_right(self, shell, change):
        run(shell, "import jax, jax.numpy as jnp\nx = jnp.arange(4.0)\nk = 3")
        text = f"%%jax {QUICK} -o r\n(x * k).sum()"
        run(shell, text)
        run(shell, change + "\nk = 5")
        value = run(shell, text)
        assert only(shell).outputs["Out"].tolist() == value.tolist()
        assert only(shell).agreement.status == "agrees"

    def test_another_text_is_compiled(self, shell):
        run(shell, f"%%jax {QUICK} -o r\njnp.ones(3) * 19")
        run(shell, f"%%jax {QUICK} -o r\njnp.ones(3) * 20")
        assert only(shell).compilation.cache == "cold"


class TestCompiled:
    def test_arrays_that_a_trace_captured_become_arguments(self, shell):
        hidden = "@functools.lru_cache\ndef weights():\n    return jnp.ones((8, 8))"
        run(shell, f"import functools, jax, jax.numpy as jnp\n{hidden}\nweights()")
        assert run(shell, f"%%jax {QUICK} -o r\n(weights() @ weights()).sum()") == 512
        assert (only(shell).compilation.way, only(shell).compilation.lifted) == ("cell", 1)
        assert only(shell).outputs["Out"] == 512
        assert "FW202" in {finding.code for finding in report(shell).findings}

    def test_a_cell_that_jits_itself_is_left_alone(self, shell):
        run(shell, f"%%jax {QUICK} -o r\nf = jax.jit(lambda x: x + 1)\nf(jnp.ones(3))")
        compilation = only(shell).compilation
        assert (compilation.way, compilation.line) == ("yours", 2)
        assert "jax.jit" in compilation.reason

    def test_the_live_results_are_returned_and_named(self, shell):
        run(shell, f"%%jax {QUICK} -o r\na = jnp.ones(3)\nb = a + 1\nc = a * 2\nb.sum()")
        assert set(only(shell).returned) == {"Out", "c"}
        outputs = only(shell).outputs
        assert outputs["Out"] == 6
        assert outputs["c"].tolist() == [2, 2, 2]

    @pytest.mark.parametrize(
        ("head", "text"),
        [
            ("jax", "a = jnp.ones(3)\nb = a * 2\nb"),
            ("jax", "s = '''two\nlines'''\nlen(s) + jnp.ones(3)"),
            ("jax", "for i in range(3):\n    a = jnp.ones(i + 1)\na"),
            ("jax --mode eager", "a = jnp.ones(3)\nb = a * 2\nb"),
            ("torch --mode eager", "import math\ndef f(x):\n    return x + 1\nf(torch.ones(3)) * math.pi"),
            ("jax", "next(iter([1]))\nopen"),
        ],
    )
    def test_the_source_is_python(self, shell, head, text):
        run(shell, f"%%{head} {QUICK} -o r\n{text}")
        source = only(shell).source
        ast.parse(source)
        assert source.strip()


HINTS = {
    "vmap": ("", "jax.vmap(lambda v: 1 if v > 0 else 0)(jnp.ones(3))", "under `jax.vmap`"),
    "vmap without a trace": ("--debug", "jax.vmap(lambda v: 1 if v > 0 else 0)(jnp.ones(3))", "under `jax.vmap`"),
    "slice": ("", "jax.lax.fori_loop(0, 3, lambda i, s: s + jnp.ones(9)[i:i + 2].sum(), 0.0)", "dynamic_slice_in_dim"),
    "branch": ("", "jax.jit(lambda v: 1 if v > 0 else 0)(jnp.ones(()))", "jax.lax.cond"),
    "number": ("", "jax.jit(lambda v: jnp.arange(int(v)))(jnp.ones(()))", "number while tracing"),
    "mask": ("", "jax.jit(lambda v: v[v > 0])(jnp.ones(3))", "`jnp.where` with three"),
    "none": ("", "jnp.ones(3)[None, 1, 2, 3]", None),
}


@pytest.mark.parametrize("which", HINTS)
def test_the_traceback_of_a_tracer_error_ends_with_what_to_write_instead(shell, which):
    options, line, hint = HINTS[which]
    error = fail(shell, f"%%jax {options}\n{line}")
    notes = getattr(error, "__notes__", [])
    assert not notes if hint is None else sum(hint in note for note in notes) == 1
    error = fail(shell, f"%%compare --mode eager\n%%jax\n{line}")
    assert not getattr(error, "__notes__", []) if hint is None else hint in error.__notes__[-1]


def test_the_first_compiled_cell_of_a_process_starts_from_the_start_state(shell):
    run(shell, "import torch\na = torch.zeros(50, 50)")
    run(shell, "%%torch --budget 0.1 -o report\na += 1\na.sum()")
    assert shell.user_ns["report"]["torch"].compilation.way == "cell"
    assert shell.user_ns["a"].eq(1).all()


def test_a_loss_that_the_loop_binds_is_not_the_graph_of_an_earlier_cell(shell):
    run(shell, "import torch\nnet = torch.nn.Linear(2, 1); x = torch.ones(3, 2)")
    cell = "%%torch --budget 0.1 --mode eager -o report\nfor _ in range(2):\n    l = net(x).sum()\n    l.backward()\nl"
    for _ in range(2):
        run(shell, cell)
        assert shell.user_ns["report"]["torch"].status == "timed"


@pytest.mark.parametrize(("text", "found"), [("float(jnp.ones(3).sum())", False), ("sum(range(9))", True)])
def test_a_number_that_the_framework_computed_is_its_work(shell, text, found):
    run(shell, f"%%jax --budget 0.05 --mode eager -o report\n{text}")
    assert ("FW101" in [one.code for one in shell.user_ns["report"].findings]) is found


def test_names_that_are_not_bound_yet_and_names_of_every_kind_of_import(shell):
    run(shell, "import numpy as np\nnumbers = np.zeros(3)")
    text = "from math import *\ntry:\n    emb\nexcept NameError:\n    emb = jnp.ones(3)\nemb * sin(pi / 2)"
    run(shell, f"%%jax --budget 0.1 -o report\n{text}")
    found = shell.user_ns["report"]["jax"]
    assert (found.status, found.compilation.way, found.agreement.status) == ("timed", "cell", "agrees")
    run(shell, f"%%jax --budget 0.1 --mode eager -o report\n{text}")
    assert shell.user_ns["report"]["jax"].status == "timed"
    run(shell, "%%jax --budget 0.1 -o report\nnumbers[0] += 1\njnp.asarray(numbers) * 2")
    assert "write `x = jnp.asarray(x).at[...].set(...)`" in shell.user_ns["report"]["jax"].compilation.reason


@pytest.mark.parametrize("magic", ["torch", "jax"])
@pytest.mark.parametrize(
    "text", ["root = {'v': x * 2, 'kids': []}\nroot['kids'].append({'parent': root})", "l = [x * 2]\nl.append(l)\nl"]
)
def test_a_result_that_holds_itself_is_a_result(shell, magic, text):
    ones = {"torch": "import torch\nx = torch.ones(3)", "jax": "import jax.numpy as jnp\nx = jnp.ones(3)"}[magic]
    run(shell, ones)
    run(shell, f"%%{magic} --budget 0.05 -o r\n{text}")
    assert shell.user_ns["r"][magic].status == "timed"
    run(shell, f"%%compare --budget 0.05 -o r\n%%{magic} a\n{text}\n%%{magic} b\n{text}")
    assert shell.user_ns["r"]["b"].agreement.status == "agrees"


AGAIN = {
    "a hook made in the cell": (
        "torch",
        "net = torch.nn.Sequential(torch.nn.Linear(3, 3))\nx = torch.ones(3, 3)\nacts = {}",
        "h = net[0].register_forward_hook(lambda m, i, o: acts.__setitem__('fc', o.detach()))\n"
        "y = net(x)\nh.remove()\nacts['fc'].mean()",
        "modules",
    ),
    "a generator's child": (
        "jax",
        "import numpy as np, jax.numpy as jnp\nX, parent = jnp.ones(3), np.random.default_rng(3)",
        "child = parent.spawn(1)[0]\ny = X * child.random()\ny.sum()",
        "eager",
    ),
}


@pytest.mark.parametrize("case", AGAIN)
def test_an_unchanged_cell_goes_the_same_way_again(shell, case):
    magic, setup, text, way = AGAIN[case]
    run(shell, f"import {magic}\n{setup}")
    found = []
    for _ in range(2):
        run(shell, f"%%{magic} --budget 0.02 -o r\n{text}")
        made = shell.user_ns["r"][magic].compilation
        found.append((made.way, made.reason))
    assert found[0] == found[1]
    assert found[0][0] == way


def test_a_kept_program_that_computes_something_else_now_is_compiled_anew(shell, monkeypatch):
    """What a program takes for fixed may be where no fingerprint finds it."""
    monkeypatch.setattr("fwmagic.cells.snapshot.Snapshot.fingerprint", lambda _: ())
    run(shell, "import jax.numpy as jnp\nX = jnp.ones(3)")
    for k in (2, 2, 3):
        run(shell, f"k = {k}\n")
        run(shell, "%%jax --budget 0.02 -o r\nX * k")
        found = shell.user_ns["r"]["jax"]
        assert (found.compilation.way, found.agreement.status) == ("cell", "agrees"), found.compilation.reason
    assert found.compilation.reason == "the whole body is one compiled function"


def test_finalizers_of_what_measured_runs_make_leave_nothing_behind(shell):
    """Also of what the report would hold, and of what refers to itself."""
    run(shell, "import torch\nx, log = torch.ones(3), []")
    run(shell, "class T:\n    def __del__(self, log=log): log.append(1)\n\nclass C(T): pass")
    for _ in range(2):
        run(shell, "%%torch --mode eager --budget 0.02\nt, c = T(), C()\nc.me = c\ndel c\nx.sum()")
    run(shell, "%%compare --budget 0.02\n%%torch\nq = T()\nx.sum()\n%%torch two\nq, c = [T()], C()\nc.me = c\nx.sum()")
    run(shell, "import gc; gc.collect()")
    assert len(shell.user_ns["log"]) == 1 + 2  # the first `t`, and both circles
