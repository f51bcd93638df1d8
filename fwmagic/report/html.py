"""A report as static HTML: no script, its own scoped style, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from fwmagic.format import seconds, size
from fwmagic.report import drawings
from fwmagic.report.report import Ledger, Report, Variant
from fwmagic.report.words import (
    Remark,
    Sentence,
    Table,
    conditions,
    details,
    device_in_words,
    figures,
    headline,
    table,
    used_in_words,
    uses_memory,
)

# JupyterLab's own rules reach into an output; two classes in a selector outweigh them. Where neither JupyterLab nor
# VS Code says what its colours are, the report brings ground and text of its own, so that they always fit together.
_STYLE = files("fwmagic.report").joinpath("report.css").read_text(encoding="utf-8")


def to_html(report: Report) -> str:
    """Return the report as an HTML fragment: a first look, the rest folded; what it quotes is escaped."""
    parts = [f"<style>{_STYLE}</style>", f'<div class="fw-top">{"".join(map(_sentence_html, headline(report)))}</div>']
    if report.state == "running":
        parts.append(f'<progress max="1" value="{report.progress:.3f}">{report.progress:.0%}</progress>')
    if report.variants:
        parts.append(_rows_html(report))
    remarks = [f'<p class="fw-group">{escape(g.name)}</p>{_list_html(g.lines)}' for g in details(report)]
    count = sum(line.warning for group in details(report) for line in group.lines)
    folded = [
        _folded_html("Figures", _table_html(figures(report)) if report.variants else ""),
        _folded_html("Compile", _stages_html(report.variants)),
        _folded_html("Memory", _memory_html(report.variants) if uses_memory(report) else ""),
        _folded_html(f"Remarks ({count})" if count else "Remarks", "".join(remarks)),
        _folded_html("Conditions", _list_html(conditions(report), soft=True)),
    ]
    parts.append(f'<div class="fw-more">{"".join(folded)}</div>')
    return f'<div class="fwmagic" lang="en" role="group" aria-label="fwmagic report">{"".join(parts)}</div>'


def _folded_html(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>" if content else ""


def _sentence_html(sentence: Sentence) -> str:
    alarm = ' class="fw-alarm"' if sentence.warning else ""
    verdict, opening, figures = sentence.text.partition(" (")
    rest = f"<span>{escape(opening + figures)}</span>" if opening else ""
    return f"<p{alarm}>{escape(verdict)}{rest}</p>"


def _rows_html(report: Report) -> str:
    """Return a row a variant: its name, its samples on one scale, and what a first look needs."""
    timed = {v.name: v.time for v in report.variants if v.time is not None and v.time.samples}
    on = drawings.scale(timed.values())
    shown = table(report)
    head = [f'<th scope="col">{escape(name)}</th>' for name in shown.head]
    rows = [
        [_head_html(variant, row[0]), *_cells_html(shown.head, row)]
        for variant, row in zip(report.variants, shown.rows, strict=True)
    ]
    if on is not None:
        low, _, high = drawings.axis(on)
        head.insert(1, f'<th scope="col" class="fw-axis"><span>{low}</span> <span>{high}</span></th>')
        for variant, cells in zip(report.variants, rows, strict=True):
            time = timed.get(variant.name)
            cells.insert(
                1, f'<td class="fw-strip">{drawings.strip(variant, time, on) if time is not None else ""}</td>'
            )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    return f'<table class="fw-table fw-rows"><thead><tr>{"".join(head)}</tr></thead><tbody>{body}</tbody></table>'


def _head_html(variant: Variant, name: str) -> str:
    return f'<th scope="row" style="border-left-color:{drawings.colour(variant)}">{escape(name)}</th>'


def _stages_html(variants: Iterable[Variant]) -> str:
    compiling = [(v, sum(value for _, value in v.compile_stages)) for v in variants]
    longest = max((total for _, total in compiling), default=0.0)
    if not longest:
        return ""
    rows = (f"{_name_html(v)}{_compile_html(v, total, longest)}<i></i>" for v, total in compiling)
    return f'<div class="fw-chart">{"".join(rows)}</div>'


def _memory_html(variants: Iterable[Variant]) -> str:
    found = drawings.drawn_ledgers(variants)
    on = drawings.extent(ledger for _, ledger in found)
    if not on.bytes:
        return ""
    over = f", and over {seconds(on.seconds)}; area: in use; line: held" if on.seconds else ""
    heading = f"memory at the peak{over}; bar, thick: in use; thinner and paler: held, not in use; line: of others"
    rows = (
        f'{_name_html(variant)}<div class="fw-memory">{drawings.bar(drawings.colour(variant), ledger, on)}'
        f"{drawings.course(drawings.colour(variant), ledger, on)}</div><i>{escape(_in_use_for_html(ledger))}</i>"
        for variant, ledger in found
    )
    return _framed_html(heading, rows, map(size, (0, on.bytes // 2, on.bytes)))


def _framed_html(heading: str, rows: Iterable[str], ends: Iterable[str]) -> str:
    """Return rows of three columns under a heading, with the labels of an axis below the middle one."""
    top = f'<i class="fw-wide"></i><i>{heading}</i><i class="fw-wide"></i>'
    labels = "".join(f"<i>{label}</i>" for label in ends)
    bottom = f'<i class="fw-wide"></i><div class="fw-axis">{labels}</div>'
    return f'<div class="fw-chart">{top}{"".join(rows)}{bottom}</div>'


def _in_use_for_html(ledger: Ledger) -> str:
    if ledger.in_use is None:
        return device_in_words(ledger)
    return f"{device_in_words(ledger)}: {used_in_words(ledger)} {'more' if ledger.on_top else 'in use'}"


def _name_html(variant: Variant) -> str:
    border = drawings.colour(variant)
    return f'<div class="fw-name" style="border-color:{border}"><span>{escape(variant.name)}</span></div>'


def _compile_html(variant: Variant, total: float, longest: float) -> str:
    if not total:
        return '<i class="fw-wide"></i>'
    stages = ", ".join(stage.name for stage, _ in variant.compile_stages)
    label = f"compile {seconds(total)}: {escape(stages)}"
    return f'<div class="fw-bar">{drawings.stage_bar(variant, longest)}<i>{label}</i></div>'


def _table_html(whole: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in whole.head)
    rows = "".join(f"<tr>{_row_html(whole.head, row)}</tr>" for row in whole.rows)
    return f'<table class="fw-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row_html(head: tuple[str, ...], row: tuple[str, ...]) -> str:
    return f'<th scope="row">{escape(row[0])}</th>{"".join(_cells_html(head, row))}'


def _cells_html(head: tuple[str, ...], row: tuple[str, ...]) -> list[str]:
    return [
        f'<td data-head="{escape(name)}"><span>{_figure_html(cell)}</span></td>'
        for name, cell in zip(head[1:], row[1:], strict=True)
    ]


def _figure_html(cell: str) -> str:
    """Return a cell whose interval, in parentheses, stands smaller under the figure."""
    figure, opening, rest = cell.partition(" (")
    return escape(figure) + (f"<small>{escape(opening.strip() + rest)}</small>" if opening else "")


def _list_html(lines: Iterable[Remark], soft: bool = False) -> str:
    items = "".join(_item_html(line) for line in lines)
    return f'<ul class="fw-list{" fw-soft" if soft else ""}">{items}</ul>'


def _item_html(line: Remark) -> str:
    label = f"<b>{escape(line.label)}</b>" if line.warning else f"<span>{escape(line.label)}</span>"
    alarm = ' class="fw-alarm"' if line.warning else ""
    return f"<li{alarm}>{label}<span>{escape(line.text)}</span></li>"
