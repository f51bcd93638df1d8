"""The report of a run: its data, and the views that are bound to it here, so that no data needs to know a view."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fwmagic.report import charts, html, text
from fwmagic.report.ledger import Allocation, Amount, How, Kind, Ledger, Moment, Timeline
from fwmagic.report.remarks import MANY
from fwmagic.report.report import (
    MIME,
    MOST_POINTS,
    NEUTRAL,
    VERSION,
    Agreement,
    Compilation,
    Conditions,
    Failure,
    Finding,
    Place,
    Ratio,
    Regime,
    Report,
    Stage,
    Time,
    Variant,
    Verdict,
    Way,
    points_of,
    turned,
)
from fwmagic.report.words import to_words, without_little_memory

__all__ = [
    "MIME",
    "MOST_POINTS",
    "NEUTRAL",
    "VERSION",
    "Agreement",
    "Allocation",
    "Amount",
    "Compilation",
    "Conditions",
    "Failure",
    "Finding",
    "How",
    "Kind",
    "Ledger",
    "Moment",
    "Place",
    "Ratio",
    "Regime",
    "Report",
    "Stage",
    "Time",
    "Timeline",
    "Variant",
    "Verdict",
    "Way",
    "turned",
]


def _mimebundle(report: Report, include: Any = None, exclude: Any = None) -> dict[str, Any]:
    """Return all forms of a report that a notebook stores: JSON with its words, HTML, and a text."""
    # Not what else runs on this machine.
    shared = replace(report, conditions=replace(report.conditions, neighbours=()))
    slim = _slim(without_little_memory(shared))
    stored = {**slim.to_dict(points_of(len(report.variants))), "words": to_words(shared)}
    return {MIME: stored, "text/html": html.to_html(shared), "text/plain": text.to_text(shared)}


def _slim(report: Report) -> Report:
    """Return a report without what its words tell as well: a notebook stores it beside them."""
    differing = {finding.variant for finding in report.findings if finding.code == "FW401"}
    variants = []
    for v in report.variants:
        agreement, compilation, memory = v.agreement, v.compilation, v.memory
        if agreement is not None and v.name in differing:
            agreement = replace(agreement, sentence="")
        if compilation is not None and compilation.way == "cell":
            compilation = replace(compilation, reason="")
        memory = tuple(replace(one, note="") for one in memory)
        if len(report.variants) > MANY:
            memory = tuple(map(_slim_ledger, memory))
        variants.append(replace(v, agreement=agreement, compilation=compilation, memory=memory))
    ratios = (r if r.repeatable else replace(r, note="") for r in report.ratios)
    # Of twelve variants, 66 ratios: what is said of those to the baseline need not be said of all.
    base = report.baseline
    stored = (
        r if base is None or base in (r.variant, r.over) else replace(r, note="", rounds=0, batches=0) for r in ratios
    )
    return replace(report, variants=tuple(variants), ratios=tuple(stored))


def _slim_ledger(ledger: Ledger) -> Ledger:
    """Return a ledger without how it was measured, which is mostly the same for all."""
    return replace(ledger, source="", peak=tuple(replace(amount, source="") for amount in ledger.peak))


# What Python and IPython ask of an object that is shown, and the methods that users call.
Report.__str__ = text.to_text  # type: ignore[method-assign, assignment]
Report.details = text.to_details  # type: ignore[method-assign, assignment]
Report.to_markdown = text.to_markdown  # type: ignore[method-assign, assignment]
Report.to_html = html.to_html  # type: ignore[method-assign, assignment]
Report.to_svg = charts.to_svg  # type: ignore[method-assign, assignment]
Report._repr_mimebundle_ = _mimebundle  # type: ignore[method-assign, assignment]
