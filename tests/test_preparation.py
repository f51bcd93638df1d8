"""From a section to variants: the plain run is the reference, and what compiles to something else is not used."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import pytest
import torch
from cells import fail, run, shown
from example_reports import a_variant

from fwmagic import frameworks
from fwmagic.cells.analyse import analyse
from fwmagic.cells.function import LAST
from fwmagic.cells.outcome import Outcome
from fwmagic.cells.ways import Programs
from fwmagic.options import Options
from fwmagic.report import Agreement
from fwmagic.run.draft import Draft
from fwmagic.run.preparation import Preparation
from fwmagic.run.section import Section

QUICK = "--budget 0.1"
CALLS = itertools.count(1)


def ticket():
    """Return another number at each call, out of sight of a notebook's state."""
    return next(CALLS)


class TestCompiledDifferently:
    """A compiled program that computes something else than the plain run."""

    TEXT = "jnp.ones(2) * ticket()"

    def test_auto_falls_back(self, shell):
        shell.user_ns["ticket"] = ticket
        run(shell, f"%%jax {QUICK} -o r\n{self.TEXT}")
        compilation = shell.user_ns["r"]["jax"].compilation
        assert (compilation.way, compilation.line) == ("eager", 2)
        assert compilation.reason.startswith("compiled, it computes something else:")

    def test_compiled_says_so_and_goes_on(self, shell):
        shell.user_ns["ticket"] = ticket
        run(shell, f"%%jax {QUICK} --mode compiled -o r\n{self.TEXT}")
        variant = shell.user_ns["r"]["jax"]
        assert (variant.compilation.way, variant.agreement.status) == ("cell", "differs")
        assert "FW401" in {finding.code for finding in shell.user_ns["r"].findings}

    def test_no_check_does_not_look(self, shell):
        shell.user_ns["ticket"] = ticket
        run(shell, f"%%jax {QUICK} --no-check -o r\n{self.TEXT}")
        assert shell.user_ns["r"]["jax"].compilation.way == "cell"


def test_of_a_section_that_runs_once_one_variant_has_the_run(shell, tmp_path):
    shell.user_ns["target"] = tmp_path / "log"
    run(shell, f"%%compare {QUICK} --mode all -o r\n%%torch\nwith target.open('a') as f:\n    print(1, file=f)\n2")
    eager, compiled = shell.user_ns["r"]
    assert (eager.status, compiled.status) == ("run-once", "not timed")
    assert compiled.note == f"not run: {eager.note}"
    assert "writes `" in eager.note
    assert not (tmp_path / "log").exists()


def test_each_variant_has_what_it_returned_and_its_program(shell):
    run(shell, f"%%jax {QUICK} --mode all -o r\ny = jnp.arange(3) * 2\nz = y + 1\ny.sum()")
    for variant in shell.user_ns["r"]:
        assert variant.outputs[LAST] == 6
        assert variant.outputs["z"].tolist() == [1, 3, 5]
        assert set(variant.returned) == {LAST, "z"}
        assert "y = jnp.arange(3) * 2" in variant.source


def test_outputs_are_of_the_first_run_whatever_came_after(shell):
    run(shell, "import numpy as np\na = np.zeros(2)")
    run(shell, f"%%compare {QUICK} -o r\n%%numpy\na += 1\na")
    assert shell.user_ns["r"]["numpy"].outputs[LAST].tolist() == [1, 1]
    assert shell.user_ns["a"].tolist() == [0, 0]


def test_the_options_that_were_written_are_stated(shell):
    run(shell, f"%%jax {QUICK} --items 3 --mode eager -o r\n1")
    assert shell.user_ns["r"]["jax"].options == {"budget": "0.1", "items": "3", "mode": "eager", "output": "r"}


def test_a_failure_without_a_message(shell):
    fail(shell, f"%%compare {QUICK}\n%%numpy\nassert 1 > 2")
    failure = shown(shell)[-1]["numpy"].failure
    assert (failure.error, failure.message, failure.line) == ("AssertionError", "no message", 3)


