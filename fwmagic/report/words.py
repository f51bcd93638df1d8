"""The words of a report: its sentences, its tables, its remarks; every view takes them from here."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from fwmagic.format import (
    number,
    one_line,
    percent,
    ratio,
    ratio_between,
    seconds,
    seconds_between,
    setting,
    size,
    size_between,
)
from fwmagic.report import wire
from fwmagic.report.answer import SHORT, answer_of, speed
from fwmagic.report.report import (
    MOST_POINTS,
    Agreement,
    Amount,
    Compilation,
    Conditions,
    Finding,
    Ledger,
    Ratio,
    Report,
    Stage,
    Time,
    Variant,
)

NOT_AVAILABLE = "n/a"
_COMPILED = {
    "yours": "by the cell itself",
    "cell": "the whole cell as one function",
    "modules": "the modules that it calls, in place",
    "functions": "the functions that it calls, in place",
    "eager": "no",
}

# Less memory than this, in bytes, is not worth a look.
_LEAST_MEMORY = 2**20

Row = tuple[str, ...]


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
class Remark:
    """One labelled remark.

    Attributes
    ----------
    label
        What it is about, in a word or two.
    text
        The remark.
    warning
        Whether it is to be shown as a warning.
    """

    label: str
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Group:
    """The remarks on one variant, or on all of them.

    Attributes
    ----------
    name
        The variant, or `all variants`.
    lines
        The remarks, in their order.
    """

    name: str
    lines: tuple[Remark, ...]


@dataclass(frozen=True)
class Table:
    """The figures of a report as text.

    Attributes
    ----------
    head
        A heading for each column.
    rows
        One row a variant, with a cell for each column.
    """

    head: Row
    rows: tuple[Row, ...]


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
    """

    headline: tuple[Sentence, ...]
    brief: str
    figures: Table
    charts: Mapping[str, tuple[tuple[Row, ...], ...]]
    details: tuple[Group, ...]
    conditions: tuple[Remark, ...]
    budget: str


def to_words(report: Report) -> dict[str, Any]:
    """Return the words of a report as JSON-ready values, without what holds its default."""
    words = Words(
        headline=tuple(headline(report)),
        brief=answer_of(report).brief,
        figures=figures(report),
        charts=charts(report),
        details=tuple(details(report)),
        conditions=tuple(conditions(report)),
        budget=seconds(report.budget),
    )
    return typing.cast("dict[str, Any]", wire.encode(words, MOST_POINTS))


# The sentences at the top.


def headline(report: Report) -> list[Sentence]:
    """Return the answer, then the note of a run that did not end as it should, unless the answer is that."""
    first = answer_of(report)
    sentences = [Sentence(first.line, first.warning)]
    if report.note and report.note not in first.line:
        sentences.append(Sentence(one_line(report.note).rstrip("."), report.state == "failed"))
    return sentences


def _verdict_in_words(r: Ratio, margin: float) -> str:
    seen = f"range seen {ratio_between(r.least, r.most)}, no interval"
    span = f"95 % interval {ratio_between(*r.interval)}" if r.interval is not None else seen
    figures = f"(ratio {ratio(r.median)}, {span}, {r.rounds} {_plural('round', r.rounds)})"
    pair = f"{r.variant} and {r.over}"
    if r.verdict in ("faster", "slower"):
        text = f"{r.variant} is {speed(r.median)} than {r.over} {figures}"
    elif r.verdict == "same":
        text = f"{pair} take the same time, within {setting(margin)} {figures}"
    elif r.verdict == "withheld":
        return f"{pair}: verdict withheld: {r.note}"
    elif r.note and r.repeatable:
        text = f"{pair}: undecided {figures}"
    elif r.interval is None:
        text = f"{pair}: undecided: too few rounds for an interval {figures}; a larger --budget may decide"
    else:
        text = (
            f"{pair}: undecided: {r.variant} is {_span_in_words(*r.interval)} {figures}; a larger --budget may decide"
        )
    if r.regimes:
        low, high = r.regimes
        share = percent(low.share, 2)
        return f"{text}; it moved between {ratio(low.median)}, in {share} of the rounds, and {ratio(high.median)}"
    if not r.repeatable:
        return f"{text}; not repeatable: parts of this run disagreed, so the interval was widened"
    return f"{text}; {r.note}" if r.note else text


def _span_in_words(low: float, high: float) -> str:
    first, second = speed(low), speed(high)
    if first.split()[-1] == second.split()[-1]:
        first = first.rsplit(" ", 1)[0]
    return f"between {first} and {second}"


