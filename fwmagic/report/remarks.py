"""The remarks of a report: what is to be known of each variant, of all of them, and what the numbers hold for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace

from fwmagic.format import (
    number,
    one_line,
    percent,
    ratio,
    ratio_between,
    seconds,
    setting,
    size,
)
from fwmagic.report.answer import Answer, answer_of, closest, speed
from fwmagic.report.ledger import Amount, Ledger
from fwmagic.report.report import (
    Agreement,
    Compilation,
    Conditions,
    Finding,
    Ratio,
    Report,
    Stage,
    Time,
    Variant,
)
from fwmagic.report.tables import (
    NOT_AVAILABLE,
    UNSURE,
    bytes_in_words,
    compile_cell,
    device_in_words,
    memory_left_out,
    overlapping,
    range_in_words,
    segment_in_words,
    uses_memory,
)

_COMPILED = {
    "yours": "by the code itself",
    "cell": "the whole cell as one function",
    "modules": "the modules that it calls, in place",
    "functions": "the functions that it calls, in place",
    "eager": "no",
}
# Remarks that a finding takes the place of.
_SAID_BY = {"FW302": "not warm", "FW401": "outputs"}
# The longest remark, and what a notebook stores at most of one that quotes an error.
_LONGEST, _LONGEST_ERROR = 600, 2000
# So many variants are named.
_FEW_NAMES = 4
#: The name of the remarks on all variants.
ALL = "all variants"
#: Of more variants than these, a notebook stores only what is to be noted on each.
MANY = 6


@dataclass(frozen=True)
class Remark:
    """One labelled remark.

    Attributes
    ----------
    label
        What it is about, in a word or two.
    text
        The remark; of a finding, a stored report leaves it out: `line 3: `, if it has a line, its sentence without a
        full stop, `. What to do: ` and its fix.
    warning
        Whether it is to be shown as a warning.
    finding
        The place of the finding in the report that it tells, from 0; null: it tells none.
    """

    label: str
    text: str = ""
    warning: bool = False
    finding: int | None = field(default=None, compare=False)


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


def details(report: Report) -> list[Group]:
    """Return the remarks on the whole comparison, then those on each variant under its name.

    What is the same for all of several variants is said once, and what the answer tells is not said again.
    """
    names = {variant.name for variant in report.variants}
    memory, answer = uses_memory(report), answer_of(report)
    own = {
        v.name: [*_remarks_on_variant(v, memory, answer.line), *_findings_in_words(report, {v.name}, answer.line)]
        for v in report.variants
    }
    for finding in report.findings:  # it says the same, and what to do
        if finding.code in _SAID_BY and finding.variant in own:
            own[finding.variant] = [line for line in own[finding.variant] if line.label != _SAID_BY[finding.code]]
    first, *others = own.values() or [[]]
    shared = [line for line in first if others and all(line in lines for lines in others)]
    named = {finding.variant for finding in report.findings}
    of_all = _findings_in_words(report, named - names | {None}, answer.line)
    groups = [(ALL, [*_verdict_remarks(report, answer), *of_all, *shared, *_order_of_memory(report)])]
    groups += [(name, [line for line in lines if line not in shared]) for name, lines in own.items()]
    # By weight: what concerns all numbers before what concerns one, and in each what changes how they are read.
    weighed = ((name, sorted(lines, key=lambda line: not line.warning)) for name, lines in groups)
    return [Group(one_line(name), tuple(_tidy_remark(line) for line in lines)) for name, lines in weighed if lines]


def noted(report: Report) -> list[Remark]:
    """Return what is to be noted beside the answer: why a variant failed, then the rest in the order of the details."""
    lines = [line for group in details(report) for line in group.lines if line.warning]
    lines.sort(key=lambda line: line.label != "failed")
    answer = answer_of(report).line
    return [replace(one, text=_beyond(one.text, answer)) if one.label == "failed" else one for one in lines]


def _is_told(text: str, answer: str) -> bool:
    """Say whether the answer has what a text ends with: what two variants have where they differ."""
    values = one_line(text.rpartition(": ")[2]).split(" and ")
    return bool(text) and all(value in answer for value in values)


def _beyond(text: str, answer: str) -> str:
    """Return the parts of a remark that the answer does not have; one that was cut there is told whole."""
    return ": ".join(part for part in re.split(r"[:;] ", text) if part not in answer)


def stored_details(report: Report) -> list[Group]:
    """Return the remarks for a view that a notebook stores: of many variants, what is to be noted on each, no more."""
    groups = [replace(group, lines=tuple(map(_stored_remark, group.lines))) for group in details(report)]
    if len(report.variants) <= MANY:
        return groups
    first, *own = groups if groups and groups[0].name == ALL else [Group(ALL, ()), *groups]
    noted = (replace(group, lines=tuple(line for line in group.lines if line.warning)) for group in own)
    more = Remark("more", f"on each of {len(report.variants)} variants: .details() of the report")
    return [replace(first, lines=(*first.lines, more)), *(group for group in noted if group.lines)]


def _stored_remark(line: Remark) -> Remark:
    return replace(line, text=one_line(line.text, _LONGEST_ERROR))


def _verdict_remarks(report: Report, answer: Answer) -> Iterator[Remark]:
    """Yield the verdict on a pair; of several pairs only what their table does not tell, once for all of one note."""
    ratios = list(report.over_baseline().values())
    disagreed = [r.variant for r in ratios if not r.repeatable and not r.regimes]
    if disagreed:
        whose = f"{', '.join(disagreed)}: " if len(ratios) > 1 else ""
        told = "parts of the run disagreed" in answer.line
        yield Remark("not repeatable", f"{whose}parts of this run disagreed, so the interval was widened", not told)
    if len(ratios) == 1:
        told = answer.sign in ("✓", "=", "?") or (ratios[0].verdict == "withheld" and ratios[0].note in answer.line)
        words = _figures_in_words(ratios[0]) if told else _verdict_in_words(ratios[0], report.margin)
        if words:
            yield Remark("verdict", words, bool(ratios[0].regimes))
        return
    for r in ratios:
        if r.regimes:
            yield Remark("verdict", _verdict_in_words(r, report.margin), True)
    near = closest(report)  # the answer is about it, and the table about the baseline
    if near is not None and report.baseline not in (None, near.variant, near.over) and near.verdict != "withheld":
        yield Remark("verdict", f"{near.variant} over {near.over}: {_ratio_in_words(near)}")
    notes = dict.fromkeys((r.verdict, r.note) for r in ratios if r.note and r.repeatable and not r.regimes)
    for verdict, note in notes:
        names = ", ".join(r.variant for r in ratios if (r.verdict, r.note) == (verdict, note))
        yield Remark("verdict", f"{names}: {verdict}: {note}")


def _figures_in_words(r: Ratio) -> str:
    """Return what a verdict that the answer has is made of, beside the ratio and the interval of the table."""
    if r.verdict == "withheld":
        return ""
    return f"{r.variant} over {r.over}: {r.rounds} {_plural('round', r.rounds)}{_more_in_words(r)}"


def _ratio_in_words(r: Ratio) -> str:
    seen = f"{range_in_words(r)}, no interval"
    span = f"95 % interval {ratio_between(*r.interval)}" if r.interval is not None else seen
    return f"ratio {ratio(r.median)}, {span}, {r.rounds} {_plural('round', r.rounds)}"


def _verdict_in_words(r: Ratio, margin: float) -> str:
    figures = f"({_ratio_in_words(r)})"
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
    return f"{text}{_more_in_words(r)}"


def _more_in_words(r: Ratio) -> str:
    if r.regimes:
        low, high = r.regimes
        share = percent(low.share, 2)
        return f"; it moved between {ratio(low.median)}, in {share} of the rounds, and {ratio(high.median)}"
    return f"; {r.note}" if r.note and r.repeatable else ""


def _span_in_words(low: float, high: float) -> str:
    first, second = speed(low), speed(high)
    if first.split()[-1] == second.split()[-1]:
        first = first.rsplit(" ", 1)[0]
    return f"between {first} and {second}"


def _remarks_on_variant(variant: Variant, memory: bool, answer: str) -> Iterator[Remark]:
    options = {name: value for name, value in variant.options.items() if name != "output"}
    if options:
        yield Remark("options", _pairs_in_words(options, "="))
    if variant.failure is not None:
        failure = variant.failure
        what = f"{failure.error} ({failure.stage})" if failure.error else failure.stage
        told = one_line(failure.message) in answer
        whole = f"{_line_in_words(failure.line)}{what}: {failure.message}"
        yield Remark("failed", f"stage: {failure.stage}", False) if told else Remark("failed", whole, True)
    # Of one that is at work, it is what the run is at.
    if variant.note and variant.status != "running" and one_line(variant.note) not in answer:
        yield Remark(variant.status, variant.note)
    if variant.compilation is not None:
        yield from _compilation_in_words(variant.compilation, answer)
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
            yield from _source_in_words(ledger)
            yield from _allocations_in_words(ledger)
    if variant.returned:
        yield Remark("returned", ", ".join(variant.returned))
    if variant.agreement is not None:
        differs = variant.agreement.status == "differs"
        if differs and _is_told(variant.agreement.sentence, answer):
            return
        where = f" (at {variant.agreement.path})" if _adds(variant.agreement) else ""
        yield Remark("outputs", f"{variant.agreement.sentence}{where}", differs)


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


def _compilation_in_words(compilation: Compilation, answer: str) -> Iterator[Remark]:
    whole = compilation.way == "cell" and bool(compilation.reason)  # the reason tells how
    parts = [compilation.reason if whole else _COMPILED.get(compilation.way, compilation.way)]
    if compilation.compiled and not whole:
        parts[0] += f" ({', '.join(compilation.compiled)})"
    if compilation.graphs is not None:
        parts.append(f"{compilation.graphs} {_plural('graph', compilation.graphs)}")
    if compilation.lifted:
        parts.append(f"{compilation.lifted} captured arrays made arguments")
    why = f": {_line_in_words(compilation.line)}{compilation.reason}" if compilation.reason and not whole else ""
    told = f"{', '.join(parts)}{why}"
    refused = compilation.way == "eager" and compilation.line is not None
    if refused and "not compiled: " in answer:  # it has the line, and what is there
        told = _beyond(told, answer)
    if told:
        yield Remark("compiled", told, refused)
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
    known = [f"{segment_in_words(ledger, one)} {bytes_in_words(one)}" for one in ledger.peak if one.bytes is not None]
    missing = [f"{segment_in_words(ledger, one)} ({one.why})" for one in ledger.peak if one.bytes is None]
    held = [f"{one.kind} {_size_in_words(one)}" for one in ledger.released]
    total = "" if ledger.total is None else f" of {size(ledger.total)}"
    start = None if ledger.start is None else size(ledger.start)
    parts = [
        f"peak on {device_in_words(ledger)}{total}: {', '.join(known) or NOT_AVAILABLE}",
        "" if start is None else f"on top of {start} before" if ledger.on_top else f"{start} of it in use before",
        f"not available: {', '.join(missing)}" if missing else "",
        f"then held: {', '.join(held)}" if held else "",
        ledger.note,
    ]
    told = any(one.most is not None for one in ledger.peak)  # a span says already that something is not known
    return Remark("memory", "; ".join(part for part in parts if part), bool(ledger.note) and not told)


def _order_of_memory(report: Report) -> Iterator[Remark]:
    """Yield which variants' memory has no order, as far as is known."""
    names = overlapping(report) if uses_memory(report) else []
    if names:
        which = names if len(names) <= _FEW_NAMES else [f"{len(names)} variants"]
        yield Remark("memory", f"which of {' and '.join(which)} needs more is {UNSURE}: their ranges overlap")


