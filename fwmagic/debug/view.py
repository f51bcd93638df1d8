"""The view of a cell line by line: what its names were while it was traced, and when it ran; as text, HTML and JSON."""

from __future__ import annotations

import linecache
import secrets
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from typing import Any

from fwmagic.debug.fixing import Fix
from fwmagic.debug.record import Line, Record
from fwmagic.debug.runs import PlainRun, TracedRun
from fwmagic.debug.walkthrough import left_out, name_told, visits
from fwmagic.format import one_line, seconds
from fwmagic.frameworks.compiled import Form
from fwmagic.frameworks.rewrite import applied
from fwmagic.frameworks.traps import Trap
from fwmagic.report import Place
from fwmagic.report.html import STYLE
from fwmagic.report.lines import LINES_MIME, CodeLine, Lines, Passage
from fwmagic.run.section import Section

# The columns of a terminal: number, code, while tracing, without a trace, with two blanks between them.
_WIDTHS = (4, 31, 27, 32)
_COLUMNS = 100
_SHORT, _TOLD = 200, 60
_MOST_BRIEF = 30
# Of a cell with more lines than this, only the first and the last ones are shown.
_MOST_ROWS = 400
_HALF = _MOST_ROWS // 2


@dataclass(frozen=True)
class Row:
    """A line of the cell: its number, its text, how often it was traced and ran, and what is told of each."""

    number: int
    text: str
    traced: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    marked: bool = False


@dataclass(frozen=True)
class LineView:
    """What `--debug` shows of a cell.

    Attributes
    ----------
    magic
        The magic, and the number of the cell.
    answer
        What happened, in one sentence.
    traps
        What was found, each with its line, its two sentences, and changed lines where there are any.
    rows
        The lines of the cell.
    others
        Lines of functions of other cells that ran, by the name of the function.
    notes
        What a reader has to know of the table.
    changed
        For each of the traps the cell with the lines changed; empty where nothing can be changed mechanically.
    fix
        What came of the changed lines, where `--try-fix` asked for that.
    lines
        The same step by step, as a notebook stores it.
    stages
        The forms of what was compiled, where `--stages` asked for them.
    """

    magic: str
    answer: str
    traps: tuple[Trap, ...]
    rows: tuple[Row, ...]
    others: tuple[tuple[str, tuple[Row, ...]], ...]
    notes: tuple[str, ...]
    changed: tuple[str, ...]
    lines: Lines
    fix: Fix | None = None
    stages: tuple[Form, ...] = ()

    def __str__(self) -> str:
        blocks = [one_line(f"{self.magic}: {self.answer}", 400)]
        blocks = textwrap.wrap(blocks[0], _COLUMNS)
        for trap in self.traps:
            blocks += ["", *_trap_text(trap, self.rows)]
        if self.fix is not None:
            blocks += ["", *textwrap.wrap(_fix_told(self.fix), _COLUMNS)]
        blocks += ["", *_table_text(_most(self.rows))]
        for name, rows in self.others:
            blocks += ["", f"{name}, of another cell", *_table_text(rows)]
        if self.stages:
            blocks += ["", *_stages_text(self.stages)]
        blocks += ["", *(part for note in self.notes for part in textwrap.wrap(note, _COLUMNS, subsequent_indent="  "))]
        return "\n".join(blocks)

    def to_html(self) -> str:
        """Return the view as an HTML fragment without a script; what it quotes is escaped."""
        parts = [f'<div class="fw-top"><p>{escape(self.magic)}<span> {escape(self.answer)}</span></p></div>']
        parts += [_trap_html(trap, self.rows) for trap in self.traps]
        if self.fix is not None:
            parts.append(f"<p>{escape(_fix_told(self.fix))}</p>")
        parts.append(_table_html(_most(self.rows)))
        parts += [
            f'<p class="fw-group">{escape(name)}, of another cell</p>{_table_html(rows)}' for name, rows in self.others
        ]
        parts += [_stage_html(stage) for stage in self.stages]
        parts.append("".join(f'<p class="fw-soft">{escape(note)}</p>' for note in self.notes))
        label = 'lang="en" role="group" aria-label="fwmagic lines"'
        return f'<div class="fwmagic" {label}><style>{STYLE}{_OWN_STYLE}</style>{"".join(parts)}</div>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {LINES_MIME: self.lines.to_stored(), "text/html": self.to_html(), "text/plain": str(self)}


