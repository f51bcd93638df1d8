"""The tables of a report: a row a variant, each figure as every view words it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fwmagic.format import (
    number,
    one_line,
    ratio,
    ratio_between,
    seconds,
    seconds_between,
    size,
    size_between,
)
from fwmagic.report.answer import SHORT
from fwmagic.report.ledger import Amount, Ledger
from fwmagic.report.report import (
    Ratio,
    Report,
    Time,
    Variant,
)

NOT_AVAILABLE = "n/a"
#: What stands beside a ratio in the place of its interval, where it is one of different things.
DIFFER = "outputs differ"
#: What stands in the head of a column whose figures do not tell which variant needs more.
UNSURE = "not sure"
#: How a column of ratios is headed: they are no quotients of the times beside them.
PAIRED = "paired ratio"
#: What stands beside a time that contradicts the ratio beside it, if one divides.
MOVED = "moved"
# The logarithm from which on a ratio and the quotient of the times are far apart.
_APART = 0.05
#: What a time of compiling is one of, by what the compiler's cache on disk had of it.
CACHES = {"cold": "cold", "unknown": "cache unknown"}
#: What stands where that time would, if code came from that cache: a first compilation takes longer.
CACHED = "cached"
# Less memory than this, in bytes, is not worth a look.
_LEAST_MEMORY = 2**20
Row = tuple[str, ...]


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


def table(report: Report) -> Table:
    """Return what a first look needs of each variant; a column that holds nothing for any of them is left out."""
    ratios, moved = report.over_baseline(), contradicted(report)
    over = f"{PAIRED} to {one_line(report.baseline, 20)}" if report.baseline is not None else PAIRED
    columns = {
        "variant": [one_line(variant.name, 30) for variant in report.variants],
        "per call": [_each_cell(variant, variant.name in moved) for variant in report.variants],
        over: _ratio_cells(report),
        "compile": [compile_cell(variant) for variant in report.variants],
        memory_head(report): [_memory_cell(v) if uses_memory(report) else NOT_AVAILABLE for v in report.variants],
        "compiled": [_compiled_cell(variant) for variant in report.variants],
    }
    if not ratios:
        del columns[over]
    return _without_empty(columns)


def figures(report: Report) -> Table:
    """Return the whole table of the variants; a column that holds nothing for any of them is left out."""
    over, moved = report.baseline if report.baseline is not None else "the other", contradicted(report)
    columns = {
        "variant": [variant.name for variant in report.variants],
        "runs": [f"{variant.framework} {variant.mode}".strip() for variant in report.variants],
        "time per call": [_time_cell(variant, variant.name in moved) for variant in report.variants],
        f"{PAIRED} to {over}": _ratio_cells(report),
        "dispatch / wait": [_dispatch_cell(variant.time) for variant in report.variants],
        "cores": [_number_cell(v.time.cores if v.time else None) for v in report.variants],
        "items/s": [_number_cell(v.time.items_per_second if v.time else None) for v in report.variants],
        "compile": [compile_cell(variant) for variant in report.variants],
        **(_memory_columns(report) if uses_memory(report) else {}),
        "compiled": [_compiled_cell(variant) for variant in report.variants],
    }
    if not report.over_baseline():
        del columns[f"{PAIRED} to {over}"]
    return _without_empty(columns)


def _memory_columns(report: Report) -> dict[str, list[str]]:
    return {
        memory_head(report): [_in_use_cell(variant) for variant in report.variants],
        "peak held": [_held_cell(variant) for variant in report.variants],
        **{name: [_released_cell(variant, name) for variant in report.variants] for name in _released(report)},
    }


def _without_empty(columns: Mapping[str, list[str]]) -> Table:
    shown = {head: cells for head, cells in columns.items() if any(cell != NOT_AVAILABLE for cell in cells)}
    rows = zip(*([one_line(cell, 60) for cell in cells] for cells in shown.values()), strict=True)
    return Table(tuple(one_line(head, 60) for head in shown), tuple(rows))


def _each_cell(variant: Variant, moved: bool) -> str:
    if variant.time is None:
        return variant.status
    note = "once" if variant.status == "run-once" else MOVED if moved else ""
    return f"{seconds(variant.time.median)}{f' ({note})' if note else ''}"


def uses_memory(report: Report) -> bool:
    """Say whether a variant had so much memory in use that it is worth a look, or somebody asked for it."""
    ledgers = [one for variant in report for one in variant.memory]
    asked = any(one.released or one.lines or one.device == "heap" for one in ledgers)
    return asked or any(one.in_use is not None and one.in_use >= _LEAST_MEMORY for one in ledgers)


def memory_head(report: Report) -> str:
    """Return how the column of memory is headed: where ranges overlap, nobody knows which variant needs more."""
    return f"memory ({UNSURE})" if overlapping(report) else "memory"


def overlapping(report: Report) -> list[str]:
    """Return the variants that may need more memory than another one, and may need less."""
    known = {v.name: (one.device, *_span(one)) for v in report.variants if (one := _told_ledger(v)) is not None}
    return [
        name
        for name, (device, low, high) in known.items()
        if any(
            (device, True, True) == (where, low < most, least < high) and (low < high or least < most)
            for other, (where, least, most) in known.items()
            if other != name
        )
    ]


def memory_left_out(report: Report) -> str:
    """Return why there is no column of memory: so little was used, or nobody looked; empty: there is one."""
    if not report.variants or uses_memory(report):
        return ""
    amounts = [one for v in report.variants for ledger in v.memory for one in ledger.peak if one.kind == "in use"]
    counts = [count for one in amounts if (count := one.bytes if one.most is None else one.most) is not None]
    return f"memory: {size(max(counts))} at most" if counts else "memory: not measured"


def _told_ledger(variant: Variant) -> Ledger | None:
    """Return the ledger that the table tells: of the first device of which it is known how much was in use."""
    return next((ledger for ledger in variant.memory if ledger.in_use is not None), None)


def _span(ledger: Ledger) -> tuple[int, int]:
    """Return between which two numbers of bytes lies what was in use at the peak."""
    amount = next(one for one in ledger.peak if one.kind == "in use" and one.bytes is not None)
    return amount.bytes or 0, amount.bytes or 0 if amount.most is None else amount.most


def _memory_cell(variant: Variant) -> str:
    ledger = _told_ledger(variant)
    return NOT_AVAILABLE if ledger is None else f"{'+' if ledger.on_top else ''}{used_in_words(ledger)}"


def _compiled_cell(variant: Variant) -> str:
    way = variant.compilation.way if variant.compilation is not None else None
    return NOT_AVAILABLE if way is None else SHORT.get(way, way)


def _time_cell(variant: Variant, moved: bool) -> str:
    time = variant.time
    if time is None:
        return variant.status
    if variant.status == "run-once":
        return f"{seconds(time.median)} (once)"
    span = "no interval" if time.interval is None else seconds_between(*time.interval)
    return f"{seconds(time.median)} ({span}{f', {MOVED}' if moved else ''})"


def incomparable(report: Report) -> frozenset[str]:
    """Return the variants whose outputs differ; all of them if one is the baseline, or no two others are left."""
    names = frozenset(variant.name for variant in report.variants)
    differ = frozenset(v.name for v in report.variants if v.agreement is not None and v.agreement.status == "differs")
    return names if differ and (report.baseline in differ or len(names - differ) < 2) else differ


def contradicted(report: Report) -> dict[str, tuple[float, float]]:
    """Return the variants whose time, divided by the baseline's, is not their ratio: the quotient, and how far it is.

    That is further than 5 % away, or on the other side of 1 than a verdict.
    """
    times = {variant.name: variant.time.median for variant in report if variant.time is not None}
    found = {}
    for name, r in report.over_baseline().items():
        if times.get(r.variant) and times.get(r.over):
            quotient = times[r.variant] / times[r.over]
            far, opposite = abs(math.log(quotient / r.median)), math.log(quotient) * math.log(r.median) < 0
            if far > _APART or (opposite and r.verdict in ("faster", "slower")):
                found[name] = quotient, far
    return found


def _ratio_cells(report: Report) -> list[str]:
    ratios, void = report.over_baseline(), incomparable(report)

    def cell(name: str) -> str:
        if name == report.baseline:
            return "1 (baseline)"
        r = ratios.get(name)
        if r is None:
            return NOT_AVAILABLE
        if name in void:
            return f"{ratio(r.median)} ({DIFFER})"
        span = range_in_words(r) if r.interval is None else ratio_between(*r.interval)
        return f"{ratio(r.median)} ({span})"

    return [cell(variant.name) for variant in report.variants]


def range_in_words(r: Ratio) -> str:
    """Return the range of ratios that was seen, where there is no interval."""
    if r.rounds == 1:
        return "one round"
    return f"range {NOT_AVAILABLE if r.least is None or r.most is None else ratio_between(r.least, r.most)}"


def _dispatch_cell(time: Time | None) -> str:
    if time is None or time.dispatch is None or time.wait is None:
        return NOT_AVAILABLE
    return f"{seconds(time.dispatch)} / {seconds(time.wait)}"


def _number_cell(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else number(value)


def compile_cell(variant: Variant) -> str:
    """Return what compiling took, and whether it was afresh or in vain; or where the program came from instead.

    What a cache on disk took has its place in parentheses: it is no time beside those of compilations.
    """
    compilation, known = variant.compilation, variant.compile_stages
    compiling = sum(value for _, value in known)
    if compilation is not None and compilation.cache == "reused" and not known:
        return "reused"
    if compilation is None or not known or (compilation.cache == "none" and not compiling):
        return NOT_AVAILABLE
    if compilation.cache == "none":
        return f"{seconds(compiling)} (in vain)"
    if compilation.cache == "disk-warm":
        return f"{CACHED} ({seconds(compiling)})"
    return f"{seconds(compiling)} ({CACHES.get(compilation.cache, compilation.cache)})"


def _in_use_cell(variant: Variant) -> str:
    ledger = _told_ledger(variant)
    if ledger is None:
        return NOT_AVAILABLE
    # of a process that ended, what its own start took is in it
    seen = ", last seen" if ledger.how == "last seen" else ""
    return f"{_memory_cell(variant)} ({device_in_words(ledger)}{seen})"


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


def device_in_words(ledger: Ledger) -> str:
    """Return the device of a ledger, and whether it was only worked out."""
    return f"{ledger.device} (static)" if ledger.how == "static" else ledger.device


def segment_in_words(ledger: Ledger, amount: Amount) -> str:
    """Return what a segment of a ledger is, and how what is in use was found where no counter told it."""
    return f"{amount.kind} ({ledger.how})" if amount.kind == "in use" and ledger.how != "measured" else amount.kind


def used_in_words(ledger: Ledger) -> str:
    """Return how much was in use at the peak: a size, or from which one to which."""
    return next((bytes_in_words(one) for one in ledger.peak if one.kind == "in use"), NOT_AVAILABLE)


def bytes_in_words(amount: Amount) -> str:
    """Return a size, or from which one to which."""
    count = amount.bytes or 0
    return size(count) if amount.most is None else size_between(count, amount.most)
