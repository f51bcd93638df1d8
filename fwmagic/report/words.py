"""The words of a report: the sentences at its top, its table, its remarks; every view takes them from here."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Set
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
    times,
)
from fwmagic.report import wire
from fwmagic.report.report import (
    Agreement,
    Amount,
    Compilation,
    Finding,
    Ledger,
    Ratio,
    Report,
    Stage,
    Time,
    Variant,
)


@dataclass(frozen=True)
class Sentence:
    """One sentence at the top of a report; a warning is shown as one."""

    text: str
    warning: bool = False


def headline(report: Report) -> list[Sentence]:
    """Return the verdicts, then what a reader must not miss: sentences without a full stop."""
    sentences = [Sentence(text) for text in _state(report)]
    verdicts = ratios_to_baseline(report)
    differ = {v.name for v in report.variants if v.agreement is not None and v.agreement.status == "differs"}
    for r in verdicts.values():
        but = ", and their outputs differ" if {r.variant, r.over} & differ else ""
        sentences.append(Sentence(_verdict(r, report.margin) + but))
    if report.fastest is not None and len(verdicts) > 1:
        sentences.append(Sentence(f"{report.fastest} is the fastest: it beats every other variant"))
    compared = {name for r in verdicts.values() for name in (r.variant, r.over)}
    for variant in report.variants:
        sentences += _alone(variant, compared, report.state)
        agreement = variant.agreement
        if agreement is not None and agreement.status == "differs":
            what = f"the outputs of {variant.name} differ from those of {agreement.reference}"
            sentences.append(Sentence(what, warning=True))
    if not report.variants and report.state == "done":
        sentences.append(Sentence("no variant was run"))
    if report.note:
        sentences.append(Sentence(report.note, report.state == "failed"))
    return [Sentence(one_line(s.text).rstrip("."), s.warning) for s in sentences]


def ratios_to_baseline(report: Report) -> dict[str, Ratio]:
    """Return each variant's ratio over the baseline by the variant's name; without a baseline, all as they are."""
    names = {variant.name for variant in report.variants}
    found: dict[str, Ratio] = {}
    for r in report.ratios:
        if report.baseline in (None, r.over):
            found.setdefault(r.variant, r)
        elif r.variant == report.baseline and {r.variant, r.over} <= names:
            found.setdefault(r.over, report.ratio(r.over, over=r.variant))
    return found


def _state(report: Report) -> Iterator[str]:
    if report.state == "running":
        at_work = ", ".join(v.name for v in report.variants if v.status == "running")
        share = f"running, {percent(min(report.progress, 1.0), 2)} of the budget of {seconds(report.budget)} used"
        yield f"{share}{f', now {at_work}' if at_work else ''}: no figure below is final"
    elif report.state == "interrupted":
        spent = f"{seconds(report.spent)} of the budget of {seconds(report.budget)}"
        yield f"interrupted after {spent}: the figures hold for what was timed until then"
    elif report.state == "failed":
        yield "failed: this comparison is not complete"


def _verdict(r: Ratio, margin: float) -> str:
    span = f"95 % interval {ratio_between(r.low, r.high)}" if r.low is not None and r.high is not None else _range(r)
    figures = f"(ratio {ratio(r.median)}, {span}, {r.rounds} {'round' if r.rounds == 1 else 'rounds'})"
    pair = f"{r.variant} and {r.over}"
    if r.verdict in ("faster", "slower"):
        text = f"{r.variant} is {_speed(r.median)} than {r.over} {figures}"
    elif r.verdict == "same":
        text = f"{pair} take the same time, within {setting(margin)} {figures}"
    elif r.verdict == "withheld":
        return f"{pair}: verdict withheld: {r.note}"
    elif r.note and r.repeatable:
        text = f"{pair}: undecided {figures}"
    elif r.low is None or r.high is None:
        text = f"{pair}: undecided: too few rounds for an interval {figures}; a larger --budget may decide"
    else:
        text = f"{pair}: undecided: {r.variant} is {_between(r.low, r.high)} {figures}; a larger --budget may decide"
    if not r.repeatable:
        return f"{text}; not repeatable: parts of this run disagreed, so the interval was widened"
    return f"{text}; {r.note}" if r.note else text


def _speed(value: float) -> str:
    """Return a ratio of times as a speed: 0.43 is `2.3x faster`, 1.02 is `2.0 % slower`."""
    factor, word = (1 / value, "faster") if value < 1 else (value, "slower")
    return f"{times(factor) if factor >= 1.5 else percent(factor - 1, 2)} {word}"


def _between(low: float, high: float) -> str:
    first, second = _speed(low), _speed(high)
    if first.split()[-1] == second.split()[-1]:
        first = first.rsplit(" ", 1)[0]
    return f"between {first} and {second}"


def _range(r: Ratio) -> str:
    return f"range seen {ratio_between(r.least, r.most)}, no interval"


def _alone(variant: Variant, compared: set[str], state: str) -> Iterator[Sentence]:
    """Yield what is to be said of a variant that no verdict speaks of."""
    why = f": {variant.note}" if variant.note else ""
    if variant.status == "failed":
        failure = variant.failure
        line = f" at line {failure.line}" if failure is not None and failure.line is not None else ""
        what = why
        if failure is not None:
            what = f"{line} with {failure.error}" if failure.error else f"{line}: {failure.message}"
        yield Sentence(f"{variant.name} failed{what}", warning=True)
    elif variant.name in compared:
        return
    elif variant.status == "run-once":
        took = f" in {seconds(variant.time.median)}" if variant.time is not None else ""
        yield Sentence(f"{variant.name} ran once{took} and is not compared{why}")
    elif variant.time is not None:
        yield Sentence(f"{variant.name} takes {seconds(variant.time.median)} a call ({block_count(variant.time)})")
    elif variant.status in ("not timed", "interrupted"):
        yield Sentence(f"{variant.name} was {variant.status}{why}")
    elif state != "running":
        yield Sentence(f"{variant.name} was not timed{why}")


def block_count(time: Time) -> str:
    """Return the interval of the median and the number of blocks that it comes from."""
    count = len(time.samples)
    blocks = f"{count} {'block' if count == 1 else 'blocks'} of {number(time.calls_per_block)}"
    blocks += " call" if time.calls_per_block == 1 else " calls"
    if time.low is None or time.high is None:
        return f"{blocks}, too few for an interval"
    return f"95 % interval {seconds_between(time.low, time.high)}, {blocks}"


MISSING = "n/a"
#: Where what is in use is what came on top of the memory before the run.
ON_TOP = ("host", "heap")
_COMPILED = {
    "yours": "by the cell itself",
    "cell": "the whole cell as one function",
    "modules": "the modules that it calls, in place",
    "functions": "the functions that it calls, in place",
    "eager": "no",
}


@dataclass(frozen=True)
class Line:
    """One labelled remark on a variant; a warning asks for attention."""

    label: str
    text: str
    warning: bool = False


@dataclass(frozen=True)
class Group:
    """The remarks on one variant, or on all of them, under its name."""

    name: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Table:
    """The figures of a report as text: a heading for each column and one row a variant, in their order."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def table(report: Report) -> Table:
    """Return the table of the variants; a column that holds nothing for any of them is left out."""
    ratios = ratios_to_baseline(report)
    over = report.baseline if report.baseline is not None else "the other"
    columns = {
        "variant": [variant.name for variant in report.variants],
        "runs": [f"{variant.framework} {variant.mode}".strip() for variant in report.variants],
        "time per call": [_time_cell(variant) for variant in report.variants],
        f"ratio to {over}": [_ratio_cell(v.name, ratios, report.baseline) for v in report.variants],
        "dispatch / wait": [_dispatch_cell(variant.time) for variant in report.variants],
        "cores": [_number_cell(v.time.cores if v.time else None) for v in report.variants],
        "items/s": [_number_cell(v.time.items_per_second if v.time else None) for v in report.variants],
        "compile time": [_compile_cell(variant.compilation) for variant in report.variants],
        "peak in use": [_memory_cell(variant) for variant in report.variants],
        "peak held": [_held_cell(variant) for variant in report.variants],
        **{name: [_released_cell(variant, name) for variant in report.variants] for name in _released(report)},
        "way": [v.compilation.way if v.compilation else MISSING for v in report.variants],
    }
    shown = {head: cells for head, cells in columns.items() if any(cell != MISSING for cell in cells)}
    if not ratios:
        shown = {head: cells for head, cells in shown.items() if not head.startswith("ratio to ")}
    rows = zip(*([one_line(cell, 60) for cell in cells] for cells in shown.values()), strict=True)
    return Table(tuple(one_line(head, 60) for head in shown), tuple(rows))


