"""`--debug`: a cell runs once without a trace, and is shown line by line beside its trace."""

from __future__ import annotations

import bdb
import io
import json
import linecache
import pdb
import re
import sys
import warnings

import jax
import jsonschema
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from cells import fail, generators, names, run

from fwmagic.debug import record
from fwmagic.debug.glance import glance
from fwmagic.debug.source import Source
from fwmagic.frameworks import get
from fwmagic.frameworks.arrays import spread_of_numbers
from fwmagic.report.lines import LINES_MIME, Lines
from fwmagic.report.schema import schema


def view(shell):
    return shell.user_ns["r"]


def row(shell, number: int):
    """Return the row of a line of the cell, as the notebook counts them."""
    return next(row for row in view(shell).rows if row.number == number)


PRINTING = """\
%%jax --debug -o r
@jax.jit
def f(x):
    print("x is", x)
    return 2 * x
for i in range(3):
    z = f(jnp.float32(i))
z"""


class TestLines:
    def test_a_traced_line_ran_once_and_plainly_in_each_call(self, shell, capsys):
        assert run(shell, PRINTING) == 4
        assert capsys.readouterr().out.count("x is") == 3
        assert row(shell, 3).traced == ("1× x: float32[] tracer",)
        assert row(shell, 3).run == ("3× x: float32[] 0 … 2",)
        assert row(shell, 4).run[0] == "3× prints 'x is 0.0' … 'x is 2.0'"
        assert row(shell, 4).traced[0].startswith("1× prints 'x is ")
        assert row(shell, 5).run == ("3× → float32[] 0 … 4",)
        assert row(shell, 6).run == ("3× i: 0 … 2",)
        assert row(shell, 7).traced == ()  # the call itself is Python

    def test_a_cell_without_a_jit_of_its_own_is_traced_as_a_whole(self, shell):
        run(shell, "%%jax --debug -o r\nx = jnp.arange(6.0).reshape(2, 3)\ny = jnp.log(x)\n(y * 0).sum()")
        assert row(shell, 2).traced == ("1× x: float32[2,3] tracer",)
        assert row(shell, 2).run == ("1× x: float32[2,3] 0 / 2.5 / 5",)
        assert row(shell, 3).run == ("1× y: float32[2,3] -inf at [0,0]",)

    def test_what_disable_jit_leaves_traced_is_seen_with_its_kind_and_said(self, shell):
        run(shell, "%%jax --debug -o r\ndef f(v):\n    w = v + 1\n    return w * 2\njax.vmap(f)(jnp.arange(3.0))")
        assert row(shell, 3).run == ("1× w: float32[] BatchTracer 1 / 2 / 3",)
        assert any("vmap and jax.grad still trace" in note for note in view(shell).notes)

    @pytest.mark.slow
    def test_a_graph_of_torch_is_told_by_lines_and_ends_where_it_breaks(self, shell):
        text = "@torch.compile\ndef f(x):\n    y = x * 2\n    if y.sum() > 0:\n        return y\n    return y - 1\n"
        assert run(shell, f"%%torch --debug -o r\n{text}f(torch.ones(3)).sum().item()") == 6
        assert row(shell, 4).traced == ("1× y: float32[3]",)
        assert row(shell, 4).run == ("1× y: float32[3] all 2",)
        assert "! a branch that depends on a tensor's value" in row(shell, 5).traced
        assert row(shell, 6).run == ("1× → float32[3] all 2",)
        assert row(shell, 7).run == ()

    NESTED = """\
%%jax --debug -o r
import functools

def twice(function):
    @functools.wraps(function)
    def both(*given):
        return function(function(*given))
    return both

@twice
def add(x):
    total = (x +
             1)
    return total

@jax.jit
def outer(x):
    def inner(y):
        return add(y)
    parts = [inner(x) for _ in range(2)]
    return parts[0] + parts[1]

outer(jnp.float32(1))"""

    @pytest.mark.slow
    def test_numbers_of_lines_in_nested_and_decorated_functions_and_comprehensions(self, shell):
        run(shell, self.NESTED)
        assert row(shell, 12).run == ("4× total: float32[] 2 … 3",)  # a statement of two lines counts once
        assert row(shell, 13).run == ()
        assert row(shell, 11).traced == ("4× x: float32[] tracer",)
        assert row(shell, 19).run == ("2× → float32[] 3",)
        assert row(shell, 20).run == ("1× parts: list of 2",)
        assert row(shell, 21).run == ("1× → float32[] 6",)

    @pytest.mark.slow
    def test_the_body_of_a_scan_runs_as_python_only_without_a_trace(self, shell):
        text = "def step(total, x):\n    total = total + x\n    return total, total\n"
        run(shell, f"%%jax --debug -o r\n{text}jax.lax.scan(step, 0.0, jnp.arange(4.0))[0]")
        assert row(shell, 3).run == ("4× total: float32[] 0 … 6",)
        assert row(shell, 3).traced == ("1× total: float32[] tracer",)

    @pytest.mark.slow
    def test_a_lambda_is_told_beside_the_line_that_it_is_in(self, shell):
        run(shell, "%%jax --debug -o r\njax.lax.fori_loop(0, 3, lambda i, s: s + i, jnp.float32(0))")
        assert "3× lambda → float32[] 0 … 3" in row(shell, 2).run

    @pytest.mark.slow
    def test_methods_of_modules_that_the_cell_defines(self, shell):
        text = (
            "import flax.linen as nn\nclass Net(nn.Module):\n    @nn.compact\n    def __call__(self, x):\n"
            "        y = nn.Dense(2)(x)\n        return y.sum()\n"
            "net = Net()\nx = jnp.ones((1, 3))\nparams = net.init(jax.random.key(0), x)\nnet.apply(params, x)"
        )
        run(shell, f"%%jax --debug -o r\n{text}")
        assert row(shell, 6).run[0].startswith("2× y: float32[1,2] ")
        assert row(shell, 6).traced == ("2× y: float32[1,2] tracer",)

    @pytest.mark.slow
    def test_methods_of_torch_modules(self, shell):
        text = (
            "class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.inner = torch.nn.Linear(3, 2)\n    def forward(self, x):\n        y = self.inner(x)\n"
            "        return y.sum()\n"
        )
        run(shell, f"%%torch --debug -o r\n{text}net = Net()\nx = torch.ones(1, 3)\nnet(x)")
        assert row(shell, 7).run[0].startswith("1× y: float32[1,2] ")

    def test_lines_of_functions_of_other_cells_are_told_apart(self, shell):
        run(shell, "import jax\ndef helper(x):\n    return x + 1")
        run(shell, "%%jax --debug -o r\nhelper(jnp.float32(1))")
        ((name, rows),) = view(shell).others
        assert name == "helper"
        assert [(row.number, row.run) for row in rows] == [(2, ("1× x: float32[] 1",)), (3, ("1× → float32[] 2",))]

    @pytest.mark.slow
    def test_what_was_jitted_in_an_earlier_cell_is_traced_anew(self, shell):
        run(shell, "import jax, jax.numpy as jnp\n@jax.jit\ndef g(x):\n    return x + 1\ng(jnp.float32(1))")
        run(shell, "%%jax --debug -o r\ng(jnp.float32(1))")
        ((_, rows),) = view(shell).others
        assert rows[0].traced == ("1× x: float32[] tracer",)
        assert shell.user_ns["g"]._cache_size() == 2  # its own program, and that of the new trace


