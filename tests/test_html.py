"""A report as static HTML."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

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
    reports,
    with_memory,
)
from hypothesis import given

from fwmagic.report import (
    MIME,
    NEUTRAL,
    Agreement,
    Amount,
    Conditions,
    Failure,
    Finding,
    Ledger,
    Moment,
    Place,
    Report,
    Stage,
    Timeline,
)
from fwmagic.report.html import to_html
from fwmagic.report.scale import scale
from fwmagic.report.text import to_details, to_text
from fwmagic.report.words import to_words

TAGS = {
    "div",
    "style",
    "p",
    "b",
    "span",
    "i",
    "progress",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "small",
    "ul",
    "li",
    "details",
    "summary",
}
TAGS |= {"svg", "rect", "path", "line", "wbr", "s"}
VOID = {"rect", "path", "line"}
#: What the start of another one, or the end of what is around it, closes: HTML lets one leave out these end tags.
CLOSED = {"td": {"td", "th"}, "th": {"td", "th"}, "tr": {"td", "th", "tr"}, "li": {"li"}}


class Page(HTMLParser):
    """The elements, attributes and visible words of a page; an element that nothing closes is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.comments: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        while self.open[-1:] and self.open[-1] in CLOSED.get(tag, ()):
            self.open.pop()
        self.tags.append((tag, dict(attrs)))
        if tag != "wbr":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.open[-1:] and self.open[-1] in CLOSED and self.open[-1] != tag:
            self.open.pop()
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    def handle_comment(self, data):
        self.comments.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def style_of(html: str) -> str:
    return re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]


def sanitised(html: str) -> str:
    """Return what a page leaves of it that lets neither styles nor drawings nor attributes through."""
    bare = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", html, flags=re.DOTALL)
    return re.sub(r"<(\w+)[^>]*>", r"<\1>", bare)


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


HOSTILE = (
    "</style></title></svg><script>alert(1)</script><img src=x onerror=alert(1)>"
    "<a href='javascript:alert(1)'>\" onload=\"x\" '-->"
)


def hostile_report() -> Report:
    """A report with markup wherever text can stand."""
    h = HOSTILE
    compilation = a_compilation(
        reason=h,
        line=3,
        compiled=(h,),
        breaks=(Place(1, h),),
        recompiles=(Place(None, h),),
        cache=h,
        stages=(Stage(h, 0.5, h), Stage("b" + h, None, h)),
    )
    good = a_variant(
        h,
        section=h,
        framework=h,
        mode=h,
        note=h,
        options={h: h},
        returned=(h,),
        source=h,
        compilation=compilation,
        agreement=Agreement(h, "differs", h, h),
        time=a_time(source=h),
        memory=(Ledger(h, 1, (Amount("in use", 1, h), Amount("context", None, why=h)), source=h, note=h),),
    )
    failed = a_variant("2" + h, status="failed", failure=Failure(h, h, 4, h))
    words = {h: h}
    return a_report(
        good,
        failed,
        run_id=h,
        started=h,
        magic=h,
        note=h,
        baseline=h,
        fastest=h,
        ratios=(a_ratio("withheld", variant="2" + h, over=h, note=h),),
        findings=(Finding(h, h, h, h, 1), Finding(h, h, h, None)),
        conditions=Conditions(words, words, words, words, h, 0.1, 0.1, (h,), h, h),
    )


def assert_harmless(html: str) -> None:
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert page.comments == []
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name in ("href", "src", "xlink:href") for name in attributes)
        assert "javascript:" not in attributes.get("style", "")
    assert len(page.all("style")) == 1


def test_hostile_markup_is_shown_and_not_obeyed():
    html = to_html(hostile_report())
    assert_harmless(html)
    assert "<script>alert(1)</script>" in "".join(Page(html).words)


@pytest.mark.parametrize("state", ["running", "done", "interrupted", "failed"])
def test_hostile_markup_in_every_state(state):
    assert_harmless(to_html(replace(hostile_report(), state=state)))


@given(reports())
def test_any_report_is_harmless_html(report):
    assert_harmless(to_html(report))