def details(report: Report) -> list[Group]:
    """Return the remarks on each variant under its name, then those on the whole comparison."""
    names = {variant.name for variant in report.variants}
    groups = [(v.name, [*_remarks(v), *_findings(report, {v.name})]) for v in report.variants]
    named = {finding.variant for finding in report.findings}
    groups.append(("all variants", _findings(report, named - names | {None})))
    return [Group(one_line(name), tuple(_tidy(line) for line in lines)) for name, lines in groups if lines]


def conditions(report: Report) -> list[Line]:
    """Return what the numbers hold for, in two to four lines."""
    c = report.conditions
    known = (("before", c.load_before), ("during", c.load_during))
    load = [f"{when} {number(cores)}" for when, cores in known if cores is not None]
    sources = dict.fromkeys(v.time.source for v in report.variants if v.time is not None)
    lines = {
        "software": [_pairs(c.versions, " "), c.machine, c.process],
        "devices": [_pairs(c.devices, " on "), _pairs(c.threads, " threads: "), _pairs(c.settings, " = "), c.inputs],
        "load": [f"cores busy with other processes: {', '.join(load)}" if load else "", ", ".join(c.neighbours)],
        "timing": [
            "" if report.state == "running" else f"{seconds(report.spent)} of a budget of {seconds(report.budget)}",
            f"margin {setting(report.margin)}",
            *sources,
            f"run {report.run_id} started {report.started}",
        ],
    }
    joined = {label: "; ".join(part for part in parts if part) for label, parts in lines.items()}
    return [Line(label, one_line(text, 600)) for label, text in joined.items() if text]