# The table of the variants.


def table(report: Report) -> Table:
    """Return what a first look needs of each variant; a column that holds nothing for any of them is left out."""
    ratios = report.over_baseline()
    over = f"ratio to {one_line(report.baseline, 20)}" if report.baseline is not None else "ratio"
    columns = {
        "variant": [one_line(variant.name, 30) for variant in report.variants],
        "per call": [_each_cell(variant) for variant in report.variants],
        over: [_ratio_cell(v.name, ratios, report.baseline) for v in report.variants],
        "compile": [_compile_cell(variant).partition(" (")[0] for variant in report.variants],
        "memory": [_memory_cell(variant) if uses_memory(report) else NOT_AVAILABLE for variant in report.variants],
        "compiled": [_compiled_cell(variant) for variant in report.variants],
    }
    if not ratios:
        del columns[over]
    return _without_empty(columns)


def figures(report: Report) -> Table:
    """Return the whole table of the variants; a column that holds nothing for any of them is left out."""
    ratios = report.over_baseline()
    over = report.baseline if report.baseline is not None else "the other"
    columns = {
        "variant": [variant.name for variant in report.variants],
        "runs": [f"{variant.framework} {variant.mode}".strip() for variant in report.variants],
        "time per call": [_time_cell(variant) for variant in report.variants],
        f"ratio to {over}": [_ratio_cell(v.name, ratios, report.baseline) for v in report.variants],
        "dispatch / wait": [_dispatch_cell(variant.time) for variant in report.variants],
        "cores": [_number_cell(v.time.cores if v.time else None) for v in report.variants],
        "items/s": [_number_cell(v.time.items_per_second if v.time else None) for v in report.variants],
        "compile time": [_compile_cell(variant) for variant in report.variants],
        **(_memory_columns(report) if uses_memory(report) else {}),
        "compiled": [_compiled_cell(variant) for variant in report.variants],
    }
    if not ratios:
        del columns[f"ratio to {over}"]
    return _without_empty(columns)


def _memory_columns(report: Report) -> dict[str, list[str]]:
    return {
        "peak in use": [_in_use_cell(variant) for variant in report.variants],
        "peak held": [_held_cell(variant) for variant in report.variants],
        **{name: [_released_cell(variant, name) for variant in report.variants] for name in _released(report)},
    }


def _without_empty(columns: Mapping[str, list[str]]) -> Table:
    shown = {head: cells for head, cells in columns.items() if any(cell != NOT_AVAILABLE for cell in cells)}
    rows = zip(*([one_line(cell, 60) for cell in cells] for cells in shown.values()), strict=True)
    return Table(tuple(one_line(head, 60) for head in shown), tuple(rows))


def _each_cell(variant: Variant) -> str:
    if variant.time is None:
        return variant.status
    return f"{seconds(variant.time.median)}{' (once)' if variant.status == 'run-once' else ''}"


def uses_memory(report: Report) -> bool:
    """Say whether a variant had so much memory in use that it is worth a look, or somebody asked for it."""
    ledgers = [one for variant in report for one in variant.memory]
    asked = any(one.released or one.lines or one.device == "heap" for one in ledgers)
    return asked or any(one.in_use is not None and one.in_use >= _LEAST_MEMORY for one in ledgers)


def _memory_cell(variant: Variant) -> str:
    for ledger in variant.memory:
        if ledger.in_use is not None:
            return f"{'+' if ledger.on_top else ''}{used_in_words(ledger)}"
    return NOT_AVAILABLE


def _compiled_cell(variant: Variant) -> str:
    way = variant.compilation.way if variant.compilation is not None else None
    return NOT_AVAILABLE if way is None else SHORT.get(way, way)


def _time_cell(variant: Variant) -> str:
    time = variant.time
    if time is None:
        return variant.status
    if variant.status == "run-once":
        return f"{seconds(time.median)} (once)"
    return f"{seconds(time.median)} ({'no interval' if time.interval is None else seconds_between(*time.interval)})"


def _ratio_cell(name: str, ratios: dict[str, Ratio], baseline: str | None) -> str:
    if name == baseline:
        return "1 (baseline)"
    r = ratios.get(name)
    if r is None:
        return NOT_AVAILABLE
    span = f"range {ratio_between(r.least, r.most)}" if r.interval is None else ratio_between(*r.interval)
    return f"{ratio(r.median)} ({span})"