def line_view(
    section: Section,
    number: int | None,
    started: str,
    plain: PlainRun,
    traced: TracedRun,
    traps: Sequence[Trap],
    text: Sequence[str],
    fix: Fix | None = None,
) -> LineView:
    """Return the view of a cell, whose text is given by lines, from its runs, what was found, and what was tried.

    `number` is that of the cell, and `started` the time stamp of its execution.
    """
    own = section.body.filename
    magic = f"%%{section.framework.name} --debug"
    marked = {trap.line for trap in traps if trap.line is not None}
    places = [*traced.log.breaks, *traced.log.recompiles]
    told = {place.line: place.reason for place in places if place.line is not None}
    answer = _answer(section, plain, traced, traps)
    rows = tuple(_rows(own, text, plain.record, traced.record, marked, told))
    others = tuple(_others(own, plain.record, traced.record))
    passages = [(own, _passage("", _most(rows), told)), *((file, _passage(name, of, {})) for file, name, of in others)]
    lines = Lines(
        run_id=secrets.token_hex(8),
        started=started,
        name=magic,
        brief=_brief(plain, traced, traps),
        answer=answer,
        execution_count=number,
        passages=tuple(passage for _, passage in passages),
        visits=visits(passages, plain.record, traced.record),
        note=left_out(plain.record, traced.record),
    )
    return LineView(
        magic=magic if number is None else f"{magic} [{number}]",
        answer=answer,
        traps=tuple(traps),
        rows=rows,
        others=tuple((name, of) for _, name, of in others),
        notes=tuple(_notes(section, plain, traced)),
        changed=tuple(applied(text, trap.changes) if trap.changes else "" for trap in traps),
        lines=lines,
        fix=fix,
        stages=tuple(traced.stages),
    )


def _passage(name: str, rows: Iterable[Row], told: Mapping[int, str]) -> Passage:
    """Return the code of rows; `told` is what is said of a line whatever runs."""
    lines = (CodeLine(row.number, row.text, row.marked, one_line(told.get(row.number, ""), _SHORT)) for row in rows)
    return Passage(name, tuple(lines))


def _brief(plain: PlainRun, traced: TracedRun, traps: Sequence[Trap]) -> str:
    if plain.error is not None:
        return one_line(f"fails: {type(plain.error).__name__}", _MOST_BRIEF)
    return f"{len(traps)} found" if traps else "not traced" if traced.why_not else "nothing found"


def _answer(section: Section, plain: PlainRun, traced: TracedRun, traps: Sequence[Trap]) -> str:
    what = "what the cell compiles" if traced.is_yours else "the cell as one function"
    if plain.error is not None:
        ran = f"it fails without a trace, too ({type(plain.error).__name__}); the notebook is as if it had not run"
    elif traced.why_not:
        ran = f"it ran once without a trace; it was not traced: {one_line(traced.why_not, 160)}"
    elif traced.error is not None:
        ran = f"it runs without a trace; {what} cannot be traced ({type(traced.error).__name__})"
    elif traced.log.breaks:
        ran = f"it runs without a trace; traced, its graph ends at {_lines_of(traced.log.breaks)}, where Python goes on"
    else:
        ran = f"it ran once without a trace, and {what} was traced on the same inputs"
    found = (
        "nothing was found that tracing changes"
        if not traps
        else f"{len(traps)} found: "
        + "; ".join(
            f"{trap.what}{'' if trap.line is None else f' in line {trap.line}'} ({trap.kind})" for trap in traps
        )
    )
    return f"{ran}; {found}."


def _why_no_stages(traced: TracedRun) -> str:
    if traced.why_not or traced.error is not None:
        return traced.why_not or f"tracing ended in {type(traced.error).__name__}"
    return "nothing was compiled by a function that can tell"


def _lines_of(places: Iterable[Place]) -> str:
    numbers = sorted({place.line for place in places if place.line is not None})
    return f"line {', '.join(map(str, numbers))}" if numbers else "a line of other code"


