"""A report as static HTML: no script, its own scoped style, light and dark, wide and narrow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files

from fwmagic.format import one_line, seconds, seconds_between, size
from fwmagic.report import drawings
from fwmagic.report.answer import answer_of, as_of
from fwmagic.report.ledger import Ledger
from fwmagic.report.remarks import Remark, conditions, noted, stored_details
from fwmagic.report.report import Report, Variant
from fwmagic.report.scale import drawn, ends, scale, slower
from fwmagic.report.tables import (
    DIFFER,
    PAIRED,
    UNSURE,
    compile_cell,
    device_in_words,
    figures,
    incomparable,
    memory_left_out,
    table,
    used_in_words,
    uses_memory,
)
from fwmagic.report.words import Sentence, headline, ranked

# JupyterLab's own rules reach into an output; two classes in a selector outweigh them. Where neither JupyterLab nor
# VS Code says what its colours are, the report brings ground and text of its own, so that they always fit together:
# dark where the page says that it is (VS Code, Colab and JupyterLab by an attribute), or else where the system is.
# A notebook stores every output: end tags that HTML lets one leave out (of cells, rows, items of lists) are left out,
# and so are quotation marks, each of which JSON makes two characters.
_QUOTED = re.compile(r'="([\w#.%:,-]+)"(?=[ >])')
# What a rule of the style is for, as far as it says so at its start: a class or an attribute, or else an element.
_FOR = re.compile(r"\w*[.[]((?:fw|data)-\w+)|(\w+)\{")
# What else is to be known of the ratios, for who points at their head.
_MEANT = "in the same rounds: no quotient of the times"
# What a very narrow page has no room for.
_WIDE = ("compile", "memory", "compiled")
# What stands in parentheses in an answer, such as an interval.
_INTERVAL = re.compile(r" \([^()]*\)")
# Parts two columns where a page lets no style through.
_GAP = "\N{EN SPACE}"
# So many characters of an error fit into two lines of a row.
_MOST_WHY = 120
_MOST_CAVEAT = 240
# Who points at it sees more of it; the remarks have all.
_MOST_POINTED = 600
STYLE = files("fwmagic.report").joinpath("report.css").read_text(encoding="utf-8")


def to_html(report: Report) -> str:
    """Return the report as an HTML fragment: a first look, the rest folded; what it quotes is escaped."""
    parts = [f'<div class="fw-top">{"".join(map(_sentence_html, headline(report)))}</div>']
    if report.variants:
        parts.append(_rows_html(ranked(report)))
    # What is folded away takes the place of the bar, so that the end of a run moves nothing.
    rest = _bar_html(report) if report.state == "running" else _rest_html(report)
    parts.append(f'<div class="fw-more"{_narrow_html(report)}>{rest}</div>')
    body = _QUOTED.sub(r"=\1", "".join(parts))
    style = "".join(rule for rule in STYLE.split("\n") if _is_used(rule, body))
    return f'<div class="fwmagic" lang=en role=group aria-label="fwmagic report"><style>{style}</style>{body}</div>'


def _is_used(rule: str, body: str) -> bool:
    """Say whether a rule (a line of the style) is for something that a report has: a notebook stores each of them."""
    named = _FOR.match(rule)
    return named is None or (named[1] or f"<{named[2]}") in body


def _bar_html(report: Report) -> str:
    share = f"{report.progress:.0%}"
    bar = f'<progress max="1" value="{report.progress:.3f}" aria-label="budget used">{share}</progress>'
    return f'{bar} <span class="fw-soft">{escape(as_of(report))}</span>'


def _rest_html(report: Report) -> str:
    """Return all that a first look does not need, folded."""
    groups, look = stored_details(report), ranked(report)
    remarks = [f'<p class="fw-group">{escape(g.name)}</p>{_list_html(g.lines)}' for g in groups]
    warnings = noted(report)
    folded = {
        "Figures": _figures_html(look) if look.variants else "",
        "Compile": _stages_html(look.variants),
        "Memory": _memory_html(look.variants) if uses_memory(look) else "",
        "Conditions": _list_html(conditions(report), soft=True),
    }
    # Nobody opens what does not say what is in it: as much of the first warning is in sight as fits.
    caveat = f" ({len(warnings)}): {escape(one_line(warnings[0].text, _MOST_CAVEAT))}" if warnings else ""
    last = _folded_html(f"Remarks{caveat}", "".join(remarks), ' class="fw-caveat"' if caveat else "")
    left = memory_left_out(report)
    last = f'<span class="fw-soft">{left}</span>{last}' if left else last
    return "".join(_folded_html(summary, content) for summary, content in folded.items()) + last


def _folded_html(summary: str, content: str, attributes: str = "") -> str:
    return f"<details{attributes}><summary>{summary}</summary>{content}</details>" if content else ""


def _sentence_html(sentence: Sentence) -> str:
    text = escape(sentence.text)
    if sentence.warning:
        return f'<p class="fw-alarm">{text}</p>'
    return f"<p>{_INTERVAL.sub(lambda found: f'<span>{found[0]}</span>', text)}</p>"


def _rows_html(report: Report) -> str:
    """Return a row a variant: its name, its samples on one scale, and what a first look needs."""
    times = [variant.time for variant in report.variants if variant.time is not None]
    on = scale(times)
    shown = table(report)
    meant = f' title="{_MEANT}"'
    head = [f"<th{meant * name.startswith(PAIRED)}>{_head_html(name)}" for name in shown.head]
    if on is not None:
        # Attributes, which only the style shows: without it there is no drawing either, and the intervals stand there.
        low, high = ends(on)
        labels = (low, f"{high} (▸ slower)" if slower(on, report) else high)
        drawn_labels = "".join(f'<b data-end="{label}"></b>' for label in labels)
        head.insert(1, f'<th class="fw-strip"><i>95 % interval{_GAP}</i>{drawn_labels}')
    rows, answer, void = [], answer_of(report).line, incomparable(report)
    for variant, (name, *cells) in zip(report.variants, shown.rows, strict=True):
        time = variant.time if variant.time is not None and variant.time.samples else None
        strip = "" if on is None else f'<td class="fw-strip">{_why_html(variant, answer)}'
        if time is not None and on is not None:
            bare = "" if time.interval is None else f"<i>{seconds_between(*time.interval)}{_GAP}</i>"
            strip = f'<td class="fw-strip">{drawings.strip(variant, time, drawn(report, time), on)}{bare}'
        rows.append(
            f"<tr{' class=fw-void' if variant.name in void else ''}>"
            f'<th scope="row" style="border-left-color:{drawings.colour(variant)}">{_breakable_html(name)}{_GAP}'
            f"{strip}{''.join(f'<td>{_figure_html(cell)}' for cell in cells)}"
        )
    # They are the last ones: what a very narrow page leaves out is told by their number.
    wide = len(_wide(shown.head))
    return (
        f'<table class="fw-rows fw-wide{wide}"><thead><tr>{"".join(head)}</thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _why_html(variant: Variant, answer: str) -> str:
    """Return what a variant raised, where its samples would be, unless the answer tells all of it."""
    failure = variant.failure
    if failure is None or one_line(failure.message) in answer:
        return ""
    why = f"{failure.error}: {failure.message}" if failure.error else failure.message
    whole = escape(one_line(why, _MOST_POINTED))
    return f'<span class="fw-why" title="{whole}">{escape(one_line(why, _MOST_WHY))}</span>'


def _breakable_html(name: str) -> str:
    """Return a name that a narrow column breaks after a colon rather than in a word."""
    return escape(name).replace(":", ":<wbr>")


def _head_html(name: str) -> str:
    """Return the head of a column, with what is not sure of it below."""
    return _figure_html(name) if name.endswith(f"({UNSURE})") else f"{_breakable_html(name)}{_GAP}"


def _wide(head: Iterable[str]) -> list[str]:
    """Return the columns that a very narrow page has no room for."""
    return [name for name in (one.partition(" (")[0] for one in head) if name in _WIDE]


def _narrow_html(report: Report) -> str:
    """Return what a very narrow page says that it leaves out, as an attribute that only its style shows."""
    left = ", ".join(_wide(table(report).head))
    dots = any(v.time is not None and v.time.samples for v in report)
    return (f' data-dots="dots{", " * bool(left)}"' if dots else "") + (f' data-left="{left}"' if left else "")


def _stages_html(variants: Iterable[Variant]) -> str:
    """Return what each compilation took, in all and by stage; the panel draws it."""
    lines = []
    for variant in variants:
        stages = ", ".join(f"{stage.name} {seconds(value)}" for stage, value in variant.compile_stages if value)
        lines += [Remark(variant.name, f"{compile_cell(variant)}: {stages}")] if stages else []
    return _list_html(lines) if lines else ""


def _memory_html(variants: Sequence[Variant]) -> str:
    found = drawings.drawn_ledgers(variants)
    on = drawings.extent(ledger for _, ledger in found)
    if not on.bytes:
        return ""
    heading = "; ".join(_legend(ledger for _, ledger in found))
    rows = (
        f"{_name_html(variant)}{drawings.memory(drawings.colour(variant), ledger, on)}"
        f"<i>{escape(_in_use_for_html(ledger))}</i>"
        for variant, ledger in found
    )
    return _framed_html(heading, rows, map(size, (0, on.bytes // 2, on.bytes)))


def _legend(ledgers: Iterable[Ledger]) -> Iterator[str]:
    """Yield what is drawn of memory: a run on a CPU has often only one kind."""
    yield "memory at the peak"
    kinds = {kind for ledger in ledgers for kind, _ in drawings.drawn_segments(ledger)}
    if len(kinds) > 1:
        names = {
            "use": "thick bar: in use",
            "perhaps": "faint: perhaps in use",
            "held": "thinner: held, not in use",
            "rest": "line: of others",
        }
        yield from (name for kind, name in names.items() if kind in kinds)


def _framed_html(heading: str, rows: Iterable[str], ends: Iterable[str]) -> str:
    """Return rows of three columns under a heading, with the labels of an axis below the middle one."""
    labels = "".join(f"<i>{label}</i>" for label in ends)
    axis = f'<div class="fw-axis">{labels}</div>'
    return f'<p class="fw-soft">{heading}</p><div class="fw-chart">{"".join(rows)}{axis}</div>'


def _in_use_for_html(ledger: Ledger) -> str:
    if ledger.in_use is None:
        return device_in_words(ledger)
    return f"{device_in_words(ledger)}: {used_in_words(ledger)} {'more' if ledger.on_top else 'in use'}"


def _name_html(variant: Variant) -> str:
    border = drawings.colour(variant)
    return f'<div class="fw-name" style="border-color:{border}">{escape(variant.name)}</div>'


def _figures_html(report: Report) -> str:
    """Return the whole table, but for what the rows above and the other folds tell."""
    whole, told = figures(report), table(report).head[1:]
    kept = [i for i, name in enumerate(whole.head) if name not in told]
    head = "".join(f"<th>{escape(whole.head[i])}{_GAP}" for i in kept)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}{_GAP}{"".join(f"<td>{_figure_html(cell)}" for cell in cells)}'
        for name, *cells in ([row[i] for i in kept] for row in whole.rows)
    )
    inner = f"<table><thead><tr>{head}</thead><tbody>{rows}</tbody></table>"
    return f'<div class="fw-scroll" tabindex="0" role="group" aria-label="Figures">{inner}</div>'


def _figure_html(cell: str) -> str:
    """Return a cell whose interval, in parentheses, stands smaller under the figure."""
    figure, opening, rest = cell.partition(" (")
    shown = escape(figure).replace(" to ", " to <wbr>")  # where a column may be narrower
    shown = f"<s>{shown}</s>" if rest == f"{DIFFER})" else shown
    return shown + (f" <small>({escape(rest)}{_GAP}</small>" if opening else _GAP)


def _list_html(lines: Iterable[Remark], soft: bool = False) -> str:
    items = "".join(_item_html(line) for line in lines)
    style = ' class="fw-soft"' if soft else ""
    return f"<ul{style}>{items}</ul>"


def _item_html(line: Remark) -> str:
    tag, alarm = ("b", ' class="fw-alarm"') if line.warning else ("i", "")
    return f"<li{alarm}><{tag}>{escape(line.label)}</{tag}> {escape(line.text)}"