def compile_stages(compilation: Compilation | None) -> list[tuple[Stage, float]]:
    """Return the stages whose seconds are known, without prime: that one is spent once a process."""
    stages = compilation.stages if compilation is not None else ()
    return [(stage, stage.seconds) for stage in stages if stage.seconds is not None and stage.name != "prime"]


def in_use(ledger: Ledger) -> int | None:
    """Return the bytes in use at the peak of a ledger; None: not known."""
    return next((amount.bytes for amount in ledger.peak if amount.name.startswith("in use")), None)


def _time_cell(variant: Variant) -> str:
    time = variant.time
    if time is None:
        return variant.status
    if variant.status == "run-once":
        return f"{seconds(time.median)} (once)"
    if time.low is None or time.high is None:
        return f"{seconds(time.median)} (no interval)"
    return f"{seconds(time.median)} ({seconds_between(time.low, time.high)})"


def _ratio_cell(name: str, ratios: dict[str, Ratio], baseline: str | None) -> str:
    if name == baseline:
        return "1 (baseline)"
    r = ratios.get(name)
    if r is None:
        return MISSING
    low, high = (r.least, r.most) if r.low is None or r.high is None else (r.low, r.high)
    return f"{ratio(r.median)} ({'range ' if r.low is None or r.high is None else ''}{ratio_between(low, high)})"


def _dispatch_cell(time: Time | None) -> str:
    if time is None or time.dispatch is None or time.wait is None:
        return MISSING
    return f"{seconds(time.dispatch)} / {seconds(time.wait)}"


def _number_cell(value: float | None) -> str:
    return MISSING if value is None else number(value)


def _compile_cell(compilation: Compilation | None) -> str:
    known = compile_stages(compilation)
    if compilation is None or not known or compilation.cache == "none":
        return MISSING
    cache = "" if compilation.cache == "unknown" else f" ({compilation.cache})"
    compiling = sum(value for stage, value in known if stage.name != "first run")
    return f"{seconds(compiling)}{cache}"


def _memory_cell(variant: Variant) -> str:
    known = ((ledger, in_use(ledger)) for ledger in variant.memory)
    found = next(((ledger, count) for ledger, count in known if count is not None), None)
    if found is None:
        return MISSING
    ledger, count = found
    # of a process that ended, what its own start took is in it
    seen = ", last seen" if any("last seen" in amount.name for amount in ledger.peak) else ""
    return f"{'+' if ledger.device in ON_TOP else ''}{size(count)} ({ledger.device}{seen})"


def _held_cell(variant: Variant) -> str:
    for ledger in variant.memory:
        free = next((amount.bytes for amount in ledger.peak if amount.name == "free in pool"), None)
        count = in_use(ledger)
        if free is not None and count is not None:
            return f"{size(count + free)} ({ledger.device})"
    return MISSING


def _released(report: Report) -> list[str]:
    return list(dict.fromkeys(a.name for v in report.variants for ledger in v.memory for a in ledger.released))


def _released_cell(variant: Variant, name: str) -> str:
    found = (a for ledger in variant.memory for a in ledger.released if a.name == name)
    return next((size(amount.bytes) for amount in found if amount.bytes is not None), MISSING)


def _remarks(variant: Variant) -> Iterator[Line]:
    if variant.options:
        yield Line("options", _pairs(variant.options, "="))
    if variant.failure is not None:
        failure = variant.failure
        what = f"{failure.error} ({failure.stage})" if failure.error else failure.stage
        yield Line("failed", f"{_at(failure.line)}{what}: {failure.message}", True)
    if variant.note:
        yield Line(variant.status, variant.note)
    if variant.compilation is not None:
        yield from _compilation(variant.compilation)
    if variant.time is not None:
        yield Line("timed", block_count(variant.time))
        if not variant.time.warm and variant.status == "timed":
            yield Line("not warm", "its time had not settled when the rounds began", True)
        if variant.time.voided:
            yield Line("voided", f"{variant.time.voided} blocks in which something was compiled")
    for ledger in variant.memory:
        yield _memory(ledger)
        yield from _allocated(ledger)
    if variant.agreement is not None:
        differs = variant.agreement.status == "differs"
        where = f" (at {variant.agreement.path})" if _adds(variant.agreement) else ""
        yield Line("outputs", f"{variant.agreement.sentence}{where}", differs)
    if variant.returned:
        yield Line("returned", ", ".join(variant.returned))