def _notes(section: Section, plain: PlainRun, traced: TracedRun) -> Iterator[str]:
    yield (
        "3× is how often Python ran a line: while tracing, and without a trace. Of an array: dtype[shape], then its "
        "number, or least / mean / largest, and the first NaN or Inf with its place. Of a loop: the first … the "
        "last time."
    )
    yield section.framework.not_eager
    if section.body.text.count("\n") > _MOST_ROWS:
        yield f"Of the cell, the first and the last {_HALF} lines are shown; `.rows` has all of them."
    if not plain.record.whole:
        yield "The run was followed for the first 100,000 lines; what ran later is not counted."
    if not plain.record.reads:
        yield "Reading numbers took 2 s; those of later lines were not read."
    if plain.record.lost:
        yield "A debugger took over: what ran after it is not counted."
    if traced.stages:
        yield (
            "Each form is that of the first call of its program. `.stages[i].text` has it, and `.rows_of(line)` what "
            "comes from a line."
        )
    elif section.options.stages:
        yield f"There are no stages to show: {one_line(traced.why_no_stages or _why_no_stages(traced), 160)}."


def _rows(
    file: str, text: Sequence[str], plain: Record, traced: Record, marked: set[int], told: dict[int, str]
) -> Iterator[Row]:
    for number, code in enumerate(text, 1):
        traced_lines, ran = _cells(traced, file, number, staged=True), _cells(plain, file, number, staged=False)
        if number in told:
            traced_lines = (*traced_lines, f"! {one_line(told[number], _TOLD)}")
        yield Row(number, code.rstrip("\n"), traced_lines, ran, number in marked)


def _others(own: str, plain: Record, traced: Record) -> Iterator[tuple[str, str, tuple[Row, ...]]]:
    """Yield the lines of functions of other cells that ran, with their files and names."""
    found: dict[tuple[str, str], set[int]] = {}
    for line in (*plain.lines.values(), *traced.lines.values()):
        if line.file != own and line.function:
            found.setdefault((line.file, line.function.partition(".<locals>")[0]), set()).add(line.statement.first)
    for (file, function), numbers in found.items():
        rows = (
            Row(
                n, linecache.getline(file, n).rstrip("\n"), _cells(traced, file, n, True), _cells(plain, file, n, False)
            )
            for n in sorted(numbers)
        )
        yield file, function, tuple(rows)


def _cells(record: Record, file: str, number: int, staged: bool) -> tuple[str, ...]:
    """Return what is told of a line in one of the runs."""
    told: list[str] = []
    for part in ("def", "statement", "lambda"):
        line = record.lines.get((file, number, part))
        count = 0 if line is None else line.staged if staged else line.runs
        if line is None or not count:
            continue
        own = [*_names_told(line), *_prints_told(line)]
        head = f"{count:,}×"
        told += [f"{head} {'lambda ' if part == 'lambda' else ''}{own[0] if own else ''}".rstrip(), *own[1:]]
    return tuple(told)


def _names_told(line: Line) -> Iterator[str]:
    for name, first in line.first.items():
        last = line.last.get(name, first)
        told = name_told(name, first)
        if str(first) == str(last):
            yield told
        elif (first.what, first.tracer) == (last.what, last.tracer) and first.numbers and last.numbers:
            yield f"{told} … {last.numbers}"
        else:
            yield f"{told} … {last}"
    if line.looked and line.looked < line.runs and line.first != line.last:
        yield f"(last: time {line.looked:,})"


def _prints_told(line: Line) -> Iterator[str]:
    if line.prints:
        kept = [repr(text) for text in dict.fromkeys([line.printed[0], line.printed[-1]])]
        yield f"prints {' … '.join(kept)}"


def _most(rows: Sequence[Row]) -> Sequence[Row]:
    """Return the rows of a long cell that are shown: the first, the last, and those where something was found."""
    marked = [row for row in rows if row.marked]
    return rows if len(rows) <= _MOST_ROWS else sorted({*rows[:_HALF], *rows[-_HALF:], *marked[:_HALF]}, key=_number)


def _number(row: Row) -> int:
    return row.number


def _fix_told(fix: Fix) -> str:
    return f"--try-fix: {fix.answer}."


# As text


def _trap_text(trap: Trap, rows: Sequence[Row]) -> Iterator[str]:
    where = "" if trap.line is None else f", line {trap.line}"
    yield f"! {trap.kind}{where}: {trap.what}"
    yield from textwrap.wrap(trap.why, _COLUMNS - 4, initial_indent="  ", subsequent_indent="  ")
    yield from (f"    {line}" for line in _changed_lines(trap, rows))


