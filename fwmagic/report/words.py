"""The words of a report as a notebook stores them, and its sentences at the top; a view words nothing itself."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fwmagic.format import (
    one_line,
    ratio,
    ratio_between,
    seconds,
    seconds_between,
    size,
)
from fwmagic.report import wire
from fwmagic.report.answer import AGREE, agreement_in_words, answer_of
from fwmagic.report.remarks import Group, Remark, conditions, stored_details
from fwmagic.report.report import (
    MOST_POINTS,
    Report,
    Variant,
)
from fwmagic.report.scale import scale
from fwmagic.report.tables import (
    DIFFER,
    NOT_AVAILABLE,
    Row,
    Table,
    bytes_in_words,
    device_in_words,
    figures,
    incomparable,
    segment_in_words,
    uses_memory,
)

# The answer on so many variants has room for more than their times.
_FEW = 2
# The longest name of a run in a list.
_NAME = 30


@dataclass(frozen=True)
class Sentence:
    """One sentence at the top of a report.

    Attributes
    ----------
    text
        The sentence, without a full stop.
    warning
        Whether it is to be shown as a warning.
    """

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Words:
    """The report in words, as a notebook stores it: for a view that is to word nothing itself.

    Attributes
    ----------
    headline
        The answer in one line, then what a reader must not miss.
    brief
        The answer in at most 30 characters.
    figures
        The whole table of the variants.
    charts
        What each chart shows: its name, and for each variant in its order the rows of a table (see `charts`).
    details
        The remarks on each variant, then those on the whole comparison.
    conditions
        What the numbers hold for.
    budget
        The budget.
    sign
        The sign of the answer: ✓ = ? ✗ … or empty.
    name
        What the run is called: the variable that its report is bound to, or else the cell's first line of
        code below `%%setup`.
    scale
        Where the axis of all times begins and ends, in seconds; empty: nothing was timed.
    """

    headline: tuple[Sentence, ...]
    brief: str
    figures: Table
    charts: Mapping[str, tuple[tuple[Row, ...], ...]]
    details: tuple[Group, ...]
    conditions: tuple[Remark, ...]
    budget: str
    sign: str = ""
    name: str = ""
    scale: tuple[float, ...] = ()


def to_words(report: Report) -> dict[str, Any]:
    """Return the words of a report as JSON-ready values, without what holds its default."""
    answer = answer_of(report)
    words = Words(
        headline=tuple(headline(report)),
        brief=answer.brief,
        figures=figures(report),
        charts=charts(without_little_memory(report)),
        details=tuple(_stored_group(group) for group in stored_details(report)),
        conditions=tuple(conditions(report)),
        budget=seconds(report.budget),
        sign=answer.sign,
        name=name_of(report),
        scale=tuple(scale(v.time for v in report if v.time is not None) or ()),
    )
    return typing.cast("dict[str, Any]", wire.encode(words, MOST_POINTS))


def without_little_memory(report: Report) -> Report:
    """Return a report as it is stored: without memory that is not shown, but for why some of it is not known."""
    if uses_memory(report):
        return report
    slim = (replace(v, memory=tuple(one for one in v.memory if one.in_use is None)) for v in report.variants)
    return replace(report, variants=tuple(slim))


def _stored_group(group: Group) -> Group:
    """Return a group as it is stored: the report has the findings already."""
    return replace(group, lines=tuple(one if one.finding is None else replace(one, text="") for one in group.lines))


def name_of(report: Report) -> str:
    """Return what a run is called in a list: the name of `-o`, or else the first line of code below `%%setup`."""
    bound = next((variant.options["output"] for variant in report if "output" in variant.options), "")
    parts = re.split(r"(?m)^(?=%%)", report.cell)
    lines = (line.strip() for part in parts if not part.startswith("%%setup") for line in part.split("\n"))
    return one_line(bound or next((line for line in lines if line and not line.startswith("%")), ""), _NAME)


def headline(report: Report) -> list[Sentence]:
    """Return the answer; whether the outputs of many agree; the note of a run that did not end as it should."""
    first = answer_of(report)
    sentences = [Sentence(first.line, first.warning)]
    checked = agreement_in_words(report, [variant.name for variant in report.variants])
    if checked and first.sign in ("✓", "=", "?"):
        if checked != AGREE:
            sentences += [Sentence(checked)] if checked not in first.line else []
        elif len(report.variants) > _FEW:  # of two, the answer says it
            sentences.append(Sentence(f"all {checked}"))
    if report.note and report.note not in first.line:
        sentences.append(Sentence(one_line(report.note).rstrip("."), report.state == "failed"))
    return sentences


def ranked(report: Report) -> Report:
    """Return a report as every view has it: the quickest variant first, once all are done with."""
    if report.state == "running":
        return report
    quickest = sorted(report.variants, key=lambda v: math.inf if v.time is None else v.time.median)
    return replace(report, variants=tuple(quickest))


def charts(report: Report) -> dict[str, tuple[tuple[Row, ...], ...]]:
    """Return what each chart shows, for who cannot see it: rows for each variant, and no chart that would show nothing.

    The rows' first column, the variant, is left out, and so is the last one of what memory shows, the source: a stored
    report has both already. The title and the heads of the columns are the chart's own (`usermeta` in its file).
    """
    rows = {chart: tuple(tuple(of(report, variant)) for variant in report) for chart, of in CHARTS.items()}
    return {chart: variants for chart, variants in rows.items() if any(variants)}


def _times_in_words(_: Report, variant: Variant) -> Iterator[Row]:
    time = variant.time
    if time is not None and time.samples:
        span = NOT_AVAILABLE if time.interval is None else seconds_between(*time.interval)
        yield seconds(time.median), span, str(len(time.samples))


def _ratios_in_words(report: Report, variant: Variant) -> Iterator[Row]:
    r = report.over_baseline().get(variant.name)
    if r is not None:
        span = NOT_AVAILABLE if r.interval is None else ratio_between(*r.interval)
        yield r.over, ratio(r.median), span, DIFFER if variant.name in incomparable(report) else r.verdict


def _stages_in_words(_: Report, variant: Variant) -> Iterator[Row]:
    return ((stage.name, seconds(value)) for stage, value in variant.compile_stages)


def _memory_in_words(report: Report, variant: Variant) -> Iterator[Row]:
    measured = (ledger for other in report for ledger in other.memory if ledger.how != "static")
    if all(amount.bytes is None for ledger in measured for amount in ledger.peak):
        return
    for ledger in variant.memory:
        for amount in ledger.peak:
            figure = "not available" if amount.bytes is None else bytes_in_words(amount)
            yield device_in_words(ledger), segment_in_words(ledger, amount), figure


def _timeline_in_words(_: Report, variant: Variant) -> Iterator[Row]:
    for ledger in variant.memory:
        course = ledger.timeline
        if course:
            yield device_in_words(ledger), _most_in_words(course.in_use), _most_in_words(course.held), str(len(course))


CHARTS: dict[str, Callable[[Report, Variant], Iterator[Row]]] = {
    "times": _times_in_words,
    "ratios": _ratios_in_words,
    "stages": _stages_in_words,
    "memory": _memory_in_words,
    "timeline": _timeline_in_words,
}
"""What each chart shows of a variant, in the order in which the charts are drawn."""


def _most_in_words(counts: tuple[int | None, ...]) -> str:
    known = [count for count in counts if count is not None]
    return size(max(known)) if known else NOT_AVAILABLE
