"""The memory passes of `%%torch`, `%%jax` and `%%compare`: what a cell needed, apart from its timing."""

from __future__ import annotations

import re
import sys
import threading

import pytest
from cells import fail, generators, names, run, shown, untouched
from IPython.core.error import UsageError

import fwmagic
from fwmagic.measure.calls import Local
from fwmagic.memory import host, nvml
from fwmagic.report import Report

pytestmark = pytest.mark.memory

MIB = 1 << 20
#: A cell of each framework that has one array of 32 MiB for a moment, and returns a number.
CELLS = {
    "torch": "torch.ones(8 << 20).sum()",
    "jax": "jnp.ones(8 << 20).sum()",
    "numpy": "np.ones(8 << 20, np.float32).sum()",
}


def report_of(shell, cell) -> Report:
    run(shell, cell)
    return shown(shell)[-1]


def ledger(report, name, device, how="measured"):
    return next((one for one in report[name].memory if (one.device, one.how) == (device, how)), None)


def in_use(one):
    (amount,) = (amount for amount in one.peak if amount.kind == "in use")
    return amount.bytes


def compare(options, *cells):
    sections = "\n".join(f"%%{name.split()[0]} --mode eager\n{text}" for name, text in cells)
    return f"%%compare --budget 0.1 {options}\n{sections}"


class TestByDefault:
    @pytest.mark.parametrize("framework", CELLS)
    def test_the_growth_of_resident_memory_is_in_every_report(self, shell, framework):
        report = report_of(shell, compare("", (framework, CELLS[framework])))
        found = ledger(report, framework, "host")
        assert in_use(found) == pytest.approx(32 * MIB, abs=MIB)
        assert found.start > 50 * MIB
        assert "VmHWM" in found.peak[0].source
        assert len(found.timeline) >= 2
        assert max(found.timeline.in_use) <= in_use(found)
        assert "sampled" in found.source or "read at the start" in found.source
        assert ledger(report, framework, "heap") is None

    def test_both_variants_are_on_one_scale_in_the_text(self, shell):
        report = report_of(shell, compare("", *CELLS.items()))
        text = report.details()
        # Up to the upper bound, where memory that was freed before may have been used again: as much as there is of it.
        assert re.search(r"memory at the peak, 0 to \d+(\.\d+)? MiB", text)
        bars = [line for line in text.splitlines() if ", host" in line and ("█" in line or "╌" in line)]
        assert len(bars) == 3
        assert max(line.count("█") for line in bars) > 0
        assert re.search(r"3[12]\.\d( to \d+(\.\d+)?)? MiB \(host\)", text)

    def test_a_cell_of_one_framework(self, shell):
        report = report_of(shell, f"%%torch --mode eager --budget 0.1\n{CELLS['torch']}")
        assert in_use(ledger(report, "torch", "host")) == pytest.approx(32 * MIB, abs=MIB)

    def test_a_jitted_cell_has_its_static_analysis_and_it_is_labelled(self, shell):
        run(shell, "import jax.numpy as jnp\nx = jnp.ones((1024, 1024))")
        report = report_of(shell, "%%jax --budget 0.1\n(x @ x).sum()")
        found = ledger(report, "jax", "CPU", "static")
        (amount,) = found.peak
        assert amount.kind == "in use"
        assert "peak on CPU (static): in use (static) " in report.details()
        assert amount.bytes >= 4 * MIB
        assert "not measured" in amount.source
        assert "4.00 MiB arguments" in amount.source

    def test_callables(self):
        import numpy as np

        report = fwmagic.compare({"a": lambda: np.ones(8 << 20, np.float32).sum()}, budget=0.05)
        assert in_use(ledger(report, "a", "host")) == pytest.approx(32 * MIB, abs=MIB)
        assert fwmagic.compare({"a": lambda: 1}, budget=0.05, memory=False)["a"].memory == ()

    def test_the_configuration_turns_it_off(self, shell):
        run(shell, "%config FwMagics.memory = False")
        assert report_of(shell, compare("", ("numpy", CELLS["numpy"])))["numpy"].memory == ()


def test_no_memory_turns_it_off(shell):
    report = report_of(shell, compare("--no-memory", ("numpy", CELLS["numpy"])))
    assert report["numpy"].memory == ()
    assert "memory at the peak" not in report.details()