def _dispatch_cell(time: Time | None) -> str:
    if time is None or time.dispatch is None or time.wait is None:
        return NOT_AVAILABLE
    return f"{seconds(time.dispatch)} / {seconds(time.wait)}"


def _number_cell(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else number(value)


def _compile_cell(variant: Variant) -> str:
    compilation, known = variant.compilation, variant.compile_stages
    compiling = sum(value for _, value in known)
    if compilation is None or not known or (compilation.cache == "none" and not compiling):
        return NOT_AVAILABLE
    if compilation.cache == "none":
        return f"{seconds(compiling)} (in vain)"
    cache = "" if compilation.cache == "unknown" else f" ({compilation.cache})"
    return f"{seconds(compiling)}{cache}"


def _in_use_cell(variant: Variant) -> str:
    for ledger in variant.memory:
        if ledger.in_use is not None:
            # of a process that ended, what its own start took is in it
            seen = ", last seen" if ledger.how == "last seen" else ""
            return f"{'+' if ledger.on_top else ''}{used_in_words(ledger)} ({device_in_words(ledger)}{seen})"
    return NOT_AVAILABLE


def _held_cell(variant: Variant) -> str:
    for ledger in variant.memory:
        free = next((amount.bytes for amount in ledger.peak if amount.kind == "free in pool"), None)
        if free is not None and ledger.in_use is not None:
            return f"{size(ledger.in_use + free)} ({device_in_words(ledger)})"
    return NOT_AVAILABLE


def _released(report: Report) -> list[str]:
    return list(dict.fromkeys(a.kind for v in report.variants for ledger in v.memory for a in ledger.released))


def _released_cell(variant: Variant, kind: str) -> str:
    found = (a for ledger in variant.memory for a in ledger.released if a.kind == kind)
    return next((size(amount.bytes) for amount in found if amount.bytes is not None), NOT_AVAILABLE)


# The figures of the charts.


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
        yield r.over, ratio(r.median), span, r.verdict


def _stages_in_words(_: Report, variant: Variant) -> Iterator[Row]:
    return ((stage.name, seconds(value)) for stage, value in variant.compile_stages)


def _memory_in_words(report: Report, variant: Variant) -> Iterator[Row]:
    measured = (ledger for other in report for ledger in other.memory if ledger.how != "static")
    if all(amount.bytes is None for ledger in measured for amount in ledger.peak):
        return
    for ledger in variant.memory:
        for amount in ledger.peak:
            figure = "not available" if amount.bytes is None else _bytes_in_words(amount)
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


def device_in_words(ledger: Ledger) -> str:
    """Return the device of a ledger, and whether it was only worked out."""
    return f"{ledger.device} (static)" if ledger.how == "static" else ledger.device


def segment_in_words(ledger: Ledger, amount: Amount) -> str:
    """Return what a segment of a ledger is, and how what is in use was found where no counter told it."""
    return f"{amount.kind} ({ledger.how})" if amount.kind == "in use" and ledger.how != "measured" else amount.kind


# The remarks.


def details(report: Report) -> list[Group]:
    """Return the remarks on each variant under its name, then those on the whole comparison.

    What is the same for all of several variants is said once.
    """
    names = {variant.name for variant in report.variants}
    memory = uses_memory(report)
    own = {v.name: [*_remarks_on_variant(v, memory), *_findings_in_words(report, {v.name})] for v in report.variants}
    for finding in report.findings:  # it says the same, and what to do
        if finding.code == "FW302" and finding.variant in own:
            own[finding.variant] = [line for line in own[finding.variant] if line.label != "not warm"]
    first, *others = own.values() or [[]]
    shared = [line for line in first if others and all(line in lines for lines in others)]
    groups = [(name, [line for line in lines if line not in shared]) for name, lines in own.items()]
    named = {finding.variant for finding in report.findings}
    groups.append(
        ("all variants", [*_verdict_remarks(report), *shared, *_findings_in_words(report, named - names | {None})])
    )
    return [Group(one_line(name), tuple(_tidy_remark(line) for line in lines)) for name, lines in groups if lines]


def _verdict_remarks(report: Report) -> Iterator[Remark]:
    """Yield the verdict on a pair; of several pairs only what their table does not tell, once for all of one note."""
    ratios = list(report.over_baseline().values())
    if len(ratios) == 1:
        yield Remark("verdict", _verdict_in_words(ratios[0], report.margin))
        return
    for r in ratios:
        if r.regimes or not r.repeatable:
            yield Remark("verdict", _verdict_in_words(r, report.margin))
    notes = dict.fromkeys((r.verdict, r.note) for r in ratios if r.note and r.repeatable and not r.regimes)
    for verdict, note in notes:
        names = ", ".join(r.variant for r in ratios if (r.verdict, r.note) == (verdict, note))
        yield Remark("verdict", f"{names}: {verdict}: {note}")


def _remarks_on_variant(variant: Variant, memory: bool) -> Iterator[Remark]:
    options = {name: value for name, value in variant.options.items() if name != "output"}
    if options:
        yield Remark("options", _pairs_in_words(options, "="))
    if variant.failure is not None:
        failure = variant.failure
        what = f"{failure.error} ({failure.stage})" if failure.error else failure.stage
        yield Remark("failed", f"{_line_in_words(failure.line)}{what}: {failure.message}", True)
    if variant.note:
        yield Remark(variant.status, variant.note)
    if variant.compilation is not None:
        yield from _compilation_in_words(variant.compilation)
    if variant.time is not None:
        yield Remark("timed", _blocks_in_words(variant.time))
        yield from _alone_remark(variant.time)
        if not variant.time.warm and variant.status == "timed":
            yield Remark("not warm", "its time had not settled when the rounds began", True)
        if variant.time.voided:
            yield Remark("voided", f"{variant.time.voided} blocks in which something was compiled")
    for ledger in variant.memory:
        if memory or ledger.in_use is None:  # little is not worth a look, but why it is not known is said
            yield _peak_in_words(ledger)
            yield from _allocations_in_words(ledger)
    if variant.agreement is not None:
        differs = variant.agreement.status == "differs"
        where = f" (at {variant.agreement.path})" if _adds(variant.agreement) else ""
        yield Remark("outputs", f"{variant.agreement.sentence}{where}", differs)
    if variant.returned:
        yield Remark("returned", ", ".join(variant.returned))


_LOOSE = 1.05  # what a tight loop of a few milliseconds tells of a time, as a factor


def _alone_remark(time: Time) -> Iterator[Remark]:
    """Yield what a call takes in a tight loop, where that differs from its time by more than either is known to."""
    if time.alone is not None and time.interval is not None:
        low, high = time.interval
        if not low / _LOOSE < time.alone < high * _LOOSE:
            yield Remark("alone", f"{seconds(time.alone)} in a tight loop, without pauses or other variants in between")


def _blocks_in_words(time: Time) -> str:
    """Return the number of blocks that a time comes from."""
    calls = time.calls_per_block
    # A stored report holds fewer samples than were taken.
    count = max(len(time.samples), time.calls // calls if calls else 0)
    blocks = f"{count} {_plural('block', count)} of {number(calls)} {_plural('call', calls)}"
    return f"{blocks}, too few for an interval" if time.interval is None else blocks


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _adds(agreement: Agreement) -> bool:
    """Say whether the path of the first difference is more than the sentence tells already."""
    return bool(agreement.path) and str(agreement.path) not in agreement.sentence


def _compilation_in_words(compilation: Compilation) -> Iterator[Remark]:
    whole = compilation.way == "cell" and bool(compilation.reason)  # the reason tells how
    parts = [compilation.reason if whole else _COMPILED.get(compilation.way, compilation.way)]
    if compilation.compiled and not whole:
        parts[0] += f" ({', '.join(compilation.compiled)})"
    if compilation.graphs is not None:
        parts.append(f"{compilation.graphs} {_plural('graph', compilation.graphs)}")
    if compilation.lifted:
        parts.append(f"{compilation.lifted} captured arrays made arguments")
    why = f": {_line_in_words(compilation.line)}{compilation.reason}" if compilation.reason and not whole else ""
    yield Remark("compiled", f"{', '.join(parts)}{why}", compilation.way == "eager" and compilation.line is not None)
    for label, places in (("graph break", compilation.breaks), ("recompiled", compilation.recompiles)):
        for place in places:
            yield Remark(label, f"{_line_in_words(place.line)}{place.reason}", True)
    if compilation.every_call:
        yield Remark("compiles", "every call", True)


def stages_in_words(variant: Variant) -> str:
    """Return what each stage of a compilation took; empty if there is none."""
    stages = variant.compilation.stages if variant.compilation is not None else ()
    return ", ".join(f"{stage.name} {_stage_in_words(stage)}" for stage in stages)


def _stage_in_words(stage: Stage) -> str:
    if stage.seconds is None:
        return f"{NOT_AVAILABLE} ({stage.source})"
    return f"{seconds(stage.seconds)}{' (once a process, not counted)' if stage.name == 'prime' else ''}"


def _peak_in_words(ledger: Ledger) -> Remark:
    known = [f"{segment_in_words(ledger, one)} {_bytes_in_words(one)}" for one in ledger.peak if one.bytes is not None]
    missing = [f"{segment_in_words(ledger, one)} ({one.why})" for one in ledger.peak if one.bytes is None]
    held = [f"{one.kind} {_size_in_words(one)}" for one in ledger.released]
    total = "" if ledger.total is None else f" of {size(ledger.total)}"
    start = None if ledger.start is None else size(ledger.start)
    parts = [
        f"peak on {device_in_words(ledger)}{total}: {', '.join(known) or NOT_AVAILABLE}",
        "" if start is None else f"on top of {start} before" if ledger.on_top else f"{start} of it in use before",
        next((one.source for one in ledger.peak if one.kind == "in use"), ""),
        f"not available: {', '.join(missing)}" if missing else "",
        f"then held: {', '.join(held)}" if held else "",
        ledger.note,
    ]
    told = any(one.most is not None for one in ledger.peak)  # a span says already that something is not known
    return Remark("memory", "; ".join(part for part in parts if part), bool(ledger.note) and not told)


def used_in_words(ledger: Ledger) -> str:
    """Return how much was in use at the peak: a size, or from which one to which."""
    return next((_bytes_in_words(one) for one in ledger.peak if one.kind == "in use"), NOT_AVAILABLE)


def _bytes_in_words(amount: Amount) -> str:
    count = amount.bytes or 0
    return size(count) if amount.most is None else size_between(count, amount.most)


def _size_in_words(amount: Amount) -> str:
    return f"{NOT_AVAILABLE} ({amount.why})" if amount.bytes is None else size(amount.bytes)


def _allocations_in_words(ledger: Ledger) -> Iterator[Remark]:
    """Yield what allocated what was in use at the peak: lines of the cell, and what is known instead of one."""
    parts = [f"{_line_in_words(one.line).removesuffix(': ') or one.what} {size(one.bytes)}" for one in ledger.lines]
    if parts:
        yield Remark("allocated", ", ".join(parts))


def _findings_in_words(report: Report, variants: Set[str | None]) -> list[Remark]:
    return [_finding_in_words(finding) for finding in report.findings if finding.variant in variants]


def _finding_in_words(finding: Finding) -> Remark:
    return Remark(
        finding.code, f"{_line_in_words(finding.line)}{finding.sentence.rstrip('.')}. What to do: {finding.fix}", True
    )


def _line_in_words(line: int | None) -> str:
    return "" if line is None else f"line {line}: "


def _tidy_remark(line: Remark) -> Remark:
    return Remark(one_line(line.label, 40), one_line(line.text, 600), line.warning)


# The conditions.


def conditions(report: Report) -> list[Remark]:
    """Return what the numbers hold for, in two to four lines; of what has a default, only what is another."""
    c = report.conditions
    known = (("before", c.load_before), ("during", c.load_during))
    load = [f"{when} {number(cores)}" for when, cores in known if cores is not None]
    sources = dict.fromkeys(v.time.source for v in report.variants if v.time is not None)
    lines = {
        "software": [_pairs_in_words(c.versions, " "), c.machine, "" if c.process == Conditions.process else c.process],
        "devices": [
            _pairs_in_words(c.devices, " on "),
            _threads_in_words(c.threads),
            _pairs_in_words(c.settings, " = "),
            c.inputs,
        ],
        "load": [f"cores busy with other processes: {', '.join(load)}" if load else "", ", ".join(c.neighbours)],
        "timing": [
            "" if report.state == "running" else f"{seconds(report.spent)} of a budget of {seconds(report.budget)}",
            "" if report.margin == Report.margin else f"margin {setting(report.margin)}",
            *(source for source in sources if source != Time.source),
        ],
    }
    joined = {label: "; ".join(part for part in parts if part) for label, parts in lines.items()}
    return [Remark(label, one_line(text, 600)) for label, text in joined.items() if text]


def _threads_in_words(threads: Mapping[str, str]) -> str:
    counts = set(threads.values())
    if len(threads) > 1 and len(counts) == 1:
        return f"{counts.pop()} threads each"
    return _pairs_in_words({name: n for name, n in threads.items() if not n.startswith("unknown")}, " threads: ")


def _pairs_in_words(values: Mapping[str, str], between: str) -> str:
    return ", ".join(f"{key}{between}{value}" for key, value in values.items())
