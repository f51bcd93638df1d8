"""The small drawings of a report (SVG): samples as strips, memory as bars."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Literal, NamedTuple

from fwmagic.format import seconds_between
from fwmagic.report.ledger import Kind, Ledger
from fwmagic.report.report import NEUTRAL, Time, Variant
from fwmagic.report.scale import Scale
from fwmagic.report.tables import bytes_in_words, device_in_words, segment_in_words

_COLOUR = re.compile("#[0-9a-fA-F]{6}")
_WIDTH, _HEIGHT = 1000, 40
# What parts two segments of a bar of memory, in per cent of its width.
_SEGMENT_GAP = 0.6
_GREY = "#8C8C8C"
_END = "</svg></span>"


def colour(variant: Variant) -> str:
    """Return the colour of a variant's framework; a stored report may hold anything."""
    return variant.colour if _COLOUR.fullmatch(variant.colour) else NEUTRAL


def _open_drawing(title: str, description: str, beyond: int = 0) -> str:
    """Return the start of a drawing, with the words that stand for it, and how many dots are beyond its right edge."""
    # Its words are an attribute: where a page takes drawings away, no text of theirs is left among the figures. As a
    # title, they are shown to who points at it, too.
    words = escape(f"{title}: {description}" if description else title)
    edge = f' data-far="{beyond}▸"' if beyond else ""
    return f'<span role="img" title="{words}"{edge}><svg'


# The samples of a time.


def strip(variant: Variant, time: Time, points: Sequence[float], on: Scale) -> str:
    """Return the samples of a variant as a strip: one dot a block, the first at the top, with interval and median.

    What lies beyond the scale is no dot, since it would look like one at its end: it is counted at the edge.
    """
    shown = [(i, value) for i, value in enumerate(points) if value <= on.high]
    dots = "".join(f"M{_x(value, on)} {_dot_height(i, len(points))}z" for i, value in shown)
    beyond = on.beyond(points)
    drawn = f" ({len(points)} drawn)" if len(points) < len(time.samples) else ""
    described = f"{len(time.samples)} blocks{drawn}{f', {beyond} beyond the axis' if beyond else ''}"
    interval = ""
    if time.interval is not None:
        described += f", 95 % interval {seconds_between(*time.interval)}"
        left, right = (_x(value, on) for value in time.interval)
        interval = f'<rect class="fw-interval" x="{left}" width="{max(right - left, 3)}" height="{_HEIGHT}" />'
    middle = _x(time.median, on)
    return (
        # Stretched to the width of the page: dots and lines keep their shape by a stroke that is not scaled.
        f"{_open_drawing(variant.name, described, beyond)}"
        f' viewBox="0,0,{_WIDTH},{_HEIGHT}" preserveAspectRatio="none">{interval}'
        f'<path class="fw-dots" stroke="{colour(variant)}" d="{dots}"/>'
        f'<path class="fw-median" d="M{middle},0V{_HEIGHT}" />{_END}'
    )


def _x(value: float, on: Scale) -> int:
    return round(_WIDTH * on.share(value))


def _dot_height(index: int, count: int) -> int:
    return _HEIGHT // 2 if count == 1 else round(4 + (_HEIGHT - 8) * index / (count - 1))


# Memory at its peak.


class Extent(NamedTuple):
    """What fills the width of every bar and the height of every course, in bytes, and the longest course in seconds."""

    bytes: int
    seconds: float


def drawn_ledgers(variants: Iterable[Variant]) -> list[tuple[Variant, Ledger]]:
    """Return the ledgers that are drawn, each with its variant: not what a compiler only worked out."""
    return [(variant, one) for variant in variants for one in variant.memory if one.how != "static"]


def extent(ledgers: Iterable[Ledger]) -> Extent:
    """Return the one scale of some ledgers; 0 bytes: nothing is known."""
    some = list(ledgers)
    bars = max((sum(count for _, count in drawn_segments(ledger)) for ledger in some), default=0)
    moments = [moment for ledger in some for moment in ledger.timeline]
    courses = max((max(moment.in_use or 0, moment.held or 0) for moment in moments), default=0)
    return Extent(max(bars, courses), max((moment.seconds for moment in moments), default=0.0))


def memory(paint: str, ledger: Ledger, on: Extent) -> str:
    """Return a ledger's segments as one bar, in their order.

    Free memory is not drawn: on a large device it would leave no room for anything else.
    """
    start, lines = 0.0, ""
    for part, count in drawn_segments(ledger):
        width = 100 * count / on.bytes
        begin = f' x1="{start:.1f}%"' if start else ""
        end, stroke = start + max(width - _SEGMENT_GAP, 0.1), _GREY if part == "rest" else paint
        lines += f'<line class="fw-{part}" stroke="{stroke}"{begin} x2="{end:.1f}%" />'
        start += width
    used = (amount for amount in ledger.peak if amount.kind == "in use" and (amount.most or amount.bytes))
    described = ", ".join(f"{segment_in_words(ledger, amount)} {bytes_in_words(amount)}" for amount in used)
    return f"{_open_drawing(f'Memory on {device_in_words(ledger)}', described)}>{lines}{_END}"


#: What a segment is to the variant: in use, perhaps in use too, held (its own, but not in use), or the rest.
Part = Literal["use", "perhaps", "held", "rest"]


def drawn_segments(ledger: Ledger) -> Iterator[tuple[Part, int]]:
    """Yield what the segments of a ledger's bar are, and their bytes."""
    for amount in ledger.peak:
        count = amount.bytes or 0
        if count and amount.kind != "free":
            yield _part(amount.kind), count
        if amount.most is not None and amount.most > count:
            yield "perhaps", amount.most - count


def _part(kind: Kind) -> Part:
    if kind == "in use":
        return "use"
    return "rest" if kind in ("other processes", "reserved by the driver", "held by others here") else "held"
