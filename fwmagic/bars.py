"""The memory of a report in a terminal: each ledger's peak as a bar of characters, and its course as one line."""

from __future__ import annotations

from collections.abc import Iterable

from fwmagic.format import one_line, seconds, size
from fwmagic.ledgers import Extent, drawn, extent, kind, measured
from fwmagic.report import Ledger, Variant

_WIDTH = 40
_MARKS = {"use": "█", "held": "▒", "rest": "░"}
_LEVELS = " ▁▂▃▄▅▆▇█"


def memory(variants: Iterable[Variant]) -> str:
    """Return bars and courses of all variants on one scale, with a heading; nothing if no memory is known."""
    found = measured(variants)
    on = extent(ledger for _, ledger in found)
    if not on.bytes:
        return ""
    rows = [
        (f"{one_line(v.name, 30)}, {one_line(ledger.device, 30)}", _bar(ledger, on), _course(ledger, on))
        for v, ledger in found
    ]
    shown = [row for row in rows if row[1] or row[2]]
    if not shown:
        return ""
    width = max(len(name) for name, _, _ in shown)
    span = f"; right: over {seconds(on.seconds)}" if on.seconds else ""
    heading = f"memory at the peak, 0 to {size(on.bytes)}: █ in use, ▒ held and not in use, ░ of others{span}"
    lines = [f"  {name.ljust(width)}  {bar.ljust(_WIDTH)}  {course}".rstrip() for name, bar, course in shown]
    return "\n".join([heading, *lines])


def _bar(ledger: Ledger, on: Extent) -> str:
    end, text = 0, ""
    for name, count in drawn(ledger):
        end += count
        text += _MARKS[kind(name)] * (max(round(_WIDTH * end / on.bytes), len(text) + 1) - len(text))
    return text


def _course(ledger: Ledger, on: Extent) -> str:
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
