"""A report as static HTML: no script, its own scoped style, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from fwmagic.format import seconds, size
from fwmagic.report import drawings
from fwmagic.report.answer import as_of
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
    if report.variants:
        parts.append(_rows_html(report))
    # What is folded away takes the place of the bar, so that the end of a run moves nothing.
    parts.append(f'<div class="fw-more">{_bar_html(report) if report.state == "running" else _rest_html(report)}</div>')
    return f'<div class="fwmagic" lang="en" role="group" aria-label="fwmagic report">{"".join(parts)}</div>'


def _bar_html(report: Report) -> str:
    share = f"{report.progress:.0%}"
    bar = f'<progress max="1" value="{report.progress:.3f}" aria-label="budget used">{share}</progress>'
    return f'{bar} <span class="fw-soft">{escape(as_of(report))}</span>'


def _rest_html(report: Report) -> str:
    """Return all that a first look does not need, folded."""
    remarks = [f'<p class="fw-group">{escape(g.name)}</p>{_list_html(g.lines)}' for g in details(report)]
    count = sum(line.warning for group in details(report) for line in group.lines)
    folded = {
        "Figures": _table_html(figures(report)) if report.variants else "",
        "Compile": _stages_html(report.variants),
        "Memory": _memory_html(report.variants) if uses_memory(report) else "",
        f"Remarks ({count})" if count else "Remarks": "".join(remarks),
        "Conditions": _list_html(conditions(report), soft=True),
    }
    return "".join(_folded_html(summary, content) for summary, content in folded.items())


def _folded_html(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>" if content else ""


def _sentence_html(sentence: Sentence) -> str:
    alarm = ' class="fw-alarm"' if sentence.warning else ""
    verdict, opening, figures = sentence.text.partition(" (")
    rest = f"<span>{escape(opening + figures)}</span>" if opening else ""
    return f"<p{alarm}>{escape(verdict)}{rest}</p>"


def _rows_html(report: Report) -> str:
    """Return a row a variant: its name, its samples on one scale, and what a first look needs."""
    on = drawings.scale(variant.time for variant in report.variants if variant.time is not None)
    shown = table(report)
    head = [f"<th{_column_class(name)}>{escape(name)}</th>" for name in shown.head]
    if on is not None:
        low, _, high = drawings.axis(on)
        head.insert(1, f'<th class="fw-axis"><span>{low}</span> <span>{high}</span></th>')
    rows = []
    for variant, (name, *cells) in zip(report.variants, shown.rows, strict=True):
        time = variant.time if variant.time is not None and variant.time.samples else None
        drawn = drawings.strip(variant, time, on) if time is not None and on is not None else ""
        strip = f'<td class="fw-strip">{drawn}</td>' if on is not None else ""
        cells = [
            f"<td{_column_class(h)}>{_figure_html(cell)}</td>" for h, cell in zip(shown.head[1:], cells, strict=True)
        ]
        rows.append(
            f'<tr><th scope="row" style="border-left-color:{drawings.colour(variant)}">{escape(name)}</th>'
            f"{strip}{''.join(cells)}</tr>"
        )
    return f'<table class="fw-rows"><thead><tr>{"".join(head)}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _column_class(name: str) -> str:
    """Return the class of a column that a narrow page leaves out: it stands among the figures, too."""
    return ' class="fw-wide"' if name in ("compile", "memory", "compiled") else ""


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
    stages = ", ".join(f"{stage.name} {seconds(value)}" for stage, value in variant.compile_stages)
    label = f"{seconds(total)}: {escape(stages)}"
    return f'<div class="fw-bar">{drawings.stage_bar(variant, longest)}<i>{label}</i></div>'


def _table_html(whole: Table) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in whole.head)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{_figure_html(cell)}</td>" for cell in cells)}</tr>'
        for name, *cells in whole.rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="fw-scroll" tabindex="0" role="group" aria-label="Figures">{table}</div>'


def _figure_html(cell: str) -> str:
    """Return a cell whose interval, in parentheses, stands smaller under the figure."""
    figure, opening, rest = cell.partition(" (")
    return escape(figure) + (f" <small>({escape(rest)}</small>" if opening else "")


def _list_html(lines: Iterable[Remark], soft: bool = False) -> str:
    items = "".join(_item_html(line) for line in lines)
    return f'<ul class="fw-list{" fw-soft" if soft else ""}">{items}</ul>'


def _item_html(line: Remark) -> str:
    label = f"<b>{escape(line.label)}</b>" if line.warning else f"<span>{escape(line.label)}</span>"
    alarm = ' class="fw-alarm"' if line.warning else ""
    return f"<li{alarm}>{label}<span>{escape(line.text)}</span></li>"
