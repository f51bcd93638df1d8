"""A %%compare cell: sections against each other, with the notebook afterwards as before."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cells import fail, generators, names, run, shown, untouched

from fwmagic.cells.function import LAST

QUICK = "--budget 0.1"
torch_compiles = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def report(shell):
    return shell.user_ns["r"]


def compare(shell, text, options=""):
    """Run a %%compare cell that must succeed and return its report."""
    run(shell, f"%%compare {QUICK} {options} -o r\n{text}")
    return report(shell)


SUM = LAST


class TestVariants:
    def test_any_number_of_sections_by_name(self, shell):
        text = "%%numpy\n1\n%%numpy\n2\n%%jax third\njnp.ones(3)\n%%numpy\n4"
        found = compare(shell, text)
        assert [variant.name for variant in found] == ["numpy", "numpy2", "third", "numpy3"]
        assert [variant.framework for variant in found] == ["numpy", "numpy", "jax", "numpy"]
        assert found["third"].outputs[SUM].tolist() == [1, 1, 1]

    def test_one_section_alone(self, shell):
        found = compare(shell, "%%numpy\nnp.ones(3)")
        assert found["numpy"].status == "timed"
        assert found.ratios == ()

    def test_a_section_in_several_modes(self, shell):
        found = compare(shell, "%%jax\njnp.ones(3)\n%%numpy --mode eager\n1", "--mode all")
        assert [variant.name for variant in found] == ["jax:eager", "jax:compiled", "numpy"]
        assert found.ratio("jax:compiled", over="jax:eager").variant == "jax:compiled"

    def test_a_section_has_options_of_its_own(self, shell):
        found = compare(shell, "%%numpy a --items 10\n1\n%%numpy b --items 20\n1\n%%numpy c\n1")
        rates = [variant.time.items_per_second for variant in found]
        assert rates[2] is None
        assert rates[:2] == [pytest.approx(n / found[v].time.median) for n, v in ((10, "a"), (20, "b"))]

    def test_the_verdict_is_over_the_baseline(self, shell, idle):
        body = "%%numpy a\nnp.ones(10).sum()\n%%numpy b\nnp.ones(100_000).cumsum().sum()"
        found = compare(shell, body, "--margin 0.1")
        assert (found.baseline, found.fastest) == ("a", "a")
        assert found.ratio("b").verdict == "slower"
        assert found.margin == 0.1
        found = compare(shell, body, "--baseline b")
        assert found.baseline == "b"
        assert found.ratio("a").verdict == "faster"
        assert (found.ratio("a", over="b").variant, found.ratio("b", over="a").variant) == ("a", "b")

    @torch_compiles
    def test_three_frameworks_on_the_same_numbers(self, shell):
        setup = "%%setup\nW = np.random.default_rng(0).standard_normal((8, 8))\n"
        body = "%%torch\n(W @ W).sum()\n%%jax\n(W @ W).sum()\n%%numpy\n(W @ W).sum()"
        found = compare(shell, setup + body)
        assert [variant.agreement.status for variant in found] == ["agrees", "agrees", "agrees"]
        assert {type(variant.outputs[SUM]).__module__.split(".")[0] for variant in found} == {
            "torch",
            "jaxlib",
            "numpy",
        }
        assert found["torch"].compilation.way == found["jax"].compilation.way == "cell"
        assert "W from float64 to float32" in found.conditions.inputs
        assert set(found.conditions.versions) >= {"python", "torch", "jax", "numpy"}


def test_what_a_section_imports_first_is_left_as_its_import_left_it(shell, monkeypatch, tmp_path):
    code = "calls = []\ndef scaled(v):\n    calls.append(1)\n    return v * len(calls)\n"
    (tmp_path / "fwmagic_lazy.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    body = "try:\n    import fwmagic_lazy\nexcept ImportError:\n    pass\nfwmagic_lazy.scaled(np.ones(3))"
    found = compare(shell, f"%%numpy a\n{body}\n%%numpy b\nnp.ones(3)")
    assert found["b"].agreement.status == "agrees"
    assert sys.modules.pop("fwmagic_lazy").calls == []


class TestSetup:
    def test_an_error_of_ours_is_not_said_to_be_its(self, shell):
        run(shell, "import threading\nlock = threading.Lock()")
        fail(shell, f"%%compare {QUICK} --isolate\n%%setup\nx = 1\n%%numpy\nlock, np.ones(3)")
        (variant,) = shown(shell)[-1]
        assert variant.failure.message.startswith("`lock` cannot be sent to a process of its own")

    def test_it_runs_once(self, shell, monkeypatch):
        monkeypatch.setattr(textwrap, "log", SimpleNamespace(noted=[]), raising=False)  # so deep, nothing is put back
        setup = "import textwrap\ntextwrap.log.noted.append(1)\nk = 3"
        compare(shell, f"%%setup\n{setup}\n%%numpy a\nk + 1\n%%numpy b\nk + 2")
        assert textwrap.log.noted == [1]

    def test_its_arrays_reach_each_section_in_its_framework(self, shell):
        setup = "%%setup\nimport math\nA = np.arange(3)\nboth = {'A': A, 'list': [A, 'text']}\nk = math.pi\n"
        kinds = "[type(A).__module__.split('.')[0], type(both['list'][0]).__module__.split('.')[0], k]"
        found = compare(shell, f"{setup}%%torch --mode eager\n{kinds}\n%%jax --mode eager\n{kinds}\n%%numpy\n{kinds}")
        assert found["torch"].outputs[SUM][:2] == ["torch", "torch"]
        assert found["jax"].outputs[SUM][0].startswith("jax")
        assert found["numpy"].outputs[SUM][:2] == ["numpy", "numpy"]

    def test_a_section_that_changes_an_array_changes_its_own_copy(self, shell):
        body = "%%numpy a\nA += 1\nA.sum()\n%%numpy b\nA.sum()\n%%torch --mode eager\nA += 1\nA.sum()"
        found = compare(shell, "%%setup\nA = np.zeros(3)\n" + body)
        assert [float(variant.outputs[SUM]) for variant in found] == [3, 0, 3]

    @pytest.mark.parametrize(("option", "setup"), [("--inputs W", ""), ("", "%%setup\nW = W.copy()\n")])
    def test_equal_sections_of_one_framework_have_their_arrays_at_one_address(self, shell, option, setup):
        run(shell, "import numpy as np\nW = np.zeros(3, np.float32)")
        body = "%%numpy a\nW.ctypes.data\n%%numpy b\nW.ctypes.data\n%%torch --mode eager\nW.data_ptr()"
        first, second, other = (one.outputs[SUM] for one in compare(shell, setup + body, f"--no-check {option}"))
        assert first == second
        assert len({first, other, shell.user_ns["W"].ctypes.data}) == 3

    def test_what_it_prints_is_not_shown(self, shell, capsys):
        compare(shell, "%%setup\nprint('from setup')\n%%numpy\nprint('from a section')\n1")
        assert capsys.readouterr().out == ""

    def test_an_error_in_it_ends_the_cell_with_its_line(self, shell):
        with untouched(shell):
            error = fail(shell, f"%%compare {QUICK}\n%%setup\nx = 1\n1 / 0\n%%numpy\n1")
        assert isinstance(error, ZeroDivisionError)
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        assert trace.tb_lineno == 4
        assert (shown(shell)[-1].state, shown(shell)[-1].note) == (
            "failed",
            "%%setup failed at line 4 with ZeroDivisionError: division by zero; the notebook is as before the cell",
        )
        assert {variant.status for variant in shown(shell)[-1]} == {"not timed"}


STATE = """
import torch, numpy as np, random, jax, jax.numpy as jnp
torch.manual_seed(1)
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(net.parameters())
array, items, table = np.zeros(3), [1, 2], {"a": 1}
counter = 0
def bump():
    global counter
    counter += 1
    items.append(counter)
