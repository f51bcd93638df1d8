"""Charts of a report as SVG."""

from __future__ import annotations

import math
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from example_reports import (
    COLOURS,
    a_compilation,
    a_ledger,
    a_ratio,
    a_report,
    a_time,
    a_variant,
    four_variants,
    with_memory,
)
from test_html import HOSTILE, hostile_report

from fwmagic.errors import FwMagicError
from fwmagic.report import MOST_POINTS, NEUTRAL, Agreement, Amount, Ledger, Report, Stage, Timeline
from fwmagic.report.charts import to_svg
from fwmagic.report.scale import scale
from fwmagic.report.words import CHARTS, ranked

SVG = "{http://www.w3.org/2000/svg}"


def groups(svg: str, name: str) -> list[ET.Element]:
    found = [g for g in ET.fromstring(svg).iter(f"{SVG}g") if f"{name}_marks" in g.get("class", "").split()]
    return [mark for group in found for mark in group]


def words(svg: str) -> list[str]:
    return [text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text")]


def test_times_have_a_point_a_sample_and_an_interval_and_a_median_a_variant():
    svg = to_svg(four_variants(MOST_POINTS))
    assert len(groups(svg, "samples")) == 4 * MOST_POINTS
    assert len(groups(svg, "intervals")) == len(groups(svg, "medians")) == 4
    assert {"torch:eager", "torch:compiled", "jax:compiled", "numpy"} <= set(words(svg))
    assert any(re.fullmatch(r"[\d.]+ms", label) for label in words(svg))
    long = to_svg(a_report(a_variant("torch", time=a_time(points=1000)), a_variant("jax", status="failed")))
    assert len(groups(long, "samples")) == MOST_POINTS
    assert len(groups(to_svg(a_report(a_variant("torch", time=a_time(low=None)))), "intervals")) == 0


def place(mark: ET.Element) -> tuple[float, float]:
    """Return where a mark begins and ends from left to right."""
    shift = float((re.match(r"translate\(([-\d.e]+)", mark.get("transform", "")) or [0, 0])[1])
    if mark.tag.endswith("line"):
        return tuple(sorted((shift, shift + float(mark.get("x2", 0)))))
    bar = re.match(r"M([-\d.e]+),[-\d.e]+h([-\d.e]+)v", mark.get("d", ""))
    return (shift + float(bar[1]), shift + float(bar[1]) + float(bar[2])) if bar else (shift, shift)


def assert_on_one_line(pairs: list[tuple[float, float]], within: float = 1.5) -> None:
    """Check that places (in pixels) follow from values by one scale."""
    (least, left), (most, right) = min(pairs), max(pairs)
    assert right > left + 50
    for value, at in pairs:
        assert at == pytest.approx(left + (right - left) * (value - least) / (most - least), abs=within), (value, at)


class TestNumbersAreThoseOfTheJson:
    """Every mark of every chart lies where its number in the report does, on one scale for all."""

    @pytest.fixture
    def report(self):
        times = {"torch": 1.23e-3, "jax": 0.53e-3, "numpy": 2.5e-3}
        memory = with_memory(10)
        variants = (
            a_variant(name, time=a_time(median, MOST_POINTS - i), memory=memory["torch" if i else "jax"].memory)
            for i, (name, median) in enumerate(times.items())
        )
        ratios = tuple(a_ratio("slower", r, r * 0.9, r * 1.2, variant=n) for n, r in (("jax", 0.43), ("numpy", 2.03)))
        return ranked(a_report(*variants, ratios=ratios))

    def test_times(self, report):
        svg = to_svg(report)
        timed = [variant.time for variant in report]
        samples = [sample for time in timed for sample in time.samples]
        drawn = [place(mark)[0] for mark in groups(svg, "samples")]
        medians = [sum(place(mark)) / 2 for mark in groups(svg, "medians")]
        bands = [place(mark) for mark in groups(svg, "intervals")]
        high = scale(timed).high
        assert_on_one_line([
            *((min(sample, high), x) for sample, x in zip(samples, drawn, strict=True)),
            *((time.median, x) for time, x in zip(timed, medians, strict=True)),
            *((time.low, x) for time, (x, _) in zip(timed, bands, strict=True)),
            *((time.high, x) for time, (_, x) in zip(timed, bands, strict=True)),
        ])  # fmt: skip

    def test_ratios(self, report):
        svg = to_svg(report, "ratios")
        points = [place(mark)[0] for mark in groups(svg, "ratios")]
        spans = [place(mark) for mark in groups(svg, "ratio_intervals")]
        (one,) = [place(mark)[0] for mark in groups(svg, "one")]
        assert_on_one_line([
            (0.0, one),
            *((math.log(r.median), x) for r, x in zip(report.ratios, points, strict=True)),
            *((math.log(r.low), x) for r, (x, _) in zip(report.ratios, spans, strict=True)),
            *((math.log(r.high), x) for r, (_, x) in zip(report.ratios, spans, strict=True)),
        ])  # fmt: skip

    def test_stages(self, report):
        bars = [place(mark) for mark in groups(to_svg(report, "stages"), "stages")]
        widths = [(0.0, 0.0), *((x - x0 + 2, seconds) for (x0, x), seconds in zip(bars, 3 * [0.012, 0.8], strict=True))]
        assert_on_one_line([(seconds, width) for width, seconds in widths], within=2.5)

    def test_memory(self, report):
        bars = [place(mark) for mark in groups(to_svg(report, "memory"), "segments")]
        amounts = [a for v in report for one in v.memory for a in one.peak if a.bytes is not None and a.kind != "free"]
        assert_on_one_line([(0, 0), *((a.bytes, x - x0 + 1) for a, (x0, x) in zip(amounts, bars, strict=True))])

    def test_timeline(self, report):
        points = groups(to_svg(report, "timeline"), "moments")
        moments = [m for v in report for one in v.memory for m in one.timeline]
        shifts = [tuple(map(float, re.findall(r"[-\d.]+", point.get("transform")))) for point in points]
        drawn = [(m.seconds, count) for m in moments for count in (m.in_use, m.held)]
        assert_on_one_line([(seconds, x) for (seconds, _), (x, _) in zip(drawn, shifts, strict=True)])
        assert_on_one_line([(count, -y) for (_, count), (_, y) in zip(drawn, shifts, strict=True)])


def test_what_is_slower_than_the_axis_stands_at_its_edge_and_is_counted():
    slow = a_time(1e-3, MOST_POINTS - 1)
    slow = replace(slow, samples=(*slow.samples[:9], 0.1, *slow.samples[9:]))
    even = a_time(1.1e-3, samples=(1.09e-3, 1.1e-3, 1.11e-3))
    svg = to_svg(a_report(a_variant("torch", time=slow), a_variant("jax", time=even)))
    drawn = [place(mark)[0] for mark in groups(svg, "samples")]
    medians = [sum(place(mark)) / 2 for mark in groups(svg, "medians")]
    assert drawn[9] == max(drawn), "an interrupted block does not flatten the rest"
    assert max(medians) - min(medians) > 100
    assert not {"1", "1▸"} & set(words(svg)), "the heading counts: a figure beside it was read as one of the axis"


def test_compile_stages_of_code_that_was_found_on_disk_are_no_bars_like_those_of_compilations():
    warm = a_variant("jax", compilation=a_compilation(cache="disk-warm"))
    svg = to_svg(a_report(a_variant("torch"), warm), "stages")
    assert svg.count(">(cold)<") == svg.count(">(cached)<") == 1
    heights = [float(re.search(r"v([\d.]+)", mark.get("d"))[1]) for mark in groups(svg, "stages")]
    assert heights == [22, 22, 6, 6]


def test_what_is_of_different_things_is_drawn_weak():
    differs = Agreement("torch", "differs", "they differ", "Out")
    void = a_report(a_variant("torch"), a_variant("jax", agreement=differs), ratios=(a_ratio(),))
    for report, opacity in ((void, 0.4), (a_report(ratios=(a_ratio(),)), 1.0)):
        for chart, marks in (("times", "samples"), ("ratios", "ratios")):
            drawn = groups(to_svg(report, chart), marks)
            assert {float(mark.get("opacity", 1)) for mark in drawn} == {opacity}, chart
            crossed = [mark.get("fill") == "#707070" and mark.get("d").count("L") == 11 for mark in drawn]
            assert crossed == ([opacity < 1] if chart == "ratios" else len(drawn) * [False]), chart


def test_what_memory_may_be_at_most_is_drawn_up_to_there_and_fainter():
    known = (Ledger("host", None, (Amount("in use", 24 * 2**20, "", most=48 * 2**20),)),)
    svg = to_svg(a_report(a_variant("torch", memory=known)), "memory")
    sure, perhaps = groups(svg, "segments")
    assert place(perhaps)[1] == pytest.approx(2 * place(sure)[1], abs=2)
    assert float(perhaps.get("opacity", 1)) < 0.5 <= float(sure.get("opacity", 1))
    assert {"in use", "perhaps in use"} <= set(words(svg))
    assert "perhaps in use" not in words(to_svg(with_memory(), "memory"))


def test_every_course_of_memory_has_its_name_led_to_its_peak():
    """One that needed next to nothing was a line at the bottom without a name."""
    courses = [a_variant(n, memory=(a_ledger("host", size, points=9),)) for n, size in (("a", 2**20), ("b", 2**28))]
    svg = to_svg(a_report(*courses), "timeline")
    assert sorted(mark.text for mark in groups(svg, "timeline_names")) == ["a, host", "b, host"]
    assert len(groups(svg, "timeline_leaders")) == 2


def test_no_memory_stands_at_the_zero_of_its_axis():
    nothing = (Ledger("host", None, (Amount("in use", 0, "VmHWM"),)),)
    svg = to_svg(a_report(a_variant("torch", memory=nothing), a_variant("jax", memory=nothing)), "memory")
    assert {"0B", "1KiB"} <= set(words(svg))
    (start,) = {float(re.match(r"M([-\d.]+)", mark.get("d"))[1]) for mark in groups(svg, "segments")}
    assert abs(start) <= 1


def test_the_first_sample_is_at_the_top_of_its_row():
    svg = to_svg(a_report(a_variant("torch", time=a_time(points=5))))
    places = [re.match(r"translate\(([\d.]+),([\d.]+)\)", mark.get("transform")) for mark in groups(svg, "samples")]
    heights = [float(place[2]) for place in places]
    assert heights == sorted(heights)
    assert len(set(heights)) == 5


def test_stages_are_those_whose_seconds_are_known_without_prime():
    svg = to_svg(with_memory(), "stages")
    assert len(groups(svg, "stages")) == 2 * 2
    labels = [mark.get("aria-label") for mark in groups(svg, "stages")]
    assert not any("prime" in label or "lower" in label for label in labels)
    assert any("stage: backend" in label and "time: 800.0ms" in label for label in labels)
    opacity = {mark.get("opacity") for mark in groups(svg, "stages")}
    assert len(opacity) == 2, "trace and backend are told apart within one colour"


def test_ratios_have_a_point_each_an_interval_where_there_is_one_and_a_rule_at_1():
    report = four_variants(10)
    svg = to_svg(report, "ratios")
    assert (len(groups(svg, "ratios")), len(groups(svg, "ratio_intervals")), len(groups(svg, "one"))) == (3, 3, 1)
    few = a_report(ratios=(a_ratio("undecided", low=None, high=None),))
    svg = to_svg(few, "ratios")
    assert (len(groups(svg, "ratios")), len(groups(svg, "ratio_intervals"))) == (1, 0)


def test_memory_has_a_segment_for_each_amount_that_is_known():
    svg = to_svg(with_memory(), "memory")
    assert len(groups(svg, "segments")) == 2 * (5 + 1)
    assert {"torch, cuda:0", "torch, host", "in use", "held, not in use", "4GiB"} <= set(words(svg))
    labels = " ".join(mark.get("aria-label") for mark in groups(svg, "segments"))
    assert "memory: in use; size: 1.172 GiB; bytes: 1258291200" in labels
    looks = {
        re.search("memory: ([a-z ]+)", mark.get("aria-label"))[1]: (mark.get("fill"), mark.get("opacity", "1"))
        for mark in groups(svg, "segments")
        if "torch, cuda:0" in mark.get("aria-label")
    }
    assert looks["in use"] == (COLOURS["torch"], "1")
    assert looks["context"] == looks["free in pool"] == looks["unexplained"] == (COLOURS["torch"], "0.65")
    assert looks["other processes"] == ("#707070", "0.2")
    assert "free" not in looks


def test_the_timeline_has_a_line_for_use_and_one_for_what_is_held():
    svg = to_svg(with_memory(points=10), "timeline")
    lines = groups(svg, "timelines")
    assert len(lines) == 2 * 2
    assert len({line.get("stroke-dasharray") for line in lines}) == 2
    assert len(groups(svg, "moments")) == 2 * 2 * 10
    names = groups(svg, "timeline_names")
    assert sorted(text.text for text in names) == ["jax, cuda:0", "torch, cuda:0"]
    heights = [float(re.search(r"translate\([-\d.]+, ?([-\d.]+)\)", text.get("transform"))[1]) for text in names]
    assert max(heights) <= 0, "above the chart: on none of its lines"
    assert abs(heights[0] - heights[1]) >= 10, "nor one on the other"
    gaps = Ledger("cuda:0", None, (), Timeline((0.0, 1.0), (5, 6)))
    assert len(groups(to_svg(a_report(a_variant("torch", memory=(gaps,))), "timeline"), "timelines")) == 1


@pytest.mark.parametrize(
    ("chart", "named"),
    [
        ("stages", ["trace", "backend"]),
        ("memory", ["in use", "held, not in use", "of others"]),
        ("timeline", ["in use", "held"]),
    ],
)
def test_a_legend_names_what_is_drawn_in_its_order_and_nothing_else(chart, named):
    known = {"tried before", "trace", "lower", "backend", "in use", "held", "held, not in use", "of others"}
    assert [word for word in words(to_svg(with_memory(points=10), chart)) if word in known] == named
    used = Ledger("host", None, (Amount("in use", 2**22, "VmHWM"),), Timeline((0.0, 1.0), (5, 2**22)))
    once = a_compilation(stages=(Stage("trace", 0.1, ""), Stage("lower", None, "")))
    lean = a_report(a_variant("torch", memory=(used,), compilation=once))
    assert [word for word in words(to_svg(lean, chart)) if word in known] == named[:1]


@pytest.mark.parametrize(("colour", "drawn"), [("#D55E00", "#D55E00"), ("#123456", "#123456")])
def test_colours_are_those_of_the_frameworks(colour, drawn):
    report = a_report(a_variant("mine", framework="mine"), a_variant("x", framework="x", colour=colour))
    fills = {mark.get("fill") for mark in groups(to_svg(report), "samples")}
    assert fills == {NEUTRAL, drawn}


@pytest.mark.parametrize("chart", CHARTS)
def test_hostile_names_are_shown_and_not_obeyed(chart):
    report = hostile_report()
    odd = 'a.b["c"]\\d\'e'
    ledger = replace(a_ledger(device=odd, points=3), peak=(Amount("in use", 5, HOSTILE), Amount("context", 7, odd)))
    stages = (Stage(odd, 1.0, ""), Stage(HOSTILE, 1.0, ""))
    first, second = report
    measured = replace(first, memory=(ledger,), compilation=replace(first.compilation, stages=stages))
    named = replace(measured, name=odd)
    svg = to_svg(replace(report, variants=(measured, named, second)), chart)
    root = ET.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "g", "path", "rect", "line", "text", "defs", "clipPath"),
    }
    assert not any(name.startswith("on") or "href" in name for element in root.iter() for name in element.attrib)
    shown = " ".join([*words(svg), *(element.get("aria-label", "") for element in root.iter())])
    assert "</style>" in shown
    if chart != "ratios":
        assert odd in shown


@pytest.mark.parametrize("chart", CHARTS)
def test_nothing_to_draw_is_an_error(chart):
    report = a_report(a_variant("torch", status="failed"))
    with pytest.raises(ValueError, match=f"this report has nothing to draw in a chart of {chart}"):
        to_svg(report, chart)


def test_an_unknown_chart_is_an_error_that_names_those_there_are():
    with pytest.raises(ValueError, match=f"there is no chart 'pie': choose one of {', '.join(CHARTS)}$"):
        to_svg(a_report(), "pie")


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(FwMagicError, match=r"pip install 'fwmagic\[picture\]'"):
        to_svg(a_report())


def size(report: Report, **options: int) -> tuple[float, float]:
    root = ET.fromstring(to_svg(report, **options))
    return float(root.get("width")), float(root.get("height"))


def test_it_is_as_wide_as_asked_and_as_high_as_its_rows():
    assert size(a_report(), width=400)[0] == pytest.approx(400, abs=2)
    assert size(four_variants(5))[1] - size(a_report())[1] == pytest.approx(2 * 34, abs=1)