def _adds(agreement: Agreement) -> bool:
    """Say whether the path of the first difference is more than the sentence tells already."""
    return bool(agreement.path) and str(agreement.path) not in agreement.sentence


def _compilation(compilation: Compilation) -> Iterator[Line]:
    parts = [_COMPILED.get(compilation.way, compilation.way)]
    if compilation.compiled:
        parts[0] += f" ({', '.join(compilation.compiled)})"
    if compilation.graphs is not None:
        parts.append(f"{compilation.graphs} {'graph' if compilation.graphs == 1 else 'graphs'}")
    if compilation.lifted:
        parts.append(f"{compilation.lifted} captured arrays made arguments")
    why = f": {_at(compilation.line)}{compilation.reason}" if compilation.reason else ""
    yield Line("compiled", f"{', '.join(parts)}{why}", compilation.way == "eager" and compilation.line is not None)
    stages = [f"{s.name} {_stage(s)}" for s in compilation.stages]
    if stages:
        yield Line("stages", ", ".join(stages))
    for label, places in (("graph break", compilation.breaks), ("recompiled", compilation.recompiles)):
        for place in places:
            yield Line(label, f"{_at(place.line)}{place.reason}", True)
    if compilation.every_call:
        yield Line("compiles", "every call", True)


def _stage(stage: Stage) -> str:
    if stage.seconds is None:
        return f"{MISSING} ({stage.source})"
    return f"{seconds(stage.seconds)}{' (once a process, not counted)' if stage.name == 'prime' else ''}"


def _memory(ledger: Ledger) -> Line:
    on_top = ledger.device in ON_TOP
    known = [f"{amount.name} {size(amount.bytes)}" for amount in ledger.peak if amount.bytes is not None]
    missing = [_missing(amount) for amount in ledger.peak if amount.bytes is None]
    total = f" of {size(ledger.total)}" if ledger.total is not None else ""
    start = None if ledger.start is None else size(ledger.start)
    source = next((one.source for one in ledger.peak if one.bytes is not None and one.name.startswith("in use")), "")
    parts = [
        f"peak on {ledger.device}{total}: {', '.join(known) or MISSING}",
        "" if start is None else f"on top of {start} before" if on_top else f"{start} of it in use before",
        source,
        f"not available: {', '.join(missing)}" if missing else "",
        f"then held: {', '.join(_held(amount) for amount in ledger.released)}" if ledger.released else "",
        ledger.note,
    ]
    return Line("memory", "; ".join(part for part in parts if part), bool(ledger.note))


def _missing(amount: Amount) -> str:
    why = amount.source.removeprefix("not available: ").removeprefix("not available because ")
    return f"{amount.name} ({why})"


def _held(amount: Amount) -> str:
    return f"{amount.name} {size(amount.bytes) if amount.bytes is not None else f'{MISSING} ({amount.source})'}"


def _allocated(ledger: Ledger) -> Iterator[Line]:
    """Yield what allocated what was in use at the peak: lines of the cell, and what is known instead of one."""
    parts = [f"{_at(one.line).removesuffix(': ') or one.what} {size(one.bytes)}" for one in ledger.lines]
    if parts:
        yield Line("allocated", ", ".join(parts))


def _findings(report: Report, variants: Set[str | None]) -> list[Line]:
    return [_finding(finding) for finding in report.findings if finding.variant in variants]


def _finding(finding: Finding) -> Line:
    return Line(finding.code, f"{_at(finding.line)}{finding.sentence.rstrip('.')}. What to do: {finding.fix}", True)


def _at(line: int | None) -> str:
    return "" if line is None else f"line {line}: "


def _pairs(values: Mapping[str, str], between: str) -> str:
    return ", ".join(f"{key}{between}{value}" for key, value in values.items())


def _tidy(line: Line) -> Line:
    return Line(one_line(line.label, 40), one_line(line.text, 600), line.warning)


@dataclass(frozen=True)
class Words:
    """All that the text of a report says, in its parts."""

    headline: tuple[Sentence, ...]
    table: Table
    details: tuple[Group, ...]
    conditions: tuple[Line, ...]


def to_words(report: Report) -> dict[str, Any]:
    """Return the words of a report as JSON-ready values."""
    words = Words(
        headline=tuple(headline(report)),
        table=table(report),
        details=tuple(details(report)),
        conditions=tuple(conditions(report)),
    )
    return typing.cast("dict[str, Any]", wire.plain(words, None))
