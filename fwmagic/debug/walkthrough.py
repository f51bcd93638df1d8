"""The way through a cell step by step: each time that a line was traced, and then each time that it ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fwmagic.debug.glance import Glance
from fwmagic.debug.record import Look, Record
from fwmagic.format import one_line
from fwmagic.report.lines import LineVisit, Passage

# Of what is told of one name, so many characters are stored.
_MOST_TEXT = 100


def visits(passages: Sequence[tuple[str, Passage]], plain: Record, traced: Record) -> tuple[LineVisit, ...]:
    """Return the steps that are kept of both runs, in lines of these passages, each of which is given with its file."""
    places = {(file, line.number): i for i, (file, passage) in enumerate(passages) for line in passage.lines}
    return (*_visits(traced, places, traced=True), *_visits(plain, places, traced=False))


def left_out(plain: Record, traced: Record) -> str:
    """Return which steps are not kept; empty: none."""
    return " ".join(
        f"Of {record.looks:,} steps {when}, the first {first} and the last {last} are here."
        for record, when in ((traced, "while tracing"), (plain, "without a trace"))
        if record.looks > (first := len(record.first_looks)) + (last := len(record.last_looks))
    )


def _visits(record: Record, places: dict[tuple[str, int], int], traced: bool) -> Iterator[LineVisit]:
    for look in (*record.first_looks, *record.last_looks):
        number = look.line.statement.first
        passage = places.get((look.line.file, number))
        if passage is not None:
            yield LineVisit(number, look.time, passage, traced, tuple(_told(look)))


def _told(look: Look) -> Iterator[str]:
    head = "lambda " if look.line.part == "lambda" else ""
    for name, value in look.names.items():
        yield one_line(head + name_told(name, value), _MOST_TEXT)
    if look.printed:
        yield one_line(f"prints {look.printed!r}", _MOST_TEXT)


def name_told(name: str, value: Glance) -> str:
    """Return what a name of a line was, or what the line returned."""
    return f"{name} {value}" if name == "→" else f"{name}: {value}"
