"""The answer of a report: one line of at most 90 characters, one of at most 30, and a first look as golden files."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from example_reports import (
    a_compilation,
    a_ratio,
    a_report,
    a_time,
    a_variant,
    four_variants,
    reports,
    twelve_variants,
    with_failure,
    with_memory,
)
from hypothesis import given

from fwmagic.report import MIME, Agreement, Compilation, Failure, Finding, Place, Report
from fwmagic.report.answer import MOST, answer_of
from fwmagic.report.findings import of_report
from fwmagic.report.remarks import details
from fwmagic.report.words import headline, ranked

AGREES = Agreement("torch", "agrees", "all values within 1e-5", None)
DIFFERS = Agreement("torch", "differs", "torch and jax differ at Out: 9.04 and 8.90", "Out", ("9.04", "8.90"))
GOLDEN = Path(__file__).parent / "golden"


def pair(*ratio, **fields) -> Report:
    """Return a comparison of torch and jax whose outputs agree."""
    found = a_ratio(*ratio, **fields)
    jax = a_variant("jax", time=a_time(1.23e-3 * found.median), agreement=AGREES)
    return a_report(a_variant("torch"), jax, ratios=(found,))


def differing() -> Report:
    return a_report(a_variant("torch"), a_variant("jax", agreement=DIFFERS), ratios=(a_ratio(),))


def busy(report: Report) -> Report:
    """Return a report as it is where other processes used the machine: directions are sure, sizes are not."""
    ratios = tuple(replace(one, note="how much is not sure: crowded") for one in report.ratios)
    return replace(report, ratios=ratios, conditions=replace(report.conditions, load_during=1.6))


def unsure(*names: str) -> Report:
    """Return a comparison of twelve in which one pair is undecided."""
    report = twelve_variants()
    ratios = tuple(
        replace(r, verdict="undecided" if {r.variant, r.over} == set(names) else r.verdict) for r in report.ratios
    )
    return replace(report, fastest=None, ratios=ratios)


def some(*unsure: str, names: Sequence[str] = "abcd", verdict: str = "undecided") -> Report:
    """Return a comparison of up to four in which pairs, each a letter a variant, are undecided or the same."""
    times = (1e-3, 1.01e-3, 2.2e-3, 4e-3)[: len(names)]
    ratios = []
    for i, j in itertools.combinations(range(len(names)), 2):
        r, pair = times[j] / times[i], {"variant": names[j], "over": names[i]}
        close = "abcd"[i] + "abcd"[j] in unsure
        ratios.append(
            a_ratio(verdict, 1.0, 0.97, 1.04, **pair) if close else a_ratio("slower", r, r * 0.98, r * 1.02, **pair)
        )
    variants = (a_variant(name, time=a_time(time)) for name, time in zip(names, times, strict=True))
    return a_report(*variants, ratios=tuple(ratios), baseline=names[0], fastest=None)


def few_rounds(rounds: int) -> Report:
    """Return a comparison of four, the slowest by far slower than the quickest, of too few rounds for an interval."""
    few = {"verdict": "undecided", "low": None, "high": None, "rounds": rounds}
    report = some()
    ratios = (replace(r, least=0.9 * r.median, most=1.1 * r.median, **few) for r in report.ratios)
    return replace(report, ratios=tuple(ratios))


def uncompiled() -> Report:
    """Return a report of a cell that could not be compiled."""
    why = "TracerBoolConversionError: it branches on a value that is not known while tracing: use `jnp.where`"
    return a_report(a_variant("jax", compilation=Compilation("eager", why, 3)), baseline=None, magic="%%jax")


def at_work(*statuses: str, progress: float = 0.0, **fields) -> Report:
    names = ("torch:compiled", "jax")
    variants = (a_variant(name, status=status) for name, status in zip(names, statuses, strict=True))
    return a_report(*variants, state="running", progress=progress, **fields)


@pytest.mark.parametrize(
    ("report", "line", "brief"),
    [
        (pair(), "✓ jax is 2.3x faster than torch (2.22-2.38x, outputs agree)", "jax 2.3x faster"),
        (pair("slower", 1.034, 1.021, 1.05), "✓ torch is 3.4 % faster than jax (2.1-5.0 %, outputs agree)",
         "torch 3.4 % faster"),
        (pair("same", 1.002, 0.997, 1.006), "= jax and torch: same time within 1 % (outputs agree)", "same time"),
        (pair("undecided", 0.9, 0.78, 1.1),
         "? not sure: jax takes 0.780-1.10x as long as torch: --budget 10 would tell", "not sure"),
        (pair("undecided", 0.995, 0.97, 1.02), "? not sure: jax takes 0.970-1.020x as long as torch: too close to tell",
         "not sure"),
        (pair("undecided", 0.5, None, None, rounds=4),
         "? jax has the shorter time, not sure after 4 rounds: --budget 9 would tell", "not sure"),
        (pair(note="how much is not sure: crowded"),
         "✓ jax is faster than torch, by how much is not sure: others used the machine", "jax faster"),
        (pair("faster", 0.008, 0.00132, 0.0476),
         "✓ jax is 21.0-758x faster than torch (by how much is not sure, outputs agree)", "jax 21.0-758x faster"),
        (pair("faster", 1 / 1.8, 1 / 1.9, 1 / 1.1),
         "✓ jax is 1.10-1.90x faster than torch (by how much is not sure, outputs agree)", "jax 1.10-1.90x faster"),
        (pair("faster", 1 / 1.08, 1 / 1.25, 1 / 1.04),
         "✓ jax is 4.0-25.0 % faster than torch (by how much is not sure, outputs agree)", "jax 4.0-25.0 % faster"),
        (pair("withheld", note="jax: no array reaches it"), "✗ no verdict: jax: no array reaches it", "no verdict"),
        (differing(), "✗ outputs differ at Out: torch 9.04, jax 8.90: the times are of different things",
         "outputs differ"),
        (with_failure(),
         "✗ numpy failed, line 4: ValueError: operands could not be broadcast together", "numpy failed"),
        (uncompiled(), "jax 1.23 ms, not compiled: line 3: it branches on a value that is not known while tracing",
         "jax 1.23 ms"),
        (a_report(a_variant("jax"), baseline=None), "jax 1.23 ms, compiled: whole cell", "jax 1.23 ms"),
        (twelve_variants(),
         "✓ v00 is the fastest, by 10 % (7.8-12.2 %) over v01 and 2.1x (2.06-2.14x) over v11", "v00 fastest"),
        (busy(twelve_variants()),
         "✓ v00 is the fastest, by how much is not sure: others used the machine", "v00 fastest"),
        (pair("undecided", 1.95, 1.26, 2.52, note="other processes used 1.3 of 2 cores, and the variants up to 1.2"),
         "? not sure: jax takes 1.26-2.52x as long as torch: others used the machine", "not sure"),
        (pair("undecided", 0.951, 0.914, 0.956, repeatable=False),
         "? not sure: jax takes 0.914-0.956x as long as torch: parts of the run disagreed", "not sure"),
        (unsure("v00", "v01"),
         "? fastest is v00 (1.00 ms) or v01 (1.10 ms); both beat the other 10", "not sure"),
        (unsure("v00", "v02"),
         "? fastest is v00 (1.00 ms) or v02 (1.20 ms); v00 beats the other 10", "not sure"),
        (busy(unsure("v00", "v02")),
         "? fastest is v00 or v02: others used the machine; v00 beats the other 10", "not sure"),
        (replace(twelve_variants(), fastest=None, ratios=twelve_variants().ratios[1:]),
         "? fastest is v00 (1.00 ms) or v01 (1.10 ms); both beat the other 10", "not sure"),
        (some("ab"), "? fastest is a (1.00 ms) or b (1.01 ms); both beat c and d", "not sure"),
        (some("ab", names="abc"), "? fastest is a (1.00 ms) or b (1.01 ms); both beat c", "not sure"),
        (some("ab", verdict="same"), "= a and b: same time within 1 %; both beat c and d", "2 equally fast"),
        (some("ab", "ac", "bc"), "? fastest is a (1.00 ms), b (1.01 ms) or c (2.20 ms); all beat d", "not sure"),
        (some("ab", "ac", "bc", names="abc"), "? fastest is a (1.00 ms), b (1.01 ms) or c (2.20 ms)",
         "not sure"),
        (few_rounds(3), "? a has the shortest time, not sure after 3 rounds: --budget 12 would tell", "not sure"),
        (few_rounds(1), "? a has the shortest time, not sure after 1 round: --budget 36 would tell", "not sure"),
        (some("ab", "bc"), "? fastest is a (1.00 ms) or b (1.01 ms); a beats c and d", "not sure"),
        (some("ab", names=("torch:compiled", "jax:compiled", "torch:eager")),
         "? fastest is torch:compiled (1.00 ms) or jax:compiled (1.01 ms); both beat torch:eager",
         "not sure"),
        (a_report(a_variant("torch"), state="interrupted", spent=0.5, note="the notebook is as before the cell"),
         "✗ interrupted after 500 ms: the notebook is as before the cell", "interrupted"),
        (a_report(a_variant("torch", status="run-once", note="it reads a file", time=a_time(0.2, 1))),
         "torch ran once in 200 ms: it reads a file", "ran once"),
        (a_report(variants=()), "no variant was run", "nothing timed"),
        (at_work("waiting", "waiting"), "… running it once, plainly: no figure is final", "running it once, plainly"),
        (at_work("running", "waiting"), "… compiling torch:compiled: no figure is final", "compiling torch:compiled"),
        (at_work("running", "running", progress=0.42), "… timing, 42 % of 2.00 s: no figure is final",
         "timing, 42 % of 2.00 s"),
        (at_work("running", "running", progress=1.0), "… measuring memory: no figure is final", "measuring memory"),
    ],
)  # fmt: skip
def test_the_answer(report, line, brief):
    found = answer_of(report)
    assert (found.line, found.brief) == (line, brief)
    assert found.warning == line.startswith("✗")
    for view in (str(report), report.details(), report.to_markdown().replace("\\", "").removeprefix("**")):
        assert view.startswith(line)


def test_the_ratio_that_the_answer_is_about_is_among_the_remarks_where_the_table_has_it_not():
    """In a table of ratios to the baseline, nobody found what the first line said of two other variants."""
    for report in (twelve_variants(), unsure("v00", "v01")):
        assert "v00 over v01: ratio 0.909, 95 % interval 0.891-0.928, 120 rounds" in report.details()
    assert " over " not in unsure("v00", "v11").details(), "the baseline: the table has it"


@pytest.mark.parametrize("report", [busy(unsure("v00", "v02")), few_rounds(3), replace(few_rounds(2), baseline="d")])
def test_a_notebook_stores_the_answer_that_is_printed(report):
    """Of pairs without the baseline it leaves out what was to be known: their words had gone with it."""
    stored = report._repr_mimebundle_()[MIME]["words"]["headline"]
    assert stored[0]["text"] == str(report).splitlines()[0]
    assert "used the machine" in stored[0]["text"] or " rounds: " in stored[0]["text"]


def test_an_error_that_is_cut_keeps_its_class_and_whole_words():
    """It ended in the midst of one: `expected a matrix of the same sha…`."""
    why = "mat1 and mat2 shapes cannot be multiplied in this layer, which expects (200000x1 and 3x1) at most"
    line = answer_of(with_message(why)).line
    assert line == "✗ torch failed, line 7: RuntimeError: mat1 and mat2 shapes cannot be… and 3x1) at most"
    traced = "Attempted boolean conversion of traced array with shape bool[].\nThe error occurred while tracing f"
    assert answer_of(with_message(traced)).line.endswith(": Attempted boolean conversion of… with shape bool[]")
    first = "shapes (3,) and (4,) do not match. Some more of it: a long explanation of what to do about this."
    assert answer_of(with_message(first)).line.endswith(": shapes (3,) and (4,) do not match…")
    assert answer_of(with_message("x" * 200)).line.endswith("x…"), "one word alone is cut where it has to be"
    for message in (why, first):
        assert message in " ".join(str(with_message(message)).replace("\n  ", " ").split()), "the rest is in sight"
        assert message in with_message(message).to_html()


def with_message(message: str) -> Report:
    failure = Failure("RuntimeError", message, 7, "first run")
    return a_report(a_variant("torch", status="failed", failure=failure), state="failed")


def test_a_ratio_stored_the_other_way_round_is_turned_to_the_baseline():
    report = a_report(ratios=(a_ratio(),), baseline="jax")
    assert answer_of(report).line == "✓ jax is 2.3x faster than torch (2.22-2.38x)"
    assert "paired ratio to jax" in str(report)


def test_the_fastest_is_said_of_three_but_not_of_two():
    assert "fastest" not in str(a_report(ratios=(a_ratio(),), fastest="jax"))
    assert answer_of(agreeing(four_variants(10))).line.startswith("✓ jax:compiled is the fastest")


def test_of_many_it_is_said_by_itself_whether_their_outputs_agree():
    report = twelve_variants()
    assert str(report).splitlines()[1] == "all outputs agree"
    assert ">all outputs agree<" in report.to_html()
    some = replace(report.variants[3], agreement=replace(report.variants[3].agreement, status="not compared"))
    variants = (*report.variants[:3], some, *report.variants[4:])
    assert str(replace(report, variants=variants)).splitlines()[1] == "outputs not compared"
    assert "all outputs" not in str(pair())


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize(
    ("agreement", "said"),
    [
        (Agreement("torch", "not compared", "not compared: Out (objects cannot be compared)"), "outputs not compared"),
        (Agreement("torch", "agrees", "jax agrees exactly; not compared: Out (no)"), "not all outputs compared"),
    ],
)
def test_what_was_not_compared_is_seen_at_first(sure, agreement, said):
    first, second = pair().variants
    ratio = a_ratio() if sure else replace(a_ratio(), verdict="undecided", low=0.4, high=2.0)
    report = replace(pair(), variants=(first, replace(second, agreement=agreement)), ratios=(ratio,))
    look = str(report).partition("variant ")[0]
    assert said in look
    assert "outputs agree" not in look
    assert said in report.to_html().partition("<table")[0]
    assert any(said in sentence.text for sentence in headline(report))


def test_the_machine_comes_before_any_variant_among_what_is_to_be_noted():
    """What is wrong with all numbers stands where the two remarks of a first look, and the one of a cell, are."""
    breaks = replace(a_report().variants[0].compilation, breaks=(Place(3, "print"), Place(4, "print")))
    variants = tuple(replace(variant, compilation=breaks) for variant in twelve_variants().variants)
    found = replace(busy(twelve_variants()), variants=variants)
    found = replace(found, findings=tuple(of_report(found, {})))
    remarks = [line for line in str(found).splitlines() if line.startswith("! ")]
    assert remarks[0].startswith("! FW601 ")
    assert "Remarks (" in (html := found.to_html())
    assert html.index("other processes used") < html.index("<ul", html.index("Remarks ("))


def test_a_failure_hides_nothing_that_was_timed():
    text = str(with_failure())
    assert "0.430 (0.420-0.450)" in text
    assert "failed" in text.splitlines()[4]


@pytest.mark.parametrize("when", ["2026-11-22T10:00:03.250+00:00", "", "yesterday"])
def test_a_run_that_was_cut_off_says_as_of_when_its_figures_are(when):
    """What stays of it, nobody can update: it says itself what to think of it."""
    report = at_work("running", "waiting", updated=when)
    said = "a run that stays so was cut off: run the cell again"
    for view in (str(report), report.to_html()):
        assert (said in view) == when.startswith("2026")
        assert ":00:03; a run" in view or not when.startswith("2026")
    assert said not in str(replace(report, state="done"))


@given(reports())
def test_any_answer_is_short_and_of_one_line(report):
    found = answer_of(report)
    assert 0 < len(found.line) <= MOST == 90
    assert 0 < len(found.brief) <= 30
    assert len(found.line.splitlines()) == len(found.brief.splitlines()) == 1


@given(reports())
def test_any_first_look_fits_a_terminal(report):
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 110 or report.variants, "only a table of long names may be wider"
    # The answer, agreement and a note, the head of the table and the axis, two remarks of two lines each and what
    # follows; two lines a variant.
    assert len(lines) <= 10 + 2 * len(report.variants)
    if len(report.variants) == 2:
        assert len(lines) <= 12


KINDS = {
    "faster": pair(),
    "same": pair("same", 1.002, 0.997, 1.006),
    "unsure": pair("undecided", 0.9, 0.78, 1.1),
    "differs": four_variants(40),
    "failed": with_failure(),
    "memory": with_memory(),
    "alone": a_report(a_variant("torch"), baseline=None),
    "uncompiled": uncompiled(),
    "many": twelve_variants(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_look_is_the_one_that_was_found_good(kind):
    """To see what a change does to it, write the file anew and look at the difference."""
    lines = str(KINDS[kind]).splitlines()
    assert (GOLDEN / f"{kind}.txt").read_text(encoding="utf-8").splitlines() == lines
    if len(KINDS[kind].variants) <= 2:
        assert len(lines) <= 12
    assert max(map(len, lines)) <= 100


def test_the_quickest_comes_first_when_all_are_done():
    names = [variant.name for variant in ranked(four_variants(10))]
    assert names == ["jax:compiled", "torch:compiled", "torch:eager", "numpy"]
    assert [variant.name for variant in ranked(with_failure())] == ["jax", "torch", "numpy"], "without a time: last"
    assert [variant.name for variant in ranked(pair())] == ["jax", "torch"], "of two, too"
    going = replace(four_variants(10), state="running")
    assert ranked(going) == going, "no row moves while it runs"
    html = four_variants(10).to_html()
    rows = html[html.index("<tbody>") : html.index("</tbody>")]
    assert rows.index("jax:<wbr>compiled") < rows.index("torch:<wbr>compiled") < rows.index("numpy")


def test_a_column_of_the_table_that_would_be_empty_is_left_out():
    assert "memory" not in str(pair())
    assert "memory" in str(with_memory())
    assert "compile" not in str(a_report(a_variant("numpy", compilation=None), baseline=None))


def test_intervals_are_light_and_what_they_are_of_is_not():
    html = twelve_variants().to_html()
    assert "by 10 %<span> (7.8-12.2 %)</span> over v01 and 2.1x<span> (2.06-2.14x)</span> over v11</p>" in html


def test_what_differs_is_quoted_as_far_as_it_fits():
    def line(path, *pair):
        differs = Agreement("torch", "differs", "a sentence", path, pair)
        return answer_of(a_report(a_variant("torch"), a_variant("jax", agreement=differs), ratios=(a_ratio(),))).line

    so = "the times are of different things"
    assert line("w", "[5, 4]", "[4, 5]") == f"✗ outputs differ at w: torch [5, 4], jax [4, 5]: {so}"
    long = "parameters['a name'][17]"
    assert line(long, "0.12345", "0.12346") == f"✗ outputs differ at {long}: torch 0.12345, jax 0.12346"
    assert line("w", "x" * 40, "y" * 40) == f"✗ outputs differ at w: {so}"
    assert line("w") == f"✗ outputs differ at w: {so}"
    several = four_variants(10)
    quoted = replace(several["jax:compiled"].agreement, pair=("0.43", "0.53"))
    variants = (replace(v, agreement=quoted) if v.name == "jax:compiled" else v for v in several)
    told = answer_of(replace(several, variants=tuple(variants))).line
    assert told == "✗ outputs differ at loss[0]: torch:eager 0.43, jax:compiled 0.53", "whose each of them is"


def test_compiled_in_another_way():
    report = a_report(a_variant("torch", compilation=a_compilation(way="another", reason="r")), baseline=None)
    assert answer_of(report).line == "torch 1.23 ms, compiled: another"
    failed = a_report(a_variant("torch", status="failed", failure=Failure("", "no\ntrace", None, "trace")))
    assert answer_of(failed).line == "✗ torch failed: no trace"


def test_a_remark_has_its_advice():
    finding = Finding(
        "FW601", "other processes used 1.0 cores: " + "times are those of a busy machine " * 2, "stop them"
    )
    report = a_report(findings=(finding,), ratios=(a_ratio(),))
    many = replace(report, variants=tuple(a_variant(name) for name in "abc"), ratios=())
    for one in (report, many):
        assert "What to do: stop them" in " ".join(str(one).split())
    assert "stop them" not in str(replace(report, note="a note: two variants then have no room for two lines"))


def test_what_a_variant_raised_stands_where_its_samples_would_be():
    *others, broken = with_failure().variants
    why = "operands could not be broadcast together with shapes (3,4) (5,)"
    told = replace(broken, failure=Failure("ValueError", why, 4, "first run"))
    page = replace(with_failure(), variants=(*others, told)).to_html()
    assert f'<span class=fw-why title="ValueError: {why}">ValueError: {why}</span>' in page
    assert ".fw-why{" in page
    assert "fw-why" not in with_failure().to_html(), "the answer has it whole"


def test_a_remark_that_the_answer_holds_is_not_to_be_noted_again():
    """Neither in a first look nor in the details, which have the same answer above them."""
    differs = a_report(a_variant("torch"), a_variant("jax", agreement=DIFFERS), ratios=(a_ratio(),))
    blunt = a_report(a_variant("jax", compilation=Compilation("eager", "it branches on a value", 3)), baseline=None)
    for report, said in (
        (with_failure(), "operands could not"),
        (differs, "torch 9.04, jax 8.90"),
        (blunt, "it branches on a value"),
    ):
        assert str(report).count(said) == 1
        assert "\n! " not in str(report)
        assert "Remarks</summary>" in report.to_html()
        assert report.details().count(said) == 1
    remark = next(line for line in str(uncompiled()).splitlines() if line.startswith("! "))
    assert remark == "! compiled TracerBoolConversionError: use `jnp.where`", "what to do is not in the answer"
    assert "8.90" not in differs.details().split("\n", 1)[1]
    found = replace(differs, findings=tuple(of_report(differs, {})))
    assert "! FW401 what to do: make both compute the same" in str(found)
    long = replace(with_failure().variants[-1], failure=Failure("ValueError", "a reason " * 20, 4, "first run"))
    assert "\n! failed" in str(replace(with_failure(), variants=(*with_failure().variants[:2], long)))


def test_remarks_stand_by_their_weight():
    """That a run is not repeatable changes how every number is read: it is no half-sentence at the end."""
    loud = replace(a_report().variants[0].compilation, breaks=(Place(3, "print() has a side effect"),))
    variants = (a_variant("torch", compilation=loud), a_variant("jax", time=a_time(0.53e-3)))
    report = a_report(*variants, ratios=(a_ratio(repeatable=False),))
    first, *others = (line for line in str(report).splitlines() if line.startswith("! "))
    assert first == "! not repeatable parts of this run disagreed, so the interval was widened"
    assert others == ["! graph break line 3: print() has a side effect"]
    whole = [*details(report)]
    assert [group.name for group in whole] == ["all variants", "torch"]
    assert (whole[0].lines[0].label, whole[1].lines[0].label) == ("not repeatable", "graph break")
    assert "Remarks (2): parts of this run disagreed" in report.to_html()
    told = replace(report, ratios=(a_ratio("undecided", 0.9, 0.78, 1.1, repeatable=False),))
    assert "parts of the run disagreed" in str(told).splitlines()[0]
    assert "! not repeatable" not in str(told), "the answer says it"


def test_the_reason_of_a_failure_is_whole_where_it_is_first_read():
    """Its line began in the midst of a word, and ended there, too."""
    why = "dot_general requires contracting dimensions to have the same shape, got (200000,) and (3,)."
    *others, broken = with_failure().variants
    told = replace(broken, failure=Failure("TypeError", why, 7, "first run"))
    report = replace(with_failure(), variants=(*others, told))
    assert f"<summary>Remarks (1): TypeError (first run): {why}</summary>" in report.to_html()
    assert f"! failed TypeError (first run): {why}" in " ".join(str(report).split())
    crowded = replace(report, findings=(Finding("FW601", "other processes used 2.0 cores", "stop them"),))
    assert f"Remarks (2): TypeError (first run): {why}" in crowded.to_html(), "before what the machine did"


def test_a_narrow_page_says_what_it_leaves_out():
    html = with_memory().to_html()
    assert 'data-dots="dots, " data-left="compile, memory, compiled"' in html
    assert "attr(data-left)" in html, "said by the style, which is what leaves it out"
    untimed = a_report(a_variant("numpy", status="waiting", time=None, compilation=None), baseline=None)
    assert "<div class=fw-more><" in untimed.to_html()


def test_of_a_fastest_with_a_long_name_the_lead_over_the_next_one_is_told():
    report = four_variants(10)
    names = {v.name: f"{v.name} of some length" for v in report.variants}
    ratios = tuple(replace(r, variant=names[r.variant], over=names[r.over]) for r in report.ratios)
    variants = tuple(replace(v, name=names[v.name], agreement=None) for v in report.variants)
    fastest, baseline = names["jax:compiled"], names["torch:eager"]
    (over_baseline,) = (r for r in ratios if (r.variant, r.over) == (fastest, baseline))
    ratios += (replace(over_baseline, over=names["torch:compiled"], median=0.7, low=0.511, high=0.933),)
    line = answer_of(replace(report, variants=variants, ratios=ratios, baseline=baseline, fastest=fastest)).line
    assert " is the fastest, by " in line
    assert " and " not in line
    assert len(line) <= MOST


def test_an_interval_of_a_speed_that_ends_beyond_twice_is_one_of_factors():
    assert answer_of(pair("faster", 0.72, low=0.45, high=0.78)).line.startswith(
        "✓ jax is 1.28-2.22x faster than torch ("
    )
    assert answer_of(pair("faster", 0.72, low=0.6, high=0.78)).line.startswith(
        "✓ jax is 39 % faster than torch (28.2-66.7 %, "
    )


def agreeing(report: Report) -> Report:
    """Return a report without what was found of its outputs."""
    return replace(report, variants=tuple(replace(v, agreement=None) for v in report))


def short(report: Report, name: str = "jax", time: float = 0.53e-3) -> Report:
    """Return a report of calls so short that waking a thread of XLA is a part of them."""
    finding = Finding("FW502", f"{name} is short: it differs from run to run by more", "use --threads 1", name)
    variants = tuple(replace(v, time=a_time(time)) if v.name == name else v for v in report)
    return replace(report, findings=(finding,), variants=variants)


@pytest.mark.parametrize(
    ("report", "line"),
    [
        (short(pair()), "✓ jax is about 2.3x faster than torch (by how much is not sure, outputs agree)"),
        (short(pair("slower", 1.034, 1.021, 1.05)),
         "✓ torch is about 3.4 % faster than jax (by how much is not sure, outputs agree)"),
        (short(pair("same", 1.002, 0.997, 1.006)),
         "= jax and torch: same time within 1 % in this run (outputs agree)"),
        (short(pair("undecided", 0.9, 0.78, 1.1)),
         "? not sure: jax takes 0.780-1.10x as long as torch: --threads 1 may tell"),
        (short(agreeing(four_variants(10)), "jax:compiled"),
         "✓ jax:compiled is the fastest, by about 2.6x over torch:eager"),
        (short(pair(), time=2e-3),
         "✓ jax is 2.3x faster than torch (2.22-2.38x, outputs agree)"),
    ],
)  # fmt: skip
def test_no_size_is_sure_that_a_remark_says_to_differ_from_run_to_run(report, line):
    """`✓ torch is 1.7x faster (1.62-1.82x)` stood beside `differs by more than the interval says`."""
    assert answer_of(report).line == line
