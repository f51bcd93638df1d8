"""All that a report tells, as text and as Markdown; tests/test_answer.py has the first look."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from example_reports import (
    a_compilation,
    a_ledger,
    a_ratio,
    a_report,
    a_time,
    a_variant,
    four_variants,
    reports,
    with_failure,
    with_memory,
)
from hypothesis import given

from fwmagic.report import (
    MIME,
    Agreement,
    Allocation,
    Amount,
    Compilation,
    Failure,
    Finding,
    Ledger,
    Place,
    Report,
    Stage,
    Variant,
)
from fwmagic.report.remarks import conditions, details
from fwmagic.report.text import to_details, to_markdown, to_text
from fwmagic.report.words import ranked, to_words


def remarks(report: Report, name: str) -> str:
    return next(block for block in to_details(report).split("\n\n")[2:] if block.splitlines()[0] == name)


@pytest.mark.parametrize(
    ("ratio", "sentence"),
    [
        (a_ratio(), "jax is 2.3x faster than torch (ratio 0.430, 95 % interval 0.420-0.450, 120 rounds)"),
        (
            a_ratio("slower", 1.034, 1.021, 1.05),
            "jax is 3.4 % slower than torch (ratio 1.034, 95 % interval 1.021-1.050, 120 rounds)",
        ),
        (
            a_ratio("same", 1.002, 0.997, 1.006, rounds=1),
            "jax and torch take the same time, within 1 % (ratio 1.002, 95 % interval 0.997-1.006, 1 round)",
        ),
        (
            a_ratio("undecided", 0.995, 0.97, 1.02),
            "jax and torch: undecided: jax is between 3.1 % faster and 2.0 % slower "
            "(ratio 0.995, 95 % interval 0.970-1.020, 120 rounds); a larger --budget may decide",
        ),
        (
            a_ratio("undecided", 0.99, 0.985, 0.995),
            "jax and torch: undecided: jax is between 1.5 % and 0.50 % faster "
            "(ratio 0.990, 95 % interval 0.985-0.995, 120 rounds); a larger --budget may decide",
        ),
        (
            a_ratio("undecided", 0.5, None, None, rounds=4),
            "jax and torch: undecided: too few rounds for an interval "
            "(ratio 0.500, range 0.400-0.500, no interval, 4 rounds); a larger --budget may decide",
        ),
        (a_ratio("withheld", note="a constant was timed."), "jax and torch: verdict withheld: a constant was timed."),
        (
            a_ratio(repeatable=False, note="how much is not sure: crowded"),
            "jax is 2.3x faster than torch (ratio 0.430, 95 % interval 0.420-0.450, 120 rounds)",
        ),
    ],
)
def test_a_verdict_beside_another_answer_has_its_ratio_interval_and_rounds(ratio, sentence):
    report = replace(with_failure(), ratios=(ratio,))
    assert str(report).startswith("✗ numpy failed")
    assert f"  verdict  {sentence}" in re.sub(" {3,}", "  ", remarks(report, "all variants"))


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (a_ratio(), "jax over torch: 120 rounds"),
        (a_ratio("same", 1.002, 0.997, 1.006), "jax over torch: 120 rounds"),
        (a_ratio("undecided", 0.995, 0.97, 1.02), "jax over torch: 120 rounds"),
        (
            a_ratio(note="how much is not sure: crowded"),
            "jax over torch: 120 rounds; how much is not sure: crowded",
        ),
        (a_ratio("withheld", note="a constant was timed"), None),
    ],
)
def test_a_verdict_that_is_the_answer_is_not_said_again_but_what_it_is_made_of(ratio, words):
    report = a_report(ratios=(ratio,))
    verdicts = [line.text for group in details(report) for line in group.lines if line.label == "verdict"]
    assert verdicts == ([] if words is None else [words])
    assert (words or "verdict") in report.to_html() or words is None
    long = a_report(ratios=(a_ratio("withheld", note="a constant was timed " * 9),))
    assert "verdict withheld: a constant was timed" in remarks(long, "all variants"), "the answer has it cut"


def test_of_several_pairs_only_what_the_table_does_not_tell_is_said_and_once():
    assert "verdict" not in four_variants(10).details()
    crowded = tuple(replace(r, verdict="undecided", note="others were busy") for r in four_variants(10).ratios)
    said = remarks(replace(four_variants(10), ratios=crowded), "all variants")
    assert "verdict   torch:compiled, jax:compiled, numpy: undecided: others were busy" in said
    assert said.count("others were busy") == 1


def test_one_variant_has_a_time_and_no_ratio():
    text = a_report(a_variant("torch")).details()
    assert "1.23 ms (1.22-1.25 ms)" in text
    assert "timed     40 blocks of 4 calls" in text
    assert "ratio" not in text


def test_few_samples_have_no_interval():
    report = a_report(a_variant("torch", time=a_time(points=1, low=None, high=None, calls_per_block=1, calls=1)))
    assert "timed     1 block of 1 call, too few for an interval" in report.details()
    assert "1.23 ms (no interval)" in report.details()


def test_a_run_that_is_not_over_has_no_time_spent():
    report = a_report(
        a_variant("torch", status="running"), a_variant("jax", status="waiting"), state="running", progress=0.42
    )
    assert re.search(r"^jax +waiting$", str(report), re.MULTILINE)
    assert "of a budget of" not in report.details(), "what was spent is not known yet"


def test_interrupted_keeps_what_was_timed():
    report = a_report(
        a_variant("torch"), a_variant("jax", status="interrupted", note="Ctrl-C"), state="interrupted", spent=0.5
    )
    assert "1.23 ms" in str(report)
    assert "interrupted  Ctrl-C" in remarks(report, "jax")


def test_failure_is_named_with_class_line_stage_and_message():
    failure = Failure("TracerBoolConversionError", "\x1b[31mAttempted\nboolean\x1b[0m conversion", 4, "trace")
    failed = a_variant("jax", status="failed", failure=failure)
    report = a_report(a_variant("torch"), failed, state="failed", note="why")
    answer, note = str(report).splitlines()[:2]
    assert answer == "✗ jax failed, line 4: TracerBoolConversionError: Attempted boolean conversion"
    assert note == "why"
    assert remarks(report, "jax") == "jax\n  failed  stage: trace", "the answer has the rest"
    first = replace(failed, name="numpy")
    other = replace(failed, failure=replace(failure, message="another"))
    block = remarks(replace(report, variants=(first, other)), "jax")
    assert "! failed  line 4: TracerBoolConversionError (trace): another" in block


def test_an_error_is_whole_in_one_place_of_each_view_and_goes_on_elsewhere():
    message = "Attempted boolean conversion of a traced array:\n" + "\n".join(f"line of it {i}" for i in range(60))
    failed = a_variant("jax", status="failed", failure=Failure("TracerError", message, 4, "trace"))
    report = a_report(a_variant("torch"), failed, state="failed")
    whole = f"line 4: TracerError (trace): {' '.join(message.split())}"
    assert len(whole) > 600
    assert whole in report.details()
    page = report.to_html()
    assert whole in page
    (pointed,) = re.findall('<span class=fw-why title="(.*?)">', page)
    assert 500 < len(pointed) <= 600
    answer, *_, first, second, _ = str(report).splitlines()
    assert answer == "✗ jax failed, line 4: TracerError: Attempted boolean conversion of a traced array…"
    assert "Attempted" not in first + second, "a remark begins where the answer ends"
    stored = report._repr_mimebundle_()[MIME]
    assert stored["variants"][1]["failure"]["message"] == message.splitlines()[0]
    lines = [line["text"] for group in stored["words"]["details"] for line in group["lines"]]
    assert whole in lines
    endless = replace(failed, failure=Failure("E", "x" * 10**5, 4, "trace"))
    many = replace(report, variants=(endless,))
    assert "x" * 10**5 in many.details()
    assert sum(len(json.dumps(part)) for part in many._repr_mimebundle_().values()) < 10**5 + 15_000


def test_run_once_and_not_timed_give_their_reason():
    once = a_variant("torch", status="run-once", note="it reads an open file", time=a_time(0.2, 1))
    report = a_report(once, a_variant("jax", status="not timed", note="JAX is not installed"))
    answer = str(report).splitlines()[0]
    assert answer == "torch ran once in 200 ms: it reads an open file; jax was not timed: JAX is not installed"
    assert report.details().count("open file") == report.details().count("not installed") == 1
    long = replace(report, variants=(replace(once, note="it reads an open file " * 9), report["jax"]))
    assert "run-once  it reads an open file" in remarks(long, "torch")
    assert "not timed  JAX is not installed" in remarks(long, "jax")
    assert "200 ms (once)" in str(report)


def test_differing_outputs_are_described():
    report = four_variants(10)
    assert "! outputs   12 of 4096 values" in remarks(report, "jax:compiled")
    assert "(at loss[0])" in remarks(report, "jax:compiled")


def test_agreeing_outputs_are_said_without_a_warning():
    agreement = Agreement("torch", "agrees", "all values within 1e-5", None)
    report = a_report(a_variant("torch"), a_variant("jax", agreement=agreement))
    assert "  outputs  all values within 1e-5" in remarks(report, "jax")
    assert "!" not in report.details()


def test_what_is_the_same_for_all_is_said_once():
    report = a_report(a_variant("torch"), a_variant("jax"), ratios=(a_ratio(),))
    assert report.details().count("the whole cell as one function") == 1
    assert "compiled  the whole cell as one function" in remarks(report, "all variants")
    alone = a_report(a_variant("torch"))
    assert "compiled  the whole cell as one function" in remarks(alone, "torch")


def test_compilation_names_way_reason_line_breaks_recompiles_and_stages():
    block = remarks(four_variants(10), "torch:compiled")
    assert "the functions that it calls, in place (step, loss_of), 3 graphs, 2 captured arrays made arguments" in block
    assert ": line 4: the body trains, so it stays Python" in block
    assert "! graph break  line 7: print() has a side effect" in block
    assert "! recompiled   line 7: the shape of x changed" in block
    assert "! compiles     every call" in block
    stages = remarks(four_variants(10), "stages")
    assert "torch:compiled  prime 8.70 s (once a process, not counted), trace 12.0 ms, backend 800 ms" in stages
    assert "lower n/a (torch does not report it)" in stages


def test_compile_time_is_without_prime():
    stages = (Stage("prime", 8.0, "clock"), Stage("trace", 0.25, "clock"), Stage("backend", 0.5, "clock"))
    report = a_report(a_variant("torch", compilation=a_compilation(stages=stages, cache="unknown")))
    assert "750 ms" in to_details(report).split("\n\n")[1]
    only_prime = a_report(a_variant("torch", compilation=a_compilation(stages=stages[:1])))
    assert "compile" not in to_details(only_prime).split("\n\n")[1].splitlines()[0].split()[3:]


def test_a_place_without_a_line_names_none():
    report = a_report(a_variant("torch", compilation=a_compilation(breaks=(Place(None, "unknown call"),))))
    assert "! graph break  unknown call" in to_details(report)


def test_findings_stand_with_their_variant_or_with_all():
    report = four_variants(10)
    assert "! FW203     line 3: torch computes in float32, jax in float64. What to do: Set the dtype." in remarks(
        report, "numpy"
    )
    assert "! FW101     Another process was busy. What to do: Close it" in remarks(report, "all variants")
    gone = replace(report, findings=(Finding("FW1", "s", "f", "no such variant"),))
    assert "FW1" in remarks(gone, "all variants")


def test_memory_is_said_for_each_device_with_what_is_not_available_and_why():
    block = remarks(with_memory(), "torch")
    assert (
        "peak on cuda:0 of 24.0 GiB: other processes 900 MiB, context 520 MiB, in use 1.17 GiB, free in pool" in block
    )
    assert "peak on host: in use 300 MiB; on top of 612 MiB before; not available: other processes (no perm" in remarks(
        with_memory(), "all variants"
    )
    assert "! memory" not in block
    odd = Ledger(
        "cuda:0", None, (Amount("in use", None, why="no driver"),), note="the driver reports less than is held"
    )
    block = remarks(a_report(a_variant("torch", memory=(odd,))), "torch")
    assert "! memory    peak on cuda:0: n/a; not available: in use (no driver); the driver reports less" in block


def test_the_table_has_the_peak_in_use_of_the_first_device_that_knows_it():
    head, second, first = to_details(with_memory()).split("\n\n")[1].splitlines()
    assert "memory" in head
    assert "peak held" in head
    assert "3.52 GiB (cuda:0)" in first
    assert "1.17 GiB (cuda:0)" in first
    assert "800 MiB (cuda:0)" in second
    static = Ledger("CPU", None, (Amount("in use", 2**21, "XLA"),), how="static")
    none = Ledger("cuda:0", None, (Amount("in use", None, why="no driver"),))
    assert "2.00 MiB (CPU (static))" in to_details(a_report(a_variant("jax", memory=(none, static))))
    assert "memory" not in to_details(a_report(a_variant("jax", memory=(none,)))).split("\n\n")[1]
    ended = Ledger("host", None, (Amount("in use", 2**21, "read every 50 ms"),), how="last seen")
    assert "+2.00 MiB (host, last seen)" in to_details(a_report(a_variant("jax", memory=(ended,))))


def test_a_device_says_what_was_in_use_before_and_what_was_held_later():
    later = (Amount("after del", 2048, "counters"), Amount("after empty_cache()", None, why="no such call"))
    ledger = a_ledger(start=2**20, released=later)
    text = to_details(a_report(a_variant("torch", memory=(ledger,))))
    assert "1.00 MiB of it in use before" in text
    assert "then held: after del 2.00 KiB, after empty_cache() n/a (no such call)" in text
    head, row = text.split("\n\n")[1].splitlines()
    assert "after del" in head
    assert "2.00 KiB" in row


def test_little_memory_is_not_mentioned_but_why_it_is_not_known_is():
    little = Ledger("host", None, (Amount("in use", 2**20 - 1, "VmHWM", most=2**21),), note="a note")
    report = a_report(a_variant("jax", memory=(little,)))
    assert report.details().count("memory") == 1
    assert "left out  memory: 2.00 MiB at most" in report.details()
    assert "memory" not in report._repr_mimebundle_()[MIME]["words"]["charts"]
    unknown = Ledger("cuda:0", None, (Amount("in use", None, why="no driver"),))
    shown = a_report(a_variant("jax", memory=(little, unknown)))._repr_mimebundle_()
    assert "not available: in use (no driver)" in shown["text/html"]


def test_the_lines_that_allocated_are_named_with_their_bytes():
    lines = (Allocation(3, 64 * 2**20), Allocation(None, 2**20, "inside XLA, line unknown"))
    heap = Ledger("heap", None, (Amount("in use", 65 * 2**20, "memray"),), lines=lines)
    block = remarks(a_report(a_variant("jax", memory=(heap,))), "jax")
    assert "allocated  line 3 64.0 MiB, inside XLA, line unknown 1.00 MiB" in block


def test_table_is_aligned():
    head, *rows = to_details(four_variants(10)).split("\n\n")[1].splitlines()
    starts = [match.start() for match in re.finditer(r"\S+( \S+)*", head)]
    for line in (head, *rows):
        assert all(line[start] != " " and (start == 0 or line[start - 2 : start] == "  ") for start in starts)
    assert re.search(r"0\.478 \(0\.468-0\.488\)", rows[1])
    assert "90.0 µs / 810 µs" in rows[0]
    assert "71.0 k" in rows[0]


def test_a_time_that_had_not_settled_is_said_once():
    finding = Finding("FW302", "numpy had not settled", "give it a larger --budget", "numpy")
    block = remarks(replace(four_variants(10), findings=(finding,)), "numpy")
    assert "FW302" in block
    assert "not warm" not in block


def test_warmth_and_voided_blocks_are_said():
    block = remarks(four_variants(10), "numpy")
    assert "! not warm" in block
    assert "2 blocks in which something was compiled" in block


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ((a_variant("torch"),), "memory: not measured"),
        (
            (a_variant("torch", memory=(Ledger("host", None, (Amount("in use", 2048, ""),)),)),),
            "memory: 2.00 KiB at most",
        ),
        (
            (a_variant("torch", compilation=Compilation("eager")), a_variant("jax", compilation=None)),
            "memory: not measured; compile: nothing was compiled",
        ),
        (
            (a_variant("torch", compilation=Compilation("yours")),),
            "memory: not measured; compile: its time is not known",
        ),
        (with_memory().variants, None),
    ],
)
def test_why_a_column_is_left_out_is_among_the_conditions(variants, said):
    report = a_report(*variants, baseline=None)
    (found,) = [line.text for line in conditions(report) if line.label == "left out"] or [None]
    assert found == said
    assert said is None or said in report.to_html()
    # In the first look of every view, and what a notebook stores is no other word.
    memory = said and said.partition(";")[0]
    last = str(report).splitlines()[-1]
    assert last.startswith(f"M{memory[1:]}; figures" if memory else "Figures")
    assert memory is None or f"<span class=fw-soft>{memory}</span>" in report.to_html()
    (stored,) = [
        one["text"] for one in report._repr_mimebundle_()[MIME]["words"]["conditions"] if one["label"] == "left out"
    ] or [None]
    assert stored == said
    assert "left out" not in replace(report, state="running").details(), "it may still come"


def test_conditions_are_two_to_five_lines():
    lines = to_details(a_report()).split("\n\n")[-1].splitlines()
    assert lines[0] == "conditions"
    assert 2 <= len(lines) - 1 <= 5
    text = " ".join(lines)
    for part in (
        "torch 2.13.0",
        "cpu:0",
        "2 threads each",
        "jax_enable_x64 = False",
        "W float32",
        "before 0.1",
        "chrome",
    ):
        assert part in text
    for part in ("during 0.4", "AMD EPYC", "1.90 s of a budget of 2.00 s"):
        assert part in text


def test_of_conditions_that_have_a_default_only_others_are_said():
    usual = a_report().details()
    for part in ("margin", "own process", "perf_counter", "3f2a", "2026-11-22"):
        assert part not in usual
    there = replace(a_report().conditions, process="a process for each variant", threads={"torch": "2", "jax": "1"})
    other = a_report(a_variant("torch", time=a_time(source="CUDA events")), margin=0.05, conditions=there).details()
    for part in ("margin 5 %", "a process for each variant", "CUDA events", "torch threads: 2, jax threads: 1"):
        assert part in other


@given(reports())
def test_any_report_has_a_text_and_a_markdown(report):
    assert "\x1b" not in to_text(report)
    assert to_markdown(report).endswith("\n")
    assert to_text(report) == str(report)


def test_the_panel_copies_the_same_markdown():
    path = Path(__file__).parent.parent / "labextension/test/markdown.json"
    report = with_failure()
    ranks = {"figures": to_words(ranked(report))["figures"]}  # as the panel does when it reads a report
    written = {"words": {**to_words(report), **ranks}, "markdown": to_markdown(report)}
    assert json.loads(path.read_text()) == written, f"put this into {path.name}: {json.dumps(written)}"


def cells(row: str) -> list[str]:
    return re.split(r"(?<!\\)\|", row)[1:-1]


def test_markdown_table_survives_pipes_newlines_and_markup():
    name = "a|b\n<img src=x> *c* `d` [e](f) my_net __init__ \\| g"
    report = a_report(a_variant(name), a_variant("jax"), ratios=(a_ratio(over=name),), baseline=name)
    lines = to_markdown(report).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 4
    assert len({len(cells(row)) for row in table}) == 1
    shown = cells(table[2])[0].strip()
    assert shown.startswith(r"a\|b \<img src=x\> \*c\* \`d\` \[e\](f) my_net \_\_init\_\_")


def test_markdown_says_what_the_text_says():
    report = four_variants(10)
    plain = re.sub(r"\\(.)", r"\1", to_markdown(report))
    assert plain.startswith("**✗ outputs of jax:compiled differ at loss[0]")
    for block in to_details(report).split("\n\n")[3:]:  # the stages are the text's own
        for line in block.splitlines()[1:]:
            label, text = re.split(r"  +", line[2:], maxsplit=1)
            assert re.search(rf"^- (\*\*)?{re.escape(label)}(\*\*)?: {re.escape(text)}$", plain, re.MULTILINE), line


def test_unknown_way_is_shown_as_it_is():
    variant: Variant = a_variant("torch", compilation=a_compilation(way="another", reason="r"))
    assert "compiled  another, 1 graph: r" in a_report(variant).details()