class TestSteps:
    def told(self, shell, traced):
        return [(visit.line, visit.time, *visit.told) for visit in view(shell).lines.visits if visit.traced is traced]

    def test_they_are_those_of_the_trace_and_then_those_of_the_run_in_order(self, shell):
        run(shell, PRINTING)
        lines = view(shell).lines
        assert [visit.traced for visit in lines.visits] == [True] * 3 + [False] * 16
        assert [step[:3] for step in self.told(shell, True)][::2] == [
            (3, 1, "x: float32[] tracer"),
            (5, 1, "→ float32[] tracer"),
        ]
        assert self.told(shell, False)[4:10] == [
            (7, 1, "z: float32[] 0"),
            (6, 2, "i: 1"),
            (3, 2, "x: float32[] 1"),
            (4, 2, "prints 'x is 1.0'"),
            (5, 2, "→ float32[] 2"),
            (7, 2, "z: float32[] 2"),
        ]
        assert lines.note == ""
        (passage,) = lines.passages
        assert [(line.number, line.text) for line in passage.lines if line.marked] == [(4, '    print("x is", x)')]
        assert (lines.brief, lines.name) == ("1 found", "%%jax --debug")

    def test_of_very_many_the_first_and_the_last_are_kept_and_that_is_said(self, shell):
        run(shell, "%%jax --debug -o r\ntotal = 0\nfor i in range(500):\n    total += i\njnp.float32(total)")
        steps = self.told(shell, False)
        assert len(steps) == 200
        ends = [(4, 49, "total: 1176"), (3, 50, "i: 49"), (4, 451, "total: 101475"), (3, 452, "i: 451")]
        assert steps[98:102] == ends
        assert view(shell).lines.note.endswith(
            "Of 1,002 steps without a trace, the first 100 and the last 100 are here."
        )
        assert len(json.dumps(view(shell).lines.to_stored())) < 40_000

    def test_lines_of_another_cell_are_a_passage_of_their_own(self, shell):
        run(shell, "import jax\ndef helper(x):\n    return x + 1")
        run(shell, "%%jax --debug -o r\nhelper(jnp.float32(1))")
        lines = view(shell).lines
        assert [passage.name for passage in lines.passages] == ["", "helper"]
        assert [(visit.passage, visit.line) for visit in lines.visits if not visit.traced] == [(1, 2), (1, 3), (0, 2)]

    @pytest.mark.slow
    def test_those_of_a_graph_of_torch_are_in_its_order_and_its_end_is_noted(self, shell):
        text = "@torch.compile\ndef f(x):\n    y = x * 2\n    if y.sum() > 0:\n        return y\n    return y - 1\n"
        run(shell, f"%%torch --debug -o r\n{text}f(torch.ones(3))")
        assert [step[0] for step in self.told(shell, True)][:2] == [4, 5]
        (noted,) = [line for line in view(shell).lines.passages[0].lines if line.note]
        assert (noted.number, noted.note) == (5, "a branch that depends on a tensor's value")

    def test_a_trace_by_torch_does_not_see_what_follows_the_lines(self, shell):
        """Dynamo would compile that, too, and read the gradient of what it is told of, which torch warns of."""
        text = "w = torch.ones(3, requires_grad=True)\n@torch.compile(backend='eager')\ndef f(x):\n    return x * w\n"
        run(shell, f"%%torch --debug -o r\n{text}y = f(torch.ones(3))\ny.sum()")
        assert view(shell).traps == ()

    def test_what_is_stored_fits_its_schema(self, shell):
        run(shell, PRINTING)
        jsonschema.Draft202012Validator(schema(Lines)).validate(view(shell).lines.to_stored())


