"""A report as plain text for a terminal, and as Markdown for a paper or an issue."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from fwmagic.format import one_line, seconds, size
from fwmagic.report.answer import as_of
from fwmagic.report.drawings import Extent, Part, drawn_ledgers, drawn_segments, extent
from fwmagic.report.ledger import Ledger
from fwmagic.report.remarks import Remark, conditions, details, noted, stages_in_words
from fwmagic.report.report import Report, Variant
from fwmagic.report.scale import Scale, drawn, ends, scale, slower
from fwmagic.report.tables import device_in_words, figures, incomparable, memory_left_out, table, uses_memory
from fwmagic.report.words import headline, ranked

# an underscore between letters or digits starts no emphasis, and names read better without the backslash
_MARKDOWN = re.compile(r"[\\`*\[\]<>|~#&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")

# What is in use, perhaps in use, held by the variant beside it, and of others; and how full a step of a course is.
_WIDTH = 40
_MARKS: dict[Part, str] = {"use": "█", "perhaps": "╌", "held": "▒", "rest": "░"}
_LEVELS = " ▁▂▃▄▅▆▇█"

# The columns of a terminal and of a strip of samples, its dots by how many samples they are, and the remarks.
_COLUMNS = 100
_STRIP = 60
_DOTS = " ·•●"
_REMARKS = 2
_FEW = 2


def to_text(report: Report) -> str:
    """Return a first look at the report: the answer, a table, a strip of samples a variant, two remarks at most."""
    answer = headline(report)
    blocks = ["\n".join(one_line(s.text, _COLUMNS) for s in answer)]
    if report.variants:
        look = ranked(report)
        shown = table(look)
        blocks.append("\n".join([_aligned_text([shown.head, *shown.rows]), *_strips_text(look)]))
    warnings = noted(report)
    # A remark ends with what to do: it may take two lines, unless two variants have said more than usual already.
    lines = 1 if len(report.variants) == _FEW and len(answer) > 1 else 2
    said = [_remark_text(line, lines) for line in warnings[:_REMARKS]]
    more = len(warnings) - len(said)
    rest = f"{more} more {'remark' if more == 1 else 'remarks'}, figures" if more else "figures"
    last = [_last_text(f"{rest} and conditions", memory_left_out(report))] if report.variants else []
    if report.state == "running":
        last = [as_of(report)]
    return "\n".join(block for block in (*blocks, *said, *last) if block)


def _last_text(rest: str, left: str) -> str:
    """Return why there is no memory, and where the rest is."""
    parts = f"{left}; {rest}" if left else rest
    whole = f"{parts[0].upper()}{parts[1:]}: .details() of the report (-o name binds it)"
    return whole if len(whole) <= _COLUMNS else whole.replace(" binds it", "")


def to_details(report: Report) -> str:
    """Return the whole report as plain text: answer, tables, memory as bars, remarks by variant, conditions."""
    blocks = ["\n".join(s.text for s in headline(report))]
    if report.variants:
        whole = figures(ranked(report))
        blocks.append(_aligned_text([whole.head, *whole.rows]))
    stages = [Remark(v.name, words) for v in report.variants if (words := stages_in_words(v))]
    blocks.append(f"stages\n{_labelled_text(stages)}" if stages else "")
    blocks.append(memory_text(report.variants) if uses_memory(report) else "")
    blocks += [f"{group.name}\n{_labelled_text(group.lines)}" for group in details(report)]
    blocks.append(f"conditions\n{_labelled_text(conditions(report))}")
    return "\n\n".join(block for block in blocks if block)


def _remark_text(line: Remark, most: int) -> str:
    whole = one_line(f"! {line.label}  {line.text}", most * (_COLUMNS - 4))
    return "\n".join(textwrap.wrap(whole, _COLUMNS, subsequent_indent="  ", max_lines=most, placeholder=" …"))


def _strips_text(report: Report) -> list[str]:
    """Return the samples of each variant on one scale: the more in a column, the larger its dot; small if void.

    What is slower than the scale shows is ▸ at its edge, and counted below.
    """
    timed = [(v, v.time) for v in report if v.time is not None and len(v.time.samples) > 1]
    on = scale(time for _, time in timed)
    if on is None:
        return []
    width = max(len(one_line(v.name, 30)) for v in report)
    rows, void = [], incomparable(report)
    for variant, time in timed:
        counts = [0] * _STRIP
        for sample in time.samples:
            counts[_column(sample, on)] += sample <= on.high
        dots = [_DOTS[0 if not n else min(1 + 5 * n // len(time.samples), 3)] for n in counts]
        if variant.name in void:
            dots = ["·" if dot != " " else dot for dot in dots]
        dots[_column(time.median, on)] = "┊" if variant.name in void else "│"
        dots += ["▸"] if on.beyond(drawn(report, time)) else []
        rows.append(f"{one_line(variant.name, 30).ljust(width)}  {''.join(dots)}".rstrip())
    (low, high), beyond = ends(on), slower(on, report)
    more = f" (▸ {beyond} slower dot{'s' * (beyond > 1)})" if beyond else ""
    return [*rows, f"{' ' * width}  {low}{f'{high}{more}'.rjust(_STRIP - len(low))}"]


def _column(value: float, on: Scale) -> int:
    return min(int(_STRIP * on.share(value)), _STRIP - 1)


def _aligned_text(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _labelled_text(lines: Sequence[Remark]) -> str:
    width = max((len(line.label) for line in lines), default=0)
    return "\n".join(f"{'!' if line.warning else ' '} {line.label.ljust(width)}  {line.text}" for line in lines)


def memory_text(variants: Iterable[Variant]) -> str:
    """Return bars and courses of all variants on one scale, with a heading; nothing if no memory is known."""
    found = drawn_ledgers(variants)
    on = extent(ledger for _, ledger in found)
    if not on.bytes:
        return ""
    rows = [
        (
            f"{one_line(v.name, 30)}, {one_line(device_in_words(ledger), 30)}",
            _bar_text(ledger, on),
            _course_text(ledger, on),
        )
        for v, ledger in found
    ]
    shown = [row for row in rows if row[1] or row[2]]
    if not shown:
        return ""
    width = max(len(name) for name, _, _ in shown)
    span = f"; right: over {seconds(on.seconds)}" if on.seconds else ""
    perhaps = ", ╌ perhaps in use" if any(_MARKS["perhaps"] in bar for _, bar, _ in shown) else ""
    heading = f"memory at the peak, 0 to {size(on.bytes)}: █ in use{perhaps}, ▒ held and not in use, ░ of others{span}"
    lines = [f"  {name.ljust(width)}  {bar.ljust(_WIDTH)}  {course}".rstrip() for name, bar, course in shown]
    return "\n".join([heading, *lines])


def _bar_text(ledger: Ledger, on: Extent) -> str:
    end, text = 0, ""
    for part, count in drawn_segments(ledger):
        end += count
        text += _MARKS[part] * (max(round(_WIDTH * end / on.bytes), len(text) + 1) - len(text))
    return text


def _course_text(ledger: Ledger, on: Extent) -> str:
    """Return the most that was in use in each part of the time."""
    if not on.seconds or not ledger.timeline:
        return ""
    last = ledger.timeline[-1].seconds
    parts = max(1, round(_WIDTH * last / on.seconds))
    most: list[int] = [0] * parts
    known = [(moment.seconds, moment.in_use) for moment in ledger.timeline if moment.in_use is not None]
    if not known:
        return ""
    for (at, count), (until, _) in zip(known, [*known[1:], (last, 0)], strict=True):
        first, end = (min(int(parts * t / last), parts - 1) if last else 0 for t in (at, until))
        for part in range(first, end + 1):
            most[part] = max(most[part], count)
    return "".join(_LEVELS[min(-(-8 * count // on.bytes), 8)] for count in most)


def to_markdown(report: Report) -> str:
    """Return the same content as Markdown (GitHub's dialect); whatever a report says is shown, never obeyed."""
    blocks = [f"**{_markdown_text(s.text)}**" for s in headline(report)]
    if report.variants:
        whole = figures(ranked(report))
        head, *rows = [_markdown_row([_markdown_text(cell) for cell in row]) for row in (whole.head, *whole.rows)]
        blocks.append("\n".join([head, _markdown_row(["---"] * len(whole.head)), *rows]))
    blocks += [f"### {_markdown_text(group.name)}\n\n{_markdown_list(group.lines)}" for group in details(report)]
    blocks.append(f"### Conditions\n\n{_markdown_list(conditions(report))}")
    return "\n\n".join(blocks) + "\n"


def _markdown_list(lines: Sequence[Remark]) -> str:
    return "\n".join(f"- {_markdown_label(line)}: {_markdown_text(line.text)}" for line in lines)


def _markdown_label(line: Remark) -> str:
    return f"**{_markdown_text(line.label)}**" if line.warning else _markdown_text(line.label)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\g<0>", text)
