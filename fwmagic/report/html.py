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
    headline,
    table,
    used_in_words,
)

# JupyterLab's own rules reach into an output; two classes in a selector outweigh them. Where neither JupyterLab nor
# VS Code says what its colours are, the report brings ground and text of its own, so that they always fit together.
_STYLE = files("fwmagic.report").joinpath("report.css").read_text(encoding="utf-8")


def to_html(report: Report) -> str:
    """Return the report as an HTML fragment; everything that it quotes is escaped."""
    parts = [f"<style>{_STYLE}</style>", f'<div class="fw-top">{"".join(map(_sentence_html, headline(report)))}</div>']
    if report.state == "running":
        parts.append(f'<progress max="1" value="{report.progress:.3f}">{report.progress:.0%}</progress>')
    parts += [_chart_html(report.variants), _memory_html(report.variants)]
    if report.variants:
        parts.append(_table_html(table(report)))
    parts += [f'<p class="fw-group">{escape(g.name)}</p>{_list_html(g.lines)}' for g in details(report)]
    parts.append(f'<p class="fw-group">conditions</p>{_list_html(conditions(report), soft=True)}')
    return f'<div class="fwmagic" lang="en" role="group" aria-label="fwmagic report">{"".join(parts)}</div>'


def _sentence_html(sentence: Sentence) -> str:
    if sentence.warning:
        return f'<p class="fw-alarm"><b>Warning:</b> {escape(sentence.text)}.</p>'
    verdict, opening, figures = sentence.text.partition(" (")
    return f"<p>{escape(verdict)}<span>{escape(opening + figures)}.</span></p>"


def _chart_html(variants: Iterable[Variant]) -> str:
    timed = [(variant, variant.time) for variant in variants if variant.time is not None and variant.time.samples]
    on = drawings.scale(time for _, time in timed)
    if on is None:
        return ""
    compiling = {v.name: sum(value for _, value in v.compile_stages) for v, _ in timed}
    longest = max(compiling.values())
    heading = "time per call; dots: blocks, the first at the top; line: median; band: its 95 % interval"
    rows = (
        f'{_name_html(variant)}<div class="fw-strip">{drawings.strip(variant, time, on)}</div>'
        f"{_compile_html(variant, compiling[variant.name], longest)}"
        for variant, time in timed
    )
    return _framed_html(heading, rows, drawings.axis(on))


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


def _table_html(figures: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in figures.head)
    rows = "".join(f"<tr>{_row_html(figures.head, row)}</tr>" for row in figures.rows)
    return f'<table class="fw-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row_html(head: tuple[str, ...], row: tuple[str, ...]) -> str:
    cells = zip(head[1:], row[1:], strict=True)
    return f'<th scope="row">{escape(row[0])}</th>' + "".join(
        f'<td data-head="{escape(name)}"><span>{_figure_html(cell)}</span></td>' for name, cell in cells
    )


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
