"""The small drawings of a report (SVG): samples and compile stages as strips, memory as bars and courses."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Literal, NamedTuple

from fwmagic.format import seconds, seconds_between, size
from fwmagic.report.ledger import Kind, Ledger, Moment
from fwmagic.report.report import NEUTRAL, Time, Variant
from fwmagic.report.scale import Scale
from fwmagic.report.tables import device_in_words, segment_in_words

_COLOUR = re.compile("#[0-9a-fA-F]{6}")
_WIDTH, _HEIGHT, _BAR, _GAP = 1000, 40, 10, 8
# The memory of a ledger: the height of its bar, what parts two segments, where its course over time begins and ends.
_LEDGER, _SEGMENT_GAP, _TOP, _BOTTOM = 10, 6, 14, 40
# More dots and steps than these could hardly be told apart, and a stored report is to stay small.
_MOST_DOTS, _MOST_STEPS = 20, 12
_GREY = "#8C8C8C"


def colour(variant: Variant) -> str:
    """Return the colour of a variant's framework; a stored report may hold anything."""
    return variant.colour if _COLOUR.fullmatch(variant.colour) else NEUTRAL


def _open_drawing(height: int, title: str, description: str) -> str:
    """Return the start of a drawing of this height, with the words that stand for it."""
    # The drawing is stretched to the width of the page; dots and lines keep their shape by a stroke that is not scaled.
    # Its words are an attribute: where a page takes drawings away, no text of theirs is left among the figures.
    words = escape(f"{title}: {description}" if description else title)
    return (
        f'<svg role="img" aria-label="{words}" viewBox="0 0 {_WIDTH} {height}" preserveAspectRatio="none" '
        f'height="{height}">'
    )


# The samples of a time, and the stages of a compilation.


def strip(variant: Variant, time: Time, on: Scale) -> str:
    """Return the samples of a variant as a strip: one dot a block, the first at the top, with interval and median."""
    points = _thinned_dots(time.samples)
    dots = "".join(f"M{_x(value, on)} {_dot_height(i, len(points))}z" for i, value in enumerate(points))
    beyond = on.beyond(time)
    drawn = f" ({len(points)} of them drawn)" if len(points) < len(time.samples) else ""
    described = f"{len(time.samples)} blocks{drawn}"
    interval = ""
    if time.interval is not None:
        described += f", 95 % interval {seconds_between(*time.interval)}"
        left, right = (_x(value, on) for value in time.interval)
        interval = f'<rect x="{left}" width="{max(right - left, 3)}" height="{_HEIGHT}" class="fw-interval"/>'
    if beyond:
        described += f"; {beyond} slower than the scale shows"
    middle = _x(time.median, on)
    return (
        f"{_open_drawing(_HEIGHT, f'Samples of {variant.name}', described)}{interval}"
        f'<path class="fw-dots" stroke="{colour(variant)}" d="{dots}"/>'
        f'<path class="fw-median" d="M{middle} 0V{_HEIGHT}"/></svg>'
    )


def _x(value: float, on: Scale) -> int:
    return round(_WIDTH * on.share(value))


def _thinned_dots(samples: tuple[float, ...]) -> tuple[float, ...]:
    step = max(1.0, len(samples) / _MOST_DOTS)
    return tuple(samples[int(i * step)] for i in range(min(len(samples), _MOST_DOTS)))


def _dot_height(index: int, count: int) -> int:
    return _HEIGHT // 2 if count == 1 else round(4 + (_HEIGHT - 8) * index / (count - 1))


def stage_bar(variant: Variant, longest: float) -> str:
    """Return the compile stages of a variant as one bar; `longest` seconds (more than 0) fill the width.

    It stands over the same figures in words.
    """
    start, parts = 0.0, []
    for _, value in variant.compile_stages:
        width = _WIDTH * value / longest
        # the gap tells one stage from the next, without a colour for each
        parts.append(f"M{start:.0f} {_BAR // 2}h{max(width - _GAP, 1):.0f}")
        start += width
    return (
        f'<svg aria-hidden="true" viewBox="0 0 {_WIDTH} {_BAR}" preserveAspectRatio="none" height="{_BAR}">'
        f'<path class="fw-use" stroke="{colour(variant)}" d="{"".join(parts)}"/></svg>'
    )


# Memory at its peak and over time.


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
    """Return a ledger's segments as one bar, in their order, and below it what it took over time, where that is known.

    Over time, what was in use is a filled area and what was held a line above it. Free memory is not drawn: on a large
    device it would leave no room for anything else.
    """
    start, lines = 0.0, {"use": "", "held": "", "rest": ""}
    for kind, count in drawn_segments(ledger):
        width = _WIDTH * count / on.bytes
        lines[whose(kind)] += f"M{start:.0f} {_LEDGER // 2}h{max(width - _SEGMENT_GAP, 1):.0f}"
        start += width
    used = (amount for amount in ledger.peak if amount.kind == "in use" and amount.bytes)
    described = ", ".join(f"{segment_in_words(ledger, amount)} {size(amount.bytes or 0)}" for amount in used)
    paths = "".join(
        f'<path class="fw-{name}" stroke="{_GREY if name == "rest" else paint}" d="{line}"/>'
        for name, line in lines.items()
        if line
    )
    moments = list(ledger.timeline.thinned(_MOST_STEPS))
    use, held = (_stepped_course(_course_points(moments, name, on)) for name in ("in_use", "held"))
    if not use and not held:
        return f"{_open_drawing(_LEDGER, f'Memory on {device_in_words(ledger)}', described)}{paths}</svg>"
    most = max(max(moment.in_use or 0, moment.held or 0) for moment in ledger.timeline)
    lasted = seconds(ledger.timeline[-1].seconds)
    described = f"{described or 'not known'}; {len(ledger.timeline)} moments in {lasted}, at most {size(most)}"
    area = f'<path class="fw-area" fill="{paint}" d="{use}V{_BOTTOM}H0z"/>' if use else ""
    line = f'<path class="fw-line" stroke="{paint}" d="{held}"/>' if held else ""
    return f"{_open_drawing(_BOTTOM, f'Memory on {device_in_words(ledger)}', described)}{paths}{area}{line}</svg>"


def whose(kind: Kind) -> Literal["use", "held", "rest"]:
    """Return what a segment is to the variant: in use, held (its own, but not in use), or the rest."""
    if kind == "in use":
        return "use"
    return "rest" if kind in ("other processes", "reserved by the driver", "held by others here") else "held"


def drawn_segments(ledger: Ledger) -> Iterator[tuple[Kind, int]]:
    """Yield kind and bytes of the segments of a ledger's bar."""
    for amount in ledger.peak:
        if amount.bytes and amount.kind != "free":
            yield amount.kind, amount.bytes


def _course_points(moments: Sequence[Moment], name: str, on: Extent) -> list[tuple[int, int]]:
    known = ((moment.seconds, getattr(moment, name)) for moment in moments)
    span = on.seconds or 1.0
    return [
        (round(_WIDTH * at / span), round(_BOTTOM - (_BOTTOM - _TOP) * count / on.bytes))
        for at, count in known
        if count is not None
    ]


def _stepped_course(points: Sequence[tuple[int, int]]) -> str:
    """Return a path that keeps each height until the next other one."""
    if not points:
        return ""
    first, last = points[0], points[-1]
    steps = (now for before, now in itertools.pairwise(points) if now[1] != before[1] or now is last)
    return f"M{first[0]} {first[1]}" + "".join(f"H{x}V{y}" for x, y in steps)