"""
CHANGES = {
    "names": "fresh = 1\nk = fresh + 1\nk",
    "rebinding": "array = array + 1\narray",
    "array": "array += 1\narray.sum()",
    "list": "items.append(3)\nlen(items)",
    "dict": "table['b'] = 2\nlen(table)",
    "global": "bump()\ncounter",
    "random": "random.random() + np.random.rand()",
    "definition": "def bump():\n    return 3\nbump()",
    "import": "import math\nmath.pi",
    "deletion": "del table\n1",
}


class TestAsBefore:
    @pytest.mark.parametrize("change", CHANGES)
    def test_the_notebook_is_as_before(self, shell, change):
        run(shell, STATE)
        before = content(shell)
        with untouched(shell):
            run(shell, f"%%compare {QUICK}\n%%numpy a\n{CHANGES[change]}\n%%numpy b\n{CHANGES[change]}")
        assert content(shell) == before

    def test_a_training_step_trains_nothing(self, shell):
        run(shell, STATE)
        before = content(shell)
        step = "optimizer.zero_grad()\nloss = net(torch.ones(2, 3)).sum()\nloss.backward()\noptimizer.step()\nloss"
        with untouched(shell):
            run(shell, f"%%compare {QUICK}\n%%torch --mode eager\n{step}\n%%numpy\n1")
        assert content(shell) == before
        assert all(parameter.grad is None for parameter in shell.user_ns["net"].parameters())

    def test_also_after_an_error(self, shell):
        run(shell, STATE)
        before = content(shell)
        with untouched(shell):
            fail(shell, f"%%compare {QUICK}\n%%numpy a\nitems.append(1)\narray += 1\n1 / 0\n%%numpy b\nbump()")
        assert content(shell) == before

    def test_frameworks_are_bound_inside_a_section_only(self, shell):
        run(shell, f"%%compare {QUICK}\n%%jax\njnp.ones(3)\n%%torch --mode eager\ntorch.ones(3)")
        assert names(shell) == {}

    def test_a_section_does_not_see_what_another_one_did(self, shell):
        run(shell, STATE)
        found = compare(shell, "%%numpy a\nitems.append(3)\nlen(items)\n%%numpy b\nlen(items)")
        assert [variant.outputs[SUM] for variant in found] == [3, 2]

    def test_every_run_of_a_section_starts_alike(self, shell):
        run(shell, STATE)
        shell.user_ns["seen"] = type("Seen", (), {"__slots__": (), "add": lambda self, n: lengths.append(n)})()
        lengths = []
        compare(shell, "%%numpy\nitems.append(1)\nlen(items)")
        assert report(shell)["numpy"].outputs[SUM] == 3

    def test_random_sections_start_alike_and_agree_if_they_draw_alike(self, shell):
        run(shell, "import numpy as np\nnp.random.seed(4)")
        found = compare(shell, "%%numpy a\nnp.random.rand()\n%%numpy b\nnp.random.rand()\n%%numpy c\nnp.random.randn()")
        assert found["a"].outputs[SUM] == found["b"].outputs[SUM]
        assert found["b"].agreement.sentence == "b agrees with a exactly"
        assert found["c"].agreement.status == "not compared"
        assert "random" in found["c"].agreement.sentence

    def test_seed(self, shell):
        expected = np.random.RandomState(3).rand()
        with untouched(shell):
            run(shell, f"%%compare {QUICK} --seed 3\n%%numpy a\nx = np.random.rand()\nx")
        found = compare(shell, "%%numpy a\nnp.random.rand()\n%%numpy b\nnp.random.rand()", "--seed 3")
        assert [variant.outputs[SUM] for variant in found] == [expected, expected]

    def test_a_seed_for_each_section(self, shell):
        before = generators()
        found = compare(shell, "%%numpy a --seed 3\nnp.random.rand()\n%%numpy b --seed 4\nnp.random.rand()")
        assert [variant.outputs[SUM] for variant in found] == [np.random.RandomState(n).rand() for n in (3, 4)]
        assert generators() == before


def content(shell):
    """Return what the names of STATE hold, comparable."""
    values = shell.user_ns
    net, optimizer = values["net"], values["optimizer"]
    return (
        [p.tolist() for p in net.parameters()],
        str(optimizer.state_dict()),
        values["array"].tolist(),
        list(values["items"]),
        dict(values["table"]),
        values["counter"],
        values["bump"].__code__,
    )


class TestFailures:
    BODY = "%%numpy good\nnp.ones(3)\n%%jax bad\nx = 1\n\nx / 0\n%%numpy other\nnp.zeros(3)"

    def test_one_that_raises_fails_alone_and_the_cell_ends_in_an_error(self, shell):
        with untouched(shell):
            error = fail(shell, f"%%compare {QUICK}\n{self.BODY}")
        assert isinstance(error, ZeroDivisionError)
        found = shown(shell)[-1]
        assert [variant.status for variant in found] == ["timed", "failed", "timed"]
        failure = found["bad"].failure
        assert (failure.error, failure.message, failure.line) == ("ZeroDivisionError", "division by zero", 7)
        assert found.ratio("other", over="good").median > 0
        assert found.state == "failed"
        assert "bad failed, line 7: ZeroDivisionError" in str(found)

    def test_keep_going_ends_in_no_error(self, shell):
        found = compare(shell, self.BODY, "--keep-going")
        assert [variant.status for variant in found] == ["timed", "failed", "timed"]
        assert found.state == "failed"

    def test_the_report_is_bound_also_if_it_fails(self, shell):
        fail(shell, f"%%compare {QUICK} -o r\n{self.BODY}")
        assert report(shell)["bad"].status == "failed"

    def test_definitions_that_raise(self, shell):
        found = compare(shell, "%%numpy a\nimport no_such_module\n1\n%%numpy b\n2", "--keep-going")
        failure = found["a"].failure
        assert (failure.error, failure.line, failure.stage) == ("ModuleNotFoundError", 3, "definitions")
        assert found["b"].status == "timed"

    def test_all_of_them(self, shell):
        found = compare(shell, "%%numpy a\n1 / 0\n%%numpy b\n{}['x']", "--keep-going")
        assert [variant.failure.error for variant in found] == ["ZeroDivisionError", "KeyError"]

    def test_one_that_fails_only_while_it_is_timed(self, shell):
        run(shell, "tickets = iter(range(3))")
        found = compare(shell, "%%numpy a --repeat-effects\nnext(tickets)\n%%numpy b\n2", "--keep-going")
        failure = found["a"].failure
        assert (failure.error, failure.line, failure.stage) == ("StopIteration", 3, "timing")
        assert found["b"].status == "timed"

    def test_compiled_fails_where_auto_would_fall_back(self, shell):
        text = "%%jax --mode compiled\nx = jnp.ones(3)\nx if x[0] > 0 else -x\n%%numpy\n1"
        error = fail(shell, f"%%compare {QUICK}\n{text}")
        assert "line 4" in str(error)
        assert [variant.status for variant in shown(shell)[-1]] == ["failed", "timed"]

    def test_what_reads_the_keyboard(self, shell):
        found = compare(shell, "%%numpy a\nint(input())\n%%numpy b\n2", "--keep-going")
        assert found["a"].status == "failed"
        assert "reads from the keyboard" in found["a"].failure.message
        assert found["b"].status == "timed"


class TestRunOnce:
    def test_a_section_with_effects_runs_once_and_is_not_compared(self, shell, tmp_path):
        log = tmp_path / "log"
        text = f"%%numpy a\nwith open(r'{log}', 'a') as file:\n    file.write('x')\n1\n%%numpy b\n2"
        found = compare(shell, text)
        assert not log.exists()
        assert [variant.status for variant in found] == ["run-once", "timed"]
        assert "line 3: writes `" in found["a"].note
        assert found.ratios == ()
        found = compare(shell, text, "--repeat-effects")
        assert [variant.status for variant in found] == ["timed", "timed"]
        assert len(log.read_text()) > 3

    def test_a_section_that_uses_up_an_iterator(self, shell):
        run(shell, "rest = iter([1, 2, 3])")
        found = compare(shell, "%%numpy a\nnext(rest)\n%%numpy b\n2")
        assert found["a"].status in ("run-once", "not timed")
        assert "`rest` cannot be put back" in found["a"].note


class TestAgreement:
    @pytest.mark.parametrize(
        ("other", "status", "said"),
        [
            ("np.arange(3.0)", "agrees", ""),
            ("np.arange(3.0) + 1", "differs", "[0]"),
            ("np.arange(4.0)", "differs", "shape"),
            ("np.arange(3)", "differs", "dtype"),
            ("(np.arange(3.0),)", "differs", "tuple"),
        ],
    )
    def test_sections_are_compared_with_the_first(self, shell, other, status, said):
        found = compare(shell, f"%%numpy a\nnp.arange(3.0)\n%%numpy b\n{other}")
        assert found["b"].agreement.status == status
        assert found["b"].agreement.reference == "a"
        assert said in found["b"].agreement.sentence
        assert ("FW401" in {finding.code for finding in found.findings}) is (status == "differs")

    def test_no_check(self, shell):
        found = compare(shell, "%%numpy a\n1\n%%numpy b\n2", "--no-check")
        assert found["b"].agreement is None

    def test_no_check_for_one_section(self, shell):
        found = compare(shell, "%%numpy a\n1\n%%numpy b --no-check\n2\n%%numpy c\n3")
        assert found["b"].agreement is None
        assert found["c"].agreement.status == "differs"

    def test_nothing_to_compare_is_said(self, shell):
        found = compare(shell, "%%numpy a\nx = np.ones(3)\n%%numpy b\ny = np.ones(3)")
        assert found["b"].agreement.status == "not compared"
        assert "end both sections with the value to compare" in found["b"].agreement.sentence


class TestInputs:
    def test_a_notebook_array_reaches_both_frameworks(self, shell):
        run(shell, "import torch\nA = torch.arange(4.0)")
        body = "%%torch --mode eager\nA *= 2\nA.sum()\n%%jax\n(A * 2).sum()\n%%numpy\n(A * 2).sum()"
        found = compare(shell, body, "--inputs A")
        assert [float(variant.outputs[SUM]) for variant in found] == [12, 12, 12]
        assert [variant.agreement.status for variant in list(found)[1:]] == ["agrees", "agrees"]
        assert shell.user_ns["A"].tolist() == [0, 1, 2, 3]
        assert isinstance(shell.user_ns["A"], torch.Tensor)

    def test_a_section_of_its_own(self, shell):
        run(shell, "import numpy as np\nA = np.arange(4.0)")
        kind = "type(A).__module__.split('.')[0]"
        found = compare(shell, f"%%torch --inputs A --mode eager\n{kind}\n%%torch b --mode eager\n{kind}")
        assert [variant.outputs[SUM] for variant in found] == ["torch", "numpy"]


class TestTiming:
    def test_the_budget_is_for_all_together(self, shell):
        started = time.perf_counter()
        found = compare(shell, "\n".join(f"%%numpy s{i}\nnp.ones(100)" for i in range(4)))
        assert found.spent <= 0.2
        assert time.perf_counter() - started < 5

    def test_a_long_section_is_called_at_most_four_times(self, shell, tmp_path):
        calls = tmp_path / "calls"

        # A file that is opened in the cell would be put back, and the cell would run once.
        end = os.open(calls, os.O_CREAT | os.O_WRONLY)

        def slow():
            os.write(end, b"x")
            time.sleep(0.6)

        shell.user_ns["slow"] = slow
        found = compare(shell, "%%numpy a\nslow()\n1\n%%numpy b\n2")
        os.close(end)
        assert 1 <= len(calls.read_text()) <= 4
        assert found["a"].time.median >= 0.6

    def test_a_section_of_a_tenth_of_a_microsecond(self, shell, untraced):
        found = compare(shell, "%%numpy a\n1\n%%numpy b\n2")
        assert all(variant.time.median < 1e-6 for variant in found)
        assert [f.variant for f in found.findings if f.code == "FW301"] == ["a", "b"]

    def test_unchanged_sections_are_not_compiled_again(self, shell):
        from oracle import witness

        text = "%%setup\nA = np.arange(4.0)\n%%jax\n(A * 23).sum()\n%%numpy\n(A * 23).sum()"
        assert compare(shell, text)["jax"].compilation.cache == "cold"
        with witness() as compilers:
            found = compare(shell, text)
        assert compilers.names() == set()
        assert found["jax"].compilation.cache == "reused"
        assert found["jax"].agreement.status == "agrees"


def test_a_section_does_not_see_what_the_calls_of_another_one_changed(shell):
    run(shell, "queue = list(range(1000))")
    found = compare(shell, "%%numpy a\nqueue.clear()\n1\n%%numpy b\nassert len(queue) == 1000\n1", "--mode eager")
    assert [variant.status for variant in found] == ["timed", "timed"]


class TestDefinitions:
    """What definitions change besides their names is there for their own section only."""

    SETUP = """
