"""The timing pass of a run: times, ratios and failures in the report, and verdicts that are withheld."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from example_reports import a_compilation, a_variant

from fwmagic import frameworks
from fwmagic.measure.load import Load
from fwmagic.options import Options
from fwmagic.report import Compilation
from fwmagic.run import measuring
from fwmagic.run.draft import Draft
from fwmagic.run.place import Here
from fwmagic.run.variants import Contender

NUMPY = frameworks.get("numpy")
HERE = Here([NUMPY])


@dataclass
class Timed:
    """A callable, as the engine wants it."""

    call: Any
    name: str = ""
    args: tuple[Any, ...] = ()
    wait: Any = None
    most_calls: int | None = None
    lead_in: bool = False

    def enter(self) -> None:
        pass

    def exit(self) -> None:
        pass


def a_pass(*names, baseline=None, budget=0.1, show=lambda _: None):
    draft = Draft("compare", show)
    for name in names:
        draft.add(a_variant(name, status="waiting", compilation=a_compilation()))
    load = Load()
    load.start()
    return measuring.Pass(draft, HERE, budget, 0.01, baseline, load)


def time_contenders(how, contenders):
    for one in contenders:
        one.program.name = one.name
    return measuring.time_contenders(how, contenders, HERE.calls(one.program for one in contenders))


def contender(name, call=lambda: sum(range(100)), withheld="", items=None):
    body = SimpleNamespace(filename=__file__)
    section = SimpleNamespace(name=name, options=Options(name, items=items), body=body, framework=NUMPY)
    return Contender(name, section, Timed(call), None, Compilation("eager", ""), withheld)


def test_times_and_ratios_are_in_the_report():
    how = a_pass("a", "b", "c", baseline="b")
    slow = contender("c", lambda: sum(range(100_000)))
    assert time_contenders(how, [contender("a"), contender("b", items=5), slow]) == []
    report = how.draft.report
    assert [variant.status for variant in report] == ["timed"] * 3
    assert report.baseline == "b"
    assert {(ratio.variant, ratio.over) for ratio in report.ratios} >= {("a", "b"), ("c", "b")}
    assert report["b"].time.items_per_second == pytest.approx(5 / report["b"].time.median)
    assert report.progress == 1
    assert report.spent > 0
    assert "numpy" in report.conditions.versions


def test_times_so_far_are_shown_while_it_runs():
    seen = []
    how = a_pass("a", "b", budget=1.5, show=seen.append)
    time_contenders(how, [contender("a"), contender("b", lambda: sum(range(103)))])
    running = [report for report in seen if all(v.status == "running" and v.time is not None for v in report)]
    assert any(report.variants for report in running)
    assert all(0 < len(variant.time.samples) <= 200 for report in running for variant in report)
    assert {report.state for report in running} == {"running"}


def test_nothing_to_time_gives_conditions_all_the_same():
    how = a_pass()
    assert how.run([]) == []
    assert "numpy" in how.draft.report.conditions.versions
    assert how.draft.report.ratios == ()


def test_one_that_raises_while_it_is_timed():
    tickets = iter(range(3))

    def broken():
        return next(tickets) and None

    how = a_pass("a", "b")
    (error,) = time_contenders(how, [contender("a", broken), contender("b")])
    failure = how.draft.report["a"].failure
    assert isinstance(error, StopIteration)
    assert (failure.error, failure.message, failure.stage) == ("StopIteration", "no message", "timing")
    assert failure.line == broken.__code__.co_firstlineno + 1
    assert how.draft.report["b"].status == "timed"
    assert how.draft.report["a"].time is None


def test_a_verdict_is_withheld_where_the_work_differs():
    how = a_pass("a", "b", "c")
    slow = contender("b", lambda: sum(range(100_000)), withheld="2 array(s) are constants")
    time_contenders(how, [contender("a"), slow, contender("c")])
    report = how.draft.report
    assert (report.ratio("b").verdict, report.ratio("b").note) == ("withheld", "b: 2 array(s) are constants")
    assert report.ratio("c").verdict != "withheld"
    assert report.fastest is None


def test_a_variant_that_ran_once():
    how = a_pass("a")
    measuring.once(how.draft, how.draft.report["a"], 0.5, "it reads the keyboard", source="input()")
    variant = how.draft.report["a"]
    assert (variant.status, variant.note, variant.source) == ("run-once", "it reads the keyboard", "input()")
    assert (variant.time.samples, variant.time.median, variant.time.low, variant.time.calls) == ((0.5,), 0.5, None, 1)
    assert [stage.name for stage in variant.compilation.stages] == ["first run"]


def test_a_crowded_machine_gives_no_verdict(monkeypatch):
    how = a_pass("a", "b")
    monkeypatch.setattr(how.load, "crowds", lambda threads: f"crowded for {threads}")
    time_contenders(how, [contender("a"), contender("b", lambda: sum(range(100_000)))])
    ratio = how.draft.report.ratio("b")
    assert (ratio.verdict, ratio.note) == ("undecided", f"crowded for {NUMPY.workers()}")
    assert ratio.median > 10
    assert how.draft.report.fastest is None


def test_two_frameworks_are_not_decided_as_early_as_one():
    one, two = Here([NUMPY]), Here([NUMPY, frameworks.get("jax")])
    assert (one.alternate, two.alternate) == (False, True)
    assert one.least == pytest.approx(0.2)
    assert two.least == pytest.approx(0.3)