def test_a_failure_is_told_in_one_line(shell):
    fail(shell, f"%%compare {QUICK}\n%%numpy\nraise ValueError('first\\nsecond')")
    assert shown(shell)[-1]["numpy"].failure.message == "first"


def a_section(name, random=False, check=True, **results):
    """Return a section, and the outcome of its plain run: None if it failed."""
    section = Section(name, frameworks.get("numpy"), analyse("1", "cell", 2), Options(name, check=check))
    return section, Outcome(results, {}, random, 0.1) if results else None


def agreements(*sections, **fields):
    draft = Draft("compare", lambda _: None, Options("compare"))
    preparation = Preparation(draft, Programs(), nullcontext)
    for section, outcome in sections:
        draft.add(a_variant(section.name, **fields))
        if outcome is not None:
            preparation.references.refer(section, outcome)
    preparation.compare_across([section for section, _ in sections])
    return [None if variant.agreement is None else variant.agreement.status for variant in draft.report]


class TestAcross:
    def test_others_are_compared_with_the_first_that_has_results(self):
        found = agreements(a_section("a"), a_section("b", x=1), a_section("c", x=1), a_section("d", x=2))
        assert found == [None, None, "agrees", "differs"]

    def test_only_names_in_common(self):
        assert agreements(a_section("a", x=1, y=2), a_section("b", x=1, z=3)) == [None, "agrees"]
        assert agreements(a_section("a", x=1), a_section("b", z=3)) == [None, "not compared"]

    def test_random_ones_are_not_compared_value_by_value(self):
        assert agreements(a_section("a", x=1), a_section("b", random=True, x=2)) == [None, "not compared"]

    def test_not_where_it_is_not_wanted(self):
        assert agreements(a_section("a", x=1), a_section("b", check=False, x=2)) == [None, None]

    def test_a_section_that_failed_is_none(self):
        assert agreements(a_section("a", x=1), a_section("b"), a_section("c", x=1)) == [None, None, "agrees"]

    @pytest.mark.parametrize(("own", "expected"), [("agrees", "differs"), ("differs", "differs")])
    def test_a_difference_from_its_own_plain_run_is_not_forgotten(self, own, expected):
        before = Agreement("b eager", own, "")
        assert agreements(a_section("a", x=1), a_section("b", x=2), agreement=before)[1] == expected


def test_what_a_first_call_leaves_in_an_object_goes_by_its_path_there_also_where_it_is_a_result(shell):
    shell.run_cell("""
import functools
class Graph:
    @functools.cached_property
    def eig(self): return jnp.linalg.eigh(jnp.ones((5, 5)) + jnp.eye(5))
graph = Graph()
""")
    run(shell, f"%%compare {QUICK} --mode all --keep-going -o r\n%%jax\nw, v = graph.eig\nw.sum()")
    assert shell.user_ns["r"]["jax:compiled"].agreement.sentence.startswith("jax compiled agrees")


@pytest.mark.parametrize(("step", "status"), [(2.0**-23, "agrees"), (2.0**-16, "differs")])
def test_state_that_one_rounding_moves_may_stay(shell, step, status):
    """Compiled, it is where it was: the step that is made while tracing is `0`."""
    shell.user_ns.update(step=lambda: 0.0 if torch.compiler.is_compiling() else step, mean=torch.ones(8))
    run(shell, f"%%torch {QUICK} --mode compiled -o r\nmean.add_(step())\ntorch.ones(3) * 2")
    variant = shell.user_ns["r"]["torch"]
    assert (variant.compilation.way, variant.agreement.status) == ("cell", status), variant.agreement


def test_sections_with_nothing_in_common_are_told_apart_by_what_they_have(shell):
    run(shell, f"%%compare {QUICK} -o r\n%%numpy a\nx, y = np.ones(3), 2.0\n%%numpy b\nz = np.ones(3)\n%%numpy c\nNone")
    said = [shell.user_ns["r"][name].agreement.sentence for name in "bc"]
    assert said[0].startswith("no result in common (`a` has `x`, `y`; `b` has `z`): ")
    assert said[1].startswith("no result in common (`a` has `x`, `y`; `c` has none): ")
