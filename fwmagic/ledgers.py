"""The memory of a report on one scale: each ledger's peak as a bar, and its course over time (SVG)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fwmagic.format import seconds, size
from fwmagic.report import Ledger, Moment, Variant
from fwmagic.strips import colour, opening

_WIDTH, _HEIGHT, _GAP, _COURSE = 1000, 10, 6, 40
_GREY = "#8C8C8C"
# A stored report is to stay small, and more steps could hardly be told apart.
_MOST_STEPS = 12
#: Segments that are not the variant's own framework's.
_REST = ("other processes", "reserved by the driver", "held by others here")


class Extent(NamedTuple):
    """What fills the width of every bar and the height of every course, in bytes, and the longest course in seconds."""

    bytes: int
    seconds: float


def measured(variants: Iterable[Variant]) -> list[tuple[Variant, Ledger]]:
    """Return the ledgers that are drawn, each with its variant: not what a compiler only worked out."""
    return [(variant, one) for variant in variants for one in variant.memory if not one.device.endswith("(static)")]


def extent(ledgers: Iterable[Ledger]) -> Extent:
    """Return the one scale of some ledgers; 0 bytes: nothing is known."""
    some = list(ledgers)
    bars = max((sum(count for _, count in drawn(ledger)) for ledger in some), default=0)
    moments = [moment for ledger in some for moment in ledger.timeline]
    courses = max((max(moment.in_use or 0, moment.held or 0) for moment in moments), default=0)
    return Extent(max(bars, courses), max((moment.seconds for moment in moments), default=0.0))


def bar(framework: str, ledger: Ledger, on: Extent) -> str:
    """Return the segments of a ledger as one bar, in their order.

    Free memory is not drawn: on a large device it would leave no room for anything else.
    """
    start, lines = 0.0, {"use": "", "held": "", "rest": ""}
    for name, count in drawn(ledger):
        width = _WIDTH * count / on.bytes
        lines[kind(name)] += f"M{start:.0f} {_HEIGHT // 2}h{max(width - _GAP, 1):.0f}"
        start += width
    described = ", ".join(f"{name} {size(count)}" for name, count in drawn(ledger) if kind(name) == "use")
    paths = "".join(
        f'<path class="fw-{name}" stroke="{_GREY if name == "rest" else colour(framework)}" d="{line}"/>'
        for name, line in lines.items()
        if line
    )
    return f"{opening(_HEIGHT, f'Memory on {ledger.device}', described)}{paths}</svg>"


def course(framework: str, ledger: Ledger, on: Extent) -> str:
    """Return what was in use over time as a filled area, and what was held as a line above it; nothing if not known."""
    moments = list(ledger.timeline.thinned(_MOST_STEPS))
    use, held = (_steps(_points(moments, name, on)) for name in ("in_use", "held"))
    if not use and not held:
        return ""
    most = max(max(moment.in_use or 0, moment.held or 0) for moment in ledger.timeline)
    lasted = seconds(ledger.timeline[-1].seconds)
    described = f"{len(ledger.timeline)} moments in {lasted}, at most {size(most)}"
    stroke = f'stroke="{colour(framework)}"'
    area = f'<path class="fw-area" fill="{colour(framework)}" d="{use}V{_COURSE}H0z"/>' if use else ""
    line = f'<path class="fw-line" {stroke} d="{held}"/>' if held else ""
    return f"{opening(_COURSE, f'Memory on {ledger.device} over time', described)}{area}{line}</svg>"


def kind(name: str) -> str:
    """Return what a segment is to the variant: in use, held (its own, but not in use), or the rest."""
    if name.startswith("in use"):
        return "use"
    return "rest" if name in _REST else "held"


def drawn(ledger: Ledger) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of the segments of a ledger's bar."""
    for amount in ledger.peak:
        if amount.bytes and amount.name != "free":
            yield amount.name, amount.bytes


def _points(moments: Sequence[Moment], name: str, on: Extent) -> list[tuple[int, int]]:
    known = ((moment.seconds, getattr(moment, name)) for moment in moments)
    span = on.seconds or 1.0
    return [
        (round(_WIDTH * at / span), round(_COURSE * (1 - count / on.bytes))) for at, count in known if count is not None
    ]


def _steps(points: Sequence[tuple[int, int]]) -> str:
    """Return a path that keeps each height until the next point."""
    if not points:
        return ""
    (x, y), *rest = points
    return f"M{x} {y}" + "".join(f"H{x}V{y}" for x, y in rest)