def test_the_verdict_comes_first():
    words = [word for word in Page(to_html(a_report(ratios=(a_ratio(),)))).words if word.strip()]
    assert "".join(words[:2]) == "✓ jax is 2.3x faster than torch (2.22-2.38x)"


@pytest.mark.parametrize(
    "report",
    [
        a_report(ratios=(a_ratio("undecided", 0.99, 0.97, 1.02),)),
        four_variants(20),
        a_report(a_variant("torch", status="running"), state="running", progress=0.4),
        a_report(a_variant("torch", status="failed", failure=Failure("ValueError", "no", 3, "trace")), state="failed"),
        a_report(a_variant("torch", status="run-once", note="it reads a file", time=a_time(points=1))),
        a_report(variants=()),
        with_memory(),
    ],
)
def test_it_says_what_the_text_says(report):
    shown = squeezed("".join(Page(to_html(report)).words)).casefold()
    there = to_text(report) if report.state == "running" else to_details(report)
    for block in there.split("\n\n"):
        if block.startswith(("memory at the peak", "stages")):
            continue  # drawn in characters, where this has a drawing
        for line in block.splitlines():
            # in the table the cells stand two or more spaces apart; a mark before a remark stands for its bold label
            # nor does the device of a memory, which has its own fold
            for part in re.split(r" \((?:cuda:0|host)\)|  +", line.removeprefix("! ")):
                if part.strip("- "):
                    assert squeezed(part).casefold() in shown, part


def test_every_variant_has_a_strip_and_a_row():
    page = Page(to_html(four_variants(30)))
    pictures = [picture for picture in page.all("span") if picture.get("role") == "img"]
    assert len(pictures) == 4
    assert len(page.all("svg")) == 4
    assert len(page.all("tr")) == 2 * (1 + 4), "the first look, and the figures"
    assert [head["scope"] for head in page.all("th") if "scope" in head] == ["row"] * 8
    said = [picture["title"] for picture in pictures]
    assert said[0] == "jax:compiled: 30 blocks (20 drawn), 95 % interval 891-918 µs"
    assert all(said)
    assert " 812 ms (cold): trace 12.0 ms, backend 800 ms" in page.words


def test_frameworks_have_their_colours():
    report = four_variants(10)
    other = a_variant("mine", framework="mine", colour="#123456")
    broken = a_variant("broken", colour='red" onload="x')
    colours = {
        path["stroke"]
        for path in Page(to_html(replace(report, variants=(*report, other, broken)))).all("path")
        if "stroke" in path
    }
    assert colours == {"#D55E00", "#2080C4", "#009E73", "#123456", NEUTRAL}


