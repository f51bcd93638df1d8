"""The last act of a run: times, ratios, failures, findings and memory in the report, and verdicts withheld."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from example_reports import a_compilation, a_variant

from fwmagic import frameworks
from fwmagic.measure.calls import Block
from fwmagic.measure.load import Load
from fwmagic.options import Options
from fwmagic.report import Amount, Finding, Ledger
from fwmagic.run.draft import Draft
from fwmagic.run.measuring import Measuring
from fwmagic.run.place import Entrant, Here

NUMPY = frameworks.get("numpy")
HERE = Here([NUMPY])


@dataclass
class Timed:
    """A callable, as the engine wants it."""

    call: Any
    args: tuple[Any, ...] = ()
    wait: Any = None
    most_calls: int | None = None
    lead_in: bool = False

    def enter(self) -> None:
        pass

    def exit(self) -> None:
        pass

    def finds(self):
        return ()


def a_draft(*names, show=lambda _: None):
    draft = Draft("compare", show, Options("compare"))
    for name in names:
        draft.add(a_variant(name, status="waiting", compilation=a_compilation()))
    return draft


def measure(draft, *entrants, budget=0.1, baseline=None, crowded=None, **options):
    load = Load()
    load.start()
    if crowded is not None:
        load.crowds = crowded
    options = Options("compare", budget=budget, baseline=baseline, **options)
    Measuring(draft, HERE, options, load).run(entrants)
    return draft.report


def entrant(name, call=lambda: sum(range(100)), memory=lambda: (), **facts):
    return Entrant(HERE.calls(name, Timed(call), "python"), memory, filename=__file__, **facts)


def test_times_and_ratios_are_in_the_report():
    slow = entrant("c", lambda: sum(range(100_000)))
    report = measure(a_draft("a", "b", "c"), entrant("a"), entrant("b", items=5), slow, baseline="b")
    assert [variant.status for variant in report] == ["timed"] * 3
    assert report.baseline == "b"
    assert {(ratio.variant, ratio.over) for ratio in report.ratios} >= {("a", "b"), ("c", "b")}
    assert report["b"].time.items_per_second == pytest.approx(5 / report["b"].time.median)
    assert report.progress == 1
    assert report.spent > 0
    assert "numpy" in report.conditions.versions


def test_times_so_far_are_shown_while_it_runs():
    seen = []
    measure(a_draft("a", "b", show=seen.append), entrant("a"), entrant("b", lambda: sum(range(103))), budget=1.5)
    running = [report for report in seen if all(v.status == "running" and v.time is not None for v in report)]
    assert any(report.variants for report in running)
    assert all(0 < len(variant.time.samples) <= 200 for report in running for variant in report)
    assert {report.state for report in running} == {"running"}


def test_nothing_to_time_gives_conditions_all_the_same():
    report = measure(a_draft())
    assert "numpy" in report.conditions.versions
    assert report.conditions.load_during is not None
    assert report.ratios == ()


def test_one_that_raises_while_it_is_timed():
    tickets = iter(range(3))

    def broken():
        return next(tickets) and None

    draft = a_draft("a", "b")
    report = measure(draft, entrant("a", broken), entrant("b"))
    failure = report["a"].failure
    assert [type(error) for error in draft.errors] == [StopIteration]
    assert (failure.error, failure.message, failure.stage) == ("StopIteration", "no message", "timing")
    assert failure.line == broken.__code__.co_firstlineno + 1
    assert report["b"].status == "timed"
    assert report["a"].time is None


def test_a_verdict_is_withheld_where_the_work_differs():
    slow = entrant("b", lambda: sum(range(100_000)), withheld="2 array(s) are constants")
    report = measure(a_draft("a", "b", "c"), entrant("a"), slow, entrant("c"))
    assert (report.ratio("b").verdict, report.ratio("b").note) == ("withheld", "b: 2 array(s) are constants")
    assert report.ratio("c").verdict != "withheld"
    assert report.fastest is None


class Blocks:
    """The calls of a variant that take a millisecond each, until Ctrl-C is pressed in one of their blocks."""

    seconds = 1e-3

    pool = ""
    most_calls = None
    lead_in = False

    def __init__(self, name, left=None):
        self.name = name
        self.left = left

    def finds(self):
        return None

    def held(self):
        return nullcontext()

    def block(self, calls, lead_in):
        if self.left is not None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
        return Block(self.seconds * calls, self.seconds * calls, calls, False)

    def split(self, calls, lead_in):
        return []


def test_what_was_measured_until_an_interrupt_is_judged_too():
    draft = a_draft("a", "b")
    interrupted = Entrant(Blocks("b", left=40), tuple, withheld="it does other work")
    with pytest.raises(KeyboardInterrupt):
        measure(draft, Entrant(Blocks("a"), tuple), interrupted, budget=5.0)
    assert draft.report.ratio("b").verdict == "withheld"
    assert draft.report["a"].time is not None
    assert draft.report.progress < 1


@pytest.mark.parametrize(
    ("times", "verdict", "note"), [(1.4, "undecided", "crowded"), (1000, "slower", "how much is not sure: crowded")]
)
def test_on_a_crowded_machine_only_a_large_difference_is_a_verdict(times, verdict, note):
    crowded = "crowded for {:.0f}".format
    slower = entrant("b", lambda: sum(range(int(100 * times))))
    report = measure(a_draft("a", "b"), entrant("a"), slower, crowded=crowded)
    (ratio,) = report.ratios
    assert (ratio.verdict, ratio.note) == (verdict, f"{note} for 1")
    assert report.fastest == ("a" if verdict == "slower" else None)


class Elsewhere(Blocks):
    """The calls in another way: once they begin, those of the variant take other times, too."""

    def __init__(self, name, variant, seconds, meanwhile):
        super().__init__(name)
        self.variant, self.seconds, self.meanwhile = variant, seconds, meanwhile

    def block(self, calls, lead_in):
        self.variant.seconds = self.meanwhile
        return super().block(calls, lead_in)


def of_two_ways(way, other, meanwhile=1e-3, crowded="", withheld=""):
    """Return what is found of a variant whose calls take 1 ms, and `meanwhile` beside those of the other way."""
    draft = Draft("compare", lambda _: None, Options("compare"))
    draft.add(a_variant("a", mode="auto", status="waiting", compilation=a_compilation(way=way)))
    calls = Blocks("a")
    apart = Elsewhere("a in another way", calls, other, meanwhile)
    one = Entrant(calls, tuple, other=apart, withheld=withheld)
    return {found.code: found.sentence for found in measure(draft, one, crowded=lambda _: crowded).findings}


@pytest.mark.parametrize("meanwhile", [1e-3, 5e-3])
def test_a_look_at_another_way_does_not_contradict_the_time_beside_it(meanwhile):
    told = of_two_ways("cell", 0.5e-3, meanwhile)["FW206"]
    assert told.startswith("a takes 2.0x as long compiled as it does as Python: ")
    assert "FW206" not in of_two_ways("cell", 1.1e-3, meanwhile)
    assert ("FW203" in of_two_ways("yours", 1.2e-3, meanwhile)) == (meanwhile == 1e-3)
    assert "takes 0.500 of that" in of_two_ways("yours", 0.5e-3, meanwhile)["FW203"]


@pytest.mark.parametrize(("way", "code"), [("cell", "FW206"), ("modules", "FW206"), ("yours", "FW203")])
def test_a_look_at_another_way_is_judged_as_any_ratio(way, code):
    assert code in of_two_ways(way, 0.6e-3)
    assert code not in of_two_ways(way, 0.6e-3, crowded="crowded")
    assert "(how much is not sure: crowded)" in of_two_ways(way, 0.3e-3, crowded="crowded")[code]
    assert code not in of_two_ways(way, 0.3e-3, withheld="2 array(s) are constants")


def test_what_python_costs_is_not_told_in_a_crowd():
    told = []
    for crowded in ("", "crowded"):
        draft = Draft("compare", lambda _: None, Options("compare"))
        draft.add(a_variant("a", mode="auto", status="waiting", compilation=a_compilation(way="cell")))
        draft.add(a_variant("b", mode="auto", status="waiting", compilation=a_compilation(way="eager", line=3)))
        calls = Blocks("a")
        one = Entrant(calls, tuple, other=Elsewhere("a as Python", calls, 1.5e-3, 1e-3))
        report = measure(draft, one, Entrant(Blocks("b"), tuple), crowded=lambda _, crowded=crowded: crowded)
        told += [found.sentence for found in report.findings if found.code == "FW205"]
    stays = "a is one compiled program, and b stays Python (line 3)"
    assert told == [f"{stays}; run as Python, a takes 1.5x as long", stays]


def test_findings_on_the_work_and_on_the_report_are_there():
    of_work = Finding("FW104", "sentence", "fix", "a")
    report = measure(a_draft("a"), entrant("a", lambda: None, findings=(of_work,)))
    assert [finding.code for finding in report.findings][:2] == ["FW104", "FW301"]


def test_memory_is_measured_last_and_not_of_what_failed():
    draft, order = a_draft("a", "b"), []
    ledger, seen = (Ledger("host", None, (Amount("in use", count, ""),)) for count in (5, 7))

    def memory():
        order.append([variant.status for variant in draft.report])
        return (ledger,)

    def broken():
        raise ValueError

    failing = entrant("b", broken, memory, last_seen=lambda: (seen,))
    report = measure(draft, entrant("a", memory=memory), failing)
    assert order == [["timed", "failed"]]
    assert (report["a"].memory, report["b"].memory) == ((ledger,), (seen,))


def test_variants_that_are_timed_one_after_the_other_share_the_budget():
    draft = a_draft("a", "b")
    load = Load()
    load.start()
    one_by_one = Measuring(draft, HERE, Options("compare", budget=0.2), load, parts=2)
    for name in ("a", "b"):
        one_by_one.time([entrant(name)])
    one_by_one.judge()
    assert (draft.report.progress, draft.report.ratios, draft.report.baseline) == (1, (), None)
    assert [variant.status for variant in draft.report] == ["timed", "timed"]
    assert 0 < draft.report.spent < 0.4


def test_a_variant_that_ran_once():
    draft = a_draft("a")
    draft.once("a", 0.5, "it reads the keyboard", source="input()")
    variant = draft.report["a"]
    assert (variant.status, variant.note, variant.source) == ("run-once", "it reads the keyboard", "input()")
    assert (variant.time.samples, variant.time.median, variant.time.low, variant.time.calls) == ((0.5,), 0.5, None, 1)
    assert [stage.name for stage in variant.compilation.stages] == ["first run"]