def _source_in_words(ledger: Ledger) -> Iterator[Remark]:
    """Yield what counted the bytes in use: mostly the same for all variants, and then said once."""
    for amount in ledger.peak:
        if amount.kind == "in use" and amount.source:
            yield Remark("source", f"memory on {device_in_words(ledger)}: {amount.source}")


def _size_in_words(amount: Amount) -> str:
    return f"{NOT_AVAILABLE} ({amount.why})" if amount.bytes is None else size(amount.bytes)


def _allocations_in_words(ledger: Ledger) -> Iterator[Remark]:
    """Yield what allocated what was in use at the peak: lines of the cell, and what is known instead of one."""
    parts = [f"{_line_in_words(one.line).removesuffix(': ') or one.what} {size(one.bytes)}" for one in ledger.lines]
    if parts:
        yield Remark("allocated", ", ".join(parts))


def _findings_in_words(report: Report, variants: Set[str | None], answer: str) -> list[Remark]:
    return [
        _finding_in_words(finding, place, answer)
        for place, finding in enumerate(report.findings)
        if finding.variant in variants
    ]


def _finding_in_words(finding: Finding, place: int, answer: str) -> Remark:
    if finding.code == "FW401" and _is_told(finding.sentence.rstrip("."), answer):
        return Remark(finding.code, f"what to do: {finding.fix}", True)
    text = f"{_line_in_words(finding.line)}{finding.sentence.rstrip('.')}. What to do: {finding.fix}"
    return Remark(finding.code, text, True, place if text == _tidy_text(text) else None)


