"""The trial of a fix: the cell with the lines that a diagnosis proposes, run aside and compared with the plain run."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fwmagic.debug.diagnosis import diagnose
from fwmagic.debug.runs import Aside, PlainRun, TracedRun, difference, record_of
from fwmagic.debug.source import Source
from fwmagic.errors import message_of
from fwmagic.format import one_line
from fwmagic.frameworks.rewrite import applied
from fwmagic.frameworks.traps import Trap
from fwmagic.run.section import Section

# A fix may show what else stands in the way, and so on.
_MOST_CHANGES = 4
# What a cell that is mended no longer asks for.
_OF_DEBUGGING = re.compile(r"[ \t]+--(debug|try-fix|stages)(?=\s|$)")


@dataclass(frozen=True)
class Fix:
    """What came of the lines that were proposed.

    Attributes
    ----------
    answer
        What came of them, in one sentence.
    text
        The mended cell, with its magic, to be offered as the next one; empty: nothing works.
    agrees
        Whether its traced run gives what the cell gives without a trace; None: there is nothing to compare.
    """

    answer: str
    text: str = ""
    agrees: bool | None = None


def try_fix(
    aside: Aside,
    section: Section,
    plain: PlainRun,
    traps: Sequence[Trap],
    reread: Callable[[str], Section],
    cannot: str,
) -> Fix:
    """Run a cell with the lines changed that the diagnosis proposes, and with those that it proposes then.

    `reread` returns the text of a whole cell as a section.
    """
    text = _proposed(section, traps)
    if not text:
        return Fix("there are no lines to try: nothing that was found can be mended mechanically")
    fix = Fix("")
    for count in range(1, _MOST_CHANGES + 1):
        try:
            section = reread(text)
        except SyntaxError as error:
            return Fix(f"the changed lines were not run: {error.msg}")
        mended, traced = _both_runs(aside, section, cannot)
        fix = _fix(section, plain, mended, traced, text, count)
        found = diagnose(section, mended, traced, difference(section, mended, traced))
        text = _proposed(section, found)
        if not text:
            break
    return fix


def _proposed(section: Section, traps: Sequence[Trap]) -> str:
    """Return the cell with the lines of the first trap that has some; empty: none has."""
    lines = [row.rstrip("\n") for row in linecache.getlines(section.body.filename)]
    return next((applied(lines, trap.changes) for trap in traps if trap.changes), "")


def _both_runs(aside: Aside, section: Section, cannot: str) -> tuple[PlainRun, TracedRun]:
    source = Source(section.body.tree)
    plain = aside.run(section, source)
    traced = TracedRun(record_of(section, aside.session.namespace, source, traced=True))
    aside.trace(section, plain, traced, cannot)
    return plain, traced


def _fix(section: Section, plain: PlainRun, mended: PlainRun, traced: TracedRun, text: str, count: int) -> Fix:
    """Return what came of one attempt, the one with so many changes."""
    which = "with the changed lines" if count == 1 else f"with {count} such changes, one after the other,"
    failed = plain.outcome is None  # then it is enough that it runs, traced or not
    error = mended.error or (None if failed else traced.error)
    if error is not None:
        return Fix(f"{which} the cell fails: {type(error).__name__}: {one_line(message_of(error), 120)}")
    if traced.why_not and not failed:
        return Fix(f"{which} the cell cannot be traced: {one_line(traced.why_not, 120)}")
    text = _OF_DEBUGGING.sub("", text.partition("\n")[0]) + "\n" + text.partition("\n")[2]
    if failed:
        return Fix(f"{which} the cell runs, where it failed; it is offered as the next cell", text)
    differs = difference(section, plain, traced)
    if differs:
        return Fix(f"{which} the cell runs, and gives something else than without a trace: {differs}", "", False)
    return Fix(
        f"{which} the cell runs traced and gives what it gave without; it is offered as the next cell", text, True
    )