class TestGlance:
    def test_a_big_array_is_not_copied_for_its_numbers(self):
        import tracemalloc

        for framework, array in ((get("jax"), jax.numpy.ones(5_000_000)), (get("torch"), torch.ones(5_000_000))):
            str(glance(array, framework, True))
            tracemalloc.start()
            assert str(glance(array, framework, True)) == "float32[5000000] all 1"
            assert tracemalloc.get_traced_memory()[1] < 200_000
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (np.array([1.0, np.nan, np.inf]), "float64[3] NumPy nan at [1]"),
            (torch.tensor([[1.0, 2.0], [float("-inf"), 0.0]]), "float32[2,2] -inf at [1,0]"),
            (torch.tensor([1, 2], dtype=torch.bfloat16), "bfloat16[2] 1 / 1.5 / 2"),
            (torch.tensor([1.0, float("nan")], dtype=torch.bfloat16), "bfloat16[2] nan at [1]"),
            (torch.tensor([True, False]), "bool[2] 0 / 0.5 / 1"),
            (torch.ones(2, 0), "float32[2,0]"),
            (torch.ones(2).to("meta"), "float32[2]"),
            (torch.tensor([1j]), "complex64[1]"),
            ("a" * 100, "'" + "a" * 22 + "…"),
            ([1, 2], "list of 2"),
        ],
    )
    def test_values(self, value, text):
        assert str(glance(value, get("torch"), True)) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (jax.numpy.array([1.0, 2.0], "bfloat16"), "bfloat16[2] 1 / 1.5 / 2"),
            (jax.random.key(0), "key<fry>[]"),
            (jax.numpy.ones(2, bool), "bool[2] all 1"),
        ],
    )
    def test_values_of_jax(self, value, text):
        assert str(glance(value, get("jax"), True)) == text

    @pytest.mark.slow
    def test_numbers_on_another_device_are_worked_out_there(self, monkeypatch):
        monkeypatch.setattr("fwmagic.frameworks.jax.spread_of_numbers", lambda _: pytest.fail("it was copied"))
        array = jax.numpy.array([1.0, jax.numpy.nan])
        monkeypatch.setattr(type(array), "is_fully_addressable", False)
        assert str(glance(array, get("jax"), True)) == "float32[2] nan at [1]"

    def test_the_first_odd_number_of_a_long_array_is_found(self):
        values = np.zeros(200_000)
        values[150_000] = np.inf
        assert spread_of_numbers(values).at == (150_000,)

    def test_an_object_whose_repr_raises_is_named_only(self):
        class Odd:
            def __repr__(self):
                raise RuntimeError

        assert str(glance(Odd(), get("torch"), True)) == "Odd"


