"""A report in words: what its text says, in parts."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from example_reports import a_compilation, a_ratio, a_report, a_time, a_variant, four_variants, reports, with_memory
from hypothesis import given

from fwmagic.report import Amount, Ledger, Regime, Report, Stage, Timeline
from fwmagic.report.tables import figures, table
from fwmagic.report.words import to_words


def test_the_parts_of_a_report():
    words = to_words(four_variants(10))
    assert list(words) == ["headline", "brief", "figures", "charts", "details", "conditions", "budget", "sign", "scale"]
    assert words["budget"] == "2.00 s"
    (first,) = words["headline"]
    assert first["text"].startswith("✗ outputs of jax:compiled differ at loss[0]")
    assert first["warning"] is True
    assert (words["sign"], words["brief"]) == ("✗", "outputs differ")
    assert words["figures"]["head"][:3] == ["variant", "runs", "time per call"]
    assert [row[0] for row in words["figures"]["rows"]] == ["torch:eager", "torch:compiled", "jax:compiled", "numpy"]
    assert words["details"][0]["name"] == "all variants", "before what is of one alone"
    numpy = words["details"][-1]["lines"]
    assert {"label": "not warm", "text": "its time had not settled when the rounds began", "warning": True} in numpy
    assert [line["label"] for line in words["conditions"]] == ["software", "devices", "load", "timing", "left out"]


@pytest.mark.parametrize(
    ("cell", "options", "name"),
    [
        ("%%compare -o mine\n%%torch\n1", {"output": "mine", "mode": "all"}, "mine"),
        ("%%jax\n\n  # the loss of one batch\nx", {}, "# the loss of one batch"),
        ("%%compare\n%%setup\nx = 1\n\nx += 1\n%%torch\ny = x + 1", {}, "y = x + 1"),
        ("%%torch\n" + 40 * "x", {}, 29 * "x" + "…"),
        ("", {}, None),
    ],
)
def test_a_run_is_called_by_its_variable_or_its_first_line(cell, options, name):
    assert to_words(a_report(a_variant("torch", options=options), cell=cell)).get("name") == name


def test_a_report_without_variants_has_words():
    words = to_words(a_report(variants=()))
    assert words["headline"] == [{"text": "no variant was run"}]
    assert words["figures"] == {"head": [], "rows": []}
    assert words["details"] == []


def test_the_note_of_a_run_follows_its_answer_unless_it_is_that():
    noted = to_words(a_report(ratios=(a_ratio(),), note="No GPU here.", state="done"))["headline"]
    assert noted == [{"text": "✓ jax is 2.3x faster than torch (2.22-2.38x)"}, {"text": "No GPU here"}]
    (only,) = to_words(a_report(variants=(), note="No GPU here"))["headline"]
    assert only == {"text": "No GPU here"}


def test_what_holds_its_default_is_left_out():
    words = to_words(a_report(a_variant("torch"), baseline=None))
    assert '"warning": false' not in json.dumps(words)


@given(reports())
def test_the_words_of_any_report_are_those_of_its_text(report):
    words, text = to_words(report), report.details()
    assert json.loads(json.dumps(words)) == words
    lines = [line for group in words["details"] for line in group["lines"]]
    for line in (*words["headline"], *lines, *words["conditions"]):
        told = report.findings[line["finding"]].fix if "finding" in line else line.get("text", "")
        assert told in text
    assert all(len(row) == len(words["figures"]["head"]) for row in words["figures"]["rows"])
    for chart, variants in words["charts"].items():
        head = json.loads(files("fwmagic").joinpath("charts", f"{chart}.json").read_text())["usermeta"]["table"]
        known = 2 if head[-1] == "source" else 1
        assert len(variants) == len(report.variants)
        assert {len(row) for rows in variants for row in rows} == {len(head) - known}


def test_the_figures_of_the_charts_are_words_a_list_a_variant():
    charts = to_words(four_variants(40))["charts"]
    assert list(charts) == ["times", "ratios", "stages"]
    assert charts["times"][0] == [["2.30 ms", "2.28-2.35 ms", "40"]]
    assert charts["ratios"][:2] == [[], [["torch:eager", "0.478", "0.468-0.488", "faster"]]]
    assert charts["stages"][:2] == [[], [["trace", "12.0 ms"], ["backend", "800 ms"]]]
    once = a_report(a_variant("torch", compilation=a_compilation(stages=(Stage("first run", 0.5, "first call"),))))
    assert "stages" not in to_words(once)["charts"], "a first run is no compilation, neither here nor in the table"
    unsure = a_report(a_variant("torch", time=a_time(low=None)), ratios=(a_ratio(low=None, variant="torch"),))
    unsure = to_words(unsure)["charts"]
    assert unsure["times"] == [[["1.23 ms", "n/a", "40"]]]
    assert unsure["ratios"] == [[["torch", "0.430", "n/a", "faster"]]]


def test_the_memory_of_a_chart_is_that_of_its_segments_and_of_its_course():
    charts = to_words(with_memory())["charts"]
    torch, _jax = charts["memory"]
    assert torch[2:4] == [["cuda:0", "in use", "1.17 GiB"], ["cuda:0", "free in pool", "2.34 GiB"]]
    assert torch[-1] == ["host", "other processes", "not available"]
    assert charts["timeline"][0] == [["cuda:0", "1.17 GiB", "3.52 GiB", "40"]]
    course = Timeline((0.0, 1.0), (5, 8 << 20))
    sampled = Ledger("host", None, (Amount("in use", 8 << 20, "sampled"),), course, how="sampled")
    static = Ledger("CPU", None, (Amount("in use", 9, "XLA"),), how="static")
    charts = to_words(a_report(a_variant("jax", memory=(sampled, static))))["charts"]
    assert charts["memory"] == [[["host", "in use (sampled)", "8.00 MiB"], ["CPU (static)", "in use (static)", "9 B"]]]
    assert charts["timeline"] == [[["host", "8.00 MiB", "n/a", "2"]]]


def test_a_chart_that_would_show_nothing_has_no_words():
    unknown = Ledger("host", None, (Amount("in use", None, why="no permission"),))
    static = Ledger("CPU", None, (Amount("in use", 9, "XLA"),), how="static")
    report = a_report(a_variant("jax", status="failed", memory=(unknown, static)))
    assert to_words(report)["charts"] == {}


def test_memory_is_among_the_words():
    (torch, _jax, both) = to_words(with_memory())["details"]
    assert [line["label"] for line in torch["lines"]].count("memory") == 1
    assert [line["label"] for line in both["lines"]].count("memory") == 1, "the host's is the same for both"


def test_an_amount_that_has_a_lower_and_an_upper_bound_is_a_span_everywhere():
    ledger = Ledger("host", None, (Amount("in use", 24 << 20, "counted", most=48 << 20),), start=1 << 30)
    report = a_report(a_variant("jax", memory=(ledger,)))
    assert "+24.0 to 48.0 MiB (host)" in report.details()
    assert "24.0 to 48.0 MiB more" in report.to_html()
    assert to_words(report)["charts"]["memory"][0][0][-1] == "24.0 to 48.0 MiB"
    assert "+24.0 to 48.0 MiB" in str(report)
    assert "+24.0 MiB" not in str(report) + report.details()


@pytest.mark.parametrize(("median", "said"), [(0.43, False), (0.42, False), (0.39, True), (0.48, True)])
def test_a_time_that_contradicts_a_ratio_says_so_beside_it(median, said):
    """The answer was `1.8x`, and who divided the times of the table found 2.0."""
    report = a_report(ratios=(a_ratio(median=median),))
    assert ("530 µs (moved)" in str(report)) == ("530 µs <small>(moved)" in report.to_html()) == said
    told = f"530 µs (525-541 µs{', moved' if said else ''})"
    assert told in report.details()
    assert told in to_words(report)["figures"]["rows"][1]
    assert str(report).count("moved") == said, "not beside the baseline"


def spans(*bounds: tuple[int, int | None], device: str = "host") -> Report:
    """Return a report of variants whose memory lies between so many MiB."""
    variants = []
    for name, (low, high) in zip("abc", bounds, strict=False):
        amount = Amount("in use", low << 20, "counted", most=None if high is None else high << 20)
        ledger = Ledger(device if name == "a" else "host", None, (amount,), start=1 << 30)
        variants.append(a_variant(name, memory=(ledger,)))
    return a_report(*variants, baseline="a")


@pytest.mark.parametrize(
    ("report", "which"),
    [
        (spans((24, 48), (30, 50)), "a and b"),
        (spans((24, 48), (30, None)), "a and b"),
        (spans((0, None), (24, 48), (30, 50)), "b and c"),
        (spans((24, 48), (48, 50)), None),
        (spans((24, None), (24, 48)), None),
        (spans((24, None), (24, None)), None),
        (spans((24, 48), (30, 50), device="cuda:0"), None),
    ],
)
def test_whether_one_needs_more_memory_is_said_where_ranges_overlap(report, which):
    assert ("memory (not sure)" in str(report)) == (which is not None)
    assert ("memory (not sure)" in figures(report).head) == (which is not None)
    html = report.to_html()
    assert ("<th>memory <small>(not sure)" in html) == (which is not None)
    assert 'data-left="compile, memory, compiled"' in html
    assert "fw-wide3" in html
    told = f"which of {which} needs more is not sure: their ranges overlap"
    assert (told in report.details()) == (told in html) == (which is not None)


def test_a_ratio_that_moved_between_two_levels_gives_both():
    regimes = (Regime(0.881, 0.57), Regime(1.48, 0.43))
    ratio = a_ratio("undecided", 1.1, 0.87, 1.5, regimes=regimes, repeatable=False)
    text = a_report(a_variant("torch"), a_variant("jax"), ratios=(ratio,)).details()
    assert "it moved between 0.881, in 57 % of the rounds, and 1.48" in " ".join(text.split())
    assert "not repeatable" not in text


@pytest.mark.parametrize(("alone", "said"), [(None, False), (1.23e-3, False), (1.2e-3, False), (0.9e-3, True)])
def test_the_time_in_a_tight_loop_is_said_where_it_is_another(alone, said):
    (details, *_) = to_words(a_report(a_variant("jax", time=a_time(alone=alone))))["details"]
    told = [line["text"] for line in details["lines"] if line["label"] == "alone"]
    assert told == (["900 µs in a tight loop, without pauses or other variants in between"] if said else [])


def test_the_number_of_blocks_is_that_of_the_run_also_in_a_stored_report():
    whole = a_report(a_variant("jax", time=a_time(points=400)))
    stored = Report.from_json(whole.to_dict(50))
    assert len(stored["jax"].time.samples) < 400
    for report in (whole, stored):
        assert "400 blocks of 4 calls" in report.details()


@pytest.mark.parametrize(
    ("fields", "told", "folded"),
    [
        ({}, "812 ms (cold)", True),
        ({"cache": "disk-warm"}, "cached (812 ms)", True),
        ({"cache": "none"}, "812 ms (in vain)", True),
        ({"cache": "unknown"}, "812 ms (cache unknown)", True),
        ({"cache": "reused", "stages": ()}, "reused", False),
        ({"cache": "none", "stages": ()}, None, False),
        ({"stages": (Stage("trace", None, "torch does not report it"),)}, None, False),
    ],
)
def test_what_compiling_took_is_one_figure_in_every_view(fields, told, folded):
    report = a_report(a_variant("torch", compilation=a_compilation(**fields)), baseline=None)
    first, whole = table(report), figures(report)
    assert ("compile" in first.head) == ("compile" in whole.head) == (told is not None)
    html = report.to_html()
    assert ("<summary>Compile</summary>" in html) == folded
    if told is not None:
        assert first.rows[0][first.head.index("compile")] == told
        assert whole.rows[0][whole.head.index("compile")] == told
        assert (f" {told}: " in html) == folded, "among the stages"
    stages = to_words(report)["charts"].get("stages")
    assert stages == ([[["trace", "12.0 ms"], ["backend", "800 ms"]]] if folded else None)


def test_a_ratio_of_one_round_has_no_range():
    ratio = a_ratio("undecided", 0.9, None, None, rounds=1, least=0.9, most=0.9)
    one = a_report(a_variant("torch"), a_variant("jax", time=a_time(1.1e-3)), ratios=(ratio,))
    assert "0.900 (one round)" in str(one)
    assert "jax over torch: 1 round" in one.details()
