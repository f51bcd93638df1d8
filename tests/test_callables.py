"""The library: callables without arguments, compared as they are."""

from __future__ import annotations

import asyncio
import functools
import random
import re
import statistics
import time
import timeit

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import fwmagic
from fwmagic.errors import FwMagicError
from fwmagic.report import Report

VECTOR = np.ones(20_000)


def sum_up():
    return VECTOR.sum()


def sort():
    return np.sort(VECTOR).sum()


def compare(callables, **options):
    return fwmagic.compare(callables, **{"budget": 0.15, **options})


def test_which_is_faster_and_by_how_much(idle):
    report = compare({"a": sum_up, "b": lambda: VECTOR.cumsum()[-1]}, budget=0.3, margin=0.05)
    ratio = report.ratio("b", over="a")
    assert report["a"].time.median > 0
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.verdict == "slower"
    assert report.ratio("a", over="b").verdict == "faster"
    assert (report.baseline, report.fastest) == ("a", "a")
    assert ratio.median == pytest.approx(report["b"].time.median / report["a"].time.median, rel=0.5)
    assert (report.magic, report.state, report.budget, report.margin) == ("compare", "done", 0.3, 0.05)


def test_text_json_and_markdown():
    report = compare({"a": sum_up, "b": sort})
    assert Report.from_json(report.to_json()) == report
    assert str(report).splitlines()[0].startswith("✓ a is ")
    assert "| a " in report.to_markdown()


def test_one_alone():
    report = compare({"a": sum_up})
    assert (report.ratios, report["a"].status) == ((), "timed")


def test_the_baseline():
    report = compare({"a": sum_up, "b": sort}, baseline="b")
    assert report.baseline == "b"
    assert report.ratios[0].over == "b"


def test_results_are_kept_and_their_framework_is_named():
    report = compare(
        {
            "torch": lambda: torch.ones(3),
            "jax": lambda: {"x": [jnp.ones(3)]},
            "numpy": lambda: (np.ones(3),),
            "python": lambda: 1,
        },
        check=False,
    )
    assert [variant.framework for variant in report] == ["torch", "jax", "numpy", "python"]
    assert report["torch"].outputs.tolist() == [1, 1, 1]
    assert set(report.conditions.versions) >= {"torch", "jax", "numpy", "python"}
    assert set(report.conditions.devices) >= {"torch", "jax"}


def test_what_is_returned_is_waited_for():
    matrix = jnp.ones((300, 300))
    multiply = jax.jit(lambda x: x @ x @ x @ x)
    multiply(matrix).block_until_ready()
    report = compare({"a": lambda: {"deep": [multiply(matrix)]}}, budget=1)
    truth = statistics.median(timeit.repeat(lambda: multiply(matrix).block_until_ready(), number=1, repeat=25))
    assert report["a"].time.median > 0.2 * truth
    assert report["a"].time.wait > 0.2 * truth


def test_torch_and_jax_together_are_waited_for():
    report = compare({"a": lambda: (torch.ones(3), jnp.ones(3))})
    assert report["a"].status == "timed"
    assert report["a"].framework in ("torch", "jax")


class TestAgreement:
    @pytest.mark.parametrize(
        ("other", "status"),
        [(lambda: np.ones(3), "agrees"), (lambda: np.zeros(3), "differs"), (lambda: np.ones(4), "differs")],
    )
    def test_results_are_compared_with_the_first(self, other, status):
        report = compare({"a": lambda: np.ones(3), "b": other})
        assert report["a"].agreement is None
        assert (report["b"].agreement.status, report["b"].agreement.reference) == (status, "a")

    def test_across_frameworks(self):
        report = compare({"a": lambda: torch.ones(3), "b": lambda: jnp.ones(3)})
        assert report["b"].agreement.status == "agrees"

    def test_not_if_it_is_not_wanted(self):
        assert compare({"a": lambda: 1, "b": lambda: 2}, check=False)["b"].agreement is None

    @pytest.mark.parametrize("draw", [random.random, lambda: np.random.rand(2), lambda: torch.rand(2)])
    def test_random_results_are_not_compared(self, draw):
        report = compare({"a": draw, "b": draw})
        assert report["b"].agreement.status == "not compared"
        assert "random" in report["b"].agreement.sentence