class TestTheTimingPass:
    def test_has_no_thread_no_hook_and_no_nvml_call_of_ours(self, shell, monkeypatch):
        """While blocks run there is what was there before, though memory is measured afterwards, with all its hooks."""
        seen, calls, measured = [], [], []
        block, measure = Local.block, host.measure
        before = threading.active_count()

        def watched(self, *arguments):
            found = block(self, *arguments)
            seen.append((threading.active_count() - before, sys.getprofile(), sys.gettrace(), len(calls)))
            return found

        def reading(*arguments, **keywords):
            calls.append(arguments)
            raise AssertionError("NVML was asked")

        monkeypatch.setattr(Local, "block", watched)
        monkeypatch.setattr(nvml, "read", reading)
        monkeypatch.setattr(host, "measure", lambda *a, **k: (measured.append(len(seen)), measure(*a, **k))[1])
        trace = sys.gettrace()
        cell = compare("--memray", ("numpy", CELLS["numpy"]), ("numpy b", CELLS["numpy"]))
        report_of(shell, cell.replace("--budget 0.1", "--budget 1"))
        assert len(seen) > 10
        assert {(threads, profile, calls) for threads, profile, _, calls in seen} == {(0, None, 0)}
        assert {hook for _, _, hook, _ in seen} == {trace}
        assert measured == [len(seen)] * 2, "memory is measured when all timing is over"

    def test_a_slow_cell_is_run_four_times_at_most(self, shell):
        run(shell, "import numpy as np, builtins; builtins.count = 0")
        cell = "import builtins\nbuiltins.count += 1\nimport time\ntime.sleep(0.6)\nnp.ones(3)"
        run(shell, f"%%compare --budget 0.2 --repeat-effects --no-check\n%%numpy\n{cell}")
        assert shell.user_ns["builtins"].count <= 4


class TestMemray:
    def test_the_line_that_allocated_is_named(self, shell):
        text = "a = 1\nb = 2\nc = torch.ones(16 << 20)\nc.sum() * (a + b)"
        report = report_of(shell, f"%%torch --mode eager --memray --budget 0.1\n{text}")
        heap = ledger(report, "torch", "heap")
        assert in_use(heap) == pytest.approx(64 * MIB, rel=0.02)
        assert heap.lines[0].line == 4
        assert heap.lines[0].bytes == pytest.approx(64 * MIB, rel=1e-3)
        assert "line 4 64.0 MiB" in report.details()

    @pytest.mark.slow
    def test_what_jax_allocates_in_its_own_threads_is_inside_xla(self, shell):
        run(shell, "import jax, jax.numpy as jnp\nx = jnp.ones((2048, 1))\ny = jnp.ones((1, 8192))")
        report = report_of(shell, "%%jax --memray --budget 0.1\njnp.sort((x + y), axis=0).sum()")
        lines = ledger(report, "jax", "heap").lines
        assert lines[0].line is None
        assert lines[0].what == "inside XLA, line unknown"
        assert lines[0].bytes >= 64 * MIB

    def test_a_string_of_several_lines_stays_as_it_is(self, shell):
        value = run(shell, '%%torch --memray --mode eager --budget 0.05\ntext = """a\nb"""\ntorch.ones(len(text))')
        assert shell.user_ns["text"] == "a\nb"
        assert len(value) == 3

    def test_another_magic_may_come_first(self, shell):
        report = report_of(shell, "%%torch --memray --mode eager --budget 0.05\n%time z = torch.ones(1 << 20)\nz.sum()")
        assert report["torch"].status == "run-once"

    def test_an_error_is_raised_at_its_own_line(self, shell):
        error = fail(shell, "%%torch --memray --mode eager\nx = 1\n\nraise ValueError('mine')")
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        assert (type(error), str(error), trace.tb_lineno) == (ValueError, "mine", 4)

    def test_without_memray_a_sentence_and_the_rest_works(self, shell, monkeypatch):
        monkeypatch.setitem(sys.modules, "memray", None)
        report = report_of(shell, compare("--memray", ("numpy", CELLS["numpy"])))
        (amount,) = ledger(report, "numpy", "heap").peak
        assert amount.bytes is None
        assert "pip install 'fwmagic[memory]'" in amount.why
        assert "fwmagic[memory]" in report.details()
        assert in_use(ledger(report, "numpy", "host")) > 0
        assert report["numpy"].status == "timed"

    def test_a_flame_graph_for_each_variant(self, shell, tmp_path):
        path = tmp_path / "peak.html"
        run(shell, compare(f"--flamegraph '{path}'", ("numpy", CELLS["numpy"]), ("torch", CELLS["torch"])))
        assert sorted(file.name for file in tmp_path.glob("*.html")) == ["peak-numpy.html", "peak-torch.html"]
        assert "<html" in (tmp_path / "peak-torch.html").read_text()

    def test_the_flame_graph_of_one_variant_has_the_name_that_was_asked_for(self, shell, tmp_path):
        path = tmp_path / "peak.html"
        run(shell, f"%%torch --mode eager --budget 0.05 --flamegraph {path}\n{CELLS['torch']}")
        assert [file.name for file in tmp_path.glob("*.html")] == ["peak.html"]

    def test_its_folder_has_to_be_there(self, shell, tmp_path):
        with untouched(shell):
            error = fail(shell, f"%%torch --flamegraph {tmp_path}/no/peak.html\nx = torch.ones(3)")
        assert isinstance(error, UsageError)
        assert "which does not exist: make it" in str(error)