class TestAsIfOnce:
    def test_a_cell_that_works_has_run_once(self, shell, capsys):
        run(shell, "import torch, random\nlog, w = [], torch.ones(2)")
        kept = {name: shell.user_ns[name] for name in ("log", "w")}
        before = generators()
        run(shell, "random.random(); torch.rand(2)")
        after = generators()
        torch.set_rng_state(torch.tensor(before[2], dtype=torch.uint8))
        shell.user_ns["random"].setstate(before[0])
        run(shell, "%%torch --debug\nprint('once')\nlog.append(1)\nw += 1\nd = random.random(), torch.rand(2)\nw.sum()")
        assert capsys.readouterr().out.count("once") == 1
        assert all(shell.user_ns[name] is value for name, value in kept.items())
        assert (shell.user_ns["log"], shell.user_ns["w"].tolist()) == ([1], [2, 2])
        assert generators() == after

    def test_a_cell_that_fails_has_not_run(self, shell):
        run(shell, "import jax\nlog, kept = [1], 5")
        before = names(shell)
        error = fail(shell, "%%jax --debug -o r\nlog.append(2)\nkept = 6\nnew = jnp.ones(3)\nnew @ jnp.ones(4)")
        assert isinstance(error, TypeError)
        assert {name: one for name, one in names(shell).items() if name != "r"} == before
        assert shell.user_ns["log"] == [1]
        assert "as if it had not run" in view(shell).answer

    @pytest.mark.slow
    def test_a_function_that_warns_is_the_librarys_own_afterwards(self, shell):
        run(shell, "%%jax --debug -o r\nfrom warnings import warn\nimport numbers\njnp.float32(1)")
        assert run(shell, "import warnings\nwarn is warnings.warn")
        assert "Record" not in repr(warnings.warn)

    def test_the_traceback_ends_in_the_users_line(self, shell, capsys):
        run(shell, "%xmode Context")
        fail(shell, "%%jax --debug\ndef f(x):\n    return x[0] / nothing\nf(jnp.ones(3))")
        printed = capsys.readouterr()
        assert "----> 3 " in printed.out + printed.err or "line 3" in printed.out + printed.err
        assert "debugging.py" not in printed.out + printed.err

    def test_jax_is_not_left_without_its_jit(self, shell):
        run(shell, "%%jax --debug\njnp.ones(3)")
        assert not jax.config.jax_disable_jit
        assert torch.compiler.set_stance is not None
        assert sys.gettrace() is None or "record" not in repr(sys.gettrace())

    def test_what_cannot_be_run_again_is_not_traced_and_that_is_said(self, shell, tmp_path):
        path = tmp_path / "log"
        run(shell, f"%%jax --debug -o r\nwith open(r'{path}', 'a') as file:\n    file.write('x')\ny = jnp.ones(3)")
        assert path.read_text() == "x"
        assert "it was not traced: line 2: writes `" in view(shell).answer
        assert row(shell, 4).run == ("1× y: float32[3] all 1",)

    def test_ctrl_c_in_the_cell_leaves_nothing_behind(self, shell):
        run(shell, "import jax\nkept = 5")
        before = names(shell)
        error = fail(shell, "%%jax --debug\nkept = 6\nraise KeyboardInterrupt")
        assert isinstance(error, KeyboardInterrupt)
        assert names(shell) == before

    @pytest.mark.slow
    def test_a_file_that_a_failing_cell_has_written_is_not_written_again(self, shell, tmp_path, monkeypatch):
        monkeypatch.setattr("fwmagic.debug.runs.Aside.trace", lambda *_: pytest.fail("it was run again"))
        run(shell, "import numpy as np, numpy")
        call = f"numpy.lib.format.open_memmap(r'{tmp_path / 'x.npy'}', 'w+', shape=(2,))"
        fail(shell, f"%%jax --debug -o r\nm = {call}\nm[0] = 1\nnothing")
        assert "it fails without a trace" in view(shell).answer

    def test_where_nothing_can_be_compiled_it_is_not_traced_and_that_is_said(self, shell, monkeypatch):
        monkeypatch.setattr(get("jax"), "cannot_compile", lambda: "there is no compiler")
        assert run(shell, "%%jax --debug -o r\nf = jax.jit(lambda x: x + 1)\nf(jnp.float32(1))") == 2
        assert "it was not traced: there is no compiler" in view(shell).answer

    def test_ctrl_c_while_tracing_leaves_the_cell_run_and_shown(self, shell, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("fwmagic.debug.runs.Aside.trace", interrupted)
        assert isinstance(fail(shell, "%%jax --debug -o r\nkept = 6\njnp.ones(3)"), KeyboardInterrupt)
        assert shell.user_ns["kept"] == 6
        assert "it was not traced: it was interrupted" in view(shell).answer

    @pytest.mark.slow
    def test_functions_that_the_user_compiled_run_eagerly(self, shell):
        run(shell, "calls = []")
        text = "@torch.compile(fullgraph=True)\ndef f(x):\n    calls.append(type(x).__name__)\n    return x + 1\n"
        run(shell, f"%%torch --debug\n{text}f(torch.ones(1)).item()")
        assert shell.user_ns["calls"] == ["Tensor"]


class TestDebuggers:
    COMMANDS = "p float(total)\nw\ncontinue\n"

    @pytest.fixture
    def debugger(self, shell):
        shell.user_ns["printed"] = printed = io.StringIO()
        shell.user_ns["debugger"] = pdb.Pdb(
            stdin=io.StringIO(self.COMMANDS), stdout=printed, nosigint=True, readrc=False
        )
        return printed

    CELL = (
        "%%jax --debug -o r\n@jax.jit\ndef f(values):\n    total = values.sum()\n    {stop}\n"
        "    return values / total\nf(jnp.array([1.0, 3.0])).sum()"
    )

    def test_set_trace_stops_once_at_the_users_line_with_numbers(self, shell, debugger):
        assert run(shell, self.CELL.format(stop="debugger.set_trace()")) == 1
        printed = debugger.getvalue()
        assert printed.count("4.0") == 1
        assert re.search(r"\((5|6)\)f\(\)", printed)  # before Python 3.13 it stops in the line after the call

    def test_lines_behind_a_stop_are_recorded_in_a_further_run(self, shell, debugger):
        run(shell, self.CELL.format(stop="debugger.set_trace()"))
        assert row(shell, 6).run == ("1× → float32[2] 0.25 / 0.5 / 0.75",)
        assert row(shell, 6).traced == ("1× → float32[2] tracer",)

    def test_breakpoint_calls_the_hook_once(self, shell, monkeypatch):
        stops = []
        monkeypatch.setattr(sys, "breakpointhook", lambda *_, **__: stops.append(sys._getframe(1).f_lineno))
        run(shell, self.CELL.format(stop="breakpoint()"))
        assert stops == [5]

    def test_a_debugger_that_is_at_work_already_stays_so(self, shell):
        class Debugger(bdb.Bdb):
            def trace_dispatch(self, *_):
                return None

        debugger, before = Debugger(), sys.gettrace()
        sys.settrace(debugger.trace_dispatch)
        try:
            run(shell, "%%jax --debug -o r\nimport sys\nseen = sys.gettrace()\ny = jnp.float32(1)\ny")
        finally:
            sys.settrace(before)
        assert shell.user_ns["seen"] == debugger.trace_dispatch
        assert row(shell, 4).run == ("1× y: float32[] 1",)

    def test_who_quits_the_debugger_has_not_run_the_cell(self, shell):
        run(shell, "import jax")
        shell.user_ns["debugger"] = pdb.Pdb(stdin=io.StringIO("q\n"), stdout=io.StringIO(), nosigint=True, readrc=False)
        before = names(shell)
        result = shell.run_cell("%%jax --debug\ntotal = jnp.ones(3)\ndebugger.set_trace()\ntotal + 1")
        assert isinstance(result.error_in_exec, bdb.BdbQuit)
        assert names(shell) == before

    def test_post_mortem_is_in_the_users_frame_with_its_numbers(self, shell):
        error = fail(
            shell, "%%jax --debug\n@jax.jit\ndef f(x):\n    y = x + 1\n    return y / 0 + nothing\nf(jnp.float32(1))"
        )
        entry = error.__traceback__
        while entry.tb_next is not None:
            entry = entry.tb_next
        assert (entry.tb_frame.f_code.co_name, entry.tb_lineno) == ("f", 5)
        assert float(entry.tb_frame.f_locals["y"]) == 2


FAILING_TRACE = (
    "@jax.jit\ndef f(x):\n    print('seen')\n    if x > 0:\n        return x\n    return -x\nf(jnp.float32(2))"
)


class TestTryFix:
    def test_the_changed_cell_is_run_compared_and_offered_and_the_notebook_as_if_nothing_happened(
        self, shell, capsys, monkeypatch
    ):
        offered = []
        monkeypatch.setattr(type(shell), "set_next_input", lambda _, text, replace=False: offered.append(text))
        run(shell, "import jax, jax.numpy as jnp, numpy as np, linecache\nlog = []")
        before, files = names(shell), set(linecache.cache)
        assert run(shell, f"%%jax --try-fix -o r\nlog.append(1)\n{FAILING_TRACE}") == 2
        assert view(shell).fix.agrees
        assert offered == [view(shell).fix.text]
        assert offered[0].startswith("%%jax -o r\nlog.append(1)\n@jax.jit")
        assert "jnp.where(x > 0, x, -x)" in offered[0]
        assert "jax.debug.print" in offered[0]  # the next thing that stood in the way
        assert capsys.readouterr().out.count("seen") == 1
        assert shell.user_ns["log"] == [1]
        after = {name: one for name, one in names(shell).items() if name not in ("r", "f")}
        assert after == before
        assert not [name for name in set(linecache.cache) - files if "mended" in name]
        assert "--try-fix: with 2 such changes" in " ".join(str(view(shell)).split())
        assert "--try-fix: with 2 such changes" in view(shell).to_html()

    def test_a_cell_that_fails_in_every_run_is_mended_and_was_not_run(self, shell):
        run(shell, "import jax, jax.numpy as jnp, numpy as np")
        before = names(shell)
        error = fail(shell, "%%jax --debug --try-fix -o r\nx = jnp.zeros(3)\nx[0] = 1\nx.sum()")
        assert isinstance(error, TypeError)
        assert view(shell).fix.agrees is None
        assert "x = x.at[0].set(1)" in view(shell).fix.text
        assert {name: one for name, one in names(shell).items() if name != "r"} == before

    def test_what_gives_something_else_is_not_offered_and_that_is_said(self, shell, monkeypatch):
        from fwmagic.frameworks import rewrite

        usual = rewrite.applied
        monkeypatch.setattr(
            "fwmagic.debug.fixing.applied", lambda *given: usual(*given).replace("jnp.where(x > 0, x, -x)", "x * 7")
        )
        run(shell, f"%%jax --try-fix -o r\n{FAILING_TRACE}")
        fix = view(shell).fix
        assert (fix.agrees, fix.text, fix.answer) == (False, "", fix.answer)
        assert "gives something else than without a trace" in fix.answer

    @pytest.mark.slow
    def test_what_fails_when_it_is_changed_is_not_offered_and_that_is_said(self, shell, monkeypatch):
        from fwmagic.frameworks import rewrite

        usual = rewrite.applied
        for wrong, said in (("nothing_of_that_name", "NameError"), ("x +", "the changed lines were not run")):
            monkeypatch.setattr(
                "fwmagic.debug.fixing.applied",
                lambda *given, wrong=wrong: usual(*given).replace("jnp.where(x > 0, x, -x)", wrong),
            )
            run(shell, f"%%jax --try-fix -o r\n{FAILING_TRACE}")
            assert view(shell).fix.text == ""
            assert said in view(shell).fix.answer

    def test_without_lines_to_try_that_is_said(self, shell):
        run(shell, "%%jax --try-fix -o r\njnp.ones(3)")
        assert view(shell).fix.text == ""
        assert "no lines to try" in view(shell).fix.answer

    @pytest.mark.slow
    def test_a_cell_that_must_not_be_run_again_is_not(self, shell, tmp_path):
        path = tmp_path / "log"
        run(shell, f"%%jax --try-fix -o r\nwith open(r'{path}', 'a') as file:\n    file.write('x')\n{FAILING_TRACE}")
        assert path.read_text() == "x"
        assert "were not run: line 2" in view(shell).fix.answer

    @pytest.mark.slow
    def test_ctrl_c_while_it_is_tried_leaves_the_cell_run_and_shown(self, shell, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("fwmagic.debug.fixing._both_runs", interrupted)
        assert isinstance(fail(shell, f"%%jax --try-fix -o r\nkept = 6\n{FAILING_TRACE}"), KeyboardInterrupt)
        assert shell.user_ns["kept"] == 6
        assert "it was interrupted" in view(shell).fix.answer
        assert view(shell).traps[0].what == "a branch on a value"

    @pytest.mark.slow
    def test_of_a_graph_break_of_torch_the_changed_cell_is_one_graph(self, shell):
        text = "@torch.compile\ndef f(x):\n    if x.sum() > 0:\n        return x\n    return -x\nf(torch.ones(3))"
        run(shell, f"%%torch --try-fix -o r\n{text}")
        assert view(shell).fix.agrees
        assert "torch.where" in view(shell).fix.text


class TestStages:
    CELL = "@jax.jit\ndef mean(x):\n    doubled = x * 2\n    return doubled.mean()\nmean(jnp.ones(8))"

    def test_the_forms_of_a_jitted_function_with_their_lines(self, shell):
        assert run(shell, f"%%jax --stages -o r\n{self.CELL}") == 2
        stages = view(shell).stages
        assert [(stage.program, stage.name) for stage in stages] == [
            ("mean", "jaxpr"),
            ("mean", "StableHLO"),
            ("mean", "optimised HLO"),
        ]
        jaxpr, stablehlo, hlo = stages
        assert [row for row in jaxpr.rows_of(4) if "mul" in row] != []
        assert [row for row in jaxpr.rows_of(5) if "reduce_sum" in row] != []
        assert [row for row in stablehlo.rows_of(4) if "stablehlo.multiply" in row] != []
        assert [row for row in stablehlo.rows_of(5) if "stablehlo.reduce" in row] != []
        assert {line for lines in hlo.lines for line in lines} <= {4, 5, 6}
        assert any(hlo.lines)
        assert all("loc(" not in stage.text and "metadata" not in stage.text for stage in stages)
        assert all(stage.seconds > 0 for stage in stages)
        assert all(len(stage.text.splitlines()) == len(stage.lines) for stage in stages)
        assert row(shell, 4).traced == ("1× doubled: float32[8] tracer",)  # it is traced once all the same

    def test_they_are_shown_as_a_table_and_can_be_opened(self, shell):
        run(shell, f"%%jax --stages -o r\n{self.CELL}")
        text = str(view(shell))
        assert max(map(len, text.splitlines())) <= 100
        table = text[text.index("\nprogram ") :].splitlines()
        assert table[2].startswith("mean")
        assert "jaxpr" in table[2]
        page = BeautifulSoup(view(shell).to_html(), "html.parser")
        assert [one.find("summary").get_text().split(",")[0] for one in page.find_all("details")] == [
            "mean: jaxpr",
            "mean: StableHLO",
            "mean: optimised HLO",
        ]
        assert any(re.match(r" +4 │ .*mul", line) for line in page.find("details").get_text().splitlines())

    @pytest.mark.slow
    def test_a_cell_without_a_jit_of_its_own_is_one_program(self, shell):
        run(shell, "import jax, jax.numpy as jnp\na = jnp.ones(8)")
        run(shell, "%%jax --stages -o r\nb = a * 3\nb.sum()")
        assert [stage.program for stage in view(shell).stages] == ["the cell"] * 3
        assert [row for row in view(shell).stages[0].rows_of(2) if "mul" in row] != []

    @pytest.mark.slow
    def test_a_function_of_an_earlier_cell_is_told_and_stays_what_it_is(self, shell):
        run(shell, "import jax, jax.numpy as jnp\n@jax.jit\ndef g(x):\n    return x + 1\ny = g(jnp.float32(1))")
        before = names(shell)
        run(shell, "%%jax --stages -o r\nz = g(jnp.float32(1))\nz")
        assert [stage.program for stage in view(shell).stages] == ["g"] * 3
        assert names(shell) == before | {name: one for name, one in names(shell).items() if name in ("r", "z", "np")}
        assert jax.jit.__module__ == "jax" or "fwmagic" not in jax.jit.__module__

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "text",
        [
            "import functools\n@functools.partial(jax.jit, static_argnames='n')\ndef f(x, n):\n    return x * n\n"
            "f(jnp.float32(1), n=2)",
            "class A:\n    @jax.jit\n    def f(x):\n        return x * 2\nA.f(jnp.float32(1))",
            "f = jax.jit(lambda x: x * 2)\njax.vmap(f)(jnp.ones(3)).sum()",
            "from flax import nnx\nm = nnx.Linear(2, 1, rngs=nnx.Rngs(0))\n@nnx.jit\ndef f(m, x):\n"
            "    return m(x).sum()\nf(m, jnp.zeros((1, 2)))",
        ],
        ids=["partial", "in a class", "vmap of it", "nnx"],
    )
    def test_functions_that_are_jitted_in_other_ways_run_as_before(self, shell, text):
        plain = run(shell, f"import jax, jax.numpy as jnp\n{text}")
        assert float(run(shell, f"%%jax --stages -o r\n{text}")) == float(plain)
        assert "cannot be traced" not in view(shell).answer

    @pytest.mark.slow
    def test_where_nothing_can_be_traced_there_are_none_and_that_is_said(self, shell):
        run(shell, f"%%jax --stages -o r\n{FAILING_TRACE}")
        assert view(shell).stages == ()
        assert any("There are no stages to show" in note for note in view(shell).notes)

    @pytest.mark.slow
    def test_the_forms_of_graphs_of_torch(self, shell):
        text = "@torch.compile\ndef f(x):\n    y = x * 2\n    return y.exp().sum()\nf(torch.ones(8))"
        run(shell, f"%%torch --stages -o r\n{text}")
        stages = view(shell).stages
        assert [(stage.program, stage.name) for stage in stages] == [
            ("graph 1", "FX graph"),
            ("graph 1", "AOT graph"),
            ("graph 1", "Inductor code"),
        ]
        fx, aot, code = stages
        assert [row for row in fx.rows_of(4) if "2" in row] != []
        assert [row for row in aot.rows_of(5) if "exp" in row] != []
        assert "def call(" in code.text
        assert [row for row in code.rows_of(4) if "exp()" in row] != []  # one kernel for both lines
        assert code.rows_of(4) == code.rows_of(5)
        assert [row for row in code.rows_of(5) if row.startswith("cpp_fused_")] != []  # its call, too
        assert "Provenance" not in code.text

    @pytest.mark.slow
    def test_where_this_torch_tells_no_more_there_is_the_graph(self, shell, monkeypatch):
        import torch._inductor.compile_fx

        monkeypatch.delattr(torch._inductor.compile_fx, "compile_fx_inner")
        run(shell, "%%torch --stages -o r\n@torch.compile\ndef f(x):\n    return x * 2\nf(torch.ones(3))")
        assert [stage.name for stage in view(shell).stages] == ["FX graph"]

    @pytest.mark.slow
    def test_where_inductor_fails_its_error_is_shown(self, shell, monkeypatch):
        import torch._inductor.compile_fx

        def fails(*_, **__):
            raise RuntimeError("no such kernel")

        monkeypatch.setattr(torch._inductor.compile_fx, "compile_fx_inner", fails)
        run(
            shell,
            "%%torch --stages -o r\n@torch.compile(backend='eager')\ndef f(x):\n    return x * 2\nf(torch.ones(3))",
        )
        last = view(shell).stages[-1]
        assert (last.name, last.text) == ("Inductor code", "# not made: RuntimeError: no such kernel")


class TestLongLoops:
    SCAN = "def step(c, x):\n    return c + x, None\ntotal, _ = jax.lax.scan(step, 0.0, jnp.arange({n}.0))\ntotal"

    def test_a_long_scan_is_told_of_before_it_starts_and_then_how_far_it_is(self, shell, capsys, monkeypatch):
        monkeypatch.setattr("fwmagic.frameworks.jax.turns._INTERVAL", 0.0)
        assert run(shell, f"%%jax --debug\n{self.SCAN.format(n=120)}") == 7140
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fwmagic: ")]
        assert re.match(r"fwmagic: jax.lax.scan of 120 steps runs as a Python loop here, .* 3\.60 s the first", told[0])
        assert "Ctrl-C ends it" in told[0]
        assert "xs[:10]" in told[0]
        assert re.match(r"fwmagic: step 1 of 120, about .* more", told[1])

    @pytest.mark.slow
    def test_a_short_one_is_not_and_jax_is_left_as_it_is(self, shell, capsys):
        before = jax.lax.scan, jax.lax.fori_loop
        run(shell, f"%%jax --debug\n{self.SCAN.format(n=20)}")
        assert "fwmagic: " not in capsys.readouterr().err
        assert (jax.lax.scan, jax.lax.fori_loop) == before

    @pytest.mark.slow
    def test_a_long_fori_loop_is_told_of(self, shell, capsys):
        run(shell, "%%jax --debug\njax.lax.fori_loop(0, 300, lambda i, s: s + i, 0)")
        assert "jax.lax.fori_loop of 300 steps" in capsys.readouterr().err

    @pytest.mark.slow
    def test_ctrl_c_in_it_leaves_nothing_behind(self, shell):
        run(shell, "import jax, jax.numpy as jnp, numpy as np\nkept = 1")
        before, scan = names(shell), jax.lax.scan
        text = "kept = 2\ndef step(c, x):\n    if x == 50:\n        raise KeyboardInterrupt\n    return c + x, None\n"
        error = fail(shell, f"%%jax --debug\n{text}jax.lax.scan(step, 0.0, jnp.arange(500.0))")
        assert isinstance(error, KeyboardInterrupt)
        assert names(shell) == before
        assert jax.lax.scan is scan


class TestView:
    def test_the_text_fits_a_terminal(self, shell):
        run(shell, PRINTING)
        text = str(view(shell))
        assert max(map(len, text.splitlines())) <= 100
        assert text.splitlines()[0].startswith("%%jax --debug [")

    def test_the_html_quotes_what_it_shows_and_has_no_script(self, shell):
        run(shell, "%%jax --debug -o r\nx = '<script>alert(1)</script>'\nprint('<b>')\njnp.ones(3)")
        page = BeautifulSoup(view(shell).to_html(), "html.parser")
        assert page.find("script") is None
        assert page.find("b") is None or "<b>" not in page.find("b").get_text()
        table = page.find("table")
        heads = [cell.get_text() for cell in table.find_all("th")]
        assert heads == ["line", "code", "while tracing", "without a trace"]
        assert len(table.find("tbody").find_all("tr")) == 4

    def test_it_is_displayed_once_as_html_and_text_and_bound(self, shell):
        shell.display_pub.outputs.clear()
        run(shell, "%%jax --debug -o r\njnp.ones(3)")
        (shown,) = [item["data"] for item in shell.display_pub.outputs]
        assert shown["text/plain"] == str(view(shell))
        assert shown["text/html"] == view(shell).to_html()
        assert shown[LINES_MIME]["run_id"] == view(shell).lines.run_id

    @pytest.mark.slow
    def test_where_reading_stops_within_a_loop_the_last_time_is_named(self, shell, monkeypatch):
        ticks = iter(range(10_000))
        monkeypatch.setattr(record.time, "perf_counter", lambda: 0.01 * next(ticks))
        monkeypatch.setattr(record, "MOST_READING", 0.2)
        run(shell, "%%jax --debug -o r\ntotal = 0\nfor i in range(50):\n    total += i\njnp.float32(total)")
        first, told = row(shell, 4).run
        count = int(re.search(r"time (\d+)", told)[1])
        assert 2 <= count < 50
        assert first == f"50× total: 0 … {count * (count - 1) // 2}"

    @pytest.mark.slow
    def test_a_long_loop_keeps_the_first_and_the_last_values_and_says_what_it_left_out(self, shell, monkeypatch):
        monkeypatch.setattr(record, "MOST_READING", 0.0)
        run(shell, "%%jax --debug -o r\ntotal = 0\nfor i in range(50):\n    total += i\njnp.float32(total)")
        assert row(shell, 4).run[0].startswith("50× total: 0")
        assert any("were not read" in note for note in view(shell).notes)

    @pytest.mark.slow
    def test_a_run_of_very_many_lines_is_followed_for_the_first_ones(self, shell, monkeypatch):
        monkeypatch.setattr(record, "MOST_VISITS", 100)
        assert run(shell, "%%jax --debug -o r\ntotal = 0\nfor i in range(500):\n    total += i\ntotal") == 124750
        assert any("followed for the first" in note for note in view(shell).notes)


@pytest.mark.parametrize(
    ("line", "path"),
    [(2, "Call"), (3, "Name"), (1, "Module")],
)
def test_the_path_to_a_span_leads_to_the_smallest_node(line, path):
    import ast

    source = Source(ast.parse("\nf(1)\nx\n"))
    spans = {1: (1, 1, 0, 0), 2: (2, 2, 0, 4), 3: (3, 3, 0, 1)}
    assert type(source.path_to(*spans[line])[-1]).__name__ == path


HOSTILE = {
    "recursion": "def f(n):\n    return jnp.float32(0) if n == 0 else f(n - 1) + 1\nf(20)",
    "generator": "def numbers():\n    for i in range(3):\n        yield jnp.float32(i)\nsum(numbers())",
    "threads": "import threading\nout = []\nt = threading.Thread(target=lambda: out.append(1))\nt.start()\nt.join()\n"
    "jnp.float32(1)",
    "async": "import asyncio\nasync def g():\n    return jnp.float32(1)\nloop = asyncio.new_event_loop()\n"
    "value = loop.run_until_complete(g())\nloop.close()\nvalue",
    "a repr that raises": "class Odd:\n    def __repr__(self):\n        raise RuntimeError\no = Odd()\njnp.float32(1)",
    "a property that raises": "class Odd:\n    @property\n    def w(self):\n        raise RuntimeError\n"
    "    @w.setter\n    def w(self, value):\n        pass\no = Odd()\no.w = 1\njnp.float32(1)",
    "recursion that ends nowhere": "import sys\ndef f(n):\n    return f(n + 1)\ntry:\n    f(0)\n"
    "except RecursionError:\n    y = jnp.float32(1)\ny",
    "a generator that is left": "def numbers():\n    i = 0\n    while True:\n        yield jnp.float32(i)\n"
    "        i += 1\ng = numbers()\nfirst = next(g)\nsecond = next(g)\ng.close()\nfirst + second",
    "a thread that computes": "import threading\nout = []\n"
    "t = threading.Thread(target=lambda: out.append(jnp.float32(2) * 3))\nt.start()\nt.join()\nout[0]",
    "an asynchronous generator": "import asyncio\nasync def numbers():\n    for i in range(3):\n        yield i\n"
    "async def total():\n    return sum([i async for i in numbers()])\nloop = asyncio.new_event_loop()\n"
    "value = loop.run_until_complete(total())\nloop.close()\njnp.float32(value)",
    "a function that is given other code": "def f(x):\n    return x + 1\ndef g(x):\n    return x * 5\n"
    "f.__code__ = g.__code__\nf(jnp.float32(2))",
    "code that it makes itself": "names = {}\nexec('def h(x):\\n    return x + 2', names)\nnames['h'](jnp.float32(2))",
    "its own text": "import linecache, sys\nlinecache.cache.clear()\njnp.float32(3)",
    "its own history": "text = In[-1] if 'In' in globals() else ''\nIn.append('x = 1')\njnp.float32(len(In) > 0)",
    "a class whose everything raises": "class Odd:\n    def __getattr__(self, name):\n        raise RuntimeError\n"
    "    def __eq__(self, other):\n        raise RuntimeError\n    __hash__ = None\n    def __len__(self):\n"
    "        raise RuntimeError\no = Odd()\njnp.float32(1)",
    "lines of ten thousand turns": "total = 0\nfor i in range(10_000):\n    total += i\njnp.float32(total)",
    "a loop of many turns": "total = 0\nfor i in range(3000):\n    total += i\njnp.float32(total)",
    "its own output": "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out:\n    print('x')\n"
    "jnp.float32(len(out.getvalue()))",
    "another tracer": "import sys\nsys.settrace(None)\njnp.float32(1)",
    "text of several lines": 's = """a\nb"""\njnp.float32(len(s))',
    "nothing": "pass",
    "a definition": "def f(x):\n    return x",
    "an exception that is caught": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    y = jnp.float32(1)\ny",
}


@pytest.mark.slow
def test_a_cell_of_ten_thousand_lines_is_diagnosed_and_shown_in_part(shell):
    lines = [f"    x = x + {i % 7}" for i in range(10_000)]
    text = "\n".join(["def f(x):", *lines, "    if x > 3:", "        return x", "    return -x", "f(jnp.float32(0))"])
    run(shell, "import jax, jax.numpy as jnp")
    assert float(run(shell, f"%%jax --debug -o r\n{text}")) == sum(i % 7 for i in range(10_000))
    assert len(view(shell).rows) == 10_006
    assert len(str(view(shell)).splitlines()) < 1_000
    assert len(view(shell).to_html()) < 500_000
    assert any("lines are shown" in note for note in view(shell).notes)


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_odd_cells_run_and_are_shown(shell, text):
    plain = shell.run_cell(f"import jax, jax.numpy as jnp\n{text}").result
    value = run(shell, f"%%jax --debug -o r\n{text}")
    assert (value is None) is (plain is None)
    assert value is None or float(value) == float(plain)
    assert max(map(len, str(view(shell)).splitlines())) <= 100
    assert view(shell).to_html()