class TestFailures:
    def test_one_that_raises_fails_alone(self):
        def broken():
            number = 1
            return number / 0

        report = compare({"a": sum_up, "b": broken, "c": sort})
        assert [variant.status for variant in report] == ["timed", "failed", "timed"]
        failure = report["b"].failure
        assert (failure.error, failure.message, failure.stage) == ("ZeroDivisionError", "division by zero", "first run")
        assert failure.line == broken.__code__.co_firstlineno + 2
        assert report.state == "failed"
        assert report.ratio("c", over="a").median > 0

    def test_the_line_is_that_of_the_callables_own_file(self):
        def broken():
            return np.linalg.inv(np.zeros((2, 2)))

        assert compare({"a": broken})["a"].failure.line == broken.__code__.co_firstlineno + 1

    def test_one_that_raises_later(self):
        tickets = iter(range(3))
        report = compare({"a": lambda: next(tickets), "b": sum_up})
        assert (report["a"].status, report["a"].failure.error) == ("failed", "StopIteration")
        assert report["a"].failure.stage == "timing"
        assert report["b"].status == "timed"
        assert report.state == "failed"

    def test_an_interrupt_is_not_swallowed(self):
        def stop():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compare({"a": stop})

    @pytest.mark.parametrize(
        ("callables", "options", "sentence"),
        [
            ({}, {}, "There is nothing to compare: give a mapping of names to callables."),
            ({"a": 3}, {}, "'a' is a int and no callable: pass a function without arguments."),
            ({"a": sum_up}, {"budget": 0}, "budget is 0, but it takes seconds greater than 0."),
            ({"a": sum_up}, {"budget": float("inf")}, "budget is inf, but it takes seconds greater than 0."),
            ({"a": sum_up}, {"margin": 1}, "margin is 1, but it takes a fraction from 0 to below 1"),
            ({"a": sum_up}, {"baseline": "b"}, "baseline names 'b', which is not compared; there are: a."),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, callables, options, sentence):
        with pytest.raises(FwMagicError) as caught:
            fwmagic.compare(callables, **options)
        assert str(caught.value).startswith(sentence)


class TestProgress:
    def test_the_report_grows(self):
        seen = []
        report = compare({"a": sum_up, "b": sort}, progress=seen.append)
        assert [one.state for one in seen] == ["running"] * (len(seen) - 1) + ["done"]
        assert seen[-1] is report
        assert [one.progress for one in seen] == sorted(one.progress for one in seen)

    def test_the_budget_is_kept(self):
        for budget in (0.1, 0.4):
            assert compare({"a": sum_up, "b": sum_up}, budget=budget, margin=0).spent <= 1.5 * budget

    def test_a_long_call_is_made_at_most_four_times(self):
        calls = []

        def slow():
            calls.append(1)
            time.sleep(0.6)

        report = compare({"a": slow})
        assert len(calls) <= 4
        assert report["a"].time.median >= 0.6

    def test_a_callable_is_timed_as_it_is(self):
        kept = []
        report = compare({"a": lambda: kept.append(1)})
        assert len(kept) >= report["a"].time.calls  # nothing is put back
        assert (report["a"].compilation.way, report["a"].compilation.reason) == ("eager", "timed as it is")


class TestCompiled:
    """Nothing is compiled here: the report says so of what it knows, and nothing of the rest."""

    step = staticmethod(jax.jit(lambda v: v + 1))

    def test_plain_functions_are_not_said_to_be_compiled(self):
        assert str(compare({"a": sum_up})).splitlines()[0].endswith(", not compiled")

    def test_what_the_user_compiled_is_seen_by_its_name(self):
        step, x = self.step, jnp.ones(3)
        report = compare({"itself": lambda: step(x), "partial": functools.partial(step, x)})
        assert [variant.compilation.way for variant in report] == ["yours", "yours"]

    def test_of_others_it_is_not_known(self):
        held, x = {"step": self.step}, jnp.ones(3)
        report = compare({"a": lambda: held["step"](x)})
        assert report["a"].compilation is None
        assert "compiled" not in str(report).splitlines()[0]
        assert report.to_html()


@pytest.mark.parametrize(
    ("callables", "message"),
    [
        ([sum_up], "A mapping of names to callables was expected, not a list"),
        ({1: sum_up}, "1 is no name for a callable"),
        ({"": sum_up}, "'' is no name for a callable"),
        ({"a": asyncio.sleep}, "'a' is an async function, whose call does no work"),
    ],
)
def test_what_cannot_be_compared_is_refused(callables, message):
    with pytest.raises(FwMagicError, match=re.escape(message)):
        compare(callables)
