"""The memory of a report as bars on one scale: what was in use, what was only held, and other processes (SVG)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fwmagic.format import size
from fwmagic.report import Ledger
from fwmagic.strips import colour, opening

_WIDTH, _HEIGHT, _GAP = 1000, 10, 6
_GREY = "#8C8C8C"


def extent(ledgers: Iterable[Ledger]) -> int:
    """Return the bytes that the longest bar stands for; 0: nothing is known."""
    return max((sum(count for _, count in _drawn(ledger)) for ledger in ledgers), default=0)


def bar(framework: str, ledger: Ledger, longest: int) -> str:
    """Return the segments of a ledger as one bar, in their order; `longest` bytes (more than 0) fill the width.

    Free memory is not drawn: on a large device it would leave no room for anything else.
    """
    start, lines = 0.0, {"use": "", "held": "", "rest": ""}
    for name, count in _drawn(ledger):
        width = _WIDTH * count / longest
        lines[_kind(name)] += f"M{start:.0f} {_HEIGHT // 2}h{max(width - _GAP, 1):.0f}"
        start += width
    described = ", ".join(f"{name} {size(count)}" for name, count in _drawn(ledger))
    paths = "".join(
        f'<path class="fw-{kind}" stroke="{_GREY if kind == "rest" else colour(framework)}" d="{line}"/>'
        for kind, line in lines.items()
        if line
    )
    return f"{opening(_HEIGHT, f'Memory on {ledger.device}', described)}{paths}</svg>"


def _kind(name: str) -> str:
    """Return what a segment is to the variant: in use, held (its own, but not in use), or not its own."""
    if name.startswith("in use"):
        return "use"
    return "rest" if name == "other processes" else "held"


def _drawn(ledger: Ledger) -> Iterator[tuple[str, int]]:
    for amount in ledger.peak:
        if amount.bytes and amount.name != "free":
            yield amount.name, amount.bytes
