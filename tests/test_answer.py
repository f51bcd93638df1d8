"""The answer of a report: one line of at most 90 characters, one of at most 30, and a first look as golden files."""

from __future__ import annotations

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

from fwmagic.report import Agreement, Compilation, Failure, Report
from fwmagic.report.answer import MOST, answer_of

AGREES = Agreement("torch", "agrees", "all values within 1e-5", None)
DIFFERS = Agreement("torch", "differs", "torch and jax differ at Out: 9.04 and 8.90", "Out")
GOLDEN = Path(__file__).parent / "golden"


def pair(*ratio, **fields) -> Report:
    """Return a comparison of torch and jax whose outputs agree."""
    jax = a_variant("jax", time=a_time(0.53e-3), agreement=AGREES)
    return a_report(a_variant("torch"), jax, ratios=(a_ratio(*ratio, **fields),))


def differing() -> Report:
    return a_report(a_variant("torch"), a_variant("jax", agreement=DIFFERS), ratios=(a_ratio(),))


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
        (pair("slower", 1.034, 1.021, 1.05), "✓ jax is 3.4 % slower than torch (2.1-5.0 %, outputs agree)",
         "jax 3.4 % slower"),
        (pair("same", 1.002, 0.997, 1.006), "= jax and torch: same time within 1 % (outputs agree)", "same time"),
        (pair("undecided", 0.9, 0.78, 1.1),
         "? not sure: jax is 0.91x to 1.28x as fast as torch: --budget 10 would tell", "not sure"),
        (pair("undecided", 0.995, 0.97, 1.02), "? not sure: jax is 0.98x to 1.03x as fast as torch: too close to tell",
         "not sure"),
        (pair("undecided", 0.5, None, None, rounds=4),
         "? not sure: too few rounds for an interval: --budget 9 would tell", "not sure"),
        (pair(note="how much is not sure: crowded"),
         "✓ jax is faster than torch, by how much is not sure (0.420-0.450 of its time)", "jax 2.3x faster"),
        (pair("withheld", note="jax: no array reaches it"), "✗ no verdict: jax: no array reaches it", "no verdict"),
        (differing(), "✗ outputs differ at Out: the times are of different things", "outputs differ"),
        (with_failure(),
         "✗ numpy failed, line 4: ValueError: operands could not be broadcast together", "numpy failed"),
        (uncompiled(), "jax 1.23 ms, not compiled: line 3: it branches on a value that is not known while tracing",
         "jax 1.23 ms"),
        (a_report(a_variant("jax"), baseline=None), "jax 1.23 ms, compiled: whole cell", "jax 1.23 ms"),
        (twelve_variants(), "✓ v00 is the fastest, by 10 % over v01 and 2.1x over v11", "v00 fastest"),
        (replace(twelve_variants(), fastest=None), "? not sure which is the fastest: v00 and v01 lead", "not sure"),
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


def test_a_ratio_stored_the_other_way_round_is_turned_to_the_baseline():
    report = a_report(ratios=(a_ratio(),), baseline="jax")
    assert answer_of(report).line == "✓ torch is 2.3x slower than jax (2.22-2.38x)"
    assert "ratio to jax" in str(report)


def test_the_fastest_is_said_of_three_but_not_of_two():
    assert "fastest" not in str(a_report(ratios=(a_ratio(),), fastest="jax"))
    agree = tuple(replace(v, agreement=None) for v in four_variants(10))
    assert answer_of(replace(four_variants(10), variants=agree)).line.startswith("✓ jax:compiled is the fastest")


def test_a_failure_hides_nothing_that_was_timed():
    text = str(with_failure())
    assert "0.430 (0.420-0.450)" in text
    assert "failed" in text.splitlines()[4]


@pytest.mark.parametrize("when", ["2026-11-22T10:00:03.250+00:00", "", "yesterday"])
def test_a_run_that_was_cut_off_says_as_of_when_its_figures_are(when):
    """What stays of it, nobody can update: it says itself what to think of it."""
    report = at_work("running", "waiting", updated=when)
    said = "if nothing follows, the run was cut off: run the cell again"
    for view in (str(report), report.to_html()):
        assert (said in view) == when.startswith("2026")
        assert ":00:03; if" in view or not when.startswith("2026")
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
    # The answer and a note, the head of the table and the axis, two remarks and what follows; two lines a variant.
    assert len(lines) <= 7 + 2 * len(report.variants)


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


def test_a_column_of_the_table_that_would_be_empty_is_left_out():
    assert "memory" not in str(pair())
    assert "memory" in str(with_memory())
    assert "compile" not in str(a_report(a_variant("numpy", compilation=None), baseline=None))


def test_compiled_in_another_way():
    report = a_report(a_variant("torch", compilation=a_compilation(way="another", reason="r")), baseline=None)
    assert answer_of(report).line == "torch 1.23 ms, compiled: another"
    failed = a_report(a_variant("torch", status="failed", failure=Failure("", "no\ntrace", None, "trace")))
    assert answer_of(failed).line == "✗ torch failed: no trace"
