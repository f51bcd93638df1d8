"""A cell line by line, as a notebook stores it beside the table: what the panel goes through step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from fwmagic.report import wire
from fwmagic.report.wire import Count, LineNumber

VERSION: Final = 1
LINES_MIME = f"application/vnd.fwmagic.lines.v{VERSION}+json"


@dataclass(frozen=True)
class CodeLine:
    """A line of code.

    Attributes
    ----------
    number
        Its number in its cell.
    text
        The line itself.
    marked
        Whether something was found in it.
    note
        Why a graph ends in it, or was compiled again; empty if neither is so.
    """

    number: LineNumber
    text: str
    marked: bool = False
    note: str = ""


@dataclass(frozen=True)
class Passage:
    """The code of the cell, or lines of a function of another cell that ran.

    Attributes
    ----------
    name
        The name of the function; empty for the cell itself.
    lines
        The lines, in their order.
    """

    name: str
    lines: tuple[CodeLine, ...]


@dataclass(frozen=True)
class LineVisit:
    """One time that a line ran, and what it was then.

    Attributes
    ----------
    line
        The number of the line.
    time
        Which time of this line it was, from 1.
    passage
        The index of the passage that the line is in.
    traced
        Whether it ran while tracing.
    told
        What its names were then, and what it printed.
    """

    line: LineNumber
    time: Count
    passage: Count = 0
    traced: bool = False
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lines:
    """What `--debug` shows of one execution of a cell, step by step.

    Attributes
    ----------
    run_id
        Tells this execution from every other.
    started
        When it began, in ISO 8601.
    name
        The magic.
    brief
        The answer in at most 30 characters.
    answer
        What happened, in one sentence.
    execution_count
        The notebook's number of the cell; null: no notebook.
    passages
        The code: of the cell first, then of functions of other cells.
    visits
        The steps: those while tracing, then those without a trace, each in the order in which they ended.
    note
        Which steps are left out; empty if there are all.
    version
        Version of this format.
    """

    run_id: str
    started: str
    name: str
    brief: str
    answer: str
    execution_count: Count | None = None
    passages: tuple[Passage, ...] = ()
    visits: tuple[LineVisit, ...] = ()
    note: str = ""
    version: Literal[1] = field(default=VERSION, metadata={"always": True})

    def to_stored(self) -> dict[str, Any]:
        """Return what a notebook stores, under `LINES_MIME`: what holds its default is left out."""
        stored: dict[str, Any] = wire.encode(self, len(self.visits))
        return stored