class TestAsIfOnce:
    def test_state_is_put_back_after_the_passes(self, shell):
        run(shell, "import torch\nnet = torch.nn.Linear(3, 1)\nopt = torch.optim.Adam(net.parameters())\nhist = []")
        run(shell, "before = [p.detach().clone() for p in net.parameters()]")
        run(
            shell,
            "%%torch --mode eager --budget 0.1 --memray\nopt.zero_grad(); loss = net(torch.ones(2, 3)).sum()\n"
            "loss.backward(); opt.step(); hist.append(1)",
        )
        assert shell.user_ns["hist"] == [1]
        assert {int(state["step"]) for state in shell.user_ns["opt"].state.values()} == {1}

    def test_a_comparison_leaves_names_and_generators_as_they_are(self, shell):
        run(shell, "import numpy as np, torch, jax")
        before = names(shell), generators()
        cells = "%%numpy\nz = np.random.rand(1000)\nz.sum()\n%%torch\ntorch.rand(9).sum()"
        run(shell, f"%%compare --budget 0.1 --memray\n{cells}")
        assert (names(shell), generators()) == before

    def test_an_error_in_a_pass_costs_that_figure_only(self, shell, monkeypatch):
        def broken(*_, **__):
            raise RuntimeError("out of memory")

        monkeypatch.setattr("fwmagic.memory.passes.host.measure", broken)
        report = report_of(shell, compare("", ("numpy", CELLS["numpy"])))
        (amount,) = ledger(report, "numpy", "host").peak
        assert amount.bytes is None
        assert amount.why == "the run for it raised RuntimeError: out of memory"
        assert (report.state, report["numpy"].status) == ("done", "timed")

    def test_an_interrupt_in_a_pass_stops_and_puts_back(self, shell, monkeypatch):
        def interrupted(call, *_, **__):
            call()
            raise KeyboardInterrupt

        run(shell, "import numpy as np\nkept = np.zeros(3)")
        monkeypatch.setattr("fwmagic.memory.passes.host.measure", interrupted)
        with untouched(shell):
            error = fail(shell, compare("", ("numpy", "kept += 1\nkept.sum()")))
        assert isinstance(error, KeyboardInterrupt)
        assert list(shell.user_ns["kept"]) == [0, 0, 0]
        assert shown(shell)[-1].state == "interrupted"


class TestInAProcessOfItsOwn:
    @pytest.mark.parametrize("framework", CELLS)
    def test_the_same_figures(self, shell, framework):
        report = report_of(shell, compare("--isolate --memray", (framework, CELLS[framework])))
        assert in_use(ledger(report, framework, "host")) == pytest.approx(32 * MIB, abs=MIB)
        assert in_use(ledger(report, framework, "heap")) == pytest.approx(32 * MIB, rel=0.02)

    def test_a_jitted_temporary_is_seen_there_however_small(self, shell):
        run(shell, "import jax, jax.numpy as jnp\nx = jnp.arange(1024.0)[:, None]\ny = jnp.arange(4096.0)[None]")
        cell = "jnp.sort(x * y, axis=0)[0].sum()"
        report = report_of(shell, f"%%jax --isolate --budget 0.1\n{cell}")
        static = ledger(report, "jax", "CPU", "static")
        assert in_use(static) >= 16 * MIB
        assert in_use(ledger(report, "jax", "host")) >= 15 * MIB

    def test_out_of_memory_has_the_last_known_ledger(self, shell):
        text = (
            "import resource\nheld = np.ones(8 << 20, np.float32)\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))\nnp.ones(1 << 34)"
        )
        fail(shell, compare("--isolate", ("numpy", text)))
        report = shown(shell)[-1]
        assert report["numpy"].status == "failed"
        assert in_use(ledger(report, "numpy", "host")) >= 31 * MIB