def rgb(code: str) -> list[float]:
    return [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def over(above: list[float], below: list[float], opacity: float) -> list[float]:
    """Return the colour that a half-transparent one makes on another."""
    return [opacity * a + (1 - opacity) * b for a, b in zip(above, below, strict=True)]


def contrast(one: list[float], other: list[float]) -> float:
    def luminance(parts):
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", ["#ffffff", "#111111"])
@pytest.mark.parametrize("colour", [*COLOURS.values(), NEUTRAL])
def test_colours_stand_out_from_either_ground(colour, ground):
    """A contrast of 3 to 1, as WCAG 2.1 (1.4.11) asks for graphics."""
    assert contrast(rgb(colour), rgb(ground)) >= 3


@pytest.mark.parametrize(("ground", "ink"), [("#ffffff", "#000000"), ("#111111", "#ffffff")])
@pytest.mark.parametrize("colour", [COLOURS["torch"], COLOURS["jax"]])
def test_dots_stand_out_from_the_band_of_the_interval(colour, ground, ink):
    """On a dark ground they were blue on grey: half of the contrast."""
    style = style_of(to_html(a_report()))
    band = over(rgb(ink), rgb(ground), float(re.search(r"fw-interval\{[^}]*fill-opacity:([\d.]+)", style)[1]))
    opacity = re.search(r"fw-dots\{[^}]*stroke-opacity:([\d.]+)", style)
    dot = over(rgb(colour), band, float(opacity[1]) if opacity else 1.0)
    assert contrast(dot, band) >= 2.8
    assert contrast(band, rgb(ground)) >= 1.2, "and the band from the ground"
    times = json.loads(files("fwmagic").joinpath("charts", "times.json").read_text(encoding="utf-8"))
    layers = {layer["name"]: layer for layer in times["layer"]}
    band = over(rgb("#8C8C8C"), rgb(ground), layers["intervals"]["mark"]["opacity"])
    dot = over(rgb(colour), band, layers["samples"]["encoding"]["opacity"]["value"])
    assert contrast(dot, band) >= 2.8, "nor in the panel"


def dots(html: str) -> list[list[tuple[int, int]]]:
    paths = [path["d"] for path in Page(html).all("path") if path["class"] == "fw-dots"]
    return [[(int(x), int(y)) for x, y in re.findall(r"M(\d+) (\d+)z", d)] for d in paths]


def test_strips_share_one_scale():
    report = a_report(
        a_variant("a", time=a_time(samples=(1.0, 2.0), median=1.5, low=None, high=None)),
        a_variant("b", time=a_time(samples=(4.0,), median=4.0, low=None, high=None)),
    )
    first, second = dots(to_html(report))
    (x1, top), (x2, bottom) = first
    ((x4, _),) = second
    assert x2 == pytest.approx(2 * x1, abs=2), "the scale begins at 0"
    assert x4 == pytest.approx(4 * x1, abs=3)
    assert top < bottom, "the first block is at the top"


def test_the_scale_zooms_in_on_close_times_and_is_not_stretched_by_one_slow_block():
    close = scale([a_time(1e-3, 50), a_time(1.02e-3, 50)])
    assert 0.8e-3 < close.low < 1e-3
    assert scale([a_time(1e-3, 50), a_time(9e-3, 50)]).low == 0
    slow = a_time(1e-3, 50)
    slow = replace(slow, samples=(*slow.samples, 1.0))
    high = scale([slow]).high
    assert high < 2e-3
    assert 1 <= sum(sample > high for sample in slow.samples) <= 3
    few = a_time(1e-3, samples=(*[1e-3] * 13, 0.5, 0.8, 1.0))
    assert scale([few]).high < 4e-3, "nor by a few of few"
    assert scale([]) is None
    assert scale([a_time(0.0, samples=(0.0,), low=None, high=None)]).high > 0


def test_a_long_run_is_thinned_and_says_so():
    html = to_html(a_report(a_variant("torch", time=a_time(points=1000))))
    assert len(dots(html)[0]) == 18
    assert "1000 blocks (20 drawn), 2 beyond the axis" in html


def test_a_dot_beyond_the_scale_is_none_but_an_arrow_with_a_count_at_the_edge():
    """It looked like any other at its end."""
    slow = replace(a_time(points=20), samples=(*a_time(points=20).samples[:-3], 0.1, 0.2, 0.3))
    report = a_report(a_variant("torch", time=slow), a_variant("jax"))
    html = to_html(report)
    first, second = dots(html)
    assert (len(first), len(second)) == (17, 20)
    marks = [picture.get("data-far") for picture in Page(html).all("span") if picture.get("role") == "img"]
    assert marks == ["3▸", None]
    assert "attr(data-far)" in style_of(html)
    assert "attr(data-far)" not in style_of(to_html(a_report(a_variant("jax", time=a_time(samples=(1.0, 1.0))))))
    assert '(▸ slower)"' in html, "what it is"
    rows = str(report).splitlines()
    assert [row.endswith("▸") for row in rows if row.startswith(("torch  ", "jax  "))][-2:] == [True, False]
    assert rows[-2].endswith("(▸ 3 slower dots)")


def test_as_many_dots_are_counted_as_slower_as_there_are():
    """In a cell, in a terminal and, of what is stored, in the panel: it was of all samples here, of a few there."""
    many = a_time(points=1000)
    many = replace(many, samples=tuple(sample if i % 30 else 1.0 for i, sample in enumerate(many.samples)))
    report = a_report(a_variant("torch", time=many), a_variant("jax", time=a_time(1.1e-3, 1000)))
    stored = report._repr_mimebundle_()[MIME]
    end = stored["words"]["scale"][1]
    beyond = [sum(sample > end for sample in v["time"]["samples"]) for v in stored["variants"]]
    assert 1 <= sum(beyond) <= 20
    assert f"(▸ {sum(beyond)} slower dot{'s' * (sum(beyond) > 1)})" in str(report)
    assert sum(map(int, re.findall('data-far="(\\d+)▸"', to_html(report)))) == sum(beyond)


def test_an_axis_that_does_not_begin_at_0_says_so():
    close = a_report(a_variant("torch", time=a_time(1e-3, 20)), a_variant("jax", time=a_time(1.02e-3, 20)))
    far = a_report(a_variant("torch", time=a_time(1e-3)), a_variant("jax", time=a_time(9e-3)))
    assert "s (not 0) " in str(close)
    assert 's (not 0)"' in to_html(close)
    for view in (str(far), to_html(far)):
        assert "0 s" in view
        assert "(not 0)" not in view


def test_without_style_and_drawings_there_is_no_legend_of_them_but_the_intervals():
    page = sanitised(to_html(a_report(ratios=(a_ratio(),))))
    assert "●" not in page
    head, rows, *_ = page.split("<tbody>")
    cells = re.findall(r"<th>(.*?)(?=<th>|</thead>)", head)
    assert re.sub(r"<[^>]*>", "", cells[1]).strip() == "95 % interval"
    assert [*map(str.strip, re.findall(r"<td><span></span><i>(.*?)</i>", rows))] == ["525-541 µs", "1.22-1.25 ms"]
    assert ".fw-strip>i{font-size:0}" in style_of(to_html(a_report())), "drawings are enough"


def test_without_style_each_cell_ends_with_a_gap():
    """`2.22 ms0.346`: the columns ran together. A space of HTML would be left out there."""
    page = sanitised(to_html(with_memory()))
    cells = re.findall(r"<t[hd]>(.*?)(?=<t[hdr]>|</t)", page)
    assert len(cells) > 20
    assert {re.sub(r"<[^>]*>", "", cell)[-1:] for cell in cells if cell} == {"\N{EN SPACE}"}


def test_times_of_different_things_are_drawn_weak_and_their_ratio_is_struck_out():
    differs = Agreement("torch", "differs", "they differ", "Out", ("1", "2"))
    pair = a_report(a_variant("torch"), a_variant("jax", agreement=differs), ratios=(a_ratio(),))
    assert to_html(pair).count("<tr class=fw-void>") == 2, "of two, both"
    assert "<td><s>0.430</s> <small>(outputs differ)\N{EN SPACE}</small>" in to_html(pair)
    assert ".fw-void .fw-strip>span{opacity:.4}" in style_of(to_html(pair))
    assert "0.430 (outputs differ)" in str(pair)
    assert "┊" in str(pair)
    assert "│" not in str(pair)
    assert to_words(pair)["charts"]["ratios"][1][0][-1] == "outputs differ"
    several = four_variants(10)
    assert to_html(several).count("<tr class=fw-void>") == 1, "of more, the one that differs"
    base = replace(several.variants[0], agreement=differs)
    assert to_html(replace(several, variants=(base, *several.variants[1:]))).count("<tr class=fw-void>") == 4
    assert "fw-void" not in to_html(a_report(ratios=(a_ratio(),)))


def test_what_was_not_timed_has_no_picture():
    page = Page(to_html(a_report(a_variant("torch", status="waiting"), state="running", progress=0.42)))
    assert page.all("svg") == []
    (bar,) = page.all("progress")
    assert (bar["max"], bar["value"]) == ("1", "0.420")
    assert page.all("details") == [], "while it runs, the bar stands where the rest will be"
    assert Page(to_html(a_report())).all("progress") == []


def test_what_is_drawn_and_what_a_ratio_is_of_is_said_beside_it():
    page = Page(to_html(a_report(ratios=(a_ratio(),))))
    assert "● block of calls, first on top ┃ median ▒ 95 % interval" in style_of(to_html(a_report()))
    titles = [attributes.get("title") for attributes in page.all("th")]
    assert "in the same rounds: no quotient of the times" in titles
    assert "paired ratio to torch" in map(str.strip, page.words)
    waiting = Page(to_html(a_report(a_variant("torch", status="waiting"), baseline=None, state="running")))
    assert not any("title" in attributes for attributes in waiting.all("th")), "nothing of what is not there"


def test_the_bar_of_memory_reaches_to_its_upper_bound():
    """The lower one is solid, what lies between is faint, and the scale holds both."""

    def page(amount):
        return to_html(a_report(a_variant("torch", memory=(Ledger("host", None, (amount,)),)), baseline=None))

    between = page(Amount("in use", 24 * 2**20, "", most=48 * 2**20))
    assert re.search(r"fw-use stroke=#\w+ x2=49.4% /><line class=fw-perhaps stroke=#\w+ x1=50.0% x2=99.4% />", between)
    assert 'title="Memory on host: in use 24.0 to 48.0 MiB"' in between
    assert "thick bar: in use; faint: perhaps in use" in between
    assert "<i>48.0 MiB</i>" in between
    exact = page(Amount("in use", 24 * 2**20, ""))
    assert "perhaps" not in exact


def test_all_but_the_first_look_is_folded():
    page = Page(to_html(with_memory()))
    assert [tag for tag, _ in page.tags].count("summary") == 5
    for name in ("Figures", "Compile", "Memory", "Remarks", "Conditions"):
        assert name in page.words
    assert not any("open" in attributes for attributes in page.all("details"))
    (said,) = (word for word in Page(to_html(four_variants(10))).words if word.startswith("Remarks"))
    assert said.startswith("Remarks (8): Another process was busy."), "warnings are counted, the first one told"
    plain = Page(to_html(a_report(a_variant("numpy", compilation=None)))).words
    assert not {"Compile", "Memory"} & set(plain), "nothing of what was not"


def test_the_style_has_no_rule_for_what_is_not_there():
    plain, rich = to_html(a_report(a_variant("numpy", compilation=None))), to_html(with_memory())
    for name in ("fw-use", "fw-chart", "fw-held"):
        assert name in rich
        assert name not in plain
    assert ".fw-dots{" in plain


@pytest.mark.parametrize("report", [a_report(), a_report(variants=()), with_memory()])
def test_style_is_scoped_and_fits_light_dark_and_narrow(report):
    style = re.search(r"<style>(.*?)</style>", to_html(report), re.DOTALL).group(1)
    assert "color-scheme:light dark" in style
    assert "var(--jp-content-font-color1,var(" in style
    assert "@container (width<=520px)" in style
    depth = list(itertools.accumulate({"{": 1, "}": -1}.get(letter, 0) for letter in style.strip()))
    assert style.count("{") > 20
    assert style.strip().startswith(".fwmagic{")
    assert min(depth[style.strip().index("{") : -1]) >= 1, "every rule is inside of that one"
    assert depth[-1] == 0


def test_memory_is_drawn_as_one_bar_a_ledger_beside_its_figure():
    page = Page(to_html(with_memory()))
    said = [picture.get("title", "") for picture in page.all("span")]
    assert sum(words.startswith("Memory on cuda:0: in use") for words in said) == 2
    assert sum(words.startswith("Memory on host: in use") for words in said) == 2
    assert "cuda:0: 1.17 GiB in use" in page.words
    assert "host: 300 MiB more" in page.words
    assert "in use" in next(words for words in page.words if words.startswith("memory at the peak"))
    assert "memory at the peak" not in to_html(a_report())


def test_all_parts_of_four_long_variants_with_memory_stay_below_forty_kilobytes():
    report = four_variants(1000)
    static = Ledger("cuda:0", None, (Amount("in use", 2**30, "XLA's static analysis, no measurement"),), how="static")
    # as it is measured: of resident memory, nothing is held beside what is in use
    course = Timeline.of(Moment(0.001 * i, 2**26 * i // 1000, None) for i in range(1000))
    used = Amount("in use", 2**26, "the most that was resident (VmHWM)")
    host = a_ledger("host", peak=(used,), timeline=course)
    both = (a_ledger(points=1000), host)
    measured = tuple(replace(v, memory=(*both, static) if v.framework == "jax" else both) for v in report)
    bundle = replace(report, variants=measured)._repr_mimebundle_()
    assert sum(len(json.dumps(part, ensure_ascii=False).encode()) for part in bundle.values()) <= 40_000