def _changed_lines(trap: Trap, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines that a trap's changes take away, and those that come in their place."""
    by_number = {row.number: row.text for row in rows}
    for change in sorted(trap.changes, key=lambda one: one.first):
        yield from (f"{n:>3} - {by_number.get(n, '')}" for n in range(change.first, change.last + 1))
        yield from (f"{change.first:>3} + {text}" for text in change.text.splitlines())


def _table_text(rows: Iterable[Row]) -> Iterator[str]:
    number, code, traced, run = _WIDTHS
    yield f"{'line':<{number}}  {'code':<{code}}  {'while tracing':<{traced}}  without a trace".rstrip()
    for row in rows:
        mark = "!" if row.marked else " "
        cells = (_wrapped(row.text, code), _wrapped_all(row.traced, traced), _wrapped_all(row.run, run))
        for i, (a, b, c) in enumerate(zip_longest(*cells, fillvalue="")):
            head = f"{mark}{row.number:>{number - 1}}" if i == 0 else " " * number
            yield f"{head}  {a:<{code}}  {b:<{traced}}  {c}".rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    """Return a line of code in as many rows as it takes, the later ones deeper than the first."""
    depth = " " * (len(text) - len(text.lstrip()) + 4)
    return textwrap.wrap(
        text, width, subsequent_indent=depth[: width // 2], drop_whitespace=False, break_on_hyphens=False
    ) or [""]


def _wrapped_all(texts: Iterable[str], width: int) -> list[str]:
    return [
        row
        for text in texts
        for row in textwrap.wrap(one_line(text, _SHORT), width, subsequent_indent="  ", break_on_hyphens=False) or [""]
    ]


def _stages_text(stages: Sequence[Form]) -> Iterator[str]:
    yield f"{'program':<24}{'form':<16}{'time':>10}{'rows':>8}  lines of the cell"
    for stage in stages:
        time = "" if stage.seconds is None else seconds(stage.seconds)
        lines = ", ".join(map(str, sorted({line for lines in stage.lines for line in lines})))
        head = f"{one_line(stage.program, 23):<24}{stage.name:<16}{time:>10}{len(stage.lines):>8}"
        yield one_line(f"{head}  {lines}", _COLUMNS)


# As HTML

_OWN_STYLE = """
.fwmagic .fw-lines td{font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12.5px;padding-block:.1em}
.fwmagic .fw-lines td.fw-code{white-space:pre-wrap}
.fwmagic .fw-lines tr.fw-marked td:first-child{border-left:4px solid var(--fw-a);padding-left:.4em}
.fwmagic pre.fw-change{margin:.2em 0 .6em 1em;padding:0;background:none;color:inherit;font-size:12.5px;
white-space:pre-wrap}
"""


def _trap_html(trap: Trap, rows: Sequence[Row]) -> str:
    where = "" if trap.line is None else f", line {trap.line}"
    changes = "\n".join(_changed_lines(trap, rows))
    change = f'<pre class="fw-change">{escape(changes)}</pre>' if changes else ""
    head = f"<b>{escape(trap.kind)}{where}: {escape(trap.what)}</b>"
    return f'<p class="fw-alarm">{head}<br>{escape(trap.why)}</p>{change}'


def _stage_html(stage: Form) -> str:
    """Return a form as what can be opened, each row with the lines of the cell that it comes from."""
    time = "" if stage.seconds is None else f", {seconds(stage.seconds)}"
    head = f"{stage.program}: {stage.name}{time}, {len(stage.lines):,} rows"
    heads = [",".join(map(str, lines)) for lines in stage.lines]
    width = max([4, *map(len, heads)])
    rows = zip(stage.text.splitlines(), heads, strict=False)
    text = "\n".join(f"{head:>{width}} │ {row}" for row, head in rows)
    return f'<details><summary>{escape(head)}</summary><pre class="fw-change">{escape(text)}</pre></details>'


def _table_html(rows: Iterable[Row]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in ("line", "code", "while tracing", "without a trace"))
    body = "".join(_row_html(row) for row in rows)
    table = f'<table class="fw-lines"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="fw-scroll" tabindex="0" role="group" aria-label="Lines">{table}</div>'


def _row_html(row: Row) -> str:
    told = "".join(
        f"<td>{'<br>'.join(escape(one_line(text, _SHORT)) for text in cell)}</td>" for cell in (row.traced, row.run)
    )
    mark = ' class="fw-marked"' if row.marked else ""
    return f'<tr{mark}><td>{row.number}</td><td class="fw-code">{escape(row.text)}</td>{told}</tr>'