import functools
@functools.singledispatch
def area(shape): return 0
handlers = {}
def kept(f):
    handlers["f"] = f
    return f
"""

    def test_a_registration_is_seen_by_its_own_section_only(self, shell):
        run(shell, self.SETUP)
        section = "@area.register\ndef _(shape: int): return {0}\nnp.full(3, area(5))"
        with untouched(shell):
            found = compare(
                shell, f"%%numpy a\n{section.format(1)}\n%%numpy b\n{section.format(2)}\n%%numpy c\narea(5)"
            )
            del shell.user_ns["r"]
        assert [variant.status for variant in found] == ["timed"] * 3
        assert [np.ravel(variant.outputs[SUM])[0] for variant in found] == [1, 2, 0]
        assert (shell.user_ns["area"](5), len(shell.user_ns["area"].registry)) == (0, 1)

    def test_so_is_what_a_decorator_keeps(self, shell):
        run(shell, self.SETUP)
        section = "@kept\ndef f(): return np.ones(3) * {0}\nhandlers['f']()"
        found = compare(shell, f"%%numpy a\n{section.format(1)}\n%%numpy b\n{section.format(2)}")
        assert [variant.outputs[SUM][0] for variant in found] == [1, 2]
        assert shell.user_ns["handlers"] == {}

    def test_and_nothing_is_left_of_definitions_that_fail(self, shell):
        run(shell, self.SETUP)
        error = fail(shell, f"%%compare {QUICK}\n%%numpy a\n@kept\ndef f(): pass\n@nothing\ndef g(): pass\n1")
        assert isinstance(error, NameError)
        assert shell.user_ns["handlers"] == {}


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        ("v.mul_(2)\nx.sum()", "v.mul_(3)\nx.sum()", "v[0]"),
        ("opt.step()\nx.sum()", "opt.step()\nopt.step()\nx.sum()", "opt.param_groups[0]['params'][0][0, 0]"),
        ("v.mul_(2)\nx.sum()", "v.add_(v)\nx.sum()", None),
        ("v.mul_(2)\nx.sum()", "u.mul_(3)\nx.sum()", None),
    ],
    ids=["in place", "a step too many", "the same", "another one"],
)
def test_what_two_sections_change_is_compared_as_their_results_are(shell, one, other, path):
    run(
        shell,
        "import torch\ntorch.manual_seed(0)\nv, u, x = torch.ones(3), torch.ones(3), torch.ones(2, 3)\n"
        "net = torch.nn.Linear(3, 3)\nopt = torch.optim.SGD(net.parameters(), 0.1)\nnet(x).sum().backward()",
    )
    report = compare(shell, f"%%torch a --mode eager\n{one}\n%%torch b --mode eager\n{other}")
    found = report["b"].agreement
    assert (found.status, found.path) == (("agrees", None) if path is None else ("differs", path))


def test_what_code_can_tell_of_the_notebook_is_as_in_a_cell(shell):
    run(shell, "def build(): return 3\ndef made(name): return globals()[name]()\nalias, table = build, {build: 7}")
    text = "%%numpy a\nmade('build'), build is alias, table[build]\n%%numpy b\nfrom math import *\nsin(pi / 2)\n"
    text += "%%numpy c\ntry:\n    n\nexcept NameError:\n    n = build()\nn * 2"
    with untouched(shell):
        found = compare(shell, text, "--mode eager")
        del shell.user_ns["r"]
    assert [variant.outputs[SUM] for variant in found] == [(3, True, 7), 1.0, 6]


def test_arrays_in_files_that_are_only_read(shell, tmp_path):
    np.save(tmp_path / "q.npy", np.arange(6.0, dtype=np.float32))
    setup = f"import numpy as np\nq = np.load({str(tmp_path / 'q.npy')!r}, mmap_mode='r')"
    sections = "%%torch a\nq.sum()\n%%jax b\nq.sum()\n%%numpy c\ntype(q).__name__ == 'memmap' and q.sum()"
    run(shell, f"%%compare {QUICK} -o r\n%%setup\n{setup}\n{sections}")
    assert [variant.status for variant in shell.user_ns["r"]] == ["timed"] * 3
    assert [variant.agreement and variant.agreement.status for variant in shell.user_ns["r"]][1:] == ["agrees"] * 2


HABITS = {
    "std": ("x.std(1)", "x.std(1)", "jnp.std divides by n, torch.std by n - 1"),
    "var": ("torch.var(x, dim=0) ** 2", "jnp.var(x, axis=0) ** 2", "jnp.var divides by n, torch.var by n - 1"),
    "median": ("x.median(1).values", "jnp.median(x, 1)", "torch.median takes the lower of two values in the middle"),
    "gelu": ("torch.nn.GELU()(x)", "jax.nn.gelu(x)", "jax.nn.gelu approximates with tanh unless approximate=False"),
    "epsilon": (
        "torch.nn.functional.layer_norm(x * 1e-3, (8,))",
        "import flax.linen as nn\nparams = {'scale': jnp.ones(8), 'bias': jnp.zeros(8)}\n"
        "nn.LayerNorm().apply({'params': params}, x * 1e-3)",
        "the epsilon of a LayerNorm is 1e-6 in flax, and 1e-5 in torch",
    ),
    "momentum": (
        "mean, var = torch.zeros(8), torch.ones(8)\n"
        "torch.nn.functional.batch_norm(x, mean, var, training=True, momentum=0.1)\nmean",
        "import flax.linen as nn\nnorm = nn.BatchNorm(False, momentum=0.1)\n"
        "state = {'params': {'scale': jnp.ones(8), 'bias': jnp.zeros(8)},\n"
        "         'batch_stats': {'mean': jnp.zeros(8), 'var': jnp.ones(8)}}\n"
        "norm.apply(state, x, mutable=['batch_stats'])[1]['batch_stats']['mean']",
        "flax's momentum is the share that is kept, torch's the new one",
    ),
    "weight decay": (
        "w = torch.nn.Parameter(x.clone()); w.grad = torch.ones_like(w)\ntorch.optim.AdamW([w], 0.1).step()\nw",
        "import optax\nopt = optax.adamw(0.1)\nw = x + 0\nw + opt.update(jnp.ones_like(w), opt.init(w), w)[0]",
        "adamw decays weights by 1e-4 in optax, and by 1e-2 in torch",
    ),
    "mode": (
        "net = torch.nn.BatchNorm1d(8)\nnet(x)",
        "x / jnp.sqrt(1 + 1e-5)",
        "modules of torch are in training mode: in evaluation mode it gives the same",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HABITS)
def test_what_two_frameworks_do_by_default_is_a_cause_where_the_numbers_bear_it_out(shell, kind):
    ours, theirs, cause = HABITS[kind]
    setup = "%%setup\nx = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)\n"
    report = compare(shell, f"{setup}%%torch --mode eager\n{ours}\n%%jax --mode eager\n{theirs}")
    assert f"; the cause: {cause}" in report["jax"].agreement.sentence
    report = compare(shell, f"{setup}%%torch --mode eager\n{ours}\n%%jax --mode eager\n{theirs.rstrip()} + 3")
    assert report["jax"].agreement.status == "differs"
    assert "cause" not in report["jax"].agreement.sentence


def test_the_mode_of_modules_is_a_cause_where_the_outputs_agree_in_one_mode(shell):
    run(shell, "import torch\nx = torch.ones(4, 3) * torch.arange(4.0)[:, None]\n")
    run(shell, "net, other = torch.nn.Sequential(torch.nn.BatchNorm1d(3)), torch.nn.BatchNorm1d(3, eps=1)")
    run(shell, "other.eval()\ndrop = torch.nn.Dropout(0.5)")
    cell = "%%torch a --mode eager\n{}\n%%torch b --mode eager\n{}"
    said = {}
    for name, texts in {
        "forwards": ("net.train()\nnet(x)", "net.eval()\nnet(x)"),
        "backwards": ("net.eval()\nnet(x)", "net.train()\nnet(x)"),
        "dropout": ("drop.train()\ndrop(x)", "drop.eval()\ndrop(x)"),
        "another": ("net.train()\nnet(x)", "other(x)"),
    }.items():
        with untouched(shell):
            report = compare(shell, cell.format(*texts))
            del shell.user_ns["r"]
        said[name] = report["b"].agreement.sentence
    cause = "; the cause: modules of {} are in training mode: in evaluation mode it gives the same"
    assert said["forwards"].endswith(cause.format("a"))
    assert said["backwards"].endswith(cause.format("b"))
    assert said["dropout"].endswith(cause.format("a"))
    assert "cause" not in said["another"]


ONE_SIDED = {
    "trains": (
        "loss = net(x).sum()\nloss.backward()\nopt.step()\nloss.detach()",
        "net(x).sum().detach()",
        "`opt`",
    ),
    "a gradient": ("w.sum().backward()\nx.sum()", "x.sum()", "`w`"),
    "a name": ("s = torch.linalg.svdvals(x)\nx.sum()", "x.sum()", "`s`"),
    "a list": ("log.append(torch.linalg.svdvals(x))\nx.sum()", "x.sum()", "`log`"),
    "a count": ("n = 3\nx.sum()", "x.sum()", ""),
    "both": ("s = x * 2\nx.sum()", "t = x * 2\nx.sum()", ""),
    "the same": ("log.append(x * 2)\nx.sum()", "log.append(x * 2)\nx.sum()", ""),
}


@pytest.mark.parametrize("kind", ONE_SIDED)
def test_what_only_one_of_two_sections_leaves_is_said(shell, kind):
    more, less, what = ONE_SIDED[kind]
    run(
        shell,
        "import torch\ntorch.manual_seed(0)\nx, w, log = torch.randn(8, 3), torch.ones(3, requires_grad=True), []",
    )
    run(shell, "net = torch.nn.Linear(3, 2)\nopt = torch.optim.SGD(net.parameters(), 0.1)")
    for order in (0, 1):
        texts = (more, less)[:: -1 if order else 1]
        sections = "".join(f"%%torch {name} --mode eager\n{text}\n" for name, text in zip("ab", texts, strict=True))
        report = compare(shell, sections)
        found = [finding for finding in report.findings if finding.code == "FW405"]
        assert [one.variant for one in found] == ["b"] * bool(what)
        said = [one.sentence.partition(": ")[0] for one in found]
        assert said == [f"only {'ab'[order]} binds or changes {what}"] * bool(what)
