"""A report as static HTML: no script, its own scoped style, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from fwmagic import ledgers, strips
from fwmagic.format import seconds, size
from fwmagic.remarks import ON_TOP, Line, Table, compile_stages, conditions, details, in_use, table
from fwmagic.report import Ledger, Report, Variant
from fwmagic.sentences import Sentence, headline

# JupyterLab's own rules reach into an output; two classes in a selector outweigh them. Where neither JupyterLab nor
# VS Code says what its colours are, the report brings ground and text of its own, so that they always fit together.
_STYLE = """
.fwmagic{--fw-ground:#fff;--fw-text:#1b1b1b;--fw-soft:#5a5a5a;--fw-line:#d0d0d0;--fw-alarm:#a34700;
container-type:inline-size;max-width:70em;padding:.6em .8em;
font:14px/1.45 var(--jp-content-font-family,system-ui,sans-serif);
font-variant-numeric:tabular-nums;overflow-wrap:anywhere;color:var(--fw-t);background:var(--fw-g);
--fw-g:var(--jp-layout-color0,var(--vscode-editor-background,var(--fw-ground)));
--fw-t:var(--jp-content-font-color1,var(--vscode-editor-foreground,var(--fw-text)));
--fw-s:var(--jp-content-font-color2,var(--vscode-descriptionForeground,var(--fw-soft)));
--fw-l:var(--jp-border-color2,var(--vscode-widget-border,var(--fw-line)));
--fw-a:var(--jp-warn-color0,var(--vscode-editorWarning-foreground,var(--fw-alarm)))}
@media (prefers-color-scheme:dark){.fwmagic{--fw-ground:#161616;--fw-text:#e8e8e8;--fw-soft:#a8a8a8;--fw-line:#4a4a4a;
--fw-alarm:#f0a860}}
.fwmagic .fw-top p{margin:.15em 0;font-size:1.05em}
.fwmagic .fw-top p:first-child{font-size:1.25em;font-weight:600}
.fwmagic .fw-top p>span{font-size:14px;font-weight:400}
.fwmagic .fw-top p.fw-alarm{padding-left:.5em;border-left:4px solid var(--fw-a)}
.fwmagic .fw-alarm b{color:var(--fw-a)}
.fwmagic progress{width:100%;accent-color:#2080C4}
.fwmagic .fw-chart{display:grid;grid-template-columns:max-content minmax(0,4fr) minmax(5em,1fr);gap:.35em 1em;
align-items:center;margin:.9em 0}
.fwmagic .fw-chart i,.fwmagic .fw-soft,.fwmagic li>span:first-child{color:var(--fw-s);font-style:normal;font-size:.88em}
.fwmagic .fw-axis{display:flex;justify-content:space-between}
.fwmagic .fw-name{max-width:16em;border-left:.6em solid;padding-left:.5em}
.fwmagic .fw-name span{color:var(--fw-t)}
.fwmagic svg{display:block;width:100%;max-width:none;overflow:visible}
.fwmagic .fw-strip svg{height:40px}
.fwmagic :is(.fw-bar,.fw-memory) svg{height:10px}
.fwmagic .fw-strip{border:solid var(--fw-l);border-width:0 1px}
.fwmagic .fw-dots{fill:none;stroke-width:4px;stroke-linecap:round;stroke-opacity:.7;vector-effect:non-scaling-stroke}
.fwmagic .fw-median{stroke:var(--fw-t);stroke-width:2px;vector-effect:non-scaling-stroke}
.fwmagic .fw-use{stroke-width:10px}
.fwmagic .fw-held{stroke-width:6px;stroke-opacity:.6}
.fwmagic .fw-rest{stroke-width:2px}
.fwmagic .fw-memory svg+svg{height:24px;margin-top:2px}
.fwmagic .fw-area{fill-opacity:.5}
.fwmagic .fw-line{fill:none;stroke-width:1.5px;stroke-dasharray:5 3;vector-effect:non-scaling-stroke}
.fwmagic .fw-interval{fill:var(--fw-t);fill-opacity:.22}
.fwmagic table.fw-table{table-layout:auto;border-collapse:collapse;width:100%;margin:.9em 0;
font-size:.93em;color:inherit}
.fwmagic .fw-table :is(td,th){text-align:left;vertical-align:top;padding:.3em .9em .3em 0;border:0;
border-bottom:1px solid var(--fw-l);background:none;max-width:none;white-space:normal;overflow-wrap:break-word}
.fwmagic .fw-table thead th{color:var(--fw-s);font-weight:600}
.fwmagic .fw-table tbody tr:nth-child(n){background:none}
.fwmagic .fw-table small{display:block;white-space:nowrap;font-size:.88em;color:var(--fw-s)}
.fwmagic ul.fw-list{list-style:none;margin:.1em 0 .8em;padding:0}
.fwmagic .fw-list li{display:grid;align-items:baseline;grid-template-columns:7.5em minmax(0,1fr);gap:.5em;margin:.1em 0}
.fwmagic .fw-group{margin:.8em 0 .1em;font-weight:600}
@container (max-width:520px){
.fwmagic .fw-chart{grid-template-columns:minmax(0,1fr)}
.fwmagic .fw-chart .fw-wide{display:none}
.fwmagic .fw-name{margin-top:.5em}
.fwmagic .fw-bar{display:grid;grid-template-columns:4em 1fr;gap:.5em;align-items:center}}
@container (max-width:720px){
.fwmagic .fw-table thead{display:none}
.fwmagic .fw-table :is(tbody,tr,th){display:block}
.fwmagic .fw-table td{display:grid;grid-template-columns:8em 1fr;padding:.1em 0;border:0}
.fwmagic .fw-table td::before{content:attr(data-head);color:var(--fw-s)}
.fwmagic .fw-table small{display:inline;margin-left:.4em}
.fwmagic .fw-table tbody th{padding:.6em 0 .2em;border:0}
.fwmagic .fw-table tr{border-bottom:1px solid var(--fw-l)}
.fwmagic .fw-list li{display:block;margin:.25em 0}
.fwmagic .fw-list li>:first-child{margin-right:.5em}}
"""


def to_html(report: Report) -> str:
    """Return the report as an HTML fragment; everything that it quotes is escaped."""
    parts = [f"<style>{_STYLE}</style>", f'<div class="fw-top">{"".join(map(_sentence, headline(report)))}</div>']
    if report.state == "running":
        parts.append(f'<progress max="1" value="{report.progress:.3f}">{report.progress:.0%}</progress>')
    parts += [_chart(report.variants), _memory(report.variants)]
    if report.variants:
        parts.append(_table(table(report)))
    parts += [f'<p class="fw-group">{escape(g.name)}</p>{_list(g.lines)}' for g in details(report)]
    parts.append(f'<p class="fw-group">conditions</p>{_list(conditions(report), soft=True)}')
    return f'<div class="fwmagic" lang="en" role="group" aria-label="fwmagic report">{"".join(parts)}</div>'


def _sentence(sentence: Sentence) -> str:
    if sentence.warning:
        return f'<p class="fw-alarm"><b>Warning:</b> {escape(sentence.text)}.</p>'
    verdict, opening, figures = sentence.text.partition(" (")
    return f"<p>{escape(verdict)}<span>{escape(opening + figures)}.</span></p>"


def _chart(variants: Iterable[Variant]) -> str:
    timed = [(variant, variant.time) for variant in variants if variant.time is not None and variant.time.samples]
    on = strips.scale(time for _, time in timed)
    if on is None:
        return ""
    compiling = {v.name: sum(value for _, value in compile_stages(v.compilation)) for v, _ in timed}
    longest = max(compiling.values())
    heading = "time per call; dots: blocks, the first at the top; line: median; band: its 95 % interval"
    cells = [f'<i class="fw-wide"></i><i>{heading}</i><i class="fw-wide"></i>']
    for variant, time in timed:
        cells.append(_name(variant))
        cells.append(f'<div class="fw-strip">{strips.strip(variant, time, on)}</div>')
        cells.append(_compile_cell(variant, compiling[variant.name], longest))
    labels = "".join(f"<i>{label}</i>" for label in strips.axis(on))
    cells.append(f'<i class="fw-wide"></i><div class="fw-axis">{labels}</div>')
    return f'<div class="fw-chart">{"".join(cells)}</div>'


def _memory(variants: Iterable[Variant]) -> str:
    measured = ledgers.measured(variants)
    on = ledgers.extent(ledger for _, ledger in measured)
    if not on.bytes:
        return ""
    over = f", and over {seconds(on.seconds)}; area: in use; line: held" if on.seconds else ""
    heading = f"memory at the peak{over}; bar, thick: in use; thinner and paler: held, not in use; line: of others"
    cells = [f'<i class="fw-wide"></i><i>{heading}</i><i class="fw-wide"></i>']
    for variant, ledger in measured:
        drawing = ledgers.bar(variant.framework, ledger, on) + ledgers.course(variant.framework, ledger, on)
        cells.append(f'{_name(variant)}<div class="fw-memory">{drawing}</div><i>{escape(_in_use(ledger))}</i>')
    labels = "".join(f"<i>{size(count)}</i>" for count in (0, on.bytes // 2, on.bytes))
    cells.append(f'<i class="fw-wide"></i><div class="fw-axis">{labels}</div>')
    return f'<div class="fw-chart">{"".join(cells)}</div>'


def _in_use(ledger: Ledger) -> str:
    count = in_use(ledger)
    if count is None:
        return ledger.device
    return f"{ledger.device}: {size(count)} {'more' if ledger.device in ON_TOP else 'in use'}"


def _name(variant: Variant) -> str:
    colour = strips.colour(variant.framework)
    return f'<div class="fw-name" style="border-color:{colour}"><span>{escape(variant.name)}</span></div>'


def _compile_cell(variant: Variant, total: float, longest: float) -> str:
    if not total:
        return '<i class="fw-wide"></i>'
    stages = ", ".join(stage.name for stage, _ in compile_stages(variant.compilation))
    label = f"compile {seconds(total)}: {escape(stages)}"
    return f'<div class="fw-bar">{strips.stage_bar(variant, longest)}<i>{label}</i></div>'


def _table(figures: Table) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in figures.head)
    rows = "".join(f"<tr>{_row(figures.head, row)}</tr>" for row in figures.rows)
    return f'<table class="fw-table"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row(head: tuple[str, ...], row: tuple[str, ...]) -> str:
    cells = zip(head[1:], row[1:], strict=True)
    return f'<th scope="row">{escape(row[0])}</th>' + "".join(
        f'<td data-head="{escape(name)}"><span>{_figure(cell)}</span></td>' for name, cell in cells
    )


def _figure(cell: str) -> str:
    """Return a cell whose interval, in parentheses, stands smaller under the figure."""
    figure, opening, rest = cell.partition(" (")
    return escape(figure) + (f"<small>{escape(opening.strip() + rest)}</small>" if opening else "")


def _list(lines: Iterable[Line], soft: bool = False) -> str:
    items = "".join(_item(line) for line in lines)
    return f'<ul class="fw-list{" fw-soft" if soft else ""}">{items}</ul>'


def _item(line: Line) -> str:
    label = f"<b>{escape(line.label)}</b>" if line.warning else f"<span>{escape(line.label)}</span>"
    alarm = ' class="fw-alarm"' if line.warning else ""
    return f"<li{alarm}>{label}<span>{escape(line.text)}</span></li>"