def _line_in_words(line: int | None) -> str:
    return "" if line is None else f"line {line}: "


def _tidy_remark(line: Remark) -> Remark:
    most = len(line.text) if line.label == "failed" else _LONGEST  # an error is told whole in one place
    return Remark(one_line(line.label, 40), one_line(line.text, most), line.warning, line.finding)


def _tidy_text(text: str) -> str:
    return one_line(text, _LONGEST)


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
    if report.state != "running":
        lines["left out"] = list(_left_out(report))
    joined = {label: "; ".join(part for part in parts if part) for label, parts in lines.items()}
    return [Remark(label, one_line(text, _LONGEST)) for label, text in joined.items() if text]


def _left_out(report: Report) -> Iterator[str]:
    """Yield which columns of a first look are not there, and why."""
    if memory := memory_left_out(report):
        yield memory
    if all(compile_cell(variant) == NOT_AVAILABLE for variant in report.variants):
        ways = {v.compilation.way for v in report.variants if v.compilation is not None}
        if ways:
            yield "compile: nothing was compiled" if ways == {"eager"} else "compile: its time is not known"


def _threads_in_words(threads: Mapping[str, str]) -> str:
    counts = set(threads.values())
    if len(threads) > 1 and len(counts) == 1:
        return f"{counts.pop()} threads each"
    return _pairs_in_words({name: n for name, n in threads.items() if not n.startswith("unknown")}, " threads: ")


def _pairs_in_words(values: Mapping[str, str], between: str) -> str:
    return ", ".join(f"{key}{between}{value}" for key, value in values.items())
