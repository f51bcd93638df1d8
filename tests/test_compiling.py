"""A compilation while it goes on: what a long one is at is told, and Ctrl-C ends that variant first."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import torch
from cells import fail, run, shown, untouched
from example_reports import a_variant
from tiers import compiling_with

from fwmagic import frameworks
from fwmagic.cells.scene import quiet
from fwmagic.display import display_for_shell
from fwmagic.options import Options
from fwmagic.report.answer import phase
from fwmagic.run import compiling
from fwmagic.run.compiling import CompileInterrupted, Compiling
from fwmagic.run.draft import Draft

QUICK = "--budget 0.1 --no-check"
# Each presses Ctrl-C when a compiler looks at it, and not when it runs plainly.
JAX = """
import jax, jax.numpy as jnp, signal
x = jnp.ones(8)
def pressed(v):
    if isinstance(v, jax.core.Tracer): signal.raise_signal(signal.SIGINT)
    return v * 2
"""
ONE = "%%jax one\npressed(x)\n"
OTHER = "%%jax other\npressed(x) + 1\n"
PLAIN = "%%jax plain\nx * 3\n"


class Compiler:
    """A framework all of whose code in this file is a backend."""

    @staticmethod
    def stage_of(file: str) -> str:
        return "backend" if Path(file).name == Path(__file__).name else ""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(compiling, "TOLD", 0.02)
    monkeypatch.setattr(compiling, "OFTEN", 0.02)


def a_draft(*names: str, show=lambda _: None) -> Draft:
    draft = Draft("%%compare", show, Options("compare"))
    for name in names:
        draft.add(a_variant(name, status="running"))
    return draft


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


class TestTold:
    @pytest.mark.parametrize(("framework", "told"), [(Compiler(), "backend, 0 s"), (None, "0 s")])
    def test_the_stage_and_the_seconds(self, impatient, framework, told):
        draft, before = a_draft("torch"), threading.active_count()
        with Compiling(draft, "torch", framework):
            until(lambda: draft.report["torch"].note)
            assert draft.report["torch"].note == told
            assert phase(draft.report) == f"compiling torch: {told}"
            assert f"compiling torch: {told}" in str(draft.report).splitlines()[0]
            assert str(draft.report).count(told) == 1
        assert draft.report["torch"].note == ""
        assert threading.active_count() == before

    def test_a_short_one_is_not(self):
        seen = []
        draft = a_draft("torch", show=seen.append)
        with Compiling(draft, "torch", Compiler()):
            time.sleep(0.05)
        assert len(seen) == 1

    @pytest.mark.slow
    def test_it_is_shown_while_a_cell_runs_without_output(self, impatient, shell):
        live = display_for_shell(shell)
        draft = a_draft("torch", show=live.update)
        with Compiling(draft, "torch", Compiler()), quiet(shell):
            until(lambda: draft.report["torch"].note)
            until(lambda: "backend, " in str(shown_outputs(shell)))
        assert "compiling torch: backend, 0 s" in str(shown_outputs(shell))

    def test_each_stage_of_jax(self):
        stages = stages_seen("jax", lambda: jax.jit(lambda v: jnp.sin(v) + 3)(jnp.ones(7)))
        assert stages == {"trace", "lower", "backend"}

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_each_stage_of_torch(self):
        stages = stages_seen("torch", lambda: torch.compile(lambda v: v.sin() + 3)(torch.ones(7)))
        assert stages == {"trace", "lower", "backend", "first run"}


def shown_outputs(shell) -> list[str]:
    return [output["data"]["text/plain"] for output in shell.display_pub.outputs]


def stages_seen(framework: str, work) -> set[str]:
    """Return the stages of all calls of Python while something runs."""
    files = set()

    def look(frame, event, _):
        files.add(frame.f_code.co_filename)

    sys.setprofile(look)
    try:
        work()
    finally:
        sys.setprofile(None)
    return {frameworks.get(framework).stage_of(file) for file in files} - {""}


class TestInterrupted:
    def test_the_first_one_is_the_variants_and_the_second_one_the_runs(self):
        draft = a_draft("torch", "jax")
        with pytest.raises(CompileInterrupted), Compiling(draft, "torch"):
            raise KeyboardInterrupt
        assert (draft.report["torch"].status, draft.report["jax"].status) == ("interrupted", "running")
        with pytest.raises(KeyboardInterrupt), Compiling(draft, "jax"):
            raise KeyboardInterrupt

    def test_it_is_the_runs_where_nothing_else_is_left(self):
        draft = a_draft("torch")
        draft.add(a_variant("jax", status="failed"))
        with pytest.raises(KeyboardInterrupt), Compiling(draft, "torch"):
            raise KeyboardInterrupt
        assert draft.report["torch"].note.startswith("compile interrupted after")

    def test_a_look_that_nobody_asked_for_costs_no_variant(self):
        draft = a_draft("torch")
        with pytest.raises(CompileInterrupted), Compiling(draft, "torch", look=True):
            raise KeyboardInterrupt
        assert draft.report["torch"].status == "running"
        assert "look at it as one compiled program was interrupted" in draft.report["torch"].note

    def test_another_error_passes(self):
        draft = a_draft("torch", "jax")
        with pytest.raises(ValueError, match="other"), Compiling(draft, "torch"):
            raise ValueError("other")
        assert draft.report["torch"].status == "running"


class TestCells:
    def test_the_others_go_on(self, shell):
        run(shell, JAX)
        with untouched(shell):
            run(shell, f"%%compare {QUICK} -o r\n{ONE}{PLAIN}")
            report = shell.user_ns.pop("r")
        assert (report.state, report["one"].status, report["plain"].status) == ("done", "interrupted", "timed")
        assert report["one"].note.startswith("compile interrupted after ")
        assert report["one"].note in str(report)

    def test_the_second_one_ends_the_run(self, shell):
        run(shell, JAX)
        with untouched(shell):
            assert isinstance(fail(shell, f"%%compare {QUICK}\n{ONE}{PLAIN}{OTHER}"), KeyboardInterrupt)
        report = shown(shell)[-1]
        assert report.state == "interrupted"
        assert [variant.status for variant in report] == ["interrupted"] * 3

    def test_as_it_is_goes_on_too(self, shell):
        run(shell, JAX)
        run(shell, f"%%jax {QUICK} --mode all -o r\npressed(x)")
        assert {variant.name: variant.status for variant in shell.user_ns["r"]} == {
            "jax:eager": "timed",
            "jax:compiled": "interrupted",
        }

    def test_a_cell_with_nothing_else_ends(self, shell):
        run(shell, JAX)
        assert isinstance(fail(shell, f"%%jax {QUICK}\ny = pressed(x)"), KeyboardInterrupt)
        report = shown(shell)[-1]
        assert (report.state, report["jax"].note[:26]) == ("interrupted", "compile interrupted after ")
        assert shell.user_ns["y"].tolist() == [2.0] * 8

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_torch_and_what_it_compiles_next(self, shell):
        shell.user_ns["torch"] = torch
        run(shell, "x, seen = torch.ones(8), []\ndef double(v): seen.append(v); return v * 2")
        presses = iter([True])

        def backend(graph, _):
            if next(presses, False):
                signal.raise_signal(signal.SIGINT)
            return graph.forward

        with compiling_with(backend), untouched(shell):
            run(shell, f"%%compare {QUICK} -o r\n%%torch one\ndouble(x)\n%%torch other\ndouble(x) + 1")
            report = shell.user_ns.pop("r")
        assert (report["one"].status, report["other"].status) == ("interrupted", "timed")
        assert report["other"].compilation.way == "cell"
        assert shell.user_ns["seen"] == []

    def test_in_a_look_at_what_the_user_compiled(self, shell):
        run(shell, JAX + "mine = jax.jit(lambda v: v + 1)")
        run(shell, f"%%jax {QUICK} -o r\nmine(pressed(x))")
        (variant,) = shell.user_ns["r"]
        assert (variant.status, variant.compilation.way) == ("timed", "yours")
        assert "interrupted" in variant.note

    @pytest.mark.slow
    def test_in_a_process_of_its_own(self, shell, monkeypatch):
        run(shell, JAX.replace("signal.raise_signal(signal.SIGINT)", "import time; time.sleep(60)"))
        told = []
        usual = Draft.variant

        def press(draft, name, **facts):
            usual(draft, name, **facts)
            if facts.get("note", "").endswith(" s") and not told:
                told.append(name)
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(compiling, "TOLD", 0.5)
        monkeypatch.setattr(Draft, "variant", press)
        with untouched(shell):
            run(shell, f"%%compare --isolate {QUICK} -o r\n{ONE}%%numpy plain\nnp.ones(3)")
            report = shell.user_ns.pop("r")
        assert told == ["one"]
        assert (report["one"].status, report["plain"].status) == ("interrupted", "timed")
